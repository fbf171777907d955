//! The bytes of a tar -> its members: where the bytes of each file are, never the bytes themselves.
//!
//! ustar, PAX and GNU archives, read as the engines read them (Go's `archive/tar`), but for what two readers could
//! understand in two ways: that is an error here. A missing end mark is none, as long as the last member is whole.

use std::collections::BTreeMap;
use std::io;

use tar::Header;
use thiserror::Error;

use super::ReadAt;
use crate::path::RawPath;

/// The size of a header, and what everything is padded to, in bytes.
const BLOCK: usize = 512;
/// The longest path in bytes (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// The longest name in bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;
/// The most bytes of extended headers that one member may have.
const EXTENSIONS_MAX: u64 = 1 << 20;
/// How much of what follows the end mark is looked at at once.
const REST: usize = 64 << 10;
const CAPABILITY: &str = "SCHILY.xattr.security.capability";

/// One member of a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where it goes, from the top of whatever it is unpacked to: absolute, with no `.`, `..` or empty names. Links may
    /// be above its last name.
    pub path: RawPath,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The raw extended attribute `security.capability`.
    pub capability: Option<Vec<u8>>,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberKind {
    /// A regular file, whose bytes are at this place of the tar.
    File {
        /// Where they begin.
        offset: u64,
        /// How many there are.
        size: u64,
    },
    /// A regular file stored without its holes, in a form of GNU tar; its bytes cannot be read.
    Sparse {
        /// Its length with the holes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link, with its target as spelled.
    Link(RawPath),
    /// Another name of the file that an earlier member put there; a path like [`Member::path`].
    HardLink(RawPath),
    /// A device or FIFO.
    Special(&'static str),
}

/// Why bytes are no tar that we use. Offsets are in bytes from the start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TarError {
    /// It cannot be read.
    #[error("cannot read the tar at {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// What the source says.
        source: io::Error,
    },
    /// It ends within a member.
    #[error("the tar ends in the middle of the member at {offset}")]
    Truncated {
        /// Where the member begins.
        offset: u64,
    },
    /// Something that is no header is where one should be.
    #[error("the tar has a damaged header at {offset}")]
    Header {
        /// Where.
        offset: u64,
    },
    /// The extended header before a member cannot be read.
    #[error("the tar has a damaged extended header before {offset}")]
    Extension {
        /// Where the member begins.
        offset: u64,
    },
    /// A path that leads out of the tree, or is longer than any system takes.
    #[error("the tar has the unusable path `{}` at {offset}", crate::path::show(path))]
    Path {
        /// Where.
        offset: u64,
        /// The path as spelled.
        path: Vec<u8>,
    },
    /// A kind of member that no layer has.
    #[error("the tar has a member of the unknown type `{}` at {offset}", kind.escape_ascii())]
    Kind {
        /// Where.
        offset: u64,
        /// Its type.
        kind: u8,
    },
    /// There is something after the end.
    #[error("the tar goes on after its end at {offset}")]
    Trailing {
        /// Where its end is.
        offset: u64,
    },
}

/// Returns the members of `tar`, in their order. After an error there are no more.
pub fn members<'a>(tar: &'a dyn ReadAt) -> Members<'a> {
    Members { tar, offset: 0, is_done: false }
}

/// The members of a tar, one after the other.
pub struct Members<'a> {
    tar: &'a dyn ReadAt,
    offset: u64,
    is_done: bool,
}

impl Iterator for Members<'_> {
    type Item = Result<Member, TarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.member().transpose();
        self.is_done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// What the extended headers before a member say.
#[derive(Default)]
struct Extensions {
    /// PAX records.
    records: BTreeMap<String, Vec<u8>>,
    /// The GNU long name.
    name: Option<Vec<u8>>,
    /// The GNU long link target.
    link: Option<Vec<u8>>,
    /// The size of all of them.
    size: u64,
    /// Whether they are about a member that has to come.
    is_pending: bool,
}

