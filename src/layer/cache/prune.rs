//! A cache -> how much is in it; a smaller cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::{Cache, CacheError, GROUPS, LAYERS, MEMBERS, TARS};

/// What a cache holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many files.
    pub files: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
}

/// What was removed from a cache, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// What is gone.
    pub removed: Usage,
    /// What is still there.
    pub kept: Usage,
}

/// A file of the cache, and when it was of use last.
struct Kept {
    path: PathBuf,
    size: u64,
    used: SystemTime,
    is_unfinished: bool,
}

impl Cache {
    /// Returns how much is in the cache.
    pub fn usage(&self) -> Usage {
        total(&self.files())
    }

    /// Removes what was of use longest ago until no more than `limit` bytes are left, and what killed builds left
    /// unfinished.
    ///
    /// # Errors
    /// [`CacheError::InUse`] if a build is using the cache; [`CacheError::Io`].
    pub fn prune(&self, limit: u64) -> Result<Pruned, CacheError> {
        let pruned = match rustix::fs::flock(&self.lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => self.prune_locked(limit),
            Err(Errno::WOULDBLOCK) => Err(CacheError::InUse { path: self.path.clone() }),
            Err(errno) => Err(self.error("lock", &self.path)(errno.into())),
        };
        // Asking for more gives away what one has, even in vain (flock(2), "Converting a lock").
        rustix::fs::flock(&self.lock, FlockOperation::LockShared)
            .map_err(|errno| self.error("lock", &self.path)(errno.into()))?;
        pruned
    }

    fn prune_locked(&self, limit: u64) -> Result<Pruned, CacheError> {
        let mut files = self.files();
        // The unfinished ones first: nobody is finishing them.
        files.sort_by_key(|file| (!file.is_unfinished, file.used));
        let before = total(&files);
        let mut removed = Usage::default();
        for file in files {
            if !file.is_unfinished && before.bytes - removed.bytes <= limit {
                break;
            }
            fs::remove_file(&file.path).map_err(self.error("remove", &file.path))?;
            removed.files += 1;
            removed.bytes += file.size;
        }
        let kept = Usage { files: before.files - removed.files, bytes: before.bytes - removed.bytes };
        Ok(Pruned { removed, kept })
    }

    /// Returns every file that may be removed.
    fn files(&self) -> Vec<Kept> {
        let mut files = Vec::new();
        let blobs = self.layout.path().join("blobs").join("sha256");
        let own = [GROUPS, LAYERS, MEMBERS, TARS].map(|name| self.path.join(name));
        for directory in own.into_iter().chain([blobs]) {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                files.push(Kept {
                    path: entry.path(),
                    size: metadata.len(),
                    used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    is_unfinished: entry.file_name().to_string_lossy().starts_with('.'),
                });
            }
        }
        files
    }

    fn error(&self, action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> CacheError + use<> {
        let path = path.to_owned();
        move |source| CacheError::Io { action, path, source }
    }
}

fn total(files: &[Kept]) -> Usage {
    files.iter().fold(Usage::default(), |usage, file| Usage {
        files: usage.files + 1,
        bytes: usage.bytes.saturating_add(file.size),
    })
}
