//! `/var/lib/dpkg` -> [`PackageDb`]: the status of all packages at once, the lists of their paths when they are needed.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use super::directories::Directories;
use super::index::LazyIndex;
use super::{
    Package, PackageDb, PackageError, PackageFile, PackageId, Record, SourcePackage, Taken, find, list,
    of_rootfs, read, read_real,
};
use crate::formats::dpkg::{self, DpkgError, Stanza};
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Kind, Rootfs};

const STATUS: &str = "/var/lib/dpkg/status";
/// One file for each package, as images without a package manager have it.
const STATUS_PARTS: &str = "/var/lib/dpkg/status.d";
const INFO: &str = "/var/lib/dpkg/info";
const DIVERSIONS: &str = "/var/lib/dpkg/diversions";
/// Configuration that packages install by their scripts, so that no list has it (ucf(1)).
const UCF_REGISTRY: &str = "/var/lib/ucf/registry";
/// Where links to the chosen alternatives are (update-alternatives(1)).
const ALTERNATIVES: &[u8] = b"/etc/alternatives/";

/// dpkg's database.
pub struct Dpkg<'a> {
    rootfs: &'a dyn Rootfs,
    packages: Vec<Package>,
    kept: Vec<Kept>,
    directories: Directories<'a>,
    diversions: OnceCell<HashMap<RootPath, Moved>>,
    /// The paths in the registry, by the name of their package.
    registered: OnceCell<HashMap<String, Vec<Vec<u8>>>>,
    index: LazyIndex,
}

/// What is kept of a package besides its [`Package`].
struct Kept {
    /// The stanza as it is.
    stanza: Vec<u8>,
    paths: Paths,
}

/// Where the paths of a package are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Paths {
    /// A `.list` of absolute paths.
    List(RootPath),
    /// A `.md5sums`, all that packages in `status.d` have.
    Md5sums(RootPath),
    /// Nowhere: a package without files.
    None,
    /// In a file that is gone: dpkg writes one for each package.
    Lost,
}

/// Where a diverted path goes; the real one.
struct Moved {
    to: RootPath,
    by: Option<String>,
}

impl<'a> Dpkg<'a> {
    /// Opens the database in `rootfs`; `None` if there is none, or it has no package.
    ///
    /// # Errors
    /// [`PackageError`] if there is one, and it cannot be read.
    pub fn open(rootfs: &'a dyn Rootfs) -> Result<Option<Self>, PackageError> {
        let mut found = status(rootfs)?;
        found.extend(status_parts(rootfs)?);
        if found.is_empty() {
            return Ok(None);
        }
        // By name, whatever order the database was written in.
        found.sort_by(|(one, _), (other, _)| {
            (&one.name, &one.architecture).cmp(&(&other.name, &other.architecture))
        });
        found.dedup_by(|(one, _), (other, _)| {
            one.name == other.name && one.architecture == other.architecture
        });
        let mut packages = Vec::with_capacity(found.len());
        let mut kept = Vec::with_capacity(found.len());
        for (stanza, paths) in found {
            let source = SourcePackage { name: stanza.source, version: stanza.source_version };
            packages.push(Package {
                name: stanza.name,
                version: stanza.version,
                architecture: stanza.architecture,
                source,
                depends: stanza.depends,
                recommends: stanza.recommends,
                provides: stanza.provides,
            });
            kept.push(Kept { stanza: stanza.text, paths });
        }
        Ok(Some(Self {
            rootfs,
            packages,
            kept,
            directories: Directories::new(rootfs),
            diversions: OnceCell::new(),
            registered: OnceCell::new(),
            index: LazyIndex::default(),
        }))
    }

    /// Returns the paths of the package as its list and the registry spell them.
    fn spelled(&self, package: PackageId) -> Result<Vec<Vec<u8>>, PackageError> {
        let bytes = |path| read_real(self.rootfs, path, dpkg::FILE_MAX);
        Ok(match &self.kept[package.0].paths {
            Paths::List(path) => {
                let mut paths: Vec<_> = dpkg::list(&bytes(path)?).map(<[u8]>::to_vec).collect();
                paths.extend(
                    self.registered()?.get(&self.package(package).name).into_iter().flatten().cloned(),
                );
                paths
            }
            Paths::Md5sums(path) => {
                dpkg::md5sums(&bytes(path)?).map(|line| [b"/", line.path].concat()).collect()
            }
            Paths::None | Paths::Lost => Vec::new(),
        })
    }

