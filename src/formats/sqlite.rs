//! An SQLite database -> the rows of a table, in the order of their keys (<https://www.sqlite.org/fileformat2.html>).
//!
//! Read only, tables with row ids only, no indexes, no SQL. Changes that wait in a write-ahead log are not seen.

use std::io;

use thiserror::Error;

use super::{ReadAt, read_all};

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const HEAD: usize = 100;
const PAGE_MIN: usize = 512;
/// How deep a tree may be: a page has at least two children.
const DEPTH_MAX: usize = 32;
/// The largest row, in bytes; a header of rpm has at most 256 MiB.
const ROW_MAX: u64 = 256 << 20;
/// The most columns of a row that are read.
const COLUMNS_MAX: usize = 64;
const INTERIOR_TABLE: u8 = 5;
const LEAF_TABLE: u8 = 13;

/// A database in a file.
pub struct Database<'a> {
    file: &'a dyn ReadAt,
    page_size: usize,
    /// Bytes of a page that hold something; extensions may keep the rest.
    usable: usize,
    pages: u32,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `NULL`; in the column of the row id it stands for that.
    Null,
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// Text, in the encoding of the database.
    Text(Vec<u8>),
    /// Bytes.
    Blob(Vec<u8>),
}

/// Why a file is no database, or a broken one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SqliteError {
    /// It does not start as a database does.
    #[error("it is no SQLite database")]
    NotADatabase,
    /// A page is not in the file, or holds what its place forbids.
    #[error("page {page}: {what}")]
    Page {
        /// The number of the page, from 1.
        page: u32,
        /// What is wrong.
        what: &'static str,
    },
    /// A row is not what its head says.
    #[error("a row is broken")]
    Row,
    /// The file cannot be read.
    #[error("cannot read the database")]
    Read {
        /// What the system says.
        source: io::Error,
    },
}

/// How many more pages one walk may read: each page of a healthy table is read once.
struct Budget(u32);

impl<'a> Database<'a> {
    /// Opens the database in `file`.
    ///
    /// # Errors
    /// [`SqliteError`] if it does not start as one.
    pub fn open(file: &'a dyn ReadAt) -> Result<Self, SqliteError> {
        let mut head = [0; HEAD];
        let count = file.read_at(0, &mut head).map_err(|source| SqliteError::Read { source })?;
        if count < HEAD || !head.starts_with(MAGIC) {
            return Err(SqliteError::NotADatabase);
        }
        let page_size = match word(&head, 16) {
            Some(1) => 1 << 16,
            Some(size) => usize::from(size),
            None => 0,
        };
        let reserved = head.get(20).copied().map_or(0, usize::from);
        let usable = page_size.saturating_sub(reserved);
        if !page_size.is_power_of_two() || page_size < PAGE_MIN || usable < 480 {
            return Err(SqliteError::NotADatabase);
        }
        let pages = file.size().checked_div(page_size as u64).unwrap_or(0);
        Ok(Self { file, page_size, usable, pages: u32::try_from(pages).unwrap_or(u32::MAX) })
    }

