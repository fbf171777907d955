//! `rpmdb.sqlite` -> [`PackageDb`]: a header for each package, in one table.

use super::directories::Directories;
use super::index::LazyIndex;
use super::{
    Package, PackageDb, PackageError, PackageFile, PackageId, Record, SourcePackage, Taken, find, of_rootfs,
};
use crate::formats::rpm::{self, Header, RpmFile};
use crate::formats::sqlite::{Database, SqliteError, Value};
use crate::path::{RawPath, RootPath};
use crate::rootfs::Rootfs;

/// Where the database is: in the first place in Fedora and SUSE, in the second in RHEL and its like.
const PLACES: [&str; 2] = ["/usr/lib/sysimage/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite"];
/// A list of packages for images without a database, in the form of Azure Linux: what scanners read there. A cut
/// database would need its indexes, digests and signatures made anew, and would promise what rpm cannot keep.
const MANIFEST: &str = "/var/lib/rpmmanifest/container-manifest-2";

/// rpm's database.
pub struct Rpm<'a> {
    packages: Vec<Package>,
    headers: Vec<Header>,
    directories: Directories<'a>,
    index: LazyIndex,
}

impl<'a> Rpm<'a> {
    /// Opens the database in `rootfs`; `None` if there is none of this kind, or it has no package.
    ///
    /// # Errors
    /// [`PackageError`] if there is one, and it cannot be read.
    pub fn open(rootfs: &'a dyn Rootfs) -> Result<Option<Self>, PackageError> {
        for path in PLACES {
            let Some(place) = find(rootfs, &path.into())? else { continue };
            let mut headers = headers(rootfs, &place)?;
            if headers.is_empty() {
                continue;
            }
            headers.sort_by(|one, other| {
                let key =
                    |header: &Header| (header.name.clone(), version(header), header.architecture.clone());
                key(one).cmp(&key(other))
            });
            let packages = headers.iter().map(package).collect();
            let directories = Directories::new(rootfs);
            return Ok(Some(Self { packages, headers, directories, index: LazyIndex::default() }));
        }
        Ok(None)
    }
}

/// Returns the headers of all packages in the database at `place`; public keys are none.
fn headers(rootfs: &dyn Rootfs, place: &RootPath) -> Result<Vec<Header>, PackageError> {
    let broken = |source| PackageError::Sqlite { path: place.to_raw(), source };
    let log = RawPath::new([place.as_bytes(), b"-wal"].concat());
    if let Some(log) = find(rootfs, &log)? {
        let size = rootfs.open(&log).map_err(of_rootfs(rootfs))?.size();
        if size > 0 {
            return Err(PackageError::PendingLog { path: log.to_raw() });
        }
    }
    let file = rootfs.open(place).map_err(of_rootfs(rootfs))?;
    let database = Database::open(&*file).map_err(broken)?;
    let mut headers = Vec::new();
    database
        .rows::<RowError>("Packages", |_, row| {
            let Some(Value::Blob(blob)) = row.get(1) else { return Err(SqliteError::Row.into()) };
            let header = rpm::parse(blob)?;
            headers.extend(header.architecture.is_some().then_some(header));
            Ok(())
        })
        .map_err(|error| match error {
            RowError::Sqlite(source) => broken(source),
            RowError::Header(source) => PackageError::Rpm { path: place.to_raw(), source },
        })?;
    Ok(headers)
}

enum RowError {
    Sqlite(SqliteError),
    Header(rpm::RpmError),
}

impl From<SqliteError> for RowError {
    fn from(source: SqliteError) -> Self {
        Self::Sqlite(source)
    }
}

impl From<rpm::RpmError> for RowError {
    fn from(source: rpm::RpmError) -> Self {
        Self::Header(source)
    }
}

/// Returns the version with epoch and release, as rpm compares it.
fn version(header: &Header) -> String {
    let Header { version, release, .. } = header;
    match header.epoch {
        Some(epoch) if epoch > 0 => format!("{epoch}:{version}-{release}"),
        _ => format!("{version}-{release}"),
    }
}

fn package(header: &Header) -> Package {
    let version = version(header);
    let source = match header.source_rpm.as_deref().and_then(rpm::source) {
        Some((name, version)) => SourcePackage { name: name.to_owned(), version: version.to_owned() },
        None => SourcePackage { name: header.name.clone(), version: version.clone() },
    };
    Package {
        name: header.name.clone(),
        version,
        architecture: header.architecture.clone().unwrap_or_default(),
        source,
        depends: header.requires.clone(),
        recommends: header.recommends.clone(),
        provides: header.provides.clone(),
    }
}

impl PackageDb for Rpm<'_> {
    fn packages(&self) -> &[Package] {
        &self.packages
    }

    fn owners(&self, path: &RootPath) -> Result<Vec<PackageId>, PackageError> {
        self.index.owners(self, path)
    }

    fn files(&self, package: PackageId) -> Result<Vec<PackageFile>, PackageError> {
        let listed: Vec<&RpmFile> =
            self.headers[package.0].files.iter().filter(|file| !file.is_ghost).collect();
        let places = self.directories.places(&listed, |file| &file.path)?.into_iter();
        let mode = |file: &RpmFile| file.mode.map(|mode| u32::from(mode) & 0o7777);
        Ok(places.map(|(file, path)| PackageFile { path, mode: mode(file) }).collect())
    }

    fn manifest(&self, taken: &Taken) -> Result<Vec<Record>, PackageError> {
        let Some(first) = taken.keys().next() else { return Ok(Vec::new()) };
        let Some(path) = RootPath::from_normal(MANIFEST.as_bytes()) else { return Ok(Vec::new()) };
        let none = || "(none)".to_owned();
        let mut text = String::new();
        for id in taken.keys() {
            let header = &self.headers[id.0];
            let Header { name, version, release, build_time, .. } = header;
            let vendor = header.vendor.as_deref().map_or_else(none, |vendor| vendor.replace('\t', " "));
            let epoch = header.epoch.map_or_else(none, |epoch| epoch.to_string());
            let architecture = header.architecture.clone().unwrap_or_else(none);
            let source = header.source_rpm.clone().unwrap_or_else(none);
            let number = header.epoch.unwrap_or(0);
            // The third field would be the time of installation, which is that of a machine. The seventh would be the
            // size of all files, which are not all here; syft (1.18) takes it for the epoch, if there is one.
            text.push_str(&format!(
                "{name}\t{version}-{release}\t0\t{build_time}\t{vendor}\t{epoch}\t{number}\t{architecture}\t\
                 {number}\t{source}\n"
            ));
        }
        Ok(vec![Record { path, bytes: text.into_bytes(), package: *first }])
    }
}
