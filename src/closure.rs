//! Demands -> [`Closure`]: every path of the image, each with the reasons that lead back to a root.

mod conflict;
mod planned;

pub use conflict::{Claim, Conflict};
pub use planned::Planned;

use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map};
use std::fmt;
use std::sync::Arc;

use crate::path::{RawPath, RootPath, show};
use crate::rootfs::{Absence, Chased, Kind, Node, Rootfs, RootfsError, chase};
use crate::roots::{Origin, Root};

/// The paths of an image in the order of a depth-first walk, and who asked for them.
#[derive(Debug, Clone, Default)]
pub struct Closure {
    entries: BTreeMap<RootPath, Entry>,
    demands: Vec<Arc<Demand>>,
    ids: HashMap<Arc<Demand>, DemandId>,
    conflicts: BTreeMap<RootPath, Conflict>,
}

/// One path of the image.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What is there.
    pub node: Node,
    /// Where the bytes of a regular file come from.
    pub content: Content,
    /// Why it is there, the oldest demand first; never empty.
    pub reasons: BTreeSet<Reason>,
    /// The package that it came from, once that is known.
    pub owner: Option<Arc<Owner>>,
}

/// A package that entries came from, as its database writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// For which machines it is.
    pub architecture: String,
}

/// Where the bytes of an entry come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// It has none: a directory or a link.
    None,
    /// The file at this path of the source.
    Source(RootPath),
    /// Made by minimage.
    Generated(Vec<u8>),
}

/// Who may do what with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Names a [`Demand`] of its closure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DemandId(usize);

impl DemandId {
    /// Returns the place of the demand in the list of all demands of its closure.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A path that somebody asked for, as they spelled it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Demand {
    /// What was asked for.
    pub path: RawPath,
    /// Who asked, and how.
    pub cause: Cause,
}

/// Who asked for a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The user.
    Root(Origin),
    /// PT_INTERP of the program `by`.
    Interp {
        /// The program.
        by: RootPath,
    },
    /// DT_NEEDED, DT_FILTER, DT_AUXILIARY or DT_AUDIT of the object `by`.
    Needed {
        /// The object that asks.
        by: RootPath,
        /// The name it asks for.
        soname: Vec<u8>,
    },
    /// A dlopen note of the object `by`.
    DlopenNote {
        /// The object with the note.
        by: RootPath,
        /// The name it asks for.
        soname: Vec<u8>,
    },
    /// The first line of the script `by`.
    Shebang {
        /// The script.
        by: RootPath,
    },
    /// The root script `by` runs a program of this name.
    CommandWord {
        /// The script.
        by: RootPath,
        /// The word in command position.
        word: Vec<u8>,
    },
    /// The loader `by` reads it before it looks for libraries.
    LoaderConfig {
        /// The loader.
        by: RootPath,
    },
    /// Every image with this C library has it, so that they share a layer.
    Libc {
        /// The library.
        by: RootPath,
    },
    /// A rule of the catalogue, triggered by `by`.
    Rule {
        /// The path that triggered it.
        by: RootPath,
        /// The rule's ID.
        rule: String,
        /// Why there is such a rule.
        why: String,
    },
    /// It belongs to the package of a root program, or to that package's family.
    PackageData {
        /// The root program, or the interpreter of a root script.
        by: RootPath,
        /// The package that has it.
        package: String,
    },
    /// A user or group who is named in it: an owner of `by`, or somebody whom `by` names.
    UserDb {
        /// The path.
        by: RootPath,
        /// The user or group.
        name: String,
    },
    /// It says which system the files of the image come from.
    Identity,
    /// What scanners and lawyers look for: the package of `by` is in the image.
    Metadata {
        /// A path of the package.
        by: RootPath,
        /// The package.
        package: String,
    },
    /// Every image has it.
    Layout,
}

/// Why an entry is in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason {
    /// The demand that it serves.
    pub demand: DemandId,
    /// What it does for that demand.
    pub role: Role,
}

/// What an entry does for a demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// It is what was asked for.
    Target,
    /// It is a link on the way there.
    Link,
    /// It is a directory above the target or a link, or one that the path leaves through `..`.
    Parent,
}

/// What became of a demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Met {
    /// The target is in the closure, at this real path.
    At(RootPath),
    /// Nothing is there.
    Absent(Absence),
}

