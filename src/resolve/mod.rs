//! Roots + a root filesystem -> the closure of everything they need to start. Nothing is executed.

mod collect;
mod glibc;
mod ldconfig;
mod libc;
mod list;
mod loader;
mod musl;
mod object;
mod problem;
mod resolver;
mod scripts;
mod tokens;
mod verify;
mod versions;

pub use list::{
    Asking, Edge, Fatal, FoundBy, Loaded, Missing, ObjectList, Obstacle, Request, Unmet, Warning,
};
pub use object::Object;
pub use problem::{Problem, ResolveError};
pub use resolver::Resolver;
pub use scripts::Script;

use std::rc::Rc;

use self::collect::Collector;
use crate::closure::{Cause, Closure, Content, Demand};
use crate::path::{RawPath, RootPath};
use crate::rootfs::{CachedRootfs, Node, Rootfs};
use crate::roots::{Keep, Root};
use crate::spec::{LibcFiles, Search};

/// What came of a set of roots.
#[derive(Debug)]
pub struct Resolution {
    /// Everything that the image holds.
    pub closure: Closure,
    /// The root programs, in the order of the roots.
    pub programs: Vec<Program>,
    /// What is worth knowing although the image starts.
    pub warnings: Vec<String>,
    /// What programs may load besides, judging by their strings; never part of the image by itself.
    pub hints: Vec<Hint>,
}

/// One root program.
#[derive(Debug, Clone)]
pub struct Program {
    /// The path by which it is started, as spelled or as found in the search path.
    pub path: RawPath,
    /// The ELF object that the kernel runs for it: itself, or the interpreter of a script.
    pub object: Rc<Object>,
}

/// A library that is not in the closure, but named in the read-only data of an object that can load it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The object.
    pub by: RootPath,
    /// The name in its data.
    pub soname: Vec<u8>,
    /// Where the loader would find it.
    pub path: RawPath,
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
        /// What the loader reads besides ELF files.
        config: LoaderConfig,
        /// What is mapped.
        list: ObjectList,
    },
}

/// What a loader reads of its root filesystem to find libraries; it need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoaderConfig {
    /// glibc's.
    Glibc {
        /// Where its cache is.
        cache: RawPath,
    },
    /// musl's.
    Musl {
        /// Where its search path is, if the loader's name tells.
        path_file: Option<RawPath>,
    },
}

/// Under what circumstances a program is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// With whose privileges.
    pub privilege: Privilege,
    /// On a CPU with these `glibc-hwcaps` levels, best first.
    pub hwcaps: Vec<Vec<u8>>,
}

/// Whether a process runs with more privileges than its caller has (AT_SECURE).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// It does not.
    Plain,
    /// It does: the loader trusts the environment and `$ORIGIN` less.
    Secure,
}

/// What a loader begins with.
#[derive(Clone, Copy)]
struct Start<'a> {
    program: &'a Rc<Object>,
    /// PT_INTERP, as spelled.
    interp: &'a RawPath,
    loader: &'a Rc<Object>,
    privilege: Privilege,
    hwcaps: &'a [Vec<u8>],
    /// What an object declares to load at run time, as far as it is wanted.
    requests: &'a dyn Fn(&Object) -> Vec<Request>,
}

/// Returns the closure of `roots`, taken from `rootfs`.
///
/// # Errors
/// [`ResolveError::Incomplete`] with everything that is missing or broken, all at once; [`ResolveError::Rootfs`] if
/// the source cannot be read.
pub fn closure(rootfs: &dyn Rootfs, roots: &[Root], search: &Search) -> Result<Resolution, ResolveError> {
    let cached = CachedRootfs::new(rootfs);
    let resolver = Resolver::new(&cached, search);
    let mut collector = Collector::new(&resolver);
    let mut programs = Vec::new();
    for root in roots {
        let Keep::Program(name) = &root.keep;
        let Some(path) = resolver.program_path(name)? else {
            collector.problems.push(Problem::program_not_found(root.clone(), search, rootfs));
            continue;
        };
        let demand = Demand::of_root(root, path.clone());
        if let Some(object) = collector.take_program(demand, 0)? {
            programs.push(Program { path, object });
        }
    }
    if search.libc == LibcFiles::Shared {
        libc::take(&resolver, &mut collector)?;
    }
    for (path, node) in layout() {
        collector.closure.put(&path, node, Content::None, Cause::Layout);
    }
    if collector.problems.is_empty() {
        verify::complete(&resolver, &mut collector)?;
    }
    if !collector.problems.is_empty() {
        return Err(ResolveError::Incomplete { problems: collector.problems });
    }
    let Collector { closure, warnings, hints, .. } = collector;
    Ok(Resolution { closure, programs, warnings, hints })
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
