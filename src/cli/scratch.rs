//! A directory for what is on its way elsewhere, which vanishes whatever happens.
//!
//! Whoever uses one holds a lock on it, and the kernel takes the lock away from a process that is killed. So each new
//! one begins by removing those that nobody holds any more.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use tempfile::TempDir;
use thiserror::Error;
use tracing::debug;

use super::boxed;
use crate::explain::{Explain, Explanation};
use crate::oci::Layout;

/// What the names of scratch directories begin with. Nobody else's do: whole trees are removed by it.
const PREFIX: &str = ".minimage-scratch-";
/// The file in each of them that is locked as long as it is in use.
const LOCK: &str = "lock-of-minimage-scratch";
/// How often another name is tried, if somebody takes a directory for one that was left behind.
const TRIES: usize = 16;

/// A directory that vanishes with the value, or when the next one is made.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: TempDir,
    _lock: File,
}

/// There is no place for a scratch directory.
#[derive(Debug, Error)]
#[error("cannot make a directory in `{}`", place.display())]
struct ScratchError {
    place: PathBuf,
    source: io::Error,
}

impl Explain for ScratchError {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("unwritable-output", self.to_string())
                .because_of(self)
                .fix("name a directory with space left in TMPDIR"),
        ]
    }
}

impl Scratch {
    /// Makes a directory where the environment places such, and removes what killed builds left there.
    pub(super) fn create() -> Result<Self, Box<dyn Explain>> {
        let place = std::env::temp_dir();
        Self::create_in(&place).map_err(|source| boxed(ScratchError { place, source }))
    }

    /// Makes a directory in `place`, and removes what killed builds left there.
    pub(super) fn create_in(place: &Path) -> io::Result<Self> {
        sweep(place);
        for _ in 0..TRIES {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(place)?;
            let path = directory.path().join(LOCK);
            // Between the steps, somebody else may have taken it for left behind.
            let Ok(lock) = File::options().append(true).create_new(true).open(&path) else { continue };
            let is_ours = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
            if is_ours && is_at(&lock, &path) {
                return Ok(Self { directory, _lock: lock });
            }
        }
        Err(io::Error::other("somebody removes the directories made here"))
    }

    /// Returns the directory of the host.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns a layout in the directory. It is not the directory itself: a layout has a lock of its own.
    pub(super) fn layout(&self) -> Result<Layout, Box<dyn Explain>> {
        Layout::create_temporary(&self.directory.path().join("layout")).map_err(boxed)
    }
}

/// Removes the scratch directories in `place` that nobody uses.
fn sweep(place: &Path) {
    let user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == user);
        if !is_ours {
            continue;
        }
        let lock_path = path.join(LOCK);
        let Ok(lock) = File::options().append(true).open(&lock_path) else { continue };
        let is_free = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        if is_free && is_at(&lock, &lock_path) {
            debug!(path = %path.display(), "removing what a killed build left");
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Returns whether `file` is what `path` names.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |metadata: io::Result<fs::Metadata>| metadata.map(|it| (it.dev(), it.ino())).ok();
    id(fs::symlink_metadata(path)).is_some_and(|named| id(file.metadata()) == Some(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let left = place.path().join(".minimage-scratch-left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), b"").unwrap();
        fs::write(left.join("blob"), b"half of it").unwrap();
        // What only looks like it is somebody's.
        let others = ["minimage-left", ".minimage-scratch-bare", "other"].map(|name| place.path().join(name));
        for other in &others {
            fs::create_dir(other).unwrap();
            fs::write(other.join("file"), b"mine").unwrap();
        }
        fs::write(others[0].join(LOCK), b"").unwrap();
        let first = Scratch::create_in(place.path()).unwrap();
        let second = Scratch::create_in(place.path()).unwrap();
        assert!(!left.exists());
        assert!(others.iter().all(|path| path.join("file").exists()));
        let path = |scratch: &Scratch| scratch.directory.path().to_owned();
        assert!(path(&first).is_dir() && path(&second).is_dir());
        first.layout().unwrap();
        let gone = path(&first);
        drop(first);
        assert!(!gone.exists());
    }
}
