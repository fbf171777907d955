//! A root filesystem + what it lacks, from elsewhere -> one [`Rootfs`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::{Kind, Node, Rootfs, RootfsError};
use crate::formats::ReadAt;
use crate::path::RootPath;

/// A root filesystem that has more than its directory: files of other root filesystems, each at a path of its own.
pub struct CompletedRootfs<'a> {
    rootfs: &'a dyn Rootfs,
    added: BTreeMap<RootPath, Added<'a>>,
    children: BTreeMap<RootPath, BTreeSet<Vec<u8>>>,
}

struct Added<'a> {
    node: Node,
    bytes: Bytes<'a>,
}

/// Where the bytes of an added file come from.
pub enum Bytes<'a> {
    /// A file of another root filesystem.
    Of(&'a dyn Rootfs, RootPath),
    /// Made by minimage; nothing for what is no regular file.
    Made(Vec<u8>),
}

impl<'a> CompletedRootfs<'a> {
    /// Returns `rootfs` with nothing added yet.
    pub fn new(rootfs: &'a dyn Rootfs) -> Self {
        Self { rootfs, added: BTreeMap::new(), children: BTreeMap::new() }
    }

    /// Puts `node` at `path`, instead of what `rootfs` or an earlier addition has there. Its parents must be there or
    /// come later.
    pub fn add(&mut self, path: &RootPath, node: Node, bytes: Bytes<'a>) {
        if let Some(parent) = path.parent() {
            self.children.entry(parent).or_default().insert(path.file_name().to_vec());
        }
        self.added.insert(path.clone(), Added { node, bytes });
    }

    /// Returns the root filesystem that the file at `path` was added from, if it was.
    pub fn origin(&self, path: &RootPath) -> Option<&dyn Rootfs> {
        match self.added.get(path)?.bytes {
            Bytes::Of(rootfs, _) => Some(rootfs),
            Bytes::Made(_) => None,
        }
    }

    fn error(&self, action: &'static str, path: &RootPath, kind: io::ErrorKind) -> RootfsError {
        RootfsError::Read { action, path: path.clone(), rootfs: self.name().to_owned(), source: kind.into() }
    }
}

impl Rootfs for CompletedRootfs<'_> {
    fn name(&self) -> &str {
        self.rootfs.name()
    }

    fn lookup(&self, path: &RootPath) -> Result<Option<Node>, RootfsError> {
        match self.added.get(path) {
            Some(added) => Ok(Some(added.node.clone())),
            None => self.rootfs.lookup(path),
        }
    }

    fn read_dir(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        let mut names: BTreeSet<Vec<u8>> = match self.added.get(path) {
            Some(Added { node: Node { kind: Kind::Directory, .. }, .. }) => BTreeSet::new(),
            Some(_) => return Err(self.error("list", path, io::ErrorKind::NotADirectory)),
            None => self.rootfs.read_dir(path)?.into_iter().collect(),
        };
        names.extend(self.children.get(path).into_iter().flatten().cloned());
        Ok(names.into_iter().collect())
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn ReadAt + '_>, RootfsError> {
        match self.added.get(path) {
            None => self.rootfs.open(path),
            Some(Added { node, .. }) if node.kind != Kind::File => {
                Err(self.error("open", path, io::ErrorKind::InvalidInput))
            }
            Some(Added { bytes: Bytes::Of(rootfs, there), .. }) => rootfs.open(there),
            Some(Added { bytes: Bytes::Made(bytes), .. }) => Ok(Box::new(bytes.as_slice())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::read_all;
    use crate::path::RawPath;
    use crate::rootfs::{MemoryRootfs, chase};

    fn path(text: &str) -> RootPath {
        RootPath::from_normal(text.as_bytes()).unwrap()
    }

    #[test]
    fn additions_are_seen_like_files_of_their_own() {
        let mut target = MemoryRootfs::new("target");
        target.file("/lib/own.so", b"own");
        let mut stage = MemoryRootfs::new("stage");
        stage.file("/opt/other.so", b"other");
        let mut completed = CompletedRootfs::new(&target);
        completed.add(&path("/opt"), Node::directory(0o755), Bytes::Made(Vec::new()));
        completed.add(&path("/opt/o.so"), Node::file(5), Bytes::Of(&stage, path("/opt/other.so")));
        completed.add(&path("/lib/made"), Node::file(4), Bytes::Made(b"made".to_vec()));
        completed.add(&path("/l"), Node::link(RawPath::from("opt/o.so")), Bytes::Made(Vec::new()));

        assert_eq!(completed.read_dir(&path("/lib")).unwrap(), [b"made".to_vec(), b"own.so".to_vec()]);
        assert_eq!(completed.read_dir(&path("/opt")).unwrap(), [b"o.so".to_vec()]);
        assert_eq!(
            completed.read_dir(&RootPath::root()).unwrap(),
            [b"l".to_vec(), b"lib".to_vec(), b"opt".to_vec()]
        );
        for (spelled, content) in
            [("/l", "other"), ("/lib/own.so", "own"), ("/lib/made", "made"), ("/opt/o.so", "other")]
        {
            let (real, _) = chase(&completed, &RawPath::from(spelled)).unwrap().end.unwrap();
            let bytes = read_all(&*completed.open(&real).unwrap(), 100).unwrap().unwrap();
            assert_eq!(bytes, content.as_bytes(), "{spelled}");
        }
        let origin = |text: &str| completed.origin(&path(text)).map(|rootfs| rootfs.name().to_owned());
        assert_eq!(origin("/opt/o.so").as_deref(), Some("stage"));
        assert_eq!((origin("/lib/own.so"), origin("/lib/made")), (None, None));
        assert!(completed.open(&path("/opt")).is_err());
        assert!(completed.read_dir(&path("/lib/made")).is_err());
    }
}
