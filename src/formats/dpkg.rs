//! dpkg's database -> packages, their paths, and the paths that were moved aside (deb-control(5), dpkg-divert(1)).

use std::collections::HashSet;

use thiserror::Error;

use crate::path::{RawPath, show};

/// The largest file of a database that is read, in bytes.
pub const FILE_MAX: u64 = 64 << 20;
/// The longest name, version or architecture of a package.
const WORD_MAX: usize = 255;

/// One package that has files on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stanza {
    /// `Package`.
    pub name: String,
    /// `Version`.
    pub version: String,
    /// `Architecture`; `all` for files that fit every machine.
    pub architecture: String,
    /// The name in `Source`, or that of the package.
    pub source: String,
    /// The version in `Source`, or that of the package.
    pub source_version: String,
    /// The names in `Depends` and `Pre-Depends`, each alternative for itself.
    pub depends: Vec<String>,
    /// The names in `Recommends`.
    pub recommends: Vec<String>,
    /// The names in `Provides`.
    pub provides: Vec<String>,
    /// The stanza as it is.
    pub text: Vec<u8>,
}

/// Why a text is no database of dpkg's.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DpkgError {
    /// A stanza lacks a field that each package has.
    #[error("the stanza that starts with `{start}` has no `{field}`")]
    NoField {
        /// The first line of the stanza.
        start: String,
        /// The field.
        field: &'static str,
    },
    /// A value that is one word in every package is something else.
    #[error("`{value}` cannot be the `{field}` of a package")]
    NotAWord {
        /// The field.
        field: &'static str,
        /// What is there.
        value: String,
    },
    /// The lines between stanzas end as on Windows, which makes one stanza of all.
    #[error("its lines end in carriage returns")]
    CarriageReturn,
    /// The list of diversions ends within an entry.
    #[error("the diversions end within an entry of three lines")]
    HalfADiversion,
}

/// One path that packages other than one find elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    /// Where the others' file would be.
    pub from: RawPath,
    /// Where it is.
    pub to: RawPath,
    /// The package whose own file stays, or `None` if the administrator moved everybody's.
    pub by: Option<String>,
}

/// One line of a list of checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Md5Line<'a> {
    /// The path as spelled, relative to the root.
    pub path: &'a [u8],
    /// The whole line.
    pub text: &'a [u8],
}

/// Returns the packages in `bytes`, the contents of `status` or of a file in `status.d`, that have files on the disk.
///
/// # Errors
/// [`DpkgError`] if a stanza does not say which package it is of, or lines do not end as dpkg ends them.
pub fn stanzas(bytes: &[u8]) -> Result<Vec<Stanza>, DpkgError> {
    // Behind a value, white space is nothing; on a line of its own, it hides the end of a stanza.
    if bytes.starts_with(b"\r\n") || memchr::memmem::find(bytes, b"\n\r\n").is_some() {
        return Err(DpkgError::CarriageReturn);
    }
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Some((text, after)) = split_stanza(rest) {
        rest = after;
        if let Some(stanza) = stanza(text)? {
            found.push(stanza);
        }
    }
    Ok(found)
}

/// Returns the first stanza, and what is behind it; `None` at the end.
fn split_stanza(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = bytes.iter().position(|byte| *byte != b'\n')?;
    let bytes = bytes.get(start..)?;
    match memchr::memmem::find(bytes, b"\n\n") {
        Some(end) => bytes.split_at_checked(end.saturating_add(1)),
        None => Some((bytes, &[])),
    }
}

