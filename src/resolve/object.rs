//! A real path -> the ELF object there, parsed once.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use crate::formats::elf::{Elf, ElfError, VersionNeed};
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Absence, Node, Rootfs, RootfsError, chase};

/// An ELF file of a root filesystem.
#[derive(Debug)]
pub struct Object {
    /// Where it really is.
    pub path: RootPath,
    /// What it is besides ELF.
    pub node: Node,
    /// Its head.
    pub elf: Elf,
}

/// What an object says of symbol versions.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// What it requires, library by library.
    pub(super) needs: Vec<VersionNeed>,
    /// What it defines; `None` without a table.
    pub(super) definitions: Option<Vec<Vec<u8>>>,
}

/// An object, or why the file is none.
type Parsed = Result<Rc<Object>, Rc<ElfError>>;

/// The real path at the end of a walk with its node, or why there is none.
type End = Result<(RootPath, Node), Absence>;

/// The ELF files of one root filesystem, each opened once.
pub(super) struct Objects<'a> {
    rootfs: &'a dyn Rootfs,
    /// Where spelled paths lead: the plugins of one host look at the same candidates.
    ends: RefCell<HashMap<RawPath, Rc<End>>>,
    parsed: RefCell<HashMap<RootPath, Parsed>>,
    versions: RefCell<HashMap<RootPath, Rc<Versions>>>,
}

impl<'a> Objects<'a> {
    pub(super) fn new(rootfs: &'a dyn Rootfs) -> Self {
        Self { rootfs, ends: RefCell::default(), parsed: RefCell::default(), versions: RefCell::default() }
    }

    /// Returns the ELF files of `rootfs`, of which those that `known` has parsed are the same where `is_same` says so.
    pub(super) fn like(
        known: &Objects<'_>,
        rootfs: &'a dyn Rootfs,
        is_same: &dyn Fn(&RootPath) -> bool,
    ) -> Self {
        let mut parsed = known.parsed.borrow().clone();
        parsed.retain(|path, _| is_same(path));
        let mut versions = known.versions.borrow().clone();
        versions.retain(|path, _| is_same(path));
        Self { rootfs, ends: RefCell::default(), parsed: parsed.into(), versions: versions.into() }
    }

    /// Returns where `path` leads.
    pub(super) fn end(&self, path: &RawPath) -> Result<Rc<End>, RootfsError> {
        if let Some(known) = self.ends.borrow().get(path) {
            return Ok(known.clone());
        }
        let end = Rc::new(chase(self.rootfs, path)?.end);
        self.ends.borrow_mut().insert(path.clone(), end.clone());
        Ok(end)
    }

    /// Returns the undefined symbols of `object`; none if its tables are broken.
    pub(super) fn imports(&self, object: &Object) -> Result<Vec<Vec<u8>>, RootfsError> {
        let file = self.rootfs.open(&object.path)?;
        self.or_broken(object, object.elf.imports(&*file))
    }

    /// Returns `told`, or nothing if the tables of `object` are broken: the loader maps it all the same.
    ///
    /// # Errors
    /// [`RootfsError::Read`]: what cannot be read says nothing of the object, so it must not pass for an empty table.
    fn or_broken<T: Default>(&self, object: &Object, told: Result<T, ElfError>) -> Result<T, RootfsError> {
        match told {
            Err(ElfError::Read { source }) => Err(RootfsError::Read {
                action: "read",
                path: object.path.clone(),
                rootfs: self.rootfs.name().to_owned(),
                source,
            }),
            told => Ok(told.unwrap_or_default()),
        }
    }

