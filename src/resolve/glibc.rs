//! Program -> objects, as glibc's loader finds them (elf/dl-load.c, dl-deps.c, rtld.c; ld.so(8)).

use std::collections::HashMap;
use std::rc::Rc;

use super::list::{
    Answered, Asking, Edge, Fatal, FoundBy, Hint, Loaded, Missing, ObjectList, Obstacle, Request, Unmet,
    Warning,
};
use super::loader::{Abi, EM_ARM, GlibcConf};
use super::object::{Object, Objects};
use super::tokens::{Token, expand, has_token};
use super::{Privilege, Start};
use crate::formats::dlopen_note::Priority;
use crate::formats::elf::{ByteOrder, Class, DF_1_NODEFLIB, DF_1_PIE, Elf, ElfError, Ident, NeedKind};
use crate::formats::ldso_cache::LdsoCache;
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Absence, FileId, Kind, RootfsError};
use crate::spec::{Hints, Search};

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
/// How many objects one process may have (FORMATS.md 5.2).
const OBJECTS_MAX: usize = 20_000;
/// The program's place in the list.
const PROGRAM: usize = 0;

/// What one loader reads of its root filesystem before it looks for anything.
pub(super) struct Glibc {
    pub(super) conf: GlibcConf,
    pub(super) cache: Option<LdsoCache>,
    /// Names in the file of preloads.
    pub(super) preloads: Vec<Vec<u8>>,
}

/// A directory list with the rule that it belongs to.
type Directories = Vec<Vec<u8>>;

/// What is known of an object besides what the caller is told.
struct Map {
    origin: Vec<u8>,
    rpath: Directories,
    runpath: Directories,
}

/// One look at a candidate.
enum Candidate {
    Found(Rc<Object>),
    /// The search goes on.
    Next,
    /// The list of directories ends here; the search goes on with the next rule.
    EndOfList,
    Fatal(Obstacle),
}

/// One search along a list of directories.
enum Searched {
    Found(RawPath, Rc<Object>),
    Nothing,
    Fatal(RawPath, Obstacle),
}

/// Why a list could not be made.
pub(super) enum ListError {
    Fatal(Fatal),
    Rootfs(RootfsError),
}

impl From<RootfsError> for ListError {
    fn from(error: RootfsError) -> Self {
        Self::Rootfs(error)
    }
}

/// The objects whose needs are still to be looked at, each once.
struct Queue {
    order: Vec<usize>,
    next: usize,
    has: Vec<bool>,
}

impl Queue {
    /// Returns a queue of the program; its loader is mapped already.
    fn new() -> Self {
        Self { order: vec![PROGRAM], next: 0, has: vec![true] }
    }

    /// Adds an object, and returns whether it is new.
    fn add(&mut self, index: usize) -> bool {
        if self.has.len() <= index {
            self.has.resize(index + 1, false);
        }
        let is_new = !std::mem::replace(&mut self.has[index], true);
        if is_new {
            self.order.push(index);
        }
        is_new
    }

    fn next(&mut self) -> Option<usize> {
        let index = self.order.get(self.next).copied()?;
        self.next += 1;
        Some(index)
    }
}

struct Process<'a> {
    objects: &'a Objects<'a>,
    loader: &'a Glibc,
    search: &'a Search,
    privilege: Privilege,
    hwcaps: &'a [Vec<u8>],
    abi: Abi,
    library_path: Directories,
    subdirectories: Vec<Vec<u8>>,
    maps: Vec<Map>,
    list: ObjectList,
    by_name: HashMap<Vec<u8>, usize>,
    by_file: HashMap<FileId, usize>,
}

