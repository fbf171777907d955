//! Programs -> a closure with everything they need in it, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::data::Waiting;
use super::left_out::LeftOut;
use super::list::{Asking, FoundBy, Loaded, ObjectList};
use super::loader::Abi;
use super::object::Object;
use super::place::Placement;
use super::problem::{Problem, ResolveError};
use super::resolver::Resolver;
use super::{Circumstances, Hint, Inputs, Linkage, LoaderConfig, Privilege, scripts, versions};
use crate::closure::{Cause, Closure, Content, Demand, Met};
use crate::formats::elf::ElfError;
use crate::formats::shell::{self, Login, Started};
use crate::formats::{directives, read_all, read_head};
use crate::packages::RunTimeFiles;
use crate::path::{RawPath, RootPath, show};
use crate::rootfs::{Kind, Node, Rootfs, RootfsError, chase};
use crate::spec::Hwcaps;

/// Takes programs with everything they need into a closure, and remembers what is wrong.
pub(super) struct Collector<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) resolver: &'a Resolver<'a>,
    pub(super) closure: Closure,
    pub(super) linked: Vec<Linked>,
    /// The ELF objects that are mapped, each with the programs that map it, by their places in `linked`.
    pub(super) members: HashMap<RootPath, (Rc<Object>, Vec<usize>)>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    pub(super) hints: Vec<Hint>,
    pub(super) left_out: BTreeSet<LeftOut>,
    /// The programs that the user names, and the interpreters of scripts that the user names: their ELF files.
    pub(super) root_objects: Vec<Rc<Object>>,
    /// Variables of the environment that rules give.
    pub(super) env: BTreeMap<String, String>,
    /// The default directories of the loaders, in the order in which they were met.
    pub(super) lib_directories: Vec<Vec<u8>>,
    /// The users that somebody names, with the path that does.
    pub(super) users: Vec<(Vec<u8>, Option<RootPath>)>,
    /// Entries whose owner and mode are as somebody asked, whatever the source has.
    pub(super) settled: HashSet<RootPath>,
    /// Entries that the user names.
    pub(super) named: HashSet<RootPath>,
    /// Their names, and those by which the user calls programs, once all roots are taken.
    pub(super) names: Rc<[Vec<u8>]>,
    /// Where the user of the image is at home, once all roots are taken.
    pub(super) home: Option<Vec<u8>>,
    /// Programs that are login shells, or start one, and that rules have not seen, with the users whose shells they are.
    pub(super) logins: BTreeSet<(RootPath, Option<Vec<u8>>)>,
    /// Scripts that wait for what runs them.
    pub(super) waiting: Vec<Waiting>,
    /// What counts as package data.
    pub(super) run_time_files: RunTimeFiles,
    done: HashSet<RootPath>,
}

/// What the loader does for one program in the source, which it must do in the image too.
pub(super) struct Linked {
    pub(super) object: Rc<Object>,
    /// Where the program is in the image.
    pub(super) path: RootPath,
    pub(super) circumstances: Circumstances,
    pub(super) loader: RootPath,
    pub(super) config: LoaderConfig,
    /// Everything that is mapped, the program too, and who asks for it.
    pub(super) list: ObjectList,
    /// Where in the image that is.
    pub(super) placement: Placement,
}

impl Linked {
    /// Returns where in the image the object at `index` of the list is.
    pub(super) fn path_of(&self, index: usize) -> &RootPath {
        self.placement.of(&self.list.objects[index].object.path)
    }
}

/// How deep a script is below the one that the user names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depth(pub(super) usize);

impl<'a> Collector<'a> {
    pub(super) fn new(inputs: &'a Inputs<'a>, resolver: &'a Resolver<'a>) -> Result<Self, ResolveError> {
        Ok(Self {
            inputs,
            resolver,
            closure: Closure::new(),
            linked: Vec::new(),
            members: HashMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
            hints: Vec::new(),
            left_out: BTreeSet::new(),
            root_objects: Vec::new(),
            env: BTreeMap::new(),
            lib_directories: Vec::new(),
            users: Vec::new(),
            settled: HashSet::new(),
            named: HashSet::new(),
            names: Rc::default(),
            home: None,
            logins: BTreeSet::new(),
            waiting: Vec::new(),
            run_time_files: RunTimeFiles::embedded()?,
            done: HashSet::new(),
        })
    }

    /// Returns how much there is: it is the same again when nothing was added.
    pub(super) fn size(&self) -> (usize, usize, usize) {
        (self.closure.entries().len(), self.linked.len(), self.waiting.len())
    }

