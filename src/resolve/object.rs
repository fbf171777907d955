//! A real path -> the ELF object there, parsed once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::formats::elf::{Elf, ElfError, VersionNeed};
use crate::path::RootPath;
use crate::rootfs::{Node, Rootfs, RootfsError};

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

/// The ELF files of one root filesystem, each opened once.
pub(super) struct Objects<'a> {
    rootfs: &'a dyn Rootfs,
    parsed: RefCell<HashMap<RootPath, Parsed>>,
    versions: RefCell<HashMap<RootPath, Rc<Versions>>>,
}

impl<'a> Objects<'a> {
    pub(super) fn new(rootfs: &'a dyn Rootfs) -> Self {
        Self { rootfs, parsed: RefCell::default(), versions: RefCell::default() }
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
        Self { rootfs, parsed: parsed.into(), versions: versions.into() }
    }

    /// Returns the undefined symbols of `object`; none if its tables are broken.
    pub(super) fn imports(&self, object: &Object) -> Result<Vec<Vec<u8>>, RootfsError> {
        let file = self.rootfs.open(&object.path)?;
        Ok(object.elf.imports(&*file).unwrap_or_default())
    }

    /// Returns whether one of `texts` is in the read-only data of `object`.
    pub(super) fn has_text(&self, object: &Object, texts: &[String]) -> Result<bool, RootfsError> {
        let file = self.rootfs.open(&object.path)?;
        for text in texts {
            if object.elf.has_text(&*file, text.as_bytes()).unwrap_or(false) {
                return Ok(true);
            }
        }
        Ok(false)
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
        let imports = object.elf.imports(&*file).unwrap_or_default();
        if !imports.iter().any(|name| name == b"dlopen" || name == b"dlmopen") {
            return Ok(Vec::new());
        }
        Ok(object.elf.soname_strings(&*file).unwrap_or_default())
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
