//! A root filesystem -> the database of the packages in it: who owns a path, what else a package brings.
//!
//! No package manager is executed, and none needs to be there.

mod apk;
mod attribute;
mod data;
mod directories;
mod dpkg;
mod family;
mod index;
mod metadata;
mod rpm;

pub use apk::Apk;
pub use attribute::attribute;
pub use data::RunTimeFiles;
pub use dpkg::Dpkg;
pub use family::family;
pub use metadata::{Metadata, describe, identity, metadata, taken};
pub use rpm::Rpm;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use thiserror::Error;

use crate::closure::Owner;
use crate::explain::{Explain, Explanation};
use crate::formats::apk::ApkError;
use crate::formats::dpkg::DpkgError;
use crate::formats::read_all;
use crate::formats::rpm::RpmError;
use crate::formats::sqlite::SqliteError;
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Kind, Rootfs, RootfsError, chase};

/// Databases that are known by their files, and not read.
const FOREIGN: [(&str, &str); 5] = [
    ("/var/lib/pacman/local", "pacman"),
    ("/var/lib/rpm/Packages.db", "rpm (ndb)"),
    ("/usr/lib/sysimage/rpm/Packages.db", "rpm (ndb)"),
    ("/var/lib/rpm/Packages", "rpm (Berkeley DB)"),
    ("/var/db/pkg", "portage"),
];

/// Names a package of its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId(usize);

impl PackageId {
    /// Returns the place of the package in the list of all packages of its database.
    pub fn index(self) -> usize {
        self.0
    }
}

/// One installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version, as the database writes it: with epoch and release, if there are any.
    pub version: String,
    /// For which machines it is.
    pub architecture: String,
    /// What it was built from.
    pub source: SourcePackage,
    /// What it needs, each alternative for itself: names of packages, or what packages provide.
    pub depends: Vec<String>,
    /// What it is of little use without.
    pub recommends: Vec<String>,
    /// The names that it answers to besides its own.
    pub provides: Vec<String>,
}

/// What a package was built from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// One path of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// Where it is. Nothing may be there any more.
    pub path: RootPath,
    /// Permission bits, if the database has them.
    pub mode: Option<u32>,
}

/// What was taken of each package: files and links, by their real paths.
pub type Taken = BTreeMap<PackageId, BTreeSet<RootPath>>;

/// A file that tells of packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it goes.
    pub path: RootPath,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// The package that it tells of, the first if there are several.
    pub package: PackageId,
}

/// A database of installed packages. What it does not have is `None` or empty; what it cannot say is an error.
pub trait PackageDb {
    /// Returns the installed packages; a [`PackageId`] counts in this list.
    fn packages(&self) -> &[Package];

    /// Returns the packages that `path` belongs to, in the order of the list. A file has one owner, or those builds
    /// of one package for several machines that share it; a directory may have many.
    ///
    /// # Errors
    /// [`PackageError`] if the database cannot be read.
    fn owners(&self, path: &RootPath) -> Result<Vec<PackageId>, PackageError>;

    /// Returns the paths of the package, files and directories alike, in the order of the database. Those whose
    /// directory is gone are left out.
    ///
    /// # Errors
    /// [`PackageError`] if the database cannot be read.
    fn files(&self, package: PackageId) -> Result<Vec<PackageFile>, PackageError>;

    /// Returns the files by which scanners know of the packages in `taken`, with nothing but what was taken of each.
    ///
    /// # Errors
    /// [`PackageError`] if the database cannot be read.
    fn manifest(&self, taken: &Taken) -> Result<Vec<Record>, PackageError>;

    /// Returns the packages whose files the database should list, and does not.
    fn unlisted(&self) -> Vec<PackageId> {
        Vec::new()
    }

    /// Returns the package that `id` names.
    ///
    /// # Panics
    /// If `id` comes from another database.
    fn package(&self, id: PackageId) -> &Package {
        &self.packages()[id.0]
    }

    /// Returns the packages called `name`: one, or builds of it for several machines.
    fn named(&self, name: &str) -> Vec<PackageId> {
        let packages = self.packages().iter().enumerate();
        packages.filter(|(_, package)| package.name == name).map(|(at, _)| PackageId(at)).collect()
    }
}

