//! Layers as a whole: killed builds, cores, memory, file systems, the size of the cache.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use minimage::oci::Digest;
use rustix::fs::{CWD, Mode, OFlags};
use tempfile::TempDir;

use crate::command::isolate;
use crate::require;

/// A root filesystem of its own with one program: an ELF file with a few megabytes behind it.
struct Source {
    directory: TempDir,
}

impl Source {
    fn new(len: u64) -> Self {
        Self::below(&std::env::temp_dir(), len)
    }

    fn below(place: &Path, len: u64) -> Self {
        let directory = tempfile::tempdir_in(place).unwrap();
        let program = directory.path().join("root/bin/program");
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(&program, elf()).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        File::options().append(true).open(&program).unwrap().set_len(len).unwrap();
        Self { directory }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns a build into the layout `layout` with a cache.
    fn build(&self, runner: &[&str], layout: &str) -> Command {
        let minimage = env!("CARGO_BIN_EXE_minimage");
        let words: Vec<&str> = runner.iter().copied().chain([minimage]).collect();
        let mut command = Command::new(words[0]);
        let output = format!("type=oci,tar=false,dest={}", self.place(layout).display());
        isolate(&mut command, self.directory.path());
        command.args(&words[1..]).args(["build", "/bin/program", "-o", &output]);
        command.arg("--from").arg(self.place("root"));
        command.arg("--cache-dir").arg(self.place("cache"));
        command
    }
}

/// Returns a static program for x86-64: an ELF header, and no segment.
fn elf() -> Vec<u8> {
    let mut bytes = vec![0_u8; 64];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for (at, value) in [(16, 2), (18, 62), (20, 1), (52, 64), (54, 56), (58, 64)] {
        bytes[at] = value;
    }
    bytes
}

fn digest(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Checks that each blob of a layout is what its name says.
fn check(layout: &Path) {
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with('.') {
            assert_eq!(Digest::of(&fs::read(entry.path()).unwrap()).hex(), name);
        }
    }
}

/// Returns the files below `directory` that have not got their names.
fn unfinished(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let unfinished = |path: PathBuf| match path.file_name() {
        Some(name) if name.as_encoded_bytes().starts_with(b".") => vec![path],
        _ => unfinished(&path),
    };
    entries.flatten().flat_map(|entry| unfinished(entry.path())).collect()
}

/// Returns whether files in `directory` can do without a name.
fn takes_unnamed_files(directory: &Path) -> bool {
    let flags = OFlags::TMPFILE | OFlags::WRONLY;
    rustix::fs::openat(CWD, directory, flags, Mode::RUSR).is_ok()
}

/// Returns how many files are below `directory`.
fn count(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries.flatten().map(|entry| 1 + count(&entry.path())).sum()
}

#[test]
fn a_killed_build_leaves_nothing_wrong() {
    let source = Source::new(24 << 20);
    let expected = digest(source.build(&["env"], "expected"));
    for files in 0..24 {
        for place in ["cache", "layout"] {
            let _ = fs::remove_dir_all(source.place(place));
        }
        let mut command = source.build(&["env"], "layout");
        let mut build = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Each turn lets it get one file further.
        while count(&source.place("cache")) + count(&source.place("layout")) < files
            && build.try_wait().unwrap().is_none()
        {
            std::hint::spin_loop();
        }
        let _ = build.kill();
        build.wait().unwrap();
        if takes_unnamed_files(source.directory.path()) {
            for place in ["cache", "layout"] {
                assert_eq!(unfinished(&source.place(place)), [""; 0].map(PathBuf::from), "{files} files");
            }
        }
        for layout in ["layout", "layout", "other"] {
            assert_eq!(digest(source.build(&["env"], layout)), expected, "killed at {files} files");
            check(&source.place(layout));
        }
        fs::remove_dir_all(source.place("other")).unwrap();
    }
}

#[test]
fn the_number_of_cores_does_not_matter() {
    let source = Source::new(5 << 20);
    let expected = digest(source.build(&["env"], "all"));
    fs::remove_dir_all(source.place("cache")).unwrap();
    let taskset = ["taskset", "-c", "0"];
    if Command::new(taskset[0]).arg("-V").stdout(Stdio::null()).status().is_err() {
        return require::skip("taskset", "it is not installed");
    }
    assert_eq!(digest(source.build(&taskset, "one")), expected);
}

#[test]
fn a_file_larger_than_memory_fits() {
    let source = Source::new(300 << 20);
    let limited = ["sh", "-c", "ulimit -v 262144 && exec \"$@\"", "sh"];
    assert!(digest(source.build(&limited, "layout")).starts_with("sha256:"));
}

/// Neither that of the source, nor those of the cache and the layout.
#[test]
fn the_file_system_does_not_matter() {
    let (memory, disk) = (Path::new("/dev/shm"), Path::new(env!("CARGO_TARGET_TMPDIR")));
    let device = |place: &Path| fs::metadata(place).map(|metadata| metadata.dev());
    match device(memory) {
        Err(error) => return require::skip("tmpfs", &format!("/dev/shm: {error}")),
        Ok(one) if one == device(disk).unwrap() => {
            return require::skip("tmpfs", "/dev/shm is on the file system of the build");
        }
        Ok(_) => {}
    }
    let (memory, disk) = (Source::below(memory, 5 << 20), Source::below(disk, 5 << 20));
    let expected = digest(disk.build(&["env"], "layout"));
    for layout in ["layout", "layout", "another"] {
        assert_eq!(digest(memory.build(&["env"], layout)), expected);
        check(&memory.place(layout));
    }
}

/// There may be more of them than files that a process can have open.
#[test]
fn a_cache_with_many_blobs_does_not_matter() {
    let source = Source::new(3 << 20);
    let expected = digest(source.build(&["env"], "layout"));
    let cache = source.place("cache/v1");
    let index = fs::read_dir(cache.join("members")).unwrap().next().unwrap().unwrap().path();
    for number in 0..100 {
        let name = Digest::of(format!("{number}").as_bytes()).hex();
        fs::copy(&index, cache.join("members").join(&name)).unwrap();
        fs::write(cache.join("blobs/blobs/sha256").join(&name), b"not what the index says").unwrap();
    }
    // The layer itself is not known any more.
    fs::remove_dir_all(cache.join("layers")).unwrap();
    let limited = ["sh", "-c", "ulimit -n 64 && exec \"$@\"", "sh"];
    assert_eq!(digest(source.build(&limited, "another")), expected);
    check(&source.place("another"));
}

/// A build leaves no more in the cache than it may hold: what was of use longest ago goes.
#[test]
fn a_build_trims_the_cache() {
    let source = Source::new(1 << 20);
    let expected = digest(source.build(&["env"], "layout"));
    let usage = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_minimage"));
        isolate(&mut command, source.directory.path());
        command.args(["cache", "du", "--format", "json", "--cache-dir"]).arg(source.place("cache"));
        digest(command)
    };
    let before = usage();
    // Nothing but its length is large.
    let old = source.place("cache/v1/blobs/blobs/sha256").join("0".repeat(64));
    let file = File::create(&old).unwrap();
    file.set_len(3 << 30).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    assert_ne!(usage(), before);
    assert_eq!(digest(source.build(&["env"], "layout")), expected);
    assert!(!old.exists());
    assert_eq!(usage(), before);
}
