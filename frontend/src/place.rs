//! A closure in the stage that files were copied from -> what of it the target lacks, at its place there.

use std::collections::{BTreeMap, BTreeSet};

use minimage::closure::{Cause, Closure, Content, Entry, Reason, Role};
use minimage::formats::accounts::{self, ACCOUNTS_MAX, Group, Password, User};
use minimage::formats::elf::ByteOrder;
use minimage::formats::ldso_cache::{self, CacheLine, LdsoCache};
use minimage::path::{RawPath, RootPath};
use minimage::resolve::Resolution;
use minimage::rootfs::{Bytes, CompletedRootfs, Kind, Node, Rootfs, RootfsError, chase, read_file};
use minimage::roots::Origin;

use crate::expand::itself;
use crate::same::equal;
use crate::served::served;

/// The largest cache of a loader that is read, in bytes.
const CACHE_MAX: u64 = 64 << 20;

/// A file that is another one in the stage and in the target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Difference {
    /// The file in the target, which stays.
    pub(crate) path: RootPath,
    /// The place of the stage in the request.
    pub(crate) stage: usize,
}

/// What came of a closure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Completion {
    /// Files that a loader asks for, that are there already, and are not the same.
    pub(crate) differences: Vec<Difference>,
    /// What came along for another reason than that a loader asks for it, at its places in the target, and the root that
    /// it came with.
    pub(crate) brought: Vec<(RawPath, Option<Origin>)>,
}

/// Adds what the closure of `resolution`, taken from the stage number `index`, needs besides its roots and what
/// `completed` lacks. `copies` are the paths of its roots in the stage and in the target.
pub(crate) fn complete<'a>(
    completed: &mut CompletedRootfs<'a>,
    resolution: &Resolution,
    stage: &'a dyn Rootfs,
    index: usize,
    copies: &[(RawPath, RawPath)],
) -> Result<Completion, RootfsError> {
    let closure = &resolution.closure;
    let served = served(completed, resolution, stage)?;
    let mut completion = Completion::default();
    // A link may lead to what was copied beside it, or have become the file that it led to.
    let mut lost: BTreeSet<&RawPath> = BTreeSet::new();
    for (from, to) in copies {
        if chase(completed, to)?.end.is_err() {
            lost.insert(from);
        }
    }
    let copied: BTreeMap<&[u8], &RawPath> = copies.iter().map(|(from, to)| (from.as_bytes(), to)).collect();
    let replaced = replaced(completed, closure, stage)?;
    for (path, entry) in closure.entries() {
        // Roots are where the build file put them; what they need or lead to comes along.
        let comes_along = |reason: &Reason| {
            let demand = closure.demand(reason.demand);
            match demand.cause {
                // What tells of the system, but not the directories that every image has anyway.
                Cause::Layout => entry.node.kind != Kind::Directory,
                // Nothing that the build file puts anywhere.
                Cause::Root(Origin::Choice(ref choice)) => matches!(choice.name.as_str(), "with" | "nss"),
                Cause::Root(_) => {
                    reason.role == Role::Target && demand.path != path.to_raw() && lost.contains(&demand.path)
                }
                _ => true,
            }
        };
        let along = entry.reasons.iter().filter(|reason| comes_along(reason));
        let demands = along.map(|reason| closure.demand(reason.demand));
        let lacking = demands.filter(|demand| !served.contains(demand));
        let places = lacking.filter_map(|demand| place(&replaced, path, &demand.path));
        let places: BTreeSet<RawPath> = places.collect();
        // What loaders ask for they will ask for again, unless the target has something better.
        let is_asked_for = entry.reasons.iter().any(|reason| {
            let cause = &closure.demand(reason.demand).cause;
            matches!(cause, Cause::Needed { .. } | Cause::Interp { .. } | Cause::DlopenNote { .. })
        });
        // At several places it is one file all the same.
        let is_twice = places.len() > 1 && entry.node.kind == Kind::File;
        let twin = is_twice.then(|| shared(entry, &entry.node));
        let entry = twin.as_ref().unwrap_or(entry);
        for spelled in places {
            let Some(real) = itself(completed, &spelled)? else {
                let link = match copied.get(path.as_bytes()) {
                    Some(to) if entry.node.kind == Kind::File => linked(completed, to, path, entry, stage)?,
                    _ => None,
                };
                add(completed, &spelled, link.as_ref().unwrap_or(entry), stage)?;
                if !is_asked_for && !matches!(entry.node.kind, Kind::Special(_)) {
                    completion.brought.push((spelled, closure.origin(path).cloned()));
                }
                continue;
            };
            let is_of_loader = entry.reasons.iter().any(|reason| is_of_loader(closure, reason));
            match (&entry.content, Accounts::at(path)) {
                (Content::Generated(more), _) if is_of_loader => complete_cache(completed, &real, more)?,
                (_, _) if is_of_loader => {}
                (Content::Generated(more), Some(file)) => complete_accounts(completed, &real, file, more)?,
                _ => {
                    let there = chase(completed, &real.to_raw())?.end;
                    if is_asked_for
                        && let Ok((real, node)) = there
                        && entry.node.kind == Kind::File
                        && !is_same(completed, &real, &node, stage, entry)?
                    {
                        completion.differences.push(Difference { path: real, stage: index });
                    }
                }
            }
        }
    }
    // Directories that are links in one of the two trees only: the spelling must lead somewhere, too.
    for demand in closure.demands().filter(|demand| !matches!(demand.cause, Cause::Root(_) | Cause::Layout)) {
        if chase(completed, &demand.path)?.end.is_err()
            && !served.contains(demand)
            && let Ok((real, _)) = chase(stage, &demand.path)?.end
            && let Some(entry) = closure.entry(&real)
        {
            add(completed, &demand.path, entry, stage)?;
        }
    }
    Ok(completion)
}

