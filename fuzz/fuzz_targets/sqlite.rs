//! For every input, taken as an SQLite database:
//! - no panic, bounded time and memory;
//! - rows are no larger than the file.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::sqlite::{Database, SqliteError, Value};
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let Ok(database) = Database::open(&bytes) else { return signature(&[usize::MAX]) };
    let (mut rows, mut columns) = (0, 0);
    let found = database.rows::<SqliteError>("t", |_, values| {
        rows += 1;
        for value in &values {
            if let Value::Text(held) | Value::Blob(held) = value {
                assert!(held.len() <= bytes.len());
            }
        }
        columns += values.len();
        Ok(())
    });
    signature(&[found.map_or(2, usize::from), rows, columns])
}

/// Returns a database with one table of two pages of rows, the second of which spills over.
fn seeds() -> Vec<Vec<u8>> {
    const PAGE: usize = 512;
    let mut file = vec![0; 5 * PAGE];
    file[..16].copy_from_slice(b"SQLite format 3\0");
    file[16..24].copy_from_slice(&[2, 0, 1, 1, 0, 64, 32, 32]);
    // The table of tables: its only row says that `t` starts at page 2.
    let schema = [14, 1, 6, 23, 15, 15, 1, 13, b't', b'a', b'b', b'l', b'e', b't', b't', 2];
    leaf(&mut file[..PAGE], 100, &schema);
    // Page 2 leads to page 3 and, for what comes last, to page 4.
    file[PAGE..PAGE + 14].copy_from_slice(&[5, 0, 0, 0, 1, 1, 251, 0, 0, 0, 0, 4, 1, 251]);
    file[PAGE + 507..PAGE + 512].copy_from_slice(&[0, 0, 0, 3, 1]);
    leaf(&mut file[2 * PAGE..3 * PAGE], 0, &[6, 1, 3, 0, 18, 1, 2, 3]);
    // 903 bytes of payload, 395 of them here (K of the specification), 508 in page 5.
    let mut spilling = vec![0x87, 0x07, 2, 3, 0x8e, 0x14];
    spilling.resize(3 + 395, 0xaa);
    spilling.extend([0, 0, 0, 5]);
    leaf(&mut file[3 * PAGE..4 * PAGE], 0, &spilling);
    vec![file]
}

/// Makes `page` a leaf with one cell, its head at `start`.
fn leaf(page: &mut [u8], start: usize, cell: &[u8]) {
    let at = page.len() - cell.len();
    page[at..].copy_from_slice(cell);
    let [high, low] = (at as u16).to_be_bytes();
    page[start..start + 10].copy_from_slice(&[13, 0, 0, 0, 1, high, low, 0, high, low]);
}
