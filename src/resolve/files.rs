//! Files and trees -> the closure: what the user names, and what something implies.

use super::collect::{Collector, Depth};
use super::left_out::LeftOut;
use super::place::{Landing, landing};
use super::problem::{Problem, ResolveError};
use crate::closure::{Access, Cause, Content, Demand, Met};
use crate::glob::{Glob, escaped};
use crate::path::{RawPath, RootPath};
use crate::rootfs::{Chased, Eyes, Kind, Node, chase, find};
use crate::roots::{Owner, Root, Tree};
use crate::spec::SensitiveFiles;

/// What a file without an owner in any package becomes if others may execute it, and if not.
pub(super) const PLAIN: [u32; 2] = [0o755, 0o644];

/// Where whoever runs an image puts something that no image has: `/dev/stdout`, `/run/secrets`.
const RUN_TIME: [&[u8]; 4] = [b"dev/", b"proc/", b"run/", b"sys/"];

/// What became of a file that something implies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Implied {
    /// It is in the closure, at this real path.
    Taken(RootPath),
    /// It is not.
    Left,
}

impl Collector<'_> {
    /// Takes what `glob` matches, at its own path, for the root `root`; directories with everything in them.
    pub(super) fn take_matching(&mut self, root: &Root, glob: &Glob) -> Result<(), ResolveError> {
        let eyes = self.eyes();
        let mut found = find(self.rootfs(), glob, eyes)?.paths;
        let mut below = Vec::new();
        for path in &found {
            if self.is_directory(path)? {
                let all = [escaped(path.as_bytes()), b"/**".to_vec()].concat();
                let all = Glob::parse(all).map(|glob| find(self.rootfs(), &glob, eyes));
                below.extend(all.map(|found| found.map(|found| found.paths)).unwrap_or(Ok(Vec::new()))?);
            }
        }
        found.extend(below);
        if found.is_empty() {
            self.miss(Problem::NothingMatches {
                what: glob.to_string(),
                by: Cause::Root(root.origin.clone()),
            });
        }
        for path in found {
            let demand = Demand::of_root(root, path.clone());
            if self.is_excluded(&chase(self.rootfs(), &path)?) {
                continue;
            }
            match self.closure.take(self.rootfs(), demand)? {
                Met::At(real) => {
                    self.named.insert(real.clone());
                    self.take_needs(&real, &real.clone())?;
                }
                Met::Absent(_) => self.warn(format!("`{path}` is a link that leads nowhere")),
            }
        }
        Ok(())
    }

    /// Takes what `root` asks for at `path`, by itself; then what it leads to if it is a link, and what it needs if it is
    /// a program or a library.
    pub(super) fn take_file(&mut self, root: &Root, path: &RawPath) -> Result<(), ResolveError> {
        let demand = Demand::of_root(root, path.clone());
        let itself = match self.closure.take_itself(self.rootfs(), demand.clone())? {
            Met::At(itself) => itself,
            Met::Absent(absence) => {
                self.miss(Problem::Absent { demand, absence });
                return Ok(());
            }
        };
        self.named.insert(itself.clone());
        let link = match self.rootfs().lookup(&itself)? {
            Some(Node { kind: Kind::Link(target), .. }) => Some(target),
            _ => None,
        };
        let real = match link {
            None => itself,
            Some(target) => match chase(self.rootfs(), path)?.end {
                // The link can be in an image, even if that cannot.
                Ok((_, Node { kind: Kind::Special(what), .. })) => {
                    if !is_made_at_run_time(&itself, &target) {
                        self.warn(format!("`{itself}` is a link to {what}, which is left out"));
                    }
                    return Ok(());
                }
                Ok((real, _)) => {
                    self.closure.take(self.rootfs(), demand)?;
                    real
                }
                Err(_) => {
                    self.closure.take(self.rootfs(), demand)?;
                    if !is_made_at_run_time(&itself, &target) {
                        self.warn(format!("`{itself}` is a link that leads nowhere"));
                    }
                    return Ok(());
                }
            },
        };
        self.take_needs(&real, &real.clone())
    }

    /// Takes the same as [`Collector::take_file`], and only warns of what it needs and is not there.
    pub(super) fn take_member(&mut self, root: &Root, path: &RawPath) -> Result<(), ResolveError> {
        let known = self.problems.len();
        self.take_file(root, path)?;
        self.warn_of_problems_since(known, path);
        Ok(())
    }

    /// Takes the same to `to`.
    pub(super) fn take_moved(
        &mut self,
        root: &Root,
        path: &RawPath,
        to: &RawPath,
    ) -> Result<(), ResolveError> {
        let known = self.problems.len();
        let tree = Tree { path: path.clone(), to: Some(to.clone()), owner: None, mode: None };
        self.take_tree(root, &tree)?;
        self.warn_of_problems_since(known, path);
        Ok(())
    }

    /// Makes warnings about `path` of the problems that were not known when there were `known`.
    fn warn_of_problems_since(&mut self, known: usize, path: &RawPath) {
        for problem in self.problems.split_off(known) {
            self.warn(format!("`{path}` would not run: {problem}"));
        }
    }

    /// Takes the file or directory that `tree` names for the root `root`, to where it lands.
    pub(super) fn take_tree(&mut self, root: &Root, tree: &Tree) -> Result<(), ResolveError> {
        let (source, node) = match chase(self.rootfs(), &tree.path)?.end {
            Ok(found) => found,
            Err(_) => {
                if let Some(problem) = self.relative_destination(root, &tree.path)? {
                    self.problems.push(problem);
                    return Ok(());
                }
                let what = tree.path.to_string();
                self.miss(Problem::NothingMatches { what, by: Cause::Root(root.origin.clone()) });
                return Ok(());
            }
        };
        let to = tree.to.as_ref().unwrap_or(&tree.path);
        let landed = match (&tree.to, node.kind == Kind::Directory) {
            // The contents of a directory go where it says, as with `COPY`.
            (Some(to), true) if !to.as_bytes().ends_with(b"/") => {
                let inner = to.join(b"x");
                landing(self.rootfs(), &inner, b"")?
                    .and_then(|landing| Some(Landing { path: landing.path.parent()?, above: landing.above }))
            }
            (Some(to), _) => landing(self.rootfs(), to, source.file_name())?,
            (None, _) => Some(Landing { path: source.clone(), above: tree.path.clone() }),
        };
        let Some(Landing { path, above }) = landed else {
            self.problems.push(Problem::NoPlace { path: to.clone() });
            return Ok(());
        };
        self.closure.take(self.rootfs(), Demand::of_root(root, above))?;
        let access = self.access_of(tree)?;
        self.take_below(root, &source, node, &path, &access)
    }

    /// Takes `source`, which is `node`, and everything in it to `to`.
    fn take_below(
        &mut self,
        root: &Root,
        source: &RootPath,
        node: Node,
        to: &RootPath,
        access: &TreeAccess,
    ) -> Result<(), ResolveError> {
        if self.inputs.selection.exclude.iter().any(|glob| glob.matches(source) || glob.matches(to)) {
            return Ok(());
        }
        let content = match &node.kind {
            Kind::File => Content::Source(source.clone()),
            Kind::Directory | Kind::Link(_) => Content::None,
            Kind::Special(what) => {
                self.warn(format!("`{source}` is {what}, and left out"));
                return Ok(());
            }
        };
        let kind = node.kind.clone();
        let cause = Demand::of_root(root, to.to_raw()).cause;
        // What goes to `/bin` goes where that link of the source leads.
        let linked = match kind {
            Kind::Directory if source != to => self.linked_directory(to)?,
            _ => None,
        };
        if linked.is_some() {
            self.closure.take(self.rootfs(), Demand::of_root(root, to.to_raw()))?;
        }
        let to = linked.as_ref().unwrap_or(to);
        if !to.is_root() {
            let settled = access.applied(&node);
            let is_new = self.closure.entry(to).is_none();
            self.closure.put(to, node, content, cause);
            self.named.insert(to.clone());
            if let Some(settled) = settled.filter(|_| is_new || kind == Kind::File) {
                self.closure.set_access(to, settled);
                self.settled.insert(to.clone());
            }
        }
        match kind {
            Kind::File => self.take_needs(source, to),
            Kind::Directory => {
                for name in self.rootfs().read_dir(source)? {
                    let (Some(below), Some(target)) = (source.child(&name), to.child(&name)) else {
                        continue;
                    };
                    if let Some(node) = self.rootfs().lookup(&below)? {
                        self.take_below(root, &below, node, &target, access)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns the directory that the link at `path` leads to, if the source has such a link there.
    fn linked_directory(&self, path: &RootPath) -> Result<Option<RootPath>, ResolveError> {
        Ok(match chase(self.rootfs(), &path.to_raw())?.end {
            Ok((real, node)) if node.kind == Kind::Directory && real != *path => Some(real),
            _ => None,
        })
    }

    /// Takes what the file `source` needs, if it is a program or library; it is at `to` in the image.
    fn take_needs(&mut self, source: &RootPath, to: &RootPath) -> Result<(), ResolveError> {
        let Some(node) = self.rootfs().lookup(source)?.filter(|node| node.kind == Kind::File) else {
            return Ok(());
        };
        let is_executable = node.mode & 0o111 != 0;
        match self.resolver.object(source, &node)? {
            Ok(object) if object.elf.interp.is_some() && is_executable => {
                self.take_executable(source, to, Depth(1))?;
            }
            Ok(object) if object.elf.is_dynamic && object.elf.interp.is_none() => {
                if let Err(why) = self.take_library_alone(&object, to)? {
                    self.warn(format!("`{source}` may not load: {why}"));
                }
            }
            Err(_) if is_executable && self.shebang(source)?.is_some() => {
                self.take_executable(source, to, Depth(1))?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what is at `path`, if it is there and everybody may have it, because of `cause`; `programs` are those
    /// that would load it, by their places in the list of what is linked.
    pub(super) fn take_implied(
        &mut self,
        path: &RawPath,
        cause: Cause,
        programs: &[usize],
    ) -> Result<Implied, ResolveError> {
        let chased = chase(self.rootfs(), path)?;
        let Ok((real, node)) = &chased.end else { return Ok(Implied::Left) };
        if self.is_excluded(&chased) || matches!(node.kind, Kind::Special(_)) {
            return Ok(Implied::Left);
        }
        let is_closed = node.kind == Kind::Directory && !node.is_public();
        // A directory of a package's own under /var is taken without what is in it, which tells nobody anything.
        if is_closed && !matches!(cause, Cause::PackageData { .. }) {
            let what = "not everybody may list it".to_owned();
            self.left_out.insert(LeftOut::Sensitive { path: real.clone(), what });
            return Ok(Implied::Left);
        }
        if let Some(what) = self.objection(real, node)? {
            self.left_out.insert(LeftOut::Sensitive { path: real.clone(), what });
            return Ok(Implied::Left);
        }
        let demand = Demand { path: path.clone(), cause };
        if self.closure.entry(real).is_some() || node.kind != Kind::File {
            self.closure.take(self.rootfs(), demand)?;
            return Ok(Implied::Taken(real.clone()));
        }
        if let Ok(object) = self.resolver.object(real, node)? {
            let host = match self.check_loadable(&object, programs)? {
                Ok(host) => host,
                Err(why) => {
                    self.left_out.insert(LeftOut::Unloadable { path: path.clone(), why });
                    return Ok(Implied::Left);
                }
            };
            self.closure.take(self.rootfs(), demand)?;
            if let Some(host) = host {
                self.take_hosted(&object, &object.path, host)?;
            } else if object.elf.interp.is_some() && node.mode & 0o111 != 0 {
                self.take_executable(&object.path, &object.path, Depth(1))?;
            }
        } else {
            self.closure.take(self.rootfs(), demand)?;
        }
        Ok(Implied::Taken(real.clone()))
    }

    /// Returns why `real` is never taken by implication, if it is not.
    pub(super) fn objection(&self, real: &RootPath, node: &Node) -> Result<Option<String>, ResolveError> {
        if let Some(what) = self.secret(real).filter(|_| node.kind != Kind::Directory) {
            return Ok(Some(what));
        }
        if node.kind == Kind::File && !node.is_public() {
            return Ok(Some("not everybody may read it".to_owned()));
        }
        let mut above = real.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_root()) {
            let is_closed = self.rootfs().lookup(&directory)?.is_some_and(|node| node.mode & 0o001 == 0);
            if is_closed {
                return Ok(Some(format!("not everybody may look into `{directory}`")));
            }
            above = directory.parent();
        }
        Ok(None)
    }

    /// Returns what is in the file `real` that no image should hold by accident.
    pub(super) fn secret(&self, real: &RootPath) -> Option<String> {
        let mut kinds = self.inputs.rules.sensitive().iter();
        kinds.find(|kind| kind.is(real)).map(|kind| kind.what.clone())
    }

    pub(super) fn is_excluded(&self, chased: &Chased) -> bool {
        let exclude = &self.inputs.selection.exclude;
        let links = chased.links.iter().map(|link| &link.path);
        let end = chased.end.as_ref().ok().map(|(real, _)| real);
        !exclude.is_empty() && links.chain(end).any(|path| exclude.iter().any(|glob| glob.matches(path)))
    }

    fn is_directory(&self, path: &RawPath) -> Result<bool, ResolveError> {
        Ok(matches!(chase(self.rootfs(), path)?.end, Ok((_, node)) if node.kind == Kind::Directory))
    }

    /// Returns with whose eyes patterns of the user are looked up.
    fn eyes(&self) -> Eyes {
        match self.inputs.selection.sensitive {
            SensitiveFiles::Refuse => Eyes::Everybody,
            SensitiveFiles::Allow => Eyes::Mine,
        }
    }

    fn access_of(&mut self, tree: &Tree) -> Result<TreeAccess, ResolveError> {
        let owner = match &tree.owner {
            None => None,
            Some(Owner { user, group }) => self.ids(user, group.as_deref())?,
        };
        Ok(TreeAccess { owner, mode: tree.mode })
    }
}

/// The owner and mode that a tree is given.
struct TreeAccess {
    owner: Option<(u32, u32)>,
    mode: Option<u32>,
}

impl TreeAccess {
    /// Returns what `node` becomes, if anything is asked for.
    fn applied(&self, node: &Node) -> Option<Access> {
        if self.owner.is_none() && self.mode.is_none() {
            return None;
        }
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        let is_executable = node.kind == Kind::Directory || node.mode & 0o111 != 0;
        let mode = match (&node.kind, self.mode) {
            (Kind::Link(_), _) => 0o777,
            // Who may read a directory may also look into it.
            (Kind::Directory, Some(mode)) => mode | (mode & 0o444) >> 2,
            (_, Some(mode)) => mode,
            (_, None) => PLAIN[usize::from(!is_executable)],
        };
        Some(Access { mode, uid, gid })
    }
}

/// Returns whether the link `itself` to `target` is to lead somewhere only when the image runs.
fn is_made_at_run_time(itself: &RootPath, target: &RawPath) -> bool {
    let mut rest = target.as_bytes();
    if !target.is_absolute() {
        // From the top, as `../proc/mounts` in a directory there.
        for _ in itself.relative().iter().filter(|byte| **byte == b'/') {
            let Some(above) = rest.strip_prefix(b"../") else { return false };
            rest = above;
        }
    }
    let relative = rest.strip_prefix(b"/").unwrap_or(rest);
    RUN_TIME.iter().any(|top| relative.starts_with(top))
}
