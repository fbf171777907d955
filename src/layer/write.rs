//! A layer plan + the source -> blobs in a layout.

use std::cell::OnceCell;
use std::io;

use thiserror::Error;
use tracing::debug;

use super::cache::{Cache, GroupTable, Key, LayerKey, Made, Members};
use super::groups;
use super::pipeline::{self, Known, Notes, Task, Written};
use super::plan::LayerPlan;
use super::read::Reader;
use super::tar::TarError;
use crate::explain::{Explain, Explanation};
use crate::oci::{BlobWriter, Descriptor, DiffId, Layout, LayoutError};
use crate::rootfs::Rootfs;
use crate::spec::{Algorithm, Epoch, LayerOptions};

/// Of so many groups, one may have changed for the layer still to be looked for in the cache: each costs a reading
/// that is done again if the layer is not there.
const CHANGED: usize = 8;

/// A layer that is in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The blob as stored.
    pub descriptor: Descriptor,
    /// The tar inside it.
    pub diff_id: DiffId,
    /// What it holds.
    pub name: String,
}

/// Why a layer cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The tar cannot be made.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The blob cannot be stored.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The compressor gives up, for want of memory.
    #[error("cannot compress the layer")]
    Compress {
        /// What it says.
        source: io::Error,
    },
    /// Another thread has failed, and says why.
    #[error("the layer was not finished")]
    Stopped,
}

impl Explain for LayerError {
    fn explain(&self) -> Vec<Explanation> {
        match self {
            Self::Layout(error) => error.explain(),
            Self::Tar(TarError::Rootfs(error)) => error.explain(),
            error => {
                let fix = match error {
                    Self::Tar(TarError::Changed { .. }) => "build again when nothing writes to the source",
                    Self::Tar(TarError::Special { .. }) => "leave it out",
                    Self::Tar(TarError::Whiteout { .. }) => "rename it in the source",
                    Self::Tar(TarError::Capability { .. }) => {
                        "set them again with `setcap`, as root of the host"
                    }
                    _ => "give the build more memory, or take a lower `--compression-level`",
                };
                vec![Explanation::new("unwritable-layer", error.to_string()).because_of(error).fix(fix)]
            }
        }
    }
}

/// Writes the layers of `plan`, whose files are in `rootfs`, as blobs of `layout`. The only step that moves bytes; with
/// a cache, only those that were not moved before.
///
/// # Errors
/// [`LayerError`]; what is not whole is not in the layout.
pub fn write(
    plan: &LayerPlan,
    rootfs: &dyn Rootfs,
    epoch: Epoch,
    options: &LayerOptions,
    layout: &Layout,
    cache: Option<&Cache>,
) -> Result<Vec<Layer>, LayerError> {
    // Looked for once, and only if a layer must be made.
    let members = OnceCell::new();
    let layer = |layer| {
        let task = Task { layer, rootfs, epoch, options, known: None };
        match cache {
            None => fresh(&task, layout.blob()?, layout).map(|(layer, _)| layer),
            Some(cache) => cached(task, layout, cache, &members),
        }
    };
    plan.layers.iter().map(layer).collect()
}

/// Makes the layer.
fn fresh(task: &Task<'_>, blob: BlobWriter, layout: &Layout) -> Result<(Layer, Notes), LayerError> {
    let Written { blob, tar, notes } = pipeline::run(task, blob)?;
    let descriptor = blob.commit(task.options.compression.media_type())?;
    let diff_id = match tar {
        Some(digest) => digest,
        None => layout.digest_of(&descriptor)?,
    };
    Ok((Layer { descriptor, diff_id: DiffId(diff_id), name: task.layer.name.clone() }, notes))
}

