//! Entries as the source has them -> entries as the image has them: whose they are, and who may do what with them.

use std::collections::BTreeSet;

use super::collect::Collector;
use super::files::PLAIN;
use super::left_out::LeftOut;
use super::object::Object;
use super::problem::{Problem, ResolveError};
use crate::closure::{Access, Closure, Content};
use crate::formats::{pem, read_head};
use crate::path::RootPath;
use crate::rootfs::{Kind, Node, RootfsError};
use crate::spec::{SensitiveFiles, Unowned};

/// How many files are named one by one of which the same is to be said.
const ALIKE_MAX: usize = 5;

impl Collector<'_> {
    /// Takes out what the user excludes.
    pub(super) fn drop_excluded(&mut self) {
        let exclude = &self.inputs.selection.exclude;
        if exclude.is_empty() {
            return;
        }
        let needed: BTreeSet<RootPath> = self
            .linked
            .iter()
            .flat_map(|linked| {
                let loaded = (0..linked.list.objects.len()).map(|index| linked.path_of(index));
                [&linked.path, &linked.loader].into_iter().chain(loaded)
            })
            .filter(|path| self.closure.entry(path).is_some())
            .cloned()
            .collect();
        let (mut dropped, mut problems) = (BTreeSet::new(), Vec::new());
        for (path, _) in self.closure.entries() {
            let Some(glob) = exclude.iter().find(|glob| glob.matches(path)) else { continue };
            // What is below a path comes next in the order of paths.
            match needed.range(path.clone()..).next().filter(|needed| needed.is_within(path)) {
                // It is said when its turn comes.
                Some(needed) if needed != path && glob.matches(needed) => {}
                Some(_) => {
                    problems.push(Problem::Excluded { path: path.clone(), by: asker(&self.closure, path) });
                }
                None => {
                    let pattern = glob.to_string();
                    self.left_out.insert(LeftOut::Excluded { path: path.clone(), pattern });
                    dropped.insert(path.clone());
                }
            }
        }
        self.problems.extend(problems);
        self.closure.remove(&dropped);
    }

    /// Returns whether the user excludes what is at `path` of the image.
    pub(super) fn is_excluded_path(&self, path: &RootPath) -> bool {
        self.inputs.selection.exclude.iter().any(|glob| glob.matches(path))
    }

    /// Notes each entry that no image should hold by accident.
    pub(super) fn check_secrets(&mut self) -> Result<(), ResolveError> {
        if self.inputs.selection.sensitive == SensitiveFiles::Allow {
            return Ok(());
        }
        let mut secrets: Vec<(String, String, Vec<&RootPath>)> = Vec::new();
        for (path, entry) in self.closure.entries() {
            let Content::Source(source) = &entry.content else { continue };
            let what = match self.secret(source) {
                Some(what) => what,
                None if self.named.contains(path) && self.holds_private_key(source, &entry.node)? => {
                    "a private key".to_owned()
                }
                // What the user gave a mode has that mode because they know.
                None if entry.node.is_public() || self.settled.contains(path) => continue,
                None => "not everybody may read it".to_owned(),
            };
            let by = asker(&self.closure, path);
            match secrets.iter_mut().find(|(known, known_by, _)| *known == what && *known_by == by) {
                Some((_, _, alike)) => alike.push(source),
                None => secrets.push((what, by, vec![source])),
            }
        }
        for (what, by, alike) in secrets {
            // A directory full of them is one thing to decide about.
            let (named, more) = match alike.len() {
                0..=ALIKE_MAX => (alike.as_slice(), 0),
                count => (&alike[..1], count - 1),
            };
            self.problems.extend(named.iter().map(|path| {
                let (path, what, by) = ((*path).clone(), what.clone(), by.clone());
                Problem::Sensitive { path, what, by, more }
            }));
        }
        Ok(())
    }

    /// Returns whether the file `source`, which is `node`, is a private key as `openssl` and `ssh-keygen` write it. What
    /// a package brings to every machine is no secret.
    fn holds_private_key(&self, source: &RootPath, node: &Node) -> Result<bool, ResolveError> {
        let is_owned = match self.inputs.packages {
            Some(db) => !db.owners(source)?.is_empty(),
            None => false,
        };
        if is_owned || node.size > pem::KEY_MAX {
            return Ok(false);
        }
        let head = read_head(&*self.rootfs().open(source)?, pem::HEAD);
        let head = head.map_err(|error| RootfsError::read("read", source, self.rootfs().name(), error))?;
        Ok(pem::starts_private_key(&head))
    }

    /// Gives everything that belongs to no package to root, with a mode that says no more than who may execute it,
    /// or that everybody may write there.
    pub(super) fn settle_owners(&mut self) -> Result<(), ResolveError> {
        if self.inputs.selection.unowned == Unowned::AsInSource {
            return Ok(());
        }
        let (mut plain, mut warnings) = (Vec::new(), Vec::new());
        for (path, entry) in self.closure.entries() {
            let Node { kind, mode, .. } = &entry.node;
            let origin = match &entry.content {
                Content::Generated(_) => continue,
                Content::Source(origin) => origin,
                Content::None => path,
            };
            // What minimage made itself has no number.
            if self.settled.contains(path) || entry.node.id.inode == 0 {
                continue;
            }
            if !self.is_plain(origin)? {
                continue;
            }
            if *kind == Kind::File && mode & 0o6000 != 0 {
                let bit = if mode & 0o4000 != 0 { "set-user-ID" } else { "set-group-ID" };
                warnings.push(format!(
                    "`{path}` is not {bit} in the image, as it belongs to no package: \
                     `--add {origin}:{path},mode={mode:04o}` keeps the bit"
                ));
            }
            let mode = match kind {
                Kind::Link(_) | Kind::Special(_) => *mode,
                // A place for the files of everybody, such as /run/lock, is of no use otherwise.
                Kind::Directory if *mode == 0o1777 => *mode,
                Kind::Directory => PLAIN[0],
                Kind::File => PLAIN[usize::from(mode & 0o111 == 0)],
            };
            plain.push((path.clone(), Access { mode, uid: 0, gid: 0 }));
        }
        for (path, access) in plain {
            self.closure.set_access(&path, access);
        }
        warnings.into_iter().for_each(|warning| self.warn(warning));
        Ok(())
    }

    /// Returns whether the program `object` starts with raised privileges in the image, where it is at `to`.
    pub(super) fn is_privileged(&self, object: &Object, to: &RootPath) -> Result<bool, ResolveError> {
        let node = match self.closure.entry(to).filter(|_| self.settled.contains(to)) {
            Some(entry) => &entry.node,
            None if object.node.is_privileged() && self.is_plain(&object.path)? => {
                return Ok(object.node.capability.is_some());
            }
            None => &object.node,
        };
        Ok(node.is_privileged())
    }

    /// Returns whether owner and mode of the file at `source` say nothing, because it belongs to no package.
    fn is_plain(&self, source: &RootPath) -> Result<bool, ResolveError> {
        let is_owned = match self.inputs.packages {
            Some(db) => !db.owners(source)?.is_empty(),
            None => false,
        };
        Ok(!is_owned && self.inputs.selection.unowned == Unowned::Plain)
    }
}

/// Returns who asked for `path` first, in words.
fn asker(closure: &Closure, path: &RootPath) -> String {
    closure.why(path).first().map(|demand| demand.cause.to_string()).unwrap_or_default()
}