    /// Returns where each path of `spelled`, the list of `package`, really is.
    fn places<'s>(
        &self,
        package: PackageId,
        spelled: &'s [Vec<u8>],
    ) -> Result<Vec<(&'s Vec<u8>, RootPath)>, PackageError> {
        let name = &self.package(package).name;
        let diversions = self.diversions()?;
        let mut places = self.directories.places(spelled, |path| path)?;
        for (_, place) in &mut places {
            if let Some(moved) = diversions.get(place).filter(|moved| moved.by.as_ref() != Some(name)) {
                *place = moved.to.clone();
            }
        }
        Ok(places)
    }

    /// Returns the checksums of the package, as far as there are any.
    fn sums(&self, package: PackageId) -> Result<Vec<u8>, PackageError> {
        let path = match &self.kept[package.0].paths {
            Paths::Md5sums(path) => path.to_raw(),
            Paths::List(path) => {
                let name = path.as_bytes();
                let name = name.strip_suffix(b".list").unwrap_or(name);
                RawPath::new([name, b".md5sums".as_slice()].concat())
            }
            Paths::None | Paths::Lost => return Ok(Vec::new()),
        };
        Ok(read(self.rootfs, &path, dpkg::FILE_MAX)?.unwrap_or_default())
    }

    /// Returns the diversions by the real path that is diverted: the first, where a path has several.
    fn diversions(&self) -> Result<&HashMap<RootPath, Moved>, PackageError> {
        if let Some(known) = self.diversions.get() {
            return Ok(known);
        }
        let path = RawPath::from(DIVERSIONS);
        let bytes = read(self.rootfs, &path, dpkg::FILE_MAX)?.unwrap_or_default();
        let mut moved = HashMap::new();
        for diversion in dpkg::diversions(&bytes).map_err(broken(&path))? {
            let from = self.directories.real(diversion.from.as_bytes())?;
            let to = self.directories.real(diversion.to.as_bytes())?;
            if let (Some(from), Some(to)) = (from, to) {
                moved.entry(from).or_insert(Moved { to, by: diversion.by });
            }
        }
        Ok(self.diversions.get_or_init(|| moved))
    }

    fn registered(&self) -> Result<&HashMap<String, Vec<Vec<u8>>>, PackageError> {
        if let Some(known) = self.registered.get() {
            return Ok(known);
        }
        let bytes = read(self.rootfs, &UCF_REGISTRY.into(), dpkg::FILE_MAX)?.unwrap_or_default();
        let mut registered: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
        for (package, path) in dpkg::ucf_registry(&bytes) {
            registered.entry(package.to_owned()).or_default().push(path.to_vec());
        }
        Ok(self.registered.get_or_init(|| registered))
    }

    /// Returns the target of the link at `path`, if a link is there.
    fn link(&self, path: &RootPath) -> Result<Option<RawPath>, PackageError> {
        let node = self.rootfs.lookup(path).map_err(of_rootfs(self.rootfs))?;
        Ok(match node.map(|node| node.kind) {
            Some(Kind::Link(target)) => Some(target),
            _ => None,
        })
    }

    /// Returns where the link at `path` leads, if it is one that update-alternatives(1) made.
    fn alternative(&self, path: &RootPath) -> Result<Option<RootPath>, PackageError> {
        let Some(target) = self.link(path)? else { return Ok(None) };
        let is_one = path.as_bytes().starts_with(ALTERNATIVES) || target.as_bytes().starts_with(ALTERNATIVES);
        if is_one { find(self.rootfs, &path.to_raw()) } else { Ok(None) }
    }
}

impl PackageDb for Dpkg<'_> {
    fn packages(&self) -> &[Package] {
        &self.packages
    }

    fn unlisted(&self) -> Vec<PackageId> {
        let kept = self.kept.iter().enumerate();
        kept.filter(|(_, kept)| kept.paths == Paths::Lost).map(|(at, _)| PackageId(at)).collect()
    }

    fn owners(&self, path: &RootPath) -> Result<Vec<PackageId>, PackageError> {
        let owners = self.index.owners(self, path)?;
        if let [first, others @ ..] = owners.as_slice() {
            let name = |id: &PackageId| &self.package(*id).name;
            // Different packages share directories only. A link among these is `/lib`, which they list as a
            // directory, some of them with nothing in it.
            let is_shared = others.iter().any(|other| name(other) != name(first));
            let is_link = is_shared && self.link(path)?.is_some();
            return Ok(if is_link { Vec::new() } else { owners });
        }
        match self.alternative(path)? {
            Some(target) if target != *path => self.owners(&target),
            _ => Ok(owners),
        }
    }

    fn files(&self, package: PackageId) -> Result<Vec<PackageFile>, PackageError> {
        let spelled = self.spelled(package)?;
        let places = self.places(package, &spelled)?.into_iter();
        Ok(places.map(|(_, path)| PackageFile { path, mode: None }).collect())
    }

    /// `status.d`, not `status`: that one would promise a database that a package manager can work with.
    fn manifest(&self, taken: &Taken) -> Result<Vec<Record>, PackageError> {
        let mut files = Vec::new();
        let Some(directory) = RootPath::from_normal(STATUS_PARTS.as_bytes()) else { return Ok(files) };
        for (id, paths) in taken {
            let Package { name, architecture, .. } = self.package(*id);
            let is_double = taken.keys().any(|other| other != id && self.package(*other).name == *name);
            let file = if is_double { format!("{name}:{architecture}") } else { name.clone() };
            let listed = self.spelled(*id)?;
            let places = self.places(*id, &listed)?.into_iter();
            let spelled: HashSet<Vec<u8>> =
                places.filter(|(_, place)| paths.contains(place)).map(|(path, _)| path.clone()).collect();
            let mut sums = Vec::new();
            for line in dpkg::md5sums(&self.sums(*id)?) {
                if spelled.contains(&[b"/", line.path].concat()) {
                    sums.extend_from_slice(line.text);
                    sums.push(b'\n');
                }
            }
            let stanza = dpkg::with_conffiles(&self.kept[id.0].stanza, &spelled);
            for (name, bytes) in [(file.clone(), stanza), (format!("{file}.md5sums"), sums)] {
                let path = directory.child(name.as_bytes());
                files.extend(path.map(|path| Record { path, bytes, package: *id }));
            }
        }
        Ok(files)
    }
}

