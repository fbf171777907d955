//! For every input, taken as a file of users and of groups:
//! - no panic, bounded memory;
//! - what is written of an account reads back as the same account, alone on its line.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::accounts::{Password, groups, users};
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let (users_found, groups_found) = (users(bytes), groups(bytes));
    for user in &users_found {
        for password in [Password::None, Password::Shadow] {
            assert_eq!(users(&user.line(password)), std::slice::from_ref(user));
        }
    }
    for group in &groups_found {
        assert_eq!(groups(&group.line()), std::slice::from_ref(group));
    }
    let members: usize = groups_found.iter().map(|group| group.members.len()).sum();
    signature(&[users_found.len(), groups_found.len(), members])
}

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 2] = [
        b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n+::::::\n",
        b"root:x:0:\nssl-cert:x:110:postgres,www-data\n# comment\n",
    ];
    texts.map(<[u8]>::to_vec).into()
}
