//! A pattern + a root filesystem -> the paths that match, as far as everybody may look for them.

use super::{Kind, Node, Rootfs, RootfsError, chase};
use crate::glob::{Glob, Part};
use crate::path::{RawPath, RootPath};

/// What a pattern leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// What matches, spelled as the pattern spells it; each directory before what is in it.
    pub paths: Vec<RawPath>,
    /// Directories that were not looked into, because not everybody may list them.
    pub closed: Vec<RootPath>,
}

impl Node {
    /// Returns whether every user may read this: a file's bytes, a directory's names and what they lead to.
    pub fn is_public(&self) -> bool {
        match self.kind {
            Kind::File => self.mode & 0o004 != 0,
            Kind::Directory => self.mode & 0o005 == 0o005,
            Kind::Link(_) | Kind::Special(_) => true,
        }
    }
}

/// Who looks for paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eyes {
    /// Anybody: directories that others may not list stay closed, whoever runs this process.
    Everybody,
    /// Who runs this process.
    Mine,
}

/// Returns what `glob` matches in `rootfs`, seen with `eyes`. Links in the place of directories are followed, except
/// by `**`.
///
/// # Errors
/// [`RootfsError`] if the source cannot be read.
pub fn find(rootfs: &dyn Rootfs, glob: &Glob, eyes: Eyes) -> Result<Found, RootfsError> {
    let mut search = Search { rootfs, eyes, found: Found::default() };
    for parts in glob.alternatives() {
        search.walk(&RawPath::new("/"), parts)?;
    }
    Ok(search.found)
}

struct Search<'a> {
    rootfs: &'a dyn Rootfs,
    eyes: Eyes,
    found: Found,
}

impl Search<'_> {
    /// Looks for `parts` below `at`.
    fn walk(&mut self, at: &RawPath, parts: &[Part]) -> Result<(), RootfsError> {
        match parts {
            [] => {
                if !self.found.paths.contains(at) {
                    self.found.paths.push(at.clone());
                }
            }
            [Part::Name(name), rest @ ..] => {
                let path = at.join(name);
                if self.exists(&path, rest.is_empty())? {
                    self.walk(&path, rest)?;
                }
            }
            [part @ Part::Pattern(_), rest @ ..] => {
                for (path, _) in self.children(at)? {
                    let name = path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                    if part.matches(name) && self.exists(&path, rest.is_empty())? {
                        self.walk(&path, rest)?;
                    }
                }
            }
            [Part::Deep, rest @ ..] => {
                if !rest.is_empty() {
                    self.walk(at, rest)?;
                }
                for (path, node) in self.children(at)? {
                    if rest.is_empty() {
                        self.found.paths.push(path.clone());
                    }
                    if node.kind == Kind::Directory {
                        self.walk(&path, parts)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns whether `path` is there: as what the pattern means, or as a directory on the way to it.
    fn exists(&self, path: &RawPath, is_last: bool) -> Result<bool, RootfsError> {
        if !is_last {
            return Ok(
                matches!(chase(self.rootfs, path)?.end, Ok((_, node)) if node.kind == Kind::Directory),
            );
        }
        let chased = chase(self.rootfs, path)?;
        Ok(chased.end.is_ok() || !chased.links.is_empty())
    }

    /// Returns what is in the directory that `at` leads to, sorted by name; nothing if it is closed or no directory.
    fn children(&mut self, at: &RawPath) -> Result<Vec<(RawPath, Node)>, RootfsError> {
        let Ok((real, node)) = chase(self.rootfs, at)?.end else { return Ok(Vec::new()) };
        if node.kind != Kind::Directory {
            return Ok(Vec::new());
        }
        if self.eyes == Eyes::Everybody && !node.is_public() {
            self.close(real);
            return Ok(Vec::new());
        }
        let names = match self.rootfs.read_dir(&real) {
            Ok(names) => names,
            Err(RootfsError::Denied { .. }) if self.eyes == Eyes::Everybody => {
                self.close(real);
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let mut children = Vec::new();
        for name in names {
            let Some(path) = real.child(&name) else { continue };
            if let Some(node) = self.rootfs.lookup(&path)? {
                children.push((at.join(&name), node));
            }
        }
        Ok(children)
    }

    fn close(&mut self, directory: RootPath) {
        if !self.found.closed.contains(&directory) {
            self.found.closed.push(directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::MemoryRootfs;

    fn tree() -> MemoryRootfs {
        let mut tree = MemoryRootfs::new("tree");
        for path in ["/a/one.conf", "/a/b/two.conf", "/a/b/c/three.conf", "/closed/x"] {
            tree.file(path, b"");
        }
        tree.link("/a/up", "../a");
        tree.link("/l", "a/b");
        tree.link("/a/nowhere", "gone");
        let closed = RootPath::from_normal(b"/closed").unwrap();
        tree.insert(&closed, Node::directory(0o711), Vec::new());
        tree
    }

    #[test]
    fn finds_what_everybody_may_see() {
        for (glob, expected) in [
            ("/a/*.conf", "/a/one.conf"),
            ("/a/**", "/a/b /a/b/c /a/b/c/three.conf /a/b/two.conf /a/nowhere /a/one.conf /a/up"),
            ("/a/**/*.conf", "/a/one.conf /a/b/two.conf /a/b/c/three.conf"),
            ("/l/*.conf", "/l/two.conf"),
            ("/*/two.conf", "/l/two.conf"),
            ("/{a,l}/c", "/l/c"),
            ("/closed/x", "/closed/x"),
            ("/closed/*", "closed: /closed"),
            ("/no/**", ""),
        ] {
            let found = find(&tree(), &Glob::parse(glob).unwrap(), Eyes::Everybody).unwrap();
            let paths = found.paths.iter().map(ToString::to_string);
            let closed = found.closed.iter().map(|path| format!("closed: {path}"));
            assert_eq!(paths.chain(closed).collect::<Vec<_>>().join(" "), expected, "{glob}");
        }
        let own = find(&tree(), &Glob::parse("/closed/*").unwrap(), Eyes::Mine).unwrap();
        assert_eq!(own.paths, [RawPath::from("/closed/x")]);
    }
}
