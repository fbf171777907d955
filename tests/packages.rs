//! `testdata/packages/*.tree` -> what the database of packages in each says: the whole answer, as a golden text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;

use minimage::closure::{Cause, Closure, Content, Demand, Met};
use minimage::explain::Explain;
use minimage::packages::{self, PackageDb, PackageId, Record, Taken};
use minimage::path::{RawPath, RootPath, show};
use minimage::rootfs::{Kind, MemoryRootfs, Node, Rootfs, chase};
use minimage::roots::Origin;

use crate::golden;
use crate::tree_text::{Tree, testdata};

/// Returns the trees with databases of packages, by name.
fn trees() -> Vec<Tree> {
    let entries = fs::read_dir(testdata().join("packages")).expect("there are trees");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| Tree::read(path)).collect()
}

#[test]
fn every_database_has_its_answer() {
    golden::check(trees().into_iter().map(|tree| {
        let rootfs = tree.to_memory();
        (format!("packages/{}.answer", tree.name), answer(&tree, &rootfs))
    }));
}

fn answer(tree: &Tree, rootfs: &MemoryRootfs) -> String {
    let db = match packages::open(rootfs) {
        Ok(Some(db)) => db,
        Ok(None) => {
            let foreign = packages::foreign(rootfs).expect("a readable tree");
            return format!("no database that is read; there is {}\n", foreign.unwrap_or("none"));
        }
        Err(error) => {
            let explanations: Vec<_> = error.explain().iter().map(ToString::to_string).collect();
            return explanations.join("\n") + "\n";
        }
    };
    let mut text = String::new();
    for id in ids(&*db) {
        of_package(&*db, id, &mut text).expect("a string grows");
        for path in packages::RunTimeFiles::embedded()
            .expect("a filter")
            .of(&*db, rootfs, id)
            .expect("a readable database")
        {
            writeln!(text, "  runs with {path}").expect("a string grows");
        }
    }
    text.push_str("owners\n");
    for item in &tree.items {
        let path = RootPath::from_normal(&item.path).expect("a normal path");
        let owners = db.owners(&path).expect("a readable database");
        let names: Vec<_> = owners.iter().map(|id| full_name(&*db, *id)).collect();
        if !names.is_empty() {
            writeln!(text, "  {path}: {}", names.join(" ")).expect("a string grows");
        }
    }
    text.push_str("metadata of what is there\n");
    let metadata = packages::metadata(&*db, rootfs, taken(&*db, rootfs)).expect("a readable database");
    for (package, path) in &metadata.notices {
        writeln!(text, "  {path} tells of {}", full_name(&*db, *package)).expect("a string grows");
    }
    for Record { path, bytes, package } in &metadata.records {
        writeln!(text, "  {path} tells of {}", full_name(&*db, *package)).expect("a string grows");
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let end = if line.ends_with(b"\n") { "" } else { " (no line end)" };
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            writeln!(text, "    {}{end}", show(line)).expect("a string grows");
        }
    }
    text
}

fn of_package(db: &dyn PackageDb, id: PackageId, text: &mut String) -> std::fmt::Result {
    let package = db.package(id);
    let source = &package.source;
    writeln!(
        text,
        "{} {}, made from {} {}",
        full_name(db, id),
        package.version,
        source.name,
        source.version
    )?;
    for (what, names) in [
        ("needs", &package.depends),
        ("is better with", &package.recommends),
        ("provides", &package.provides),
    ] {
        if !names.is_empty() {
            writeln!(text, "  {what} {}", names.join(" "))?;
        }
    }
    let family: Vec<_> = packages::family(db, id).into_iter().map(|id| full_name(db, id)).collect();
    writeln!(text, "  family {}", family.join(" "))?;
    for file in db.files(id).expect("a readable database") {
        let mode = file.mode.map(|mode| format!(" {mode:04o}")).unwrap_or_default();
        writeln!(text, "  has {}{mode}", file.path)?;
    }
    Ok(())
}