impl Members<'_> {
    fn member(&mut self) -> Result<Option<Member>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            let start = self.offset;
            let Some(header) = self.header()? else {
                // What an extended header announces must come.
                return if extensions.is_pending {
                    Err(TarError::Truncated { offset: start })
                } else {
                    Ok(None)
                };
            };
            let size = number(&header.as_old().size).ok_or(TarError::Header { offset: start })?;
            match header.as_old().linkflag {
                [b'x' | b'g' | b'L' | b'K'] => self.extend(&mut extensions, &header, start, size)?,
                _ => return self.finish(&header, start, size, &extensions).map(Some),
            }
        }
    }

    /// Returns the next header, or `None` at the end.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let offset = self.offset;
        let mut header = Header::new_old();
        match self.read(offset, header.as_mut_bytes())? {
            0 => return Ok(None),
            BLOCK => {}
            _ => return Err(TarError::Truncated { offset }),
        }
        self.offset = offset.saturating_add(BLOCK as u64);
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            self.only_zeros_follow(offset)?;
            return Ok(None);
        }
        let sum = header.as_bytes().iter().enumerate().fold(0_u64, |sum, (at, byte)| {
            // The sum is taken with blanks in its own place.
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            sum.saturating_add(byte.into())
        });
        match number(&header.as_old().cksum) {
            Some(stated) if stated == sum => Ok(Some(header)),
            _ => Err(TarError::Header { offset }),
        }
    }

    fn only_zeros_follow(&self, end: u64) -> Result<(), TarError> {
        let mut buffer = vec![0; REST];
        let mut offset = end;
        loop {
            let count = self.read(offset, &mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            if buffer.iter().take(count).any(|byte| *byte != 0) {
                return Err(TarError::Trailing { offset: end });
            }
            offset = offset.saturating_add(count as u64);
        }
    }

    /// Reads the payload of an extended header.
    fn extend(
        &mut self,
        extensions: &mut Extensions,
        header: &Header,
        start: u64,
        size: u64,
    ) -> Result<(), TarError> {
        let damaged = || TarError::Extension { offset: start };
        extensions.size = extensions.size.saturating_add(size.max(1));
        let length = usize::try_from(size).ok().filter(|_| extensions.size <= EXTENSIONS_MAX);
        let mut payload = vec![0; length.ok_or_else(damaged)?];
        let data = self.skip(start, size)?;
        if self.read(data, &mut payload)? != payload.len() {
            return Err(TarError::Truncated { offset: start });
        }
        extensions.is_pending |= header.as_old().linkflag != [b'g'];
        match header.as_old().linkflag {
            [b'L'] => extensions.name = Some(until_nul(&payload).to_vec()),
            [b'K'] => extensions.link = Some(until_nul(&payload).to_vec()),
            [b'g'] => {
                // Notes for the whole archive, as git writes them, are none of ours; what would change members is.
                let records = records(&payload).ok_or_else(damaged)?;
                if records.keys().any(|key| changes_members(key)) {
                    return Err(damaged());
                }
            }
            _ => extensions.records = records(&payload).ok_or_else(damaged)?,
        }
        Ok(())
    }

    fn finish(
        &mut self,
        header: &Header,
        start: u64,
        size: u64,
        extensions: &Extensions,
    ) -> Result<Member, TarError> {
        let old = header.as_old();
        let damaged = || TarError::Header { offset: start };
        let extension = || TarError::Extension { offset: start };
        let record = |key: &str| extensions.records.get(key).filter(|value| !value.is_empty());
        let decimal = |key: &str| record(key).map(|value| decimal(value).ok_or_else(extension)).transpose();
        let id = |key: &str, field: &[u8]| {
            let value = match decimal(key)? {
                Some(value) => value,
                None => number(field).ok_or_else(damaged)?,
            };
            u32::try_from(value).map_err(|_| damaged())
        };
        let size = decimal("size")?.unwrap_or(size);
        let [kind] = old.linkflag;
        let mut name = match (&extensions.name, record("path")) {
            (Some(name), _) | (None, Some(name)) => name.clone(),
            (None, None) => name_of(header),
        };
        let link = match (&extensions.link, record("linkpath")) {
            (Some(link), _) | (None, Some(link)) => link.clone(),
            (None, None) => until_nul(&old.linkname).to_vec(),
        };
        let is_sparse = extensions.records.keys().any(|key| key.starts_with("GNU.sparse."));
        if let Some(real) = record("GNU.sparse.name") {
            name.clone_from(real);
        }
        let path = absolute(&name).ok_or_else(|| TarError::Path { offset: start, path: name.clone() })?;
        let kind = match kind {
            b'0' | b'7' if is_sparse => {
                let real = decimal("GNU.sparse.realsize")?.or(decimal("GNU.sparse.size")?).unwrap_or(size);
                self.skip(start, size)?;
                MemberKind::Sparse { size: real }
            }
            b'S' => {
                let real = self.sparse_maps(header, start)?;
                self.skip(start, size)?;
                MemberKind::Sparse { size: real }
            }
            0 if name.ends_with(b"/") => MemberKind::Directory,
            0 | b'0' | b'7' => MemberKind::File { offset: self.skip(start, size)?, size },
            b'1' => {
                let target =
                    absolute(&link).ok_or_else(|| TarError::Path { offset: start, path: link.clone() });
                MemberKind::HardLink(target?)
            }
            b'2' if link.is_empty() || link.contains(&0) || link.len() > PATH_MAX => {
                return Err(TarError::Path { offset: start, path: link });
            }
            b'2' => MemberKind::Link(RawPath::new(link)),
            b'3' => MemberKind::Special("a character device"),
            b'4' => MemberKind::Special("a block device"),
            b'5' => MemberKind::Directory,
            b'6' => MemberKind::Special("a FIFO"),
            kind => return Err(TarError::Kind { offset: start, kind }),
        };
        // Whether bytes follow what has none is where readers differ.
        let has_bytes = matches!(kind, MemberKind::File { .. } | MemberKind::Sparse { .. });
        if !has_bytes && size != 0 {
            return Err(damaged());
        }
        let mode = number(&old.mode).ok_or_else(damaged)?;
        Ok(Member {
            path,
            kind,
            mode: u32::try_from(mode & 0o7777).map_err(|_| damaged())?,
            uid: id("uid", &old.uid)?,
            gid: id("gid", &old.gid)?,
            capability: record(CAPABILITY).cloned(),
        })
    }

    /// Passes the maps of a sparse file, and returns its length with the holes.
    fn sparse_maps(&mut self, header: &Header, start: u64) -> Result<u64, TarError> {
        let field = |from: usize, to: usize| header.as_bytes().get(from..to).unwrap_or_default();
        let real = number(field(483, 495)).ok_or(TarError::Header { offset: start })?;
        let mut goes_on = field(482, 483) != [0];
        while goes_on {
            let mut map = [0; BLOCK];
            if self.read(self.offset, &mut map)? != BLOCK {
                return Err(TarError::Truncated { offset: start });
            }
            self.offset = self.offset.saturating_add(BLOCK as u64);
            goes_on = map.get(504).is_some_and(|flag| *flag != 0);
        }
        Ok(real)
    }

    /// Passes `size` bytes and what pads them, and returns where they begin.
    fn skip(&mut self, start: u64, size: u64) -> Result<u64, TarError> {
        let data = self.offset;
        let end = size.checked_next_multiple_of(BLOCK as u64).and_then(|padded| data.checked_add(padded));
        match end.filter(|end| *end <= self.tar.size()) {
            Some(end) => {
                self.offset = end;
                Ok(data)
            }
            None => Err(TarError::Truncated { offset: start }),
        }
    }

    /// Reads until `buffer` is full or the tar ends.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut filled = 0_usize;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(filled as u64);
            match self.tar.read_at(at, rest).map_err(|source| TarError::Read { offset: at, source })? {
                0 => break,
                count => filled = filled.saturating_add(count),
            }
        }
        Ok(filled)
    }
}

