//! What is in the closure + the catalogue of rules -> what those imply, round after round until nothing is new.

use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;

use fast_glob::glob_match;

use super::collect::{Collector, Depth};
use super::files::Implied;
use super::left_out::LeftOut;
use super::list::Loaded;
use super::object::Object;
use super::problem::{Problem, Remedy, ResolveError};
use super::{Circumstances, Linkage, Privilege};
use crate::closure::{Cause, Demand};
use crate::explain::Choice;
use crate::glob::{Glob, escaped};
use crate::path::{RawPath, RootPath, show};
use crate::rootfs::{Eyes, Kind, Node, chase, find};
use crate::roots::Origin;
use crate::rules::{Catalogue, Level, Pattern, Places, Reader, Rule, RuleError, Start, Strength, Triggers};
use crate::spec::{Selection, Suggested, With};

/// Which rules have done what already.
#[derive(Default)]
pub(super) struct Fired {
    /// Paths that the triggers have seen.
    paths: HashSet<RootPath>,
    /// Objects that the triggers have seen, and in how many programs.
    objects: HashSet<(RootPath, usize)>,
    /// Packages that the triggers have seen.
    packages: HashSet<String>,
    /// Rules whose patterns were looked up, with the directory of their trigger, and with the home of another user than
    /// the image's, where they count.
    files: HashSet<(String, [Option<Vec<u8>>; 2])>,
}

/// What triggered a rule.
struct Trigger {
    path: RootPath,
    /// The programs that load it, by their places in the list of what is linked.
    programs: Vec<usize>,
    /// What `{home}` is.
    home: Option<Vec<u8>>,
}

