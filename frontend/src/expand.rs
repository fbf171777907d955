//! What a COPY or ADD says + the trees it copied between -> which file went where.
//!
//! BuildKit has copied already; this finds out what. A file counts if it is where the copy would have put it.

use std::collections::BTreeSet;

use minimage::glob::Glob;
use minimage::path::{RawPath, RootPath};
use minimage::rootfs::{Eyes, Kind, Rootfs, RootfsError, chase, find};

use crate::request::{Copied, Finding};
use crate::settings::Base;

/// How many files a warning names that is about all of their kind.
const NAMED_MAX: usize = 3;

/// What is in a tree, or some of it.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// The files, links and directories.
    pub(crate) paths: Vec<RootPath>,
    /// What no image has: FIFOs, sockets, devices, each with what it is.
    pub(crate) special: Vec<(RootPath, &'static str)>,
}

/// The places of what no image has, as far as somebody was told of them.
#[derive(Debug)]
pub(crate) struct Told {
    base: Base,
    paths: BTreeSet<RootPath>,
}

impl Told {
    /// Returns that nobody was told anything of a target of which `base` stays.
    pub(crate) fn nothing(base: Base) -> Self {
        Self { base, paths: BTreeSet::new() }
    }

    /// Returns the warning that `special` is left out, for `lines` of the build file, if there is any that nobody was told
    /// of.
    pub(crate) fn warning(
        &mut self,
        mut special: Vec<(RootPath, &'static str)>,
        lines: (i32, i32),
    ) -> Option<Finding> {
        // What is kept whole has them.
        special.retain(|(path, _)| self.base == Base::Minimise && self.paths.insert(path.clone()));
        special.sort();
        let named = special.iter().take(NAMED_MAX).map(|(path, what)| format!("`{path}` is {what}"));
        let mut text = named.collect::<Vec<_>>().join(", ");
        if special.len() > NAMED_MAX {
            text += &format!(", and {} more", special.len() - NAMED_MAX);
        }
        text += ": left out";
        (!special.is_empty()).then_some(Finding { lines, text })
    }
}

/// One file, link or directory that was copied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    /// Where it came from, really.
    pub(crate) from: RootPath,
    /// Where it is, really.
    pub(crate) to: RootPath,
    pub(crate) place: Place,
}

/// How the user named a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// By itself.
    Named,
    /// As part of a directory.
    Below,
}

/// Returns what `copied` put from `stage` into `target`.
pub(crate) fn pairs(
    copied: &Copied,
    stage: &dyn Rootfs,
    target: &dyn Rootfs,
) -> Result<Vec<Pair>, RootfsError> {
    let mut pairs = Vec::new();
    let sources = match copied.is_pattern {
        true => matches(stage, copied.from.as_bytes())?,
        false => vec![RawPath::new(absolute(copied.from.as_bytes()))],
    };
    let to = RawPath::new(absolute(copied.to.as_bytes()));
    for source in sources {
        let Ok((from, node)) = chase(stage, &source)?.end else { continue };
        if node.kind == Kind::Directory {
            let top = Walk { copied, stage, target, top: from.clone() };
            top.walk(&from, &to, &mut pairs)?;
            continue;
        }
        // Into a directory, or to a name of its own; which of them, the result tells.
        let name = source.as_bytes().rsplit(|byte| *byte == b'/').find(|name| !name.is_empty());
        let inside = to.join(name.unwrap_or_default());
        let is_directory = copied.to.ends_with('/')
            || matches!(chase(target, &to)?.end, Ok((_, node)) if node.kind == Kind::Directory);
        let to = if is_directory { &inside } else { &to };
        if let Some(to) = itself(target, to)? {
            pairs.push(Pair { from, to, place: Place::Named });
        }
    }
    Ok(pairs)
}

/// A directory that is copied.
struct Walk<'a> {
    copied: &'a Copied,
    stage: &'a dyn Rootfs,
    target: &'a dyn Rootfs,
    top: RootPath,
}