/// Returns the objects that the loader of `start` would map for its program.
pub(super) fn list(
    objects: &Objects<'_>,
    start: &Start<'_>,
    loader: &Glibc,
    search: &Search,
) -> Result<ObjectList, ListError> {
    let Start { program, privilege, .. } = *start;
    let abi = Abi::of(&program.elf);
    let mut subdirectories: Vec<Vec<u8>> = Vec::new();
    if loader.conf.has_hwcaps {
        let hwcaps = start.hwcaps.iter();
        subdirectories.extend(hwcaps.map(|name| [b"glibc-hwcaps/", name.as_slice(), b"/"].concat()));
    }
    if loader.conf.has_legacy_hwcaps {
        subdirectories.extend(abi.legacy_hwcaps().iter().map(|name| name.to_vec()));
    }
    subdirectories.push(Vec::new());
    let mut process = Process {
        objects,
        loader,
        search,
        privilege,
        hwcaps: start.hwcaps,
        abi,
        library_path: Vec::new(),
        subdirectories,
        maps: Vec::new(),
        list: ObjectList::default(),
        by_name: HashMap::new(),
        by_file: HashMap::new(),
    };
    process.start(start);
    process.run(start.requests)?;
    if search.hints == Hints::Find {
        process.find_hints()?;
    }
    Ok(process.list)
}