    pub(super) fn rootfs(&self) -> &'a dyn Rootfs {
        self.resolver.rootfs()
    }

    /// Takes the program that `demand` asks for. Returns the ELF object that runs, or `None` after noting a problem.
    pub(super) fn take_program(
        &mut self,
        demand: Demand,
        depth: Depth,
    ) -> Result<Option<Rc<Object>>, ResolveError> {
        let real = match self.closure.take(self.rootfs(), demand.clone())? {
            Met::At(real) => real,
            Met::Absent(absence) => {
                self.miss(Problem::Absent { demand, absence });
                return Ok(None);
            }
        };
        if depth == Depth(0) {
            self.named.insert(real.clone());
        }
        self.take_executable(&real, &real.clone(), depth)
    }

    /// Takes what the program at `source` needs, which is at `to` in the image, and in the closure already.
    pub(super) fn take_executable(
        &mut self,
        source: &RootPath,
        to: &RootPath,
        depth: Depth,
    ) -> Result<Option<Rc<Object>>, ResolveError> {
        let Some(node) = self.rootfs().lookup(source)? else { return Ok(None) };
        if node.kind != Kind::File {
            self.problems.push(Problem::NotAProgram { path: source.clone(), what: "not a regular file" });
            return Ok(None);
        }
        if node.mode & 0o111 == 0 {
            self.problems.push(Problem::NotExecutable { path: source.clone(), mode: node.mode });
            return Ok(None);
        }
        match self.resolver.object(source, &node)? {
            Ok(object) => self.take_elf(&object, to),
            Err(error) => self.take_script(source, to, error, depth),
        }
    }

    fn take_elf(&mut self, object: &Rc<Object>, to: &RootPath) -> Result<Option<Rc<Object>>, ResolveError> {
        let elf = &object.elf;
        if elf.interp.is_none() && elf.is_dynamic && !elf.is_static() {
            let what = "a shared library, which names no loader";
            self.problems.push(Problem::NotAProgram { path: object.path.clone(), what });
            return Ok(None);
        }
        if !self.done.insert(to.clone()) {
            return Ok(Some(object.clone()));
        }
        let privileges: &[Privilege] = match self.is_privileged(object, to)? {
            true => &[Privilege::Plain, Privilege::Secure],
            false => &[Privilege::Plain],
        };
        for hwcaps in self.cpus(object) {
            for privilege in privileges {
                let circumstances =
                    Circumstances { privilege: *privilege, hwcaps: hwcaps.clone(), loads: Vec::new() };
                self.take_linkage(object, to, circumstances)?;
            }
        }
        Ok(Some(object.clone()))
    }

    /// Returns the CPUs that libraries are chosen for, by their levels.
    pub(super) fn cpus(&self, object: &Object) -> Vec<Vec<Vec<u8>>> {
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
        to: &RootPath,
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
        self.take_list(object, to, circumstances, (&interp, config), list)?;
        self.note_problems(object, privilege, problems);
        Ok(())
    }

    /// Takes everything in `list`, which the loader maps for `object`, and remembers it for the check of the image.
    pub(super) fn take_list(
        &mut self,
        object: &Rc<Object>,
        to: &RootPath,
        circumstances: Circumstances,
        (interp, config): (&RawPath, LoaderConfig),
        list: ObjectList,
    ) -> Result<(), ResolveError> {
        let mut placement = Placement::of_program(&object.path, to);
        let loader = self.take_objects(to, &circumstances, (interp, &config), &list, &mut placement)?;
        let at = self.linked.len();
        for Loaded { object, .. } in &list.objects {
            let known = self.members.entry(object.path.clone());
            let (_, programs) = known.or_insert_with(|| (object.clone(), Vec::new()));
            if programs.last() != Some(&at) {
                programs.push(at);
            }
        }
        self.linked.push(Linked {
            object: object.clone(),
            path: to.clone(),
            circumstances,
            loader,
            config,
            list: list.into_essence(),
            placement,
        });
        Ok(())
    }

    /// Takes everything that is mapped for the program at `to`, and returns where its loader really is.
    fn take_objects(
        &mut self,
        to: &RootPath,
        circumstances: &Circumstances,
        (interp, config): (&RawPath, &LoaderConfig),
        list: &ObjectList,
        placement: &mut Placement,
    ) -> Result<RootPath, ResolveError> {
        let rootfs = self.rootfs();
        let demand = Demand { path: interp.clone(), cause: Cause::Interp { by: to.clone() } };
        let loader = match self.closure.take(rootfs, demand)? {
            Met::At(loader) => loader,
            Met::Absent(_) => {
                let (by, interp) = (to.clone(), interp.clone());
                return Err(ResolveError::Incomplete {
                    problems: vec![Problem::InterpMissing { by, interp }],
                });
            }
        };
        if let Some(loaded) = list.objects.iter().find(|loaded| loaded.found_by == FoundBy::Interpreter) {
            for directory in self.resolver.default_directories(interp, &loaded.object)? {
                if !self.lib_directories.contains(&directory) {
                    self.lib_directories.push(directory);
                }
            }
        }
        let is_own = !placement.is_empty();
        for edge in &list.edges {
            if edge.asking == Asking::Dlopen
                && circumstances.loads.iter().any(|name| name.as_bytes() == edge.soname)
            {
                // It was taken by whoever knows that it is loaded.
                continue;
            }
            let by = placement.of(&list.objects[edge.by].object.path).clone();
            let soname = edge.soname.clone();
            let cause = match edge.asking {
                Asking::Dlopen => Cause::DlopenNote { by, soname },
                Asking::Need(_) | Asking::Preload | Asking::Audit => Cause::Needed { by, soname },
            };
            let found = &list.objects[edge.to];
            if let Some(landed) = placement.follow(rootfs, list, edge.by, edge.to)? {
                self.put_source(&found.object.path, &found.object.node, &landed, cause);
                continue;
            }
            if is_own && matches!(found.found_by, FoundBy::Runpath | FoundBy::Rpath(_)) {
                let name = &found.name;
                self.warn(format!("`{to}` looks for `{name}` by an absolute run path, so it keeps its path"));
            }
            let path = edge.alias.as_ref().unwrap_or(&found.name).clone();
            self.closure.take(rootfs, Demand { path, cause: cause.clone() })?;
            // musl answers the names of the C library itself, but people and tools look for the link all the same.
            if matches!(config, LoaderConfig::Musl { .. }) && found.found_by == FoundBy::Interpreter {
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

    /// Puts the file `source`, which is `node`, at another path of the image.
    pub(super) fn put_source(&mut self, source: &RootPath, node: &Node, to: &RootPath, cause: Cause) {
        self.closure.put(to, node.clone(), Content::Source(source.clone()), cause);
    }

    fn note_problems(&mut self, object: &Object, privilege: Privilege, problems: Vec<Problem>) {
        match privilege {
            Privilege::Plain => problems.into_iter().for_each(|problem| self.miss(problem)),
            // Started by root, as containers mostly are, a set-id program is not privileged at all.
            Privilege::Secure => {
                for problem in problems {
                    let path = &object.path;
                    self.warn(format!("`{path}` does not start with raised privileges: {problem}"));
                }
            }
        }
    }

    /// Warns of packages of which nobody knows what belongs to them.
    pub(super) fn warn_of_unlisted(&mut self) {
        let Some(db) = self.inputs.packages else { return };
        let unlisted = db.unlisted();
        if unlisted.is_empty() {
            return;
        }
        let named = unlisted.iter().take(3).map(|id| format!("`{}`", db.package(*id).name));
        let mut named = named.collect::<Vec<_>>().join(", ");
        if unlisted.len() > 3 {
            named.push_str(&format!(" and {} more", unlisted.len() - 3));
        }
        self.warn(format!(
            "the source does not say which files belong to some of its packages, which so have no package data: {named}"
        ));
    }

    /// Notes `problem`, unless what is missing may be missing.
    pub(super) fn miss(&mut self, problem: Problem) {
        let allowed = &self.inputs.selection.allow_missing;
        match problem.missing().filter(|(name, _)| allowed.contains(name)) {
            Some((name, by)) => {
                self.left_out.insert(LeftOut::Missing { name, by });
            }
            None => self.problems.push(problem),
        }
    }

    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn take_script(
        &mut self,
        path: &RootPath,
        to: &RootPath,
        error: Rc<ElfError>,
        depth: Depth,
    ) -> Result<Option<Rc<Object>>, ResolveError> {
        if !matches!(*error, ElfError::NotElf) {
            self.problems.push(Problem::BrokenElf { path: path.clone(), error });
            return Ok(None);
        }
        if depth.0 >= scripts::DEPTH_MAX {
            let what = "a script whose interpreters are scripts, deeper than the kernel follows";
            self.problems.push(Problem::NotAProgram { path: path.clone(), what });
            return Ok(None);
        }
        let script = match depth {
            Depth(0) => self.resolver.script(path)?,
            _ => self.resolver.script_inside(path)?,
        };
        let script = match script {
            Ok(script) => script,
            Err(problem) => {
                self.problems.push(problem);
                return Ok(None);
            }
        };
        let cause = Cause::Shebang { by: to.clone() };
        let below = Depth(depth.0 + 1);
        let mut object = self.take_program(Demand { path: script.interp, cause: cause.clone() }, below)?;
        if let Some(command) = script.command {
            self.warn_of_shim(path, &command)?;
            object = self.take_program(Demand { path: command, cause }, below)?;
        }
        // What a script runs counts for the scripts that the user names; what those run is their own business.
        if depth == Depth(0) && script.is_shell && object.is_some() {
            self.take_command_words(path, to)?;
        }
        Ok(object)
    }

    /// Warns if `command`, which `env` finds for the script `by`, is a script itself: version managers put such in front
    /// of the real interpreters, and they need the rest of the manager to work.
    fn warn_of_shim(&mut self, by: &RootPath, command: &RawPath) -> Result<(), RootfsError> {
        let Ok((real, node)) = chase(self.rootfs(), command)?.end else { return Ok(()) };
        if node.kind != Kind::File || self.resolver.object(&real, &node)?.is_ok() {
            return Ok(());
        }
        self.warn(format!(
            "the first line of `{by}` leads to `{command}`, which is a script too: if it only chooses among versions, \
             put the directory of the real interpreter first in PATH"
        ));
        Ok(())
    }

    /// Returns the first line of the file at `path`, if it is a script.
    pub(super) fn shebang(&self, path: &RootPath) -> Result<Option<scripts::Shebang>, ResolveError> {
        let file = self.rootfs().open(path)?;
        scripts::shebang(&*file).map_err(|source| self.read_error(path, source))
    }

    /// Notes the users whom the configuration file at `path` names, for `by`.
    pub(super) fn read_users(&mut self, path: &RootPath, by: &RootPath) -> Result<(), ResolveError> {
        let file = self.rootfs().open(path)?;
        let text = read_all(&*file, directives::CONFIGURATION_MAX);
        match text.map_err(|source| self.read_error(path, source))? {
            Some(text) => {
                let named = directives::users(&text).into_iter();
                self.users.extend(named.map(|name| (name, Some(by.clone()))));
            }
            None => self.warn(format!("`{path}` is too large to be read for the users that it names")),
        }
        Ok(())
    }

    fn read_error(&self, path: &RootPath, source: std::io::Error) -> ResolveError {
        RootfsError::read("read", path, self.rootfs().name(), source).into()
    }

    /// Takes the programs that the root script `path` runs by name, as far as they can be read from it.
    pub(super) fn take_command_words(&mut self, path: &RootPath, to: &RootPath) -> Result<(), ResolveError> {
        let started = self.started_by(path)?;
        for (name, why) in self.take_words(started.programs, to)? {
            self.warn(format!("the script `{path}` runs `{name}`: {why}"));
        }
        started.logins.iter().try_for_each(|login| self.note_login(login))
    }

    /// Returns what the script `path` starts.
    pub(super) fn started_by(&mut self, path: &RootPath) -> Result<Started, ResolveError> {
        let file = self.rootfs().open(path)?;
        let text = read_head(&*file, shell::SCRIPT_MAX).map_err(|source| self.read_error(path, source))?;
        if file.size() > shell::SCRIPT_MAX {
            self.warn(format!("only the first MiB of the script `{path}` was searched for programs it runs"));
        }
        Ok(shell::started_by(&text))
    }

    /// Takes the programs that the script `by` runs by these `words`. Returns those that are not there, or are no programs,
    /// with that: how a script is read here is a guess, which stops nothing.
    pub(super) fn take_words(
        &mut self,
        words: Vec<Vec<u8>>,
        by: &RootPath,
    ) -> Result<Vec<(RawPath, &'static str)>, ResolveError> {
        let mut absent = Vec::new();
        for word in words {
            let name = RawPath::new(word.as_slice());
            match self.resolver.program_path(&name)? {
                Some(program) if !chase(self.rootfs(), &program)?.is_executable() => {
                    absent.push((name, "no executable file"));
                }
                Some(program) => {
                    let cause = Cause::CommandWord { by: by.clone(), word };
                    // A depth of one: the words of a script that is run by a script are not followed.
                    self.take_program(Demand { path: program, cause }, Depth(1))?;
                }
                None => absent.push((name, "not found")),
            }
        }
        Ok(absent)
    }

    /// Notes the program that is a login shell, or starts one, for the rules.
    pub(super) fn note_login(&mut self, login: &Login) -> Result<(), ResolveError> {
        if let Some(path) = self.resolver.program_path(&RawPath::new(login.program.as_slice()))? {
            let target = chase(self.rootfs(), &path)?.target();
            self.logins.extend(target.map(|target| (target, login.user.clone())));
        }
        Ok(())
    }
}