impl Walk<'_> {
    /// Adds what is at `from`, which would be at `to`, and below it.
    fn walk(&self, from: &RootPath, to: &RawPath, pairs: &mut Vec<Pair>) -> Result<(), RootfsError> {
        let relative = from.relative().get(self.top.relative().len()..).unwrap_or_default();
        let relative = relative.strip_prefix(b"/").unwrap_or(relative);
        let Some(node) = self.stage.lookup(from)? else { return Ok(()) };
        let is_top = *from == self.top;
        if !is_top && is_listed(&self.copied.excludes, relative) {
            return Ok(());
        }
        let is_included =
            self.copied.includes.is_empty() || !is_top && is_listed(&self.copied.includes, relative);
        if node.kind != Kind::Directory {
            if is_included && let Some(to) = itself(self.target, to)? {
                pairs.push(Pair { from: from.clone(), to, place: Place::Below });
            }
            return Ok(());
        }
        if is_included && let Ok((to, _)) = chase(self.target, to)?.end {
            pairs.push(Pair { from: from.clone(), to, place: Place::Below });
        }
        for name in self.stage.read_dir(from)? {
            if let Some(below) = from.child(&name) {
                self.walk(&below, &to.join(&name), pairs)?;
            }
        }
        Ok(())
    }
}

/// Returns `top` and everything below it.
pub(crate) fn tree(rootfs: &dyn Rootfs, top: RootPath) -> Result<Contents, RootfsError> {
    let mut found = Contents::default();
    let mut open = vec![top];
    while let Some(path) = open.pop() {
        match rootfs.lookup(&path)?.map(|node| node.kind) {
            Some(Kind::Directory) => {
                let names = rootfs.read_dir(&path)?;
                open.extend(names.iter().filter_map(|name| path.child(name)));
            }
            Some(Kind::File | Kind::Link(_)) => {}
            Some(Kind::Special(what)) => {
                found.special.push((path, what));
                continue;
            }
            None => continue,
        }
        if !path.is_root() {
            found.paths.push(path);
        }
    }
    Ok(found)
}

/// Returns what `pattern` matches in `rootfs`, and what is below that.
pub(crate) fn everything(rootfs: &dyn Rootfs, pattern: &Glob) -> Result<Contents, RootfsError> {
    let (mut paths, mut special) = (BTreeSet::new(), BTreeSet::new());
    for path in find(rootfs, pattern, Eyes::Mine)?.paths {
        if let Some(path) = itself(rootfs, &path)?.filter(|path| !paths.contains(path)) {
            let below = tree(rootfs, path)?;
            paths.extend(below.paths);
            special.extend(below.special);
        }
    }
    Ok(Contents { paths: paths.into_iter().collect(), special: special.into_iter().collect() })
}

/// Returns the real path of what is at `path` itself, link or not.
pub(crate) fn itself(rootfs: &dyn Rootfs, path: &RawPath) -> Result<Option<RootPath>, RootfsError> {
    let text = path.as_bytes();
    let text = text.strip_suffix(b"/").unwrap_or(text);
    let name = text.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let above = RawPath::new(text).parent().unwrap_or_else(|| RawPath::from("/"));
    let Ok((directory, _)) = chase(rootfs, &above)?.end else { return Ok(None) };
    let real = if name.is_empty() { Some(directory) } else { directory.child(name) };
    match real {
        Some(real) if rootfs.lookup(&real)?.is_some() => Ok(Some(real)),
        _ => Ok(None),
    }
}

fn absolute(path: &[u8]) -> Vec<u8> {
    if path.first() == Some(&b'/') { path.to_vec() } else { [b"/", path].concat() }
}

/// Returns the paths of `rootfs` that match `pattern`, whose wildcards stay inside one name.
fn matches(rootfs: &dyn Rootfs, pattern: &[u8]) -> Result<Vec<RawPath>, RootfsError> {
    let mut found = vec![RawPath::from("/")];
    for part in pattern.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        let mut next = Vec::new();
        for directory in found {
            if !part.iter().any(|byte| b"*?[\\".contains(byte)) {
                next.push(directory.join(part));
                continue;
            }
            let Ok((real, node)) = chase(rootfs, &directory)?.end else { continue };
            if node.kind == Kind::Directory {
                let names = rootfs.read_dir(&real)?;
                let names = names.into_iter().filter(|name| is_match(part, name));
                next.extend(names.map(|name| directory.join(&name)));
            }
        }
        found = next;
    }
    Ok(found)
}

