//! A place that holds files -> [`Rootfs`]: a root filesystem that is looked at, never executed.

mod cached;
mod chase;
mod completed;
mod find;
mod host;
mod layers;
mod memory;
mod tars;

pub use cached::CachedRootfs;
pub use chase::{Absence, Chased, Link, chase};
pub use completed::{Bytes, CompletedRootfs};
pub use find::{Eyes, Found, find};
pub use host::HostRootfs;
pub use layers::{ImageRootfs, LayersError};
pub use memory::MemoryRootfs;
pub use tars::Tars;

use std::io;

use thiserror::Error;

use crate::explain::{Explain, Explanation};
use crate::formats::{ReadAt, read_all};
use crate::path::{RawPath, RootPath};

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, with its target as spelled.
    Link(RawPath),
    /// A device, FIFO or socket: never opened, never put into an image.
    Special(&'static str),
}

/// Identity of a file: two paths with the same one are hard links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// The device, or whatever else separates numberings.
    pub device: u64,
    /// The number of the file there.
    pub inode: u64,
}

/// What is at a path: what tar needs of it, and no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky: `mode & 07777`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes; 0 for everything but regular files.
    pub size: u64,
    /// Which file it is.
    pub id: FileId,
    /// How many paths the file has; at least 1.
    pub links: u64,
    /// The raw extended attribute `security.capability` of a regular file.
    pub capability: Option<Vec<u8>>,
}

impl Node {
    /// Returns a directory of root with `mode`, as minimage makes one itself.
    pub fn directory(mode: u32) -> Self {
        Self { kind: Kind::Directory, mode, ..Self::file(0) }
    }

    /// Returns a file of root with mode 0644 and `size` bytes, as minimage makes one itself.
    pub fn file(size: u64) -> Self {
        let id = FileId { device: 0, inode: 0 };
        Self { kind: Kind::File, mode: 0o644, uid: 0, gid: 0, size, id, links: 1, capability: None }
    }

    /// Returns a link of root to `target`.
    pub fn link(target: RawPath) -> Self {
        Self { kind: Kind::Link(target), mode: 0o777, ..Self::file(0) }
    }

    /// Returns whether it is a regular file that somebody may execute.
    pub fn is_executable(&self) -> bool {
        self.kind == Kind::File && self.mode & 0o111 != 0
    }

    /// Returns whether the kernel starts this file with the privileges of its owner, group or capabilities, which
    /// puts the loader into its secure mode (AT_SECURE of getauxval(3)).
    pub fn is_privileged(&self) -> bool {
        self.kind == Kind::File && (self.mode & 0o6000 != 0 || self.capability.is_some())
    }
}

/// A root filesystem: read-only and blocking. Paths are inside it; nothing outside can be reached through it.
pub trait Rootfs: Send + Sync {
    /// Returns what to call this root filesystem in messages.
    fn name(&self) -> &str;

    /// Returns the node at `path`, or `None` if nothing is there. Never follows a final symlink.
    ///
    /// # Errors
    /// [`RootfsError::Denied`] if a directory on the way may not be searched, [`RootfsError::Read`] if the source
    /// cannot be read; absence is not an error.
    fn lookup(&self, path: &RootPath) -> Result<Option<Node>, RootfsError>;

    /// Returns the names in the directory `path`, sorted.
    ///
    /// # Errors
    /// [`RootfsError::Read`] if it cannot be listed, or is no directory.
    fn read_dir(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError>;

    /// Returns the same names, each with whether it is a directory itself: where a source can tell without a look-up,
    /// that is much cheaper.
    ///
    /// # Errors
    /// As [`Rootfs::read_dir`] and [`Rootfs::lookup`].
    fn read_dir_kinds(&self, path: &RootPath) -> Result<Vec<(Vec<u8>, bool)>, RootfsError> {
        let mut found = Vec::new();
        for name in self.read_dir(path)? {
            let node = path.child(&name).map(|path| self.lookup(&path)).transpose()?.flatten();
            found.push((name, node.is_some_and(|node| node.kind == Kind::Directory)));
        }
        Ok(found)
    }

    /// Opens the regular file at `path`.
    ///
    /// # Errors
    /// [`RootfsError::Read`] if it cannot be opened or is anything else.
    fn open(&self, path: &RootPath) -> Result<Box<dyn ReadAt + '_>, RootfsError>;
}

/// Returns all of the regular file at `path`.
///
/// # Errors
/// [`RootfsError::TooLarge`] if it has more than `limit` bytes, and what [`Rootfs::open`] says.
pub fn read_file(rootfs: &dyn Rootfs, path: &RootPath, limit: u64) -> Result<Vec<u8>, RootfsError> {
    let file = rootfs.open(path)?;
    match read_all(&*file, limit) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(RootfsError::TooLarge {
            path: path.clone(),
            rootfs: rootfs.name().to_owned(),
            size: file.size(),
            limit,
        }),
        Err(source) => Err(RootfsError::read("read", path, rootfs.name(), source)),
    }
}

/// Why a root filesystem gives no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RootfsError {
    /// The permissions of the source forbid it.
    #[error("may not {action} `{path}` in {rootfs}")]
    Denied {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path inside.
        path: RootPath,
        /// What the root filesystem is called.
        rootfs: String,
    },
    /// The source cannot be read.
    #[error("cannot {action} `{path}` in {rootfs}")]
    Read {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path inside.
        path: RootPath,
        /// What the root filesystem is called.
        rootfs: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file that must be read whole is too large for that.
    #[error("`{path}` in {rootfs} has {size} bytes, too many to read it whole: the limit is {limit}")]
    TooLarge {
        /// The path inside.
        path: RootPath,
        /// What the root filesystem is called.
        rootfs: String,
        /// Its length in bytes.
        size: u64,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// The source itself is not there, or is no directory.
    #[error("cannot open `{rootfs}` as a root filesystem")]
    Open {
        /// The path on the host.
        rootfs: String,
        /// What the system says.
        source: io::Error,
    },
}

impl RootfsError {
    /// Returns that the path `path` inside of the root filesystem called `rootfs` cannot be read, because of `source`;
    /// `action` is a verb.
    pub fn read(action: &'static str, path: &RootPath, rootfs: &str, source: io::Error) -> Self {
        Self::Read { action, path: path.clone(), rootfs: rootfs.to_owned(), source }
    }
}

impl Explain for RootfsError {
    fn explain(&self) -> Vec<Explanation> {
        let (code, fix) = match self {
            Self::Denied { .. } => {
                ("unreadable-file", "make it readable, or run minimage as a user who may read it")
            }
            Self::Read { .. } => ("unreadable-file", "check the file and the file system it is on"),
            Self::TooLarge { .. } => ("file-too-large", "look whether it is what its name says"),
            Self::Open { .. } => ("unreadable-source", "name a directory that holds a root filesystem"),
        };
        vec![Explanation::new(code, self.to_string()).because_of(self).fix(fix)]
    }
}
