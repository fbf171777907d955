//! For every input, taken as a file and, cut in two, as a glob and a name:
//! - no panic, bounded time and memory;
//! - a directory is not empty, has no line end in it and no slash at its end;
//! - a name matches itself, escaped, and `*` unless it is hidden.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::ldso_conf::{ConfLine, matches, parse};
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let (mut directories, mut includes) = (0, 0);
    for line in parse(bytes) {
        let path = match &line {
            ConfLine::Directory(path) => {
                directories += 1;
                assert!(!path.as_bytes().ends_with(b"/"));
                path
            }
            ConfLine::Include(path) => {
                includes += 1;
                path
            }
        };
        assert!(!path.as_bytes().is_empty() && !path.as_bytes().contains(&b'\n'));
    }
    // Names have at most 255 bytes.
    let cut = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len() / 2);
    let (pattern, name) = bytes.split_at(cut.min(bytes.len()));
    let name = &name[..name.len().min(255)];
    let is_match = matches(&pattern[..pattern.len().min(4096)], name);
    let escaped: Vec<u8> = name.iter().flat_map(|byte| [b'\\', *byte]).collect();
    let is_hidden = name.first() == Some(&b'.');
    assert!(is_hidden || matches(&escaped, name));
    assert_eq!(matches(b"*", name), !is_hidden);
    signature(&[directories, includes, usize::from(is_match), cut])
}

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 4] = [
        b"include /etc/ld.so.conf.d/*.conf\n/usr/local/lib\n# comment\n/opt/lib=libc6\nhwcap 1 nosegneg\n",
        b"*.[ch]o?f\0a.conf",
        b"a*b*c*[!x-z]*d\0aXbYbZcQd",
        b"\\*[]a]\0*]",
    ];
    texts.map(<[u8]>::to_vec).into()
}