/// Returns whether one of `patterns`, of which `!` takes back, covers `path` or a directory above it.
pub(crate) fn is_listed(patterns: &[String], path: &[u8]) -> bool {
    let mut is_listed = false;
    for pattern in patterns {
        let (pattern, listed) = match pattern.strip_prefix('!') {
            Some(pattern) => (pattern, false),
            None => (pattern.as_str(), true),
        };
        let parts: Vec<&[u8]> = pattern.trim_matches('/').as_bytes().split(|byte| *byte == b'/').collect();
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        if covers(&parts, &names) {
            is_listed = listed;
        }
    }
    is_listed
}

/// Returns whether `parts` match the first of `names`: what is below a directory that matches is covered.
fn covers(parts: &[&[u8]], names: &[&[u8]]) -> bool {
    match (parts, names) {
        ([], _) => true,
        ([b"**", rest @ ..], _) => (0..=names.len()).any(|skip| {
            let rest_of_names = names.get(skip..).unwrap_or_default();
            if rest.is_empty() { !rest_of_names.is_empty() || skip > 0 } else { covers(rest, rest_of_names) }
        }),
        ([part, parts @ ..], [name, names @ ..]) => is_match(part, name) && covers(parts, names),
        (_, []) => false,
    }
}

/// Returns whether `pattern` matches `name` (filepath.Match of Go, for one name).
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            (0..=name.len()).any(|skip| is_match(rest, name.get(skip..).unwrap_or_default()))
        }
        ([b'?', rest @ ..], [_, name @ ..]) => is_match(rest, name),
        ([b'\\', byte, rest @ ..], [first, name @ ..]) => byte == first && is_match(rest, name),
        ([b'[', set @ ..], [first, name @ ..]) => match set.iter().skip(1).position(|byte| *byte == b']') {
            Some(end) => {
                let (set, rest) = set.split_at(end + 1);
                let (set, wanted) = match set {
                    [b'^', set @ ..] => (set, false),
                    set => (set, true),
                };
                is_in_set(set, *first) == wanted && is_match(rest.get(1..).unwrap_or_default(), name)
            }
            None => false,
        },
        ([byte, rest @ ..], [first, name @ ..]) => byte == first && is_match(rest, name),
        _ => false,
    }
}