/// Why a database of packages cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The root filesystem gives no answer.
    #[error("cannot read the database of packages in {rootfs}")]
    Rootfs {
        /// What the root filesystem is called.
        rootfs: String,
        /// What it says.
        source: Box<RootfsError>,
    },
    /// A file of the database is larger than any real one.
    #[error("`{path}` has more than {limit} bytes")]
    TooLarge {
        /// The file.
        path: RawPath,
        /// The most that is read.
        limit: u64,
    },
    /// A file of dpkg's database is broken.
    #[error("`{path}` is no database of packages")]
    Dpkg {
        /// The file.
        path: RawPath,
        /// What is wrong.
        source: DpkgError,
    },
    /// apk's database is broken.
    #[error("`{path}` is no database of packages")]
    Apk {
        /// The file.
        path: RawPath,
        /// What is wrong.
        source: ApkError,
    },
    /// rpm's database is broken.
    #[error("`{path}` is no database of packages")]
    Sqlite {
        /// The file.
        path: RawPath,
        /// What is wrong.
        source: SqliteError,
    },
    /// A header in rpm's database is broken.
    #[error("`{path}` has a package that cannot be read")]
    Rpm {
        /// The file.
        path: RawPath,
        /// What is wrong.
        source: RpmError,
    },
    /// rpm's database has changes that are not in its main file yet.
    #[error("`{path}` has changes that are not in the database yet")]
    PendingLog {
        /// The log.
        path: RawPath,
    },
}

impl Explain for PackageError {
    fn explain(&self) -> Vec<Explanation> {
        let fix = match self {
            Self::PendingLog { .. } => "let `rpm` finish in the source: `rpm --query rpm` does it",
            _ => "repair the database in the source",
        };
        vec![Explanation::new("unreadable-packages", self.to_string()).because_of(self).fix(fix)]
    }
}

impl Package {
    /// Returns how the entries of a closure call this package.
    pub fn owner(&self) -> Owner {
        let Self { name, version, architecture, .. } = self;
        Owner { name: name.clone(), version: version.clone(), architecture: architecture.clone() }
    }
}

/// Opens the database of the packages in `rootfs`; `None` if it has none that is read.
///
/// # Errors
/// [`PackageError`] if there is one, and it cannot be read.
pub fn open<'a>(rootfs: &'a dyn Rootfs) -> Result<Option<Box<dyn PackageDb + 'a>>, PackageError> {
    // A system may have the tools of another one, and an empty database with them.
    if let Some(db) = Dpkg::open(rootfs)? {
        return Ok(Some(Box::new(db)));
    }
    if let Some(db) = Apk::open(rootfs)? {
        return Ok(Some(Box::new(db)));
    }
    Ok(Rpm::open(rootfs)?.map(|db| Box::new(db) as Box<dyn PackageDb + 'a>))
}

/// Returns the name of a database in `rootfs` that minimage knows and does not read.
///
/// # Errors
/// [`PackageError::Rootfs`] if the source cannot be read.
pub fn foreign(rootfs: &dyn Rootfs) -> Result<Option<&'static str>, PackageError> {
    for (path, name) in FOREIGN {
        if find(rootfs, &path.into())?.is_some() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn of_rootfs(rootfs: &dyn Rootfs) -> impl Fn(RootfsError) -> PackageError {
    |source| PackageError::Rootfs { rootfs: rootfs.name().to_owned(), source: Box::new(source) }
}

/// Returns where `path` really is, if anything is there.
fn find(rootfs: &dyn Rootfs, path: &RawPath) -> Result<Option<RootPath>, PackageError> {
    Ok(chase(rootfs, path).map_err(of_rootfs(rootfs))?.target())
}

/// Returns the contents of the file at `path`; `None` if there is none.
fn read(rootfs: &dyn Rootfs, path: &RawPath, limit: u64) -> Result<Option<Vec<u8>>, PackageError> {
    match find(rootfs, path)? {
        Some(real) => read_real(rootfs, &real, limit).map(Some),
        None => Ok(None),
    }
}

/// Returns the contents of the file at `path`, which is there.
fn read_real(rootfs: &dyn Rootfs, path: &RootPath, limit: u64) -> Result<Vec<u8>, PackageError> {
    let unreadable = |source: io::Error| RootfsError::Read {
        action: "read",
        path: path.clone(),
        rootfs: rootfs.name().to_owned(),
        source,
    };
    let file = rootfs.open(path).map_err(of_rootfs(rootfs))?;
    let bytes = read_all(&*file, limit).map_err(unreadable).map_err(of_rootfs(rootfs))?;
    bytes.ok_or_else(|| PackageError::TooLarge { path: path.to_raw(), limit })
}

/// A directory, and the names in it.
type Listing = (RootPath, Vec<Vec<u8>>);

/// Returns where the directory at `path` really is, and the names in it; `None` if no directory is there.
fn list(rootfs: &dyn Rootfs, path: &RawPath) -> Result<Option<Listing>, PackageError> {
    let error = of_rootfs(rootfs);
    match chase(rootfs, path).map_err(&error)?.end {
        Ok((real, node)) if node.kind == Kind::Directory => {
            let names = rootfs.read_dir(&real).map_err(error)?;
            Ok(Some((real, names)))
        }
        _ => Ok(None),
    }
}
