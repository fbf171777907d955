//! The root programs' packages -> their run-time files; and scripts, which wait until it is known what runs them.

use std::collections::{BTreeSet, HashSet};

use super::collect::{Collector, Depth};
use super::files::Implied;
use super::left_out::LeftOut;
use super::problem::ResolveError;
use super::scripts;
use crate::closure::Cause;
use crate::formats::directives;
use crate::packages::{self, PackageId};
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Kind, chase};
use crate::spec::PackageData;

/// What was done for package data so far.
#[derive(Default)]
pub(super) struct Data {
    /// Packages whose files were taken.
    packages: BTreeSet<PackageId>,
    /// Root programs whose packages were looked up.
    programs: HashSet<RootPath>,
}

/// A script of package data or of a rule, which is taken if what runs it is there.
pub(super) struct Waiting {
    path: RawPath,
    cause: Cause,
    /// What runs it, as spelled.
    interp: Vec<u8>,
}

/// Returns the name of the interpreter `path` without its version: `python` for `/usr/bin/python3.11`.
fn language(path: &[u8]) -> &[u8] {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let end = name.iter().rposition(|byte| !byte.is_ascii_digit() && *byte != b'.');
    name.get(..end.map_or(0, |end| end + 1)).unwrap_or_default()
}

impl Collector<'_> {
    /// Takes the run-time files of the packages of the root programs, and of their families.
    pub(super) fn take_package_data(&mut self, data: &mut Data) -> Result<(), ResolveError> {
        let selection = self.inputs.selection;
        let Some(db) = self.inputs.packages else { return Ok(()) };
        if selection.package_data == PackageData::Leave || selection.is_without("package-data") {
            return Ok(());
        }
        let mut programs: Vec<RootPath> = self.named.iter().cloned().collect();
        programs.extend(self.root_objects.iter().map(|object| object.path.clone()));
        programs.sort();
        for program in programs {
            if !data.programs.insert(program.clone()) {
                continue;
            }
            for owner in db.owners(&program)? {
                for member in packages::family(db, owner) {
                    if data.packages.insert(member) {
                        self.take_files_of(member, &program)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn take_files_of(&mut self, package: PackageId, by: &RootPath) -> Result<(), ResolveError> {
        let Some(db) = self.inputs.packages else { return Ok(()) };
        let name = db.package(package).name.clone();
        let programs = self.programs_of(by);
        for file in self.run_time_files.of(db, self.rootfs(), package)? {
            let cause = Cause::PackageData { by: by.clone(), package: name.clone() };
            self.take_implied_or_script(&file.to_raw(), &cause, &programs)?;
        }
        for service in self.run_time_files.services_of(db, self.rootfs(), package)? {
            let text = self.text(&service, directives::CONFIGURATION_MAX)?.unwrap_or_default();
            self.users.extend(directives::users(&text).into_iter().map(|name| (name, Some(by.clone()))));
        }
        Ok(())
    }

    /// Returns whether `path` is a program that something else interprets, and notes it for later.
    pub(super) fn puts_off(&mut self, path: &RawPath, cause: &Cause) -> Result<bool, ResolveError> {
        let Ok((real, node)) = chase(self.rootfs(), path)?.end else { return Ok(false) };
        let is_program = node.kind == Kind::File && node.mode & 0o111 != 0 && node.is_public();
        if !is_program || self.closure.entry(&real).is_some() || self.resolver.object(&real, &node)?.is_ok() {
            return Ok(false);
        }
        let Some(shebang) = self.shebang(&real)? else { return Ok(false) };
        let interp = scripts::env_command(&shebang).unwrap_or(shebang.interp);
        self.waiting.push(Waiting { path: path.clone(), cause: cause.clone(), interp });
        Ok(true)
    }

    /// Takes the waiting scripts that a shell runs, or something that is in the closure.
    pub(super) fn take_waiting(&mut self) -> Result<(), ResolveError> {
        let mut waiting = Vec::new();
        let programs = self.closure.entries().filter(|(_, entry)| entry.node.mode & 0o111 != 0);
        let languages: HashSet<Vec<u8>> =
            programs.map(|(path, _)| language(path.file_name()).to_vec()).collect();
        for script in std::mem::take(&mut self.waiting) {
            let Waiting { path, cause, interp } = &script;
            let is_plain_shell = matches!(interp.as_slice(), b"/bin/sh" | b"/usr/bin/sh");
            let runs = match self.resolver.program_path(&RawPath::new(interp.as_slice()))? {
                Some(found) => chase(self.rootfs(), &found)?.target(),
                None => None,
            };
            let is_there = runs.as_ref().is_some_and(|real| self.closure.entry(real).is_some());
            let is_run = is_there || is_plain_shell && runs.is_some();
            // Modules often name an interpreter that only their authors have.
            let is_module = runs.is_none() && languages.contains(language(interp));
            if !is_run && !is_module {
                waiting.push(script);
                continue;
            }
            let (path, cause) = (path.clone(), cause.clone());
            if let Implied::Taken(real) = self.take_implied(&path, cause, &[])?
                && is_run
            {
                self.take_executable(&real, &real.clone(), Depth(1))?;
            }
        }
        self.waiting = waiting;
        Ok(())
    }

    /// Lists the scripts that nobody can run.
    pub(super) fn leave_waiting(&mut self) {
        for Waiting { path, interp, .. } in std::mem::take(&mut self.waiting) {
            self.left_out.insert(LeftOut::Script { path, interp });
        }
    }
}
