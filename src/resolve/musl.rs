//! Program -> objects, as musl's loader finds them (ldso/dynlink.c).

use std::collections::HashMap;
use std::rc::Rc;

use super::glibc::ListError;
use super::list::{
    Answered, Asking, Edge, FoundBy, Hint, Loaded, Missing, ObjectList, Request, Unmet, Warning,
};
use super::object::{Object, Objects};
use super::{Privilege, Start};
use crate::formats::elf::NeedKind;
use crate::path::RawPath;
use crate::rootfs::{Absence, FileId, Kind, RootfsError, chase};
use crate::spec::{Hints, Search};

/// Names that musl's loader answers itself, whatever follows: it is the C library.
const OWN_NAMES: [&[u8]; 7] =
    [b"libc.", b"libpthread.", b"librt.", b"libm.", b"libdl.", b"libutil.", b"libxnet."];
const DEFAULT_PATH: &[u8] = b"/lib:/usr/local/lib:/usr/lib";
/// The same as a list.
pub(super) const DEFAULT_DIRECTORIES: [&[u8]; 3] = [b"/lib", b"/usr/local/lib", b"/usr/lib"];
const PROGRAM: usize = 0;
const LOADER: usize = 1;
/// How many objects one process may have (FORMATS.md 5.2).
const OBJECTS_MAX: usize = 20_000;

/// What one musl loader reads of its root filesystem before it looks for anything.
pub(super) struct Musl {
    /// The search path that is used last.
    pub(super) path: Vec<u8>,
}

impl Musl {
    /// Returns where the loader `interp` looks for its path file, if its name says.
    pub(super) fn path_file(interp: &RawPath) -> Option<RawPath> {
        let text = interp.as_bytes();
        let marker = b"ld-musl-";
        let at = text.windows(marker.len()).rposition(|window| window == marker)? + marker.len();
        let rest = &text[at..];
        let end = rest.windows(3).position(|window| window == b".so")?;
        let prefix = match interp.parent().and_then(|directory| directory.parent()) {
            Some(prefix) if prefix.as_bytes() != b"/" => prefix,
            _ => RawPath::new(""),
        };
        let name = [prefix.as_bytes(), b"/etc/ld-musl-", &rest[..end], b".path"].concat();
        Some(RawPath::new(name))
    }

    /// Returns a loader whose path file says `path`; `None` if there is no such file.
    pub(super) fn new(path: Option<Vec<u8>>) -> Self {
        Self { path: path.unwrap_or_else(|| DEFAULT_PATH.to_vec()) }
    }
}

struct Process<'a> {
    objects: &'a Objects<'a>,
    loader: &'a Musl,
    search: &'a Search,
    privilege: Privilege,
    list: ObjectList,
    by_file: HashMap<FileId, usize>,
    /// Objects that a search found, by the last part of their path. Sonames do not count.
    by_short_name: HashMap<Vec<u8>, usize>,
}

enum Opened {
    At(RawPath, crate::path::RootPath, crate::rootfs::Node),
    Nothing,
    /// An error other than absence: the whole search ends.
    Stop,
}

/// Returns the objects that the loader of `start` would map for its program.
pub(super) fn list(
    objects: &Objects<'_>,
    start: &Start<'_>,
    loader: &Musl,
    search: &Search,
) -> Result<ObjectList, ListError> {
    let Start { program, interp, loader: loader_object, privilege, requests, .. } = *start;
    let entry = |name: RawPath, object: &Rc<Object>, asked_as: &[u8], found_by| Loaded {
        name,
        object: object.clone(),
        asker: None,
        asked_as: asked_as.to_vec(),
        found_by,
    };
    let mut process = Process {
        objects,
        loader,
        search,
        privilege,
        list: ObjectList {
            objects: vec![
                entry(RawPath::new(""), program, b"", FoundBy::Program),
                entry(interp.clone(), loader_object, interp.as_bytes(), FoundBy::Interpreter),
            ],
            ..ObjectList::default()
        },
        by_file: HashMap::from([(loader_object.node.id, LOADER)]),
        by_short_name: HashMap::new(),
    };
    process.run(requests)?;
    if search.hints == Hints::Find {
        process.find_hints()?;
    }
    Ok(process.list)
}