/// A link to a directory, and where that is.
type Replaced = (RootPath, RootPath);

/// Returns the links of `stage` to directories in whose place `completed` has directories of its own.
fn replaced(
    completed: &dyn Rootfs,
    closure: &Closure,
    stage: &dyn Rootfs,
) -> Result<Vec<Replaced>, RootfsError> {
    let mut found = Vec::new();
    for (path, _) in closure.entries().filter(|(_, entry)| matches!(entry.node.kind, Kind::Link(_))) {
        if let Some(Node { kind: Kind::Directory, .. }) = completed.lookup(path)?
            && let Ok((end, Node { kind: Kind::Directory, .. })) = chase(stage, &path.to_raw())?.end
        {
            found.push((path.clone(), end));
        }
    }
    Ok(found)
}

/// Returns where something belongs that is at `path` in its stage and serves somebody who asks for `asked`: where they
/// look, if that is in a directory that the target has in place of a link. What lies above such a link's end is in no
/// place.
fn place(replaced: &[Replaced], path: &RootPath, asked: &RawPath) -> Option<RawPath> {
    let through = replaced.iter().find(|(link, _)| below(link, asked).is_some());
    let Some((link, end)) = through else { return Some(path.to_raw()) };
    if end != path && end.is_within(path) {
        return None;
    }
    match path.relative().strip_prefix(end.relative()) {
        Some(rest) if path.is_within(end) => Some(RawPath::new([link.as_bytes(), rest].concat())),
        _ => Some(path.to_raw()),
    }
}

/// Returns the rest of `asked`, with its slash, if that is spelled as below `link`.
fn below<'a>(link: &RootPath, asked: &'a RawPath) -> Option<&'a [u8]> {
    asked.as_bytes().strip_prefix(link.as_bytes()).filter(|rest| rest.starts_with(b"/"))
}

fn is_of_loader(closure: &Closure, reason: &Reason) -> bool {
    matches!(closure.demand(reason.demand).cause, Cause::LoaderConfig { .. })
}

