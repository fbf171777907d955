//! The root programs' packages -> their run-time files; and scripts, which wait until it is known what runs them.

use std::collections::{BTreeSet, HashSet};

use super::collect::{Collector, Depth};
use super::files::Implied;
use super::left_out::LeftOut;
use super::problem::ResolveError;
use super::scripts;
use crate::closure::Cause;
use crate::packages::{self, PackageId};
use crate::path::{RawPath, RootPath};
use crate::rootfs::chase;
use crate::spec::PackageData;

/// How the names of modules end, in languages whose interpreters programs have built in.
const MODULE_SUFFIXES: [&[u8]; 6] = [b".lua", b".pl", b".pm", b".py", b".rb", b".tcl"];

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

/// Returns the language of a library that has an interpreter in it: `python` for `libpython3.11.so.1.0`.
fn embedded_language(name: &[u8]) -> Option<&[u8]> {
    let stem = name.strip_prefix(b"lib")?;
    let end = memchr::memmem::find(stem, b".so")?;
    Some(language(stem.get(..end)?)).map(|stem| stem.strip_suffix(b"-").unwrap_or(stem))
}

/// Returns whether `path` is that of a module, which programs import as well: scripts that are only run rarely tell
/// their language.
fn is_module_name(path: &[u8]) -> bool {
    let suffix = path.iter().rposition(|byte| *byte == b'.');
    suffix.and_then(|at| path.get(at..)).is_some_and(|suffix| MODULE_SUFFIXES.contains(&suffix))
}

impl Collector<'_> {
    /// Takes the run-time files of the packages of the root programs, and of their families.
    pub(super) fn take_package_data(&mut self, data: &mut Data) -> Result<(), ResolveError> {
        let selection = self.inputs.selection;
        let Some(db) = self.inputs.packages else { return Ok(()) };
        if selection.package_data == PackageData::Leave || selection.is_without("package-data") {
            return Ok(());
        }
        let mut programs = Vec::new();
        for path in &self.named {
            if self.is_program(path)? {
                programs.push(path.clone());
            }
        }
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

    /// Returns whether `path` leads to something to start. Some libraries can be started too, and say by which name
    /// programs need them: they are there for those.
    fn is_program(&self, path: &RootPath) -> Result<bool, ResolveError> {
        let end = chase(self.rootfs(), &path.to_raw())?.end.ok();
        let Some((real, node)) = end.filter(|(_, node)| node.is_executable()) else { return Ok(false) };
        Ok(self.resolver.object(&real, &node)?.map_or(true, |object| object.elf.soname.is_none()))
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
            self.read_users(&service, by)?;
        }
        Ok(())
    }

    /// Returns whether `path` is a program that something else interprets, and notes it for later.
    pub(super) fn puts_off(&mut self, path: &RawPath, cause: &Cause) -> Result<bool, ResolveError> {
        let Ok((real, node)) = chase(self.rootfs(), path)?.end else { return Ok(false) };
        let is_program = node.is_executable() && node.is_public();
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
        let interpreters: HashSet<Vec<u8>> =
            programs.map(|(path, _)| language(path.file_name()).to_vec()).collect();
        let libraries = self.closure.entries().filter_map(|(path, _)| embedded_language(path.file_name()));
        let embedded: HashSet<Vec<u8>> = libraries.map(<[u8]>::to_vec).collect();
        for script in std::mem::take(&mut self.waiting) {
            let Waiting { path, cause, interp } = &script;
            let is_plain_shell = matches!(interp.as_slice(), b"/bin/sh" | b"/usr/bin/sh");
            let runs = match self.resolver.program_path_inside(&RawPath::new(interp.as_slice()))? {
                Some(found) => chase(self.rootfs(), &found)?.target(),
                None => None,
            };
            let is_there = runs.as_ref().is_some_and(|real| self.closure.entry(real).is_some());
            let is_run = is_there || is_plain_shell && runs.is_some();
            let language = language(interp);
            // Modules often name an interpreter that only their authors have; and who has the interpreter built in
            // imports them without it.
            let is_module = runs.is_none() && interpreters.contains(language)
                || embedded.contains(language) && is_module_name(path.as_bytes());
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

    /// Lists the scripts that nobody can run, and strikes off the list the programs that came in after all.
    pub(super) fn leave_waiting(&mut self) -> Result<(), ResolveError> {
        for Waiting { path, interp, .. } in std::mem::take(&mut self.waiting) {
            self.left_out.insert(LeftOut::Script { path, interp });
        }
        let mut taken = Vec::new();
        for left in &self.left_out {
            if let LeftOut::Program { path, .. } = left
                && let Some(real) = chase(self.rootfs(), path)?.target()
                && self.closure.entry(&real).is_some()
            {
                taken.push(left.clone());
            }
        }
        for left in taken {
            self.left_out.remove(&left);
        }
        Ok(())
    }
}
