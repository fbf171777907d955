//! What was taken of each package -> what an image tells of them to scanners and lawyers.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{PackageDb, PackageError, PackageId, Record, Taken, of_rootfs, read_real};
use crate::closure::{Cause, Closure, Content, Demand};
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Kind, Node, Rootfs, chase};

/// What says which system the files come from; scanners choose their data by it. Links among them are followed.
const IDENTITY: [&str; 5] = [
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/debian_version",
    "/etc/alpine-release",
    "/etc/redhat-release",
];
/// Where the texts are that copyright files refer to.
const COMMON_LICENSES: &[u8] = b"/usr/share/common-licenses/";
/// The largest copyright file that is searched for references, in bytes.
const NOTICE_MAX: u64 = 16 << 20;

/// What an image tells of the packages in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Paths of the source to take, each with the package that it tells of. A package that is here only because it
    /// brings a notice comes after that.
    pub notices: Vec<(PackageId, RawPath)>,
    /// Files to make.
    pub records: Vec<Record>,
    /// What there is of each package then: what was given, and notices that came from packages.
    pub taken: Taken,
    /// A path of each package that is there without what this adds, or that the notices before its own bring.
    pub through: BTreeMap<PackageId, RootPath>,
}

/// Puts into `closure` what says which system its files come from, and what an image tells of the packages in it.
/// `cause` makes the reason, given a path of a package and the package's name.
///
/// # Errors
/// [`PackageError`] if `rootfs` or its database cannot be read.
pub fn describe(
    closure: &mut Closure,
    rootfs: &dyn Rootfs,
    db: Option<&dyn PackageDb>,
    cause: &dyn Fn(RootPath, String) -> Cause,
) -> Result<(), PackageError> {
    let error = of_rootfs(rootfs);
    for path in identity(rootfs)? {
        closure.take(rootfs, Demand { path, cause: Cause::Identity }).map_err(&error)?;
    }
    let Some(db) = db else { return Ok(()) };
    let Metadata { notices, records, through, .. } = metadata(db, rootfs, taken(closure, db)?)?;
    let through: BTreeMap<PackageId, RootPath> =
        through.into_iter().map(|(package, path)| (package, place(closure, path))).collect();
    let cause = |package: PackageId| {
        let by = through.get(&package).cloned();
        by.map_or(Cause::Identity, |by| cause(by, db.package(package).name.clone()))
    };
    for (package, path) in notices {
        closure.take(rootfs, Demand { path, cause: cause(package) }).map_err(&error)?;
    }
    for Record { path, bytes, package } in records {
        let node = Node::file(bytes.len() as u64);
        closure.put(&path, node, Content::Generated(bytes), cause(package));
    }
    Ok(())
}

/// Returns where the file `source` of the source is in the image: at its own path, or where it was put.
fn place(closure: &Closure, source: RootPath) -> RootPath {
    let is_it = |content: &Content| matches!(content, Content::Source(path) if *path == source);
    let moved = match closure.entry(&source) {
        Some(_) => None,
        None => closure.entries().find(|(_, entry)| is_it(&entry.content)),
    };
    moved.map_or_else(|| source.clone(), |(path, _)| path.clone())
}

/// Returns the paths in `rootfs` that say which system it is.
///
/// # Errors
/// [`PackageError::Rootfs`] if the source cannot be read.
pub fn identity(rootfs: &dyn Rootfs) -> Result<Vec<RawPath>, PackageError> {
    let mut found = Vec::new();
    for path in IDENTITY.map(RawPath::from) {
        found.extend(file(rootfs, &path)?.map(|_| path));
    }
    Ok(found)
}

/// Returns the files and links in `closure` that came from packages of `db`.
///
/// # Errors
/// [`PackageError`] if the database cannot be read.
pub fn taken(closure: &Closure, db: &dyn PackageDb) -> Result<Taken, PackageError> {
    let mut taken = Taken::new();
    for (path, entry) in closure.entries().filter(|(_, entry)| entry.node.kind != Kind::Directory) {
        let origin = match &entry.content {
            Content::Source(origin) => origin,
            Content::None => path,
            Content::Generated(_) => continue,
        };
        for owner in db.owners(origin)? {
            taken.entry(owner).or_default().insert(origin.clone());
        }
    }
    Ok(taken)
}