/// Finds the layer in the cache, or makes it with what is there.
fn cached<'a>(
    mut task: Task<'a>,
    layout: &Layout,
    cache: &'a Cache,
    members: &'a OnceCell<Members<'a>>,
) -> Result<Layer, LayerError> {
    let compression = task.options.compression;
    let groups_file = cache.groups_file(task.layer, task.rootfs.name());
    let groups = cache.groups(&groups_file);
    if let Some(key) = key(&task, &groups, cache.settled())?
        && let Some((descriptor, diff_id)) = cache.layer(&key, compression)
        && cache.bring(&descriptor, layout)?
    {
        debug!(digest = %descriptor.digest(), "layer found");
        return Ok(Layer { descriptor, diff_id, name: task.layer.name.clone() });
    }
    let members = members.get_or_init(|| cache.members(compression));
    task.known = Some(Known { groups, members, settled: cache.settled() });
    let mut blob = layout.blob()?;
    // A cache that holds bytes as they are in the source saves nobody anything.
    if compression.algorithm() != Algorithm::None && layout.path() != cache.layout().path() {
        blob = blob.with_copy(cache.layout().blob()?);
    }
    let (layer, notes) = fresh(&task, blob, layout)?;
    cache.remember(&Made {
        key: &notes.key,
        descriptor: &layer.descriptor,
        diff_id: layer.diff_id,
        compression,
        members: &notes.members,
        groups: &notes.groups,
        groups_file: &groups_file,
    });
    Ok(layer)
}