    /// Gives each row of the table called `name` to `each`: its id, and its values. Returns whether there is such a
    /// table.
    ///
    /// # Errors
    /// [`SqliteError`] if the database is broken, or whatever `each` returns.
    pub fn rows<E: From<SqliteError>>(
        &self,
        name: &str,
        mut each: impl FnMut(i64, Vec<Value>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut root = None;
        // The first page is the table of all tables: type, name, name of the table, its first page, and SQL.
        self.walk::<SqliteError>(1, &mut |_, row| {
            if let [Value::Text(kind), Value::Text(found), _, Value::Integer(page), ..] = row.as_slice()
                && kind == b"table"
                && found == name.as_bytes()
            {
                root = Some(u32::try_from(*page).map_err(|_| SqliteError::Row)?);
            }
            Ok(())
        })?;
        match root {
            None => Ok(false),
            Some(root) => self.walk(root, &mut each).map(|()| true),
        }
    }

    fn walk<E: From<SqliteError>>(
        &self,
        root: u32,
        each: &mut dyn FnMut(i64, Vec<Value>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut budget = Budget(self.pages);
        // Pages that are still to be read, the next one last, each with its depth.
        let mut todo = vec![(root, 0_usize)];
        while let Some((number, depth)) = todo.pop() {
            let page = self.page(number, &mut budget)?;
            let start = if number == 1 { HEAD } else { 0 };
            let broken = |what| SqliteError::Page { page: number, what };
            let kind = *page.get(start).ok_or_else(|| broken("it is empty"))?;
            let is_leaf = match kind {
                LEAF_TABLE => true,
                INTERIOR_TABLE if depth < DEPTH_MAX => false,
                _ => return Err(broken("it is no part of a table").into()),
            };
            let cells = usize::from(word(&page, start.saturating_add(3)).unwrap_or(0));
            let pointers = start.saturating_add(if is_leaf { 8 } else { 12 });
            let cell = |index: usize| {
                let at = word(&page, pointers.saturating_add(index.saturating_mul(2)))?;
                page.get(usize::from(at)..self.usable)
            };
            if is_leaf {
                for index in 0..cells {
                    let cell = cell(index).ok_or_else(|| broken("a cell is outside of it"))?;
                    let (id, payload) = self.payload(cell, &mut budget)?;
                    each(id, record(&payload).ok_or(SqliteError::Row)?)?;
                }
                continue;
            }
            let last = long(&page, start.saturating_add(8)).ok_or_else(|| broken("it is cut off"))?;
            todo.push((last, depth.saturating_add(1)));
            for index in (0..cells).rev() {
                let child = cell(index).and_then(|cell| long(cell, 0));
                let child = child.ok_or_else(|| broken("a cell is outside of it"))?;
                todo.push((child, depth.saturating_add(1)));
            }
        }
        Ok(())
    }

    fn page(&self, number: u32, budget: &mut Budget) -> Result<Vec<u8>, SqliteError> {
        let broken = |what| SqliteError::Page { page: number, what };
        budget.0 = budget.0.checked_sub(1).ok_or_else(|| broken("it is used twice"))?;
        let before = number.checked_sub(1).filter(|before| *before < self.pages);
        let before = before.ok_or_else(|| broken("it is not in the file"))?;
        let offset = u64::from(before).saturating_mul(self.page_size as u64);
        let part = Part { file: self.file, offset, size: self.page_size as u64 };
        let page = read_all(&part, part.size).map_err(|source| SqliteError::Read { source })?;
        page.filter(|page| page.len() == self.page_size).ok_or_else(|| broken("it is cut off"))
    }

    /// Returns the row id and the payload of the leaf cell that `cell` starts with, from all its pages.
    fn payload(&self, cell: &[u8], budget: &mut Budget) -> Result<(i64, Vec<u8>), SqliteError> {
        let (size, rest) = varint(cell).ok_or(SqliteError::Row)?;
        let (id, rest) = varint(rest).ok_or(SqliteError::Row)?;
        if size > ROW_MAX || size > self.file.size() {
            return Err(SqliteError::Row);
        }
        let size = usize::try_from(size).map_err(|_| SqliteError::Row)?;
        let local = self.local(size);
        let mut payload = rest.get(..local).ok_or(SqliteError::Row)?.to_vec();
        let mut next = if local < size { long(rest, local) } else { Some(0) };
        while payload.len() < size {
            let number = next.filter(|number| *number != 0).ok_or(SqliteError::Row)?;
            let page = self.page(number, budget)?;
            next = long(&page, 0);
            let wanted = size.saturating_sub(payload.len());
            let part = page.get(4..self.usable).unwrap_or_default();
            payload.extend_from_slice(part.get(..wanted).unwrap_or(part));
        }
        Ok((id.cast_signed(), payload))
    }

    /// Returns how much of a payload of `size` bytes is in the cell itself.
    fn local(&self, size: usize) -> usize {
        // The names are those of the specification, "B-tree Cell Format".
        let (u, p) = (self.usable, size);
        let x = u.saturating_sub(35);
        if p <= x {
            return p;
        }
        let m = (u.saturating_sub(12).saturating_mul(32) / 255).saturating_sub(23);
        let excess = p.saturating_sub(m).checked_rem(u.saturating_sub(4)).unwrap_or(0);
        let k = m.saturating_add(excess);
        if k <= x { k } else { m }
    }
}

/// A part of a file.
struct Part<'a> {
    file: &'a dyn ReadAt,
    offset: u64,
    size: u64,
}

impl ReadAt for Part<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(self.offset.saturating_add(offset), buffer)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// Returns the values in a row's payload.
fn record(payload: &[u8]) -> Option<Vec<Value>> {
    let (head_size, after) = varint(payload)?;
    let head_size = usize::try_from(head_size).ok()?;
    let skipped = payload.len().checked_sub(after.len())?;
    let mut types = payload.get(skipped..head_size)?;
    let mut body = payload.get(head_size..)?;
    let mut values = Vec::new();
    while !types.is_empty() && values.len() < COLUMNS_MAX {
        let (kind, rest) = varint(types)?;
        types = rest;
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return None,
            _ => kind.checked_sub(12)? / 2,
        };
        let (value, rest) = body.split_at_checked(usize::try_from(size).ok()?)?;
        body = rest;
        values.push(match kind {
            0 => Value::Null,
            8 => Value::Integer(0),
            9 => Value::Integer(1),
            1..=6 => Value::Integer(integer(value)),
            7 => Value::Real(f64::from_be_bytes(value.try_into().ok()?)),
            _ if kind % 2 == 0 => Value::Blob(value.to_vec()),
            _ => Value::Text(value.to_vec()),
        });
    }
    Some(values)
}

/// Returns the number in up to eight bytes, the highest first, with a sign.
fn integer(bytes: &[u8]) -> i64 {
    let is_negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let start = if is_negative { u64::MAX } else { 0 };
    bytes.iter().fold(start, |number, byte| number << 8 | u64::from(*byte)).cast_signed()
}

/// Returns the number that `bytes` start with in SQLite's own form of one to nine bytes, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        let after = bytes.get(at.saturating_add(1)..)?;
        if at == 8 {
            return Some((number << 8 | u64::from(*byte), after));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if *byte < 0x80 {
            return Some((number, after));
        }
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at.checked_add(2)?)?.try_into().ok().map(u16::from_be_bytes)
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_varying_length() {
        for (bytes, expected) in [
            (&[0x7f][..], 0x7f),
            (&[0x81, 0x00], 0x80),
            (&[0xff; 9], u64::MAX),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x07], 7),
        ] {
            assert_eq!(varint(bytes), Some((expected, &[][..])), "{bytes:x?}");
        }
        assert_eq!(varint(&[0x80]), None);
    }

    #[test]
    fn values_of_a_row() {
        let row =
            [8, 0, 9, 1, 2, 7, 18, 17, 0xff, 0x80, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, b'h', b'i'];
        let expected = [
            Value::Null,
            Value::Integer(1),
            Value::Integer(-1),
            Value::Integer(-0x8000),
            Value::Real(2.0),
            Value::Blob(vec![1, 2, 3]),
            Value::Text(b"hi".to_vec()),
        ];
        assert_eq!(record(&row).as_deref(), Some(&expected[..]));
        assert_eq!(record(&row[..row.len() - 1]), None);
    }
}