impl Closure {
    /// Returns a closure with nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the entries, each parent before its children.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&RootPath, &Entry)> {
        self.entries.iter()
    }

    /// Returns the entry at `path`.
    pub fn entry(&self, path: &RootPath) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Returns every demand, the oldest first.
    pub fn demands(&self) -> impl ExactSizeIterator<Item = &Demand> {
        self.demands.iter().map(|demand| &**demand)
    }

    /// Returns the demand that `id` names.
    ///
    /// # Panics
    /// If `id` comes from another closure.
    pub fn demand(&self, id: DemandId) -> &Demand {
        &self.demands[id.0]
    }

    /// Returns where two things were to be at one path, sorted; the first that came is in the closure.
    pub fn conflicts(&self) -> impl Iterator<Item = (&RootPath, &Conflict)> {
        self.conflicts.iter()
    }

    /// Takes the path that `demand` asks for out of `rootfs`: its target, every link on the way, the directories
    /// above them, and those that the path leaves through `..`.
    ///
    /// # Errors
    /// [`RootfsError`] if the source cannot be read. A demand that leads nowhere changes nothing.
    pub fn take(&mut self, rootfs: &dyn Rootfs, demand: Demand) -> Result<Met, RootfsError> {
        let Chased { links, left, end } = chase(rootfs, &demand.path)?;
        let (target, node) = match end {
            Ok(found) => found,
            Err(absence) => return Ok(Met::Absent(absence)),
        };
        let id = self.ask(demand);
        for link in links {
            self.take_parents(rootfs, &link.path, id)?;
            self.add(link.path, link.node, Content::None, Reason { demand: id, role: Role::Link });
        }
        for directory in left {
            self.take_parents(rootfs, &directory, id)?;
            if let Some(node) = rootfs.lookup(&directory)? {
                self.add(directory, node, Content::None, Reason { demand: id, role: Role::Parent });
            }
        }
        self.take_parents(rootfs, &target, id)?;
        let content = match node.kind {
            Kind::File => Content::Source(target.clone()),
            _ => Content::None,
        };
        self.add(target.clone(), node, content, Reason { demand: id, role: Role::Target });
        Ok(Met::At(target))
    }

    /// Takes what is at the path that `demand` asks for, by itself: if it is a link, then not what it leads to. Links
    /// above the last name are taken as [`Closure::take`] takes them.
    ///
    /// # Errors
    /// [`RootfsError`] if the source cannot be read. A demand that leads nowhere changes nothing.
    pub fn take_itself(&mut self, rootfs: &dyn Rootfs, demand: Demand) -> Result<Met, RootfsError> {
        let name = demand.path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let Some(above) = demand.path.parent().filter(|_| RootPath::root().child(name).is_some()) else {
            return self.take(rootfs, demand);
        };
        let Chased { links, end, .. } = chase(rootfs, &above)?;
        let directory = match end {
            Ok((directory, _)) => directory,
            Err(absence) => return Ok(Met::Absent(absence)),
        };
        let Some(path) = directory.child(name) else { return Ok(Met::Absent(Absence::NotFound)) };
        let Some(node) = rootfs.lookup(&path)? else { return Ok(Met::Absent(Absence::NotFound)) };
        let id = self.ask(demand);
        for link in links {
            self.take_parents(rootfs, &link.path, id)?;
            self.add(link.path, link.node, Content::None, Reason { demand: id, role: Role::Link });
        }
        self.take_parents(rootfs, &path, id)?;
        let content = match node.kind {
            Kind::File => Content::Source(path.clone()),
            _ => Content::None,
        };
        self.add(path.clone(), node, content, Reason { demand: id, role: Role::Target });
        Ok(Met::At(path))
    }

    /// Puts something at `path` that the source does not have there, unless something is there already: that it stays is
    /// a [conflict](Closure::conflicts) for all but what minimage makes itself. Missing directories above it are made,
    /// mode 0755.
    pub fn put(&mut self, path: &RootPath, node: Node, content: Content, cause: Cause) {
        let id = self.ask(Demand { path: path.to_raw(), cause });
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_root()) {
            let reason = Reason { demand: id, role: Role::Parent };
            self.add(directory.clone(), Node::directory(0o755), Content::None, reason);
            above = directory.parent();
        }
        self.add(path.clone(), node, content, Reason { demand: id, role: Role::Target });
    }

    /// Says which package the entry at `path` came from, if there is such an entry.
    pub fn set_owner(&mut self, path: &RootPath, owner: Arc<Owner>) {
        if let Some(entry) = self.entries.get_mut(path) {
            entry.owner = Some(owner);
        }
    }

    /// Gives the entry at `path` another owner, group and mode, if there is one.
    pub fn set_access(&mut self, path: &RootPath, access: Access) {
        if let Some(Entry { node, .. }) = self.entries.get_mut(path) {
            (node.mode, node.uid, node.gid) = (access.mode, access.uid, access.gid);
        }
    }

    /// Takes the entries at `paths` and below them out again.
    pub fn remove(&mut self, paths: &BTreeSet<RootPath>) {
        // In a depth-first walk, what is below a path comes right behind it.
        let mut top: Option<RootPath> = None;
        self.entries.retain(|entry, _| {
            if top.as_ref().is_some_and(|top| entry.is_within(top)) {
                return false;
            }
            let is_removed = paths.contains(entry);
            if is_removed {
                top = Some(entry.clone());
            }
            !is_removed
        });
    }

    fn ask(&mut self, demand: Demand) -> DemandId {
        if let Some(known) = self.ids.get(&demand) {
            return *known;
        }
        let (id, demand) = (DemandId(self.demands.len()), Arc::new(demand));
        self.demands.push(demand.clone());
        self.ids.insert(demand, id);
        id
    }

    fn take_parents(
        &mut self,
        rootfs: &dyn Rootfs,
        path: &RootPath,
        id: DemandId,
    ) -> Result<(), RootfsError> {
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_root()) {
            if let Some(node) = rootfs.lookup(&directory)? {
                let reason = Reason { demand: id, role: Role::Parent };
                self.add(directory.clone(), node, Content::None, reason);
            }
            above = directory.parent();
        }
        Ok(())
    }

    fn add(&mut self, path: RootPath, node: Node, content: Content, reason: Reason) {
        // Every image has a top; no layer says so.
        if path.is_root() {
            return;
        }
        let new = Entry { node, content, reasons: BTreeSet::from([reason]), owner: None };
        let insists = self.insists(&path, &new.content, reason);
        match self.entries.entry(path) {
            btree_map::Entry::Vacant(free) => drop(free.insert(new)),
            btree_map::Entry::Occupied(mut taken) => {
                let known = taken.get_mut();
                if insists && !known.is_like(&new) {
                    let conflict = Conflict::new(known, &new, reason);
                    self.conflicts.entry(taken.key().clone()).or_insert(conflict);
                } else {
                    known.reasons.insert(reason);
                }
            }
        }
    }

    /// Returns whether what serves `reason` is of no use if something else is at its path: a directory with something
    /// in it, what the user names, and a file that lies elsewhere in the source. What is made here, and what has its
    /// place from the source, gives way to what the user puts there.
    fn insists(&self, path: &RootPath, content: &Content, reason: Reason) -> bool {
        match (reason.role, content) {
            (Role::Parent, _) => true,
            (_, Content::Generated(_)) => false,
            (_, Content::Source(source)) if source != path => true,
            (Role::Target, _) => matches!(self.demand(reason.demand).cause, Cause::Root(_)),
            (Role::Link, _) => false,
        }
    }

    /// Returns why `path` is in the image: each step's demand, from the path itself back to a root; empty if it is
    /// not in the image.
    pub fn why(&self, path: &RootPath) -> Vec<&Demand> {
        let mut chain = Vec::new();
        let mut at = Some(path);
        while let Some(entry) = at.and_then(|path| self.entries.get(path)) {
            let Some(reason) = entry.reasons.first() else { break };
            // Who asks is in the image before it asks: each step goes to an older demand, so the walk ends.
            let demand = self.demand(reason.demand);
            chain.push(demand);
            at = demand.cause.by();
        }
        chain
    }

    /// Returns where the user asked for the root that `path` leads back to; `None` for what every image has.
    pub fn origin(&self, path: &RootPath) -> Option<&Origin> {
        match self.why(path).last()?.cause {
            Cause::Root(ref origin) => Some(origin),
            _ => None,
        }
    }
}