/// Returns the rules of `rules` that `selection` asks for, each as it does.
///
/// # Errors
/// All that is wrong with what it says of rules.
pub fn named_rules<'a>(
    rules: &'a Catalogue,
    selection: &'a Selection,
) -> Result<Vec<(&'a Rule, &'a With)>, Vec<RuleError>> {
    let mut errors: Vec<RuleError> =
        selection.without.iter().filter_map(|id| rules.check(id).err()).collect();
    let mut named = Vec::new();
    for with in &selection.with {
        let rule = rules.rule(&with.id);
        match rule.and_then(|rule| rule.check_value(with.value.as_deref()).map(|()| rule)) {
            Ok(_) if selection.is_without(&with.id) => {
                errors.push(RuleError::TakenAndLeft { id: with.id.clone() })
            }
            Ok(rule) => named.push((rule, with)),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(named) } else { Err(errors) }
}

impl Collector<'_> {
    /// Takes the rules that the user names.
    pub(super) fn take_named_rules(&mut self, fired: &mut Fired) -> Result<(), ResolveError> {
        let (rules, selection) = (self.inputs.rules, self.inputs.selection);
        let named = named_rules(rules, selection).map_err(|errors| ResolveError::Rules { errors })?;
        for (rule, with) in named {
            let before = self.closure.entries().len();
            self.take_rule_by_name(rule, with, fired)?;
            if self.closure.entries().len() == before && !self.has_something_of(rule, with)? {
                self.miss_named_rule(rule, with)?;
            }
        }
        Ok(())
    }

    fn take_rule_by_name(&mut self, rule: &Rule, with: &With, fired: &mut Fired) -> Result<(), ResolveError> {
        let cause = Cause::Root(Origin::Choice(Choice::new("with", with)));
        let programs: Vec<usize> = (0..self.linked.len()).collect();
        let places = Places { value: with.value.clone(), ..self.places(None) };
        // Whether that is enough is for whoever asked.
        self.take_files(rule, &places, &cause, &programs)?;
        for name in &rule.implies.programs {
            self.take_rule_program(rule, rule.strength, name, &cause)?;
        }
        for (key, value) in &rule.implies.env {
            let value = value.replace("{value}", with.value.as_deref().unwrap_or_default());
            self.env.entry(key.clone()).or_insert(value);
        }
        fired.files.insert((rule.id.clone(), [None, None]));
        Ok(())
    }

    /// Returns whether something of `rule` is in the closure for another reason.
    fn has_something_of(&self, rule: &Rule, with: &With) -> Result<bool, ResolveError> {
        let places = Places { value: with.value.clone(), ..self.places(None) };
        for pattern in &rule.implies.files {
            for glob in pattern.globs(&places)? {
                if self.closure.entries().any(|(path, _)| glob.matches(path)) {
                    return Ok(true);
                }
            }
        }
        Ok(!rule.implies.programs.is_empty())
    }

    /// Shows the rules what is new in the closure, once. Returns whether anything came of it.
    pub(super) fn fire_rules(&mut self, fired: &mut Fired) -> Result<(), ResolveError> {
        let inputs = self.inputs;
        let rules: Vec<(&Rule, Wanted)> = inputs
            .rules
            .rules()
            .iter()
            .filter(|rule| !rule.when.is_empty())
            .filter_map(|rule| Some((rule, wanted(rule, inputs.selection)?)))
            .collect();
        if rules.is_empty() {
            return Ok(());
        }
        for (object, programs) in self.new_objects(fired) {
            let imports: BTreeSet<Vec<u8>> = self.resolver.objects().imports(&object)?.into_iter().collect();
            let named: Vec<_> =
                rules.iter().filter(|(rule, _)| is_named(&rule.when, &object, &imports)).collect();
            let texts = named.iter().flat_map(|(rule, _)| &rule.when.strings).map(String::as_str).collect();
            let texts = self.resolver.objects().texts(&object, &texts)?;
            for (rule, wanted) in named {
                let strings = &rule.when.strings;
                if strings.is_empty() || strings.iter().any(|text| texts.contains(text.as_str())) {
                    let home = self.home.clone();
                    let trigger = Trigger { path: object.path.clone(), programs: programs.clone(), home };
                    self.fire(rule, *wanted, &trigger, fired)?;
                }
            }
        }
        for (path, user) in std::mem::take(&mut self.logins) {
            let home = user.map(|user| self.home_of(&show(&user))).transpose()?.flatten();
            let home = home.or(self.home.clone());
            for (rule, wanted) in &rules {
                if rule.when.starts == Some(Start::LoginShell) && self.closure.entry(&path).is_some() {
                    let trigger = Trigger { home: home.clone(), ..self.trigger(&path) };
                    self.fire(rule, *wanted, &trigger, fired)?;
                }
            }
        }
        let new: Vec<(RootPath, bool)> = self
            .closure
            .entries()
            .filter(|(path, _)| !fired.paths.contains(*path))
            .map(|(path, entry)| (path.clone(), entry.node.kind == Kind::Directory))
            .collect();
        for (path, is_directory) in new {
            for (rule, wanted) in &rules {
                let globs = if is_directory { &rule.when.directories } else { &rule.when.paths };
                if globs.iter().any(|glob| glob.matches(&path)) {
                    self.fire(rule, *wanted, &self.trigger(&path), fired)?;
                }
            }
            if !is_directory {
                self.fire_package_rules(&rules, &path, fired)?;
            }
            fired.paths.insert(path);
        }
        Ok(())
    }

    fn fire_package_rules(
        &mut self,
        rules: &[(&Rule, Wanted)],
        path: &RootPath,
        fired: &mut Fired,
    ) -> Result<(), ResolveError> {
        let Some(db) = self.inputs.packages else { return Ok(()) };
        if rules.iter().all(|(rule, _)| rule.when.packages.is_empty()) {
            return Ok(());
        }
        for id in db.owners(path)? {
            let name = &db.package(id).name;
            if !fired.packages.insert(name.clone()) {
                continue;
            }
            for (rule, wanted) in rules {
                if rule.when.packages.iter().any(|pattern| glob_match(pattern, name.as_bytes())) {
                    self.fire(rule, *wanted, &self.trigger(path), fired)?;
                }
            }
        }
        Ok(())
    }

    /// Returns the objects that the triggers have not seen, with the programs that map them.
    fn new_objects(&self, fired: &mut Fired) -> Vec<(Rc<Object>, Vec<usize>)> {
        let mut new: Vec<_> = self
            .members
            .values()
            .filter(|(object, programs)| {
                let first = programs.first().copied().unwrap_or_default();
                fired.objects.insert((object.path.clone(), first))
            })
            .cloned()
            .collect();
        new.sort_by(|(one, _), (other, _)| one.path.cmp(&other.path));
        new
    }

    /// Returns the programs that may load what lies at `path`: those that map it, else all that the user names.
    pub(super) fn programs_of(&self, path: &RootPath) -> Vec<usize> {
        if let Some((_, programs)) = self.members.get(path) {
            return programs.clone();
        }
        let roots = self.root_objects.iter().filter_map(|root| self.members.get(&root.path));
        let starting = roots.flat_map(|(object, programs)| {
            programs.iter().filter(|at| self.linked[**at].object.path == object.path)
        });
        let starting: BTreeSet<usize> = starting.copied().collect();
        starting.into_iter().collect()
    }

    fn trigger(&self, path: &RootPath) -> Trigger {
        Trigger { path: path.clone(), programs: self.programs_of(path), home: self.home.clone() }
    }

    fn fire(
        &mut self,
        rule: &Rule,
        wanted: Wanted,
        trigger: &Trigger,
        fired: &mut Fired,
    ) -> Result<(), ResolveError> {
        if wanted == Wanted::Mentioned {
            if !fired.files.insert((rule.id.clone(), [None, None])) {
                return Ok(());
            }
            let files = self.would_bring(rule, trigger)?;
            if !files.is_empty() {
                let (id, why, by) = (rule.id.clone(), rule.why.clone(), trigger.path.clone());
                self.left_out.insert(LeftOut::Rule { id, why, by, files });
            }
            return Ok(());
        }
        let by = trigger.path.clone();
        let cause = Cause::Rule { by: by.clone(), rule: rule.id.clone(), why: rule.why.clone() };
        // What is only a suggestion stops nothing, except where the user names it; that is seen to already.
        let strength = if rule.level == Level::On { rule.strength } else { Strength::IfThere };
        let places = self.places_of(trigger);
        let files = &rule.implies.files;
        let own = places.own.clone().filter(|_| files.iter().any(Pattern::has_own));
        let home = places.home.clone().filter(|_| files.iter().any(Pattern::is_of_home));
        let home = home.filter(|home| Some(home) != self.home.as_ref());
        if fired.files.insert((rule.id.clone(), [own, home])) {
            let found = self.take_files(rule, &places, &cause, &trigger.programs)?;
            if strength == Strength::Required && found.is_empty() && !rule.implies.files.is_empty() {
                self.miss_rule(rule, &cause);
            }
            if rule.implies.reader == Some(Reader::Shell) {
                self.take_words_of_files(&found)?;
            }
            for name in &rule.implies.programs {
                self.take_rule_program(rule, strength, name, &cause)?;
            }
            for directory in &rule.implies.directories {
                let (path, mode) = (directory.path.as_bytes(), directory.mode);
                self.make_directory(path, mode, &directory.owner, &directory.owner, cause.clone())?;
            }
            for (key, value) in &rule.implies.env {
                self.env.entry(key.clone()).or_insert_with(|| value.clone());
            }
            for user in &rule.implies.users {
                let names = match user.as_str() {
                    "{name}" => places.names.to_vec(),
                    "{named}" => self.users_named_by(&by)?,
                    name => vec![name.as_bytes().to_vec()],
                };
                self.users.extend(names.into_iter().map(|name| (name, Some(by.clone()))));
            }
        }
        if rule.implies.fellows {
            self.take_fellows(&by, &cause)?;
        }
        for name in &rule.implies.dlopen {
            for program in &trigger.programs {
                let is_there = self.take_library(name, *program, &cause)?;
                if !is_there && strength == Strength::Required {
                    let (what, by) = (name.clone(), cause.clone());
                    self.miss(Problem::NothingMatches { what, by });
                }
            }
        }
        if rule.implies.reader == Some(Reader::User) {
            let is_file = self.rootfs().lookup(&by)?.is_some_and(|node| node.kind == Kind::File);
            if is_file {
                self.read_users(&by, &by)?;
            }
        }
        Ok(())
    }

    /// Takes the files of `rule` that the source has, and returns what is there, taken or not. Those of the user's home that
    /// not everybody may read are no loss.
    fn take_files(
        &mut self,
        rule: &Rule,
        places: &Places,
        cause: &Cause,
        programs: &[usize],
    ) -> Result<Vec<RawPath>, ResolveError> {
        let mut there = Vec::new();
        for pattern in &rule.implies.files {
            for glob in pattern.globs(places)? {
                let found = find(self.rootfs(), &glob, Eyes::Everybody)?;
                for path in found.closed {
                    let what = "not everybody may list it".to_owned();
                    self.left_out.insert(match pattern.is_of_home() {
                        true => LeftOut::Private { path, what },
                        false => LeftOut::Sensitive { path, what },
                    });
                }
                for path in found.paths.iter().filter(|path| !is_for_linkers(path)) {
                    if pattern.is_of_home()
                        && let Ok((real, node)) = chase(self.rootfs(), path)?.end
                        && let Some(what) = self.objection(&real, &node)?
                    {
                        self.left_out.insert(LeftOut::Private { path: real, what });
                    } else {
                        self.take_implied_or_script(path, cause, programs)?;
                    }
                }
                there.extend(found.paths);
            }
        }
        Ok(there)
    }

    /// Takes the programs that those of `files` run that were taken, which a shell reads, as far as they are there.
    fn take_words_of_files(&mut self, files: &[RawPath]) -> Result<(), ResolveError> {
        for path in files {
            if let Ok((real, Node { kind: Kind::File, .. })) = chase(self.rootfs(), path)?.end
                && self.closure.entry(&real).is_some()
            {
                let words = self.started_by(&real)?.programs;
                self.take_words(words, &real)?;
            }
        }
        Ok(())
    }

    /// Notes that the source has nothing of what `rule` must bring because of `cause`.
    fn miss_rule(&mut self, rule: &Rule, cause: &Cause) {
        let remedy = rule.install.clone().map(Remedy::Install);
        let (id, cause) = (rule.id.clone(), cause.clone());
        let problem = Problem::RuleWithoutFiles { id, remedy, there: Vec::new(), cause };
        if !self.problems.iter().any(|known| known.to_string() == problem.to_string()) {
            self.problems.push(problem);
        }
    }

    /// Notes that the source has nothing of what the user asks for by name: what there is instead, and how it is made.
    fn miss_named_rule(&mut self, rule: &Rule, with: &With) -> Result<(), ResolveError> {
        let mut there = BTreeSet::new();
        for directory in rule.implies.files.iter().filter_map(Pattern::values) {
            if let Ok((real, Node { kind: Kind::Directory, .. })) = chase(self.rootfs(), &directory)?.end {
                there.extend(self.rootfs().read_dir(&real)?.iter().map(|name| show(name)));
            }
        }
        let is_installed =
            |package: &String| self.inputs.packages.is_some_and(|db| !db.named(package).is_empty());
        let value = with.value.as_deref().unwrap_or_default();
        let remedy = match (&rule.install, &rule.make) {
            (install, Some(make)) if install.as_ref().is_none_or(is_installed) => {
                Some(Remedy::Make(make.replace("{value}", value)))
            }
            (Some(package), _) => Some(Remedy::Install(package.clone())),
            (None, _) => None,
        };
        let cause = Cause::Root(Origin::Choice(Choice::new("with", with)));
        let (id, there) = (rule.id.clone(), there.into_iter().collect());
        self.problems.push(Problem::RuleWithoutFiles { id, remedy, there, cause });
        Ok(())
    }

    fn take_rule_program(
        &mut self,
        rule: &Rule,
        strength: Strength,
        name: &str,
        cause: &Cause,
    ) -> Result<(), ResolveError> {
        let name = RawPath::from(name);
        let path = self.resolver.program_path_inside(&name)?;
        let found = match &path {
            Some(path) => chase(self.rootfs(), path)?.end.is_ok(),
            None => false,
        };
        match path.filter(|_| found) {
            Some(path) => {
                self.take_program(Demand { path, cause: cause.clone() }, Depth(1))?;
            }
            None if strength == Strength::Required => self.miss_rule(rule, cause),
            None => {}
        }
        Ok(())
    }

    /// Takes the library that the program at `at` gets when it calls dlopen with `name`, and returns whether it gets
    /// one.
    pub(super) fn take_library(
        &mut self,
        name: &str,
        at: usize,
        cause: &Cause,
    ) -> Result<bool, ResolveError> {
        // Where a plug-in is loaded, the program is the same, and has been asked.
        let Some(linked) = self.linked.get(at).filter(|linked| linked.circumstances.loads.is_empty()) else {
            return Ok(true);
        };
        let is_called = |loaded: &Loaded| loaded.object.elf.soname.as_deref() == Some(name.as_bytes());
        if linked.list.objects.iter().any(is_called) {
            return Ok(true);
        }
        let (program, path) = (linked.object.clone(), linked.path.clone());
        let circumstances = Circumstances {
            privilege: Privilege::Plain,
            hwcaps: linked.circumstances.hwcaps.clone(),
            loads: vec![RawPath::from(name)],
        };
        let linkage = match self.resolver.linkage(&program, &circumstances) {
            Ok(linkage) => linkage,
            Err(ResolveError::Incomplete { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let Linkage::Dynamic { interp, config, list } = linkage else { return Ok(false) };
        let edge = list.edges.iter().find(|edge| edge.soname == name.as_bytes());
        let Some(found) = edge.map(|edge| list.objects[edge.to].name.clone()) else { return Ok(false) };
        self.closure.take(self.rootfs(), Demand { path: found, cause: cause.clone() })?;
        self.take_list(&program, &path, circumstances, (&interp, config), list)?;
        Ok(true)
    }

    /// Returns the patterns of what `rule` would bring and is not in the closure.
    fn would_bring(&self, rule: &Rule, trigger: &Trigger) -> Result<Vec<Glob>, ResolveError> {
        let places = self.places_of(trigger);
        let mut files = Vec::new();
        for pattern in &rule.implies.files {
            for glob in pattern.globs(&places)? {
                for path in find(self.rootfs(), &glob, Eyes::Everybody)?.paths {
                    if self.is_new(&path)? {
                        files.push(glob);
                        break;
                    }
                }
            }
        }
        for name in &rule.implies.programs {
            if let Some(path) = self.resolver.program_path_inside(&RawPath::from(name.as_str()))?
                && self.is_new(&path)?
            {
                files.push(Glob::parse(escaped(path.as_bytes()))?);
            }
        }
        Ok(files)
    }

    /// Returns whether `path` leads to something that is not in the closure.
    fn is_new(&self, path: &RawPath) -> Result<bool, ResolveError> {
        let target = chase(self.rootfs(), path)?.target();
        Ok(target.is_some_and(|target| self.closure.entry(&target).is_none()))
    }

    fn places_of(&self, trigger: &Trigger) -> Places {
        Places { home: trigger.home.clone(), ..self.places(Some(&trigger.path)) }
    }

    fn places(&self, own: Option<&RootPath>) -> Places {
        // On merged /usr half of the names lead to the other half.
        let mut real: Vec<RootPath> = Vec::new();
        let mut lib = Vec::new();
        for directory in &self.lib_directories {
            let target = chase(self.rootfs(), &RawPath::new(directory.as_slice()));
            if let Some(target) = target.ok().and_then(|chased| chased.target())
                && !real.contains(&target)
            {
                lib.push(target.as_bytes().to_vec());
                real.push(target);
            }
        }
        let own = own.and_then(RootPath::parent).map(|directory| directory.as_bytes().to_vec());
        Places { lib, own, names: self.names.clone(), home: self.home.clone(), value: None }
    }

    /// Takes what is at `path` because of `cause`, or puts it off if it is a script.
    pub(super) fn take_implied_or_script(
        &mut self,
        path: &RawPath,
        cause: &Cause,
        programs: &[usize],
    ) -> Result<(), ResolveError> {
        if !self.puts_off(path, cause)? {
            let _: Implied = self.take_implied(path, cause.clone(), programs)?;
        }
        Ok(())
    }
}

/// What becomes of a rule that is triggered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Taken,
    Mentioned,
}

/// Returns what becomes of `rule` when it is triggered; `None` if nothing does.
fn wanted(rule: &Rule, selection: &Selection) -> Option<Wanted> {
    if selection.is_without(&rule.id) {
        return None;
    }
    let is_named = selection.with.iter().any(|with| with.id == rule.id);
    match (rule.level, selection.suggested) {
        _ if is_named => Some(Wanted::Taken),
        (Level::On, _) | (Level::Suggest, Suggested::Take) => Some(Wanted::Taken),
        (Level::Suggest, Suggested::List) => Some(Wanted::Mentioned),
        (Level::Off, _) => None,
    }
}

/// Returns whether `when` names `object`, which imports `imports`; its strings are another matter.
fn is_named(when: &Triggers, object: &Object, imports: &BTreeSet<Vec<u8>>) -> bool {
    let names = [object.elf.soname.as_deref(), Some(object.path.file_name())];
    let is_called = |pattern: &String| names.iter().flatten().any(|name| glob_match(pattern, name));
    when.sonames.iter().any(is_called)
        || when.imports.iter().any(|symbol| imports.contains(symbol.as_bytes()))
}

/// Returns whether only linkers read the file at `path`: a rule for a whole directory means what programs read.
fn is_for_linkers(path: &RawPath) -> bool {
    let path = path.as_bytes();
    path.ends_with(b".a") || path.ends_with(b".la")
}