fn stanza(text: &[u8]) -> Result<Option<Stanza>, DpkgError> {
    let mut fields = Fields::default();
    for (name, value) in self::fields(text) {
        fields.keep(name, value);
    }
    // `want flag state`; a file in `status.d` has no such line, and is there only if the package is.
    let state = fields.status.and_then(|status| status.split(u8::is_ascii_whitespace).next_back());
    if matches!(state, Some(b"not-installed" | b"config-files")) {
        return Ok(None);
    }
    let required = |field: &'static str, value: Option<&[u8]>| match value {
        Some(value) => word(field, value),
        None => {
            let start = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            Err(DpkgError::NoField { start: show(start.get(..WORD_MAX).unwrap_or(start)), field })
        }
    };
    let name = required("Package", fields.package)?;
    let version = required("Version", fields.version)?;
    let architecture = required("Architecture", fields.architecture)?;
    let (source, source_version) = match fields.source {
        None => (name.clone(), version.clone()),
        Some(value) => {
            let mut words = value.splitn(2, |byte| *byte == b'(');
            let source = word("Source", words.next().unwrap_or_default().trim_ascii())?;
            match words.next().map(|rest| rest.trim_ascii().strip_suffix(b")").unwrap_or(rest)) {
                Some(version) => (source, word("Source", version.trim_ascii())?),
                None => (source, version.clone()),
            }
        }
    };
    let mut depends = relations(fields.pre_depends);
    depends.extend(relations(fields.depends));
    Ok(Some(Stanza {
        name,
        version,
        architecture,
        source,
        source_version,
        depends,
        recommends: relations(fields.recommends),
        provides: relations(fields.provides),
        text: text.to_vec(),
    }))
}

/// The fields that are read of a stanza.
#[derive(Default)]
struct Fields<'a> {
    package: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    architecture: Option<&'a [u8]>,
    source: Option<&'a [u8]>,
    status: Option<&'a [u8]>,
    depends: Option<&'a [u8]>,
    pre_depends: Option<&'a [u8]>,
    recommends: Option<&'a [u8]>,
    provides: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn keep(&mut self, name: &[u8], value: &'a [u8]) {
        let slot = match name.to_ascii_lowercase().as_slice() {
            b"package" => &mut self.package,
            b"version" => &mut self.version,
            b"architecture" => &mut self.architecture,
            b"source" => &mut self.source,
            b"status" => &mut self.status,
            b"depends" => &mut self.depends,
            b"pre-depends" => &mut self.pre_depends,
            b"recommends" => &mut self.recommends,
            b"provides" => &mut self.provides,
            _ => return,
        };
        *slot = Some(value.trim_ascii());
    }
}

/// Returns each field of a stanza with its value, which has the lines that continue it.
fn fields(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (field, after) = split_field(rest)?;
        rest = after;
        let colon = memchr::memchr(b':', field).unwrap_or(field.len());
        Some((field.get(..colon)?, field.get(colon.saturating_add(1)..).unwrap_or_default()))
    })
}

/// Returns the first field with its line ends, and what is behind it.
fn split_field(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let is_end = |at: &usize| !matches!(text.get(at.saturating_add(1)), Some(b' ' | b'\t'));
    let end = memchr::memchr_iter(b'\n', text).find(is_end);
    text.split_at_checked(end.map_or(text.len(), |end| end.saturating_add(1)))
}

/// Returns `value` if it is one printable word without a slash, as it also becomes the name of a file.
fn word(field: &'static str, value: &[u8]) -> Result<String, DpkgError> {
    let is_fine = !value.is_empty()
        && value.len() <= WORD_MAX
        && value.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'/');
    match str::from_utf8(value) {
        Ok(text) if is_fine => Ok(text.to_owned()),
        _ => {
            let value = show(value.get(..WORD_MAX).unwrap_or(value));
            Err(DpkgError::NotAWord { field, value })
        }
    }
}

/// Returns the names in a list of relations such as `a (>= 1) | b:any, c [amd64]`. What cannot be the name of a package
/// is nobody's, and asks for nothing.
fn relations(value: Option<&[u8]>) -> Vec<String> {
    let parts = value.unwrap_or_default().split(|byte| matches!(byte, b',' | b'|'));
    let names = parts.filter_map(|part| {
        let part = part.trim_ascii_start();
        let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'(' | b':' | b'[');
        let name = part.split(is_end).next().unwrap_or_default();
        word("Depends", name).ok()
    });
    names.collect()
}

/// Returns the paths in `bytes`, a list of the paths of one package, as spelled; the top directory is left out.
pub fn list(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"/") && *line != b"/." && *line != b"/")
}

