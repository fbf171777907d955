//! A directory of the host -> [`Rootfs`]. The only place that opens paths of a root filesystem.
//!
//! The directory may be hostile: no look-up leaves it, nothing but regular files is opened, and opening never waits.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatxFlags, makedev};
use rustix::io::Errno;

use super::{FileId, Kind, Node, Rootfs, RootfsError};
use crate::formats::{ReadAt, Stamp};
use crate::path::{RawPath, RootPath};

/// The largest capability attribute: version 3 has 24 bytes (capabilities(7)).
const CAPABILITY_MAX: usize = 64;
const CAPABILITY: &str = "security.capability";
/// How files are read. Without NONBLOCK, a FIFO put in the place of one would wait for a writer for ever.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// The file systems that keep numbers and times of files (`linux/magic.h`): ext, XFS, Btrfs, tmpfs, F2FS, ZFS,
/// bcachefs. Overlays, FUSE and the network may not.
const LASTING: [u64; 7] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e];

/// A directory of the host, taken as a root filesystem.
#[derive(Debug)]
pub struct HostRootfs {
    top: OwnedFd,
    name: String,
}

impl HostRootfs {
    /// Opens the directory `path` of the host as the top of a root filesystem.
    ///
    /// # Errors
    /// [`RootfsError::Open`] if it cannot be opened or is no directory.
    pub fn open_directory(path: &Path) -> Result<Self, RootfsError> {
        let name = if path == Path::new("/") {
            "this machine's `/`".to_owned()
        } else {
            format!("`{}`", path.display())
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(top) => Ok(Self { top, name }),
            Err(error) => Err(RootfsError::Open { rootfs: path.display().to_string(), source: error.into() }),
        }
    }

    /// Calls it `name` in messages, where the directory says nothing to the user.
    pub fn called(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    fn error(&self, action: &'static str, path: &RootPath, errno: Errno) -> RootfsError {
        match errno {
            Errno::ACCESS | Errno::PERM => {
                RootfsError::Denied { action, path: path.clone(), rootfs: self.name.clone() }
            }
            errno => RootfsError::read(action, path, &self.name, errno.into()),
        }
    }

    /// Opens `path` without following any link: one of the last name fails, one above would leave the real path.
    fn open_at(&self, path: &RootPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&self.top, relative(path), flags, Mode::empty(), beneath) {
            // Linux before 5.6, or a sandbox that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => self.walk_to(path, flags),
            opened => opened,
        }
    }

    fn walk_to(&self, path: &RootPath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let mut directory = None;
        if let Some(parent) = path.parent() {
            for name in parent.components() {
                let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = directory.as_ref().unwrap_or(&self.top);
                directory = Some(rustix::fs::openat(from, OsStr::from_bytes(name), step, Mode::empty())?);
            }
        }
        let name: &[u8] = if path.is_root() { b"." } else { path.file_name() };
        let from = directory.as_ref().unwrap_or(&self.top);
        rustix::fs::openat(from, OsStr::from_bytes(name), flags, Mode::empty())
    }

