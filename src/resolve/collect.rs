//! Programs -> a closure with everything they need in it, and what is wrong with them.

use std::collections::HashSet;
use std::rc::Rc;

use super::list::{Asking, Edge, FoundBy, ObjectList};
use super::loader::Abi;
use super::object::Object;
use super::problem::{Problem, ResolveError};
use super::resolver::Resolver;
use super::{Circumstances, Hint, Linkage, LoaderConfig, Privilege, scripts, versions};
use crate::closure::{Cause, Closure, Demand, Met};
use crate::formats::elf::ElfError;
use crate::formats::{read_head, shell};
use crate::path::{RawPath, RootPath, show};
use crate::rootfs::{Kind, RootfsError, chase};
use crate::spec::Hwcaps;

/// Takes programs with everything they need into a closure, and remembers what is wrong.
pub(super) struct Collector<'a> {
    resolver: &'a Resolver<'a>,
    pub(super) closure: Closure,
    pub(super) linked: Vec<Linked>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    pub(super) hints: Vec<Hint>,
    done: HashSet<RootPath>,
}

/// What the loader does for one program in the source, which it must do in the image too.
pub(super) struct Linked {
    pub(super) object: Rc<Object>,
    pub(super) circumstances: Circumstances,
    pub(super) loader: RootPath,
    pub(super) config: LoaderConfig,
    pub(super) answers: Vec<Answer>,
}

/// One request of an object, and the file that answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) by: RootPath,
    pub(super) soname: Vec<u8>,
    pub(super) name: RawPath,
    pub(super) real: RootPath,
    pub(super) found_by: FoundBy,
}

impl Answer {
    /// Returns the answers in `list`.
    pub(super) fn all(list: &ObjectList) -> Vec<Self> {
        let answer = |edge: &Edge| {
            let to = &list.objects[edge.to];
            Self {
                by: list.objects[edge.by].object.path.clone(),
                soname: edge.soname.clone(),
                name: to.name.clone(),
                real: to.object.path.clone(),
                found_by: to.found_by.clone(),
            }
        };
        list.edges.iter().map(answer).collect()
    }
}

impl<'a> Collector<'a> {
    pub(super) fn new(resolver: &'a Resolver<'a>) -> Self {
        Self {
            resolver,
            closure: Closure::new(),
            linked: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            hints: Vec::new(),
            done: HashSet::new(),
        }
    }

    /// Takes the program that `demand` asks for. Returns the ELF object that runs, or `None` after noting a problem.
    pub(super) fn take_program(
        &mut self,
        demand: Demand,
        depth: usize,
    ) -> Result<Option<Rc<Object>>, ResolveError> {
        let rootfs = self.resolver.rootfs();
        let real = match self.closure.take(rootfs, demand.clone())? {
            Met::At(real) => real,
            Met::Absent(absence) => {
                self.problems.push(Problem::Absent { demand, absence });
                return Ok(None);
            }
        };
        let Some(node) = rootfs.lookup(&real)? else { return Ok(None) };
        if node.kind != Kind::File {
            self.problems.push(Problem::NotAProgram { path: real, what: "not a regular file" });
            return Ok(None);
        }
        if node.mode & 0o111 == 0 {
            self.problems.push(Problem::NotExecutable { path: real, mode: node.mode });
            return Ok(None);
        }
        match self.resolver.object(&real, &node)? {
            Ok(object) => self.take_elf(&object),
            Err(error) => self.take_script(real, error, depth),
        }
    }

    fn take_elf(&mut self, object: &Rc<Object>) -> Result<Option<Rc<Object>>, ResolveError> {
        let elf = &object.elf;
        if elf.interp.is_none() && elf.is_dynamic && !elf.is_static() {
            let what = "a shared library, which names no loader";
            self.problems.push(Problem::NotAProgram { path: object.path.clone(), what });
            return Ok(None);
        }
        if !self.done.insert(object.path.clone()) {
            return Ok(Some(object.clone()));
        }
        let privileges: &[Privilege] = match object.node.is_privileged() {
            true => &[Privilege::Plain, Privilege::Secure],
            false => &[Privilege::Plain],
        };
        for hwcaps in self.cpus(object) {
            for privilege in privileges {
                self.take_linkage(object, Circumstances { privilege: *privilege, hwcaps: hwcaps.clone() })?;
            }
        }
        Ok(Some(object.clone()))
    }