/// Returns the lines of `bytes`, the registry of ucf(1): a package, and a path that its scripts made.
pub fn ucf_registry(bytes: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let end = line.iter().position(u8::is_ascii_whitespace)?;
        let (package, path) = line.split_at_checked(end)?;
        let path = path.trim_ascii();
        let package = str::from_utf8(package).ok().filter(|package| !package.is_empty())?;
        (path.len() > 1 && path.starts_with(b"/")).then_some((package, path))
    })
}

/// Returns the lines of `bytes`, a list of checksums of one package.
pub fn md5sums(bytes: &[u8]) -> impl Iterator<Item = Md5Line<'_>> {
    bytes.split(|byte| *byte == b'\n').filter_map(|text| {
        let (sum, rest) = text.split_at_checked(32)?;
        let path = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"))?;
        let path = path.strip_prefix(b"./").unwrap_or(path);
        let is_line = sum.iter().all(u8::is_ascii_hexdigit) && !path.is_empty();
        is_line.then_some(Md5Line { path, text })
    })
}

/// Returns the diversions in `bytes`, in order.
///
/// # Errors
/// [`DpkgError::HalfADiversion`].
pub fn diversions(bytes: &[u8]) -> Result<Vec<Diversion>, DpkgError> {
    let mut lines = bytes.strip_suffix(b"\n").unwrap_or(bytes).split(|byte| *byte == b'\n');
    let mut found = Vec::new();
    if bytes.is_empty() {
        return Ok(found);
    }
    while let Some(from) = lines.next() {
        let (Some(to), Some(by)) = (lines.next(), lines.next()) else {
            return Err(DpkgError::HalfADiversion);
        };
        let by = if by == b":" { None } else { Some(word("Package", by)?) };
        found.push(Diversion { from: RawPath::new(from), to: RawPath::new(to), by });
    }
    Ok(found)
}

