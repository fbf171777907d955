//! For every input, taken as a tar:
//! - no panic, bounded time and memory;
//! - paths are absolute and normal, and lead nowhere else;
//! - the bytes of each file are in the tar, after those of the file before.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::tar::{MemberKind, members};
use minimage::path::RootPath;
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let mut seen = Vec::new();
    let mut end = 0;
    for member in members(&bytes) {
        let Ok(member) = member else {
            seen.push(0);
            break;
        };
        assert!(RootPath::from_normal(member.path.as_bytes()).is_some(), "{}", member.path);
        assert!(member.mode <= 0o7777);
        seen.push(match &member.kind {
            MemberKind::File { offset, size } => {
                assert!(*offset >= end && offset + size <= bytes.len() as u64);
                end = offset + size;
                1
            }
            MemberKind::Sparse { .. } => 2,
            MemberKind::Directory => 3,
            MemberKind::Link(target) => {
                assert!(!target.as_bytes().is_empty());
                4
            }
            MemberKind::HardLink(target) => {
                assert!(RootPath::from_normal(target.as_bytes()).is_some(), "{target}");
                5
            }
            MemberKind::Special(_) => 6,
        });
    }
    signature(&seen)
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = member(b'5', b"d/", b"", b"");
    all.extend(member(b'0', b"d/file", b"", b"contents"));
    all.extend(member(b'1', b"hard", b"d/file", b""));
    all.extend(member(b'2', b"soft", b"../d/file", b""));
    all.extend(member(b'6', b"fifo", b"", b""));
    let mut extended = member(b'x', b"pax", b"", b"18 path=long/name\n16 size=0000007\n");
    extended.extend(member(b'0', b"short", b"", b"7 bytes"));
    extended.extend(member(b'L', b"", b"", b"gnu/long/name\0"));
    extended.extend(member(b'K', b"", b"", b"gnu/long/link\0"));
    extended.extend(member(b'2', b"short", b"short", b""));
    extended.extend(member(b'S', b"sparse", b"", b"abc"));
    [all, extended].into_iter().map(|tar| [tar.as_slice(), &[0; 1024]].concat()).collect()
}

/// Returns one member: header, bytes, padding.
fn member(kind: u8, name: &[u8], link: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", bytes.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend(bytes);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}
