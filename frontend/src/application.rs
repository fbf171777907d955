//! A target and the base it was built on -> the files that its commands made: what no package owns and is not volatile.

use minimage::formats::ReadAt;
use minimage::packages::{PackageDb, PackageError};
use minimage::path::RootPath;
use minimage::rootfs::{Kind, Node, Rootfs, RootfsError};
use minimage::rules::Catalogue;
use thiserror::Error;

use crate::expand::Contents;
use crate::same::equal;

/// Why the application cannot be found.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ApplicationError {
    /// A root filesystem cannot be read.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A database of packages cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// Returns what of `target` is not in `base`, that no package of `packages` owns, and that is not volatile.
pub(crate) fn files(
    target: &dyn Rootfs,
    base: Option<&dyn Rootfs>,
    packages: Option<&dyn PackageDb>,
    rules: &Catalogue,
) -> Result<Contents, ApplicationError> {
    let mut found = Contents::default();
    // With each directory, whether its files are left behind.
    let mut open = vec![(RootPath::root(), false)];
    while let Some((directory, is_volatile)) = open.pop() {
        for (name, is_directory) in target.read_dir_kinds(&directory)? {
            let Some(path) = directory.child(&name) else { continue };
            let is_volatile = match rules.volatile(&path) {
                Some(kind) if kind.keeps_places => true,
                Some(_) => continue,
                None => is_volatile,
            };
            if is_directory {
                open.push((path.clone(), is_volatile));
            }
            let is_owned = match packages {
                Some(packages) => !packages.owners(&path)?.is_empty(),
                None => false,
            };
            if is_owned {
                continue;
            }
            let Some(node) = target.lookup(&path)? else { continue };
            let is_kept = match node.kind {
                Kind::Directory | Kind::Link(_) => true,
                // Who may not make a file there gets an empty one to write to; and a log may be there to be followed.
                Kind::File => !is_volatile || node.size == 0 && (node.uid != 0 || is_log(&path)),
                Kind::Special(_) => !is_volatile,
            };
            if is_kept && !is_same(base, target, &path)? {
                match node.kind {
                    Kind::Special(what) => found.special.push((path, what)),
                    _ => found.paths.push(path),
                }
            }
        }
    }
    found.paths.sort();
    Ok(found)
}

fn is_log(path: &RootPath) -> bool {
    path.as_bytes().starts_with(b"/var/log/")
}

/// Returns whether `base` has the same at `path` as `target`.
pub(crate) fn is_same(
    base: Option<&dyn Rootfs>,
    target: &dyn Rootfs,
    path: &RootPath,
) -> Result<bool, RootfsError> {
    let Some(base) = base else { return Ok(false) };
    let (Some(there), Some(node)) = (base.lookup(path)?, target.lookup(path)?) else { return Ok(false) };
    let alike = |node: &Node| (node.kind.clone(), node.mode, node.uid, node.gid, node.size);
    if alike(&there) != alike(&node) {
        return Ok(false);
    }
    if node.kind != Kind::File {
        return Ok(true);
    }
    let (one, other): (Box<dyn ReadAt + '_>, Box<dyn ReadAt + '_>) = (target.open(path)?, base.open(path)?);
    let error = |source| RootfsError::Read {
        action: "read",
        path: path.clone(),
        rootfs: target.name().to_owned(),
        source,
    };
    equal(&*one, &*other, node.size).map_err(error)
}

#[cfg(test)]
mod tests {
    use minimage::packages;
    use minimage::rootfs::MemoryRootfs;

    use super::*;

    #[test]
    fn what_commands_made_is_neither_of_the_base_nor_of_a_package() {
        let base = MemoryRootfs::from((
            "base",
            &[
                ("/etc/os-release", "base"),
                ("/etc/motd", "hello"),
                ("/l", "-> a"),
                ("/usr/bin/old", "1"),
                ("/var/lib/x", "1"),
            ][..],
        ));
        let mut target = MemoryRootfs::from((
            "target",
            &[
                ("/etc/os-release", "base"),
                ("/etc/motd", "changed"),
                ("/l", "-> b"),
                ("/usr/bin/old", "1"),
                ("/usr/bin/tool", "of a package"),
                ("/app/main.py", "made"),
                ("/app/__pycache__/main.pyc", "volatile"),
                ("/var/log/x.log", "volatile"),
                ("/var/log/app/y.log", "volatile"),
                ("/var/log/app/z.log", "-> /dev/stdout"),
                ("/var/log/app/followed", ""),
                ("/var/cache/empty", ""),
                ("/var/tmp/made/file", "volatile"),
                (
                    "/var/lib/dpkg/status",
                    "Package: tool\nStatus: install ok installed\nVersion: 1\n\
                    Architecture: amd64\nMaintainer: x\nDescription: x\n",
                ),
                ("/var/lib/dpkg/info/tool.list", "/.\n/usr\n/usr/bin\n/usr/bin/tool\n"),
            ][..],
        ));
        let theirs = RootPath::from_normal(b"/var/log/app/of-somebody").unwrap();
        target.insert(&theirs, Node { uid: 33, ..Node::file(0) }, Vec::new());
        let packages = packages::open(&target).unwrap().unwrap();
        let shown = |found: Contents| found.paths.iter().map(ToString::to_string).collect::<Vec<_>>();
        let rules = Catalogue::with(&[]).unwrap();
        let found = files(&target, Some(&base), Some(&*packages), &rules).unwrap();
        assert_eq!(
            shown(found),
            [
                "/app",
                "/app/main.py",
                "/etc/motd",
                "/l",
                "/var/cache",
                "/var/log",
                "/var/log/app",
                "/var/log/app/followed",
                "/var/log/app/of-somebody",
                "/var/log/app/z.log"
            ]
        );
        let found = files(&target, Some(&base), None, &rules).unwrap();
        assert_eq!(
            shown(found),
            [
                "/app",
                "/app/main.py",
                "/etc/motd",
                "/l",
                "/usr/bin/tool",
                "/var/cache",
                "/var/log",
                "/var/log/app",
                "/var/log/app/followed",
                "/var/log/app/of-somebody",
                "/var/log/app/z.log"
            ]
        );
    }
}
