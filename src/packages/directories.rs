//! A path as a database spells it -> the real path, with one look-up for each directory.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::{PackageError, of_rootfs};
use crate::path::RootPath;
use crate::rootfs::{Kind, Rootfs, RootfsError, chase};

/// Remembers which spelled directory is really which. Databases name thousands of files in hundreds of directories.
pub(super) struct Directories<'a> {
    rootfs: &'a dyn Rootfs,
    known: RefCell<HashMap<Vec<u8>, Option<RootPath>>>,
}

impl<'a> Directories<'a> {
    pub(super) fn new(rootfs: &'a dyn Rootfs) -> Self {
        Self { rootfs, known: RefCell::default() }
    }

    /// Returns where each of `spelled`, the paths of one package, really is; those without a directory are left out.
    ///
    /// A path with something below it is a directory for the package, even if it is a link here: `/lib` may lead to
    /// `/usr/lib`, and the link is nobody's.
    pub(super) fn places<'s, T>(
        &self,
        spelled: &'s [T],
        path_of: impl Fn(&'s T) -> &'s [u8],
    ) -> Result<Vec<(&'s T, RootPath)>, PackageError> {
        let parent = |path: &'s [u8]| path.iter().rposition(|byte| *byte == b'/').map(|slash| &path[..slash]);
        let parents: HashSet<&[u8]> = spelled.iter().filter_map(|item| parent(path_of(item))).collect();
        let mut places = Vec::with_capacity(spelled.len());
        for item in spelled {
            let path = path_of(item);
            let place = if parents.contains(path) { self.directory(path)? } else { self.real(path)? };
            places.extend(place.map(|place| (item, place)));
        }
        Ok(places)
    }

    /// Returns the real path of the name at the end of `spelled`, which may be a link; `None` if its directory does
    /// not exist or the path is not absolute and normal.
    pub(super) fn real(&self, spelled: &[u8]) -> Result<Option<RootPath>, PackageError> {
        let Some(slash) = spelled.iter().rposition(|byte| *byte == b'/') else { return Ok(None) };
        let (directory, name) = (&spelled[..slash], &spelled[slash + 1..]);
        // Without a copy, as this is what mostly happens.
        if let Some(known) = self.known.borrow().get(directory) {
            return Ok(known.as_ref().and_then(|directory| directory.child(name)));
        }
        Ok(self.directory(directory)?.and_then(|directory| directory.child(name)))
    }

    /// Returns the real path of the directory `spelled`, which has no slash at its end.
    fn directory(&self, spelled: &[u8]) -> Result<Option<RootPath>, PackageError> {
        if spelled.is_empty() {
            return Ok(Some(RootPath::root()));
        }
        if let Some(known) = self.known.borrow().get(spelled) {
            return Ok(known.clone());
        }
        let real = match self.real(spelled)? {
            Some(path) => self.followed(path)?,
            None => None,
        };
        self.known.borrow_mut().insert(spelled.to_vec(), real.clone());
        Ok(real)
    }

    /// Returns the directory at `path` or at the end of the link there.
    fn followed(&self, path: RootPath) -> Result<Option<RootPath>, PackageError> {
        let error = of_rootfs(self.rootfs);
        let node = match self.rootfs.lookup(&path) {
            // Nothing below it can be in an image of this user, and nobody asks for its owner.
            Err(RootfsError::Denied { .. }) => return Ok(None),
            looked_up => looked_up.map_err(&error)?,
        };
        match node.map(|node| node.kind) {
            Some(Kind::Directory) => Ok(Some(path)),
            Some(Kind::Link(_)) => match chase(self.rootfs, &path.to_raw()).map_err(error)?.end {
                Ok((real, node)) if node.kind == Kind::Directory => Ok(Some(real)),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::ReadAt;
    use crate::rootfs::{MemoryRootfs, Node};

    /// A root filesystem in which nobody may search `/closed`.
    struct Closed(MemoryRootfs);

    impl Rootfs for Closed {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn lookup(&self, path: &RootPath) -> Result<Option<Node>, RootfsError> {
            if path.as_bytes().starts_with(b"/closed/") {
                let (path, rootfs) = (path.clone(), self.name().to_owned());
                return Err(RootfsError::Denied { action: "look up", path, rootfs });
            }
            self.0.lookup(path)
        }

        fn read_dir(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
            self.0.read_dir(path)
        }

        fn open(&self, path: &RootPath) -> Result<Box<dyn ReadAt + '_>, RootfsError> {
            self.0.open(path)
        }
    }

    #[test]
    fn what_a_closed_directory_holds_is_passed_over() {
        let mut rootfs = MemoryRootfs::new("tree");
        rootfs.file("/closed/deep/file", b"");
        rootfs.file("/open/file", b"");
        let rootfs = Closed(rootfs);
        let directories = Directories::new(&rootfs);
        let real = |spelled: &str| directories.real(spelled.as_bytes()).unwrap().map(|path| path.to_string());
        assert_eq!(real("/closed/deep/file"), None);
        assert_eq!(real("/open/file"), Some("/open/file".to_owned()));
    }
}
