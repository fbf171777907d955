//! A header of rpm's database -> what a package is, needs and has (rpm's `docs/manual/hdr_format` and `tags`).

use thiserror::Error;

use crate::path::show;

/// The longest name, version or architecture of a package.
const WORD_MAX: usize = 1_000;
/// How many entries a header has at most; rpm's own limit.
const ENTRIES_MAX: u32 = 0xffff;
const INTRO: usize = 8;
const ENTRY: usize = 16;

/// The file is only claimed: logs, caches, what is made at run time (`RPMFILE_GHOST`).
const GHOST: u32 = 1 << 6;

const INT16: u32 = 3;
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const TRANSLATED: u32 = 9;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const BUILD_TIME: u32 = 1006;
const VENDOR: u32 = 1011;
const ARCHITECTURE: u32 = 1022;
const FILE_MODES: u32 = 1030;
const FILE_FLAGS: u32 = 1037;
const SOURCE_RPM: u32 = 1044;
const PROVIDES: u32 = 1047;
const REQUIRES: u32 = 1049;
const DIRECTORY_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORY_NAMES: u32 = 1118;
const RECOMMENDS: u32 = 5046;

/// What a header says of its package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// What changes between versions of the software in it; `None` is 0.
    pub epoch: Option<u32>,
    /// The version of the software in it.
    pub version: String,
    /// Which build of that.
    pub release: String,
    /// For which machines it is, or `None` for a public key, which is kept as if it were a package.
    pub architecture: Option<String>,
    /// The file that it was built from, such as `bash-5.2-1.src.rpm`.
    pub source_rpm: Option<String>,
    /// Who made it.
    pub vendor: Option<String>,
    /// When it was built, as a Unix time.
    pub build_time: u32,
    /// What it needs: packages, paths, or names such as `libc.so.6()(64bit)`.
    pub requires: Vec<String>,
    /// What it is of little use without.
    pub recommends: Vec<String>,
    /// What it provides, in the same form.
    pub provides: Vec<String>,
    /// Its paths.
    pub files: Vec<RpmFile>,
}

/// One path of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpmFile {
    /// Where it is, as spelled.
    pub path: Vec<u8>,
    /// Type and permission bits (`st_mode`), if they are there.
    pub mode: Option<u16>,
    /// Whether the package only claims it.
    pub is_ghost: bool,
}

/// Why bytes are no header.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RpmError {
    /// They are not as long as they say.
    #[error("a header is cut off")]
    CutOff,
    /// An entry has no value where it says, or one of another type.
    #[error("a header has no value of the right type for tag {tag}")]
    Value {
        /// The number of the tag.
        tag: u32,
    },
    /// A value that every package has is missing.
    #[error("a header has no tag {tag}")]
    Missing {
        /// The number of the tag.
        tag: u32,
    },
    /// A value that is one word in every package is something else.
    #[error("`{value}` cannot be the value of tag {tag}")]
    NotAWord {
        /// The number of the tag.
        tag: u32,
        /// What is there.
        value: String,
    },
    /// Files name a directory that is not in the list.
    #[error("a header has files in directories that it does not name")]
    Directories,
}

/// Returns what the header `bytes` says.
///
/// # Errors
/// [`RpmError`] if it is broken.
pub fn parse(bytes: &[u8]) -> Result<Header, RpmError> {
    let raw = Raw::new(bytes)?;
    let required = |tag| raw.word(tag)?.ok_or(RpmError::Missing { tag });
    let number = |tag| Ok(raw.int32s(tag)?.and_then(|mut numbers| numbers.next()));
    let names = |tag| -> Result<Vec<String>, RpmError> {
        let strings = raw.strings(tag)?.unwrap_or_default();
        // What `rpmlib` has is needed for installing, not for running.
        let names = strings.into_iter().filter(|name| !name.starts_with(b"rpmlib("));
        names.map(|name| word(tag, name)).collect()
    };
    Ok(Header {
        name: required(NAME)?,
        epoch: number(EPOCH)?,
        version: required(VERSION)?,
        release: required(RELEASE)?,
        architecture: raw.word(ARCHITECTURE)?,
        source_rpm: raw.word(SOURCE_RPM)?,
        vendor: raw.strings(VENDOR)?.and_then(|strings| strings.first().map(|vendor| show(vendor))),
        build_time: number(BUILD_TIME)?.unwrap_or(0),
        requires: names(REQUIRES)?,
        recommends: names(RECOMMENDS)?,
        provides: names(PROVIDES)?,
        files: files(&raw)?,
    })
}

/// Returns the name and version of the source package in the file name `source_rpm`.
pub fn source(source_rpm: &str) -> Option<(&str, &str)> {
    let stem = source_rpm.strip_suffix(".src.rpm").or_else(|| source_rpm.strip_suffix(".nosrc.rpm"))?;
    let (before, _) = stem.rsplit_once('-')?;
    let (name, _) = before.rsplit_once('-')?;
    let version = stem.get(name.len().saturating_add(1)..)?;
    Some((name, version))
}

