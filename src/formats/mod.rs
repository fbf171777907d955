//! Bytes we did not write -> types: the border of the program.
//!
//! Everything here takes bytes (or [`ReadAt`], for files too large to hold) and returns types or a typed error. There
//! is no I/O of its own, no clock and no panic, and each length read from a file is a claim until it is checked.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

pub mod accounts;
pub mod apk;
pub mod directives;
pub mod dlopen_note;
pub mod dpkg;
pub mod elf;
pub mod ldso_cache;
pub mod ldso_conf;
pub mod nsswitch;
pub mod pem;
pub mod rpm;
pub mod shell;
pub mod sqlite;
pub mod tar;
pub mod tmpfiles;

use std::io;

/// Random access to the bytes of one file.
pub trait ReadAt {
    /// Reads into `buffer` from `offset` on, and returns how many bytes there were: fewer than asked only at the end.
    ///
    /// # Errors
    /// Whatever the source says; never for reading past the end, which returns 0.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Returns the length of the file in bytes.
    fn size(&self) -> u64;

    /// Returns which version of which file this is at this moment, or `None` if the source cannot tell.
    ///
    /// # Errors
    /// Whatever the source says.
    fn stamp(&self) -> io::Result<Option<Stamp>> {
        Ok(None)
    }
}

/// Which version of which file: as long as it stays the same, so do the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The device.
    pub device: u64,
    /// The number of the file there.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When its bytes changed last, in nanoseconds since 1970.
    pub modified: i128,
    /// When anything about it changed last, in nanoseconds since 1970.
    pub changed: i128,
    /// Whether all this means the same tomorrow. Some file systems number their files anew, or are late with times.
    pub is_lasting: bool,
}

impl Stamp {
    /// Returns whether a later version of the file is sure to have another stamp, if times up to `settled`, in
    /// nanoseconds since 1970, will not come again.
    pub fn is_settled(&self, settled: i128) -> bool {
        self.is_lasting && self.modified < settled && self.changed < settled
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

/// Returns all of `file`, or `None` if it is larger than `limit` bytes.
///
/// # Errors
/// Whatever `file` says.
pub fn read_all(file: &dyn ReadAt, limit: u64) -> io::Result<Option<Vec<u8>>> {
    if file.size() > limit { Ok(None) } else { read_head(file, limit).map(Some) }
}

/// Returns the first `limit` bytes of `file`, or all of it if it has fewer.
///
/// # Errors
/// Whatever `file` says.
pub fn read_head(file: &dyn ReadAt, limit: u64) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.size().min(limit)).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let mut filled = 0_usize;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(filled as u64, rest)? {
            0 => break,
            count => filled = filled.saturating_add(count),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
