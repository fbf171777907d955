//! A closure + its source -> the image to come, as a [`Rootfs`]: what was planned can be looked at like anything else.

use std::io;

use super::{Closure, Content};
use crate::formats::ReadAt;
use crate::path::RootPath;
use crate::rootfs::{Kind, Node, Rootfs, RootfsError};

/// An image that is not written yet.
pub struct Planned<'a> {
    closure: &'a Closure,
    source: &'a dyn Rootfs,
}

impl<'a> Planned<'a> {
    /// Returns the image of `closure`, whose files are in `source`.
    pub fn new(closure: &'a Closure, source: &'a dyn Rootfs) -> Self {
        Self { closure, source }
    }

    fn error(&self, action: &'static str, path: &RootPath, kind: io::ErrorKind) -> RootfsError {
        RootfsError::read(action, path, self.name(), kind.into())
    }
}

impl Rootfs for Planned<'_> {
    fn name(&self) -> &str {
        "the planned image"
    }

    fn lookup(&self, path: &RootPath) -> Result<Option<Node>, RootfsError> {
        if path.is_root() {
            return Ok(Some(Node::directory(0o755)));
        }
        Ok(self.closure.entry(path).map(|entry| entry.node.clone()))
    }

    fn read_dir(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        match self.lookup(path)? {
            Some(Node { kind: Kind::Directory, .. }) => {}
            Some(_) => return Err(self.error("list", path, io::ErrorKind::NotADirectory)),
            None => return Err(self.error("list", path, io::ErrorKind::NotFound)),
        }
        let below = self.closure.entries().filter(|(entry, _)| entry.parent().as_ref() == Some(path));
        Ok(below.map(|(entry, _)| entry.file_name().to_vec()).collect())
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn ReadAt + '_>, RootfsError> {
        match self.closure.entry(path).map(|entry| &entry.content) {
            Some(Content::Source(path)) => self.source.open(path),
            Some(Content::Generated(bytes)) => Ok(Box::new(bytes.as_slice())),
            Some(Content::None) => Err(self.error("open", path, io::ErrorKind::InvalidInput)),
            None => Err(self.error("open", path, io::ErrorKind::NotFound)),
        }
    }
}