impl Process<'_> {
    /// Loads everything: preloads, then needs breadth first, then what the objects declare to load at run time.
    fn run(&mut self, requests: &dyn Fn(&Object) -> Vec<Request>) -> Result<(), ListError> {
        if let (Some(preload), Privilege::Plain) = (self.search.preload.clone(), self.privilege) {
            let names = preload.split(|byte| byte.is_ascii_whitespace() || *byte == b':');
            for name in names.filter(|name| !name.is_empty()) {
                match self.load(None, name)? {
                    Some(to) => self.edge(PROGRAM, Asking::Preload, name, to),
                    None => {
                        let ignored = Warning::PreloadIgnored { name: name.to_vec(), obstacle: None };
                        self.list.warnings.push(ignored);
                    }
                }
            }
        }
        let (mut by, mut asked) = (0, 0);
        loop {
            while by < self.list.objects.len() {
                self.answer_needs(by)?;
                by += 1;
            }
            let Some(loaded) = self.list.objects.get(asked) else { return Ok(()) };
            for request in requests(&loaded.object.clone()) {
                self.answer_request(asked, request)?;
            }
            asked += 1;
        }
    }

    fn answer_needs(&mut self, by: usize) -> Result<(), ListError> {
        // The loader's own needs, if it had any, are its own business.
        if by == LOADER {
            return Ok(());
        }
        let object = self.list.objects[by].object.clone();
        for need in object.elf.needs.iter().filter(|need| need.kind == NeedKind::Needed) {
            match self.load(Some(by), &need.name)? {
                Some(to) => self.edge(by, Asking::Need(need.kind), &need.name, to),
                None => self.miss(by, &need.name),
            }
        }
        Ok(())
    }

    fn answer_request(&mut self, by: usize, request: Request) -> Result<(), ListError> {
        for name in &request.alternatives {
            if let Some(to) = self.load(Some(by), name)? {
                self.edge(by, Asking::Dlopen, name, to);
                return Ok(());
            }
        }
        self.list.unmet.push(Unmet { by, request });
        Ok(())
    }

    fn edge(&mut self, by: usize, asking: Asking, soname: &[u8], Answered { to, alias }: Answered) {
        self.list.edges.push(Edge { by, asking, soname: soname.to_vec(), to, alias });
    }

    fn miss(&mut self, by: usize, soname: &[u8]) {
        if self.list.missing.iter().any(|missing| missing.soname == soname) {
            return;
        }
        let split = |path: Vec<u8>| elements(&path).map(<[u8]>::to_vec).collect();
        let searched = match soname.contains(&b'/') {
            true => vec![(FoundBy::Path, vec![soname.to_vec()])],
            false => self.rules(Some(by)).into_iter().map(|(rule, path)| (rule, split(path))).collect(),
        };
        let kind = NeedKind::Needed;
        self.list.missing.push(Missing { by, soname: soname.to_vec(), kind, searched });
    }

    /// Returns the search paths for `by`, in order. The environment comes first here, and both kinds of path of the
    /// asker and of everyone up to the program count.
    fn rules(&self, by: Option<usize>) -> Vec<(FoundBy, Vec<u8>)> {
        let mut rules = Vec::new();
        if let (Some(path), Privilege::Plain) = (&self.search.library_path, self.privilege) {
            let elements: Vec<Vec<u8>> =
                elements(path).map(|element| self.search.in_workdir(element)).collect();
            rules.push((FoundBy::LibraryPath, elements.join(&b':')));
        }
        let mut at = by;
        while let Some(index) = at {
            if let Some(path) = self.run_path(index) {
                rules.push((FoundBy::Rpath(self.list.objects[index].name.clone()), path));
            }
            at = self.list.objects[index].asker;
        }
        rules.push((FoundBy::Default, self.loader.path.clone()));
        rules
    }

    /// Returns DT_RUNPATH, else DT_RPATH of an object with `$ORIGIN` replaced. Any other token voids it whole.
    fn run_path(&self, index: usize) -> Option<Vec<u8>> {
        let loaded = &self.list.objects[index];
        let elf = &loaded.object.elf;
        let path = elf.runpath.as_ref().or(elf.rpath.as_ref()).filter(|path| !path.is_empty())?;
        if !path.contains(&b'$') {
            return Some(path.clone());
        }
        let origin = match index {
            PROGRAM if self.privilege == Privilege::Secure => return None,
            PROGRAM => loaded.object.path.parent()?.as_bytes().to_vec(),
            _ => loaded.name.parent().map_or_else(|| b".".to_vec(), |parent| parent.as_bytes().to_vec()),
        };
        let mut expanded = Vec::with_capacity(path.len());
        let mut rest = path.as_slice();
        while let Some((first, after)) = rest.split_first() {
            if *first != b'$' {
                expanded.push(*first);
                rest = after;
                continue;
            }
            rest = after.strip_prefix(b"ORIGIN").or_else(|| after.strip_prefix(b"{ORIGIN}"))?;
            expanded.extend(&origin);
        }
        Some(expanded)
    }

    fn load(&mut self, by: Option<usize>, name: &[u8]) -> Result<Option<Answered>, ListError> {
        if name.is_empty() {
            return Ok(None);
        }
        let is_own = OWN_NAMES.iter().any(|own| name.starts_with(own));
        if is_own || name == self.list.objects[LOADER].name.as_bytes() {
            return Ok(Some(LOADER.into()));
        }
        let is_path = name.contains(&b'/');
        let (found_by, opened) = if is_path {
            (FoundBy::Path, self.open(RawPath::new(name))?)
        } else if let Some(index) = self.by_short_name.get(name) {
            return Ok(Some((*index).into()));
        } else {
            self.search(by, name)?
        };
        let Opened::At(path, real, node) = opened else { return Ok(None) };
        if let Some(index) = self.by_file.get(&node.id) {
            let index = *index;
            if !is_path && index != LOADER {
                let short = last_name(&self.list.objects[index].name);
                self.by_short_name.entry(short).or_insert(index);
            }
            return Ok(Some(Answered { to: index, alias: Some(path) }));
        }
        // The first file that opens is taken or fails: nothing is passed over.
        if node.kind != Kind::File || self.list.objects.len() >= OBJECTS_MAX {
            return Ok(None);
        }
        let Ok(object) = self.objects.at(&real, &node)? else { return Ok(None) };
        let (elf, program) = (&object.elf, &self.list.objects[PROGRAM].object.elf);
        if !matches!(elf.e_type, 2 | 3) || !elf.is_dynamic || elf.class != program.class {
            return Ok(None);
        }
        let index = self.list.objects.len();
        self.by_file.insert(node.id, index);
        if !is_path {
            self.by_short_name.insert(last_name(&path), index);
        }
        self.list.objects.push(Loaded { name: path, object, asker: by, asked_as: name.to_vec(), found_by });
        Ok(Some(index.into()))
    }

    /// Looks up the names that objects may pass to dlopen, without loading anything.
    fn find_hints(&mut self) -> Result<(), RootfsError> {
        for by in 0..self.list.objects.len() {
            for soname in self.objects.soname_strings(&self.list.objects[by].object)? {
                let is_own = OWN_NAMES.iter().any(|own| soname.starts_with(own));
                if is_own || self.by_short_name.contains_key(&soname) {
                    continue;
                }
                if let (_, Opened::At(path, ..)) = self.search(Some(by), &soname)? {
                    self.list.hints.push(Hint { by, soname, path });
                }
            }
        }
        Ok(())
    }

    fn search(&self, by: Option<usize>, name: &[u8]) -> Result<(FoundBy, Opened), RootfsError> {
        for (rule, path) in self.rules(by) {
            for directory in elements(&path) {
                match self.open(RawPath::new([directory, b"/", name].concat()))? {
                    Opened::Nothing => {}
                    opened => return Ok((rule, opened)),
                }
            }
        }
        Ok((FoundBy::Default, Opened::Nothing))
    }

    fn open(&self, path: RawPath) -> Result<Opened, RootfsError> {
        Ok(match chase(self.objects.rootfs(), &path)?.end {
            Ok((real, node)) => Opened::At(path, real, node),
            Err(Absence::TooManyLinks) => Opened::Stop,
            Err(_) => Opened::Nothing,
        })
    }
}

/// Splits a search path; empty elements do not count.
fn elements(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| matches!(byte, b':' | b'\n')).filter(|element| !element.is_empty())
}

fn last_name(path: &RawPath) -> Vec<u8> {
    path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec()
}
