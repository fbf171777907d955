//! For every input, taken as a server's configuration:
//! - no panic, bounded memory;
//! - every name could be that of a user, and stands in the input.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::directives::users;
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let found = users(bytes);
    for name in &found {
        assert!(!name.is_empty() && !name.contains(&b':') && !name.contains(&b'/'));
        assert!(bytes.windows(name.len()).any(|window| window == name.as_slice()));
    }
    signature(&[found.len(), found.first().map_or(0, Vec::len)])
}

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 2] = [
        b"user www-data;\nworker_processes auto;\n",
        b"export APACHE_RUN_USER=www-data\nUser x\nuser = \"mysql\"\n",
    ];
    texts.map(<[u8]>::to_vec).into()
}