    /// Returns what `take` makes of each name in the directory `path` and of the type that stands beside it.
    fn list<T>(
        &self,
        path: &RootPath,
        take: impl Fn(Vec<u8>, FileType) -> Result<T, RootfsError>,
    ) -> Result<Vec<T>, RootfsError> {
        let error = |errno| self.error("list", path, errno);
        let directory = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(error)?;
        let mut taken = Vec::new();
        for entry in rustix::fs::Dir::new(directory).map_err(error)? {
            let entry = entry.map_err(error)?;
            match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => taken.push(take(name.to_vec(), entry.file_type())?),
            }
        }
        Ok(taken)
    }

    /// Returns what `file` is, which was opened as a place only (O_PATH): all that is asked is asked of that place, as
    /// the path may lead elsewhere by now.
    fn node(&self, path: &RootPath, file: &OwnedFd) -> Result<Node, Errno> {
        let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
        let file_type = FileType::from_raw_mode(stat.stx_mode.into());
        let kind = match file_type {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(file, "", Vec::new())?;
                Kind::Link(RawPath::new(target.into_bytes()))
            }
            FileType::CharacterDevice => Kind::Special("a character device"),
            FileType::BlockDevice => Kind::Special("a block device"),
            FileType::Fifo => Kind::Special("a FIFO"),
            _ => Kind::Special("a socket"),
        };
        let mode = u32::from(stat.stx_mode) & 0o7777;
        // Only programs can use capabilities, and the attribute costs a system call.
        let capability =
            if kind == Kind::File && mode & 0o111 != 0 { self.capability(path, file)? } else { None };
        Ok(Node {
            size: if kind == Kind::File { stat.stx_size } else { 0 },
            kind,
            mode,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            id: FileId { device: makedev(stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino },
            links: stat.stx_nlink.into(),
            capability,
        })
    }

    /// Returns the raw attribute `security.capability` of `file`, found at `path`. What was opened as a place only has no
    /// attributes for fgetxattr(2), but a path in /proc that leads to it, wherever it is now.
    fn capability(&self, path: &RootPath, file: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
        let mut value = [0_u8; CAPABILITY_MAX];
        let place = format!("/proc/self/fd/{}", file.as_raw_fd());
        let found = match rustix::fs::getxattr(place, CAPABILITY, &mut value[..]) {
            Err(Errno::NOENT) => {
                let file = self.open_at(path, READ)?;
                rustix::fs::fgetxattr(file, CAPABILITY, &mut value[..])
            }
            found => found,
        };
        match found {
            Ok(len) => Ok(value.get(..len).map(<[u8]>::to_vec)),
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl Rootfs for HostRootfs {
    fn name(&self) -> &str {
        &self.name
    }

    fn lookup(&self, path: &RootPath) -> Result<Option<Node>, RootfsError> {
        match self.open_at(path, OFlags::PATH) {
            Ok(file) => self.node(path, &file).map(Some).map_err(|errno| self.error("read", path, errno)),
            // A link above the last name: it was none when the real path was made.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(self.error("look up", path, errno)),
        }
    }

    fn read_dir(&self, path: &RootPath) -> Result<Vec<Vec<u8>>, RootfsError> {
        let mut names = self.list(path, |name, _| Ok(name))?;
        names.sort();
        Ok(names)
    }

    fn read_dir_kinds(&self, path: &RootPath) -> Result<Vec<(Vec<u8>, bool)>, RootfsError> {
        let mut names = self.list(path, |name, file_type| {
            let is_directory = match file_type {
                FileType::Directory => true,
                // Not every file system keeps it beside the name.
                FileType::Unknown => match path.child(&name) {
                    Some(path) => self.lookup(&path)?.is_some_and(|node| node.kind == Kind::Directory),
                    None => false,
                },
                _ => false,
            };
            Ok((name, is_directory))
        })?;
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &RootPath) -> Result<Box<dyn ReadAt + '_>, RootfsError> {
        let opened = self.open_at(path, READ);
        let file = File::from(opened.map_err(|errno| self.error("open", path, errno))?);
        let read_error = |source| RootfsError::read("open", path, &self.name, source);
        let metadata = file.metadata().map_err(read_error)?;
        if !metadata.is_file() {
            return Err(read_error(io::Error::other("not a regular file")));
        }
        Ok(Box::new(HostFile { size: metadata.size(), file }))
    }
}

/// Returns `path` as the kernel wants it relative to the top directory.
fn relative(path: &RootPath) -> &OsStr {
    OsStr::from_bytes(if path.is_root() { b"." } else { path.relative() })
}

struct HostFile {
    file: File,
    size: u64,
}

impl ReadAt for HostFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn stamp(&self) -> io::Result<Option<Stamp>> {
        let metadata = self.file.metadata()?;
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Ok(Some(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            is_lasting: LASTING
                .contains(&u64::try_from(rustix::fs::fstatfs(&self.file)?.f_type).unwrap_or(0)),
        }))
    }
}
