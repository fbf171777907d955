//! For every input, taken as each file of dpkg's database:
//! - no panic, bounded time and memory;
//! - names can be names of files; paths of a list are absolute; lines of checksums are lines of the file;
//! - a stanza without its configuration files is the same package.
#![cfg_attr(fuzzing, no_main)]

use std::collections::HashSet;

use minimage::formats::dpkg::{diversions, list, md5sums, stanzas, ucf_registry, with_conffiles};
use minimage::path::RootPath;
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let packages = stanzas(bytes);
    for package in packages.iter().flatten() {
        let words = [&package.name, &package.version, &package.architecture, &package.source];
        for word in words.into_iter().chain(&package.depends).chain(&package.provides) {
            assert!(!word.is_empty() && !word.contains(['/', ' ', '\n']));
        }
        let cut = with_conffiles(&package.text, &HashSet::new());
        assert!(cut.len() <= package.text.len());
        let again = stanzas(&cut);
        let again =
            again.as_ref().map(|again| again.first().map(|package| (&package.name, &package.version)));
        assert_eq!(again, Ok(Some((&package.name, &package.version))));
    }
    let paths = list(bytes).inspect(|path| assert!(path.len() > 1 && path.starts_with(b"/"))).count();
    let sums = md5sums(bytes).inspect(|line| assert!(line.text.len() > 34 && !line.path.is_empty())).count();
    let registered = ucf_registry(bytes)
        .inspect(|(package, path)| assert!(!package.contains([' ', '\n']) && path.starts_with(b"/")));
    let registered = registered.count();
    let moved = diversions(bytes);
    let real = moved.iter().flatten().filter(|moved| RootPath::from_normal(moved.to.as_bytes()).is_some());
    signature(&[packages.map_or(9, |packages| packages.len()), paths, sums, registered, real.count()])
}

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 5] = [
        b"Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc (2.36)\nVersion: 2.36-9\n\
          Depends: libgcc-s1, libcrypt1 (>= 1:4.4) | a:any\nPre-Depends: b [amd64]\nConffiles:\n /etc/x d41d8cd9\n\
          Description: GNU C Library\n More.\n\nPackage: gone\nStatus: deinstall ok config-files\n",
        b"/.\n/etc\n/etc/x y\n/usr/lib/x\n",
        b"d017d976328c091c70977d2cf89a0cdd  usr/x y\nd017d976328c091c70977d2cf89a0cdd  ./usr/z\n",
        b"samba-common \t /etc/samba/smb.conf\nx\t/etc/x y\n",
        b"/bin/sh\n/bin/sh.distrib\ndash\n/a\n/b\n:\n",
    ];
    texts.map(<[u8]>::to_vec).into()
}
