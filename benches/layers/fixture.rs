//! A tree of real files of a wanted size.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Shared objects, and the kinds of data that come with programs.
const SOURCES: [&str; 4] =
    ["/usr/lib/x86_64-linux-gnu", "/usr/share/zoneinfo", "/usr/lib/python3", "/usr/lib"];
/// Of every hundred bytes, so many are of shared objects, if there are enough.
const OBJECTS: u64 = 85;

/// A directory that holds the tree and everything made of it; it vanishes with the value.
pub(crate) struct Tree {
    directory: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) bytes: u64,
}

impl Tree {
    /// Copies files of this machine until there are `bytes` bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        Self::of_files(bytes, 0)
    }

    /// Does the same with files of at least `smallest` bytes.
    pub(crate) fn of_files(bytes: u64, smallest: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("tree");
        let mut tree = Self { directory, root, files: Vec::new(), bytes: 0 };
        let (mut objects, mut data) = (Vec::new(), Vec::new());
        for source in SOURCES {
            walk(Path::new(source), &mut objects, &mut data);
        }
        // The largest objects would fill a small tree alone.
        objects.retain(|(_, size)| (smallest..bytes / 8).contains(size));
        data.retain(|(_, size)| (smallest..bytes / 50).contains(size));
        for (kind, share) in [(&objects, bytes * OBJECTS / 100), (&data, bytes), (&objects, bytes)] {
            tree.take(kind, share);
        }
        tree
    }

    fn take(&mut self, files: &[(PathBuf, u64)], until: u64) {
        for (path, size) in files {
            if self.bytes >= until {
                break;
            }
            let target = self.root.join(path.strip_prefix("/").expect("it is absolute"));
            if target.exists() {
                continue;
            }
            fs::create_dir_all(target.parent().expect("it is in a directory")).expect("a directory");
            if fs::copy(path, &target).is_ok() {
                self.files.push(target);
                self.bytes += size;
            }
        }
    }

    /// Returns a place beside the tree.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Removes what is at `places`.
    pub(crate) fn clear(&self, places: &[&Path]) {
        for place in places {
            let _ = if place.is_dir() { fs::remove_dir_all(place) } else { fs::remove_file(place) };
        }
    }

    /// Waits until the times of the files tell them from later versions.
    pub(crate) fn settle(&self) {
        std::thread::sleep(Duration::from_millis(2_500));
    }

    /// Gives one file of 1 MB other bytes.
    pub(crate) fn change(&self, turn: usize) {
        let bytes = fs::read(self.files.first().expect("there are files")).expect("it can be read");
        let changed: Vec<u8> =
            bytes.iter().map(|byte| byte.wrapping_add(turn as u8)).cycle().take(1 << 20).collect();
        fs::write(self.root.join("changed"), changed).expect("it can be written");
    }
}

/// Sorts the files below `directory`, each name of a file once.
fn walk(directory: &Path, objects: &mut Vec<(PathBuf, u64)>, data: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            walk(&path, objects, data);
        } else if metadata.is_file() && metadata.nlink() == 1 {
            let mut magic = [0; 4];
            let read =
                File::open(&path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
            let kind = if read.is_ok() && &magic == b"\x7fELF" { &mut *objects } else { &mut *data };
            kind.push((path, metadata.len()));
        }
    }
}