/// Adds the lines of the cache `more`, which a stage's libraries are found by, to the cache at `path`, whose own lines
/// stay. A cache that no loader reads stays as it is.
fn complete_cache(
    completed: &mut CompletedRootfs<'_>,
    path: &RootPath,
    more: &[u8],
) -> Result<(), RootfsError> {
    let Ok((real, node)) = chase(completed, &path.to_raw())?.end else { return Ok(()) };
    if node.kind != Kind::File {
        return Ok(());
    }
    let own = read_file(completed, &real, CACHE_MAX)?;
    for byte_order in [ByteOrder::Little, ByteOrder::Big] {
        let lines = |bytes: &[u8]| LdsoCache::parse(bytes.to_vec(), byte_order)?.lines();
        let (Some(mut lines), Some(more)) = (lines(&own), lines(more)) else { continue };
        let known: BTreeSet<_> = lines.iter().map(key).collect();
        let more: Vec<CacheLine> = more.into_iter().filter(|line| !known.contains(&key(line))).collect();
        if more.is_empty() {
            return Ok(());
        }
        lines.extend(more);
        let bytes = ldso_cache::write(&lines, byte_order);
        let node = Node { size: bytes.len() as u64, ..node };
        completed.add(&real, node, Bytes::Made(bytes));
        return Ok(());
    }
    Ok(())
}

/// A file with accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accounts {
    Users,
    Groups,
}

impl Accounts {
    /// Returns which one is at `path`.
    fn at(path: &RootPath) -> Option<Self> {
        match path.as_bytes() {
            b"/etc/passwd" => Some(Self::Users),
            b"/etc/group" => Some(Self::Groups),
            _ => None,
        }
    }

    /// Returns the names and numbers in `text`, each with its line.
    fn parse(self, text: &[u8]) -> Vec<(Vec<u8>, u32, Vec<u8>)> {
        let user = |user: User| (user.name.clone(), user.uid, user.line(Password::None));
        let group = |group: Group| (group.name.clone(), group.gid, group.line());
        match self {
            Self::Users => accounts::users(text).into_iter().map(user).collect(),
            Self::Groups => accounts::groups(text).into_iter().map(group).collect(),
        }
    }
}

/// Adds the accounts of `more`, which the stage has, to the file of accounts at `path`, whose own names and numbers stay.
fn complete_accounts(
    completed: &mut CompletedRootfs<'_>,
    path: &RootPath,
    file: Accounts,
    more: &[u8],
) -> Result<(), RootfsError> {
    let Ok((real, node)) = chase(completed, &path.to_raw())?.end else { return Ok(()) };
    if node.kind != Kind::File {
        return Ok(());
    }
    let mut text = read_file(completed, &real, ACCOUNTS_MAX)?;
    let known = file.parse(&text);
    let is_new = |(name, number, _): &(Vec<u8>, u32, Vec<u8>)| {
        !known.iter().any(|(known, taken, _)| known == name || taken == number)
    };
    let lines: Vec<u8> = file.parse(more).into_iter().filter(is_new).flat_map(|(_, _, line)| line).collect();
    if lines.is_empty() {
        return Ok(());
    }
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text.extend(lines);
    let node = Node { size: text.len() as u64, ..node };
    completed.add(&real, node, Bytes::Made(text));
    Ok(())
}

/// Returns what only one line of a cache can answer.
fn key(line: &CacheLine) -> (Vec<u8>, u32, Option<Vec<u8>>) {
    (line.name.clone(), line.flags, line.hwcap.clone())
}

