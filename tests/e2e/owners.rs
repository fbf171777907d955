//! The owners of this machine's files, as minimage finds them, and as `dpkg-query` names them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use minimage::packages::{self, PackageDb, PackageId};
use minimage::path::{RawPath, RootPath};
use minimage::rootfs::{HostRootfs, Kind, Rootfs, chase};

use crate::outcome::{Outcome, none_of};
use crate::requirement::{DPKG, present};

/// One path in so many is looked at.
const STEP: usize = 40;
/// How many paths one `dpkg-query` is asked for.
const BATCH: usize = 500;

#[test]
fn owners_are_those_that_dpkg_names() {
    if present(&[DPKG]) {
        none_of(differences(Path::new("/"), STEP));
    }
}

/// Returns where the two disagree about one path in `step` of all lists in the root filesystem `top`.
fn differences(top: &Path, step: usize) -> Vec<String> {
    let rootfs = HostRootfs::open_directory(top).unwrap();
    let db = packages::open(&rootfs).unwrap().expect("this is Debian");
    let mut spelled = BTreeSet::new();
    for entry in fs::read_dir(top.join("var/lib/dpkg/info")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "list") {
            // Paths with colons or blanks would need dpkg-query's answers to be unambiguous.
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().filter(|line| !line.contains([':', ' ', '*', '?', '[', '\\', ',']));
            spelled.extend(lines.map(str::to_owned));
        }
    }
    let files = spelled.into_iter().step_by(step).filter_map(|path| Some((real(&rootfs, &path)?, path)));
    let files: Vec<(RootPath, String)> = files.collect();
    assert!(files.len() > 100, "{} has packages with files", top.display());
    files.chunks(BATCH).flat_map(|files| differences_in(top, &*db, files)).collect()
}

/// Returns the real path that a list spells as `path`; `None` if no file or link is there. What is right below the top
/// is left out: `/lib` is a directory in the lists and a link here, which dpkg-query does not mind.
fn real(rootfs: &HostRootfs, path: &str) -> Option<RootPath> {
    let (directory, name) = path.rsplit_once('/').filter(|(directory, _)| !directory.is_empty())?;
    let directory = chase(rootfs, &RawPath::from(format!("{directory}/").as_str())).unwrap().target()?;
    let real = directory.child(name.as_bytes())?;
    let node = rootfs.lookup(&real).unwrap()?;
    (node.kind != Kind::Directory).then_some(real)
}

fn differences_in(top: &Path, db: &dyn PackageDb, files: &[(RootPath, String)]) -> Vec<String> {
    let mut query = Command::new("dpkg-query");
    query.arg("--admindir").arg(top.join("var/lib/dpkg")).arg("--search").env("LC_ALL", "C");
    let answer = Outcome::of(query.args(files.iter().map(|(_, path)| path)));
    let mut differences = Vec::new();
    for (real, path) in files {
        let lines: Vec<&str> =
            answer.stdout.lines().filter_map(|line| line.strip_suffix(&format!(": {path}"))).collect();
        let diverted =
            lines.iter().find_map(|line| line.strip_prefix("diversion by ")?.strip_suffix(" from"));
        let named = lines.iter().filter(|line| !line.contains("diversion"));
        let theirs: BTreeSet<String> = match diverted {
            // The lists of all have it; the file there is of one.
            Some(package) => BTreeSet::from([package.to_owned()]),
            None => named.flat_map(|line| line.split(", ")).map(str::to_owned).collect(),
        };
        let name = |id: &PackageId| {
            let package = db.package(*id);
            let full = format!("{}:{}", package.name, package.architecture);
            if theirs.contains(&full) { full } else { package.name.clone() }
        };
        let ours: BTreeSet<String> = db.owners(real).unwrap().iter().map(name).collect();
        if ours != theirs {
            differences.push(format!("{path}: {ours:?}, says minimage; {theirs:?}, says dpkg-query"));
        }
    }
    differences
}
