//! One program + a root filesystem -> what its loader maps.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use tracing::debug;

use super::glibc::{self, Glibc, ListError};
use super::ldconfig;
use super::list::Request;
use super::loader::{Abi, Flavour, GlibcConf, LOADER_MAX};
use super::musl::{self, Musl};
use super::object::{Object, Objects};
use super::problem::{Problem, ResolveError};
use super::scripts::{self, Script};
use super::{Circumstances, Linkage, LoaderConfig, Start};
use crate::formats::dlopen_note::{self, Priority};
use crate::formats::elf::ElfError;
use crate::formats::ldso_cache::LdsoCache;
use crate::formats::shell;
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Absence, Kind, Node, Rootfs, RootfsError, chase, read_file};
use crate::spec::{CacheSource, DlopenLevel, Hints, Preloads, Search};

/// The largest cache or path file of a loader that is read, in bytes. A full desktop's cache has 200 KiB.
const LOADER_DATA_MAX: u64 = 64 << 20;

/// Finds what programs of one root filesystem need.
pub struct Resolver<'a> {
    objects: Objects<'a>,
    search: &'a Search,
    glibc: RefCell<HashMap<RootPath, Rc<Glibc>>>,
}

impl<'a> Resolver<'a> {
    /// Returns a resolver over `rootfs`, which should be one that remembers look-ups.
    pub fn new(rootfs: &'a dyn Rootfs, search: &'a Search) -> Self {
        Self { objects: Objects::new(rootfs), search, glibc: RefCell::default() }
    }

    /// Returns a resolver over `rootfs`, whose ELF files are those of `known` at the paths for which `is_same` holds.
    pub(super) fn like(
        known: &Resolver<'_>,
        rootfs: &'a dyn Rootfs,
        search: &'a Search,
        is_same: &dyn Fn(&RootPath) -> bool,
    ) -> Self {
        Self { objects: Objects::like(&known.objects, rootfs, is_same), search, glibc: RefCell::default() }
    }

    /// Returns where the loader at `interp` looks by itself, as its file says: the default directories of libraries.
    ///
    /// # Errors
    /// [`RootfsError`] if the source cannot be read.
    pub(super) fn default_directories(
        &self,
        interp: &RawPath,
        loader: &Object,
    ) -> Result<Vec<Vec<u8>>, RootfsError> {
        let directories = match Flavour::of(interp.as_bytes()) {
            Flavour::Glibc => self.glibc_loader(loader)?.conf.directories.clone(),
            Flavour::Musl => musl::DEFAULT_DIRECTORIES.map(|path| path.to_vec()).into(),
        };
        let trimmed = |path: Vec<u8>| path.strip_suffix(b"/").map(<[u8]>::to_vec).unwrap_or(path);
        Ok(directories.into_iter().map(trimmed).collect())
    }