fn full_name(db: &dyn PackageDb, id: PackageId) -> String {
    let package = db.package(id);
    format!("{}:{}", package.name, package.architecture)
}

fn ids(db: &dyn PackageDb) -> Vec<PackageId> {
    let names: BTreeSet<_> = db.packages().iter().map(|package| package.name.as_str()).collect();
    names.into_iter().flat_map(|name| db.named(name)).collect()
}

/// Returns all files and links of the packages that are there.
fn taken(db: &dyn PackageDb, rootfs: &dyn Rootfs) -> Taken {
    let mut taken = BTreeMap::new();
    for id in ids(db) {
        let files = db.files(id).expect("a readable database").into_iter().map(|file| file.path);
        let is_there = |path: &RootPath| {
            let node = rootfs.lookup(path).expect("a readable tree");
            node.is_some_and(|node| node.kind != Kind::Directory)
        };
        taken.insert(id, files.filter(is_there).collect());
    }
    taken
}

/// Returns the closure of `paths` in `rootfs`.
fn closure(rootfs: &MemoryRootfs, paths: &[&str]) -> Closure {
    let mut closure = Closure::new();
    for path in paths {
        let cause = Cause::Root(Origin::Argument((*path).to_owned()));
        let met =
            closure.take(rootfs, Demand { path: RawPath::from(*path), cause }).expect("a readable tree");
        assert!(matches!(met, Met::At(_)), "{path}");
    }
    closure
}

/// Returns the tree called `name`.
fn tree(name: &str) -> Tree {
    trees().into_iter().find(|tree| tree.name == name).expect("a tree")
}

#[test]
fn closure_tells_of_its_packages() {
    let rootfs = tree("dpkg").to_memory();
    let db = packages::open(&rootfs).expect("a readable database");
    let mut closure = closure(&rootfs, &["/bin/sh", "/lib/mawk", "/opt/own"]);
    let path = |text: &str| RootPath::from_normal(text.as_bytes()).expect("a normal path");
    let cause = Cause::Root(Origin::Argument("/usr/bin/git:/opt/moved".to_owned()));
    closure.put(&path("/opt/moved"), Node::file(0), Content::Source(path("/usr/bin/git")), cause);
    let before: BTreeSet<_> = closure.entries().map(|(path, _)| path.clone()).collect();
    let cause = |by: RootPath, package: String| Cause::CommandWord { by, word: package.into_bytes() };
    packages::describe(&mut closure, &rootfs, db.as_deref(), &cause).expect("a readable database");
    let mut text = String::new();
    for (path, entry) in closure.entries().filter(|(path, _)| !before.contains(path)) {
        if entry.node.kind != Kind::Directory {
            let by = |demand: &&Demand| demand.cause.by().map_or("a root".to_owned(), ToString::to_string);
            let chain: Vec<_> = closure.why(path).iter().map(by).collect();
            writeln!(text, "{path} < {}", chain.join(" < ")).expect("a string grows");
        }
    }
    golden::check([("packages/told.txt".to_owned(), text)]);
}

#[test]
fn entries_know_their_package() {
    let rootfs = tree("dpkg").to_memory();
    let db = packages::open(&rootfs).expect("a readable database").expect("a database");
    let paths = ["/bin/sh", "/etc/alternatives/awk", "/usr/share/doc/mawk/copyright", "/opt/own"];
    let mut closure = closure(&rootfs, &paths);
    packages::attribute(&mut closure, &*db).expect("a readable database");
    let mut text = String::new();
    for (path, entry) in closure.entries() {
        let owner = entry.owner.as_ref().map_or("nobody".to_owned(), ToString::to_string);
        writeln!(text, "{path}: {owner}").expect("a string grows");
    }
    golden::check([("packages/entries.txt".to_owned(), text)]);
    let shell =
        chase(&rootfs, &RawPath::from("/bin/sh")).expect("a readable tree").target().expect("a shell");
    assert_eq!(
        closure.entry(&shell).and_then(|entry| entry.owner.as_ref()).map(|owner| &*owner.name),
        Some("dash")
    );
}
