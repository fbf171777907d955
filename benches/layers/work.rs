//! What the processes that are measured do: build an image of a tree, or only what no builder can avoid.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime};

use libdeflater::{CompressionLvl, Compressor};
use minimage::closure::{Closure, Demand};
use minimage::destination::{Destination, LayoutDirectory};
use minimage::image;
use minimage::layer::{self, Cache};
use minimage::oci::{Hasher, Layout};
use minimage::path::RawPath;
use minimage::resolve::Resolution;
use minimage::rootfs::{CachedRootfs, HostRootfs};
use minimage::roots::{Keep, Origin, Root};
use minimage::spec::{Algorithm, Compression, ConfigEdits, Epoch, LayerOptions, Layering};

use super::fixture::Tree;

/// As `layer::groups` cuts.
const GROUP: u64 = 1 << 20;
const LARGE: u64 = 256 << 10;

/// Runs `build TREE LAYOUT COMPRESSION [CACHE]` or `floor TREE COMPRESSION [FILE]`.
pub(crate) fn run(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["build", tree, layout, compression, cache @ ..] => {
            build(Path::new(tree), Path::new(layout), named(compression), cache.first().map(Path::new));
        }
        ["floor", tree, compression, file @ ..] => {
            floor(Path::new(tree), named(compression), file.first().map(Path::new));
        }
        _ => panic!("unknown work: {words:?}"),
    }
}

fn named(name: &str) -> Compression {
    let algorithm = match name {
        "gzip" => Algorithm::Gzip,
        "zstd" => Algorithm::Zstd,
        _ => Algorithm::None,
    };
    algorithm.into()
}

fn threads() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

fn build(tree: &Path, path: &Path, compression: Compression, cache: Option<&Path>) {
    let rootfs = HostRootfs::open_directory(tree).unwrap();
    let nodes = CachedRootfs::new(&rootfs);
    let mut closure = Closure::new();
    let mut open = vec![tree.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
                continue;
            }
            let inside = format!("/{}", entry.path().strip_prefix(tree).unwrap().display());
            let keep = Keep::Program { name: RawPath::from(inside.as_str()), to: None };
            let root = Root { keep, origin: Origin::Argument(String::new()) };
            closure.take(&nodes, Demand::of_root(&root, RawPath::from(inside.as_str()))).unwrap();
        }
    }
    let options = LayerOptions { layering: Layering::Single, compression, threads: threads() };
    let plan = layer::plan(&closure, options.layering);
    let epoch = Epoch::default();
    let layout = Layout::create(path).unwrap();
    let cache = cache.map(|cache| Cache::open(cache, SystemTime::now()).unwrap());
    let layers = layer::write(&plan, &rootfs, epoch, &options, &layout, cache.as_ref()).unwrap();
    let config = image::config(&Resolution::default(), &ConfigEdits::default(), epoch).unwrap();
    let image = image::assemble(&layers, config, &BTreeMap::new(), epoch, &layout).unwrap();
    LayoutDirectory { path: path.to_owned() }.publish(&layout, &image, &[]).unwrap();
}

/// A stretch of a file: where it starts, and how long it is.
type Piece = (PathBuf, u64, usize);

/// Reads the files of `tree`, compresses them on all cores, and hashes both sides, in any order. Writes nothing, or what
/// there is to `file`, until the disk has it.
fn floor(tree: &Path, compression: Compression, file: Option<&Path>) {
    let groups = groups(tree);
    let next = AtomicUsize::new(0);
    let file = file.map(|path| File::create(path).unwrap());
    let written = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads().get() {
            scope.spawn(|| {
                let (mut before, mut after) = (Hasher::default(), Hasher::default());
                let mut compress = compressor(compression);
                let mut raw = Vec::new();
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    raw.clear();
                    for (path, offset, len) in group {
                        let start = raw.len();
                        raw.resize(start + len, 0);
                        File::open(path).unwrap().read_exact_at(&mut raw[start..], *offset).unwrap();
                    }
                    before.update(&raw);
                    let compressed = compress.as_mut().map(|compress| compress(&raw));
                    let blob = compressed.as_ref().unwrap_or(&raw);
                    after.update(blob);
                    if let Some(file) = &file {
                        let offset = written.fetch_add(blob.len() as u64, Ordering::Relaxed);
                        file.write_all_at(blob, offset).unwrap();
                    }
                }
                std::hint::black_box((before.finish(), after.finish()));
            });
        }
    });
    if let Some(file) = file {
        file.sync_all().unwrap();
    }
}

/// Returns the files of `tree` in groups as a layer has them, apart from headers.
fn groups(tree: &Path) -> Vec<Vec<Piece>> {
    let mut files = Vec::new();
    let mut open = vec![tree.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                files.push((entry.path(), metadata.len()));
            }
        }
    }
    files.sort();
    let (mut groups, mut group, mut filled) = (Vec::new(), Vec::new(), 0);
    for (path, size) in files {
        if filled > 0 && (size >= LARGE || filled + size > GROUP) {
            groups.push(std::mem::take(&mut group));
        }
        let mut offset = 0;
        while offset < size {
            if offset > 0 {
                groups.push(std::mem::take(&mut group));
            }
            filled = (size - offset).min(GROUP);
            group.push((path.clone(), offset, filled as usize));
            offset += filled;
        }
        filled = group.iter().map(|(_, _, len)| *len as u64).sum();
    }
    groups.push(group);
    groups
}

type Compress = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

fn compressor(compression: Compression) -> Option<Compress> {
    let level = i32::from(compression.level());
    match compression.algorithm() {
        Algorithm::Gzip => {
            let mut compressor = Compressor::new(CompressionLvl::new(level).unwrap());
            Some(Box::new(move |raw| {
                let mut out = vec![0; compressor.gzip_compress_bound(raw.len())];
                let len = compressor.gzip_compress(raw, &mut out).unwrap();
                out.truncate(len);
                out
            }))
        }
        Algorithm::Zstd => Some(Box::new(move |raw| zstd::bulk::compress(raw, level).unwrap())),
        _ => None,
    }
}

/// Prints what each level gives and costs on one core; the defaults are chosen from this.
pub(crate) fn levels(tree: &Tree) {
    let mut raw = Vec::new();
    let mut files: Vec<PathBuf> = tree.files.clone();
    files.sort();
    for file in files {
        raw.extend(std::fs::read(file).unwrap());
    }
    println!("\n== levels, one core, {} MB in pieces of 1 MiB, best of 3", raw.len() / 1_000_000);
    println!("  {:<10} {:>8} {:>8}", "level", "MB/s", "ratio");
    let zstd: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 9, 12, 15, 19];
    let gzip: Vec<u8> = Algorithm::Gzip.levels().collect();
    for (algorithm, levels) in [(Algorithm::Gzip, gzip.as_slice()), (Algorithm::Zstd, zstd)] {
        for level in levels {
            let compression = Compression::at_level(algorithm, *level).unwrap();
            let mut compress = compressor(compression).unwrap();
            let is_default = compression == algorithm.into();
            let mut best = f64::INFINITY;
            let mut len = 0;
            for _ in 0..3 {
                let start = Instant::now();
                len = raw.chunks(GROUP as usize).map(|piece| compress(piece).len()).sum();
                best = best.min(start.elapsed().as_secs_f64());
            }
            let (rate, ratio) = (raw.len() as f64 / best / 1e6, len as f64 / raw.len() as f64);
            let mark = if is_default { "  default" } else { "" };
            println!("  {:<10} {rate:>8.1} {ratio:>8.4}{mark}", format!("{algorithm} {level}"));
        }
    }
}
