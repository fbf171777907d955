//! The name of a program that is not there + the tree -> the program that may be meant.

use std::collections::VecDeque;

use crate::nearest::nearest;
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Kind, Rootfs, RootfsError, chase};
use crate::spec::Search;

/// How many directories are looked through for a program: more than most images have down to the third level.
const DIRECTORIES_MAX: usize = 2_000;
/// How many names are looked at on the way.
const NAMES_MAX: usize = 100_000;
/// Directories in which no program of an image is.
const WITHOUT_PROGRAMS: [&[u8]; 3] = [b"/dev", b"/proc", b"/sys"];

/// Returns the program of `rootfs` that may be meant by `name`: of this name in another directory, or of a name much like
/// it. A bare name stays one.
pub(super) fn nearest_program(
    name: &RawPath,
    search: &Search,
    rootfs: &dyn Rootfs,
) -> Result<Option<RawPath>, RootfsError> {
    let is_path = name.as_bytes().contains(&b'/');
    let own = name.parent().filter(|_| is_path);
    let directories: Vec<RawPath> =
        own.into_iter().chain(search.path.iter().cloned()).chain(search.workdir.clone()).collect();
    let last = name.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let is_program = |path: &RawPath| Ok(chase(rootfs, path)?.is_executable());
    for directory in &directories {
        let path = directory.join(last);
        if is_program(&path)? {
            return Ok(Some(path));
        }
    }
    if let Some(path) = program_called(last, rootfs) {
        return Ok(Some(path.to_raw()));
    }
    for directory in &directories {
        let Ok((real, node)) = chase(rootfs, directory)?.end else { continue };
        if node.kind != Kind::Directory {
            continue;
        }
        let names = rootfs.read_dir(&real)?;
        let names = names.iter().filter_map(|name| str::from_utf8(name).ok());
        let near = str::from_utf8(last).ok().and_then(|last| nearest(last, names));
        if let Some(near) = near.map(str::as_bytes)
            && is_program(&directory.join(near))?
        {
            return Ok(Some(if is_path { directory.join(near) } else { RawPath::new(near) }));
        }
    }
    Ok(None)
}

/// Returns the program called `name` that is nearest to the top of `rootfs`, as far as that can be seen quickly.
fn program_called(name: &[u8], rootfs: &dyn Rootfs) -> Option<RootPath> {
    let mut open = VecDeque::from([RootPath::root()]);
    let mut names_left = NAMES_MAX;
    for _ in 0..DIRECTORIES_MAX {
        let directory = open.pop_front()?;
        // What may not be looked at is no help.
        let Ok(names) = rootfs.read_dir_kinds(&directory) else { continue };
        for (found, is_directory) in names.into_iter().take(names_left) {
            let Some(path) = directory.child(&found) else { continue };
            names_left -= 1;
            if is_directory {
                if !WITHOUT_PROGRAMS.contains(&path.as_bytes()) {
                    open.push_back(path);
                }
            } else if found == name
                && let Ok(Some(node)) = rootfs.lookup(&path)
                && node.is_executable()
            {
                return Some(path);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::{MemoryRootfs, Node};

    #[test]
    fn a_program_that_may_be_meant_is_found() {
        let mut rootfs = MemoryRootfs::new("the target");
        let programs = [
            "/usr/local/bin/app",
            "/usr/bin/bash",
            "/go/hello",
            "/srv/serve",
            "/opt/tools/deep/tool",
            "/opt/tools/tool",
            "/opt/bsah",
            "/proc/1/exe",
        ];
        for (path, mode) in programs.map(|path| (path, 0o755)).into_iter().chain([("/srv/data.txt", 0o644)]) {
            let path = RootPath::from_normal(path.as_bytes()).unwrap();
            rootfs.insert(&path, Node { mode, ..Node::file(0) }, Vec::new());
        }
        let path = ["/usr/local/bin", "/usr/bin"].map(RawPath::from).into();
        let search = Search { path, workdir: Some(RawPath::from("/go")), ..Search::standard() };
        for (name, expected) in [
            ("/usr/bin/app", Some("/usr/local/bin/app")),
            ("/hello", Some("/go/hello")),
            ("/go/helo", Some("/go/hello")),
            ("/srv/sevre", Some("/srv/serve")),
            ("/srv/data.tx", None),
            ("bahs", Some("bash")),
            ("bsah", Some("/opt/bsah")),
            ("ap", Some("app")),
            ("push", None),
            // Of this name, wherever it is: the nearest to the top.
            ("tool", Some("/opt/tools/tool")),
            ("/usr/bin/tool", Some("/opt/tools/tool")),
            ("exe", None),
        ] {
            let found = nearest_program(&RawPath::from(name), &search, &rootfs).unwrap();
            assert_eq!(found, expected.map(RawPath::from), "{name}");
        }
    }
}
