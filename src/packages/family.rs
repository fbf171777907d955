//! A package -> the packages that were made from the same source to be used together.

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
    let is_linked = |other: &PackageId| {
        let other = db.package(*other);
        needs(own, other) || needs(other, own)
    };
    let mut family = vec![package];
    family.extend(siblings.iter().copied().filter(is_linked));
    let mut next = 0;
    while let Some(member) = family.get(next).map(|id| db.package(*id)) {
        next += 1;
        for other in &siblings {
            if needs(member, db.package(*other)) && !family.contains(other) {
                family.push(*other);
            }
        }
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

/// Returns whether `package` names `other`, or something that it provides.
fn needs(package: &Package, other: &Package) -> bool {
    let named = |name: &String| *name == other.name || other.provides.contains(name);
    package.depends.iter().any(named) || package.recommends.iter().any(named)
}