/// Returns the key of the layer if that takes little reading: `None` if more than a few groups changed since they were
/// read last.
fn key(task: &Task<'_>, groups: &GroupTable, settled: i128) -> Result<Option<LayerKey>, LayerError> {
    if groups.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(task.rootfs, Some(settled));
    let mut key = LayerKey::new(task.options.compression);
    let mut bytes = Vec::new();
    let mut may_change = 1 + groups.len() / CHANGED;
    let cut = groups::cut(task.layer, task.epoch, |group| {
        let known = reader.identity(&group)?.and_then(|identity| groups.get(&identity).copied());
        let group_key = match known {
            Some(key) => key,
            None if may_change == 0 => return Err(LayerError::Stopped),
            None => {
                may_change -= 1;
                reader.read(&group, &mut bytes)?;
                Key::of(&bytes)
            }
        };
        key.push(group_key);
        Ok(())
    });
    match cut {
        Ok(()) => Ok(Some(key)),
        Err(LayerError::Stopped) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::closure::Content;
    use crate::layer::{CacheError, PlannedEntry, PlannedLayer, TarError, Usage};
    use crate::path::RootPath;
    use crate::rootfs::{HostRootfs, Kind, MemoryRootfs, Node};
    use crate::spec::{Algorithm, Compression, Layering};

    const TAR: &str = "sha256:7deb0d98b2b25e87c0d40d2c934adb134a61d1cdfefc082839b9644c4fceccfe";
    const BLOBS: &str = "\
none 0 5350912 sha256:7deb0d98b2b25e87c0d40d2c934adb134a61d1cdfefc082839b9644c4fceccfe
gzip 1 2814914 sha256:f1baef661d36d46ff197bf7f2f9e8d1cbd4a37879541270acac85b03c0c2eb24
gzip 5 2913813 sha256:47b1c66437979ea47e6ade1fe791a4b3621066749663dff4f140075835481b48
gzip 6 2852370 sha256:daca806e83651e972943761d103f4ff2bc615011ba5dc2a31b659f6286643a51
gzip 9 2670615 sha256:837d14b8d828a24416f2aabb275fb9a6f06623e17cc39b9c2d914f0aa779ad80
gzip 12 2625376 sha256:11acb5a810f3a0d32ad0fe3eac2e951efd38d8cff248d437cbd43770450d7f8e
zstd 1 3503809 sha256:8f92b51fc908fb53ff4e64f162ff0d787df119db29bb079fa70359fa1e1ea40b
zstd 3 2998745 sha256:43044c4ef7e0898423a1dd62806bc59a31382bf22c84b01a4f637a14ad4bddbc
zstd 19 2556526 sha256:723e51b45e64c7c118012bddf86bfb840974c75ddcfc3218f1faaee4d58dc05d
";

    /// Returns bytes that compress about as well as a program does.
    fn program(len: usize, seed: u32) -> Vec<u8> {
        let mut state = seed.wrapping_mul(747_796_405).wrapping_add(1);
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        };
        let words: Vec<u32> = (0..64).map(|_| next()).collect();
        let bytes = std::iter::repeat_with(|| match next() % 4 {
            0 => next().to_le_bytes(),
            at => words[(at * 16 + next() % 16) as usize % 64].to_le_bytes(),
        });
        bytes.flatten().take(len).collect()
    }

    /// Returns a tree with one of everything that a layer can hold, and its plan.
    fn fixture() -> (MemoryRootfs, LayerPlan) {
        let mut rootfs = MemoryRootfs::new("fixture");
        let path = |text: &[u8]| RootPath::from_normal(text).unwrap();
        for (at, len) in [
            ("/bin/tool", 3_000_000),
            ("/bin/su", 70_000),
            ("/lib/exactly-one-group", 1 << 20),
            ("/lib/large", 300_000),
            ("/etc/empty", 0),
            ("/etc/one-block", 512),
        ] {
            let mode = if at.starts_with("/bin") { 0o755 } else { 0o644 };
            let bytes = program(len, len as u32);
            rootfs.insert(&path(at.as_bytes()), Node { mode, ..Node::file(0) }, bytes);
        }
        for index in 0..200 {
            rootfs.file(&format!("/share/zone/{index}"), &program(index * 37, index as u32));
        }
        let capability = [1, 0, 0, 2, 0, 32].into_iter().chain([0; 14]).collect();
        let ping = Node { mode: 0o755, capability: Some(capability), ..Node::file(0) };
        rootfs.insert(&path(b"/bin/ping"), ping, program(5_000, 1));
        rootfs.hard_link(&path(b"/bin/ping4"), &path(b"/bin/ping"));
        let su = Node { mode: 0o4755, uid: 70_000_000, gid: 42, ..Node::file(0) };
        rootfs.insert(&path(b"/bin/su"), su, program(70_000, 2));
        rootfs.insert(&path(b"/tmp"), Node::directory(0o1777), Vec::new());
        rootfs.link("/lib64", "lib");
        rootfs.link("/lib/far", &"../".repeat(40));
        rootfs.file(&format!("/{}name", "deep/".repeat(30)), b"split in two");
        rootfs.file(&format!("/{}", "n".repeat(200)), b"too long");
        rootfs.insert(&path(b"/etc/caf\xe9"), Node::file(0), b"not UTF-8".to_vec());
        rootfs.file("/etc/käse", b"not ASCII");
        let plan = planned(&rootfs);
        (rootfs, plan)
    }

    /// Returns the plan of everything in `rootfs`.
    fn planned(rootfs: &dyn Rootfs) -> LayerPlan {
        let mut entries: Vec<PlannedEntry> = Vec::new();
        let mut open = vec![RootPath::root()];
        while let Some(directory) = open.pop() {
            for name in rootfs.read_dir(&directory).unwrap() {
                let path = directory.child(&name).unwrap();
                let node = rootfs.lookup(&path).unwrap().unwrap();
                let content = match node.kind {
                    Kind::File => Content::Source(path.clone()),
                    _ => Content::None,
                };
                if node.kind == Kind::Directory {
                    open.push(path.clone());
                }
                entries.push(PlannedEntry { path, node, content, hard_link_to: None });
            }
        }
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        let ids: Vec<_> = entries.iter().map(|entry| (entry.node.id, entry.path.clone())).collect();
        for entry in &mut entries {
            let first = ids.iter().find(|(id, _)| *id == entry.node.id).map(|(_, path)| path);
            if entry.node.links > 1 {
                entry.hard_link_to = first.filter(|first| **first != entry.path).cloned();
            }
        }
        LayerPlan { layers: vec![PlannedLayer { name: "everything".to_owned(), entries }] }
    }

    fn written(compression: Compression, threads: usize) -> (Layer, Vec<u8>) {
        let (rootfs, plan) = fixture();
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let threads = NonZeroUsize::new(threads).unwrap();
        let options = LayerOptions { layering: Layering::Single, compression, threads };
        let layers =
            write(&plan, &rootfs, Epoch::parse("1700000000").unwrap(), &options, &layout, None).unwrap();
        let mut blob = Vec::new();
        io::Read::read_to_end(&mut layout.open(&layers[0].descriptor).unwrap(), &mut blob).unwrap();
        (layers[0].clone(), blob)
    }

    /// Other bytes for the same files are a new [`FORMAT_VERSION`](crate::layer::FORMAT_VERSION), and a line in the
    /// release notes.
    #[test]
    fn the_bytes_of_this_format_version() {
        let mut found = String::new();
        for (algorithm, levels) in [
            (Algorithm::None, &[0][..]),
            (Algorithm::Gzip, &[1, 5, 6, 9, 12]),
            (Algorithm::Zstd, &[1, 3, 19]),
        ] {
            for level in levels {
                let (layer, _) = written(Compression::at_level(algorithm, *level).unwrap(), 2);
                let (digest, size) = (layer.descriptor.digest(), layer.descriptor.size());
                found.push_str(&format!("{algorithm} {level} {size} {digest}\n"));
                assert_eq!(layer.diff_id.to_string(), TAR);
            }
        }
        assert_eq!(found, BLOBS);
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        for algorithm in [Algorithm::None, Algorithm::Gzip, Algorithm::Zstd] {
            let (one, blob) = written(algorithm.into(), 1);
            for threads in [2, 3, 16] {
                let (other, other_blob) = written(algorithm.into(), threads);
                assert_eq!(one, other);
                assert!(blob == other_blob);
            }
        }
    }

    #[test]
    fn a_file_that_changes_leaves_no_blob() {
        let (rootfs, mut plan) = fixture();
        let entry = plan.layers[0].entries.iter_mut().find(|entry| entry.node.size > 0).unwrap();
        entry.node.size += 1;
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let options = LayerOptions {
            layering: Layering::Single,
            compression: Compression::default(),
            threads: NonZeroUsize::MIN,
        };
        let failed = write(&plan, &rootfs, Epoch::default(), &options, &layout, None);
        assert!(matches!(failed, Err(LayerError::Tar(TarError::Changed { .. }))), "{failed:?}");
        let blobs = std::fs::read_dir(directory.path().join("blobs/sha256")).unwrap();
        assert_eq!(blobs.count(), 0);
    }

    /// Enough for a group of its own.
    const SIZE: usize = 270_000;

    /// A tree on the disk whose files have not changed lately, its plan, a layout and a cache.
    struct Scene {
        directory: tempfile::TempDir,
        plan: LayerPlan,
        rootfs: HostRootfs,
    }

    impl Scene {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let tree = directory.path().join("tree");
            std::fs::create_dir(&tree).unwrap();
            for index in 0..5 {
                std::fs::write(tree.join(format!("{index:02}")), program(SIZE, index)).unwrap();
            }
            let rootfs = HostRootfs::open_directory(&tree).unwrap();
            let plan = planned(&rootfs);
            Self { directory, plan, rootfs }
        }

        fn cache(&self) -> Cache {
            // The files were written before this moment, as it comes from the future.
            let now = SystemTime::now() + Duration::from_secs(60);
            Cache::open(&self.directory.path().join("cache"), now).unwrap()
        }

        fn build(&self, layout: &str, cache: Option<&Cache>) -> Layer {
            let layout = Layout::create(&self.directory.path().join(layout)).unwrap();
            let options = LayerOptions {
                layering: Layering::Single,
                compression: Compression::default(),
                threads: NonZeroUsize::MIN.saturating_add(1),
            };
            let epoch = Epoch::default();
            let layers = write(&self.plan, &self.rootfs, epoch, &options, &layout, cache).unwrap();
            layout.verify(&layers[0].descriptor).unwrap();
            layers[0].clone()
        }

        /// Replaces a file by one of the same size and time, which only its own times tell from the old one.
        fn change(&self, name: &str, seed: u32) {
            std::fs::write(self.directory.path().join("tree").join(name), program(SIZE, seed)).unwrap();
        }

        /// Returns the files of the cache below `directory`, but for the lock.
        fn cached(&self, directory: &str) -> Vec<PathBuf> {
            let directory = self.directory.path().join("cache/v1").join(directory);
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
        }
    }

    #[test]
    fn a_cache_changes_no_byte() {
        let scene = Scene::new();
        let expected = scene.build("none", None);
        for layout in ["cold", "cold", "other"] {
            assert_eq!(scene.build(layout, Some(&scene.cache())), expected);
        }
        scene.change("03", 99);
        let changed = scene.build("none", None);
        assert_ne!(changed, expected);
        assert_eq!(scene.build("other", Some(&scene.cache())), changed);
        scene.change("03", 3);
        assert_eq!(scene.build("other", Some(&scene.cache())), expected);
    }

    #[test]
    fn a_cache_in_any_state_changes_no_byte() {
        let scene = Scene::new();
        let expected = scene.build("none", None);
        scene.build("first", Some(&scene.cache()));
        let mut turn = 0;
        for directory in ["groups", "layers", "members", "blobs/blobs/sha256"] {
            for damage in ["gone", "empty", "short", "flipped", "other"] {
                turn += 1;
                for file in scene.cached(directory) {
                    let mut bytes = std::fs::read(&file).unwrap();
                    let half = bytes.len() / 2;
                    match damage {
                        "gone" => std::fs::remove_file(&file).unwrap(),
                        "empty" => std::fs::write(&file, b"").unwrap(),
                        "short" => std::fs::write(&file, &bytes[..half]).unwrap(),
                        "flipped" => {
                            if let Some(byte) = bytes.get_mut(half) {
                                *byte ^= 0x10;
                            }
                            std::fs::write(&file, bytes).unwrap();
                        }
                        _ => std::fs::write(&file, vec![7; bytes.len()]).unwrap(),
                    }
                }
                // Once with the layer still known, and once with only its members.
                let built = scene.build(&format!("{turn}"), Some(&scene.cache()));
                assert_eq!(built, expected, "{directory} {damage}");
                scene.change("04", 1000 + turn);
                let changed = scene.build(&format!("{turn}-none"), None);
                assert_eq!(scene.build(&format!("{turn}-c"), Some(&scene.cache())), changed);
                scene.change("04", 4);
                assert_eq!(scene.build(&format!("{turn}-b"), Some(&scene.cache())), expected);
            }
        }
    }

    #[test]
    fn builds_share_a_cache() {
        let scene = Scene::new();
        let expected = scene.build("none", None);
        std::thread::scope(|scope| {
            for index in 0..6 {
                let (scene, expected) = (&scene, &expected);
                scope.spawn(move || {
                    let layout = format!("{}", index % 3);
                    assert_eq!(&scene.build(&layout, Some(&scene.cache())), expected);
                });
            }
        });
        let cache = scene.cache();
        assert!(matches!(scene.cache().prune(0), Err(CacheError::InUse { .. })));
        let other = scene.cache();
        assert!(matches!(cache.prune(0), Err(CacheError::InUse { .. })));
        assert!(matches!(other.prune(0), Err(CacheError::InUse { .. })), "the one that asked is still there");
        drop(other);
        let used = cache.usage();
        assert_eq!(cache.prune(used.bytes).unwrap().kept, used);
        assert!(cache.prune(used.bytes - 1).unwrap().kept.bytes < used.bytes);
        assert_eq!(cache.prune(0).unwrap().kept, Usage::default());
        drop(cache);
        assert_eq!(scene.build("last", Some(&scene.cache())), expected);
    }
}