fn files(raw: &Raw<'_>) -> Result<Vec<RpmFile>, RpmError> {
    let Some(names) = raw.strings(BASE_NAMES)? else { return Ok(Vec::new()) };
    let directories = raw.strings(DIRECTORY_NAMES)?.unwrap_or_default();
    let mut indexes = raw.int32s(DIRECTORY_INDEXES)?.ok_or(RpmError::Missing { tag: DIRECTORY_INDEXES })?;
    let mut modes = raw.int16s(FILE_MODES)?;
    let mut flags = raw.int32s(FILE_FLAGS)?;
    let mut files = Vec::new();
    for name in names {
        let index = indexes.next().and_then(|index| usize::try_from(index).ok());
        let directory = index.and_then(|index| directories.get(index)).ok_or(RpmError::Directories)?;
        let flags = flags.as_mut().and_then(Iterator::next).unwrap_or(0);
        files.push(RpmFile {
            path: [*directory, name].concat(),
            mode: modes.as_mut().and_then(Iterator::next),
            is_ghost: flags & GHOST != 0,
        });
    }
    Ok(files)
}

fn word(tag: u32, value: &[u8]) -> Result<String, RpmError> {
    let is_fine = !value.is_empty() && value.len() <= WORD_MAX && !value.iter().any(u8::is_ascii_control);
    match str::from_utf8(value) {
        Ok(text) if is_fine => Ok(text.to_owned()),
        _ => Err(RpmError::NotAWord { tag, value: show(value.get(..WORD_MAX).unwrap_or(value)) }),
    }
}

/// The type and count of a value, and the data from there on.
type Found<'a> = (u32, usize, &'a [u8]);

/// A header, cut into its parts.
struct Raw<'a> {
    entries: &'a [u8],
    data: &'a [u8],
}

impl<'a> Raw<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, RpmError> {
        let count = long(bytes, 0).filter(|count| *count <= ENTRIES_MAX).ok_or(RpmError::CutOff)?;
        let size = long(bytes, 4).ok_or(RpmError::CutOff)?;
        let rest = bytes.get(INTRO..).unwrap_or_default();
        let entries = usize::try_from(count).unwrap_or(usize::MAX).saturating_mul(ENTRY);
        let (entries, data) = rest.split_at_checked(entries).ok_or(RpmError::CutOff)?;
        let data = usize::try_from(size).ok().and_then(|size| data.get(..size)).ok_or(RpmError::CutOff)?;
        Ok(Self { entries, data })
    }

    /// Returns the type and count of the value of `tag`, and the data from there on.
    fn value(&self, tag: u32) -> Result<Option<Found<'a>>, RpmError> {
        let Some(entry) = self.entries.chunks_exact(ENTRY).find(|entry| long(entry, 0) == Some(tag)) else {
            return Ok(None);
        };
        let field = |at| long(entry, at).and_then(|field| usize::try_from(field).ok());
        match (long(entry, 4), field(8).and_then(|at| self.data.get(at..)), field(12)) {
            (Some(kind), Some(data), Some(count)) => Ok(Some((kind, count, data))),
            _ => Err(RpmError::Value { tag }),
        }
    }

    fn strings(&self, tag: u32) -> Result<Option<Vec<&'a [u8]>>, RpmError> {
        let Some((kind, count, data)) = self.value(tag)? else { return Ok(None) };
        let count = match kind {
            STRING => 1,
            STRING_ARRAY | TRANSLATED => count,
            _ => return Err(RpmError::Value { tag }),
        };
        // Each string ends in a NUL: more than there are bytes there cannot be.
        let mut strings = Vec::new();
        let mut rest = data;
        for _ in 0..count {
            let end = memchr::memchr(0, rest).ok_or(RpmError::Value { tag })?;
            strings.push(rest.get(..end).unwrap_or_default());
            rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
        }
        Ok(Some(strings))
    }

    fn word(&self, tag: u32) -> Result<Option<String>, RpmError> {
        let strings = self.strings(tag)?;
        strings.and_then(|strings| strings.first().copied()).map(|value| word(tag, value)).transpose()
    }

    fn int32s(&self, tag: u32) -> Result<Option<impl Iterator<Item = u32> + use<'a>>, RpmError> {
        let numbers = self.array(tag, INT32, 4)?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes);
        Ok(numbers.map(|bytes| bytes.chunks_exact(4).map(number)))
    }

    fn int16s(&self, tag: u32) -> Result<Option<impl Iterator<Item = u16> + use<'a>>, RpmError> {
        let numbers = self.array(tag, INT16, 2)?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u16::from_be_bytes);
        Ok(numbers.map(|bytes| bytes.chunks_exact(2).map(number)))
    }

    /// Returns the bytes of an array of numbers of `width` bytes each.
    fn array(&self, tag: u32, wanted: u32, width: usize) -> Result<Option<&'a [u8]>, RpmError> {
        match self.value(tag)? {
            None => Ok(None),
            Some((kind, count, data)) if kind == wanted => {
                let bytes = count.checked_mul(width).and_then(|size| data.get(..size));
                bytes.map(Some).ok_or(RpmError::Value { tag })
            }
            Some(_) => Err(RpmError::Value { tag }),
        }
    }
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_by_their_file_names() {
        assert_eq!(source("bash-completion-2.11-1.fc40.src.rpm"), Some(("bash-completion", "2.11-1.fc40")));
        assert_eq!(source("kernel-6.1-1.nosrc.rpm"), Some(("kernel", "6.1-1")));
        assert_eq!(source("(none)"), None);
    }

    #[test]
    fn what_is_no_header() {
        assert_eq!(parse(b""), Err(RpmError::CutOff));
        assert_eq!(parse(&[0, 0, 0, 1, 0, 0, 0, 0]), Err(RpmError::CutOff));
        assert_eq!(parse(&[0; 8]), Err(RpmError::Missing { tag: NAME }));
        let number_for_a_name =
            [0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 3, 0xe8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1];
        assert_eq!(parse(&number_for_a_name), Err(RpmError::Value { tag: NAME }));
    }
}