fn is_in_set(set: &[u8], byte: u8) -> bool {
    match set {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&byte) || is_in_set(rest, byte),
        [one, rest @ ..] => *one == byte || is_in_set(rest, byte),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use minimage::rootfs::MemoryRootfs;

    use super::*;

    fn rootfs(files: &[&str]) -> MemoryRootfs {
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|file| file.split_once(' ').map_or((*file, ""), |(path, link)| (path, link)))
            .collect();
        MemoryRootfs::from(("tree", files.as_slice()))
    }

    /// Returns the pairs of a copy as text; a star marks what was named by itself.
    fn shown(copied: &Copied, stage: &MemoryRootfs, target: &MemoryRootfs) -> Vec<String> {
        let pairs = pairs(copied, stage, target).unwrap();
        let star = |place| if place == Place::Named { "*" } else { "" };
        pairs.iter().map(|pair| format!("{}{} {}", star(pair.place), pair.from, pair.to)).collect()
    }

    fn copy(from: &str, to: &str) -> Copied {
        Copied {
            stage: 0,
            from: from.to_owned(),
            to: to.to_owned(),
            is_pattern: true,
            unpacks: false,
            includes: Vec::new(),
            excludes: Vec::new(),
        }
    }

    #[test]
    fn files_go_into_directories_or_to_names() {
        let stage = rootfs(&["/usr/bin/tool", "/usr/bin/link -> tool", "/bin -> usr/bin"]);
        let target = rootfs(&["/t", "/opt/tool", "/opt/link", "/o -> opt"]);
        for (from, to, expected) in [
            ("/usr/bin/tool", "/t", "*/usr/bin/tool /t"),
            ("/bin/tool", "/opt/", "*/usr/bin/tool /opt/tool"),
            ("/bin/tool", "/opt", "*/usr/bin/tool /opt/tool"),
            ("/bin/tool", "/o", "*/usr/bin/tool /opt/tool"),
            ("/bin/link", "/o/", "*/usr/bin/tool /opt/link"),
            ("/bin/t?o[k-m]", "opt", "*/usr/bin/tool /opt/tool"),
        ] {
            assert_eq!(shown(&copy(from, to), &stage, &target), [expected], "{from} {to}");
        }
        assert!(shown(&copy("/usr/bin/none*", "/opt/"), &stage, &target).is_empty());
    }

    #[test]
    fn of_a_directory_goes_what_is_in_it_and_not_excluded() {
        let stage = rootfs(&["/app/a.py", "/app/sub/b.py", "/app/sub/c.md", "/app/gone"]);
        let target = rootfs(&["/srv/a.py", "/srv/sub/b.py", "/srv/sub/c.md", "/srv/own"]);
        let all = ["/app /srv", "/app/a.py /srv/a.py", "/app/sub /srv/sub", "/app/sub/b.py /srv/sub/b.py"];
        let copied = Copied { excludes: vec!["**/*.md".to_owned()], ..copy("/app/", "/srv") };
        assert_eq!(shown(&copied, &stage, &target), all);
        let copied = Copied { includes: vec!["sub/*.md".to_owned()], ..copy("/app/", "/srv/") };
        assert_eq!(shown(&copied, &stage, &target), ["/app/sub/c.md /srv/sub/c.md"]);
        let copied = Copied { includes: vec!["sub".to_owned()], ..copy("/app/", "/srv/") };
        assert_eq!(
            shown(&copied, &stage, &target),
            ["/app/sub /srv/sub", "/app/sub/b.py /srv/sub/b.py", "/app/sub/c.md /srv/sub/c.md"]
        );
    }

    #[test]
    fn a_pattern_stands_for_what_is_below_it() {
        let tree = rootfs(&["/etc/x/a", "/etc/x/b/c", "/etc/y", "/opt/z"]);
        for (pattern, expected) in [
            ("/etc/x/**", &["/etc/x/a", "/etc/x/b", "/etc/x/b/c"][..]),
            ("/etc/{y,x/b}", &["/etc/x/b", "/etc/x/b/c", "/etc/y"]),
            ("/**/c", &["/etc/x/b/c"]),
            ("/etc/?", &["/etc/x", "/etc/x/a", "/etc/x/b", "/etc/x/b/c", "/etc/y"]),
            ("/none*", &[]),
        ] {
            let pattern = Glob::parse(pattern).unwrap();
            let found = everything(&tree, &pattern).unwrap();
            let found: Vec<String> = found.paths.iter().map(ToString::to_string).collect();
            assert_eq!(found, expected, "{pattern}");
        }
    }

    #[test]
    fn patterns_are_those_of_go() {
        for (pattern, name, matches) in [
            ("*", "anything", true),
            ("a*c", "abbc", true),
            ("a*c", "abb", false),
            ("[^a]b", "ab", false),
            ("[^a]b", "cb", true),
            ("[]a]", "]", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[a", "a", false),
        ] {
            assert_eq!(is_match(pattern.as_bytes(), name.as_bytes()), matches, "{pattern} {name}");
        }
        for (patterns, path, listed) in [
            (&["**"][..], "a/b", true),
            (&["a"], "a/b", true),
            (&["*.md", "!R.md"], "R.md", false),
            (&["**/x"], "x", true),
            (&["a/**/x"], "a/b/c/x", true),
            (&["a/**/x"], "b/x", false),
        ] {
            let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            assert_eq!(is_listed(&patterns, path.as_bytes()), listed, "{patterns:?} {path}");
        }
    }
}
