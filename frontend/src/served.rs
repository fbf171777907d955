//! A closure in a stage + the target -> what the closure asks for and the target has already, in another directory.
//!
//! Somebody who copies libraries by hand puts them wherever the loader looks, not always where the stage has them.

use std::collections::{BTreeMap, HashSet};

use minimage::closure::{Cause, Closure, Content, Demand};
use minimage::formats::ReadAt;
use minimage::formats::elf::{DF_1_NODEFLIB, Elf};
use minimage::path::{RawPath, RootPath};
use minimage::resolve::{Resolution, satisfies};
use minimage::rootfs::{Kind, Node, Rootfs, RootfsError, chase};

use crate::same::equal;

/// Returns the demands for libraries of `stage` which `completed` meets by one of its own: it is not where the stage has
/// it, but a loader finds it in a directory that it looks into by itself, and it satisfies everybody who asks for it.
pub(crate) fn served<'a>(
    completed: &dyn Rootfs,
    resolution: &'a Resolution,
    stage: &dyn Rootfs,
) -> Result<HashSet<&'a Demand>, RootfsError> {
    let Resolution { closure, lib_directories, .. } = resolution;
    let mut asked: BTreeMap<&[u8], Vec<(&RootPath, &Demand)>> = BTreeMap::new();
    for demand in closure.demands() {
        let Some((by, soname)) = library(demand, lib_directories) else { continue };
        // What is for the CPUs of one level is not what is for all of them.
        let is_of_level = has_name(&demand.path, b"glibc-hwcaps");
        if !is_of_level && !soname.contains(&b'/') && chase(completed, &demand.path)?.end.is_err() {
            asked.entry(soname).or_default().push((by, demand));
        }
    }
    let mut served = HashSet::new();
    for (soname, demands) in asked {
        // The first one counts, as for the loader.
        let mut library = None;
        for directory in lib_directories {
            if let Ok(found) = chase(completed, &RawPath::new(directory.as_slice()).join(soname))?.end {
                library = Some(found);
                break;
            }
        }
        let Some((library, node)) = library else { continue };
        if node.kind != Kind::File {
            continue;
        }
        let library = completed.open(&library)?;
        let mut is_fit = true;
        for (by, demand) in &demands {
            is_fit = is_fit
                && (is_in_one(&demand.path, lib_directories) || is_same(&*library, closure, stage, demand)?)
                && does(&*library, closure, stage, by, soname)?;
        }
        if is_fit {
            served.extend(demands.into_iter().map(|(_, demand)| demand));
        }
    }
    Ok(served)
}

/// Returns who asks for a library with `demand`, and by which name: as one that a loader looks for, or as a file of one of
/// `lib_directories`, from which programs load it by its name.
fn library<'a>(demand: &'a Demand, lib_directories: &[Vec<u8>]) -> Option<(&'a RootPath, &'a [u8])> {
    match &demand.cause {
        Cause::Needed { by, soname } | Cause::DlopenNote { by, soname } => Some((by, soname)),
        Cause::Rule { by, .. } | Cause::PackageData { by, .. } => {
            let name = demand.path.as_bytes().rsplit(|byte| *byte == b'/').next()?;
            is_in_one(&demand.path, lib_directories).then_some((by, name))
        }
        _ => None,
    }
}

/// Returns whether `path` is that of something in one of `directories`.
fn is_in_one(path: &RawPath, directories: &[Vec<u8>]) -> bool {
    path.parent().is_some_and(|above| directories.iter().any(|directory| directory == above.as_bytes()))
}

/// Returns whether `library` is what `stage` has for `demand`. A library that somebody keeps in a place of their own is
/// another one than that of the system, which may have its name.
fn is_same(
    library: &dyn ReadAt,
    closure: &Closure,
    stage: &dyn Rootfs,
    demand: &Demand,
) -> Result<bool, RootfsError> {
    let moved = RootPath::from_normal(demand.path.as_bytes()).and_then(|path| closure.entry(&path));
    let own = match moved.map(|entry| &entry.content) {
        Some(Content::Source(path)) => path.clone(),
        _ => match chase(stage, &demand.path)?.end {
            Ok((path, Node { kind: Kind::File, .. })) => path,
            _ => return Ok(false),
        },
    };
    let file = stage.open(&own)?;
    if file.size() != library.size() {
        return Ok(false);
    }
    let error = |source| RootfsError::Read {
        action: "read",
        path: own.clone(),
        rootfs: stage.name().to_owned(),
        source,
    };
    equal(library, &*file, file.size()).map_err(error)
}

fn has_name(path: &RawPath, name: &[u8]) -> bool {
    path.as_bytes().split(|byte| *byte == b'/').any(|part| part == name)
}

