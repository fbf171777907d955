//! A closure -> the same closure, proven: the resolver runs on the planned image and must find the same files.
//!
//! Where it does not, because the source's cache knew directories that no loader looks into by itself, a cache of the
//! image's own libraries is added. The source's cache is never taken.

use std::collections::BTreeMap;

use super::collect::{Collector, Linked};
use super::list::{Edge, ObjectList};
use super::loader::Abi;
use super::problem::{Problem, ResolveError};
use super::resolver::Resolver;
use super::{FoundBy, Linkage, LoaderConfig};
use crate::closure::{Cause, Closure, Content, Planned};
use crate::formats::elf::ByteOrder;
use crate::formats::ldso_cache::{self, CacheLine};
use crate::path::{RawPath, RootPath};
use crate::rootfs::{CachedRootfs, Node, chase};
use crate::spec::{CacheSource, Search};

/// Adds what the planned image needs to load what the source loads, and notes what still differs.
pub(super) fn complete(source: &Resolver<'_>, collector: &mut Collector<'_>) -> Result<(), ResolveError> {
    if differences(source, &collector.closure, &collector.linked)?.is_empty() {
        return Ok(());
    }
    for ((path, _), (loader, bytes)) in caches(&collector.linked) {
        // Where its directory is a link in the image, the loader follows it.
        let directory = path.parent().unwrap_or_else(|| path.clone());
        let planned = Planned::new(&collector.closure, source.rootfs());
        let real = match chase(&planned, &directory)?.end {
            Ok((real, _)) => real.child(last_name(&path)),
            Err(_) => RootPath::from_normal(path.as_bytes()),
        };
        let Some(real) = real else { continue };
        let node = Node::file(bytes.len() as u64);
        let cause = Cause::LoaderConfig { by: loader };
        if collector.is_excluded_path(&real) {
            collector.problems.push(Problem::Excluded { path: real, by: cause.to_string() });
            return Ok(());
        }
        collector.closure.put(&real, node, Content::Generated(bytes), cause);
    }
    let differences = differences(source, &collector.closure, &collector.linked)?;
    collector.problems.extend(differences);
    Ok(())
}

/// Returns a problem for each program that would not load the same files in the image.
fn differences(
    source: &Resolver<'_>,
    closure: &Closure,
    linked: &[Linked],
) -> Result<Vec<Problem>, ResolveError> {
    let planned = Planned::new(closure, source.rootfs());
    let cached = CachedRootfs::new(&planned);
    // No ldconfig will run in the image.
    let search = Search { cache: CacheSource::AsInSource, ..source.search().clone() };
    let is_same = |path: &RootPath| match closure.entry(path).map(|entry| &entry.content) {
        Some(Content::Source(source)) => source == path,
        _ => true,
    };
    let resolver = Resolver::like(source, &cached, &search, &is_same);
    let mut problems = Vec::new();
    for program in linked {
        let Some(entry) = closure.entry(&program.path) else { continue };
        let Ok(object) = resolver.object(&program.path, &entry.node)? else { continue };
        let found = match resolver.linkage(&object, &program.circumstances) {
            Ok(Linkage::Static) => ObjectList::default(),
            Ok(Linkage::Dynamic { list, .. }) => list,
            Err(ResolveError::Incomplete { problems: found }) => {
                problems.extend(found);
                continue;
            }
            Err(error) => return Err(error),
        };
        problems.extend(difference(program, &found));
    }
    Ok(problems)
}

/// Returns the first request that the image answers with another file, or not at all.
fn difference(program: &Linked, found: &ObjectList) -> Option<Problem> {
    let path_of = |index: usize| &found.objects[index].object.path;
    let is_same =
        |one: &Edge, other: &Edge| one.soname == other.soname && path_of(one.by) == program.path_of(other.by);
    let lost = program.list.edges.iter().find(|expected| {
        let mut found = found.edges.iter();
        !found.any(|edge| is_same(edge, expected) && path_of(edge.to) == program.path_of(expected.to))
    })?;
    Some(Problem::PlanDiffers {
        program: program.path.clone(),
        soname: lost.soname.clone(),
        expected: program.path_of(lost.to).clone(),
        found: found.edges.iter().find(|edge| is_same(edge, lost)).map(|edge| path_of(edge.to).clone()),
    })
}

/// Where a cache goes and in which byte order; one cache serves both word sizes of a machine.
type CacheKey = (RawPath, ByteOrder);

/// Returns the caches that make the loaders find what they found through the source's.
fn caches(linked: &[Linked]) -> BTreeMap<CacheKey, (RootPath, Vec<u8>)> {
    let mut lines: BTreeMap<CacheKey, (RootPath, Vec<CacheLine>)> = BTreeMap::new();
    for program in linked {
        let LoaderConfig::Glibc { cache } = &program.config else { continue };
        let abi = Abi::of(&program.object.elf);
        let Some(flags) = abi.cache_flags().first() else { continue };
        let (_, lines) = lines
            .entry((cache.clone(), abi.byte_order))
            .or_insert_with(|| (program.loader.clone(), Vec::new()));
        let objects = &program.list.objects;
        let answers = program.list.edges.iter().map(|edge| (&edge.soname, &objects[edge.to]));
        let from_cache = answers.filter(|(_, loaded)| loaded.found_by == FoundBy::Cache);
        lines.extend(from_cache.map(|(soname, loaded)| CacheLine {
            name: soname.clone(),
            path: loaded.name.as_bytes().to_vec(),
            flags: *flags,
            hwcap: hwcap(&loaded.name),
        }));
    }
    let written = lines.into_iter().map(|(key, (loader, lines))| {
        let bytes = ldso_cache::write(&lines, key.1);
        (key, (loader, bytes))
    });
    written.collect()
}

/// Returns the CPU level that a path is for, by the directory it lies in.
fn hwcap(path: &RawPath) -> Option<Vec<u8>> {
    let mut names = path.as_bytes().split(|byte| *byte == b'/');
    names.find(|name| *name == b"glibc-hwcaps")?;
    names.next().map(<[u8]>::to_vec)
}

fn last_name(path: &RawPath) -> &[u8] {
    path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
