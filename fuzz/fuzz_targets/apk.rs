//! For every input, taken as apk's database:
//! - no panic, bounded time and memory;
//! - names are words, paths are absolute;
//! - cut to all its files, a package is what it was; cut to none, it has no file.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::apk::{cut, parse};
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let Ok(packages) = parse(bytes) else { return signature(&[usize::MAX]) };
    let mut files = 0;
    for package in &packages {
        let words = [&package.name, &package.version, &package.architecture, &package.origin];
        for word in words.into_iter().chain(&package.depends).chain(&package.provides) {
            assert!(!word.is_empty() && !word.contains([' ', '\n']));
        }
        assert!(package.files.iter().all(|file| file.path.starts_with(b"/")));
        files += package.files.len();
        let whole = cut(&package.text, &|_| true);
        let none = cut(&package.text, &|_| false);
        assert!(none.len() <= whole.len() && whole.len() <= package.text.len());
        assert!(!none.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"R:")));
    }
    signature(&[packages.len(), files, packages.iter().map(|package| package.depends.len()).sum()])
}

fn seeds() -> Vec<Vec<u8>> {
    let text: &[u8] = b"C:Q1pS=\nP:zlib\nV:1.3.1-r0\nA:x86_64\no:zlib\nD:so:libc.musl-x86_64.so.1 a>=1 !b\n\
        p:so:libz.so.1=1\nF:lib\nM:0:0:0750\nR:libz.so.1\na:0:0:777\nZ:Q1abc=\nF:usr\nF:usr/share\nR:x y\n\n\
        P:base\nV:1\nA:noarch\nF:\nR:motd\n";
    vec![text.to_vec()]
}
