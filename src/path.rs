//! Paths inside a root filesystem: spelled by somebody ([`RawPath`]) -> real ([`RootPath`]).
//!
//! Both are bytes, as Linux has them, and neither is a path of the host.

use std::cmp::Ordering;
use std::fmt;

/// A path as somebody spelled it: in an ELF file, a flag, a link. It may hold `..`, empty components, and run through
/// links; what it names is known only after [`chase`](crate::rootfs::chase).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RawPath(Vec<u8>);

impl RawPath {
    /// Returns the path with exactly these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Returns the bytes as they were spelled.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns whether the path starts at the root.
    pub fn is_absolute(&self) -> bool {
        self.0.first() == Some(&b'/')
    }

    /// Returns `directory/name`, with exactly one slash between them.
    pub fn join(&self, name: &[u8]) -> Self {
        let mut bytes = self.0.clone();
        if bytes.last() != Some(&b'/') && !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Self(bytes)
    }

    /// Returns everything before the last slash, as spelled; the root for a name right below it, and `None` for a
    /// path without a slash.
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0.get(..slash.max(1)).unwrap_or_default().to_vec()))
    }
}

impl fmt::Display for RawPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&show(&self.0), f)
    }
}

impl fmt::Debug for RawPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawPath({self})")
    }
}

impl From<&str> for RawPath {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// A real path inside a root filesystem: absolute, without `.`, `..` or empty components, and with no link above its
/// last name.
///
/// Built by [`chase`](crate::rootfs::chase), or name by name from a directory that is known to be real. It sorts as a
/// depth-first walk with siblings in byte order, which is the order of entries in a layer: `a`, `a/b`, `a-c`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RootPath(Vec<u8>);

impl RootPath {
    /// Returns the top directory.
    pub fn root() -> Self {
        Self(b"/".to_vec())
    }

    /// Returns the path of `name` in this directory, or `None` if `name` cannot be the name of a file: empty, `.`,
    /// `..`, or with a slash or NUL in it.
    pub fn child(&self, name: &[u8]) -> Option<Self> {
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0) {
            return None;
        }
        let mut bytes = self.0.clone();
        if !self.is_root() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Some(Self(bytes))
    }

    /// Returns the path that `names` lead to from this directory, without those that lead nowhere else: empty ones and `.`.
    /// `None` if one of them cannot be the name of a file; that goes for `..`, too.
    pub fn descend<'a>(&self, names: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut names = names.into_iter().filter(|name| !matches!(*name, b"" | b"."));
        names.try_fold(self.clone(), |path, name| path.child(name))
    }

    /// Returns the path that `text` spells if it is a real path as it stands: absolute and normal. Whether a link is
    /// above its last name is the caller's knowledge.
    pub fn from_normal(text: &[u8]) -> Option<Self> {
        let relative = text.strip_prefix(b"/")?;
        if relative.is_empty() {
            return Some(Self::root());
        }
        relative.split(|byte| *byte == b'/').try_fold(Self::root(), |path, name| path.child(name))
    }

    /// Returns the bytes, starting with a slash.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes without the leading slash, as in a tar header; empty for the root.
    pub fn relative(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }

    /// Returns whether this is the top directory.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// Returns the directory above, or `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let slash = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0.get(..slash.max(1)).unwrap_or_default().to_vec()))
    }

    /// Returns the last name; empty for the root.
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// Returns each name from the top down; none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.relative().split(|byte| *byte == b'/').filter(|name| !name.is_empty())
    }

    /// Returns whether this is `directory` or lies below it.
    pub fn is_within(&self, directory: &Self) -> bool {
        directory.is_root()
            || self
                .0
                .strip_prefix(directory.0.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Returns the same path as a spelling.
    pub fn to_raw(&self) -> RawPath {
        RawPath(self.0.clone())
    }
}

impl Ord for RootPath {
    fn cmp(&self, other: &Self) -> Ordering {
        // A slash sorts below every other byte: then whole-path order is the order of a depth-first walk.
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        let (one, two) = (self.relative(), other.relative());
        // Neighbours in a map have most of their bytes in common: eight are compared at once.
        let words = one.chunks_exact(8).zip(two.chunks_exact(8));
        let start = 8 * words.take_while(|(one, two)| one == two).count();
        one.iter().skip(start).map(key).cmp(two.iter().skip(start).map(key))
    }
}

impl PartialOrd for RootPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&show(&self.0), f)
    }
}

impl fmt::Debug for RootPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootPath({self})")
    }
}

/// Returns `name` as text for people and JSON: valid UTF-8 without control characters stays as it is, every other
/// byte is escaped, so that no name can move a terminal's cursor and no two names look the same.
pub fn show(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                shown if shown.is_control() => text.extend(shown.escape_default()),
                shown => text.push(shown),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_path_is_normal() {
        for bad in ["", "usr", "/usr/", "//usr", "/usr/../lib", "/./usr", "/a\0b"] {
            assert_eq!(RootPath::from_normal(bad.as_bytes()), None, "{bad:?}");
        }
        let path = RootPath::from_normal(b"/usr/lib/x").unwrap();
        assert_eq!(path.parent().unwrap().to_string(), "/usr/lib");
        assert_eq!(path.file_name(), b"x");
        assert_eq!(RootPath::from_normal(b"/a").unwrap().parent(), Some(RootPath::root()));
        assert_eq!(RootPath::root().parent(), None);
    }

    #[test]
    fn order_is_that_of_a_depth_first_walk() {
        let mut paths: Vec<_> = ["/a-c", "/a/b", "/a", "/a.d", "/b", "/a/b/c", "/"]
            .map(|text| RootPath::from_normal(text.as_bytes()).unwrap())
            .into();
        paths.sort();
        let shown: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["/", "/a", "/a/b", "/a/b/c", "/a-c", "/a.d", "/b"]);
    }

    #[test]
    fn within_is_by_component() {
        let usr = RootPath::from_normal(b"/usr").unwrap();
        assert!(RootPath::from_normal(b"/usr/lib").unwrap().is_within(&usr));
        assert!(usr.is_within(&usr));
        assert!(!RootPath::from_normal(b"/usrlib").unwrap().is_within(&usr));
    }

    #[test]
    fn shown_names_are_harmless_and_distinct() {
        assert_eq!(show("käse".as_bytes()), "käse");
        assert_eq!(show(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(show(b"\xff\\xff"), "\\xff\\\\xff");
    }
}
