//! `chase` on random trees of links, and the kernel's own walk of the same (openat2 with RESOLVE_IN_ROOT).

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use minimage::path::RawPath;
use minimage::rootfs::{Absence, HostRootfs, chase};
use proptest::prelude::*;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::require;

/// What is made at a path: nothing is overwritten, so that the first of several wins.
#[derive(Debug, Clone)]
enum Made {
    File,
    Directory,
    Link(String),
}

/// A path out of few names, so that random ones meet.
fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "d"]),
        2 => Just(".."),
        1 => Just("."),
        1 => Just(""),
    ];
    (any::<bool>(), prop::collection::vec(name, 0..6), any::<bool>()).prop_map(|(absolute, names, slash)| {
        let start = if absolute { "/" } else { "" };
        let end = if slash { "/" } else { "" };
        format!("{start}{}{end}", names.join("/"))
    })
}

fn made() -> impl Strategy<Value = (Vec<&'static str>, Made)> {
    let names = prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "d"]), 1..4);
    let target = path().prop_filter("a link has a target", |path| !path.is_empty());
    let made =
        prop_oneof![1 => Just(Made::File), 2 => Just(Made::Directory), 4 => target.prop_map(Made::Link)];
    (names, made)
}

/// Makes what can be made: what would need a directory in place of something else is left out.
fn make(top: &Path, items: &[(Vec<&'static str>, Made)]) {
    for (names, made) in items {
        let (last, above) = names.split_last().unwrap();
        let mut here = top.to_owned();
        for name in above {
            here.push(name);
            if fs::symlink_metadata(&here).is_err() {
                fs::create_dir(&here).unwrap();
            }
            if !fs::symlink_metadata(&here).unwrap().is_dir() {
                break;
            }
        }
        here = names.iter().take(above.len()).fold(top.to_owned(), |path, name| path.join(name));
        if !fs::symlink_metadata(&here).is_ok_and(|metadata| metadata.is_dir()) {
            continue;
        }
        here.push(last);
        if fs::symlink_metadata(&here).is_err() {
            match made {
                Made::File => fs::write(&here, "").unwrap(),
                Made::Directory => fs::create_dir(&here).unwrap(),
                Made::Link(target) => symlink(target, &here).unwrap(),
            }
        }
    }
}

/// Returns where the kernel ends, as a path in `top`.
fn kernel(top: &OwnedFd, path: &str) -> Result<String, Absence> {
    let place = |fd: &OwnedFd| fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(top, OsStr::new(path), flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Ok(found) => {
            let (found, top) = (place(&found), place(top));
            let inside = found.strip_prefix(&top).unwrap().as_os_str().as_bytes();
            Ok(format!("/{}", String::from_utf8_lossy(inside)))
        }
        Err(Errno::NOENT) => Err(Absence::NotFound),
        Err(Errno::NOTDIR) => Err(Absence::NotADirectory),
        Err(Errno::LOOP) => Err(Absence::TooManyLinks),
        Err(Errno::NAMETOOLONG) => Err(Absence::NameTooLong),
        // Somebody renamed or mounted something meanwhile, anywhere: openat2(2) then does not vouch for `..`.
        Err(Errno::AGAIN) => kernel(top, path),
        Err(errno) => panic!("{path}: {errno}"),
    }
}

fn open(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn chase_walks_as_the_kernel_does() {
    let here = open(Path::new("."));
    if rustix::fs::openat2(&here, ".", OFlags::PATH, Mode::empty(), ResolveFlags::IN_ROOT).is_err() {
        return require::skip("openat2", "Linux before 5.6, or a sandbox that does not know the call");
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let trees = (prop::collection::vec(made(), 0..24), prop::collection::vec(path(), 1..24));
    runner
        .run(&trees, |(items, paths)| {
            let directory = tempfile::tempdir().unwrap();
            make(directory.path(), &items);
            let rootfs = HostRootfs::open_directory(directory.path()).unwrap();
            let top = open(directory.path());
            for path in paths {
                let ours = chase(&rootfs, &RawPath::from(path.as_str())).unwrap().end;
                let ours = ours.map(|(path, _)| path.to_string());
                prop_assert_eq!(ours, kernel(&top, &path), "{:?} in {:?}", path, items);
            }
            Ok(())
        })
        .unwrap();
}