    /// Returns the CPUs that libraries are chosen for, by their levels.
    fn cpus(&self, object: &Object) -> Vec<Vec<Vec<u8>>> {
        match &self.resolver.search().hwcaps {
            Hwcaps::Levels(levels) => vec![levels.clone()],
            Hwcaps::All => {
                let levels = Abi::of(&object.elf).hwcaps();
                let best_first = |at: usize| levels[at..].iter().map(|level| level.to_vec()).collect();
                (0..=levels.len()).rev().map(best_first).collect()
            }
        }
    }

    fn take_linkage(
        &mut self,
        object: &Rc<Object>,
        circumstances: Circumstances,
    ) -> Result<(), ResolveError> {
        let privilege = circumstances.privilege;
        let (interp, config, list) = match self.resolver.linkage(object, &circumstances) {
            Ok(Linkage::Static) => return Ok(()),
            Ok(Linkage::Dynamic { interp, config, list }) => (interp, config, list),
            Err(ResolveError::Incomplete { problems }) => {
                self.note_problems(object, privilege, problems);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let loader = self.take_objects(object, &interp, &config, &list)?;
        for unmet in &list.unmet {
            let by = &list.objects[unmet.by].object.path;
            let names: Vec<_> =
                unmet.request.alternatives.iter().map(|name| format!("`{}`", show(name))).collect();
            let (names, feature) = (names.join(" or "), &unmet.request.feature);
            self.warn(format!("`{by}` may load {names} for {feature}: not found"));
        }
        for warning in &list.warnings {
            self.warn(format!("`{}`: {warning}", object.path));
        }
        for hint in &list.hints {
            let by = list.objects[hint.by].object.path.clone();
            let hint = Hint { by, soname: hint.soname.clone(), path: hint.path.clone() };
            if !self.hints.contains(&hint) {
                self.hints.push(hint);
            }
        }
        let missing = list.missing.iter().map(|missing| Problem::LibraryMissing {
            program: object.path.clone(),
            by: list.objects[missing.by].object.path.clone(),
            missing: missing.clone(),
        });
        let mut problems: Vec<_> = missing.collect();
        if matches!(config, LoaderConfig::Glibc { .. }) {
            problems.extend(versions::missing(self.resolver.objects(), &object.path, &list)?);
        }
        self.note_problems(object, privilege, problems);
        let (object, answers) = (object.clone(), Answer::all(&list));
        self.linked.push(Linked { object, circumstances, loader, config, answers });
        Ok(())
    }

    /// Takes everything that is mapped for `object`, and returns where its loader really is.
    fn take_objects(
        &mut self,
        object: &Object,
        interp: &RawPath,
        config: &LoaderConfig,
        list: &ObjectList,
    ) -> Result<RootPath, ResolveError> {
        let rootfs = self.resolver.rootfs();
        let by = object.path.clone();
        let demand = Demand { path: interp.clone(), cause: Cause::Interp { by } };
        let loader = match self.closure.take(rootfs, demand)? {
            Met::At(loader) => loader,
            Met::Absent(_) => {
                let (by, interp) = (object.path.clone(), interp.clone());
                return Err(ResolveError::Incomplete {
                    problems: vec![Problem::InterpMissing { by, interp }],
                });
            }
        };
        for edge in &list.edges {
            let by = list.objects[edge.by].object.path.clone();
            let soname = edge.soname.clone();
            let cause = match edge.asking {
                Asking::Dlopen => Cause::DlopenNote { by, soname },
                Asking::Need(_) | Asking::Preload | Asking::Audit => Cause::Needed { by, soname },
            };
            let to = &list.objects[edge.to];
            let path = edge.alias.as_ref().unwrap_or(&to.name).clone();
            self.closure.take(rootfs, Demand { path, cause: cause.clone() })?;
            // musl answers the names of the C library itself, but people and tools look for the link all the same.
            if matches!(config, LoaderConfig::Musl { .. }) && to.found_by == FoundBy::Interpreter {
                let beside = interp.parent().map(|directory| directory.join(&edge.soname));
                if let Some(path) = beside.filter(|_| !edge.soname.contains(&b'/')) {
                    self.closure.take(rootfs, Demand { path, cause })?;
                }
            }
        }
        if let LoaderConfig::Musl { path_file: Some(path) } = config {
            let cause = Cause::LoaderConfig { by: loader.clone() };
            self.closure.take(rootfs, Demand { path: path.clone(), cause })?;
        }
        Ok(loader)
    }

    fn note_problems(&mut self, object: &Object, privilege: Privilege, problems: Vec<Problem>) {
        match privilege {
            Privilege::Plain => self.problems.extend(problems),
            // Started by root, as containers mostly are, a set-id program is not privileged at all.
            Privilege::Secure => {
                for problem in problems {
                    let path = &object.path;
                    self.warn(format!("`{path}` does not start with raised privileges: {problem}"));
                }
            }
        }
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn take_script(
        &mut self,
        path: RootPath,
        error: Rc<ElfError>,
        depth: usize,
    ) -> Result<Option<Rc<Object>>, ResolveError> {
        if !matches!(*error, ElfError::NotElf) {
            self.problems.push(Problem::BrokenElf { path, error });
            return Ok(None);
        }
        if depth >= scripts::DEPTH_MAX {
            let what = "a script whose interpreters are scripts, deeper than the kernel follows";
            self.problems.push(Problem::NotAProgram { path, what });
            return Ok(None);
        }
        let script = match self.resolver.script(&path)? {
            Ok(script) => script,
            Err(problem) => {
                self.problems.push(problem);
                return Ok(None);
            }
        };
        let cause = Cause::Shebang { by: path.clone() };
        let mut object =
            self.take_program(Demand { path: script.interp, cause: cause.clone() }, depth + 1)?;
        if let Some(command) = script.command {
            self.warn_of_shim(&path, &command)?;
            object = self.take_program(Demand { path: command, cause }, depth + 1)?;
        }
        // What a script runs counts for the scripts that the user names; what those run is their own business.
        if depth == 0 && script.is_shell && object.is_some() {
            self.take_command_words(&path)?;
        }
        Ok(object)
    }

    /// Warns if `command`, which `env` finds for the script `by`, is a script itself: version managers put such in front
    /// of the real interpreters, and they need the rest of the manager to work.
    fn warn_of_shim(&mut self, by: &RootPath, command: &RawPath) -> Result<(), RootfsError> {
        let rootfs = self.resolver.rootfs();
        let Ok((real, node)) = chase(rootfs, command)?.end else { return Ok(()) };
        if node.kind != Kind::File || self.resolver.object(&real, &node)?.is_ok() {
            return Ok(());
        }
        self.warn(format!(
            "the first line of `{by}` leads to `{command}`, which is a script too: if it only chooses among versions, \
             put the directory of the real interpreter first in PATH"
        ));
        Ok(())
    }

    /// Takes the programs that the root script `path` runs by name, as far as they can be read from it.
    fn take_command_words(&mut self, path: &RootPath) -> Result<(), ResolveError> {
        let rootfs = self.resolver.rootfs();
        let file = rootfs.open(path)?;
        let text = read_head(&*file, shell::SCRIPT_MAX)
            .map_err(|source| RootfsError::read("read", path, rootfs.name(), source))?;
        if file.size() > shell::SCRIPT_MAX {
            self.warn(format!("only the first MiB of the script `{path}` was searched for programs it runs"));
        }
        for word in shell::command_words(&text) {
            let name = RawPath::new(word.as_slice());
            match self.resolver.program_path(&name)? {
                Some(program) => {
                    let cause = Cause::CommandWord { by: path.clone(), word };
                    // A depth of one: the words of a script that is run by a script are not followed.
                    self.take_program(Demand { path: program, cause }, 1)?;
                }
                None => self.warn(format!("the script `{path}` runs `{name}`: not found")),
            }
        }
        Ok(())
    }
}