/// Returns what an image tells of the packages in `taken`, and of those that bring what it tells.
///
/// # Errors
/// [`PackageError`] if the source or its database cannot be read.
pub fn metadata(db: &dyn PackageDb, rootfs: &dyn Rootfs, taken: Taken) -> Result<Metadata, PackageError> {
    let through = taken.iter().filter_map(|(package, paths)| Some((*package, paths.first()?.clone())));
    let mut metadata = Metadata { through: through.collect(), ..Metadata::default() };
    let mut todo: VecDeque<PackageId> = taken.keys().copied().collect();
    metadata.taken = taken;
    while let Some(package) = todo.pop_front() {
        for (path, real) in notices(db, rootfs, package)? {
            metadata.notices.push((package, path));
            for owner in db.owners(&real)? {
                metadata.taken.entry(owner).or_default().insert(real.clone());
                if let Entry::Vacant(vacant) = metadata.through.entry(owner) {
                    vacant.insert(real.clone());
                    todo.push_back(owner);
                }
            }
        }
    }
    metadata.records = db.manifest(&metadata.taken)?;
    Ok(metadata)
}

/// Returns the copyright and licence files of `package` as spelled, and where they really are.
fn notices(
    db: &dyn PackageDb,
    rootfs: &dyn Rootfs,
    package: PackageId,
) -> Result<Vec<(RawPath, RootPath)>, PackageError> {
    let name = &db.package(package).name;
    // Where Debian has them, which may be through a link to the documentation of another package.
    let copyright = RawPath::new(format!("/usr/share/doc/{name}/copyright"));
    let mut found = Vec::new();
    if let Some(real) = file(rootfs, &copyright)? {
        for license in common_licenses(&read_real(rootfs, &real, NOTICE_MAX)?) {
            found.extend(file(rootfs, &license)?.map(|real| (license, real)));
        }
        found.push((copyright, real));
    }
    // Where the packages of rpm and apk have them.
    let directory = RootPath::from_normal(format!("/usr/share/licenses/{name}").as_bytes());
    for file in db.files(package)? {
        let is_notice = directory.as_ref().is_some_and(|directory| file.path.is_within(directory));
        if is_notice && let Some(real) = self::file(rootfs, &file.path.to_raw())? {
            found.push((file.path.to_raw(), real));
        }
    }
    Ok(found)
}

/// Returns where the file at `path` really is; `None` if none is there.
fn file(rootfs: &dyn Rootfs, path: &RawPath) -> Result<Option<RootPath>, PackageError> {
    let end = chase(rootfs, path).map_err(of_rootfs(rootfs))?.end;
    Ok(end.ok().filter(|(_, node)| node.kind == Kind::File).map(|(real, _)| real))
}

/// Returns the common licences that a copyright file refers to.
fn common_licenses(text: &[u8]) -> BTreeSet<RawPath> {
    let names = memchr::memmem::find_iter(text, COMMON_LICENSES).filter_map(|at| {
        let rest = &text[at + COMMON_LICENSES.len()..];
        let is_end = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"-.+_".contains(byte);
        let name = rest.split(is_end).next().unwrap_or_default();
        // The end of a sentence is no part of the name.
        let end = name.iter().rposition(|byte| *byte != b'.')?;
        Some(RawPath::new([COMMON_LICENSES, &name[..=end]].concat()))
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_named_in_sentences() {
        let text = b"see '/usr/share/common-licenses/GPL-2'.\nor /usr/share/common-licenses/LGPL-2.1.\n\
            /usr/share/common-licenses/ /usr/share/common-licenses/GPL-2";
        let found: Vec<_> = common_licenses(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["/usr/share/common-licenses/GPL-2", "/usr/share/common-licenses/LGPL-2.1"]);
    }
}
