//! `lib/apk/db/installed` -> packages with their paths, and the same database with fewer of them (apk-package(5)).

use thiserror::Error;

use crate::path::show;

/// The largest database that is read, in bytes.
pub const FILE_MAX: u64 = 64 << 20;
/// The longest name, version or architecture of a package.
const WORD_MAX: usize = 255;

/// One installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApkPackage {
    /// `P`: its name.
    pub name: String,
    /// `V`: its version.
    pub version: String,
    /// `A`: for which machines it is.
    pub architecture: String,
    /// `o`: what it was built from, or its own name.
    pub origin: String,
    /// `D`: what it needs, such as `busybox`, `so:libc.musl-x86_64.so.1` or `cmd:sh`.
    pub depends: Vec<String>,
    /// `p`: what it provides, in the same form.
    pub provides: Vec<String>,
    /// `F` and `R`: its paths, absolute, directories before what is in them.
    pub files: Vec<ApkFile>,
    /// The paragraph as it is.
    pub text: Vec<u8>,
}

/// One path of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApkFile {
    /// Where it is, as spelled, with a slash before it.
    pub path: Vec<u8>,
    /// `M` or `a`: permission bits, if they are not the usual ones.
    pub mode: Option<u32>,
}

/// Why a text is no database of apk's.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApkError {
    /// A package lacks a line that each has.
    #[error("the package that starts with `{start}` has no line `{key}:`")]
    NoLine {
        /// Its first line.
        start: String,
        /// The letter of the line.
        key: char,
    },
    /// A value that is one word in every package is something else.
    #[error("`{value}` cannot follow `{key}:`")]
    NotAWord {
        /// The letter of the line.
        key: char,
        /// What is there.
        value: String,
    },
}

/// Returns the packages in the database `bytes`.
///
/// # Errors
/// [`ApkError`] if a paragraph does not say which package it is of.
pub fn parse(bytes: &[u8]) -> Result<Vec<ApkPackage>, ApkError> {
    paragraphs(bytes).map(package).collect()
}

/// Returns each run of lines that are not empty.
fn paragraphs(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|byte| *byte != b'\n')?;
        rest = rest.get(start..)?;
        let end = memchr::memmem::find(rest, b"\n\n").map_or(rest.len(), |end| end.saturating_add(1));
        let (paragraph, after) = rest.split_at_checked(end)?;
        rest = after;
        Some(paragraph)
    })
}

/// Returns the lines of a paragraph: the letter, and what follows the colon.
fn lines(text: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    text.split(|byte| *byte == b'\n').filter_map(|line| match line {
        [key, b':', value @ ..] => Some((*key, value)),
        _ => None,
    })
}

fn package(text: &[u8]) -> Result<ApkPackage, ApkError> {
    let value = |key: char| lines(text).find(|(found, _)| char::from(*found) == key).map(|(_, value)| value);
    let required = |key| match value(key) {
        Some(value) => word(key, value),
        None => {
            let start = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            Err(ApkError::NoLine { start: show(start.get(..WORD_MAX).unwrap_or(start)), key })
        }
    };
    let name = required('P')?;
    let origin = match value('o') {
        Some(origin) => word('o', origin)?,
        None => name.clone(),
    };
    Ok(ApkPackage {
        version: required('V')?,
        architecture: required('A')?,
        depends: names(value('D')),
        provides: names(value('p')),
        files: files(text),
        text: text.to_vec(),
        origin,
        name,
    })
}

fn word(key: char, value: &[u8]) -> Result<String, ApkError> {
    let is_fine = !value.is_empty() && value.len() <= WORD_MAX && value.iter().all(u8::is_ascii_graphic);
    match str::from_utf8(value) {
        Ok(text) if is_fine => Ok(text.to_owned()),
        _ => Err(ApkError::NotAWord { key, value: show(value.get(..WORD_MAX).unwrap_or(value)) }),
    }
}

/// Returns the names in a list such as `so:libz.so.1=1.2 busybox>1.3 !other`; what must not be there is left out.
fn names(value: Option<&[u8]>) -> Vec<String> {
    let words = value.unwrap_or_default().split(|byte| *byte == b' ').filter(|word| !word.starts_with(b"!"));
    let names = words.filter_map(|name| {
        let is_end = |byte: &u8| matches!(byte, b'<' | b'>' | b'=' | b'~' | b'@');
        word('D', name.split(is_end).next().unwrap_or_default()).ok()
    });
    names.collect()
}

