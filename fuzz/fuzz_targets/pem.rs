//! For every input, taken as the first bytes of a file:
//! - no panic;
//! - what is a private key is one behind other lines too, and as Windows ends lines.
#![cfg_attr(fuzzing, no_main)]

use minimage::formats::pem::starts_private_key;
use minimage_fuzz::signature;

minimage_fuzz::target!(check, seeds);

fn check(bytes: &[u8]) -> u64 {
    let found = starts_private_key(bytes);
    assert_eq!(starts_private_key(&[b"remark\n", bytes].concat()), found);
    assert_eq!(starts_private_key(&[bytes, b"\r\n"].concat()), found);
    signature(&[usize::from(found), bytes.split(|byte| *byte == b'\n').count()])
}

fn seeds() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 3] = [
        b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n",
        b"Bag Attributes\n-----BEGIN ENCRYPTED PRIVATE KEY-----\r\n",
        b"-----BEGIN CERTIFICATE-----\n",
    ];
    texts.map(<[u8]>::to_vec).into()
}