/// Adds `entry` at `spelled`, through the links that `completed` has, and the directories above it that it lacks.
/// Nothing happens where something else is in their place.
fn add<'a>(
    completed: &mut CompletedRootfs<'a>,
    spelled: &RawPath,
    entry: &Entry,
    stage: &'a dyn Rootfs,
) -> Result<(), RootfsError> {
    let name = spelled.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let above = spelled.parent().unwrap_or_else(|| RawPath::from("/"));
    let directory = match chase(completed, &above)?.end {
        Ok((directory, Node { kind: Kind::Directory, .. })) => directory,
        Ok(_) => return Ok(()),
        Err(_) => {
            let node = match chase(stage, &above)?.end {
                Ok((_, node)) if node.kind == Kind::Directory => node,
                Ok(_) => return Ok(()),
                // What lies beside something that has moved lies where the stage need not have anything.
                Err(_) => Node::directory(0o755),
            };
            let parent = Entry { node, content: Content::None, ..entry.clone() };
            add(completed, &above, &parent, stage)?;
            match chase(completed, &above)?.end {
                Ok((directory, _)) => directory,
                Err(_) => return Ok(()),
            }
        }
    };
    if let Some(path) = directory.child(name) {
        let bytes = match &entry.content {
            Content::Source(path) => Bytes::Of(stage, path.clone()),
            Content::Generated(bytes) => Bytes::Made(bytes.clone()),
            Content::None => Bytes::Made(Vec::new()),
        };
        completed.add(&path, entry.node.clone(), bytes);
    }
    Ok(())
}

/// Returns `entry` as one more link to the file that `node` is.
fn shared(entry: &Entry, node: &Node) -> Entry {
    Entry { node: Node { links: node.links.max(2), ..node.clone() }, ..entry.clone() }
}

/// Returns `entry`, which is at `path` in `stage`, as one more link to the file at `to`, which was copied from there;
/// `None` if that is not the same any more.
fn linked<'a>(
    completed: &mut CompletedRootfs<'a>,
    to: &RawPath,
    path: &RootPath,
    entry: &Entry,
    stage: &'a dyn Rootfs,
) -> Result<Option<Entry>, RootfsError> {
    let Ok((copy, node)) = chase(completed, to)?.end else { return Ok(None) };
    let access = |node: &Node| (node.mode, node.uid, node.gid, node.capability.clone());
    if access(&node) != access(&entry.node) || !is_same(completed, &copy, &node, stage, entry)? {
        return Ok(None);
    }
    let entry = shared(entry, &node);
    completed.add(&copy, entry.node.clone(), Bytes::Of(stage, path.clone()));
    Ok(Some(entry))
}

