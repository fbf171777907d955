//! A planned layer + the source -> the same files in a directory, with everything that a tar of them would say.

use std::ffi::OsStr;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{Advice, AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::plan::{LayerPlan, PlannedEntry};
use super::tar::{TarError, portable_capability};
use crate::closure::Content;
use crate::explain::{Explain, Explanation};
use crate::formats::ReadAt;
use crate::path::RootPath;
use crate::rootfs::{Kind, Rootfs, RootfsError};
use crate::spec::Epoch;

/// How much of a file is copied at once, in bytes.
const PIECE: usize = 1 << 20;
/// More threads than this wait for each other more than for the disk.
const THREADS_MAX: usize = 4;

/// Why a directory cannot be filled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The source cannot be read, or holds what no image can.
    #[error(transparent)]
    Source(#[from] TarError),
    /// The directory cannot be written to.
    #[error("cannot {action} `{path}`")]
    Write {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path on the host.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Explain for DirectoryError {
    fn explain(&self) -> Vec<Explanation> {
        match self {
            Self::Source(TarError::Rootfs(error)) => error.explain(),
            error => {
                vec![
                    Explanation::new("unwritable-directory", error.to_string())
                        .because_of(error)
                        .fix("make room, and write to a file system that keeps owners, modes and links"),
                ]
            }
        }
    }
}

/// Writes the entries of `plan`, whose files are in `rootfs`, below the empty directory `path`. Whoever packs it up
/// gets the tar that [`write`](super::write) makes of the same plan.
///
/// # Errors
/// [`DirectoryError`]; the directory is then left as it is.
pub fn write_dir(
    plan: &LayerPlan,
    rootfs: &dyn Rootfs,
    epoch: Epoch,
    path: &Path,
) -> Result<(), DirectoryError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| DirectoryError::Write {
        action: "open",
        path: path.to_owned(),
        source: errno.into(),
    })?;
    let writer = Writer { top, path, rootfs, times: times(epoch) };
    let (mut directories, mut files, mut links) = (Vec::new(), Vec::new(), Vec::new());
    for entry in plan.layers.iter().flat_map(|layer| &layer.entries) {
        match (&entry.hard_link_to, &entry.node.kind) {
            (Some(first), _) => links.push((entry, first)),
            (None, Kind::Directory) => directories.push(entry),
            (None, _) => files.push(entry),
        }
    }
    for entry in &directories {
        writer.directory(entry)?;
    }
    writer.files(&files)?;
    for (entry, first) in links {
        writer.link(entry, first)?;
    }
    // What is put into a directory changes its time: the innermost first, and last of all the top.
    for entry in directories.iter().rev() {
        writer.stamp(&entry.path)?;
    }
    writer.stamp(&RootPath::root())
}

fn times(epoch: Epoch) -> Timestamps {
    let time = Timespec { tv_sec: epoch.seconds().cast_signed(), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

struct Writer<'a> {
    top: OwnedFd,
    path: &'a Path,
    rootfs: &'a dyn Rootfs,
    times: Timestamps,
}

impl Writer<'_> {
    fn directory(&self, entry: &PlannedEntry) -> Result<(), DirectoryError> {
        let (path, node) = (&entry.path, &entry.node);
        refuse_whiteout(path)?;
        match rustix::fs::mkdirat(&self.top, relative(path), Mode::from(0o700)) {
            // Layers of one plan may share directories.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.error("create", path, errno)),
        }
        self.own(path, node.uid, node.gid)?;
        rustix::fs::chmodat(&self.top, relative(path), Mode::from_raw_mode(node.mode), AtFlags::empty())
            .map_err(|errno| self.error("set the mode of", path, errno))
    }

    /// Writes `entries`, whose directories are there, on all processors. Of several errors the first one counts.
    fn files(&self, entries: &[&PlannedEntry]) -> Result<(), DirectoryError> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut buffer = vec![0; PIECE];
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let entry = entries.get(at)?;
                if let Err(error) = self.entry(entry, &mut buffer) {
                    next.store(entries.len(), Ordering::Relaxed);
                    return Some((at, error));
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS_MAX);
        let failures = thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let results =
                running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            results.flatten().collect::<Vec<_>>()
        });
        failures.into_iter().min_by_key(|(at, _)| *at).map_or(Ok(()), |(_, error)| Err(error))
    }

    fn entry(&self, entry: &PlannedEntry, buffer: &mut [u8]) -> Result<(), DirectoryError> {
        let (path, node) = (&entry.path, &entry.node);
        refuse_whiteout(path)?;
        match &node.kind {
            Kind::Directory => self.directory(entry),
            Kind::File => self.file(entry, buffer),
            Kind::Link(target) => {
                rustix::fs::symlinkat(OsStr::from_bytes(target.as_bytes()), &self.top, relative(path))
                    .map_err(|errno| self.error("create", path, errno))?;
                self.own(path, node.uid, node.gid)?;
                self.stamp(path)
            }
            Kind::Special(what) => Err(TarError::Special { path: path.clone(), what }.into()),
        }
    }

    fn link(&self, entry: &PlannedEntry, first: &RootPath) -> Result<(), DirectoryError> {
        let path = &entry.path;
        refuse_whiteout(path)?;
        rustix::fs::linkat(&self.top, relative(first), &self.top, relative(path), AtFlags::empty())
            .map_err(|errno| self.error("link", path, errno))
    }

    fn file(&self, entry: &PlannedEntry, buffer: &mut [u8]) -> Result<(), DirectoryError> {
        let (path, node) = (&entry.path, &entry.node);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::openat(&self.top, relative(path), flags, Mode::from(0o600))
            .map_err(|errno| self.error("create", path, errno))?;
        match &entry.content {
            Content::Source(source) => self.copy(source, node.size, path, &file, buffer)?,
            Content::Generated(bytes) => self.put(path, &file, bytes)?,
            Content::None => {}
        }
        // The owner first: changing it takes set-id bits and capabilities away.
        rustix::fs::fchown(&file, Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)))
            .map_err(|errno| self.error("set the owner of", path, errno))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(node.mode))
            .map_err(|errno| self.error("set the mode of", path, errno))?;
        if let Some(capability) = &node.capability {
            let value = portable_capability(capability)
                .map_err(|what| TarError::Capability { path: path.clone(), what })?;
            rustix::fs::fsetxattr(&file, "security.capability", &value, XattrFlags::empty())
                .map_err(|errno| self.error("set the capabilities of", path, errno))?;
        }
        // Has the kernel begin to write it out now: whoever takes the directory over, as BuildKit does, waits for that.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        rustix::fs::futimens(&file, &self.times).map_err(|errno| self.error("set the time of", path, errno))
    }

    /// Copies the `size` bytes of `source`, which must have exactly as many, through `buffer`.
    fn copy(
        &self,
        source: &RootPath,
        size: u64,
        path: &RootPath,
        file: &OwnedFd,
        buffer: &mut [u8],
    ) -> Result<(), DirectoryError> {
        let opened = self.rootfs.open(source).map_err(TarError::from)?;
        let mut offset = 0;
        loop {
            let count = read(&*opened, offset, buffer).map_err(|error| {
                TarError::from(RootfsError::Read {
                    action: "read",
                    path: source.clone(),
                    rootfs: self.rootfs.name().to_owned(),
                    source: error,
                })
            })?;
            offset += count as u64;
            if offset > size || (count == 0 && offset != size) {
                return Err(TarError::Changed { path: source.clone() }.into());
            }
            if count == 0 {
                return Ok(());
            }
            self.put(path, file, buffer.get(..count).unwrap_or_default())?;
        }
    }

    fn put(&self, path: &RootPath, file: &OwnedFd, mut bytes: &[u8]) -> Result<(), DirectoryError> {
        while !bytes.is_empty() {
            match rustix::io::write(file, bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error("write", path, errno)),
            }
        }
        Ok(())
    }

    fn own(&self, path: &RootPath, uid: u32, gid: u32) -> Result<(), DirectoryError> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&self.top, relative(path), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.error("set the owner of", path, errno))
    }

    fn stamp(&self, path: &RootPath) -> Result<(), DirectoryError> {
        rustix::fs::utimensat(&self.top, relative(path), &self.times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.error("set the time of", path, errno))
    }

    fn error(&self, action: &'static str, path: &RootPath, errno: Errno) -> DirectoryError {
        DirectoryError::Write { action, path: self.path.join(relative(path)), source: errno.into() }
    }
}

/// Layers take such a name for the removal of another one.
fn refuse_whiteout(path: &RootPath) -> Result<(), TarError> {
    if path.file_name().starts_with(b".wh.") {
        Err(TarError::Whiteout { path: path.clone() })
    } else {
        Ok(())
    }
}

fn read(file: &dyn ReadAt, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read_at(offset, buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Returns `path` as the kernel wants it relative to the top directory.
fn relative(path: &RootPath) -> &OsStr {
    OsStr::from_bytes(if path.is_root() { b"." } else { path.relative() })
}
