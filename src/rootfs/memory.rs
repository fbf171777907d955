//! Files built in memory -> a [`Rootfs`]: for tests, and for trees that exist nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::{FileId, Kind, Node, Rootfs, RootfsError};
use crate::formats::ReadAt;
use crate::path::{RawPath, RootPath};

/// A root filesystem that exists in memory only. Parents of what is put in appear by themselves, mode 0755.
#[derive(Debug, Default)]
pub struct MemoryRootfs {
    name: String,
    nodes: BTreeMap<RootPath, (Node, Vec<u8>)>,
    children: BTreeMap<RootPath, BTreeSet<Vec<u8>>>,
    /// How many files were ever put in, so that none gets the identity of one that was replaced.
    files: u64,
}

impl MemoryRootfs {
    /// Returns an empty root filesystem, called `name` in messages.
    pub fn new(name: impl Into<String>) -> Self {
        let mut rootfs = Self { name: name.into(), ..Self::default() };
        rootfs.nodes.insert(RootPath::root(), (Node::directory(0o755), Vec::new()));
        rootfs
    }

    /// Puts `node` with the contents `bytes` at `path`, in place of what was there. A new file gets an identity of
    /// its own; its size is that of `bytes`.
    pub fn insert(&mut self, path: &RootPath, mut node: Node, bytes: Vec<u8>) {
        if let Some(parent) = path.parent() {
            if !self.nodes.contains_key(&parent) {
                self.insert(&parent, Node::directory(0o755), Vec::new());
            }
            self.children.entry(parent).or_default().insert(path.file_name().to_vec());
        }
        self.files += 1;
        node.id = FileId { device: 1, inode: self.files };
        node.size = bytes.len() as u64;
        self.nodes.insert(path.clone(), (node, bytes));
    }

    /// Puts another name of the file at `target` to `path`: a hard link. Nothing happens if there is no such file.
    pub fn hard_link(&mut self, path: &RootPath, target: &RootPath) {
        let Some((mut node, bytes)) = self.nodes.get(target).cloned() else { return };
        let id = node.id;
        let of_same_file = |node: &Node| node.kind == Kind::File && node.id == id;
        node.links = 1 + self.nodes.values().filter(|(node, _)| of_same_file(node)).count() as u64;
        let links = node.links;
        self.insert(path, node, bytes);
        if let Some((node, _)) = self.nodes.get_mut(path) {
            node.id = id;
        }
        for (node, _) in self.nodes.values_mut().filter(|(node, _)| of_same_file(node)) {
            node.links = links;
        }
    }

    /// Puts an executable file with `bytes` at the normal path `path`; for tests.
    pub fn file(&mut self, path: &str, bytes: &[u8]) {
        self.put(path, Node { mode: 0o755, ..Node::file(0) }, bytes);
    }

    /// Puts a link to `target` at the normal path `path`; for tests.
    pub fn link(&mut self, path: &str, target: &str) {
        self.put(path, Node::link(target.into()), b"");
    }

    fn put(&mut self, path: &str, node: Node, bytes: &[u8]) {
        if let Some(path) = RootPath::from_normal(path.as_bytes()) {
            self.insert(&path, node, bytes.to_vec());
        }
    }

    fn error(&self, action: &'static str, path: &RootPath, kind: io::ErrorKind) -> RootfsError {
        RootfsError::read(action, path, &self.name, kind.into())
    }
}

impl Rootfs for MemoryRootfs {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, path: &RootPath) -> Result<Option<Node>, RootfsError> {
        Ok(self.nodes.get(path).map(|(node, _)| node.clone()))
    }

    fn read_dir(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        match self.nodes.get(path) {
            Some((Node { kind: Kind::Directory, .. }, _)) => {
                Ok(self.children.get(path).into_iter().flatten().cloned().collect())
            }
            Some(_) => Err(self.error("list", path, io::ErrorKind::NotADirectory)),
            None => Err(self.error("list", path, io::ErrorKind::NotFound)),
        }
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn ReadAt + '_>, RootfsError> {
        match self.nodes.get(path) {
            Some((Node { kind: Kind::File, .. }, bytes)) => Ok(Box::new(bytes.as_slice())),
            Some(_) => Err(self.error("open", path, io::ErrorKind::InvalidInput)),
            None => Err(self.error("open", path, io::ErrorKind::NotFound)),
        }
    }
}

impl From<(&str, &[(&str, &str)])> for MemoryRootfs {
    /// Returns the tree called as the first part says, of (path, content) pairs; `-> target` makes a link.
    fn from((name, files): (&str, &[(&str, &str)])) -> Self {
        let mut rootfs = Self::new(name);
        for (path, content) in files {
            match content.strip_prefix("-> ") {
                Some(target) => rootfs.put(path, Node::link(RawPath::from(target)), b""),
                None => rootfs.file(path, content.as_bytes()),
            }
        }
        rootfs
    }
}