/// Returns the name in a header, with the prefix that ustar has for long ones.
fn name_of(header: &Header) -> Vec<u8> {
    let name = until_nul(&header.as_old().name);
    let Some(ustar) = header.as_ustar() else { return name.to_vec() };
    // star keeps times in the last part of the prefix, and signs at the end.
    let is_star = header.as_bytes().ends_with(b"tar\0");
    let prefix = until_nul(if is_star { ustar.prefix.get(..131).unwrap_or_default() } else { &ustar.prefix });
    match prefix {
        b"" => name.to_vec(),
        prefix => [prefix, b"/", name].concat(),
    }
}

/// Returns whether a PAX record would give members another name, place or kind.
fn changes_members(key: &str) -> bool {
    matches!(key, "path" | "linkpath" | "size" | "uid" | "gid" | CAPABILITY) || key.starts_with("GNU.sparse.")
}

/// Returns the records of a PAX header; of two with one key the later one (POSIX pax, "Extended Header").
fn records(payload: &[u8]) -> Option<BTreeMap<String, Vec<u8>>> {
    let mut records = BTreeMap::new();
    let mut rest = payload;
    while !rest.is_empty() {
        let blank = rest.iter().position(|byte| *byte == b' ')?;
        let length = usize::try_from(decimal(rest.get(..blank)?)?).ok()?;
        let record = rest.get(blank.checked_add(1)?..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let key = String::from_utf8(record.get(..equals)?.to_vec()).ok().filter(|key| !key.is_empty())?;
        let value = record.get(equals.checked_add(1)?..)?;
        // Only attributes are bytes; everything else is text that cannot hold a NUL.
        if value.contains(&0) && !key.starts_with("SCHILY.xattr.") {
            return None;
        }
        records.insert(key, value.to_vec());
        rest = rest.get(length..)?;
    }
    Some(records)
}

/// Returns the value of decimal digits, and of nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    let is_decimal = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if is_decimal { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

/// Returns the number in a field of a header: octal digits between blanks and NULs, or GNU's base 256.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((first, rest)) = field.split_first().filter(|(first, _)| **first & 0x80 != 0) {
        // 0xff begins a negative number.
        let start = u64::from(first & 0x7f);
        return rest.iter().try_fold(start, |value, byte| {
            let shifted = value.checked_mul(256)?;
            shifted.checked_add((*byte).into())
        });
    }
    let text = until_nul(field).trim_ascii();
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 8)?;
        value.checked_mul(8)?.checked_add(digit.into())
    })
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Returns the path that `name` has below the top: of `./a//b/` it is `/a/b`. `None` for what leads out of it, is empty,
/// or too long.
fn absolute(name: &[u8]) -> Option<RawPath> {
    if name.is_empty() || name.len() > PATH_MAX || name.contains(&0) {
        return None;
    }
    let mut path = Vec::new();
    for part in name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")) {
        if part == b".." || part.len() > NAME_MAX {
            return None;
        }
        path.push(b'/');
        path.extend_from_slice(part);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Some(RawPath::new(path))
}
