//! A root filesystem whose ldconfig(8) has not run -> the cache that it would write.

use std::collections::BTreeSet;

use super::loader::{Abi, EM_386, EM_X86_64, GlibcConf};
use super::object::Objects;
use crate::formats::elf::Elf;
use crate::formats::ldso_cache::{self, CacheLine, LdsoCache};
use crate::formats::ldso_conf::{self, ConfLine};
use crate::path::{RawPath, RootPath, show};
use crate::rootfs::{Kind, Rootfs, RootfsError, chase, read_file};

const CONF: &str = "/etc/ld.so.conf";
/// The largest file of configuration that is read, in bytes.
const CONF_MAX: u64 = 1 << 20;
/// How deep files may include each other.
const DEPTH_MAX: usize = 16;

/// Returns the cache that ldconfig would write for loaders built as `conf` says.
pub(super) fn cache(
    objects: &Objects<'_>,
    conf: &GlibcConf,
    loader: &Elf,
) -> Result<Option<LdsoCache>, RootfsError> {
    let (byte_order, abi) = (loader.byte_order, Abi::of(loader));
    let hwcaps = if conf.has_hwcaps { abi.hwcaps() } else { &[] };
    let mut directories = Vec::new();
    configured(objects.rootfs(), &RawPath::from(CONF), 0, &mut directories)?;
    if matches!(abi.machine, EM_386 | EM_X86_64) {
        directories = directories.into_iter().flat_map(with_siblings).collect();
    }
    directories.extend(conf.directories.iter().map(|directory| RawPath::new(trimmed(directory))));
    let mut lines = Vec::new();
    let mut seen = BTreeSet::new();
    for directory in directories {
        let mut found = libraries(objects, &directory, None)?;
        for level in hwcaps {
            let below = directory.join(b"glibc-hwcaps").join(level);
            found.extend(libraries(objects, &below, Some(level))?);
        }
        for line in found {
            // The first directory that has a name answers it.
            if seen.insert((line.name.clone(), line.flags, line.hwcap.clone())) {
                lines.push(line);
            }
        }
    }
    Ok(LdsoCache::parse(ldso_cache::write(&lines, byte_order), byte_order))
}

/// Returns `directory`, and those for the other word sizes of x86 that are meant as well when it is called `lib`.
fn with_siblings(directory: RawPath) -> Vec<RawPath> {
    let is_lib = directory.as_bytes().ends_with(b"/lib");
    let suffixes: &[&str] = if is_lib { &["", "64", "x32"] } else { &[""] };
    suffixes.iter().map(|suffix| RawPath::new([directory.as_bytes(), suffix.as_bytes()].concat())).collect()
}

fn trimmed(directory: &[u8]) -> &[u8] {
    directory.strip_suffix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(directory)
}

/// Adds the directories that the file `path` names, with those of the files it includes.
fn configured(
    rootfs: &dyn Rootfs,
    path: &RawPath,
    depth: usize,
    directories: &mut Vec<RawPath>,
) -> Result<(), RootfsError> {
    let real = match chase(rootfs, path)?.end {
        Ok((real, node)) if node.kind == Kind::File => real,
        _ => return Ok(()),
    };
    if depth >= DEPTH_MAX {
        tracing::warn!(path = %real, "included too deep, perhaps by itself: not read");
        return Ok(());
    }
    for line in ldso_conf::parse(&read_file(rootfs, &real, CONF_MAX)?) {
        match line {
            ConfLine::Directory(directory) => {
                directories.push(directory);
            }
            ConfLine::Include(glob) => {
                let here = path.parent().unwrap_or_else(|| RawPath::from("/"));
                let glob = if glob.is_absolute() { glob } else { here.join(glob.as_bytes()) };
                for included in expanded(rootfs, &glob)? {
                    configured(rootfs, &included, depth + 1, directories)?;
                }
            }
        }
    }
    Ok(())
}

/// Returns the files that `glob` stands for, sorted. Only its last name may be a pattern, as in every ld.so.conf.
fn expanded(rootfs: &dyn Rootfs, glob: &RawPath) -> Result<Vec<RawPath>, RootfsError> {
    let Some(directory) = glob.parent() else { return Ok(Vec::new()) };
    let pattern = glob.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let Ok((real, node)) = chase(rootfs, &directory)?.end else { return Ok(Vec::new()) };
    if node.kind != Kind::Directory {
        return Ok(Vec::new());
    }
    let names = rootfs.read_dir(&real)?;
    let matching = names.into_iter().filter(|name| ldso_conf::matches(pattern, name));
    Ok(matching.map(|name| directory.join(&name)).collect())
}

/// Returns the lines that the files in `directory` give, which is for the CPU level `hwcap`.
fn libraries(
    objects: &Objects<'_>,
    directory: &RawPath,
    hwcap: Option<&[u8]>,
) -> Result<Vec<CacheLine>, RootfsError> {
    let rootfs = objects.rootfs();
    let real = match chase(rootfs, directory)?.end {
        Ok((real, node)) if node.kind == Kind::Directory => real,
        _ => return Ok(Vec::new()),
    };
    let mut lines = Vec::new();
    for name in rootfs.read_dir(&real)?.into_iter().filter(|name| is_library(name)) {
        lines.extend(line(objects, directory, &real, &name, hwcap)?);
    }
    Ok(lines)
}

fn line(
    objects: &Objects<'_>,
    directory: &RawPath,
    real: &RootPath,
    name: &[u8],
    hwcap: Option<&[u8]>,
) -> Result<Option<CacheLine>, RootfsError> {
    let rootfs = objects.rootfs();
    let own = real.child(name).map(|path| rootfs.lookup(&path)).transpose()?.flatten();
    let is_link = matches!(own.map(|node| node.kind), Some(Kind::Link(_)));
    let (target, node) = match chase(rootfs, &directory.join(name))?.end {
        Ok((target, node)) if node.kind == Kind::File => (target, node),
        _ => return Ok(None),
    };
    let Ok(object) = objects.at(&target, &node)? else { return Ok(None) };
    let Some(flags) = Abi::of(&object.elf).cache_flags().first() else { return Ok(None) };
    if !object.elf.is_dynamic {
        return Ok(None);
    }
    let soname = object.elf.soname.as_deref().unwrap_or(name);
    // A link counts by its own name, where that is the soname or what a linker would look for.
    let name = match is_link {
        true if name == soname || is_linker_name(name, soname) => name,
        true => return Ok(None),
        false => soname,
    };
    tracing::trace!(name = %show(name), directory = %directory, "ldconfig would enter it");
    let path = directory.join(name).as_bytes().to_vec();
    Ok(Some(CacheLine { name: name.to_vec(), path, flags: *flags, hwcap: hwcap.map(<[u8]>::to_vec) }))
}

/// Returns whether `name` is `libx.so` where `soname` is `libx.so.1`.
fn is_linker_name(name: &[u8], soname: &[u8]) -> bool {
    name.ends_with(b".so") && soname.starts_with(name)
}

fn is_library(name: &[u8]) -> bool {
    const PATTERNS: [&[u8]; 4] = [b"lib*.so*", b"ld-*.so*", b"ld.so.*", b"ld64.so.*"];
    const LEFTOVERS: [&[u8]; 3] = [b"*.dpkg-new", b"*.dpkg-tmp", b"*;*"];
    PATTERNS.iter().any(|pattern| ldso_conf::matches(pattern, name))
        && !LEFTOVERS.iter().any(|pattern| ldso_conf::matches(pattern, name))
}
