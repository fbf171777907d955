//! For every input, taken as a header of rpm's database:
//! - no panic, bounded time and memory;
//! - names are one line; there are no more files than bytes.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::rpm::{parse, source};
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let Ok(header) = parse(bytes) else { return signature(&[usize::MAX]) };
    for word in [&header.name, &header.version, &header.release].into_iter().chain(&header.requires) {
        assert!(!word.is_empty() && !word.contains('\n'));
    }
    if let Some((name, version)) = header.source_rpm.as_deref().and_then(source) {
        assert!(version.contains('-') && name.len() + version.len() < bytes.len());
    }
    assert!(header.files.len() <= bytes.len());
    let ghosts = header.files.iter().filter(|file| file.is_ghost).count();
    signature(&[header.files.len(), ghosts, header.requires.len(), header.provides.len()])
}

/// Returns a header with values of all types that are read.
fn seeds() -> Vec<Vec<u8>> {
    let values: [(u32, u32, u32, &[u8]); 12] = [
        (1000, 6, 1, b"hello\0"),
        (1001, 6, 1, b"2.0\0"),
        (1002, 6, 1, b"3\0"),
        (1003, 4, 1, &[0, 0, 0, 1]),
        (1022, 6, 1, b"x86_64\0"),
        (1030, 3, 2, &[0x81, 0xa4, 0x81, 0xed]),
        (1037, 4, 2, &[0, 0, 0, 0, 0, 0, 0, 64]),
        (1044, 6, 1, b"hello-2.0-3.src.rpm\0"),
        (1049, 8, 2, b"/bin/sh\0libc.so.6()(64bit)\0"),
        (1116, 4, 2, &[0, 0, 0, 0, 0, 0, 0, 1]),
        (1117, 8, 2, b"hello\0hello.conf\0"),
        (1118, 8, 2, b"/usr/bin/\0/etc/\0"),
    ];
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (tag, kind, count, bytes) in values {
        for field in [tag, kind, data.len() as u32, count] {
            entries.extend(field.to_be_bytes());
        }
        data.extend(bytes);
    }
    let counts = [values.len() as u32, data.len() as u32].map(u32::to_be_bytes).concat();
    vec![[counts, entries, data].concat()]
}
