//! For every input, taken as a tmpfiles.d file:
//! - no panic, bounded memory;
//! - every directory is absolute, with a mode that a directory can have.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::tmpfiles::directories;
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let found = directories(bytes);
    assert!(found.iter().all(|directory| directory.path.starts_with(b"/") && directory.mode <= 0o7777));
    assert!(found.iter().all(|directory| !directory.user.contains(&b'\n')));
    signature(&[found.len(), found.first().map_or(0, |directory| directory.mode as usize)])
}

fn seeds() -> Vec<Vec<u8>> {
    let text: &[u8] =
        b"d /run/postgresql 2775 postgres postgres - -\nD! /run/x - -\nf /run/y 0644 root root - z\n";
    vec![text.to_vec()]
}
