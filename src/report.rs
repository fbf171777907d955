//! A closure + its plan -> the closure report: which path is in the image, in which layer, and why.
//!
//! It is what `--dry-run --format json` and `--report` print, what `why` reads, and never part of the image.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::closure::{Cause, Closure, Demand, Owner, Role};
use crate::explain::{Explain, Explanation, Spelling};
use crate::glob::Glob;
use crate::layer::LayerPlan;
use crate::path::{RawPath, RootPath, show};
use crate::resolve::Resolution;
use crate::rootfs::{Chased, Kind, MemoryRootfs, Node, chase};

/// What a report is called where it is attached to its image.
pub const MEDIA_TYPE: &str = "application/vnd.minimage.closure.v1+json";
/// The version of the report's form; another one is another form.
const FORM: u32 = 1;

/// Everything that is known of an image's contents. Names that are not UTF-8 are escaped as in messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who asked for what; entries refer to them by their place in this list.
    pub demands: Vec<DemandRecord>,
    /// Each path of the image, in the order of a depth-first walk.
    pub entries: Vec<EntryRecord>,
    /// The version of this form.
    pub form: u32,
    /// Libraries that are named in read-only data of the programs, and not taken.
    pub hints: Vec<HintRecord>,
    /// What the image could hold and does not.
    #[serde(default)]
    pub left_out: Vec<LeftOutRecord>,
    /// The root programs, as they are started.
    pub programs: Vec<String>,
    /// Where the files came from.
    pub source: String,
    /// What is worth knowing although the image starts.
    pub warnings: Vec<String>,
}

/// One demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DemandRecord {
    /// The path that asked, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What kind of demand it is.
    pub kind: String,
    /// The rule or package behind it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What was asked for, as spelled.
    pub path: String,
    /// The same in words.
    pub text: String,
}

/// One thing that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutRecord {
    /// Patterns of the paths that a rule would bring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// How to take it.
    pub how: String,
    /// `suggested`, `sensitive`, `private`, `program`, `script`, `unloadable`, `excluded` or `missing`.
    pub kind: String,
    /// Why it was left out, in words.
    pub text: String,
    /// The path, name or rule.
    pub what: String,
    /// What is missing without it, or what is in it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl LeftOutRecord {
    /// Returns whether it is `path`, or would bring it.
    pub fn is(&self, path: &str) -> bool {
        let brings = |pattern: &String| {
            let path = RootPath::from_normal(path.as_bytes());
            path.is_some_and(|path| Glob::parse(pattern.as_str()).is_ok_and(|glob| glob.matches(&path)))
        };
        self.what == path || self.files.iter().any(brings)
    }
}

/// One path of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRecord {
    /// Group.
    pub gid: u32,
    /// `file`, `directory` or `link`.
    pub kind: String,
    /// The place of its layer, from 0; of the lowest one that has it, if it is a directory above others.
    pub layer: usize,
    /// Permission bits in octal.
    pub mode: String,
    /// The package that it came from, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageRecord>,
    /// The path.
    pub path: String,
    /// Why it is there, the oldest demand first; never empty.
    pub reasons: Vec<ReasonRecord>,
    /// Length in bytes.
    pub size: u64,
    /// The target of a link, as spelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Owner.
    pub uid: u32,
}

/// One package, as its database writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageRecord {
    /// For which machines it is.
    pub architecture: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// One reason of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonRecord {
    /// The place of the demand in the list.
    pub demand: usize,
    /// `target`, `link` or `parent`.
    pub role: String,
}

/// One library that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HintRecord {
    /// The object with the data.
    pub named_by: String,
    /// Where it would be found.
    pub path: String,
    /// The name in the data.
    pub soname: String,
}

/// Why a text is no report.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// It is not JSON of this form.
    #[error("`{name}` is no closure report")]
    Document {
        /// What was read.
        name: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It is of another version.
    #[error("`{name}` is a closure report of form {form}, not {FORM}")]
    Form {
        /// What was read.
        name: String,
        /// The version it has.
        form: u32,
    },
}

impl Explain for ReportError {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("bad-report", self.to_string())
                .because_of(self)
                .fix("build the image again, with this version of minimage"),
        ]
    }
}

