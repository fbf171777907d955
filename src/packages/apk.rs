//! `lib/apk/db/installed` -> [`PackageDb`]: all packages with all paths, in one file.

use std::collections::HashSet;

use super::directories::Directories;
use super::index::LazyIndex;
use super::{
    Package, PackageDb, PackageError, PackageFile, PackageId, Record, SourcePackage, Taken, find, read_real,
};
use crate::formats::apk::{self, ApkPackage};
use crate::path::RootPath;
use crate::rootfs::Rootfs;

/// Where the database is: in the second place since Alpine 3.22.
const INSTALLED: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

/// apk's database.
pub struct Apk<'a> {
    place: RootPath,
    packages: Vec<Package>,
    found: Vec<ApkPackage>,
    directories: Directories<'a>,
    index: LazyIndex,
}

impl<'a> Apk<'a> {
    /// Opens the database in `rootfs`; `None` if there is none, or it has no package.
    ///
    /// # Errors
    /// [`PackageError`] if there is one, and it cannot be read.
    pub fn open(rootfs: &'a dyn Rootfs) -> Result<Option<Self>, PackageError> {
        for path in INSTALLED {
            let Some(place) = find(rootfs, &path.into())? else { continue };
            let bytes = read_real(rootfs, &place, apk::FILE_MAX)?;
            let mut found =
                apk::parse(&bytes).map_err(|source| PackageError::Apk { path: place.to_raw(), source })?;
            if found.is_empty() {
                continue;
            }
            found.sort_by(|one, other| one.name.cmp(&other.name));
            let packages = found.iter().map(package).collect();
            let directories = Directories::new(rootfs);
            return Ok(Some(Self { place, packages, found, directories, index: LazyIndex::default() }));
        }
        Ok(None)
    }
}

fn package(found: &ApkPackage) -> Package {
    let ApkPackage { name, version, architecture, origin, depends, provides, .. } = found.clone();
    let source = SourcePackage { name: origin, version: version.clone() };
    Package { name, version, architecture, source, depends, recommends: Vec::new(), provides }
}

impl PackageDb for Apk<'_> {
    fn packages(&self) -> &[Package] {
        &self.packages
    }

    fn owners(&self, path: &RootPath) -> Result<Vec<PackageId>, PackageError> {
        self.index.owners(self, path)
    }

    fn files(&self, package: PackageId) -> Result<Vec<PackageFile>, PackageError> {
        let places = self.directories.places(&self.found[package.0].files, |file| &file.path)?;
        Ok(places.into_iter().map(|(file, path)| PackageFile { path, mode: file.mode }).collect())
    }

    fn manifest(&self, taken: &Taken) -> Result<Vec<Record>, PackageError> {
        let Some(first) = taken.keys().next() else { return Ok(Vec::new()) };
        let mut bytes = Vec::new();
        for (id, paths) in taken {
            let ApkPackage { files, text, .. } = &self.found[id.0];
            let places = self.directories.places(files, |file| &file.path)?.into_iter();
            let spelled: HashSet<&[u8]> =
                places.filter(|(_, place)| paths.contains(place)).map(|(file, _)| &*file.path).collect();
            bytes.extend(apk::cut(text, &|path| spelled.contains(path)));
            bytes.push(b'\n');
        }
        Ok(vec![Record { path: self.place.clone(), bytes, package: *first }])
    }
}
