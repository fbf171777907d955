//! The blob of a layer -> the tar inside it, as a file that can be read at any place.
//!
//! A compressed tar has no places to jump to, so it is inflated once, into a directory that keeps it under its diff_id.
//! What is kept is hashed when it is used, which takes a fifth of the time that inflating it takes; but only if it changed
//! since, as a note beside it says.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;

use super::layers::LayersError;
use crate::formats::{ReadAt, Stamp};
use crate::oci::{Descriptor, DiffId, Digest, Hasher, Layout, NewFile};

/// The largest tar of one layer, in bytes.
const TAR_MAX: u64 = 64 << 30;
/// How many times larger than its blob a tar may be, once it has [`RATIO_FREE`] bytes.
const RATIO_MAX: u64 = 200;
const RATIO_FREE: u64 = 64 << 20;
/// A file that changed less long ago can change again without another time to show for it.
const SETTLED: Duration = Duration::from_secs(1);
/// A tar that was of use so lately need not be marked again.
const RECENT: Duration = Duration::from_secs(3600);
/// What the name of the note beside a tar ends with.
const NOTE: &str = "checked";
/// How much is read at once, in bytes.
const CHUNK: usize = 1 << 18;

/// Where tars are while an image is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tars {
    /// In this directory of the host, also for the next time.
    Kept(PathBuf),
    /// In files without a name, gone with the last reader.
    Passing,
}

/// A tar on the disk.
#[derive(Debug)]
pub(super) struct Tar {
    file: File,
    size: u64,
    /// What it promises to be, if that was checked.
    diff_id: Option<DiffId>,
}

impl Tars {
    /// Returns the tar in the blob `layer` of `layout`.
    ///
    /// # Errors
    /// [`LayersError`] if it is not the one that `diff_id` promises.
    pub(super) fn tar(
        &self,
        layout: &Layout,
        layer: &Descriptor,
        diff_id: DiffId,
    ) -> Result<Tar, LayersError> {
        let kept = match self {
            Self::Kept(directory) => Some(directory.join(diff_id.0.hex())),
            Self::Passing => None,
        };
        if let Some(tar) = kept.as_deref().and_then(|kept| Tar::kept(kept, diff_id)) {
            return Ok(tar);
        }
        let name = layer.digest().to_string();
        let unreadable = |source| LayersError::Inflate { blob: name.clone(), source };
        let mut blob = layout.open(layer)?;
        let (digest, file) = match Packing::of(&blob).map_err(unreadable)? {
            Packing::None => (copied(&mut blob, &mut io::sink(), TAR_MAX).map_err(unreadable)?, blob),
            packing => {
                let inflated = Inflated::create(kept.as_deref())?;
                let digest = packing.inflate(blob, layer.size(), inflated.file()).map_err(unreadable)?;
                if digest != diff_id.0 {
                    return Err(LayersError::OtherTar { blob: name, diff_id });
                }
                (digest, inflated.finish()?)
            }
        };
        if digest != diff_id.0 {
            return Err(LayersError::OtherTar { blob: name, diff_id });
        }
        Tar::new(file, Some(diff_id)).map_err(unreadable)
    }
}

impl Tar {
    /// Returns the tar in `file`, whatever it is, inflated if need be.
    ///
    /// # Errors
    /// [`LayersError`] if it cannot be read.
    pub(super) fn any(file: File, name: &str) -> Result<Self, LayersError> {
        let unreadable = |source| LayersError::Inflate { blob: name.to_owned(), source };
        let packing = Packing::of(&file).map_err(unreadable)?;
        let file = match packing {
            Packing::None => file,
            packing => {
                let size = file.metadata().map_err(unreadable)?.len();
                let inflated = Inflated::create(None)?;
                packing.inflate(file, size, inflated.file()).map_err(unreadable)?;
                inflated.finish()?
            }
        };
        Self::new(file, None).map_err(unreadable)
    }
}

/// How bytes are compressed, as they say themselves. Their digest tells whether they are the right ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(file: &File) -> io::Result<Self> {
        let mut magic = [0; 4];
        let count = file.read_at(&mut magic, 0)?;
        Ok(match &magic[..count] {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Self::Zstd,
            _ => Self::None,
        })
    }

    /// Writes what is in `blob`, of `size` bytes, to `tar`, and returns its digest.
    fn inflate(self, blob: File, size: u64, mut tar: &File) -> io::Result<Digest> {
        let tar = &mut tar;
        let limit = size.saturating_mul(RATIO_MAX).clamp(RATIO_FREE, TAR_MAX);
        let mut blob = BufReader::with_capacity(CHUNK, blob);
        match self {
            Self::None => copied(&mut blob, tar, limit),
            Self::Gzip => copied(&mut MultiGzDecoder::new(blob), tar, limit),
            Self::Zstd => copied(&mut zstd::stream::read::Decoder::with_buffer(blob)?, tar, limit),
        }
    }
}

/// A tar that is being inflated.
enum Inflated {
    /// It will be at this path.
    Kept(NewFile, PathBuf),
    Passing(File),
}

impl Inflated {
    fn create(kept: Option<&Path>) -> Result<Self, LayersError> {
        let error = |path: &Path| {
            let path = path.to_owned();
            move |source| LayersError::Io { action: "create a file in", path, source }
        };
        match kept {
            Some(path) => {
                let directory = path.parent().unwrap_or(Path::new("."));
                fs::create_dir_all(directory).map_err(error(directory))?;
                let file = NewFile::create_in(directory).map_err(error(directory))?;
                Ok(Self::Kept(file, path.to_owned()))
            }
            None => tempfile::tempfile().map(Self::Passing).map_err(error(&std::env::temp_dir())),
        }
    }

