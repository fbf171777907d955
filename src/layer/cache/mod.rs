//! What was made before -> what need not be made again.
//!
//! Three questions, each answered by a file that can be deleted at any time: which bytes does a group of files hold
//! (`groups/`, by file identity), which layer do these groups make (`layers/`), where is the member of a group
//! (`members/`, one index for each blob). The blobs are an OCI layout. Files appear whole or not at all, and carry
//! a key of themselves: builds may run side by side and be killed at any moment.

mod checked;
mod key;
mod prune;

pub(super) use key::{Key, KeyHasher};
pub use prune::{Pruned, Usage};

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use thiserror::Error;
use tracing::{debug, warn};

use self::checked::{Fields, Writer};
use super::FORMAT_VERSION;
use super::compress::compressor_id;
use super::plan::PlannedLayer;
use crate::explain::{Explain, Explanation};
use crate::oci::{Descriptor, DiffId, Digest, Layout, LayoutError, descriptor, digest_of};
use crate::spec::Compression;

/// The version of the files in a cache; another version is an empty cache.
const VERSION: &str = "v1";
/// A file that changed this recently may change again without a new time.
const SETTLED: Duration = Duration::from_secs(2);
/// A layer of one group, and the end, is found as a whole or not at all: nobody would look for a member of it.
const WHOLE: usize = 2;
const GROUPS: &str = "groups";
const LAYERS: &str = "layers";
const MEMBERS: &str = "members";
const TARS: &str = "tars";
const LOCK: &str = "lock";

/// Layers and their parts, kept between builds in a directory of the host.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    layout: Layout,
    /// Held shared as long as the cache is open, so that nobody prunes it meanwhile.
    lock: File,
    now: SystemTime,
}

/// Why a cache cannot be used. Paths are of the host.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The file system refuses.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody else could put things into it.
    #[error("the cache `{}` belongs to another user", path.display())]
    Foreign {
        /// The cache.
        path: PathBuf,
    },
    /// Builds are using it.
    #[error("the cache `{}` is in use", path.display())]
    InUse {
        /// The cache.
        path: PathBuf,
    },
    /// Its blobs cannot be stored.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Explain for CacheError {
    fn explain(&self) -> Vec<Explanation> {
        let fix = match self {
            Self::InUse { .. } => "try again when no build is running",
            _ => "name another place with `--cache-dir`, or build with `--no-cache`",
        };
        vec![Explanation::new("unusable-cache", self.to_string()).because_of(self).fix(fix)]
    }
}

/// The key of a layer: the compressor and the bytes of each group.
#[derive(Clone, Debug)]
pub(super) struct LayerKey(KeyHasher);

impl LayerKey {
    pub(super) fn new(compression: Compression) -> Self {
        let mut hasher = KeyHasher::default();
        hasher.update(&FORMAT_VERSION.to_le_bytes());
        hasher.update(compressor_id(compression).as_bytes());
        Self(hasher)
    }

    pub(super) fn push(&mut self, group: Key) {
        self.0.update(group.as_bytes());
    }
}

/// What the groups of a layer held when they were read last: identity of the files -> bytes of the group.
pub(super) type GroupTable = HashMap<Key, Key>;

/// A member in a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    /// The bytes of the tar that it holds.
    pub(super) group: Key,
    /// The bytes of the member.
    pub(super) key: Key,
    /// Where it starts.
    pub(super) offset: u64,
    /// How long it is.
    pub(super) len: u32,
}

