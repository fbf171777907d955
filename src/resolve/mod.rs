//! Roots + a root filesystem -> the closure of everything they need to start. Nothing is executed.

mod access;
mod accounts;
mod collect;
mod conflicts;
mod data;
mod fellows;
mod files;
mod glibc;
mod implied;
mod ldconfig;
mod left_out;
mod libc;
mod list;
mod loader;
mod meant;
mod musl;
mod object;
mod place;
mod plugins;
mod problem;
mod resolver;
mod roots;
mod scripts;
mod tokens;
mod tree_name;
mod verify;
mod versions;

pub use implied::named_rules;
pub use left_out::LeftOut;
pub use list::{
    Asking, Edge, Fatal, FoundBy, Loaded, Missing, ObjectList, Obstacle, Request, Unmet, Warning,
};
pub use object::Object;
pub use problem::{Problem, Remedy, ResolveError};
pub use resolver::Resolver;
pub use scripts::Script;
pub use tree_name::TreeName;
pub use versions::{ElfFile, satisfies};

use std::collections::BTreeMap;
use std::rc::Rc;

use self::collect::Collector;
use self::data::Data;
use self::implied::Fired;
use crate::closure::{Cause, Closure, Content};
use crate::packages::{self, PackageDb};
use crate::path::{RawPath, RootPath};
use crate::rootfs::{CachedRootfs, Node, Rootfs};
use crate::roots::Root;
use crate::rules::Catalogue;
use crate::spec::{LibcFiles, RunAs, Search, Selection};

/// What came of a set of roots.
#[derive(Debug, Default)]
pub struct Resolution {
    /// Everything that the image holds.
    pub closure: Closure,
    /// The root programs, in the order of the roots.
    pub programs: Vec<Program>,
    /// What is worth knowing although the image starts.
    pub warnings: Vec<String>,
    /// What programs may load besides, judging by their strings; never part of the image by itself.
    pub hints: Vec<Hint>,
    /// What the image could hold and does not, sorted.
    pub left_out: Vec<LeftOut>,
    /// Variables of the environment that rules give.
    pub env: BTreeMap<String, String>,
    /// The directories into which the loaders of the programs look by themselves, in their order.
    pub lib_directories: Vec<Vec<u8>>,
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
    /// What the program loads at run time, by path or name, besides what it declares itself.
    pub loads: Vec<RawPath>,
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

/// What a closure is made of.
pub struct Inputs<'a> {
    /// Where the files are.
    pub rootfs: &'a dyn Rootfs,
    /// Which package a path of it belongs to, if it has packages.
    pub packages: Option<&'a dyn PackageDb>,
    /// What to keep.
    pub roots: &'a [Root],
    /// How names are looked up.
    pub search: &'a Search,
    /// What is taken besides what the roots need to load.
    pub selection: &'a Selection,
    /// What implies what.
    pub rules: &'a Catalogue,
    /// Who the image runs as.
    pub user: Option<&'a RunAs>,
}

/// Returns the closure of the roots in `inputs`, and of everything that they imply, to a fixed point.
///
/// # Errors
/// [`ResolveError::Incomplete`] with everything that is missing or broken, all at once; [`ResolveError::Rootfs`] or
/// [`ResolveError::Packages`] if the source cannot be read; [`ResolveError::Rules`] for rules that there are not.
pub fn closure(inputs: &Inputs<'_>) -> Result<Resolution, ResolveError> {
    let cached = CachedRootfs::new(inputs.rootfs);
    let resolver = Resolver::new(&cached, inputs.search);
    let mut collector = Collector::new(inputs, &resolver)?;
    let programs = collector.take_roots()?;
    collector.warn_of_unlisted();
    let (mut fired, mut data) = (Fired::default(), Data::default());
    collector.take_named_rules(&mut fired)?;
    loop {
        let before = collector.size();
        collector.take_package_data(&mut data)?;
        collector.fire_rules(&mut fired)?;
        collector.take_waiting()?;
        if collector.size() == before {
            break;
        }
    }
    if inputs.search.libc == LibcFiles::Shared {
        libc::take(&resolver, &mut collector)?;
    }
    collector.leave_waiting()?;
    collector.take_name_services()?;
    collector.drop_excluded();
    collector.check_secrets()?;
    if !inputs.selection.is_without("metadata") {
        let told = |by, package| Cause::Metadata { by, package };
        packages::describe(&mut collector.closure, resolver.rootfs(), inputs.packages, &told)?;
    }
    if let Some(db) = inputs.packages {
        packages::attribute(&mut collector.closure, db)?;
    }
    if !inputs.selection.is_without("base-layout") {
        for (path, node) in layout() {
            collector.closure.put(&path, node, Content::None, Cause::Layout);
        }
    }
    collector.settle_owners()?;
    collector.write_accounts()?;
    collector.check_conflicts()?;
    if collector.problems.is_empty() {
        // What is written here can be left out like anything else.
        collector.drop_excluded();
    }
    if collector.problems.is_empty() {
        verify::complete(&resolver, &mut collector)?;
    }
    if !collector.problems.is_empty() {
        return Err(ResolveError::Incomplete { problems: collector.problems });
    }
    let Collector { closure, warnings, hints, left_out, env, lib_directories, .. } = collector;
    // Another root may have brought it after all.
    let is_there = |path: &RootPath| closure.entry(path).is_some();
    let is_left = |left: &LeftOut| match left {
        LeftOut::Sensitive { path, .. } | LeftOut::Private { path, .. } => !is_there(path),
        _ => true,
    };
    let left_out = left_out.into_iter().filter(is_left).collect();
    Ok(Resolution { closure, programs, warnings, hints, left_out, env, lib_directories })
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
