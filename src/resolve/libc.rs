//! The C library of some programs -> the files of it that every image has, so that images share a layer.

use super::LoaderConfig;
use super::collect::{Collector, Linked};
use super::problem::ResolveError;
use super::resolver::Resolver;
use crate::closure::{Cause, Demand};
use crate::path::{RawPath, RootPath};
use crate::rootfs::RootfsError;

/// The name by which programs need glibc.
const GLIBC: &[u8] = b"libc.so.6";
/// What most programs load of glibc, or once did, and what glibc itself loads to look up names. They need nothing but
/// each other and the loader; what a version does not have is passed over. libmvec.so.1 is as large as all of them, and
/// few programs need it.
const GLIBC_FILES: [&str; 10] = [
    "libanl.so.1",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libpthread.so.0",
    "libresolv.so.2",
    "librt.so.1",
    "libutil.so.1",
];

/// Takes the files that go with the C libraries in the closure.
pub(super) fn take(resolver: &Resolver<'_>, collector: &mut Collector<'_>) -> Result<(), ResolveError> {
    let mut demands = Vec::new();
    for linked in &collector.linked {
        let found = match &linked.config {
            LoaderConfig::Glibc { .. } => glibc(resolver, linked)?,
            LoaderConfig::Musl { .. } => musl(linked),
        };
        demands.extend(found);
    }
    for demand in demands {
        collector.closure.take(resolver.rootfs(), demand)?;
    }
    Ok(())
}

/// Returns the demands for the files beside the library, and for the loader by the name that the library itself has
/// for it: programs may spell it differently.
fn glibc(resolver: &Resolver<'_>, linked: &Linked) -> Result<Vec<Demand>, RootfsError> {
    let Some(edge) = linked.list.edges.iter().find(|edge| edge.soname == GLIBC) else {
        return Ok(Vec::new());
    };
    let library = linked.path_of(edge.to);
    let Some(directory) = library.parent() else { return Ok(Vec::new()) };
    let mut paths: Vec<RawPath> =
        GLIBC_FILES.iter().map(|name| directory.to_raw().join(name.as_bytes())).collect();
    if let Some(node) = resolver.rootfs().lookup(library)?
        && let Ok(object) = resolver.object(library, &node)?
        && let Some(interp) = &object.elf.interp
    {
        paths.push(RawPath::new(interp.as_slice()));
    }
    Ok(demands(library, paths))
}

/// Returns the demands for the one file that musl is: by the name of the loader, and by that of the library beside it.
fn musl(linked: &Linked) -> Vec<Demand> {
    let Some(interp) = linked.object.elf.interp.as_deref().map(RawPath::new) else { return Vec::new() };
    let name = interp.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let library = name.strip_prefix(b"ld-").map(|rest| [b"libc.", rest].concat());
    let beside = interp.parent().zip(library).map(|(directory, library)| directory.join(&library));
    demands(&linked.loader, [interp].into_iter().chain(beside))
}

fn demands(library: &RootPath, paths: impl IntoIterator<Item = RawPath>) -> Vec<Demand> {
    let cause = Cause::Libc { by: library.clone() };
    paths.into_iter().map(|path| Demand { path, cause: cause.clone() }).collect()
}