/// Returns the packages in `status`, with their lists.
fn status(rootfs: &dyn Rootfs) -> Result<Vec<(Stanza, Paths)>, PackageError> {
    let path = RawPath::from(STATUS);
    let Some(bytes) = read(rootfs, &path, dpkg::FILE_MAX)? else { return Ok(Vec::new()) };
    let stanzas = dpkg::stanzas(&bytes).map_err(broken(&path))?;
    let (info, names) = list(rootfs, &INFO.into())?.unwrap_or((RootPath::root(), Vec::new()));
    let lists = stanzas.into_iter().map(|stanza| {
        // Packages that may be there for several machines have the machine in the name of the file.
        let candidates =
            [format!("{}:{}.list", stanza.name, stanza.architecture), format!("{}.list", stanza.name)];
        // Sorted, as every listing is.
        let is_there =
            |name: &&String| names.binary_search_by(|other| other.as_slice().cmp(name.as_bytes())).is_ok();
        let name = candidates.iter().find(is_there);
        let paths = name.and_then(|name| info.child(name.as_bytes())).map_or(Paths::Lost, Paths::List);
        (stanza, paths)
    });
    Ok(lists.collect())
}

/// Returns the packages in `status.d`, with their checksums.
fn status_parts(rootfs: &dyn Rootfs) -> Result<Vec<(Stanza, Paths)>, PackageError> {
    let mut found = Vec::new();
    let Some((directory, names)) = list(rootfs, &STATUS_PARTS.into())? else { return Ok(found) };
    for name in names.iter().filter(|name| !name.ends_with(b".md5sums")) {
        let Some(path) = directory.child(name) else { continue };
        let Some(real) = find(rootfs, &path.to_raw())? else { continue };
        let bytes = read_real(rootfs, &real, dpkg::FILE_MAX)?;
        for stanza in dpkg::stanzas(&bytes).map_err(broken(&path.to_raw()))? {
            let sums = RawPath::new([path.as_bytes(), b".md5sums"].concat());
            let paths = find(rootfs, &sums)?.map_or(Paths::None, Paths::Md5sums);
            found.push((stanza, paths));
        }
    }
    Ok(found)
}

fn broken(path: &RawPath) -> impl Fn(DpkgError) -> PackageError {
    |source| PackageError::Dpkg { path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::rootfs::MemoryRootfs;

    /// Large enough that a look through all diversions for each path would take minutes.
    #[test]
    fn many_diversions_cost_one_look_for_each_path() {
        let (paths, diverted) = (100_000, 20_000);
        let (mut list, mut diversions) = (String::new(), String::new());
        for at in 0..paths {
            writeln!(list, "/data/{at}").unwrap();
        }
        for at in 0..diverted {
            writeln!(diversions, "/data/{at}\n/data/{at}.other\nother").unwrap();
        }
        let mut tree = MemoryRootfs::new("tree");
        tree.file("/data/0", b"");
        tree.file("/var/lib/dpkg/status", b"Package: p\nVersion: 1\nArchitecture: all\n");
        tree.file("/var/lib/dpkg/info/p.list", list.as_bytes());
        tree.file("/var/lib/dpkg/diversions", diversions.as_bytes());
        let db = Dpkg::open(&tree).unwrap().unwrap();
        let files = db.files(PackageId(0)).unwrap();
        let moved = files.iter().filter(|file| file.path.as_bytes().ends_with(b".other"));
        assert_eq!((files.len(), moved.count()), (paths, diverted));
    }
}
