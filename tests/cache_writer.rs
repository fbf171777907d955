//! Lines of an `ld.so.cache` -> its bytes, in each format that glibc ever wrote.
#![allow(dead_code)] // each user needs another part of it

use std::cmp::Ordering;

/// Which format to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `glibc-ld.so.cache1.1`, the default since 2.32.
    New,
    /// `ld.so-1.7.0`.
    Old,
    /// The old format with the new one behind it.
    Compat,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub name: Vec<u8>,
    pub path: Vec<u8>,
    pub flags: u32,
    /// The glibc-hwcaps level that the CPU must have.
    pub level: Option<Vec<u8>>,
    /// The raw hwcap field, where there is no level.
    pub hwcap: u64,
}

const NEW_HEAD: usize = 48;
const NEW_LINE: usize = 24;

/// Returns the cache of `lines`, sorted as ldconfig sorts them.
pub fn cache(lines: &[Line], format: Format, is_big_endian: bool) -> Vec<u8> {
    let mut lines = lines.to_vec();
    // Downwards by name; then what needs a level before what does not.
    lines.sort_by(|one, other| {
        compare(&other.name, &one.name).then_with(|| other.level.is_some().cmp(&one.level.is_some()))
    });
    let number = |value: u32| if is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let old = || {
        let mut bytes = b"ld.so-1.7.0\0".to_vec();
        bytes.extend(number(lines.len() as u32));
        let mut strings = Vec::new();
        for line in &lines {
            bytes.extend(number(line.flags));
            for text in [&line.name, &line.path] {
                bytes.extend(number(strings.len() as u32));
                strings.extend(text);
                strings.push(0);
            }
        }
        (bytes, strings)
    };
    match format {
        Format::New => new(&lines, is_big_endian, 0),
        Format::Old => {
            let (bytes, strings) = old();
            [bytes, strings].concat()
        }
        Format::Compat => {
            // Strings of the old format count from the end of its table, where the new one begins: glibc shares
            // them; nobody who finds the new format reads the old table.
            let (mut bytes, _) = old();
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            let start = bytes.len();
            [bytes, new(&lines, is_big_endian, start)].concat()
        }
    }
}

/// Writes the new format. Its strings count from its own start; its extensions, and what they name, from that of the
/// file.
fn new(lines: &[Line], is_big_endian: bool, start: usize) -> Vec<u8> {
    let number = |value: u32| if is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let wide = |value: u64| if is_big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
    let mut levels: Vec<&Vec<u8>> = lines.iter().filter_map(|line| line.level.as_ref()).collect();
    levels.sort();
    levels.dedup();
    let base = NEW_HEAD + lines.len() * NEW_LINE;
    let mut strings: Vec<u8> = Vec::new();
    let mut add = |text: &[u8]| {
        let at = (base + strings.len()) as u32;
        strings.extend(text);
        strings.push(0);
        at
    };
    let mut table = Vec::new();
    for line in lines {
        let hwcap = match &line.level {
            Some(level) => 1 << 62 | levels.iter().position(|known| *known == level).unwrap_or(0) as u64,
            None => line.hwcap,
        };
        table.extend(number(line.flags));
        table.extend(number(add(&line.name)));
        table.extend(number(add(&line.path)));
        table.extend(number(0));
        table.extend(wide(hwcap));
    }
    let names: Vec<u32> = levels.iter().map(|level| start as u32 + add(level)).collect();
    let strings_len = strings.len() as u32;
    let extension = (base + strings.len()).next_multiple_of(4);
    strings.resize(extension - base, 0);
    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    bytes.extend(number(lines.len() as u32));
    bytes.extend(number(strings_len));
    bytes.extend([if is_big_endian { 3 } else { 2 }, 0, 0, 0]);
    let extension = start + extension;
    bytes.extend(number(extension as u32));
    bytes.extend([0; 12]);
    bytes.extend(table);
    bytes.extend(strings);
    for word in [0xeaa4_2174, 1, 1, 0, extension as u32 + 24, names.len() as u32 * 4] {
        bytes.extend(number(word));
    }
    bytes.extend(names.into_iter().flat_map(number));
    bytes
}

/// Compares as glibc does: runs of digits by their value.
fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let key = |text: &[u8]| {
        let mut parts: Vec<(u8, u64)> = Vec::new();
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                parts.push((0, u64::from(*first)));
                rest = after;
            } else {
                let value = rest[..digits].iter().fold(0_u64, |value, digit| {
                    value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
                });
                parts.push((1, value));
                rest = &rest[digits..];
            }
        }
        parts
    };
    key(left).cmp(&key(right))
}