impl Demand {
    /// Returns the demand that `root` makes by itself, asking for `path`.
    pub fn of_root(root: &Root, path: RawPath) -> Self {
        Self { path, cause: Cause::Root(root.origin.clone()) }
    }
}

impl Cause {
    /// Returns the path that asked, if one did.
    pub fn by(&self) -> Option<&RootPath> {
        match self {
            Self::Interp { by }
            | Self::Needed { by, .. }
            | Self::DlopenNote { by, .. }
            | Self::Shebang { by }
            | Self::CommandWord { by, .. }
            | Self::LoaderConfig { by }
            | Self::Libc { by }
            | Self::Rule { by, .. }
            | Self::PackageData { by, .. }
            | Self::UserDb { by, .. }
            | Self::Metadata { by, .. } => Some(by),
            Self::Root(_) | Self::Identity | Self::Layout => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(origin) => write!(f, "asked for by {origin}"),
            Self::Interp { by } => write!(f, "the loader of `{by}`"),
            Self::Needed { by, soname } => write!(f, "`{by}` needs `{}`", show(soname)),
            Self::DlopenNote { by, soname } => {
                write!(f, "`{by}` declares that it loads `{}` at run time", show(soname))
            }
            Self::Shebang { by } => write!(f, "the interpreter of the script `{by}`"),
            Self::CommandWord { by, word } => write!(f, "the script `{by}` runs `{}`", show(word)),
            Self::LoaderConfig { by } => write!(f, "the loader `{by}` reads it to find libraries"),
            Self::Libc { by } => {
                write!(f, "part of every image with the C library `{by}`, which share a layer")
            }
            Self::Rule { by, rule, why } => write!(f, "rule `{rule}` for `{by}`: {why}"),
            Self::PackageData { by, package } => write!(f, "package `{package}` has it for `{by}`"),
            Self::UserDb { by, name } => write!(f, "`{by}` belongs to `{name}` or names it"),
            Self::Identity => f.write_str("says which system the files come from"),
            Self::Metadata { by, package } => write!(f, "tells that `{by}` is of package `{package}`"),
            Self::Layout => f.write_str("part of every image"),
        }
    }
}