    /// Returns which of `texts` are in the read-only data of `object`; none if its tables are broken.
    pub(super) fn texts<'t>(
        &self,
        object: &Object,
        texts: &BTreeSet<&'t str>,
    ) -> Result<BTreeSet<&'t str>, RootfsError> {
        if texts.is_empty() {
            return Ok(BTreeSet::new());
        }
        let file = self.rootfs.open(&object.path)?;
        self.or_broken(object, object.elf.texts(&*file, texts))
    }

    /// Returns the whole strings of C in the read-only data of `object` that `is_wanted`; none if its tables are broken.
    pub(super) fn strings(
        &self,
        object: &Object,
        is_wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<BTreeSet<Vec<u8>>, RootfsError> {
        let file = self.rootfs.open(&object.path)?;
        self.or_broken(object, object.elf.strings(&*file, is_wanted))
    }

    /// Returns what `object` says of versions; the inner error if its tables are broken.
    pub(super) fn versions(&self, object: &Object) -> Result<Result<Rc<Versions>, ElfError>, RootfsError> {
        if let Some(known) = self.versions.borrow().get(&object.path) {
            return Ok(Ok(known.clone()));
        }
        let file = self.rootfs.open(&object.path)?;
        let needs = object.elf.version_needs(&*file);
        let versions = match (needs, object.elf.version_definitions(&*file)) {
            (Ok(needs), Ok(definitions)) => Rc::new(Versions { needs, definitions }),
            (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
        };
        self.versions.borrow_mut().insert(object.path.clone(), versions.clone());
        Ok(Ok(versions))
    }

    pub(super) fn rootfs(&self) -> &'a dyn Rootfs {
        self.rootfs
    }

    /// Returns the strings of `object` that look like sonames, if it can load anything at run time. Broken tables mean
    /// no hints.
    pub(super) fn soname_strings(&self, object: &Object) -> Result<Vec<Vec<u8>>, RootfsError> {
        let file = self.rootfs.open(&object.path)?;
        let imports = self.or_broken(object, object.elf.imports(&*file))?;
        if !imports.iter().any(|name| name == b"dlopen" || name == b"dlmopen") {
            return Ok(Vec::new());
        }
        self.or_broken(object, object.elf.soname_strings(&*file))
    }

    /// Returns the object at `path`, which is the regular file `node`; the inner error says why it is none.
    pub(super) fn at(&self, path: &RootPath, node: &Node) -> Result<Parsed, RootfsError> {
        if let Some(known) = self.parsed.borrow().get(path) {
            return Ok(known.clone());
        }
        let file = self.rootfs.open(path)?;
        let object = match Elf::parse(&*file) {
            Ok(elf) => Ok(Rc::new(Object { path: path.clone(), node: node.clone(), elf })),
            Err(error) => Err(Rc::new(error)),
        };
        self.parsed.borrow_mut().insert(path.clone(), object.clone());
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::ffi::OsStrExt as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::formats::ReadAt;
    use crate::rootfs::HostRootfs;

    /// A root filesystem on a disk that fails once it `is_failing`.
    struct Failing {
        rootfs: HostRootfs,
        is_failing: AtomicBool,
    }

    struct Unreadable(u64);

    impl ReadAt for Unreadable {
        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::Other.into())
        }

        fn size(&self) -> u64 {
            self.0
        }
    }

    impl Rootfs for Failing {
        fn name(&self) -> &str {
            self.rootfs.name()
        }

        fn lookup(&self, path: &RootPath) -> Result<Option<Node>, RootfsError> {
            self.rootfs.lookup(path)
        }

        fn read_dir(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
            self.rootfs.read_dir(path)
        }

        fn open(&self, path: &RootPath) -> Result<Box<dyn ReadAt + '_>, RootfsError> {
            let file = self.rootfs.open(path)?;
            Ok(if self.is_failing.load(Ordering::Relaxed) { Box::new(Unreadable(file.size())) } else { file })
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_empty() {
        let own = std::env::current_exe().unwrap().canonicalize().unwrap();
        let path = RootPath::from_normal(own.as_os_str().as_bytes()).unwrap();
        let rootfs = HostRootfs::open_directory("/".as_ref()).unwrap();
        let failing = Failing { rootfs, is_failing: AtomicBool::new(false) };
        let node = failing.lookup(&path).unwrap().unwrap();
        let objects = Objects::new(&failing);
        let object = objects.at(&path, &node).unwrap().unwrap();
        assert!(!objects.imports(&object).unwrap().is_empty());
        let texts = BTreeSet::from(["what cannot be read"]);
        assert_eq!(objects.texts(&object, &texts).unwrap(), texts);

        failing.is_failing.store(true, Ordering::Relaxed);
        assert!(matches!(objects.imports(&object), Err(RootfsError::Read { .. })));
        assert!(matches!(objects.soname_strings(&object), Err(RootfsError::Read { .. })));
        assert!(matches!(objects.texts(&object, &texts), Err(RootfsError::Read { .. })));
    }
}