fn files(text: &[u8]) -> Vec<ApkFile> {
    let mut files: Vec<ApkFile> = Vec::new();
    let mut directory: &[u8] = b"";
    for (key, value) in lines(text) {
        let path = match key {
            b'F' => {
                directory = value;
                // The top directory is everybody's.
                if value.is_empty() {
                    continue;
                }
                [b"/", value].concat()
            }
            b'R' => joined(directory, value),
            b'M' | b'a' => {
                if let Some(file) = files.last_mut() {
                    file.mode = mode(value);
                }
                continue;
            }
            _ => continue,
        };
        files.push(ApkFile { path, mode: None });
    }
    files
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => [b"/", name].concat(),
        directory => [b"/", directory, b"/", name].concat(),
    }
}

/// Returns the mode in `uid:gid:mode`, to which a checksum may be added.
fn mode(value: &[u8]) -> Option<u32> {
    let octal = value.split(|byte| *byte == b':').nth(2)?;
    u32::from_str_radix(str::from_utf8(octal).ok()?, 8).ok().map(|mode| mode & 0o7777)
}

/// Returns the paragraph `text` with those files only that `keeps` says yes to, and the directories that hold one.
pub fn cut(text: &[u8], keeps: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let (mut directory, mut head): (&[u8], Vec<&[u8]>) = (b"", Vec::new());
    let mut is_kept = true;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let bare = line.strip_suffix(b"\n").unwrap_or(line);
        match bare {
            [b'F', b':', path @ ..] => {
                (directory, head, is_kept) = (path, vec![line], false);
            }
            [b'M', b':', ..] if !head.is_empty() => head.push(line),
            [b'R', b':', name @ ..] => {
                is_kept = keeps(&joined(directory, name));
                if is_kept {
                    kept.extend(std::mem::take(&mut head).concat());
                    kept.extend_from_slice(line);
                }
            }
            [b'a' | b'Z', b':', ..] if !is_kept => {}
            _ => kept.extend_from_slice(line),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTALLED: &[u8] = b"\
C:Q1pSfGIDC3Yt8y1uSGOpZh
P:zlib
V:1.3.1-r0
A:x86_64
o:zlib
D:so:libc.musl-x86_64.so.1 busybox>=1.36 !other
p:so:libz.so.1=1.3.1
F:lib
M:0:0:0750
R:libz.so.1
a:0:0:777
Z:Q1abc=
R:libz.so.1.3.1
Z:Q1def=
F:usr
F:usr/share
R:odd name

P:base
V:1
A:noarch
F:
R:motd
";

    #[test]
    fn packages_and_paths() {
        let found = parse(INSTALLED).unwrap();
        let zlib = &found[0];
        assert_eq!((zlib.name.as_str(), zlib.version.as_str()), ("zlib", "1.3.1-r0"));
        assert_eq!(zlib.depends, ["so:libc.musl-x86_64.so.1", "busybox"]);
        assert_eq!(zlib.provides, ["so:libz.so.1"]);
        let files: Vec<_> = zlib.files.iter().map(|file| (show(&file.path), file.mode)).collect();
        let expected = [
            ("/lib", Some(0o750)),
            ("/lib/libz.so.1", Some(0o777)),
            ("/lib/libz.so.1.3.1", None),
            ("/usr", None),
            ("/usr/share", None),
            ("/usr/share/odd name", None),
        ];
        assert_eq!(files, expected.map(|(path, mode)| (path.to_owned(), mode)));
        let base = &found[1];
        assert_eq!((base.origin.as_str(), base.architecture.as_str()), ("base", "noarch"));
        assert_eq!(base.files, [ApkFile { path: b"/motd".to_vec(), mode: None }]);
    }

    #[test]
    fn what_is_no_package() {
        let nameless = parse(b"V:1\nA:x\n");
        assert_eq!(nameless, Err(ApkError::NoLine { start: "V:1".to_owned(), key: 'P' }));
        assert!(matches!(parse(b"P:a b\nV:1\nA:x\n"), Err(ApkError::NotAWord { key: 'P', .. })));
    }

    #[test]
    fn cut_to_what_was_taken() {
        let zlib = &parse(INSTALLED).unwrap()[0].text;
        let shown = |keep: &str| {
            let cut = cut(zlib, &|path| path == keep.as_bytes());
            String::from_utf8(cut).unwrap()
        };
        let head = "C:Q1pSfGIDC3Yt8y1uSGOpZh\nP:zlib\nV:1.3.1-r0\nA:x86_64\no:zlib\n\
            D:so:libc.musl-x86_64.so.1 busybox>=1.36 !other\np:so:libz.so.1=1.3.1\n";
        assert_eq!(
            shown("/lib/libz.so.1"),
            format!("{head}F:lib\nM:0:0:0750\nR:libz.so.1\na:0:0:777\nZ:Q1abc=\n")
        );
        assert_eq!(shown("/usr/share/odd name"), format!("{head}F:usr/share\nR:odd name\n"));
        assert_eq!(shown("/nothing"), head);
    }
}
