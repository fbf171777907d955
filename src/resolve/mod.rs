//! Roots + a root filesystem -> the closure of everything they need to start. Nothing is executed.

mod glibc;
mod list;
mod loader;
mod musl;
mod object;
mod problem;
mod scripts;
mod tokens;

pub use list::{Edge, Fatal, FoundBy, Loaded, Missing, ObjectList, Warning};
pub use object::Object;
pub use problem::{Problem, ResolveError};

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use tracing::{debug, warn};

use self::glibc::{Glibc, ListError};
use self::loader::{Abi, Flavour, GlibcConf, LOADER_MAX};
use self::musl::Musl;
use self::object::Objects;
use crate::closure::{Cause, Closure, Demand, Met};
use crate::formats::elf::ElfError;
use crate::formats::ldso_cache::LdsoCache;
use crate::formats::read_all;
use crate::path::{RawPath, RootPath, show};
use crate::rootfs::{Absence, CachedRootfs, Kind, Node, Rootfs, RootfsError, chase};
use crate::roots::{Keep, Root};
use crate::spec::{Preloads, Search};

/// The largest cache or path file of a loader that is read, in bytes. A full desktop's cache has 200 KiB.
const LOADER_DATA_MAX: u64 = 64 << 20;

/// What came of a set of roots.
#[derive(Debug)]
pub struct Resolution {
    /// Everything that the image holds.
    pub closure: Closure,
    /// The root programs, in the order of the roots.
    pub programs: Vec<Program>,
    /// What is worth knowing although the image starts.
    pub warnings: Vec<String>,
}

/// One root program.
#[derive(Debug, Clone)]
pub struct Program {
    /// The path by which it is started, as spelled or as found in the search path.
    pub path: RawPath,
    /// The ELF object that the kernel runs for it: itself, or the interpreter of a script.
    pub object: Rc<Object>,
}

/// How a program comes to its libraries.
#[derive(Debug)]
pub enum Linkage {
    /// It needs nobody.
    Static,
    /// A loader maps these for it.
    Dynamic {
        /// The loader's path, as the program spells it.
        interp: RawPath,
        /// What is mapped.
        list: ObjectList,
    },
}

/// Whether a process runs with more privileges than its caller has (AT_SECURE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// It does not.
    Plain,
    /// It does: the loader trusts the environment and `$ORIGIN` less.
    Secure,
}

