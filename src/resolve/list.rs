//! What a loader would map for one program, in its order, and who asked for each object.

use std::fmt;
use std::rc::Rc;

use super::object::Object;
use crate::formats::dlopen_note::Priority;
use crate::formats::elf::{ElfError, NeedKind};
use crate::path::{RawPath, show};

/// The objects of one process, as its loader would map them.
#[derive(Debug, Default)]
pub struct ObjectList {
    /// Every object, the program first; the others in the order in which they were found.
    pub objects: Vec<Loaded>,
    /// Who needs whom, in the order in which the loader asks.
    pub edges: Vec<Edge>,
    /// What nobody found.
    pub missing: Vec<Missing>,
    /// Names in read-only data that would be found: what the process may load besides. Only on request.
    pub hints: Vec<Hint>,
    /// Requests to load something at run time that nothing answers.
    pub unmet: Vec<Unmet>,
    /// What is worth knowing although the program may run.
    pub warnings: Vec<Warning>,
}

impl ObjectList {
    /// Returns the list without what only people are told, in no more memory than it takes.
    pub(super) fn into_essence(self) -> Self {
        let Self { mut objects, mut edges, .. } = self;
        objects.shrink_to_fit();
        edges.shrink_to_fit();
        Self { objects, edges, ..Self::default() }
    }

    /// Returns what is mapped besides the program and its loader, with its index.
    pub fn libraries(&self) -> impl Iterator<Item = (usize, &Loaded)> {
        let is_library =
            |loaded: &Loaded| !matches!(loaded.found_by, FoundBy::Program | FoundBy::Interpreter);
        self.objects.iter().enumerate().filter(move |(_, loaded)| is_library(loaded))
    }
}

/// One object of a process.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The path by which it was found, as spelled; empty for the program.
    pub name: RawPath,
    /// What is there.
    pub object: Rc<Object>,
    /// Who asked for it first; `None` for the program, its loader and preloads.
    pub asker: Option<usize>,
    /// The name that it was first asked by.
    pub asked_as: Vec<u8>,
    /// Where it was found.
    pub found_by: FoundBy,
}

/// Which rule of the search found an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundBy {
    /// It is the program.
    Program,
    /// It is the loader that the program names.
    Interpreter,
    /// DT_RPATH of the object called this; empty for the program.
    Rpath(RawPath),
    /// LD_LIBRARY_PATH.
    LibraryPath,
    /// DT_RUNPATH of the object that asks.
    Runpath,
    /// The loader's cache.
    Cache,
    /// The loader's default directories, or what musl's path file puts in their place.
    Default,
    /// The name has a slash, so it is a path.
    Path,
}

impl fmt::Display for FoundBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program => f.write_str("program"),
            Self::Interpreter => f.write_str("interp"),
            Self::Rpath(of) if of.as_bytes().is_empty() => f.write_str("rpath of the program"),
            Self::Rpath(of) => write!(f, "rpath of {of}"),
            Self::LibraryPath => f.write_str("LD_LIBRARY_PATH"),
            Self::Runpath => f.write_str("runpath"),
            Self::Cache => f.write_str("ld.so.cache"),
            Self::Default => f.write_str("default directories"),
            Self::Path => f.write_str("path"),
        }
    }
}

/// How an object is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    /// By an entry of `.dynamic`.
    Need(NeedKind),
    /// To be loaded before everything else.
    Preload,
    /// To watch the loader at work (DT_AUDIT, rtld-audit(7)).
    Audit,
    /// At run time, with dlopen(3).
    Dlopen,
}

/// Something that an object declares it will load at run time: any one of several names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The names, the best first.
    pub alternatives: Vec<Vec<u8>>,
    /// How much the object depends on it.
    pub priority: Priority,
    /// What it is good for, in the words of the object.
    pub feature: String,
}

/// A library that an object may load at run time, judging by its strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Index of the object with the string.
    pub by: usize,
    /// The string.
    pub soname: Vec<u8>,
    /// Where it would be found.
    pub path: RawPath,
}

/// A request that nothing answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Index of the object that would ask.
    pub by: usize,
    /// What it would ask for.
    pub request: Request,
}

/// One object asks for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Index of the object that asks.
    pub by: usize,
    /// How it asks.
    pub asking: Asking,
    /// The name it asks for, with its tokens replaced.
    pub soname: Vec<u8>,
    /// Index of the object that answers.
    pub to: usize,
    /// The path that led to the object, where that is not the one it is mapped under: the loader opens it to see that
    /// it has the file already.
    pub alias: Option<RawPath>,
}

