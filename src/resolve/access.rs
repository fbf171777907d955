//! Entries as the source has them -> entries as the image has them: whose they are, and who may do what with them.

use super::collect::Collector;
use super::files::PLAIN;
use super::left_out::LeftOut;
use super::problem::{Problem, ResolveError};
use crate::closure::{Access, Closure, Content};
use crate::path::RootPath;
use crate::rootfs::{Kind, Node};
use crate::spec::{SensitiveFiles, Unowned};

impl Collector<'_> {
    /// Takes out what the user excludes.
    pub(super) fn drop_excluded(&mut self) {
        let exclude = &self.inputs.selection.exclude;
        if exclude.is_empty() {
            return;
        }
        let paths: Vec<RootPath> = self.closure.entries().map(|(path, _)| path.clone()).collect();
        for path in &paths {
            let Some(glob) = exclude.iter().find(|glob| glob.matches(path)) else { continue };
            let is_needed = |linked: &super::collect::Linked| {
                linked.path == *path || linked.members.iter().any(|object| object.path == *path)
            };
            if self.linked.iter().any(is_needed) {
                let by = asker(&self.closure, path);
                self.problems.push(Problem::Excluded { path: path.clone(), by });
            } else {
                self.closure.remove(path);
                let pattern = glob.to_string();
                self.left_out.insert(LeftOut::Excluded { path: path.clone(), pattern });
            }
        }
    }

    /// Notes each entry that no image should hold by accident.
    pub(super) fn check_secrets(&mut self) {
        if self.inputs.selection.sensitive == SensitiveFiles::Allow {
            return;
        }
        let mut problems = Vec::new();
        for (path, entry) in self.closure.entries() {
            let Content::Source(source) = &entry.content else { continue };
            let what = match self.secret(source) {
                Some(what) => what,
                // What the user gave a mode has that mode because they know.
                None if entry.node.is_public() || self.settled.contains(path) => continue,
                None => "not everybody may read it".to_owned(),
            };
            let by = asker(&self.closure, path);
            problems.push(Problem::Sensitive { path: source.clone(), what, by });
        }
        self.problems.extend(problems);
    }

    /// Gives everything that belongs to no package to root, with a mode that says no more than who may execute it.
    pub(super) fn settle_owners(&mut self) -> Result<(), ResolveError> {
        if self.inputs.selection.unowned == Unowned::AsInSource {
            return Ok(());
        }
        let mut plain = Vec::new();
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
            if let Some(db) = self.inputs.packages
                && !db.owners(origin)?.is_empty()
            {
                continue;
            }
            let mode = match kind {
                Kind::Link(_) | Kind::Special(_) => *mode,
                Kind::Directory => PLAIN[0],
                Kind::File => PLAIN[usize::from(mode & 0o111 == 0)],
            };
            plain.push((path.clone(), Access { mode, uid: 0, gid: 0 }));
        }
        for (path, access) in plain {
            self.closure.set_access(&path, access);
        }
        Ok(())
    }
}

/// Returns who asked for `path` first, in words.
fn asker(closure: &Closure, path: &RootPath) -> String {
    closure.why(path).first().map(|demand| demand.cause.to_string()).unwrap_or_default()
}
