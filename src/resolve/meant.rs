//! The name of a program that is not there + the tree -> the program that may be meant.

use crate::nearest::nearest;
use crate::path::RawPath;
use crate::rootfs::{Kind, Rootfs, RootfsError, chase};
use crate::spec::Search;

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
    let is_program = |path: &RawPath| -> Result<bool, RootfsError> {
        let end = chase(rootfs, path)?.end;
        Ok(matches!(end, Ok((_, node)) if node.kind == Kind::File && node.mode & 0o111 != 0))
    };
    for directory in &directories {
        let path = directory.join(last);
        if is_program(&path)? {
            return Ok(Some(path));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RootPath;
    use crate::rootfs::{MemoryRootfs, Node};

    #[test]
    fn a_program_that_may_be_meant_is_found() {
        let mut rootfs = MemoryRootfs::new("the target");
        let programs = ["/usr/local/bin/app", "/usr/bin/bash", "/go/hello", "/srv/serve"];
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
            ("bsah", Some("bash")),
            ("ap", Some("app")),
            ("push", None),
        ] {
            let found = nearest_program(&RawPath::from(name), &search, &rootfs).unwrap();
            assert_eq!(found, expected.map(RawPath::from), "{name}");
        }
    }
}
