//! A real path -> the ELF object there, parsed once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::formats::elf::{Elf, ElfError};
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

/// The ELF files of one root filesystem, each opened once.
pub(super) struct Objects<'a> {
    rootfs: &'a dyn Rootfs,
    parsed: RefCell<HashMap<RootPath, Result<Rc<Object>, Rc<ElfError>>>>,
}

impl<'a> Objects<'a> {
    pub(super) fn new(rootfs: &'a dyn Rootfs) -> Self {
        Self { rootfs, parsed: RefCell::default() }
    }

    pub(super) fn rootfs(&self) -> &'a dyn Rootfs {
        self.rootfs
    }

    /// Returns the object at `path`, which is the regular file `node`; the inner error says why it is none.
    pub(super) fn at(
        &self,
        path: &RootPath,
        node: &Node,
    ) -> Result<Result<Rc<Object>, Rc<ElfError>>, RootfsError> {
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