/// Returns whether the file `node` at `path` has the bytes of `entry`.
fn is_same(
    completed: &CompletedRootfs<'_>,
    path: &RootPath,
    node: &Node,
    stage: &dyn Rootfs,
    entry: &Entry,
) -> Result<bool, RootfsError> {
    if node.kind != Kind::File || node.size != entry.node.size {
        return Ok(false);
    }
    let error = |source| RootfsError::Read {
        action: "read",
        path: path.clone(),
        rootfs: completed.name().to_owned(),
        source,
    };
    let here = completed.open(path)?;
    match &entry.content {
        Content::Source(there) => equal(&*here, &*stage.open(there)?, node.size).map_err(error),
        Content::Generated(bytes) => equal(&*here, &bytes.as_slice(), node.size).map_err(error),
        Content::None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use minimage::closure::Demand;
    use minimage::formats::read_all;
    use minimage::rootfs::MemoryRootfs;

    use super::*;

    fn rootfs(files: &[(&str, &str)]) -> MemoryRootfs {
        MemoryRootfs::from(("tree", files))
    }

    /// Returns the closure of a program at `/app/main` that asks for `needs`.
    fn resolution(stage: &MemoryRootfs, needs: &[&str]) -> Resolution {
        let mut closure = Closure::new();
        let root = Cause::Root(Origin::Argument("main".to_owned()));
        closure.take(stage, Demand { path: RawPath::from("/app/main"), cause: root }).unwrap();
        let by = RootPath::from_normal(b"/app/main").unwrap();
        for path in needs {
            let cause = Cause::Needed { by: by.clone(), soname: path.as_bytes().to_vec() };
            closure.take(stage, Demand { path: RawPath::from(*path), cause }).unwrap();
        }
        Resolution { closure, ..Resolution::default() }
    }

    /// Returns what `completed` has at the end of `path`, and where that is.
    fn at(completed: &CompletedRootfs<'_>, path: &str) -> Option<(String, Vec<u8>)> {
        let (real, _) = chase(completed, &RawPath::from(path)).unwrap().end.ok()?;
        let bytes = read_all(&*completed.open(&real).unwrap(), 100).unwrap().unwrap();
        Some((real.to_string(), bytes))
    }

    #[test]
    fn what_comes_along_goes_through_the_links_of_the_target() {
        let merged = [
            ("/app/main", "m"),
            ("/usr/lib/libq.so.1.2", "q"),
            ("/usr/lib/libq.so.1", "-> libq.so.1.2"),
            ("/lib", "-> usr/lib"),
        ];
        let split = [("/app/main", "m"), ("/lib/libq.so.1.2", "q"), ("/lib/libq.so.1", "-> libq.so.1.2")];
        for (stage, target, real) in [
            (&merged[..], &[("/x", "")][..], "/usr/lib/libq.so.1.2"),
            (&split, &[("/usr/lib/y", ""), ("/lib", "-> usr/lib")], "/usr/lib/libq.so.1.2"),
            (&merged, &[("/lib/y", "")], "/lib/libq.so.1.2"),
        ] {
            let (stage, target) = (rootfs(stage), rootfs(target));
            let mut completed = CompletedRootfs::new(&target);
            let resolution = resolution(&stage, &["/lib/libq.so.1"]);
            assert_eq!(complete(&mut completed, &resolution, &stage, 0, &[]).unwrap().differences, []);
            assert_eq!(at(&completed, "/lib/libq.so.1"), Some((real.to_owned(), b"q".to_vec())));
            // The root is where the build file puts it, and nowhere else.
            assert_eq!(at(&completed, "/app/main"), None);
        }
    }

    #[test]
    fn what_a_copied_link_leads_to_comes_along_unless_it_was_copied_too() {
        let stage = rootfs(&[
            ("/app/link", "-> ../opt/d/data"),
            ("/opt/d/data", "d"),
            ("/opt/e", "e"),
            ("/app/beside", "-> one"),
            ("/app/one", "1"),
            ("/app/followed", "-> ../opt/two"),
            ("/opt/two", "2"),
        ]);
        let target = rootfs(&[
            ("/srv/link", "-> ../opt/d/data"),
            ("/srv/beside", "-> one"),
            ("/srv/one", "1"),
            ("/srv/followed", "2"),
        ]);
        let mut closure = Closure::new();
        let mut copies = Vec::new();
        for path in ["/app/link", "/app/beside", "/app/one", "/app/followed", "/opt/e"] {
            let path = RawPath::from(path);
            let cause = Cause::Root(Origin::Argument(path.to_string()));
            closure.take(&stage, Demand { path: path.clone(), cause }).unwrap();
            let name = path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap();
            copies.push((path.clone(), RawPath::from("/srv").join(name)));
        }
        copies.pop();
        let resolution = Resolution { closure, ..Resolution::default() };
        let mut completed = CompletedRootfs::new(&target);
        assert_eq!(complete(&mut completed, &resolution, &stage, 0, &copies).unwrap().differences, []);
        assert_eq!(at(&completed, "/srv/link"), Some(("/opt/d/data".to_owned(), b"d".to_vec())));
        for path in ["/opt/e", "/opt/two", "/app/one"] {
            assert_eq!(at(&completed, path), None, "{path}");
        }
    }

    #[test]
    fn what_is_there_stays_and_differences_are_told() {
        let stage = rootfs(&[("/app/main", "m"), ("/lib/liba.so", "same"), ("/lib/libb.so", "one")]);
        let target = rootfs(&[("/lib/liba.so", "same"), ("/lib/libb.so", "two")]);
        let mut completed = CompletedRootfs::new(&target);
        let resolution = resolution(&stage, &["/lib/liba.so", "/lib/libb.so"]);
        let path = RootPath::from_normal(b"/lib/libb.so").unwrap();
        let differences = complete(&mut completed, &resolution, &stage, 3, &[]).unwrap().differences;
        assert_eq!(differences, [Difference { path, stage: 3 }]);
        assert_eq!(at(&completed, "/lib/libb.so").unwrap().1, b"two");
    }

    #[test]
    fn what_goes_to_two_places_is_one_file() {
        let stage = rootfs(&[("/app/main", "m"), ("/usr/lib/liba.so", "a"), ("/lib", "-> usr/lib")]);
        let target = rootfs(&[("/lib/libc.so", "c")]);
        let mut completed = CompletedRootfs::new(&target);
        let resolution = resolution(&stage, &["/lib/liba.so", "/usr/lib/liba.so"]);
        complete(&mut completed, &resolution, &stage, 0, &[]).unwrap();
        let node =
            |path: &str| completed.lookup(&RootPath::from_normal(path.as_bytes()).unwrap()).unwrap().unwrap();
        let (one, other) = (node("/lib/liba.so"), node("/usr/lib/liba.so"));
        assert_eq!((one.id, one.links, other.links), (other.id, 2, 2));
    }

    #[test]
    fn what_was_copied_under_another_name_is_the_same_file_under_its_own() {
        let stage =
            rootfs(&[("/bin/tool", "-> tool1"), ("/bin/tool1", "x"), ("/lib/script", "#!/bin/tool1")]);
        let mut closure = Closure::new();
        let root = Cause::Root(Origin::Argument("tool".to_owned()));
        let by = RootPath::from_normal(b"/lib/script").unwrap();
        for cause in [root, Cause::Shebang { by }] {
            closure.take(&stage, Demand { path: RawPath::from("/bin/tool1"), cause }).unwrap();
        }
        let resolution = Resolution { closure, ..Resolution::default() };
        let copies = [(RawPath::from("/bin/tool1"), RawPath::from("/bin/tool"))];
        for (bytes, is_one) in [("x", true), ("y", false)] {
            let target = rootfs(&[("/bin/tool", bytes)]);
            let mut completed = CompletedRootfs::new(&target);
            complete(&mut completed, &resolution, &stage, 0, &copies).unwrap();
            let node = |path: &str| {
                completed.lookup(&RootPath::from_normal(path.as_bytes()).unwrap()).unwrap().unwrap()
            };
            let (copy, own) = (node("/bin/tool"), node("/bin/tool1"));
            assert_eq!((copy.id == own.id && copy.links == 2, own.links == 2), (is_one, is_one), "{bytes}");
            assert_eq!(
                at(&completed, "/bin/tool"),
                Some(("/bin/tool".to_owned(), bytes.as_bytes().to_vec()))
            );
            assert_eq!(at(&completed, "/bin/tool1"), Some(("/bin/tool1".to_owned(), b"x".to_vec())));
        }
    }

    #[test]
    fn what_comes_along_goes_where_it_is_looked_for() {
        let stage = rootfs(&[
            ("/app/main", "m"),
            ("/usr/lib/liba.so.1", "-> liba.so.1.2"),
            ("/usr/lib/liba.so.1.2", "a"),
            ("/usr/lib/libb.so", "b"),
            ("/usr/lib/libc.so", "c"),
            ("/lib", "-> usr/lib"),
        ]);
        let target = rootfs(&[("/lib/libc.so", "c")]);
        let mut completed = CompletedRootfs::new(&target);
        let resolution = resolution(&stage, &["/lib/liba.so.1", "/usr/lib/libb.so", "/lib/libc.so"]);
        assert_eq!(complete(&mut completed, &resolution, &stage, 0, &[]).unwrap(), Completion::default());
        for (path, expected) in [
            ("/lib/liba.so.1", Some(("/lib/liba.so.1.2", "a"))),
            ("/usr/lib/liba.so.1", None),
            ("/usr/lib/libb.so", Some(("/usr/lib/libb.so", "b"))),
            ("/lib/libb.so", None),
            ("/lib/libc.so", Some(("/lib/libc.so", "c"))),
            ("/usr/lib/libc.so", None),
        ] {
            let expected = expected.map(|(real, bytes)| (real.to_owned(), bytes.as_bytes().to_vec()));
            assert_eq!(at(&completed, path), expected, "{path}");
        }
    }
}
