//! The roots of the user -> the closure: programs where they are, or where the user's own ones land.

use std::collections::BTreeSet;

use super::Program;
use super::collect::{Collector, Depth};
use super::place::landing;
use super::problem::{Problem, ResolveError, library_of_service};
use crate::closure::{Cause, Demand};
use crate::explain::Choice;
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Kind, chase};
use crate::roots::{Keep, Origin, Root};

/// Where programs of the user land that lie somewhere by accident.
const OWN_PROGRAMS: &str = "/usr/local/bin/";

impl Collector<'_> {
    /// Takes all roots, and returns the programs among them.
    pub(super) fn take_roots(&mut self) -> Result<Vec<Program>, ResolveError> {
        let mut programs = Vec::new();
        // What is only a part of something may fail; not so if it is named as well.
        let is_part = |root: &&Root| matches!(root.keep, Keep::Member(_) | Keep::Moved { .. });
        let (parts, named): (Vec<&Root>, Vec<&Root>) = self.inputs.roots.iter().partition(is_part);
        for root in named.into_iter().chain(parts) {
            match &root.keep {
                Keep::Program { name, to } => {
                    programs.extend(self.take_root_program(root, name, to.as_ref())?)
                }
                Keep::Tree(tree) => self.take_tree(root, tree)?,
                Keep::Matching(glob) => self.take_matching(root, glob)?,
                Keep::File(path) => self.take_file(root, path)?,
                Keep::Script(path) => self.take_read_script(root, path)?,
                Keep::Member(path) => self.take_member(root, path)?,
                Keep::Moved { path, to } => self.take_moved(root, path, to)?,
                Keep::Login(login) => self.note_login(login)?,
            }
        }
        // A program that is called by a link reads what is named after the link.
        let called = self.inputs.roots.iter().filter_map(|root| match &root.keep {
            Keep::Program { name, .. } => name.as_bytes().rsplit(|byte| *byte == b'/').next(),
            _ => None,
        });
        let names = self.named.iter().map(RootPath::file_name).chain(called);
        let names: BTreeSet<&[u8]> = names.collect();
        self.names = names.into_iter().map(<[u8]>::to_vec).collect();
        self.home = self.home()?;
        Ok(programs)
    }

    fn take_root_program(
        &mut self,
        root: &Root,
        name: &RawPath,
        to: Option<&RawPath>,
    ) -> Result<Option<Program>, ResolveError> {
        let inputs = self.inputs;
        let Some(path) = self.resolver.program_path(name)? else {
            if let Some(problem) = self.relative_destination(root, name)? {
                self.problems.push(problem);
                return Ok(None);
            }
            self.problems.push(Problem::program_not_found(root.clone(), inputs.search, inputs.rootfs)?);
            return Ok(None);
        };
        let own = RawPath::from(OWN_PROGRAMS);
        let to = match to {
            Some(to) => Some(to),
            None if self.lies_by_accident(&path)? => Some(&own),
            None => None,
        };
        let object = match to {
            None => {
                let object = self.take_program(Demand::of_root(root, path.clone()), Depth(0))?;
                object.map(|object| (object, path))
            }
            Some(to) => self.take_program_to(root, &path, to)?,
        };
        Ok(object.map(|(object, path)| {
            self.root_objects.push(object.clone());
            Program { path, object }
        }))
    }

    /// Takes the script at `path`, which a shell reads whatever its mode and first line say.
    fn take_read_script(&mut self, root: &Root, path: &RawPath) -> Result<(), ResolveError> {
        self.take_member(root, path)?;
        if let Ok((real, node)) = chase(self.rootfs(), path)?.end
            && node.kind == Kind::File
            && self.resolver.object(&real, &node)?.is_err()
        {
            self.take_command_words(&real, &real)?;
        }
        Ok(())
    }

    /// Returns that the destination after the colon of `path` lacks its slash, if what is before the colon is there.
    pub(super) fn relative_destination(
        &self,
        root: &Root,
        path: &RawPath,
    ) -> Result<Option<Problem>, ResolveError> {
        let bytes = path.as_bytes();
        let Some(colon) = bytes.iter().rposition(|byte| *byte == b':') else { return Ok(None) };
        let (source, to) = (RawPath::new(&bytes[..colon]), &bytes[colon + 1..]);
        let name = source.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if name.is_empty() || to.is_empty() {
            return Ok(None);
        }
        let is_there = chase(self.rootfs(), &source)?.end.is_ok()
            || self.resolver.program_path(&RawPath::new(name))?.is_some();
        let problem = || Problem::RelativeDestination { root: root.clone(), to: RawPath::new(to) };
        Ok(is_there.then(problem))
    }

    /// Takes the program at `path` to `to`. Returns what runs, and where the program is in the image.
    fn take_program_to(
        &mut self,
        root: &Root,
        path: &RawPath,
        to: &RawPath,
    ) -> Result<Option<(std::rc::Rc<super::Object>, RawPath)>, ResolveError> {
        let (source, node) = match chase(self.rootfs(), path)?.end {
            Ok(found) => found,
            Err(absence) => {
                let demand = Demand::of_root(root, path.clone());
                self.miss(Problem::Absent { demand, absence });
                return Ok(None);
            }
        };
        if node.kind != Kind::File {
            self.problems.push(Problem::NotAProgram { path: source, what: "not a regular file" });
            return Ok(None);
        }
        let name = path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let Some(landed) = landing(self.rootfs(), to, name)? else {
            self.problems.push(Problem::NoPlace { path: to.clone() });
            return Ok(None);
        };
        let cause = Cause::Root(root.origin.clone());
        self.closure.take(self.rootfs(), Demand { path: landed.above, cause: cause.clone() })?;
        self.put_source(&source, &node, &landed.path, cause);
        self.named.insert(landed.path.clone());
        let object = self.take_executable(&source, &landed.path, Depth(0))?;
        Ok(object.map(|object| (object, landed.path.to_raw())))
    }

    /// Returns whether the program at `path` is one of the user's own, not one that was installed there.
    fn lies_by_accident(&self, path: &RawPath) -> Result<bool, ResolveError> {
        let own = &self.inputs.selection.own_directories;
        if own.is_empty() {
            return Ok(false);
        }
        let Some(real) = chase(self.rootfs(), path)?.target() else { return Ok(false) };
        let is_owned = match self.inputs.packages {
            Some(db) => !db.owners(&real)?.is_empty(),
            None => false,
        };
        let is_below = |directory: &RawPath| -> Result<bool, ResolveError> {
            let top: Option<RootPath> = chase(self.rootfs(), directory)?.target();
            let spelled = directory.join(b"");
            Ok(path.as_bytes().starts_with(spelled.as_bytes())
                || top.is_some_and(|top| !top.is_root() && real.is_within(&top)))
        };
        for directory in own.iter().filter(|_| !is_owned) {
            if is_below(directory)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the libraries of the name services that the user asks for, for every program.
    pub(super) fn take_name_services(&mut self) -> Result<(), ResolveError> {
        for name in &self.inputs.selection.nss {
            let library = library_of_service(name);
            let cause = Cause::Root(Origin::Choice(Choice::new("nss", name)));
            let mut is_there = false;
            for at in 0..self.linked.len() {
                // Where a plug-in is loaded, the program is the same, and is asked in its own place.
                if self.linked[at].circumstances.loads.is_empty() {
                    is_there |= self.take_library(&library, at, &cause)?;
                }
            }
            // A program without a loader may read nsswitch.conf by itself.
            let is_only_read = self.linked.is_empty() && self.is_service(name)?;
            if !is_there && !is_only_read {
                self.miss(Problem::UnknownService { name: name.clone(), there: self.services()?, by: cause });
            }
        }
        Ok(())
    }

    /// Returns the name services that have a library where loaders look.
    fn services(&self) -> Result<Vec<String>, ResolveError> {
        let mut found = BTreeSet::new();
        for directory in &self.lib_directories {
            let Ok((real, node)) = chase(self.rootfs(), &RawPath::new(directory.as_slice()))?.end else {
                continue;
            };
            if node.kind == Kind::Directory {
                let names = self.rootfs().read_dir(&real)?;
                let service = |name: &[u8]| {
                    let name = str::from_utf8(name).ok()?.strip_prefix("libnss_")?.strip_suffix(".so.2")?;
                    Some(name.to_owned())
                };
                found.extend(names.iter().filter_map(|name| service(name)));
            }
        }
        Ok(found.into_iter().collect())
    }
}