/// Returns the closure of `roots`, taken from `rootfs`.
///
/// # Errors
/// [`ResolveError::Incomplete`] with everything that is missing or broken, all at once; [`ResolveError::Rootfs`] if
/// the source cannot be read.
pub fn closure(rootfs: &dyn Rootfs, roots: &[Root], search: &Search) -> Result<Resolution, ResolveError> {
    let cached = CachedRootfs::new(rootfs);
    let resolver = Resolver::new(&cached, search);
    let mut collector = Collector {
        resolver: &resolver,
        closure: Closure::new(),
        done: HashSet::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    let mut programs = Vec::new();
    for root in roots {
        let Keep::Program(name) = &root.keep;
        let Some(path) = resolver.program_path(name)? else {
            let searched = if name.as_bytes().contains(&b'/') { Vec::new() } else { search.path.clone() };
            let rootfs = rootfs.name().to_owned();
            collector.problems.push(Problem::ProgramNotFound { root: root.clone(), searched, rootfs });
            continue;
        };
        let demand = Demand::of_root(root, path.clone());
        if let Some(object) = collector.take_program(demand, 0)? {
            programs.push(Program { path, object });
        }
    }
    if !collector.problems.is_empty() {
        return Err(ResolveError::Incomplete { problems: collector.problems });
    }
    for (path, node) in layout() {
        collector.closure.put(&path, node, Cause::Layout);
    }
    Ok(Resolution { closure: collector.closure, programs, warnings: collector.warnings })
}

/// Returns the directories that every image has: what runtimes mount over, and a place for temporary files.
fn layout() -> impl Iterator<Item = (RootPath, Node)> {
    let directories = [
        ("/dev", 0o755),
        ("/etc", 0o755),
        ("/proc", 0o755),
        ("/run", 0o755),
        ("/sys", 0o755),
        ("/tmp", 0o1777),
    ];
    directories
        .into_iter()
        .filter_map(|(path, mode)| Some((RootPath::from_normal(path.as_bytes())?, Node::directory(mode))))
}

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

    fn rootfs(&self) -> &'a dyn Rootfs {
        self.objects.rootfs()
    }

    /// Returns the path of the program called `name`: itself if it has a slash, else the first executable file of
    /// that name in the search path; `None` if there is none.
    ///
    /// # Errors
    /// [`RootfsError`] if the source cannot be read.
    pub fn program_path(&self, name: &RawPath) -> Result<Option<RawPath>, RootfsError> {
        let has_slash = name.as_bytes().contains(&b'/');
        let candidates = match has_slash {
            true => vec![name.clone()],
            false => self.search.path.iter().map(|directory| directory.join(name.as_bytes())).collect(),
        };
        for path in candidates {
            match chase(self.rootfs(), &path)?.end {
                // By its path a file is asked for in any mode: the mode is then reported, not passed over.
                Ok((_, node)) if has_slash || node.kind == Kind::File && node.mode & 0o111 != 0 => {
                    return Ok(Some(path));
                }
                Err(Absence::Denied) if has_slash => return Ok(Some(path)),
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

    /// Returns what the kernel and the loader would map for `object`, started with `privilege`. A library is taken as
    /// its machine's usual loader would take it.
    ///
    /// # Errors
    /// [`ResolveError`]; a missing library is none, but part of the list.
    pub fn linkage(&self, object: &Rc<Object>, privilege: Privilege) -> Result<Linkage, ResolveError> {
        let elf = &object.elf;
        if elf.interp.is_none() && (elf.is_static() || !elf.is_dynamic) {
            return Ok(Linkage::Static);
        }
        let by = || object.path.clone();
        let incomplete = |problem| ResolveError::Incomplete { problems: vec![problem] };
        let interp = match &elf.interp {
            Some(interp) => RawPath::new(interp.as_slice()),
            None => match self.usual_loader(object)? {
                Some(interp) => interp,
                None => return Err(incomplete(Problem::NoLoader { by: by() })),
            },
        };
        let missing = || incomplete(Problem::InterpMissing { by: by(), interp: interp.clone() });
        let (real, node) = match chase(self.rootfs(), &interp)?.end {
            Ok((real, node)) if node.kind == Kind::File => (real, node),
            _ => return Err(missing()),
        };
        let loader = match self.objects.at(&real, &node)? {
            Ok(loader) => loader,
            Err(error) => return Err(incomplete(Problem::BrokenElf { path: real, error })),
        };
        let list = match Flavour::of(interp.as_bytes()) {
            Flavour::Glibc => {
                let conf = self.glibc_loader(&loader)?;
                glibc::list(&self.objects, object, &interp, &loader, &conf, self.search, privilege)
            }
            Flavour::Musl => {
                let path = match Musl::path_file(&interp) {
                    Some(file) => self.read(&file)?,
                    None => None,
                };
                let musl = Musl::new(path);
                musl::list(&self.objects, object, &interp, &loader, &musl, self.search, privilege)
            }
        };
        match list {
            Ok(list) => Ok(Linkage::Dynamic { interp, list }),
            Err(ListError::Rootfs(error)) => Err(error.into()),
            Err(ListError::Fatal(fatal)) => Err(incomplete(Problem::Unloadable { program: by(), fatal })),
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
        let bytes = self.read_real(&loader.path)?.unwrap_or_default();
        let conf = GlibcConf::read(&bytes, loader.elf.class);
        let cache = self.read(&conf.cache)?.and_then(|bytes| LdsoCache::parse(bytes, loader.elf.byte_order));
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

    /// Returns the contents of the regular file that `path` leads to, if there is one of sensible size.
    fn read(&self, path: &RawPath) -> Result<Option<Vec<u8>>, RootfsError> {
        match chase(self.rootfs(), path)?.end {
            Ok((real, node)) if node.kind == Kind::File && node.size <= LOADER_DATA_MAX => {
                self.read_real(&real)
            }
            _ => Ok(None),
        }
    }

    fn read_real(&self, path: &RootPath) -> Result<Option<Vec<u8>>, RootfsError> {
        let file = self.rootfs().open(path)?;
        read_all(&*file, LOADER_MAX).map_err(|source| RootfsError::Read {
            action: "read",
            path: path.clone(),
            rootfs: self.rootfs().name().to_owned(),
            source,
        })
    }
}

/// Returns the names in `/etc/ld.so.preload`: split at blanks and colons, `#` starts a comment.
fn preload_names(text: &[u8]) -> Vec<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n');
    let code = lines.filter_map(|line| line.split(|byte| *byte == b'#').next());
    let names = code.flat_map(|line| line.split(|byte| b" \t:".contains(byte)));
    names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect()
}

/// Takes programs with everything they need into a closure, and remembers what is wrong.
struct Collector<'a> {
    resolver: &'a Resolver<'a>,
    closure: Closure,
    done: HashSet<RootPath>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Collector<'_> {
    /// Takes the program that `demand` asks for. Returns the ELF object that runs, or `None` after noting a problem.
    fn take_program(&mut self, demand: Demand, depth: usize) -> Result<Option<Rc<Object>>, ResolveError> {
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
        self.take_linkage(object, Privilege::Plain)?;
        if object.node.is_privileged() {
            self.take_linkage(object, Privilege::Secure)?;
        }
        Ok(Some(object.clone()))
    }

    fn take_linkage(&mut self, object: &Rc<Object>, privilege: Privilege) -> Result<(), ResolveError> {
        let (interp, list) = match self.resolver.linkage(object, privilege) {
            Ok(Linkage::Static) => return Ok(()),
            Ok(Linkage::Dynamic { interp, list }) => (interp, list),
            Err(ResolveError::Incomplete { problems }) => {
                // Started by root, as containers mostly are, a set-id program is not privileged at all.
                match privilege {
                    Privilege::Plain => self.problems.extend(problems),
                    Privilege::Secure => self.warn_of_privileged(object, problems),
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let rootfs = self.resolver.rootfs();
        let by = object.path.clone();
        self.closure.take(rootfs, Demand { path: interp, cause: Cause::Interp { by } })?;
        for edge in &list.edges {
            let by = list.objects[edge.by].object.path.clone();
            let cause = Cause::Needed { by, soname: edge.soname.clone() };
            self.closure.take(rootfs, Demand { path: list.objects[edge.to].name.clone(), cause })?;
        }
        for warning in &list.warnings {
            warn!(program = %object.path, %warning, "the closure may not be complete");
            self.warnings.push(format!("`{}`: {warning}", object.path));
        }
        let missing = list.missing.iter().map(|missing| Problem::LibraryMissing {
            program: object.path.clone(),
            by: list.objects[missing.by].object.path.clone(),
            missing: missing.clone(),
        });
        match privilege {
            Privilege::Plain => self.problems.extend(missing),
            Privilege::Secure => self.warn_of_privileged(object, missing.collect()),
        }
        Ok(())
    }

    fn warn_of_privileged(&mut self, object: &Object, problems: Vec<Problem>) {
        for problem in problems {
            let path = &object.path;
            self.warnings.push(format!("`{path}` does not start with raised privileges: {problem}"));
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
        let head = self.resolver.rootfs().open(&path)?;
        let shebang = match scripts::shebang(&*head) {
            Ok(Some(shebang)) => shebang,
            Ok(None) => {
                self.problems.push(Problem::NotAProgram { path, what: "neither an ELF file nor a script" });
                return Ok(None);
            }
            Err(source) => {
                let (action, rootfs) = ("read", self.resolver.rootfs().name().to_owned());
                return Err(RootfsError::Read { action, path, rootfs, source }.into());
            }
        };
        if depth >= scripts::DEPTH_MAX {
            let what = "a script whose interpreters are scripts, deeper than the kernel follows";
            self.problems.push(Problem::NotAProgram { path, what });
            return Ok(None);
        }
        if shebang.interp.ends_with(b"\r") {
            self.problems.push(Problem::CarriageReturn { path, interp: shebang.interp });
            return Ok(None);
        }
        let cause = Cause::Shebang { by: path.clone() };
        let interp = RawPath::new(shebang.interp.as_slice());
        let object = self.take_program(Demand { path: interp.clone(), cause: cause.clone() }, depth + 1)?;
        let Some(command) = scripts::env_command(&shebang) else { return Ok(object) };
        // `env` looks its command up in PATH.
        let name = RawPath::new(command);
        match self.resolver.program_path(&name)? {
            Some(path) => self.take_program(Demand { path, cause }, depth + 1),
            None => {
                let searched = self.resolver.search.path.clone();
                debug!(command = %show(name.as_bytes()), script = %path, "not in the search path");
                self.problems.push(Problem::CommandNotFound { script: path, command: name, searched });
                Ok(None)
            }
        }
    }
}