impl Process<'_> {
    /// Enters the program and its loader.
    fn start(&mut self, start: &Start<'_>) {
        let Start { program, interp, loader, .. } = *start;
        let origin = program.path.parent().unwrap_or_else(|| program.path.clone());
        self.enter(
            Loaded {
                name: RawPath::new(""),
                object: program.clone(),
                asker: None,
                asked_as: Vec::new(),
                found_by: FoundBy::Program,
            },
            origin.as_bytes().to_vec(),
        );
        self.enter(
            Loaded {
                name: interp.clone(),
                object: loader.clone(),
                asker: None,
                asked_as: interp.as_bytes().to_vec(),
                found_by: FoundBy::Interpreter,
            },
            directory_of(interp),
        );
        if let (Some(path), Privilege::Plain) = (&self.search.library_path, self.privilege) {
            let elements = path.split(|byte| *byte == b':' || *byte == b';');
            let elements = elements.map(|element| self.search.in_workdir(element)).collect();
            self.library_path = self.directories(PROGRAM, elements);
        }
    }

    fn enter(&mut self, loaded: Loaded, origin: Vec<u8>) -> usize {
        let index = self.list.objects.len();
        let elf = &loaded.object.elf;
        if index != PROGRAM {
            // The program takes no part in the comparison of files.
            self.by_file.entry(loaded.object.node.id).or_insert(index);
            self.by_name.entry(loaded.name.as_bytes().to_vec()).or_insert(index);
            self.by_name.entry(loaded.asked_as.clone()).or_insert(index);
        }
        if let Some(soname) = &elf.soname {
            self.by_name.entry(soname.clone()).or_insert(index);
        }
        let (rpath, runpath) = (elf.rpath.clone(), elf.runpath.clone());
        self.list.objects.push(loaded);
        self.maps.push(Map { origin, rpath: Vec::new(), runpath: Vec::new() });
        let split = |path: Vec<u8>| path.split(|byte| *byte == b':').map(<[u8]>::to_vec).collect::<Vec<_>>();
        // An object with a runpath has no rpath, as far as the loader cares.
        match (runpath, rpath) {
            (Some(runpath), _) if !runpath.is_empty() => {
                self.maps[index].runpath = self.directories(index, split(runpath));
            }
            (None, Some(rpath)) if !rpath.is_empty() => {
                self.maps[index].rpath = self.directories(index, split(rpath));
            }
            _ => {}
        }
        index
    }

    /// Maps everything: preloads, then needs breadth first, then what the objects declare to load at run time.
    fn run(&mut self, requests: &dyn Fn(&Object) -> Vec<Request>) -> Result<(), ListError> {
        let mut queue = Queue::new();
        self.preload(&mut queue)?;
        let mut asked = 0;
        loop {
            while let Some(by) = queue.next() {
                self.answer_needs(by, &mut queue)?;
            }
            let Some(loaded) = self.list.objects.get(asked) else { return Ok(()) };
            let object = loaded.object.clone();
            if asked == PROGRAM {
                for request in self.audits(&object) {
                    self.answer_request(asked, Asking::Audit, request, &mut queue)?;
                }
            }
            for request in requests(&object) {
                self.answer_request(asked, Asking::Dlopen, request, &mut queue)?;
            }
            asked += 1;
        }
    }

    /// Returns the auditors that the program names. The loader gives them a namespace of their own (since 2.32), but
    /// looks for their libraries in the same places.
    fn audits(&self, program: &Object) -> Vec<Request> {
        if self.loader.conf.version.is_some_and(|version| version < (2, 32)) {
            return Vec::new();
        }
        let names = program.elf.audit.iter().flat_map(|list| list.split(|byte| *byte == b':'));
        let request = |name: &[u8]| Request {
            alternatives: vec![name.to_vec()],
            priority: Priority::Recommended,
            feature: "auditing".to_owned(),
        };
        names.filter(|name| !name.is_empty()).map(request).collect()
    }

    fn preload(&mut self, queue: &mut Queue) -> Result<(), ListError> {
        for name in self.preload_names() {
            match self.map(PROGRAM, &name, Asking::Preload) {
                Ok(Some(Answered { to, alias })) => {
                    if queue.add(to) {
                        let (by, asking) = (PROGRAM, Asking::Preload);
                        self.list.edges.push(Edge { by, asking, soname: name, to, alias });
                    }
                }
                Ok(None) => self.ignore_preload(name, None),
                Err(ListError::Fatal(fatal)) => self.ignore_preload(name, Some(fatal.obstacle)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn answer_needs(&mut self, by: usize, queue: &mut Queue) -> Result<(), ListError> {
        let object = self.list.objects[by].object.clone();
        for need in &object.elf.needs {
            let Some(name) = self.expand_need(by, &need.name, need.kind)? else { continue };
            let asking = Asking::Need(need.kind);
            let to = match self.map(by, &name, asking) {
                Err(ListError::Fatal(_)) if need.kind == NeedKind::Auxiliary => continue,
                mapped => mapped?,
            };
            match to {
                Some(Answered { to, alias }) => {
                    self.list.edges.push(Edge { by, asking, soname: name, to, alias });
                    queue.add(to);
                }
                None if need.kind == NeedKind::Auxiliary => {}
                None => self.miss(by, name, need.kind),
            }
        }
        Ok(())
    }

    fn answer_request(
        &mut self,
        by: usize,
        asking: Asking,
        request: Request,
        queue: &mut Queue,
    ) -> Result<(), ListError> {
        for name in &request.alternatives {
            match self.map(by, name, asking) {
                Ok(Some(Answered { to, alias })) => {
                    self.list.edges.push(Edge { by, asking, soname: name.clone(), to, alias });
                    queue.add(to);
                    return Ok(());
                }
                // A dlopen that fails is an answer to the program, not its end.
                Ok(None) | Err(ListError::Fatal(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.list.unmet.push(Unmet { by, request });
        Ok(())
    }

    fn preload_names(&self) -> Vec<Vec<u8>> {
        let list = self.search.preload.iter().flat_map(|text| text.split(|byte| b" :".contains(byte)));
        let list = list.filter(|name| !name.is_empty());
        // In secure mode a path is no longer an answer.
        let allowed = list.filter(|name| self.privilege == Privilege::Plain || !name.contains(&b'/'));
        allowed.map(<[u8]>::to_vec).chain(self.loader.preloads.iter().cloned()).collect()
    }

    fn ignore_preload(&mut self, name: Vec<u8>, obstacle: Option<Obstacle>) {
        self.list.warnings.push(Warning::PreloadIgnored { name, obstacle });
    }

    fn miss(&mut self, by: usize, soname: Vec<u8>, kind: NeedKind) {
        if self.list.missing.iter().any(|missing| missing.soname == soname) {
            return;
        }
        let searched = self.rules(by, &soname);
        self.list.missing.push(Missing { by, soname, kind, searched });
    }

    /// Returns the name that `by` asks for, with its tokens replaced; `None` if the request then does not count.
    fn expand_need(&self, by: usize, name: &[u8], kind: NeedKind) -> Result<Option<Vec<u8>>, ListError> {
        let fatal = |obstacle| {
            let path = self.list.objects[by].object.path.to_raw();
            ListError::Fatal(Fatal { path, obstacle, by, soname: name.to_vec() })
        };
        if self.privilege == Privilege::Secure && has_token(name) {
            return Err(fatal(Obstacle::TokenOfPrivileged));
        }
        match self.expand(by, name) {
            None if kind == NeedKind::Needed => Err(fatal(Obstacle::TokenWithoutValue)),
            expanded => Ok(expanded),
        }
    }

    /// Replaces the tokens in `text` of object `of`.
    fn expand(&self, of: usize, text: &[u8]) -> Option<Vec<u8>> {
        let is_secure = self.privilege == Privilege::Secure;
        let expanded = expand(text, |token, place| match token {
            Token::Origin if is_secure && !place.is_leading_component => None,
            Token::Origin => Some(self.maps[of].origin.clone()),
            Token::Lib => Some(self.loader.conf.lib.clone()),
            Token::Platform => self.abi.platform().map(<[u8]>::to_vec),
        })?;
        let has_origin = text.windows(6).any(|window| window == b"ORIGIN") && has_token(text);
        if is_secure && of == PROGRAM && has_origin {
            // A privileged program may name its origin only where the loader looks anyway.
            let mut normal = normalized(&expanded);
            normal.push(b'/');
            return self.is_default(&normal).then_some(expanded);
        }
        Some(expanded)
    }

    fn is_default(&self, path: &[u8]) -> bool {
        self.loader.conf.directories.iter().any(|directory| path.starts_with(directory))
    }

    /// Returns the directories that `elements` of object `of` stand for, each with a slash at its end; the working
    /// directory is empty.
    fn directories(&mut self, of: usize, elements: Vec<Vec<u8>>) -> Directories {
        let mut directories: Directories = Vec::new();
        for element in elements {
            let Some(mut directory) = self.expand(of, &element) else { continue };
            if directory.is_empty() && !element.is_empty() {
                continue;
            }
            if element.windows(8).any(|window| window == b"PLATFORM") && has_token(&element) {
                let of = self.list.objects[of].name.clone();
                self.list.warnings.push(Warning::CpuDependent { of, element: element.clone() });
            }
            if directory.first() != Some(&b'/') {
                let of = self.list.objects[of].name.clone();
                self.list.warnings.push(Warning::RelativeSearchPath { of, element });
            }
            if !directory.is_empty() {
                while directory.last() == Some(&b'/') {
                    directory.pop();
                }
                directory.push(b'/');
            }
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        directories
    }

    /// Returns the lists of directories in which `by` has the loader look for `name`, in order.
    fn rules(&self, by: usize, name: &[u8]) -> Vec<(FoundBy, Directories)> {
        if name.contains(&b'/') {
            return vec![(FoundBy::Path, vec![name.to_vec()])];
        }
        let asker = &self.list.objects[by].object.elf;
        let mut rules = Vec::new();
        if asker.runpath.is_none() {
            let mut at = Some(by);
            let mut has_met_program = false;
            while let Some(index) = at {
                if !self.maps[index].rpath.is_empty() {
                    let of = self.list.objects[index].name.clone();
                    rules.push((FoundBy::Rpath(of), self.maps[index].rpath.clone()));
                    has_met_program |= index == PROGRAM;
                }
                at = self.list.objects[index].asker;
            }
            if !has_met_program && !self.maps[PROGRAM].rpath.is_empty() {
                rules.push((FoundBy::Rpath(RawPath::new("")), self.maps[PROGRAM].rpath.clone()));
            }
        }
        if !self.library_path.is_empty() {
            rules.push((FoundBy::LibraryPath, self.library_path.clone()));
        }
        if !self.maps[by].runpath.is_empty() {
            rules.push((FoundBy::Runpath, self.maps[by].runpath.clone()));
        }
        if let Some(path) = self.cached(by, name) {
            rules.push((FoundBy::Cache, vec![path.to_vec()]));
        }
        if asker.flags_1 & DF_1_NODEFLIB == 0 {
            rules.push((FoundBy::Default, self.loader.conf.directories.clone()));
        }
        rules
    }

    /// Returns what the cache says of `name`, if `by` may use it.
    fn cached(&self, by: usize, name: &[u8]) -> Option<&[u8]> {
        let hwcaps: Vec<&[u8]> = self.hwcaps.iter().map(Vec::as_slice).collect();
        let path = self.loader.cache.as_ref()?.find(name, self.abi.cache_flags(), &hwcaps)?;
        let no_defaults = self.list.objects[by].object.elf.flags_1 & DF_1_NODEFLIB != 0;
        (!no_defaults || !self.is_default(path)).then_some(path)
    }

    /// Returns the object that answers `by`'s request for `name`, mapping it if it is not there yet; `None` if nothing
    /// is found.
    fn map(&mut self, by: usize, name: &[u8], asking: Asking) -> Result<Option<Answered>, ListError> {
        if let Some(index) = self.by_name.get(name) {
            return Ok(Some((*index).into()));
        }
        let Some((found_by, path, object)) = self.find(by, name, asking)? else { return Ok(None) };
        if let Some(index) = self.by_file.get(&object.node.id) {
            self.by_name.insert(name.to_vec(), *index);
            return Ok(Some(Answered { to: *index, alias: Some(path) }));
        }
        if let Some(obstacle) = self.refusal(&object.elf) {
            return Err(ListError::Fatal(Fatal { path, obstacle, by, soname: name.to_vec() }));
        }
        // The path as it was found, with its links: canonicalizing it here is a common mistake.
        let origin = directory_of(&path);
        let asker = Some(by);
        let loaded = Loaded { name: path, object, asker, asked_as: name.to_vec(), found_by };
        Ok(Some(self.enter(loaded, origin).into()))
    }

    /// Returns the file that `by`'s request for `name` leads to, whatever is mapped already.
    fn find(
        &self,
        by: usize,
        name: &[u8],
        asking: Asking,
    ) -> Result<Option<(FoundBy, RawPath, Rc<Object>)>, ListError> {
        let is_secure_preload = asking == Asking::Preload && self.privilege == Privilege::Secure;
        for (rule, directories) in self.rules(by, name) {
            // Preloads of a privileged program come from the default directories only.
            if is_secure_preload && rule == FoundBy::Cache {
                continue;
            }
            let searched = match rule {
                FoundBy::Path | FoundBy::Cache => self.try_paths(&directories)?,
                _ => self.search(&directories, name)?,
            };
            match searched {
                Searched::Found(path, object) => return Ok(Some((rule, path, object))),
                Searched::Nothing => {}
                Searched::Fatal(path, obstacle) => {
                    return Err(ListError::Fatal(Fatal { path, obstacle, by, soname: name.to_vec() }));
                }
            }
        }
        Ok(None)
    }

    /// Returns why the loader gives up at an object that it has found, if it does.
    fn refusal(&self, elf: &Elf) -> Option<Obstacle> {
        let knows_pie = self.loader.conf.version.is_none_or(|version| version >= (2, 30));
        if elf.e_type == ET_EXEC {
            Some(Obstacle::Executable)
        } else if !elf.is_dynamic {
            Some(Obstacle::NoDynamicSection)
        } else if elf.flags_1 & DF_1_PIE != 0 && knows_pie {
            Some(Obstacle::Pie)
        } else if self.list.objects.len() >= OBJECTS_MAX {
            Some(Obstacle::TooMany)
        } else {
            None
        }
    }

    /// Looks up the names that objects may pass to dlopen, without mapping anything.
    fn find_hints(&mut self) -> Result<(), RootfsError> {
        for by in 0..self.list.objects.len() {
            for soname in self.objects.soname_strings(&self.list.objects[by].object)? {
                if self.by_name.contains_key(&soname) {
                    continue;
                }
                match self.find(by, &soname, Asking::Dlopen) {
                    Ok(Some((_, path, _))) => self.list.hints.push(Hint { by, soname, path }),
                    Ok(None) | Err(ListError::Fatal(_)) => {}
                    Err(ListError::Rootfs(error)) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn search(&self, directories: &Directories, name: &[u8]) -> Result<Searched, RootfsError> {
        for directory in directories {
            for subdirectory in &self.subdirectories {
                let path = RawPath::new([directory.as_slice(), subdirectory, name].concat());
                match self.look_at(&path)? {
                    Candidate::Found(object) => return Ok(Searched::Found(path, object)),
                    Candidate::Next => {}
                    Candidate::EndOfList => {
                        let above = if directory.is_empty() { b"/" } else { directory.as_slice() };
                        if self.objects.end(&RawPath::new(above))?.is_ok() {
                            return Ok(Searched::Nothing);
                        }
                    }
                    Candidate::Fatal(obstacle) => return Ok(Searched::Fatal(path, obstacle)),
                }
            }
        }
        Ok(Searched::Nothing)
    }

    fn try_paths(&self, paths: &Directories) -> Result<Searched, RootfsError> {
        for path in paths {
            let path = RawPath::new(path.as_slice());
            match self.look_at(&path)? {
                Candidate::Found(object) => return Ok(Searched::Found(path, object)),
                Candidate::Next | Candidate::EndOfList => {}
                Candidate::Fatal(obstacle) => return Ok(Searched::Fatal(path, obstacle)),
            }
        }
        Ok(Searched::Nothing)
    }

    fn look_at(&self, path: &RawPath) -> Result<Candidate, RootfsError> {
        let end = self.objects.end(path)?;
        let (real, node) = match &*end {
            Ok(found) => found,
            Err(Absence::NotFound | Absence::NotADirectory | Absence::Denied) => return Ok(Candidate::Next),
            Err(Absence::TooManyLinks | Absence::NameTooLong) => return Ok(Candidate::EndOfList),
        };
        let fatal = |obstacle| Ok(Candidate::Fatal(obstacle));
        match node.kind {
            Kind::File => {}
            Kind::Directory => return fatal(Obstacle::Directory),
            Kind::Special(what) => return fatal(Obstacle::Special(what)),
            Kind::Link(_) => return Ok(Candidate::Next),
        }
        let object = match self.objects.at(real, node)? {
            Ok(object) => object,
            Err(error) => return self.broken(real, error),
        };
        let elf = &object.elf;
        if elf.class != self.abi.class {
            return Ok(Candidate::Next);
        }
        if self.loader.conf.looks_at_machine_first() && !self.abi.is_same_machine(elf) {
            return Ok(Candidate::Next);
        }
        if elf.byte_order != self.abi.byte_order {
            return fatal(Obstacle::ByteOrder);
        }
        if !is_abi_valid(self.abi.machine, elf.os_abi) {
            return fatal(Obstacle::OsAbi);
        }
        if self.abi.machine == EM_ARM && elf.byte_order == ByteOrder::Little && elf.e_flags >> 24 == 5 {
            let (own, other) = (self.abi.e_flags, elf.e_flags);
            if own & 0x400 != 0 && other & 0x200 != 0 || own & 0x200 != 0 && other & 0x400 != 0 {
                return fatal(Obstacle::FloatAbi);
            }
        }
        if !self.abi.accepts(elf) {
            return Ok(Candidate::Next);
        }
        if elf.e_type != ET_EXEC && elf.e_type != ET_DYN {
            return fatal(Obstacle::FileType);
        }
        Ok(Candidate::Found(object))
    }

    /// Decides on a file that does not parse. A loader looks at the class before it looks at the rest.
    fn broken(&self, real: &RootPath, error: Rc<ElfError>) -> Result<Candidate, RootfsError> {
        let mut head = [0; 64];
        let file = self.objects.rootfs().open(real)?;
        let count = file.read_at(0, &mut head).unwrap_or(0);
        let wanted = if self.abi.class == Class::Elf64 { 64 } else { 52 };
        let class = Ident::parse(&head[..count]).map(|ident| ident.class);
        let own = if self.abi.class == Class::Elf64 { 2 } else { 1 };
        Ok(match class {
            _ if count < wanted => Candidate::Fatal(Obstacle::TooShort),
            None => Candidate::Fatal(Obstacle::NotElf),
            Some(class) if class != own => Candidate::Next,
            Some(_) => Candidate::Fatal(Obstacle::Broken(error)),
        })
    }
}

fn is_abi_valid(machine: u16, os_abi: u8) -> bool {
    matches!(os_abi, 0 | 3) || machine == EM_ARM && os_abi == 64
}

/// Returns the directory part of `path` as it is spelled; a relative path counts from the top.
fn directory_of(path: &RawPath) -> Vec<u8> {
    let absolute = if path.is_absolute() { path.clone() } else { RawPath::new("/").join(path.as_bytes()) };
    absolute.parent().map_or_else(|| b"/".to_vec(), |parent| parent.as_bytes().to_vec())
}

/// Drops `.`, `..` and empty names from the text alone, as the loader does for this one check.
fn normalized(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    let mut normal = Vec::new();
    for name in names {
        normal.push(b'/');
        normal.extend(name);
    }
    normal
}
