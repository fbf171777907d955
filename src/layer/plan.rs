//! Closure -> which path is in which layer, in the order of writing. Pure: no bytes, no clock, no I/O.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::closure::{Cause, Closure, Content, Entry, Owner, Reason, Role};
use crate::path::RootPath;
use crate::rootfs::{FileId, Kind, Node};
use crate::spec::{LAYERS_MAX, Layering};

/// Which path goes into which layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerPlan {
    /// The layers, the lowest first.
    pub layers: Vec<PlannedLayer>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLayer {
    /// What it holds, as the image's history says it.
    pub name: String,
    /// The entries in the order of a depth-first walk; parents first.
    pub entries: Vec<PlannedEntry>,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEntry {
    /// Where it goes.
    pub path: RootPath,
    /// What it is.
    pub node: Node,
    /// Where its bytes come from.
    pub content: Content,
    /// The earlier entry that is the same file, if there is one.
    pub hard_link_to: Option<RootPath>,
}

/// What a path is part of; the lower ones change less often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class<'a> {
    /// The C library, as every image has it.
    Libc,
    /// A package.
    Package(&'a Owner),
    /// No package.
    Own,
    /// What minimage makes itself.
    Metadata,
}

/// What becomes one layer, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Everything,
    Libc,
    Packages,
    Package(&'a Owner),
    Own,
    OwnAndMetadata,
    Metadata,
}

/// Returns the plan of `closure`: each path is in one layer, and a directory in every layer that has something below it.
pub fn plan(closure: &Closure, layering: Layering) -> LayerPlan {
    let classes: Vec<Class<'_>> = closure.entries().map(|(_, entry)| class(closure, entry)).collect();
    let leaves = leaves(closure);
    let mut sizes: BTreeMap<Class<'_>, u64> = BTreeMap::new();
    for (((_, entry), class), _) in closure.entries().zip(&classes).zip(&leaves).filter(|(_, leaf)| **leaf) {
        *sizes.entry(*class).or_default() += entry.node.size;
    }
    let parts = parts(&sizes, layering);
    let mut layers: BTreeMap<Part<'_>, Building<'_>> = BTreeMap::new();
    if sizes.is_empty() {
        // Engines take no image without a layer.
        layers.insert(Part::Everything, Building::default());
    }
    let mut above: Vec<(&RootPath, &Entry)> = Vec::new();
    for (((path, entry), class), is_leaf) in closure.entries().zip(&classes).zip(leaves) {
        while above.last().is_some_and(|(directory, _)| !path.is_within(directory)) {
            above.pop();
        }
        if is_leaf && let Some(part) = parts.get(class) {
            layers.entry(*part).or_default().push(&above, path, entry);
        }
        above.push((path, entry));
    }
    let planned = |(part, building): (Part<'_>, Building<'_>)| PlannedLayer {
        name: part.to_string(),
        entries: building.entries,
    };
    LayerPlan { layers: layers.into_iter().map(planned).collect() }
}

/// Returns for each entry whether it brings itself into a layer: everything does, but for directories above others.
fn leaves(closure: &Closure) -> Vec<bool> {
    let next = closure.entries().skip(1).map(|(path, _)| Some(path)).chain([None]);
    let is_leaf = |((path, _), next): ((&RootPath, &Entry), Option<&RootPath>)| {
        // Depth-first: what is below a directory comes right after it.
        next.is_none_or(|next| !next.is_within(path))
    };
    closure.entries().zip(next).map(is_leaf).collect()
}

fn class<'a>(closure: &'a Closure, entry: &'a Entry) -> Class<'a> {
    let cause = |reason: &Reason| &closure.demand(reason.demand).cause;
    let is_libc =
        |reason: &Reason| reason.role != Role::Parent && matches!(cause(reason), Cause::Libc { .. });
    let is_made = matches!(entry.content, Content::Generated(_));
    let is_told = |cause: &Cause| matches!(cause, Cause::Layout | Cause::Identity | Cause::Metadata { .. });
    if is_made || entry.reasons.iter().all(|reason| is_told(cause(reason))) {
        return Class::Metadata;
    }
    if entry.reasons.iter().any(is_libc) {
        return Class::Libc;
    }
    entry.owner.as_deref().map_or(Class::Own, Class::Package)
}

/// Returns which classes become which layers, given how many bytes each has.
fn parts<'a>(sizes: &BTreeMap<Class<'a>, u64>, layering: Layering) -> BTreeMap<Class<'a>, Part<'a>> {
    let most = match layering {
        Layering::Single => 1,
        Layering::Auto => 4,
        Layering::PerPackage => LAYERS_MAX,
        Layering::AtMost(number) => number.get(),
    };
    let mut packages: Vec<(u64, &Owner)> = Vec::new();
    for (class, size) in sizes {
        if let Class::Package(package) = class {
            packages.push((*size, package));
        }
    }
    // The largest ones by themselves: they save the most if they stay when others change.
    packages.sort_by_key(|(size, package)| (Reverse(*size), *package));
    let for_packages = most.saturating_sub(3);
    let alone = match layering {
        Layering::Auto => 0,
        _ if packages.len() <= for_packages => packages.len(),
        _ => for_packages.saturating_sub(1),
    };
    let part = |class: Class<'a>| match (most, class) {
        (1, _) => Part::Everything,
        (2, Class::Libc) => Part::Packages,
        (_, Class::Libc) => Part::Libc,
        (_, Class::Package(package)) => {
            let is_alone = packages.iter().take(alone).any(|(_, other)| *other == package);
            if is_alone { Part::Package(package) } else { Part::Packages }
        }
        (2 | 3, Class::Own | Class::Metadata) => Part::OwnAndMetadata,
        (_, Class::Own) => Part::Own,
        (_, Class::Metadata) => Part::Metadata,
    };
    sizes.keys().map(|class| (*class, part(*class))).collect()
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Libc => f.write_str("C library"),
            Self::Packages => f.write_str("packages"),
            Self::Package(Owner { name, version, .. }) => write!(f, "package {name} {version}"),
            Self::Own => f.write_str("files of no package"),
            Self::OwnAndMetadata => f.write_str("files of no package, metadata"),
            Self::Metadata => f.write_str("metadata"),
        }
    }
}

/// A layer as far as it is known.
#[derive(Default)]
struct Building<'a> {
    entries: Vec<PlannedEntry>,
    /// The directories above the entry that came last.
    above: Vec<&'a RootPath>,
    first_paths: HashMap<FileId, &'a RootPath>,
}

impl<'a> Building<'a> {
    /// Appends the entry at `path`, and those of the directories `above` it that are not there yet.
    fn push(&mut self, above: &[(&'a RootPath, &'a Entry)], path: &'a RootPath, entry: &'a Entry) {
        let known = self.above.iter().zip(above).take_while(|(one, (other, _))| *one == other).count();
        self.above.truncate(known);
        for (directory, entry) in above.iter().skip(known) {
            self.above.push(directory);
            self.append(directory, entry);
        }
        self.append(path, entry);
    }

    fn append(&mut self, path: &'a RootPath, entry: &Entry) {
        let is_shared = entry.node.kind == Kind::File && entry.node.links > 1;
        let first = is_shared.then(|| *self.first_paths.entry(entry.node.id).or_insert(path));
        self.entries.push(PlannedEntry {
            path: path.clone(),
            node: entry.node.clone(),
            content: entry.content.clone(),
            hard_link_to: first.filter(|first| *first != path).cloned(),
        });
    }
}
