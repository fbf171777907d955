//! For every input, and for each lazily read table of what parses:
//! - no panic, bounded time and memory, whatever counts and lengths the file claims;
//! - names are within their limit and hold no NUL;
//! - how a source cuts its answers to reads does not change the result.
#![cfg_attr(fuzzing, no_main)]

#[path = "../../tests/elf_writer.rs"]
mod elf_writer;

use std::io;

use elf_writer::{ElfFile, Note, Tag, VersionNeed};
use minimage::formats::ReadAt;
use minimage::formats::elf::{DYNAMIC_MAX, Elf, STRING_MAX};
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

/// A source that gives a few bytes at a time.
struct Trickle<'a>(&'a [u8]);

impl ReadAt for Trickle<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(7);
        self.0.read_at(offset, &mut buffer[..len])
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

fn check(bytes: &[u8]) -> u64 {
    let elf = Elf::parse(&bytes);
    if bytes.len() < 4096 {
        assert_eq!(format!("{elf:?}"), format!("{:?}", Elf::parse(&Trickle(bytes))));
    }
    let elf = match elf {
        Ok(elf) => elf,
        Err(error) => return kind(&error),
    };
    assert!(elf.needs.len() as u64 <= DYNAMIC_MAX / 8);
    let strings = [&elf.interp, &elf.soname, &elf.rpath, &elf.runpath].into_iter().flatten();
    for name in strings.chain(elf.needs.iter().map(|need| &need.name)).chain(&elf.audit) {
        assert!(name.len() <= STRING_MAX && !name.contains(&0));
    }
    let file = &bytes;
    let tables = [
        elf.version_needs(file).map_or_else(|error| kind(&error), |needs| needs.len() as u64),
        elf.version_definitions(file)
            .map_or_else(|error| kind(&error), |names| names.map_or(0, |names| names.len() as u64)),
        elf.imports(file).map_or_else(|error| kind(&error), |names| names.len() as u64),
    ];
    let sonames = elf.soname_strings(file).expect("memory can be read");
    assert!(sonames.iter().all(|name| name.starts_with(b"lib") && !name.contains(&0)));
    let [needs, definitions, imports] = tables.map(|table| table as usize);
    signature(&[
        usize::from(elf.is_static()),
        elf.class as usize,
        elf.byte_order as usize,
        elf.needs.len(),
        elf.audit.len(),
        elf.dlopen_notes.len(),
        usize::from(elf.interp.is_some()),
        usize::from(elf.runpath.is_some()),
        needs,
        definitions,
        imports,
        sonames.len(),
    ])
}

/// Returns a number for what an error says, without the numbers in it.
fn kind(error: &dyn std::error::Error) -> u64 {
    let text = error.to_string();
    let letters: Vec<usize> =
        text.bytes().filter(|byte| !byte.is_ascii_hexdigit()).map(usize::from).collect();
    signature(&letters)
}

fn seeds() -> Vec<Vec<u8>> {
    let library = ElfFile {
        tags: vec![
            (Tag::Needed, b"libc.so.6".to_vec()),
            (Tag::Soname, b"libx.so.1".to_vec()),
            (Tag::Runpath, b"$ORIGIN/../lib".to_vec()),
            (Tag::Auxiliary, b"liby.so".to_vec()),
            (Tag::Audit, b"liba.so:libb.so".to_vec()),
        ],
        version_needs: vec![
            VersionNeed {
                soname: b"libc.so.6".to_vec(),
                versions: vec![(b"GLIBC_2.34".to_vec(), false), (b"GLIBC_2.2.5".to_vec(), true)],
            },
            VersionNeed { soname: b"libm.so.6".to_vec(), versions: vec![(b"GLIBC_2.29".to_vec(), false)] },
        ],
        version_definitions: vec![b"libx.so.1".to_vec(), b"X_1".to_vec()],
        imports: vec![b"dlopen".to_vec(), b"getaddrinfo".to_vec()],
        notes: vec![Note {
            owner: b"FDO".to_vec(),
            kind: 0x407c_0c0a,
            description: b"[{\"soname\":[\"libz.so.1\"]}]\0".to_vec(),
        }],
        read_only: b"\0libopened.so.2\0text\0".to_vec(),
        ..ElfFile::default()
    };
    let program = ElfFile { interp: Some(b"/lib64/ld-linux-x86-64.so.2".to_vec()), ..library.clone() };
    let other = |is_64, is_big_endian, machine| ElfFile { is_64, is_big_endian, machine, ..program.clone() };
    let files = [
        ElfFile { is_dynamic: false, e_type: elf_writer::ET_EXEC, ..ElfFile::default() },
        other(false, false, 3),
        other(false, true, 8),
        other(true, true, 22),
        library,
        program,
    ];
    files.iter().map(ElfFile::to_bytes).collect()
}
