//! Where files land that do not keep their path: the user's own programs, and the libraries that lie beside them.

use std::collections::BTreeMap;

use super::list::{FoundBy, Loaded, ObjectList};
use super::object::Object;
use super::tokens::{Token, expand, has_token};
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Absence, Kind, Rootfs, RootfsError, chase};

/// Where the objects of one process are in the image; those that are not in it keep their path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Placement(BTreeMap<RootPath, RootPath>);

impl Placement {
    /// Returns the placement of a program that lands at `to`.
    pub(super) fn of_program(program: &RootPath, to: &RootPath) -> Self {
        let mut placement = Self::default();
        if program != to {
            placement.0.insert(program.clone(), to.clone());
        }
        placement
    }

    /// Returns whether everything keeps its path.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns where the file `source` is in the image.
    pub(super) fn of<'a>(&'a self, source: &'a RootPath) -> &'a RootPath {
        self.0.get(source).unwrap_or(source)
    }

    /// Puts the library `to`, which `by` asked for, beside whoever says `$ORIGIN`, if that is what led to it and that
    /// object has moved. Returns where it lands, which is where `rootfs` has a link on the way there leads.
    ///
    /// # Errors
    /// [`RootfsError`] if `rootfs` cannot be read.
    pub(super) fn follow(
        &mut self,
        rootfs: &dyn Rootfs,
        list: &ObjectList,
        by: usize,
        to: usize,
    ) -> Result<Option<RootPath>, RootfsError> {
        let Some(landed) = self.beside(list, by, to) else { return Ok(None) };
        let landed = match landing(rootfs, &landed.to_raw(), landed.file_name())? {
            Some(landing) => landing.path,
            None => landed,
        };
        self.0.entry(list.objects[to].object.path.clone()).or_insert(landed.clone());
        Ok(Some(landed))
    }

    /// Returns where the library `to` is beside whoever says `$ORIGIN`, if that object has moved.
    fn beside(&self, list: &ObjectList, by: usize, to: usize) -> Option<RootPath> {
        let found = &list.objects[to];
        let owner = match &found.found_by {
            FoundBy::Runpath | FoundBy::Path => by,
            FoundBy::Rpath(of) => list.objects.iter().position(|loaded| loaded.name == *of)?,
            _ => return None,
        };
        let owner = &list.objects[owner];
        let moved = self.0.get(&owner.object.path)?;
        let rest = below_origin(owner, found)?;
        normal(&moved.parent()?, &rest)
    }
}

/// Returns what follows `$ORIGIN` of `owner` in the path by which `found` was found; `None` if that path came from
/// elsewhere.
fn below_origin(owner: &Loaded, found: &Loaded) -> Option<Vec<u8>> {
    let origin = origin(owner);
    let Object { elf, .. } = &*owner.object;
    let paths = [elf.runpath.as_deref(), elf.rpath.as_deref()].into_iter().flatten();
    let elements = paths.flat_map(|path| path.split(|byte| *byte == b':'));
    let needs = elf.needs.iter().map(|need| need.name.as_slice());
    let name = found.name.as_bytes();
    elements.chain(needs).filter(|text| has_token(text)).find_map(|text| {
        let expanded = expand(text, |token, place| match token {
            Token::Origin if place.is_leading_component => Some(origin.clone()),
            _ => None,
        })?;
        let expanded = expanded.strip_suffix(b"/").unwrap_or(&expanded);
        let rest = name.strip_prefix(expanded)?;
        let is_below = rest.is_empty() || rest.starts_with(b"/");
        is_below.then(|| name.get(origin.len()..).unwrap_or_default().to_vec())
    })
}

/// Returns what `$ORIGIN` means for `loaded`, as the loader has it.
fn origin(loaded: &Loaded) -> Vec<u8> {
    let directory = match loaded.found_by {
        FoundBy::Program => loaded.object.path.parent().map(|parent| parent.as_bytes().to_vec()),
        _ => loaded.name.parent().map(|parent| parent.as_bytes().to_vec()),
    };
    directory.unwrap_or_else(|| b"/".to_vec())
}

/// Returns `directory` followed by `rest`, in which `..` goes up.
fn normal(directory: &RootPath, rest: &[u8]) -> Option<RootPath> {
    let mut path = directory.clone();
    for name in rest.split(|byte| *byte == b'/') {
        path = match name {
            b"" | b"." => path,
            b".." => path.parent().unwrap_or(path),
            name => path.child(name)?,
        };
    }
    Some(path)
}

/// Where something lands, and the path in the source that leads to its directory.
pub(super) struct Landing {
    /// Where.
    pub(super) path: RootPath,
    /// The deepest directory on the way that the source has, as spelled.
    pub(super) above: RawPath,
}

/// Returns where a file called `name` lands that is put at `to`: below the real directory, where the source has a link
/// in its place; in it, if `to` is a directory. `None` if `to` is no path of a file.
///
/// # Errors
/// [`RootfsError`] if the source cannot be read.
pub(super) fn landing(
    rootfs: &dyn Rootfs,
    to: &RawPath,
    name: &[u8],
) -> Result<Option<Landing>, RootfsError> {
    let is_directory = |path: &RawPath| -> Result<bool, RootfsError> {
        Ok(matches!(chase(rootfs, path)?.end, Ok((_, node)) if node.kind == Kind::Directory))
    };
    let to = match to.as_bytes().ends_with(b"/") || is_directory(to)? {
        true => to.join(name),
        false => to.clone(),
    };
    let mut rest = Vec::new();
    let mut above = to;
    loop {
        let last = above.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let Some(parent) = above.parent().filter(|parent| *parent != above) else { return Ok(None) };
        rest.push(last);
        above = parent;
        match chase(rootfs, &above)?.end {
            Ok((real, node)) if node.kind == Kind::Directory => {
                let path = real.descend(rest.iter().rev().map(Vec::as_slice));
                return Ok(path.map(|path| Landing { path, above }));
            }
            Ok(_) => return Ok(None),
            Err(Absence::NotFound) => {}
            Err(_) => return Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::MemoryRootfs;

    #[test]
    fn files_land_in_real_directories() {
        let mut tree = MemoryRootfs::new("tree");
        tree.file("/usr/lib/x", b"");
        tree.link("/lib", "usr/lib");
        for (to, expected) in [
            ("/lib/deep/er/file", Some("/usr/lib/deep/er/file in /lib")),
            ("/lib", Some("/usr/lib/app in /lib")),
            ("/srv/", Some("/srv/app in /")),
            ("/srv", Some("/srv in /")),
            ("/lib/./a/./b/.", Some("/usr/lib/a/b in /lib/.")),
            ("/lib/x/y", None),
            ("/", Some("/app in /")),
        ] {
            let landed = landing(&tree, &to.into(), b"app").unwrap();
            let shown = landed.map(|landed| format!("{} in {}", landed.path, landed.above));
            assert_eq!(shown.as_deref(), expected, "{to}");
        }
    }
}