impl Report {
    /// Returns the report of an image of `resolution`, whose files come from `source`, planned as `plan`, with options as
    /// `spelling` has them.
    pub fn new(source: &str, resolution: &Resolution, plan: &LayerPlan, spelling: Spelling) -> Self {
        let closure = &resolution.closure;
        Self {
            form: FORM,
            source: source.to_owned(),
            programs: resolution.programs.iter().map(|program| program.path.to_string()).collect(),
            demands: closure.demands().map(DemandRecord::new).collect(),
            entries: entries(closure, plan),
            warnings: resolution.warnings.clone(),
            hints: resolution
                .hints
                .iter()
                .map(|hint| HintRecord {
                    soname: show(&hint.soname),
                    path: hint.path.to_string(),
                    named_by: hint.by.to_string(),
                })
                .collect(),
            left_out: resolution
                .left_out
                .iter()
                .map(|left| LeftOutRecord {
                    kind: left.kind().to_owned(),
                    what: left.what(),
                    how: left.how(spelling),
                    text: left.to_string(),
                    why: left.why().map(str::to_owned),
                    files: left.files().iter().map(ToString::to_string).collect(),
                })
                .collect(),
        }
    }

    /// Returns the report in `bytes`, which is called `name` in messages.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, ReportError> {
        let report: Self = serde_json::from_slice(bytes)
            .map_err(|source| ReportError::Document { name: name.to_owned(), source })?;
        match report.form {
            FORM => Ok(report),
            form => Err(ReportError::Form { name: name.to_owned(), form }),
        }
    }

    /// Returns the report as one JSON document with sorted keys.
    pub fn to_json(&self) -> String {
        // The fields of all records are in the order of their names: of a report on a hundred thousand files, a second
        // copy in memory that is sorted would be larger than all the rest.
        // Strings and numbers: nothing in it can fail to be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Writes what [`Report::to_json`] returns to `file`, without holding all of it in memory.
    ///
    /// # Errors
    /// Whatever `file` says.
    pub fn write_json(&self, file: impl Write) -> io::Result<()> {
        let mut buffered = BufWriter::new(file);
        serde_json::to_writer(&mut buffered, self)?;
        buffered.flush()
    }

    /// Returns the entry at `path`.
    pub fn entry(&self, path: &str) -> Option<&EntryRecord> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// Returns why `path` is in the image: each step's demand, from the path itself back to a root; empty if it is
    /// not in the image.
    pub fn why(&self, path: &str) -> Vec<&DemandRecord> {
        let mut chain: Vec<&DemandRecord> = Vec::new();
        let mut at = Some(path);
        while let Some(entry) = at.and_then(|path| self.entry(path)) {
            let demand = entry.reasons.first().and_then(|reason| self.demands.get(reason.demand));
            // A report is a file: it may have been made to run in circles.
            let Some(demand) = demand.filter(|_| chain.len() <= self.demands.len()) else { break };
            chain.push(demand);
            at = demand.by.as_deref();
        }
        chain
    }

    /// Returns every path that is passed on the way to `spelled` in the image, links first; empty if the way ends.
    pub fn way(&self, spelled: &RawPath) -> Vec<String> {
        // A tree in memory can always be read.
        let Ok(Chased { links, end: Ok((real, _)), .. }) = chase(&self.tree(), spelled) else {
            return Vec::new();
        };
        links.iter().map(|link| link.path.to_string()).chain([real.to_string()]).collect()
    }

    /// Returns the paths of the image, without contents.
    fn tree(&self) -> MemoryRootfs {
        let mut tree = MemoryRootfs::new("the image");
        for entry in &self.entries {
            let Some(path) = RootPath::from_normal(entry.path.as_bytes()) else { continue };
            let node = match &entry.target {
                Some(target) => Node::link(RawPath::from(target.as_str())),
                None if entry.kind == "directory" => Node::directory(0o755),
                None => Node::file(0),
            };
            tree.insert(&path, node, Vec::new());
        }
        tree
    }
}

