//! A group of a tar + the source -> the bytes of the group, or what tells them from others without reading them.

use std::io;

use super::cache::{Key, KeyHasher};
use super::groups::{Group, Part, Piece};
use super::tar::TarError;
use crate::formats::{ReadAt, Stamp};
use crate::rootfs::{Rootfs, RootfsError};

/// Reads groups in the order of the tar, and checks that no file changes meanwhile.
pub(super) struct Reader<'a> {
    rootfs: &'a dyn Rootfs,
    settled: Option<i128>,
    file: Option<Open<'a>>,
}

/// Bytes that take the place of others, which are not cleared first.
struct Filled<'a> {
    bytes: &'a mut Vec<u8>,
    /// How many have come so far.
    len: usize,
}

impl Filled<'_> {
    /// Returns the place for the next `len` bytes.
    fn room(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.len..end]
    }
}

/// The file that is being read.
struct Open<'a> {
    file: Box<dyn ReadAt + 'a>,
    stamp: Option<Stamp>,
}

impl<'a> Reader<'a> {
    /// Returns a reader of `rootfs`. Files that changed after `settled`, in nanoseconds since 1970, have no identity;
    /// without it no group has one.
    pub(super) fn new(rootfs: &'a dyn Rootfs, settled: Option<i128>) -> Self {
        Self { rootfs, settled, file: None }
    }

    /// Puts the bytes of `group` in place of what `bytes` held, and returns the identity of the group: as long as it
    /// is the same, so are the bytes. `None` if the source cannot promise that.
    pub(super) fn read(&mut self, group: &Group<'_>, bytes: &mut Vec<u8>) -> Result<Option<Key>, TarError> {
        let mut filled = Filled { bytes, len: 0 };
        let identity = self.visit(group, Some(&mut filled))?;
        let len = filled.len;
        bytes.truncate(len);
        Ok(identity)
    }

    /// Returns the identity of `group` as [`Reader::read`] does, without reading it.
    pub(super) fn identity(&mut self, group: &Group<'_>) -> Result<Option<Key>, TarError> {
        self.visit(group, None)
    }

    fn visit(
        &mut self,
        group: &Group<'_>,
        mut bytes: Option<&mut Filled<'_>>,
    ) -> Result<Option<Key>, TarError> {
        let mut identity = self.settled.map(|_| KeyHasher::default());
        for part in &group.parts {
            match part {
                Part::Bytes(part) => {
                    if let Some(bytes) = &mut bytes {
                        bytes.room(part.len()).copy_from_slice(part);
                        bytes.len += part.len();
                    }
                    if let Some(hasher) = &mut identity {
                        hasher.update(part);
                    }
                }
                Part::Piece(piece) => {
                    let stamp = self.visit_piece(piece, bytes.as_deref_mut())?;
                    let settled =
                        stamp.filter(|stamp| self.settled.is_some_and(|settled| stamp.is_settled(settled)));
                    match (&mut identity, settled) {
                        (Some(hasher), Some(stamp)) => identify(hasher, &stamp, piece),
                        _ => identity = None,
                    }
                }
            }
        }
        Ok(identity.map(|hasher| hasher.finish()))
    }

    /// Reads `piece`, if there is somewhere to put it, and returns the stamp of its file.
    fn visit_piece(
        &mut self,
        piece: &Piece<'_>,
        bytes: Option<&mut Filled<'_>>,
    ) -> Result<Option<Stamp>, TarError> {
        let error = |source| RootfsError::read("read", piece.path, self.rootfs.name(), source);
        let open = match self.file.take() {
            Some(open) if piece.offset > 0 => open,
            _ => {
                let file = self.rootfs.open(piece.path)?;
                let stamp = file.stamp().map_err(error)?;
                Open { file, stamp }
            }
        };
        let stamp = open.stamp;
        let changed = || TarError::Changed { path: piece.path.clone() };
        if stamp.is_some_and(|stamp| stamp.size != piece.size) {
            return Err(changed());
        }
        if let Some(bytes) = bytes {
            // One byte more than there should be, to see the end.
            let room = bytes.room(piece.len + usize::from(piece.is_last()));
            let count = fill(&*open.file, piece.offset, room).map_err(error)?;
            let is_whole = count == piece.len;
            if !is_whole || piece.is_last() && open.file.stamp().map_err(error)? != stamp {
                return Err(changed());
            }
            bytes.len += count;
        }
        if !piece.is_last() {
            self.file = Some(open);
        }
        Ok(stamp)
    }
}

fn identify(hasher: &mut KeyHasher, stamp: &Stamp, piece: &Piece<'_>) {
    for number in [stamp.device, stamp.inode, stamp.size, piece.offset, piece.len as u64] {
        hasher.update(&number.to_le_bytes());
    }
    for time in [stamp.modified, stamp.changed] {
        hasher.update(&time.to_le_bytes());
    }
}

/// Reads until `buffer` is full or the file ends, and returns how much there was.
fn fill(file: &dyn ReadAt, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(offset + filled as u64, &mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::path::RootPath;
    use crate::rootfs::{MemoryRootfs, Node};

    /// A rootfs whose files get a new stamp each time somebody asks.
    struct Restless(MemoryRootfs, AtomicU64);

    struct RestlessFile<'a>(Box<dyn ReadAt + 'a>, &'a AtomicU64);

    impl ReadAt for RestlessFile<'_> {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read_at(offset, buffer)
        }

        fn size(&self) -> u64 {
            self.0.size()
        }

        fn stamp(&self) -> io::Result<Option<Stamp>> {
            let modified = i128::from(self.1.fetch_add(1, Ordering::Relaxed));
            let size = self.size();
            Ok(Some(Stamp { device: 1, inode: 1, size, modified, changed: 0, is_lasting: true }))
        }
    }

    impl Rootfs for Restless {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn lookup(&self, path: &RootPath) -> Result<Option<Node>, RootfsError> {
            self.0.lookup(path)
        }

        fn read_dir(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
            self.0.read_dir(path)
        }

        fn open(&self, path: &RootPath) -> Result<Box<dyn ReadAt + '_>, RootfsError> {
            Ok(Box::new(RestlessFile(self.0.open(path)?, &self.1)))
        }
    }

    fn read(rootfs: &dyn Rootfs, size: u64) -> Result<Vec<u8>, TarError> {
        let path = RootPath::from_normal(b"/f").unwrap();
        let piece = Piece { path: &path, size, offset: 0, len: size as usize };
        let mut bytes = Vec::new();
        let mut filled = Filled { bytes: &mut bytes, len: 0 };
        Reader::new(rootfs, None).visit_piece(&piece, Some(&mut filled))?;
        let len = filled.len;
        bytes.truncate(len);
        Ok(bytes)
    }

    #[test]
    fn a_file_that_changes_is_an_error() {
        let mut rootfs = MemoryRootfs::new("tree");
        rootfs.file("/f", b"four");
        assert!(matches!(read(&rootfs, 3), Err(TarError::Changed { .. })));
        assert_eq!(read(&rootfs, 4).unwrap(), b"four");
        assert!(matches!(read(&rootfs, 5), Err(TarError::Changed { .. })));
        let restless = Restless(rootfs, AtomicU64::new(0));
        assert!(matches!(read(&restless, 4), Err(TarError::Changed { .. })));
    }
}