/// Returns the stanza `text` with those configuration files only that `keeps` says yes to, by their path.
pub fn with_conffiles(text: &[u8], keeps: &HashSet<Vec<u8>>) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((field, after)) = split_field(rest) {
        rest = after;
        if !field.get(..10).is_some_and(|name| name.eq_ignore_ascii_case(b"Conffiles:")) {
            kept.extend_from_slice(field);
            continue;
        }
        // One path and its checksum a line.
        let mut lines = field.split_inclusive(|byte| *byte == b'\n');
        let head = lines.next().unwrap_or_default();
        let is_kept = |line: &&[u8]| {
            let path = line.split(u8::is_ascii_whitespace).find(|word| !word.is_empty());
            path.is_some_and(|path| keeps.contains(path))
        };
        let files: Vec<&[u8]> = lines.filter(is_kept).collect();
        if !files.is_empty() {
            kept.extend_from_slice(head);
            kept.extend(files.concat());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &[u8] = b"\
Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.36-9
Provides: libc6-x32 (= 2.36-9)
Depends: libgcc-s1, libcrypt1 (>= 1:4.4.10-10~) | libcrypt0:any
Pre-Depends: base [amd64]
Recommends: libidn2-0 (>= 2.0.5~)
Conffiles:
 /etc/ld.so.conf.d/x86_64-linux-gnu.conf d4e7a7b88a71b5ffd9e2644e71a0cfab
 /etc/other conf d4e7a7b88a71b5ffd9e2644e71a0cfab
Description: GNU C Library
 Contains the standard libraries.
 .
 And more.

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: never
Status: unknown ok not-installed


Package: redis-server
Status: install ok triggers-awaited
Architecture: amd64
Source: redis (5:7.0.15-1)
Version: 5:7.0.15-1+b1
";

    #[test]
    fn packages_with_files() {
        let found = stanzas(STATUS).unwrap();
        let names: Vec<_> = found.iter().map(|stanza| stanza.name.as_str()).collect();
        assert_eq!(names, ["libc6", "redis-server"]);
        let libc = &found[0];
        assert_eq!((libc.source.as_str(), libc.source_version.as_str()), ("glibc", "2.36-9"));
        assert_eq!(libc.depends, ["base", "libgcc-s1", "libcrypt1", "libcrypt0"]);
        assert_eq!(libc.recommends, ["libidn2-0"]);
        assert_eq!(libc.provides, ["libc6-x32"]);
        assert!(libc.text.starts_with(b"Package: libc6\n") && libc.text.ends_with(b" And more.\n"));
        let redis = &found[1];
        assert_eq!((redis.version.as_str(), redis.architecture.as_str()), ("5:7.0.15-1+b1", "amd64"));
        assert_eq!((redis.source.as_str(), redis.source_version.as_str()), ("redis", "5:7.0.15-1"));
    }

    #[test]
    fn what_is_no_package() {
        let nameless = stanzas(b"Version: 1\nArchitecture: all\n");
        assert_eq!(nameless, Err(DpkgError::NoField { start: "Version: 1".to_owned(), field: "Package" }));
        for bad in ["../../etc/x", "", "a b", "a\x1bb"] {
            let text = format!("Package: {bad}\nVersion: 1\nArchitecture: all\n");
            assert!(matches!(stanzas(text.as_bytes()), Err(DpkgError::NotAWord { .. })), "{bad:?}");
        }
        assert_eq!(stanzas(b"\n\n"), Ok(Vec::new()));
    }

    #[test]
    fn carriage_returns_between_stanzas() {
        let windows = String::from_utf8(STATUS.to_vec()).unwrap().replace('\n', "\r\n");
        assert_eq!(stanzas(windows.as_bytes()), Err(DpkgError::CarriageReturn));
        assert_eq!(stanzas(b"\r\nPackage: a\n"), Err(DpkgError::CarriageReturn));
        // One line of a stanza that somebody edited is a value like others, wherever the stanza is.
        let edited = String::from_utf8(STATUS.to_vec()).unwrap().replace("server\n", "server\r\n");
        let found = stanzas(edited.as_bytes()).unwrap();
        assert_eq!(found[1].name, "redis-server");
        assert_eq!(stanzas(&found[1].text).unwrap(), found[1..]);
    }

    #[test]
    fn lists() {
        let paths: Vec<_> = list(b"/.\n/etc\n/etc/x y\n\nno path\n/\n/last").collect();
        assert_eq!(paths, [b"/etc".as_slice(), b"/etc/x y", b"/last"]);
        let sums = b"d017d976328c091c70977d2cf89a0cdd  usr/x y\nd017d976328c091c70977d2cf89a0cdd  ./usr/z\n\
            short  usr/a\nz017d976328c091c70977d2cf89a0cdd  usr/b\n";
        let paths: Vec<_> = md5sums(sums).map(|line| line.path).collect();
        assert_eq!(paths, [b"usr/x y".as_slice(), b"usr/z"]);
    }

    #[test]
    fn diversions_are_three_lines_each() {
        let found = diversions(b"/bin/sh\n/bin/sh.distrib\ndash\n/a\n/b\n:\n").unwrap();
        let diversion = |from: &str, to: &str, by: Option<&str>| Diversion {
            from: from.into(),
            to: to.into(),
            by: by.map(str::to_owned),
        };
        assert_eq!(
            found,
            [diversion("/bin/sh", "/bin/sh.distrib", Some("dash")), diversion("/a", "/b", None)]
        );
        assert_eq!(diversions(b""), Ok(Vec::new()));
        assert_eq!(diversions(b"/bin/sh\n/bin/sh.distrib\n"), Err(DpkgError::HalfADiversion));
    }

    #[test]
    fn configuration_files_are_cut() {
        let text = &stanzas(STATUS).unwrap()[0].text;
        let kept =
            with_conffiles(text, &HashSet::from([b"/etc/ld.so.conf.d/x86_64-linux-gnu.conf".to_vec()]));
        let shown = String::from_utf8(kept).unwrap();
        let expected = String::from_utf8(text.clone()).unwrap();
        assert_eq!(shown, expected.replace(" /etc/other conf d4e7a7b88a71b5ffd9e2644e71a0cfab\n", ""));
        let none = String::from_utf8(with_conffiles(text, &HashSet::new())).unwrap();
        assert!(
            !none.contains("Conffiles") && none.contains("Recommends: libidn2-0 (>= 2.0.5~)\nDescription:")
        );
    }
}