impl Cache {
    /// Opens the cache in `path`, which is made if it is missing. `now` is any moment before the source is read.
    ///
    /// # Errors
    /// [`CacheError::Foreign`] if it belongs to another user; [`CacheError::Io`], [`CacheError::Layout`].
    pub fn open(path: &Path, now: SystemTime) -> Result<Self, CacheError> {
        let path = path.join(VERSION);
        let io = |action| {
            let path = path.clone();
            move |source| CacheError::Io { action, path, source }
        };
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io("create"))?;
        }
        if fs::metadata(&path).map_err(io("read"))?.uid() != rustix::process::geteuid().as_raw() {
            return Err(CacheError::Foreign { path });
        }
        // Before anything else is looked at: whoever prunes leaves once we are in.
        let lock = File::options().create(true).append(true).open(path.join(LOCK)).map_err(io("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockShared).map_err(|errno| io("lock")(errno.into()))?;
        for directory in [GROUPS, LAYERS, MEMBERS] {
            fs::create_dir_all(path.join(directory)).map_err(io("create"))?;
        }
        let layout = Layout::create_temporary(&path.join("blobs"))?;
        Ok(Self { path, layout, lock, now })
    }

    /// Returns the layout that holds the blobs. What is written to it may be gone after a crash of the machine, and
    /// after the next build.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Returns the directory that holds the tars inside layers of other images, by diff_id.
    pub fn tars(&self) -> PathBuf {
        self.path.join(TARS)
    }

    /// Returns the file that holds what the groups of `layer` hold.
    pub(super) fn groups_file(&self, layer: &PlannedLayer, source: &str) -> PathBuf {
        let mut hasher = KeyHasher::default();
        hasher.update(source.as_bytes());
        for entry in &layer.entries {
            hasher.update(b"\0");
            hasher.update(entry.path.as_bytes());
        }
        self.path.join(GROUPS).join(hasher.finish().hex())
    }

    /// Returns what `file` says of the groups; nothing if it is not whole.
    pub(super) fn groups(&self, file: &Path) -> GroupTable {
        let Some(bytes) = checked::read(file) else { return GroupTable::new() };
        let mut fields = Fields::new(&bytes);
        let mut table = GroupTable::new();
        while let (Some(identity), Some(group)) = (fields.key(), fields.key()) {
            table.insert(identity, group);
        }
        table
    }

    /// Returns when a file must have changed last for its time to tell it from every later version, in nanoseconds
    /// since 1970.
    pub(super) fn settled(&self) -> i128 {
        let settled = self.now.checked_sub(SETTLED).unwrap_or(SystemTime::UNIX_EPOCH);
        settled.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i128)
    }

    /// Returns the layer that `key` makes, if it was made before. Its blob may be gone.
    pub(super) fn layer(&self, key: &LayerKey, compression: Compression) -> Option<(Descriptor, DiffId)> {
        let path = self.layer_file(key);
        let bytes = checked::read(&path)?;
        let mut fields = Fields::new(&bytes);
        let (blob, diff_id, size) = (fields.digest()?, fields.digest()?, fields.number()?);
        for of_use in [&path, &self.members_file(blob), &self.layout.blob_path(blob)] {
            self.touch(of_use);
        }
        Some((descriptor(compression.media_type(), blob, size), DiffId(diff_id)))
    }

    /// Remembers a layer that was made: its groups by the files they came from, and its members.
    pub(super) fn remember(&self, layer: &Made<'_>) {
        let Ok(blob) = digest_of(layer.descriptor) else { return };
        let mut members = Writer::default();
        members.text(&compressor_id(layer.compression));
        for member in layer.members {
            members.key(member.group);
            members.key(member.key);
            members.number(member.offset);
            members.number(member.len.into());
        }
        let mut record = Writer::default();
        record.digest(blob);
        record.digest(layer.diff_id.0);
        record.number(layer.descriptor.size());
        let mut groups = Writer::default();
        for (identity, group) in layer.groups {
            groups.key(*identity);
            groups.key(*group);
        }
        // In this order, a build that is killed in between leaves nothing that points nowhere.
        let index = (layer.members.len() > WHOLE).then(|| (self.members_file(blob), members));
        let files = [(self.layer_file(layer.key), record), (layer.groups_file.to_owned(), groups)];
        for (file, writer) in index.into_iter().chain(files) {
            if let Err(source) = writer.write(&file) {
                warn!(path = %file.display(), %source, "the cache does not remember this");
            }
        }
    }

    /// Sees to it that `layout` has the blob; returns whether it does.
    ///
    /// # Errors
    /// If `layout` cannot be written.
    pub(super) fn bring(&self, blob: &Descriptor, layout: &Layout) -> Result<bool, LayoutError> {
        let is_own = layout.path() == self.layout.path();
        if !is_own && layout.has(blob)? {
            return Ok(true);
        }
        if !self.layout.has(blob)? {
            return Ok(false);
        }
        let digest = layout.digest_of(blob)?;
        let brought = if is_own { self.layout.verify(blob) } else { layout.copy_from(&self.layout, blob) };
        match brought {
            Err(LayoutError::Corrupt { .. }) => {
                self.forget(digest);
                Ok(false)
            }
            brought => brought.map(|()| true),
        }
    }

    /// Forgets the blob `blob` and what is in it.
    pub(super) fn forget(&self, blob: Digest) {
        warn!(%blob, "a blob of the cache is damaged; it is made again");
        for path in [self.members_file(blob), self.layout.blob_path(blob)] {
            let _ = fs::remove_file(path);
        }
    }

    /// Returns all members that `compression` made. Their blobs may be gone.
    pub(super) fn members(&self, compression: Compression) -> Members<'_> {
        let mut members = Members { cache: self, places: HashMap::new(), damaged: Mutex::default() };
        let compressor = compressor_id(compression);
        for entry in fs::read_dir(self.path.join(MEMBERS)).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let blob = name.to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
            if let (Some(blob), Some(bytes)) = (blob, checked::read(&entry.path())) {
                members.add(blob, &bytes, &compressor);
            }
        }
        debug!(members = members.places.len(), "members known");
        members
    }

    fn layer_file(&self, key: &LayerKey) -> PathBuf {
        self.path.join(LAYERS).join(key.0.finish().hex())
    }

    fn members_file(&self, blob: Digest) -> PathBuf {
        self.path.join(MEMBERS).join(blob.hex())
    }

    /// Notes that `file` was of use. If that fails, it goes a little earlier.
    fn touch(&self, file: &Path) {
        let _ = File::options().append(true).open(file).and_then(|file| file.set_modified(self.now));
    }
}

