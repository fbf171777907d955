//! What a program has in its data -> the programs that it starts: those of its own package are taken, others are listed.

use std::collections::{BTreeSet, HashMap};

use super::collect::{Collector, Depth};
use super::left_out::LeftOut;
use super::problem::ResolveError;
use crate::closure::{Cause, Demand};
use crate::packages;
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Node, chase};

/// The numbers of users whom packages make when they are installed (login.defs(5), Debian Policy 9.2.2).
const ALLOCATED: std::ops::Range<u32> = 100..1000;

impl Collector<'_> {
    /// Takes the programs of the package family of the root program `by` that it names in its read-only data, and lists
    /// the others whose path it has there.
    ///
    /// A name must be a whole string of C, so that of a word in a message nothing follows, or end a path: linkers keep
    /// one copy of a string and of the end of another that is the same.
    pub(super) fn take_fellows(&mut self, by: &RootPath, cause: &Cause) -> Result<(), ResolveError> {
        let Some(object) = self.root_objects.iter().find(|object| object.path == *by).cloned() else {
            return Ok(());
        };
        let directories = self.program_directories()?;
        let fellows = self.fellows_of(by, &directories)?;
        let is_path = |text: &[u8]| {
            let end = text.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            text.get(..end)
                .is_some_and(|above| directories.iter().any(|(spelled, _)| spelled.as_bytes() == above))
        };
        let is_wanted = |text: &[u8]| fellows.contains_key(last_name(text)) || is_path(text);
        for text in self.resolver.objects().strings(&object, &is_wanted)? {
            match fellows.get(last_name(&text)) {
                Some(path) => {
                    // On merged /usr, by the name that it calls.
                    let path = if is_path(&text) { RawPath::new(text) } else { path.to_raw() };
                    let demand = Demand { path, cause: cause.clone() };
                    self.take_program(demand, Depth(1))?;
                }
                None => self.list_program(&RawPath::new(text), by)?,
            }
        }
        Ok(())
    }

    /// Returns the users of the source whose names the root program `by` has in its read-only data. Of the system's
    /// own users, whose names are everyday words, configuration and owners tell.
    pub(super) fn users_named_by(&self, by: &RootPath) -> Result<Vec<Vec<u8>>, ResolveError> {
        let Some(object) = self.root_objects.iter().find(|object| object.path == *by) else {
            return Ok(Vec::new());
        };
        let users = self.accounts()?.users;
        let names: BTreeSet<&[u8]> = users
            .iter()
            .filter(|user| ALLOCATED.contains(&user.uid))
            .map(|user| user.name.as_slice())
            .collect();
        let is_wanted = |text: &[u8]| names.contains(text);
        Ok(self.resolver.objects().strings(object, &is_wanted)?.into_iter().collect())
    }

    /// Returns the directories of PATH in the image, as spelled and as they are.
    fn program_directories(&self) -> Result<Vec<(RawPath, RootPath)>, ResolveError> {
        let mut directories = Vec::new();
        // On merged /usr, programs are often called by the names of before.
        for path in &self.resolver.search().path_inside {
            if let Some(real) = chase(self.rootfs(), path)?.target() {
                directories.push((path.clone(), real));
            }
        }
        Ok(directories)
    }

    /// Returns the programs of the families of the packages of `program`, each by its name.
    fn fellows_of(
        &self,
        program: &RootPath,
        directories: &[(RawPath, RootPath)],
    ) -> Result<HashMap<Vec<u8>, RootPath>, ResolveError> {
        let mut fellows = HashMap::new();
        let Some(db) = self.inputs.packages else { return Ok(fellows) };
        for owner in db.owners(program)? {
            for member in packages::family(db, owner) {
                for file in db.files(member)? {
                    let above = file.path.parent();
                    let is_here = directories.iter().any(|(_, real)| above.as_ref() == Some(real));
                    // Another name of its own, such as `rbash`, is none that it starts.
                    if !is_here || self.program_at(&file.path.to_raw())?.is_none_or(|real| real == *program) {
                        continue;
                    }
                    fellows.insert(file.path.file_name().to_vec(), file.path.clone());
                }
            }
        }
        Ok(fellows)
    }

    /// Returns where the program is to which `path` leads, if it leads to one that everybody may run.
    fn program_at(&self, path: &RawPath) -> Result<Option<RootPath>, ResolveError> {
        let is_program = |node: &Node| node.is_executable() && node.is_public();
        let end = chase(self.rootfs(), path)?.end.ok();
        Ok(end.filter(|(_, node)| is_program(node)).map(|(real, _)| real))
    }

    /// Lists the program `path`, which `by` may start, if it is there and not in the image.
    fn list_program(&mut self, path: &RawPath, by: &RootPath) -> Result<(), ResolveError> {
        if self.program_at(path)?.is_some_and(|real| self.closure.entry(&real).is_none()) {
            self.left_out.insert(LeftOut::Program { path: path.clone(), by: by.clone() });
        }
        Ok(())
    }
}

/// Returns what follows the last slash of `text`: all of it if it has none.
fn last_name(text: &[u8]) -> &[u8] {
    text.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
