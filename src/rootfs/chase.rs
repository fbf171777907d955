//! A path as spelled + a root filesystem -> the real path, and every node on the way.
//!
//! The only code that follows links or `..`. It walks as the kernel does (path_resolution(7)), with the root of the
//! root filesystem as `/`: absolute targets start there again, and `..` stops there.

use std::borrow::Cow;
use std::fmt;

use super::{Kind, Node, Rootfs, RootfsError};
use crate::path::{RawPath, RootPath};

/// How many links one walk follows, as in the kernel (`MAXSYMLINKS`).
const LINKS_MAX: usize = 40;
/// The longest path in bytes, with its NUL (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// The longest name in bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// Why nothing is at the end of a path. A loader reacts differently to each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Absence {
    /// A name on the way does not exist (ENOENT).
    NotFound,
    /// A name on the way is no directory (ENOTDIR).
    NotADirectory,
    /// More than 40 links (ELOOP).
    TooManyLinks,
    /// The path or one of its names is too long (ENAMETOOLONG).
    NameTooLong,
    /// A directory on the way may not be searched (EACCES).
    Denied,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "no such file or directory",
            Self::NotADirectory => "a name on the way is no directory",
            Self::TooManyLinks => "too many levels of symbolic links",
            Self::NameTooLong => "the name is too long",
            Self::Denied => "a directory on the way may not be searched",
        })
    }
}

/// A symbolic link that was followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where the link is.
    pub path: RootPath,
    /// The link itself.
    pub node: Node,
}

/// The way of one walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chased {
    /// The links followed, in order; each appears as often as it was met.
    pub links: Vec<Link>,
    /// The directories that the walk left through `..`, in order. They must be there for the walk to work, although
    /// nothing that it met lies in them.
    pub left: Vec<RootPath>,
    /// The real path at the end with its node, or why there is none.
    pub end: Result<(RootPath, Node), Absence>,
}

impl Chased {
    /// Returns the real path at the end, if something is there.
    pub fn target(self) -> Option<RootPath> {
        self.end.ok().map(|(path, _)| path)
    }

    /// Returns whether a regular file that somebody may execute is at the end.
    pub fn is_executable(&self) -> bool {
        matches!(&self.end, Ok((_, node)) if node.is_executable())
    }
}

/// Walks `raw` from the top of `rootfs`, following links, the last one too. A relative path starts at the top.
///
/// # Errors
/// [`RootfsError::Read`] if the source cannot be read; a path that leads nowhere is not an error.
pub fn chase(rootfs: &dyn Rootfs, raw: &RawPath) -> Result<Chased, RootfsError> {
    let (mut links, mut left) = (Vec::new(), Vec::new());
    let end = walk(rootfs, raw, &mut links, &mut left)?;
    Ok(Chased { links, left, end })
}

type End = Result<(RootPath, Node), Absence>;

