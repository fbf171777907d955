//! For every input:
//! - no panic, bounded time and memory, however deep the JSON is;
//! - an entry has at least one name; no name is empty or holds a NUL; there are no more than the limit.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::dlopen_note::parse;
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let entries = parse(bytes);
    assert!(entries.len() <= 256);
    for entry in &entries {
        assert!((1..=256).contains(&entry.sonames.len()));
        assert!(entry.sonames.iter().all(|name| !name.is_empty() && !name.contains(&0)));
    }
    let priorities = entries.iter().fold(0, |seen, entry| seen | 1 << entry.priority as usize);
    let names = entries.iter().map(|entry| entry.sonames.len()).sum();
    signature(&[entries.len(), names, priorities])
}

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 4] = [
        br#"[{"feature":"xz","description":"Support xz","priority":"suggested","soname":["liblzma.so.5"]}]"#,
        b"[{\"soname\":[\"libbpf.so.1\",\"libbpf.so.0\"],\"priority\":\"required\",\"extra\":{}},{\"soname\":[\"liba.so\"]}]\0\0",
        b"[{\"soname\":[\"a\\u0000b\",\"lib\\u00e9.so\",\"\"],\"priority\":7,\"feature\":[[[]]]}]",
        b"[[[[[[[[{}]]]]]]]]",
    ];
    texts.map(<[u8]>::to_vec).into()
}