/// What answers one request: the end of an [`Edge`].
pub(super) struct Answered {
    pub(super) to: usize,
    pub(super) alias: Option<RawPath>,
}

impl From<usize> for Answered {
    fn from(to: usize) -> Self {
        Self { to, alias: None }
    }
}

/// A name that the loader does not find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Index of the object that asks first.
    pub by: usize,
    /// The name it asks for, with its tokens replaced.
    pub soname: Vec<u8>,
    /// How it asks.
    pub kind: NeedKind,
    /// The places where the loader looks, in order: rule and directories.
    pub searched: Vec<(FoundBy, Vec<Vec<u8>>)>,
}

/// Something that makes the result depend on more than the root filesystem.
#[derive(Debug, Clone)]
pub enum Warning {
    /// A search path element of an object counts from the working directory.
    RelativeSearchPath {
        /// The object, as found.
        of: RawPath,
        /// The element.
        element: Vec<u8>,
    },
    /// A search path element depends on the CPU: it has `$PLATFORM` in it.
    CpuDependent {
        /// The object, as found.
        of: RawPath,
        /// The element.
        element: Vec<u8>,
    },
    /// An object that should be preloaded cannot be.
    PreloadIgnored {
        /// Its name.
        name: Vec<u8>,
        /// What is in the way; nothing is, if it was not found.
        obstacle: Option<Obstacle>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RelativeSearchPath { of, element } => {
                write!(
                    f,
                    "the search path of {} has `{}`, which depends on the working directory",
                    name(of),
                    show(element)
                )
            }
            Self::CpuDependent { of, element } => {
                write!(f, "the search path of {} has `{}`, which depends on the CPU", name(of), show(element))
            }
            Self::PreloadIgnored { name, obstacle: None } => {
                write!(f, "`{}` is not preloaded: not found", show(name))
            }
            Self::PreloadIgnored { name, obstacle: Some(obstacle) } => {
                write!(f, "`{}` is not preloaded: {obstacle}", show(name))
            }
        }
    }
}

fn name(of: &RawPath) -> String {
    if of.as_bytes().is_empty() { "the program".to_owned() } else { format!("`{of}`") }
}

/// Where a loader gives a program up.
#[derive(Debug, Clone)]
pub struct Fatal {
    /// The file in the way, as found.
    pub path: RawPath,
    /// What is wrong with it.
    pub obstacle: Obstacle,
    /// Index of the object that asks for it.
    pub by: usize,
    /// The name it asks for.
    pub soname: Vec<u8>,
}

/// Why a loader does not map a file that it has found, nor look further.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Obstacle {
    /// It is a directory.
    Directory,
    /// It is a device, FIFO or socket.
    Special(&'static str),
    /// It has fewer bytes than an ELF header.
    TooShort,
    /// It does not start as an ELF file does.
    NotElf,
    /// It starts as an ELF file, and is none.
    Broken(Rc<ElfError>),
    /// Its numbers have the other byte order.
    ByteOrder,
    /// It is for another operating system.
    OsAbi,
    /// It passes floating point numbers in other places (ARM).
    FloatAbi,
    /// It is an object file, a core file or something else that nobody maps.
    FileType,
    /// It is a program at a fixed address.
    Executable,
    /// It is a program at any address.
    Pie,
    /// It has no dynamic section.
    NoDynamicSection,
    /// The program is privileged, and what it needs is spelled with a token.
    TokenOfPrivileged,
    /// What it needs is spelled with a token that has no value.
    TokenWithoutValue,
    /// There are more objects than any real program has.
    TooMany,
}

impl fmt::Display for Obstacle {
    /// Says it in the loader's own words, where it has some.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "cannot read file data: is a directory",
            Self::Special(what) => return write!(f, "it is {what}, not a library"),
            Self::TooShort => "file too short",
            Self::NotElf => "invalid ELF header",
            Self::Broken(error) => return error.fmt(f),
            Self::ByteOrder => "the ELF file has the other byte order",
            Self::OsAbi => "ELF file OS ABI invalid",
            Self::FloatAbi => "it is for the other floating point convention",
            Self::FileType => "only ET_DYN and ET_EXEC can be loaded",
            Self::Executable => "cannot dynamically load executable",
            Self::Pie => "cannot dynamically load position-independent executable",
            Self::NoDynamicSection => "object file has no dynamic section",
            Self::TokenOfPrivileged => {
                "a dynamic string token is not allowed in the needs of a privileged program"
            }
            Self::TokenWithoutValue => "a dynamic string token in its needs has no value",
            Self::TooMany => "more objects than any real program has",
        })
    }
}
