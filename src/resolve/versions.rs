//! The objects of a process -> the symbol versions that one requires and another lacks (glibc, elf/dl-version.c).

use std::collections::HashMap;
use std::rc::Rc;

use super::list::ObjectList;
use super::loader::Abi;
use super::object::{Objects, Versions};
use super::problem::Problem;
use crate::formats::ReadAt;
use crate::formats::elf::{Elf, ElfError};
use crate::path::RootPath;
use crate::rootfs::RootfsError;

/// Returns a problem for each version that is required of a library of `list`, and not defined by it. A library
/// without any versions satisfies everyone, as far as the loader cares.
pub(super) fn missing(
    objects: &Objects<'_>,
    program: &RootPath,
    list: &ObjectList,
) -> Result<Vec<Problem>, RootfsError> {
    let mut problems = Vec::new();
    let mut versions: Vec<Rc<Versions>> = Vec::with_capacity(list.objects.len());
    for loaded in &list.objects {
        versions.push(match objects.versions(&loaded.object)? {
            Ok(versions) => versions,
            Err(error) => {
                problems.push(Problem::BrokenElf { path: loaded.object.path.clone(), error: Rc::new(error) });
                Rc::default()
            }
        });
    }
    let mut providers: HashMap<&[u8], usize> = HashMap::new();
    for (index, loaded) in list.objects.iter().enumerate() {
        if let Some(soname) = &loaded.object.elf.soname {
            providers.entry(soname).or_insert(index);
        }
    }
    for edge in &list.edges {
        providers.entry(&edge.soname).or_insert(edge.to);
    }
    for (index, loaded) in list.objects.iter().enumerate() {
        for need in &versions[index].needs {
            let Some(provider) = providers.get(need.soname.as_slice()) else { continue };
            let Some(defined) = &versions[*provider].definitions else { continue };
            for version in need.versions.iter().filter(|version| !version.weak) {
                if !defined.contains(&version.name) {
                    problems.push(Problem::VersionMissing {
                        program: program.clone(),
                        by: loaded.object.path.clone(),
                        library: list.objects[*provider].object.path.clone(),
                        version: version.name.clone(),
                    });
                }
            }
        }
    }
    Ok(problems)
}

/// An ELF file of whichever root filesystem: its head and its bytes.
pub type ElfFile<'a> = (&'a Elf, &'a dyn ReadAt);

/// Returns whether a loader that maps `user` would map `library` beside it, with every version that `user` requires of
/// `soname`.
///
/// # Errors
/// [`ElfError`] if the tables of one of them cannot be read.
pub fn satisfies(library: ElfFile<'_>, user: ElfFile<'_>, soname: &[u8]) -> Result<bool, ElfError> {
    let ((own, own_file), (elf, file)) = (library, user);
    if own.class != elf.class || own.byte_order != elf.byte_order || !Abi::of(elf).accepts(own) {
        return Ok(false);
    }
    let Some(defined) = own.version_definitions(own_file)? else { return Ok(true) };
    let needs = elf.version_needs(file)?;
    let mut required = needs.iter().filter(|need| need.soname == soname).flat_map(|need| &need.versions);
    Ok(required.all(|version| version.weak || defined.contains(&version.name)))
}