fn walk(
    rootfs: &dyn Rootfs,
    raw: &RawPath,
    links: &mut Vec<Link>,
    left: &mut Vec<RootPath>,
) -> Result<End, RootfsError> {
    if raw.as_bytes().is_empty() {
        return Ok(Err(Absence::NotFound));
    }
    if raw.as_bytes().len() >= PATH_MAX {
        return Ok(Err(Absence::NameTooLong));
    }
    let mut here = RootPath::root();
    let mut node = None;
    // The next name is the last one.
    let mut todo: Vec<Cow<'_, [u8]>> = names(raw).rev().map(Cow::Borrowed).collect();
    let mut wants_directory = raw.as_bytes().ends_with(b"/");
    while let Some(name) = todo.pop() {
        match &*name {
            b"." => continue,
            b".." => {
                if let Some(above) = here.parent() {
                    left.push(std::mem::replace(&mut here, above));
                }
                node = None;
                continue;
            }
            name if name.len() > NAME_MAX => return Ok(Err(Absence::NameTooLong)),
            name if name.contains(&0) => return Ok(Err(Absence::NotFound)),
            _ => {}
        }
        let Some(path) = here.child(&name) else { return Ok(Err(Absence::NotFound)) };
        let found = match rootfs.lookup(&path) {
            Ok(found) => found,
            Err(RootfsError::Denied { .. }) => return Ok(Err(Absence::Denied)),
            Err(error) => return Err(error),
        };
        let Some(found) = found else { return Ok(Err(Absence::NotFound)) };
        match &found.kind {
            Kind::Link(target) => {
                if links.len() >= LINKS_MAX {
                    return Ok(Err(Absence::TooManyLinks));
                }
                if target.is_absolute() {
                    here = RootPath::root();
                    node = None;
                }
                wants_directory |= todo.is_empty() && target.as_bytes().ends_with(b"/");
                todo.extend(names(target).rev().map(|name| Cow::Owned(name.to_vec())));
                links.push(Link { path, node: found });
            }
            kind => {
                if *kind != Kind::Directory && (wants_directory || !todo.is_empty()) {
                    return Ok(Err(Absence::NotADirectory));
                }
                here = path;
                node = Some(found);
            }
        }
    }
    let node = match node {
        Some(node) => node,
        // The walk ended by `..`, `.` or at the top.
        None => match rootfs.lookup(&here)? {
            Some(node) => node,
            None => return Ok(Err(Absence::NotFound)),
        },
    };
    Ok(Ok((here, node)))
}

fn names(path: &RawPath) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.as_bytes().split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::MemoryRootfs;

    fn tree() -> MemoryRootfs {
        let mut tree = MemoryRootfs::new("tree");
        tree.file("/usr/lib/libz.so.1.2", b"z");
        tree.link("/usr/lib/libz.so.1", "libz.so.1.2");
        tree.link("/lib", "usr/lib");
        tree.link("/up", "../../usr/lib");
        tree.link("/abs", "/lib/libz.so.1");
        tree.link("/loop", "loop");
        tree.link("/slash", "usr/lib/libz.so.1/");
        tree.file("/usr/share/x", b"x");
        tree
    }

    #[test]
    fn walks_as_the_kernel_does() {
        let long = format!("/{}", "n".repeat(256));
        let endless = format!("/{}", "a/".repeat(2048));
        for (raw, end) in [
            ("/lib/libz.so.1", Ok("/usr/lib/libz.so.1.2")),
            ("lib/./libz.so.1", Ok("/usr/lib/libz.so.1.2")),
            ("/up/libz.so.1.2", Ok("/usr/lib/libz.so.1.2")),
            ("/abs", Ok("/usr/lib/libz.so.1.2")),
            ("/lib/../share/x", Ok("/usr/share/x")),
            ("/..", Ok("/")),
            ("/lib/", Ok("/usr/lib")),
            ("", Err(Absence::NotFound)),
            ("/lib/nothing", Err(Absence::NotFound)),
            ("/usr/share/x/", Err(Absence::NotADirectory)),
            ("/usr/share/x/y", Err(Absence::NotADirectory)),
            ("/slash", Err(Absence::NotADirectory)),
            ("/loop", Err(Absence::TooManyLinks)),
            (long.as_str(), Err(Absence::NameTooLong)),
            (endless.as_str(), Err(Absence::NameTooLong)),
        ] {
            let chased = chase(&tree(), &raw.into()).unwrap();
            let found = chased.end.map(|(path, _)| path.to_string());
            assert_eq!(found, end.map(str::to_owned), "{raw:.40}");
        }
    }

    #[test]
    fn what_the_walk_left_is_kept() {
        let chased = chase(&tree(), &"/lib/../../usr/share/../lib/libz.so.1".into()).unwrap();
        let left: Vec<_> = chased.left.iter().map(ToString::to_string).collect();
        assert_eq!(left, ["/usr/lib", "/usr", "/usr/share"]);
    }

    #[test]
    fn every_link_on_the_way_is_kept() {
        let chased = chase(&tree(), &"/abs".into()).unwrap();
        let met: Vec<_> = chased.links.iter().map(|link| link.path.to_string()).collect();
        assert_eq!(met, ["/abs", "/lib", "/usr/lib/libz.so.1"]);
    }
}
