//! A [`Rootfs`] -> the same one, asked once for each path.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Node, Rootfs, RootfsError};
use crate::formats::ReadAt;
use crate::path::RootPath;

/// Remembers look-ups, the ones that found nothing too. Contents and listings are passed through.
pub struct CachedRootfs<'a> {
    inner: &'a dyn Rootfs,
    nodes: Mutex<HashMap<RootPath, Option<Node>>>,
}

impl<'a> CachedRootfs<'a> {
    /// Returns a view of `inner` as it is from now on: what changes later may go unseen.
    pub fn new(inner: &'a dyn Rootfs) -> Self {
        Self { inner, nodes: Mutex::default() }
    }
}

impl Rootfs for CachedRootfs<'_> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn lookup(&self, path: &RootPath) -> Result<Option<Node>, RootfsError> {
        // A panic elsewhere leaves the map whole: each insertion is one call.
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(path) {
            return Ok(node.clone());
        }
        let node = self.inner.lookup(path)?;
        nodes.insert(path.clone(), node.clone());
        Ok(node)
    }

    fn read_dir(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        self.inner.read_dir(path)
    }

    fn read_dir_kinds(&self, path: &RootPath) -> Result<Vec<(Vec<u8>, bool)>, RootfsError> {
        self.inner.read_dir_kinds(path)
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn ReadAt + '_>, RootfsError> {
        self.inner.open(path)
    }
}
