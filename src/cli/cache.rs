//! `minimage cache`: what is kept between builds, and how much of it.

use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::json;
use thiserror::Error;
use tracing::debug;

use super::args::{CacheArguments, CacheCommand, CacheDuArguments, CachePruneArguments, Format};
use super::console::Console;
use super::{Outcome, boxed};
use crate::explain::{Explain, Explanation, Failure};
use crate::layer::{Cache, CacheError, Usage};
use crate::summary::size;

/// How much a cache may hold after a build, in bytes.
const LIMIT: u64 = 2 << 30;

/// The user has no place for a cache.
#[derive(Debug, Error)]
#[error("there is no home directory, and so no cache")]
struct NoHome;

impl Explain for NoHome {
    fn explain(&self) -> Vec<Explanation> {
        vec![Explanation::new("usage", self.to_string()).fix("name the cache with `--cache-dir`")]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// Opens the cache that a build uses. Builds without one are slower, and no worse.
pub(super) fn open(arguments: &CacheArguments, console: &mut Console) -> Option<Cache> {
    if arguments.no_cache {
        return None;
    }
    let path = arguments.cache_dir.clone().or_else(directory)?;
    match Cache::open(&path, SystemTime::now()) {
        Ok(cache) => Some(cache),
        Err(error) => {
            console.say(&format!("warning: {error}; building without a cache"));
            None
        }
    }
}

/// Keeps the cache from growing without end.
pub(super) fn trim(cache: &Cache) {
    if cache.usage().bytes > LIMIT
        && let Err(error) = cache.prune(LIMIT)
    {
        // Another build is using it, and will do the same.
        debug!(%error, "the cache stays as large as it is");
    }
}

pub(super) fn run(command: &CacheCommand, console: &mut Console) -> Outcome {
    match command {
        CacheCommand::Du(arguments) => du(arguments, console),
        CacheCommand::Prune(arguments) => prune(arguments, console),
    }
}

fn du(arguments: &CacheDuArguments, console: &mut Console) -> Outcome {
    let (path, cache) = existing(arguments)?;
    let usage = cache.map_or(Usage::default(), |cache| cache.usage());
    let (files, bytes) = (usage.files, usage.bytes);
    console.line(&match arguments.format {
        Format::Text => format!("{}: {files} files, {}", path.display(), size(bytes)),
        Format::Json => json!({ "path": path, "files": files, "bytes": bytes }).to_string(),
    })
}

fn prune(arguments: &CachePruneArguments, console: &mut Console) -> Outcome {
    let (path, cache) = existing(&arguments.du)?;
    let (removed, kept) = match cache {
        Some(cache) => {
            let pruned = cache.prune(arguments.keep.0).map_err(boxed)?;
            (pruned.removed.bytes, pruned.kept.bytes)
        }
        None => (0, 0),
    };
    console.line(&match arguments.du.format {
        Format::Text => format!("{}: removed {}, kept {}", path.display(), size(removed), size(kept)),
        Format::Json => json!({ "path": path, "removed": removed, "kept": kept }).to_string(),
    })
}

/// Returns where the cache is, and the cache if it is there.
fn existing(arguments: &CacheDuArguments) -> Result<(PathBuf, Option<Cache>), Box<dyn Explain>> {
    let path = arguments.cache_dir.clone().or_else(directory).ok_or_else(|| boxed(NoHome))?;
    if !path.is_dir() {
        return Ok((path, None));
    }
    let cache = Cache::open(&path, SystemTime::now()).map_err(boxed::<CacheError>)?;
    Ok((path, Some(cache)))
}

/// Returns the directory of the user's cache (XDG Base Directory Specification).
pub(super) fn directory() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(caches.join("minimage"))
}
