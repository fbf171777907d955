//! Bytes -> a file of the host that is there whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use tempfile::TempPath;

/// Where the kernel shows the open files of a process.
const OPEN_FILES: &str = "/proc/self/fd";
/// What any new file may be used for, before the umask.
const MODE: u32 = 0o666;

/// A file that has not got its name yet. Dropped, it is gone, and no trace is left if the process is killed: it has no
/// name at all, but on file systems that know no such files.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    /// A name to go by until then.
    name: Option<TempPath>,
}

impl NewFile {
    /// Makes a file that will get a name in `directory`, or on its file system.
    pub(crate) fn create_in(directory: &Path) -> io::Result<Self> {
        if let Ok(file) = unnamed(directory) {
            return Ok(Self { file, name: None });
        }
        // Opened here, as tempfile puts its random name into errors.
        let create =
            |path: &Path| File::options().read(true).write(true).create_new(true).mode(MODE).open(path);
        let (file, name) = tempfile::Builder::new().make_in(directory, create)?.into_parts();
        Ok(Self { file, name: Some(name) })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, which it takes away from any other, and returns it. The disk may not have it yet.
    pub(crate) fn persist(self, path: &Path) -> io::Result<File> {
        let Self { file, name } = self;
        if let Some(name) = name {
            name.persist(path)?;
            return Ok(file);
        }
        let open = format!("{OPEN_FILES}/{}", file.as_raw_fd());
        let link = |name: &Path| {
            rustix::fs::linkat(CWD, &open, CWD, name, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
        };
        match link(path) {
            // A new name replaces another, which a link does not.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let directory = path.parent().unwrap_or(Path::new(""));
                tempfile::Builder::new().make_in(directory, link)?.into_temp_path().persist(path)?;
            }
            linked => linked?,
        }
        Ok(file)
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Opens a file without a name on the file system of `directory`, if it can have one.
fn unnamed(directory: &Path) -> io::Result<File> {
    // Without this, it would never get a name.
    fs::symlink_metadata(OPEN_FILES)?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, directory, flags, Mode::from_raw_mode(MODE))?.into())
}

/// A file that the user named: written whole, or left as it was. What is no regular file, as `/dev/null` and pipes are,
/// is written to and stays what it is.
#[derive(Debug)]
pub(crate) enum OutputFile {
    /// It will be at this path.
    Regular(NewFile, PathBuf),
    Stream(File),
}

impl OutputFile {
    /// Begins to write to `path`. What a link names is replaced, and not the link.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        if is_stream(path) {
            return File::options().write(true).open(path).map(Self::Stream);
        }
        if path.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        let path = if path.is_symlink() { fs::canonicalize(path)? } else { path.to_owned() };
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = NewFile::create_in(directory.unwrap_or(Path::new(".")))?;
        Ok(Self::Regular(file, path))
    }

    /// Takes away what is at `path` from an earlier time.
    #[cfg(any(feature = "cli", test))]
    pub(crate) fn clear(path: &Path) -> io::Result<()> {
        if is_stream(path) {
            return Ok(());
        }
        let cleared = if path.is_symlink() { File::create(path).map(drop) } else { fs::remove_file(path) };
        cleared.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
    }

    pub(crate) fn file(&self) -> &File {
        match self {
            Self::Regular(file, _) => file.file(),
            Self::Stream(file) => file,
        }
    }

    /// Waits until the disk has the file, and shows it.
    pub(crate) fn publish(self) -> io::Result<()> {
        match self {
            Self::Regular(file, path) => {
                file.file().sync_all()?;
                file.persist(&path).map(drop)
            }
            Self::Stream(_) => Ok(()),
        }
    }
}

/// Returns whether what is at `path` takes bytes and keeps none.
fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, symlink};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        for (text, is_published) in [("one", true), ("lost", false), ("two", true)] {
            let output = OutputFile::create(&path).unwrap();
            output.file().write_all(text.as_bytes()).unwrap();
            if unnamed(directory.path()).is_ok() {
                assert!(names(directory.path()).len() <= 1, "a name before its time");
            }
            if is_published {
                output.publish().unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
            }
        }
        assert_eq!(names(directory.path()), ["f"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    }

    #[test]
    fn a_file_system_without_unnamed_files_will_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        for text in ["one", "two"] {
            let (file, name) = tempfile::NamedTempFile::new_in(directory.path()).unwrap().into_parts();
            let mut file = NewFile { file, name: Some(name) };
            file.write_all(text.as_bytes()).unwrap();
            file.persist(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(names(directory.path()), ["f"]);
        }
    }

    #[test]
    fn what_is_no_regular_file_stays_what_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link, null) =
            (directory.path().join("file"), directory.path().join("link"), directory.path().join("null"));
        fs::write(&file, "old").unwrap();
        symlink("file", &link).unwrap();
        symlink("/dev/null", &null).unwrap();
        for path in [&link, &null] {
            OutputFile::clear(path).unwrap();
            let output = OutputFile::create(path).unwrap();
            output.file().write_all(b"new").unwrap();
            output.publish().unwrap();
            assert!(path.is_symlink());
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let failed = OutputFile::create(directory.path()).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::IsADirectory);
        OutputFile::clear(&file).unwrap();
        OutputFile::clear(&file).unwrap();
        assert_eq!(names(directory.path()), ["link", "null"]);
    }
}