/// Returns whether `library`, in a directory that loaders look into by themselves, does for the entry `by` of `closure`
/// what that asks of `soname`.
fn does(
    library: &dyn ReadAt,
    closure: &Closure,
    stage: &dyn Rootfs,
    by: &RootPath,
    soname: &[u8],
) -> Result<bool, RootfsError> {
    let Some(Content::Source(by)) = closure.entry(by).map(|entry| &entry.content) else { return Ok(false) };
    let user = stage.open(by)?;
    let (Ok(own), Ok(elf)) = (Elf::parse(library), Elf::parse(&*user)) else { return Ok(false) };
    let is_looked_for = elf.flags_1 & DF_1_NODEFLIB == 0;
    Ok(is_looked_for && satisfies((&own, library), (&elf, &*user), soname).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use minimage::path::show;
    use minimage::resolve;
    use minimage::roots::{Keep, Origin, Root};
    use minimage::rules::Catalogue;
    use minimage::spec::Selection;

    use super::*;
    use crate::tree_text::Tree;

    const STAGE: &str = "/lib -> usr/lib
/lib64 -> usr/lib64
/usr/lib64/ld-linux-x86-64.so.2 -> /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 loader glibc=2.36
  dirs=/lib/x86_64-linux-gnu/:/usr/lib/x86_64-linux-gnu/:/lib/:/usr/lib/
/usr/lib/x86_64-linux-gnu/libc.so.6 elf soname=libc.so.6 verdef=V1:V2
/usr/lib/x86_64-linux-gnu/libm.so.6 elf needed=libc.so.6 verneed=libc.so.6:V1:V3?
/app elf needed=libc.so.6,libm.so.6 verneed=libc.so.6:V2
";

    /// Returns who asks for what, of that which the `target` has for the program of `stage`.
    fn shown(stage: &str, target: &str) -> String {
        let tree = Tree::parse("stage", stage);
        let (stage, target) = (tree.to_memory(), Tree::parse("target", target).to_memory());
        let keep = Keep::Program { name: RawPath::from("/app"), to: None };
        let resolution = resolve::closure(&resolve::Inputs {
            rootfs: &stage,
            packages: None,
            roots: &[Root { keep, origin: Origin::Argument("app".to_owned()) }],
            search: &tree.search,
            selection: &Selection::bare(),
            rules: &Catalogue::with(&[]).unwrap(),
            user: None,
        });
        let resolution = resolution.unwrap();
        let served = served(&target, &resolution, &stage).unwrap();
        let line = |demand: &&Demand| {
            let (by, soname) = library(demand, &resolution.lib_directories).unwrap();
            format!("{by} {} {}", show(soname), demand.path)
        };
        let mut lines: Vec<String> = served.iter().map(line).collect();
        lines.sort();
        lines.join("\n")
    }

    #[test]
    fn a_library_serves_in_a_directory_of_the_loader_if_it_is_enough_for_everybody() {
        let levels = format!(
            "{STAGE}hwcaps all\n/usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libc.so.6 elf soname=libc.so.6 \
            verdef=V1:V2\n"
        );
        let private = STAGE.replace("needed=libc.so.6,", "runpath=/opt needed=libc.so.6,")
            + "/opt/libc.so.6 elf soname=libc.so.6 verdef=V1:V2\n";
        let unwinder = format!("{STAGE}/usr/lib/x86_64-linux-gnu/libgcc_s.so.1 elf\n");
        let nodeflib = STAGE.replace("/app elf", "/app elf nodeflib runpath=/lib/x86_64-linux-gnu");
        let usual = "/lib/x86_64-linux-gnu";
        for (stage, target, expected) in [
            (STAGE, "/lib/libc.so.6 elf verdef=V1:V2:V4", usual),
            (STAGE, "/lib/libc.so.6 -> libc-2.so\n/lib/libc-2.so elf verdef=V1:V2", usual),
            (STAGE, "/usr/lib/x86_64-linux-gnu/libc.so.6 elf", usual),
            // It has a place of its own, from which nothing else will do.
            (STAGE, "/lib/x86_64-linux-gnu/libc.so.6 elf", ""),
            // Not for the program, not for the library, not for the loader.
            (STAGE, "/lib/libc.so.6 elf verdef=V1", ""),
            (STAGE, "/lib/libc.so.6 elf verdef=V2", ""),
            (STAGE, "/lib64/libc.so.6 elf\n/usr/local/lib/libc.so.6 elf", ""),
            (STAGE, "/lib/libc.so.6 elf machine=aarch64", ""),
            (STAGE, "/lib/libc.so.6 elf machine=x32", ""),
            (STAGE, "/lib/libc.so.6 text INPUT(libc.so)", ""),
            (STAGE, "/lib/libc.so.6 dir", ""),
            (STAGE, "/usr/lib/glibc-hwcaps/x86-64-v3/libc.so.6 elf", ""),
            (&levels, "/lib/libc.so.6 elf", usual),
            (&levels, "/lib/glibc-hwcaps/x86-64-v3/libc.so.6 elf", ""),
            // The loader stops at the first.
            (STAGE, "/lib/libc.so.6 text x\n/usr/lib/libc.so.6 elf", ""),
            (&nodeflib, "/lib/libc.so.6 elf", ""),
            // One of its own is another one.
            (&private, "/lib/libc.so.6 elf soname=libc.so.6 verdef=V1:V2", "/opt"),
            (&private, "/lib/libc.so.6 elf verdef=V1:V2:V3", ""),
            // A rule has the C library load it.
            (&unwinder, "/lib/libgcc_s.so.1 elf", "libgcc"),
            (&unwinder, "/lib/libgcc_s.so.1 elf machine=aarch64", ""),
        ] {
            let expected = match expected {
                "" => String::new(),
                "libgcc" => {
                    let paths =
                        ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libgcc_s.so.1"];
                    paths.join(" libgcc_s.so.1 ")
                }
                directory => ["/app", "/usr/lib/x86_64-linux-gnu/libm.so.6"]
                    .map(|by| format!("{by} libc.so.6 {directory}/libc.so.6"))
                    .join("\n"),
            };
            assert_eq!(shown(stage, target), expected, "{target}");
        }
    }
}