/// A layer that has been made.
pub(super) struct Made<'a> {
    pub(super) key: &'a LayerKey,
    pub(super) descriptor: &'a Descriptor,
    pub(super) diff_id: DiffId,
    pub(super) compression: Compression,
    pub(super) members: &'a [Member],
    pub(super) groups: &'a [(Key, Key)],
    pub(super) groups_file: &'a Path,
}

/// The members that need not be made again.
pub(super) struct Members<'a> {
    cache: &'a Cache,
    places: HashMap<Key, (Digest, Member)>,
    /// Blobs in which nothing is believed.
    damaged: Mutex<HashSet<Digest>>,
}

impl Members<'_> {
    fn add(&mut self, blob: Digest, index: &[u8], compressor: &str) {
        let mut fields = Fields::new(index);
        if fields.text() != Some(compressor) {
            return;
        }
        let mut member = || Some((fields.key()?, fields.key()?, fields.number()?, fields.number()?));
        while let Some((group, key, offset, len)) = member() {
            if let Ok(len) = u32::try_from(len) {
                self.places.insert(group, (blob, Member { group, key, offset, len }));
            }
        }
    }

    /// Puts the member that holds `group` in place of what `bytes` held, and returns its key; `None` if it must be made.
    pub(super) fn find(&self, group: Key, bytes: &mut Vec<u8>) -> Option<Key> {
        let (blob, member) = self.places.get(&group)?;
        let damaged = || self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged().contains(blob) {
            return None;
        }
        // Open for no longer than this: a cache may hold more blobs than a process may have files.
        let file = File::open(self.cache.layout.blob_path(*blob)).ok()?;
        bytes.resize(member.len as usize, 0);
        if file.read_exact_at(bytes, member.offset).is_ok() && Key::of(bytes) == member.key {
            return Some(member.key);
        }
        // What is damaged in one place is believed nowhere.
        if damaged().insert(*blob) {
            self.cache.forget(*blob);
        }
        None
    }
}