fn entries(closure: &Closure, plan: &LayerPlan) -> Vec<EntryRecord> {
    let mut entries = Vec::new();
    let mut seen = BTreeSet::new();
    for (layer, planned) in plan.layers.iter().enumerate() {
        for entry in planned.entries.iter().filter(|entry| seen.insert(&entry.path)) {
            let known = closure.entry(&entry.path);
            let reasons = known.map(|entry| &entry.reasons);
            let owner = known.and_then(|entry| entry.owner.as_deref());
            let (kind, target) = match &entry.node.kind {
                Kind::File => ("file", None),
                Kind::Directory => ("directory", None),
                Kind::Link(target) => ("link", Some(target.to_string())),
                Kind::Special(what) => (*what, None),
            };
            entries.push(EntryRecord {
                path: entry.path.to_string(),
                kind: kind.to_owned(),
                mode: format!("{:04o}", entry.node.mode),
                uid: entry.node.uid,
                gid: entry.node.gid,
                size: entry.node.size,
                target,
                layer,
                package: owner.map(PackageRecord::new),
                reasons: reasons
                    .into_iter()
                    .flatten()
                    .map(|reason| ReasonRecord {
                        demand: reason.demand.index(),
                        role: match reason.role {
                            Role::Target => "target",
                            Role::Link => "link",
                            Role::Parent => "parent",
                        }
                        .to_owned(),
                    })
                    .collect(),
            });
        }
    }
    entries.sort_by(|one, other| {
        let key = |entry: &EntryRecord| RootPath::from_normal(entry.path.as_bytes());
        key(one).cmp(&key(other))
    });
    entries
}

impl PackageRecord {
    fn new(owner: &Owner) -> Self {
        let Owner { name, version, architecture } = owner.clone();
        Self { name, version, architecture }
    }
}

impl DemandRecord {
    fn new(demand: &Demand) -> Self {
        let kind = match &demand.cause {
            Cause::Root(_) => "root",
            Cause::Interp { .. } => "interp",
            Cause::Needed { .. } => "needed",
            Cause::DlopenNote { .. } => "dlopen-note",
            Cause::Shebang { .. } => "shebang",
            Cause::CommandWord { .. } => "command-word",
            Cause::LoaderConfig { .. } => "loader-config",
            Cause::Libc { .. } => "libc",
            Cause::Rule { .. } => "rule",
            Cause::PackageData { .. } => "package-data",
            Cause::UserDb { .. } => "user-db",
            Cause::Identity | Cause::Metadata { .. } => "metadata",
            Cause::Layout => "layout",
        };
        Self {
            path: demand.path.to_string(),
            kind: kind.to_owned(),
            by: demand.cause.by().map(ToString::to_string),
            name: match &demand.cause {
                Cause::Rule { rule: name, .. } | Cause::PackageData { package: name, .. } => {
                    Some(name.clone())
                }
                _ => None,
            },
            text: demand.cause.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::canonical_json;

    #[test]
    fn keys_are_sorted_without_a_second_copy() {
        let text = || "x".to_owned();
        let report = Report {
            demands: vec![DemandRecord {
                by: Some(text()),
                kind: text(),
                name: Some(text()),
                path: text(),
                text: text(),
            }],
            entries: vec![EntryRecord {
                gid: 1,
                kind: text(),
                layer: 1,
                mode: text(),
                package: Some(PackageRecord { architecture: text(), name: text(), version: text() }),
                path: text(),
                reasons: vec![ReasonRecord { demand: 1, role: text() }],
                size: 1,
                target: Some(text()),
                uid: 1,
            }],
            form: FORM,
            hints: vec![HintRecord { named_by: text(), path: text(), soname: text() }],
            left_out: vec![LeftOutRecord {
                files: vec![text()],
                how: text(),
                kind: text(),
                text: text(),
                what: text(),
                why: Some(text()),
            }],
            programs: vec![text()],
            source: text(),
            warnings: vec![text()],
        };
        assert_eq!(report.to_json().as_bytes(), canonical_json(&report).unwrap());
        let mut written = Vec::new();
        report.write_json(&mut written).unwrap();
        assert_eq!(written, report.to_json().as_bytes());
    }

    #[test]
    fn a_rule_that_was_left_out_stands_for_what_it_would_bring() {
        let left = LeftOutRecord {
            kind: "suggested".to_owned(),
            what: "tzdata".to_owned(),
            how: "--with tzdata".to_owned(),
            text: String::new(),
            why: None,
            files: vec!["/usr/share/zoneinfo/**".to_owned()],
        };
        for (path, expected) in [
            ("/usr/share/zoneinfo/UTC", true),
            ("/usr/share/zoneinfo/Europe/Berlin", true),
            ("tzdata", true),
            ("/usr/share/zoneinfo", false),
            ("/etc/localtime", false),
            ("not a path", false),
        ] {
            assert_eq!(left.is(path), expected, "{path}");
        }
    }
}
