//! For every input, taken as an nsswitch.conf:
//! - no panic, bounded memory;
//! - no name of a service is empty, has blanks in it, or could be a path.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::nsswitch::services;
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let found = services(bytes);
    let names = || found.values().flatten();
    assert!(names().all(|name| !name.is_empty() && !name.contains(&b'/')));
    assert!(names().all(|name| !name.iter().any(u8::is_ascii_whitespace)));
    signature(&[found.len(), names().count()])
}

fn seeds() -> Vec<Vec<u8>> {
    let text: &[u8] = b"passwd: files systemd\nhosts: files mdns4_minimal [NOTFOUND=return] dns # end\n";
    vec![text.to_vec()]
}
