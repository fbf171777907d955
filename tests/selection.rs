//! What goes into an image besides what programs load: each semantic as a small tree, the whole answer as golden text.
//!
//! Lines that start with `!` are the request, as flags have it; the rest is a tree as in `tree_text`.

use std::fmt::Write as _;

use minimage::closure::Content;
use minimage::explain::{Explain, Spelling};
use minimage::glob::Glob;
use minimage::packages;
use minimage::path::{RawPath, show};
use minimage::resolve::{self, Inputs};
use minimage::rootfs::MemoryRootfs;
use minimage::roots::{Keep, Origin, Root, split_destination};
use minimage::rules::Catalogue;
use minimage::spec::{PackageData, RunAs, Search, Selection, SensitiveFiles, Suggested, With};

use crate::tree_text::{Tree, testdata};
use crate::{answer, golden};

/// What a tree asks for.
struct Request {
    roots: Vec<Root>,
    selection: Selection,
    user: Option<RunAs>,
    rules: Vec<(String, String)>,
    search: Search,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            selection: Selection::default(),
            user: None,
            rules: Vec::new(),
            search: Search::standard(),
        }
    }
}

impl Request {
    fn add(&mut self, line: &str) {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let root = |keep| Root { keep, origin: Origin::Argument(line.to_owned()) };
        let selection = &mut self.selection;
        match key {
            "program" => {
                let (name, to) = split_destination(value);
                self.roots.push(root(Keep::Program { name: name.into(), to: to.map(RawPath::from) }));
            }
            "--add" => self.roots.push(root(Keep::Tree(value.parse().unwrap()))),
            "--include" => self.roots.push(root(Keep::Matching(Glob::parse(value).unwrap()))),
            "--exclude" => selection.exclude.push(Glob::parse(value).unwrap()),
            "--with" => selection.with.push(With::from(value)),
            "--without" => selection.without.push(value.to_owned()),
            "--with-suggested" => selection.suggested = Suggested::Take,
            "--no-package-data" => selection.package_data = PackageData::Leave,
            "--allow-missing" => selection.allow_missing.push(value.to_owned()),
            "--allow-sensitive" => selection.sensitive = SensitiveFiles::Allow,
            "--with-user" => selection.users.push(value.to_owned()),
            "--nss" => selection.nss.push(value.to_owned()),
            "--user" => self.user = Some(value.parse().unwrap()),
            "PATH" => self.search.path = value.split(':').map(RawPath::from).collect(),
            "own" => selection.own_directories.push(value.into()),
            "rule" => self.rules.push((line.to_owned(), format!("[[rule]]\n{}", value.replace("; ", "\n")))),
            _ => panic!("unknown request: {line}"),
        }
    }
}

fn answer(text: &str, name: &str) -> String {
    let mut request = Request::default();
    let mut tree = String::new();
    for line in text.lines() {
        match line.strip_prefix("! ") {
            Some(line) => request.add(line),
            None => {
                tree.push_str(line);
                tree.push('\n');
            }
        }
    }
    let rootfs = Tree::parse(name, &tree).to_memory();
    let packages = packages::open(&rootfs).unwrap();
    let resolution = resolve::closure(&Inputs {
        rootfs: &rootfs,
        packages: packages.as_deref(),
        roots: &request.roots,
        search: &request.search,
        selection: &request.selection,
        rules: &Catalogue::with(&request.rules).unwrap(),
        user: request.user.as_ref(),
    });
    let mut answer = String::new();
    match resolution {
        Err(error) => {
            for explanation in error.explain() {
                writeln!(answer, "{explanation}").unwrap();
            }
        }
        Ok(resolution) => {
            for program in &resolution.programs {
                writeln!(answer, "program {}", program.path).unwrap();
            }
            for warning in &resolution.warnings {
                writeln!(answer, "warning: {warning}").unwrap();
            }
            for left in &resolution.left_out {
                writeln!(answer, "left out ({}): {left}; {}", left.kind(), left.how(Spelling::Flags))
                    .unwrap();
            }
            for (key, value) in &resolution.env {
                writeln!(answer, "env {key}={value}").unwrap();
            }
            answer.push_str(&answer::of_closure(&resolution.closure));
            for (path, entry) in resolution.closure.entries() {
                if let Content::Generated(bytes) = &entry.content
                    && path.as_bytes().starts_with(b"/etc/")
                    && !path.as_bytes().ends_with(b".cache")
                {
                    writeln!(answer, "{path}:").unwrap();
                    for line in show(bytes).split_terminator("\\n") {
                        writeln!(answer, "  {line}").unwrap();
                    }
                }
            }
        }
    }
    answer
}

#[test]
fn accounts_that_are_too_large_are_an_error() {
    let mut rootfs = MemoryRootfs::new("tree");
    rootfs.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\n".repeat(1 << 20).as_bytes());
    let error = resolve::closure(&Inputs {
        rootfs: &rootfs,
        packages: None,
        roots: &[],
        search: &Search::standard(),
        selection: &Selection::default(),
        rules: &Catalogue::empty(),
        user: None,
    });
    let shown: Vec<_> = error.unwrap_err().explain().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "error[file-too-large]: `/etc/passwd` in tree has 27262976 bytes, too many to read it whole: the limit is \
          16777216\n    fix: look whether it is what its name says"
        ]
    );
}

#[test]
fn every_selection_has_its_answer() {
    let directory = testdata().join("selection");
    let mut paths: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 10, "there are trees in {}", directory.display());
    golden::check(paths.iter().map(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap();
        (format!("selection/{name}.answer"), answer(&text, &name))
    }));
}
