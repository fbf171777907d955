//! For every input, taken as a cache and looked through as a loader does:
//! - no panic, bounded time and memory;
//! - what is found is a string of the file, without a NUL;
//! - what is written from the same bytes, taken as names, is found again.
#![cfg_attr(fuzzing, no_main)]

#[path = "../../tests/cache_writer.rs"]
mod cache_writer;

use cache_writer::{Format, Line};
use minimage::formats::elf::ByteOrder;
use minimage::formats::ldso_cache::{CacheLine, LdsoCache, write};
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

const NAMES: [&[u8]; 5] = [b"libz.so.1", b"libz.so.01", b"libq.so.10", b"lib", b""];

fn check(bytes: &[u8]) -> u64 {
    let mut seen = Vec::new();
    for byte_order in [ByteOrder::Little, ByteOrder::Big] {
        let cache = LdsoCache::parse(bytes.to_vec(), byte_order);
        seen.push(usize::from(cache.is_some()));
        let Some(cache) = cache else { continue };
        let lines = cache.lines().unwrap_or_default();
        assert!(lines.iter().map(|line| line.name.len() + line.path.len()).sum::<usize>() <= 4 * bytes.len());
        seen.push(lines.len());
        for name in NAMES {
            for hwcaps in [&[][..], &[b"x86-64-v3".as_slice(), b"x86-64-v2"]] {
                let found = cache.find(name, &[0x303, 3], hwcaps);
                seen.push(found.map_or(0, |path| 1 + path.len()));
                if let Some(path) = found {
                    assert!(!path.contains(&0));
                    assert!(path.is_empty() || bytes.windows(path.len()).any(|window| window == path));
                }
            }
        }
    }
    round_trip(bytes);
    signature(&seen)
}

fn round_trip(bytes: &[u8]) {
    let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty()).take(16);
    let lines: Vec<_> = names
        .map(|name| CacheLine { name: name.to_vec(), path: [b"/", name].concat(), flags: 0x303, hwcap: None })
        .collect();
    let written = write(&lines, ByteOrder::Little);
    let cache = LdsoCache::parse(written, ByteOrder::Little).expect("we wrote it");
    for line in &lines {
        // Names that differ in leading zeros of numbers are one name to a loader.
        assert!(cache.find(&line.name, &[0x303], &[]).is_some(), "{:?}", line.name);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let line = |name: &[u8], path: &[u8], flags, level: Option<&[u8]>| Line {
        name: name.to_vec(),
        path: path.to_vec(),
        flags,
        level: level.map(<[u8]>::to_vec),
        hwcap: 0,
    };
    let lines = [
        line(b"libz.so.1", b"/lib/libz.so.1", 0x303, None),
        line(b"libz.so.1", b"/lib/v2/libz.so.1", 0x303, Some(b"x86-64-v2")),
        line(b"libz.so.1", b"/lib32/libz.so.1", 3, None),
        line(b"libq.so.10", b"/opt/libq.so.10", 0x303, None),
        line(b"lib", b"/opt/lib", 0x303, None),
    ];
    let formats = [(Format::New, false), (Format::New, true), (Format::Old, false), (Format::Compat, false)];
    formats
        .into_iter()
        .map(|(format, is_big_endian)| cache_writer::cache(&lines, format, is_big_endian))
        .collect()
}