    pub(super) fn objects(&self) -> &Objects<'a> {
        &self.objects
    }

    pub(super) fn search(&self) -> &'a Search {
        self.search
    }

    pub(super) fn rootfs(&self) -> &'a dyn Rootfs {
        self.objects.rootfs()
    }

    /// Returns the path of the program that the user calls `name`: itself if it has a slash, else the first executable
    /// file of that name in the search path; `None` if there is none.
    ///
    /// # Errors
    /// [`RootfsError`] if the source cannot be read.
    pub fn program_path(&self, name: &RawPath) -> Result<Option<RawPath>, RootfsError> {
        self.program_in(&self.search.path, name)
    }

    /// Returns the path of the program that a file of the image calls `name`; `None` if there is none.
    ///
    /// # Errors
    /// [`RootfsError`] if the source cannot be read.
    pub(super) fn program_path_inside(&self, name: &RawPath) -> Result<Option<RawPath>, RootfsError> {
        self.program_in(&self.search.path_inside, name)
    }

    fn program_in(&self, directories: &[RawPath], name: &RawPath) -> Result<Option<RawPath>, RootfsError> {
        let has_slash = name.as_bytes().contains(&b'/');
        let candidates = match has_slash {
            true => vec![name.clone()],
            false => directories.iter().map(|directory| directory.join(name.as_bytes())).collect(),
        };
        for path in candidates {
            match chase(self.rootfs(), &path)?.end {
                // By its path a file is asked for whatever it is: that is then reported, not passed over.
                Ok(_) if has_slash => return Ok(Some(path)),
                Ok((_, node)) if node.is_executable() => return Ok(Some(path)),
                Err(absence)
                    if has_slash && !matches!(absence, Absence::NotFound | Absence::NotADirectory) =>
                {
                    return Ok(Some(path));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Returns the ELF object at the real path `path`, which is the regular file `node`.
    ///
    /// # Errors
    /// [`RootfsError`] if the source cannot be read; the inner error if the file is no ELF file.
    pub fn object(
        &self,
        path: &RootPath,
        node: &Node,
    ) -> Result<Result<Rc<Object>, Rc<ElfError>>, RootfsError> {
        self.objects.at(path, node)
    }

    /// Returns how the script at the real path `path` is started if the user starts it; the inner error says why it is
    /// not.
    ///
    /// # Errors
    /// [`RootfsError`] if the source cannot be read.
    pub fn script(&self, path: &RootPath) -> Result<Result<Script, Problem>, RootfsError> {
        self.script_in(&self.search.path, path)
    }

    /// Returns how the script at the real path `path` is started if a file of the image starts it; the inner error says
    /// why it is not.
    ///
    /// # Errors
    /// [`RootfsError`] if the source cannot be read.
    pub(super) fn script_inside(&self, path: &RootPath) -> Result<Result<Script, Problem>, RootfsError> {
        self.script_in(&self.search.path_inside, path)
    }

    fn script_in(
        &self,
        directories: &[RawPath],
        path: &RootPath,
    ) -> Result<Result<Script, Problem>, RootfsError> {
        let rootfs = self.rootfs();
        let head = rootfs.open(path)?;
        let shebang = scripts::shebang(&*head)
            .map_err(|source| RootfsError::read("read", path, rootfs.name(), source))?;
        let path = path.clone();
        let Some(shebang) = shebang else {
            return Ok(Err(Problem::NotAProgram { path, what: "neither an ELF file nor a script" }));
        };
        if shebang.interp.ends_with(b"\r") {
            return Ok(Err(Problem::CarriageReturn { path, interp: shebang.interp }));
        }
        let word = scripts::env_command(&shebang);
        // By its own name: what it leads to may be a wrapper in another language.
        let is_shell = shell::is_shell(word.as_deref().unwrap_or(&shebang.interp));
        let command = match word.map(RawPath::new) {
            None => None,
            Some(word) => match self.program_in(directories, &word)? {
                Some(found) => Some(found),
                None => {
                    let searched = directories.to_vec();
                    return Ok(Err(Problem::CommandNotFound { script: path, command: word, searched }));
                }
            },
        };
        Ok(Ok(Script { interp: RawPath::new(shebang.interp), command, is_shell }))
    }

    /// Returns what the kernel and the loader would map for `object`, started under `circumstances`. A library is taken
    /// as its machine's usual loader would take it.
    ///
    /// # Errors
    /// [`ResolveError`]; a missing library is none, but part of the list.
    pub fn linkage(
        &self,
        object: &Rc<Object>,
        circumstances: &Circumstances,
    ) -> Result<Linkage, ResolveError> {
        let program = object;
        let elf = &object.elf;
        if elf.interp.is_none() && (elf.is_static() || !elf.is_dynamic) {
            return Ok(Linkage::Static);
        }
        let incomplete = |problem| ResolveError::Incomplete { problems: vec![problem] };
        let interp = match &elf.interp {
            Some(interp) => RawPath::new(interp.as_slice()),
            None => match self.usual_loader(object)? {
                Some(interp) => interp,
                None => return Err(incomplete(Problem::NoLoader { by: object.path.clone() })),
            },
        };
        let (real, node) = match chase(self.rootfs(), &interp)?.end {
            Ok((real, node)) if node.kind == Kind::File => (real, node),
            _ => return Err(incomplete(Problem::InterpMissing { by: object.path.clone(), interp })),
        };
        let loader = match self.objects.at(&real, &node)? {
            Ok(loader) => loader,
            Err(error) => return Err(incomplete(Problem::BrokenElf { path: real, error })),
        };
        let Circumstances { privilege, hwcaps, loads } = circumstances;
        // What the program names in its data was found when it was looked at without plug-ins.
        let quiet = Search { hints: Hints::Skip, ..self.search.clone() };
        let search = if loads.is_empty() { self.search } else { &quiet };
        let requests = |object: &Object| {
            let mut requests = requests(object, self.search.dlopen);
            if object.path == program.path {
                requests.extend(loads.iter().map(|name| Request {
                    alternatives: vec![name.as_bytes().to_vec()],
                    priority: Priority::Required,
                    feature: String::new(),
                }));
            }
            requests
        };
        let start = Start {
            program: object,
            interp: &interp,
            loader: &loader,
            privilege: *privilege,
            hwcaps,
            requests: &requests,
        };
        let (list, config) = match Flavour::of(interp.as_bytes()) {
            Flavour::Glibc => {
                let glibc = self.glibc_loader(&loader)?;
                let list = glibc::list(&self.objects, &start, &glibc, search);
                (list, LoaderConfig::Glibc { cache: glibc.conf.cache.clone() })
            }
            Flavour::Musl => {
                let file = Musl::path_file(&interp);
                let path = match &file {
                    Some(file) => self.read(file)?,
                    None => None,
                };
                let list = musl::list(&self.objects, &start, &Musl::new(path), search);
                (list, LoaderConfig::Musl { path_file: file })
            }
        };
        match list {
            Ok(list) => Ok(Linkage::Dynamic { interp, config, list }),
            Err(ListError::Rootfs(error)) => Err(error.into()),
            Err(ListError::Fatal(fatal)) => {
                Err(incomplete(Problem::Unloadable { program: object.path.clone(), fatal }))
            }
        }
    }

    /// Returns the loader that serves an object without PT_INTERP.
    fn usual_loader(&self, object: &Object) -> Result<Option<RawPath>, RootfsError> {
        let wants_musl = object
            .elf
            .needs
            .iter()
            .any(|need| need.name.starts_with(b"libc.musl-") || need.name == b"libc.so");
        let mut there = Vec::new();
        for (flavour, path) in Abi::of(&object.elf).loaders() {
            let path = RawPath::from(*path);
            if chase(self.rootfs(), &path)?.end.is_ok() {
                there.push((*flavour, path));
            }
        }
        let wanted = if wants_musl { Flavour::Musl } else { Flavour::Glibc };
        let best = there.iter().position(|(flavour, _)| *flavour == wanted);
        Ok(best.or(if there.is_empty() { None } else { Some(0) }).map(|index| there.swap_remove(index).1))
    }

    fn glibc_loader(&self, loader: &Object) -> Result<Rc<Glibc>, RootfsError> {
        if let Some(known) = self.glibc.borrow().get(&loader.path) {
            return Ok(known.clone());
        }
        let bytes = read_file(self.rootfs(), &loader.path, LOADER_MAX)?;
        let conf = GlibcConf::read(&bytes, loader.elf.class);
        let byte_order = loader.elf.byte_order;
        let cache = match self.search.cache {
            CacheSource::AsInSource => {
                self.read(&conf.cache)?.and_then(|bytes| LdsoCache::parse(bytes, byte_order))
            }
            CacheSource::AssumeLdconfig => ldconfig::cache(&self.objects, &conf, &loader.elf)?,
        };
        let preloads = match self.search.preloads {
            Preloads::AsInSource => {
                self.read(&conf.preload)?.map(|text| preload_names(&text)).unwrap_or_default()
            }
            Preloads::None => Vec::new(),
        };
        debug!(loader = %loader.path, version = ?conf.version, has_cache = cache.is_some(), "loader read");
        let glibc = Rc::new(Glibc { conf, cache, preloads });
        self.glibc.borrow_mut().insert(loader.path.clone(), glibc.clone());
        Ok(glibc)
    }

    /// Returns the contents of the regular file that `path` leads to, if there is one.
    fn read(&self, path: &RawPath) -> Result<Option<Vec<u8>>, RootfsError> {
        match chase(self.rootfs(), path)?.end {
            Ok((real, node)) if node.kind == Kind::File => {
                read_file(self.rootfs(), &real, LOADER_DATA_MAX).map(Some)
            }
            _ => Ok(None),
        }
    }
}

/// Returns what the dlopen notes of `object` ask for, down to `level`.
fn requests(object: &Object, level: DlopenLevel) -> Vec<Request> {
    let entries = object.elf.dlopen_notes.iter().flat_map(|note| dlopen_note::parse(note));
    let wanted = entries.filter(|entry| level.takes(entry.priority));
    wanted
        .map(|entry| Request {
            alternatives: entry.sonames,
            priority: entry.priority,
            feature: entry.feature,
        })
        .collect()
}

/// Returns the names in `/etc/ld.so.preload`: split at blanks and colons, `#` starts a comment.
fn preload_names(text: &[u8]) -> Vec<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n');
    let code = lines.filter_map(|line| line.split(|byte| *byte == b'#').next());
    let names = code.flat_map(|line| line.split(|byte| b" \t:".contains(byte)));
    names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}
