//! A package -> the packages that were made from the same source to be used together.

use std::collections::{HashMap, HashSet};

use super::{Package, PackageDb, PackageId};
use crate::formats::ldso_conf::matches;

/// Packages that nobody needs at run time, by their names.
const NOT_AT_RUN_TIME: [&str; 8] =
    ["*-dev", "*-devel", "*-doc", "*-docs", "*-dbg*", "*-debuginfo", "*-debugsource", "*-examples"];

/// Returns the family of `package`, itself first: installed packages of the same source package and version that
/// Depends, Pre-Depends or Recommends link to it, in either direction, and what those need of that source in turn.
/// What is made for developers and readers is no part of it.
///
/// That last step is what brings the standard library of Python and Perl: their programs are in small packages, which
/// larger ones need and complete.
pub fn family(db: &dyn PackageDb, package: PackageId) -> Vec<PackageId> {
    let own = db.package(package);
    let siblings: Vec<PackageId> = (0..db.packages().len())
        .map(PackageId)
        .filter(|other| *other != package && is_sibling(own, db.package(*other)))
        .collect();
    let mut called: HashMap<&str, Vec<PackageId>> = HashMap::new();
    for id in &siblings {
        names(db.package(*id)).for_each(|name| called.entry(name).or_default().push(*id));
    }
    let own_names: HashSet<&str> = names(own).collect();
    let needed: HashSet<PackageId> = needs(own, &called).into_iter().collect();
    let is_linked =
        |id: &PackageId| needed.contains(id) || demands(db.package(*id)).any(|name| own_names.contains(name));
    let mut family = vec![package];
    family.extend(siblings.iter().copied().filter(is_linked));
    let mut known: HashSet<PackageId> = family.iter().copied().collect();
    let mut next = 0;
    while let Some(member) = family.get(next).map(|id| db.package(*id)) {
        next += 1;
        family.extend(needs(member, &called).into_iter().filter(|id| known.insert(*id)));
    }
    family
}

fn is_sibling(own: &Package, other: &Package) -> bool {
    let fits = other.architecture == own.architecture
        || [&own.architecture, &other.architecture]
            .iter()
            .any(|name| ["all", "noarch"].contains(&name.as_str()));
    let is_out = |pattern: &str| matches(pattern.as_bytes(), other.name.as_bytes());
    own.source == other.source && fits && !NOT_AT_RUN_TIME.iter().any(|pattern| is_out(pattern))
}

/// Returns the names that `package` answers to.
fn names(package: &Package) -> impl Iterator<Item = &str> {
    [&package.name].into_iter().chain(&package.provides).map(String::as_str)
}

/// Returns the names that `package` asks for.
fn demands(package: &Package) -> impl Iterator<Item = &str> {
    package.depends.iter().chain(&package.recommends).map(String::as_str)
}

/// Returns those of the packages in `called`, by their names, that `package` asks for, in the order of the database.
fn needs(package: &Package, called: &HashMap<&str, Vec<PackageId>>) -> Vec<PackageId> {
    let mut needed: Vec<PackageId> =
        demands(package).filter_map(|name| called.get(name)).flatten().copied().collect();
    needed.sort_unstable();
    needed.dedup();
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::{PackageError, PackageFile, Record, SourcePackage, Taken};
    use crate::path::RootPath;

    /// Packages without files.
    struct Names(Vec<Package>);

    impl PackageDb for Names {
        fn packages(&self) -> &[Package] {
            &self.0
        }

        fn owners(&self, _: &RootPath) -> Result<Vec<PackageId>, PackageError> {
            Ok(Vec::new())
        }

        fn files(&self, _: PackageId) -> Result<Vec<PackageFile>, PackageError> {
            Ok(Vec::new())
        }

        fn manifest(&self, _: &Taken) -> Result<Vec<Record>, PackageError> {
            Ok(Vec::new())
        }
    }

    fn package(name: String, depends: Vec<String>) -> Package {
        Package {
            name,
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            source: SourcePackage { name: "source".to_owned(), version: "1".to_owned() },
            depends,
            recommends: Vec::new(),
            provides: Vec::new(),
        }
    }

    /// Large enough that a look through all siblings for each member would take minutes.
    #[test]
    fn a_long_chain_of_packages_is_one_family() {
        let count = 60_000;
        let packages = (0..count).map(|at| package(format!("p{at}"), vec![format!("p{}", at + 1)]));
        let db = Names(packages.collect());
        let found = family(&db, PackageId(0));
        assert_eq!(found, (0..count).map(PackageId).collect::<Vec<_>>());
    }
}
