//! Two files -> whether they have the same bytes.

use std::io;

use minimage::formats::ReadAt;

/// How much of two files is compared at once, in bytes.
const PIECE: usize = 64 << 10;

/// Returns whether two files have the same `size` bytes.
pub(crate) fn equal(one: &dyn ReadAt, other: &dyn ReadAt, size: u64) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    while offset < size {
        let count = fill(one, offset, &mut left)?;
        if count == 0 || fill(other, offset, &mut right)? != count || left.get(..count) != right.get(..count)
        {
            return Ok(false);
        }
        offset += count as u64;
    }
    Ok(true)
}

/// Fills `buffer` from `offset` on, as far as the file goes.
fn fill(file: &dyn ReadAt, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = buffer.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(offset + len as u64, rest)? {
            0 => break,
            count => len += count,
        }
    }
    Ok(len)
}
