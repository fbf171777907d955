//! Keys, digests, numbers and texts <-> a file that carries a key of itself.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::key::Key;
use crate::oci::{Digest, NewFile};

/// The largest file that is read, in bytes: the groups of 4 TiB.
const FILE_MAX: u64 = 256 << 20;
const KEY: usize = 32;

/// Returns what the file at `path` holds, or `None` if it is missing or not what was written.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    let start = bytes.len().checked_sub(KEY)?;
    let key = bytes.split_off(start);
    (key == Key::of(&bytes).as_bytes()).then_some(bytes)
}

/// Collects the fields of a file.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn key(&mut self, key: Key) {
        self.0.extend(key.as_bytes());
    }

    pub(super) fn digest(&mut self, digest: Digest) {
        self.0.extend(digest.as_bytes());
    }

    pub(super) fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    /// Writes the file, such that others see all of it or nothing.
    pub(super) fn write(mut self, path: &Path) -> io::Result<()> {
        let key = Key::of(&self.0);
        self.key(key);
        let mut file = NewFile::create_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(&self.0)?;
        file.persist(path).map(drop)
    }
}

/// Takes the fields of a file apart.
#[derive(Debug)]
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn key(&mut self) -> Option<Key> {
        self.bytes().map(Key::from_bytes)
    }

    pub(super) fn digest(&mut self) -> Option<Digest> {
        self.bytes().map(Digest::from_bytes)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        str::from_utf8(text).ok()
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let write = || {
            let mut writer = Writer::default();
            writer.text("libdeflate");
            writer.digest(Digest::of(b"x"));
            writer.number(7);
            writer.write(&path).unwrap();
        };
        write();
        let bytes = read(&path).unwrap();
        let mut fields = Fields::new(&bytes);
        assert_eq!(fields.text(), Some("libdeflate"));
        assert_eq!(fields.digest(), Some(Digest::of(b"x")));
        assert_eq!(fields.number(), Some(7));
        assert_eq!(fields.number(), None);

        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).unwrap();
            assert_eq!(read(&path), None);
            fs::write(&path, &whole[..at]).unwrap();
            assert_eq!(read(&path), None);
        }
    }
}