    fn file(&self) -> &File {
        match self {
            Self::Kept(file, _) => file.file(),
            Self::Passing(file) => file,
        }
    }

    /// Gives the file its name, if it has one to get.
    fn finish(self) -> Result<File, LayersError> {
        match self {
            Self::Kept(file, path) => {
                let error = |source| LayersError::Io { action: "write", path: path.clone(), source };
                file.persist(&path).map_err(error)
            }
            Self::Passing(file) => Ok(file),
        }
    }
}

/// Returns what changes whenever the bytes of a file do.
fn state(metadata: &fs::Metadata) -> String {
    let (modified, changed) =
        ((metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()));
    format!("{} {} {} {modified:?} {changed:?}\n", metadata.dev(), metadata.ino(), metadata.size())
}

fn is_settled(metadata: &fs::Metadata) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // A second more, as the fraction of a second is left out.
    let changed = u64::try_from(metadata.ctime()).map_or(Duration::MAX, Duration::from_secs);
    now.checked_sub(changed).is_some_and(|age| age > SETTLED + Duration::from_secs(1))
}

fn write_note(path: &Path, state: &str) -> io::Result<()> {
    let mut file = NewFile::create_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(state.as_bytes())?;
    file.persist(path).map(drop)
}

/// Copies all of `from`, and returns its digest.
fn copied(from: &mut dyn Read, to: &mut dyn Write, limit: u64) -> io::Result<Digest> {
    let (mut hasher, mut buffer, mut size) = (Hasher::default(), vec![0; CHUNK], 0_u64);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        size = size.saturating_add(count as u64);
        if size > limit {
            let text = format!("it inflates to more than {limit} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count])?;
    }
}

impl Tar {
    fn new(file: File, diff_id: Option<DiffId>) -> io::Result<Self> {
        Ok(Self { size: file.metadata()?.len(), file, diff_id })
    }

    /// Returns the tar that was kept at `path`, if it is whole.
    fn kept(path: &Path, diff_id: DiffId) -> Option<Self> {
        let mut file = File::options().read(true).append(true).open(path).ok()?;
        let (note, metadata) = (path.with_extension(NOTE), file.metadata().ok()?);
        let state = state(&metadata);
        if !fs::read_to_string(&note).is_ok_and(|known| known == state) {
            let digest = copied(&mut file, &mut io::sink(), TAR_MAX).ok()?;
            if digest != diff_id.0 {
                let _ = fs::remove_file(path);
                return None;
            }
            // Without a note, it is hashed again.
            if is_settled(&metadata) {
                let _ = write_note(&note, &state);
            }
        }
        // When it was of use last. If that fails, it goes a little earlier.
        if metadata.modified().ok()?.elapsed().is_ok_and(|age| age > RECENT) {
            let _ = file.set_modified(SystemTime::now());
        }
        Self::new(file, Some(diff_id)).ok()
    }

    /// Returns the file of `size` bytes at `offset`.
    pub(super) fn file(&self, offset: u64, size: u64) -> FileInTar<'_> {
        FileInTar { tar: self, offset, size }
    }
}

impl ReadAt for Tar {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// A file in a tar.
pub(super) struct FileInTar<'a> {
    tar: &'a Tar,
    offset: u64,
    size: u64,
}

impl ReadAt for FileInTar<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        self.tar.read_at(self.offset.saturating_add(offset), &mut buffer[..length])
    }

    fn size(&self) -> u64 {
        self.size
    }

    /// The diff_id and the place in the tar say which bytes these are, today and for ever: they stand in for device,
    /// inode and times, the times before any real one.
    fn stamp(&self) -> io::Result<Option<Stamp>> {
        let Some(diff_id) = self.tar.diff_id else { return Ok(None) };
        let number = |at: usize| {
            let bytes = diff_id.0.as_bytes().iter().skip(at).take(8);
            bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let before = |high: u64, low: u64| -1 - ((i128::from(high >> 1) << 64) | i128::from(low));
        Ok(Some(Stamp {
            device: number(0),
            inode: self.offset,
            size: self.size,
            modified: before(number(8), number(16)),
            changed: before(0, number(24)),
            is_lasting: true,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_spares_the_hashing_until_the_file_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tar");
        let is_kept = || Tar::kept(&path, DiffId(Digest::of(b"promised"))).is_some();
        // A note can be trusted as its author is, so other bytes show that they were not looked at.
        let write = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            write_note(&path.with_extension(NOTE), &state(&fs::metadata(&path).unwrap())).unwrap();
        };
        write(b"whatever");
        assert!(is_kept());
        fs::write(&path, b"something else").unwrap();
        assert!(!is_kept() && !path.exists());
        fs::write(&path, b"promised").unwrap();
        assert!(is_kept());
        let metadata = fs::metadata(&path).unwrap();
        assert!(!is_settled(&metadata), "it was written just now");
        assert!(is_settled(&fs::metadata("/proc/self/exe").unwrap()));
        assert_ne!(fs::read_to_string(path.with_extension(NOTE)).ok(), Some(state(&metadata)));
    }
}
