//! The first bytes of a file -> does a private key start there (RFC 7468, and the older forms of OpenSSL and OpenSSH)?

/// The largest file that is taken for a key, in bytes. One of 16,384 bits has 13 KiB.
pub const KEY_MAX: u64 = 16 << 10;
/// How much of a file is looked at, in bytes: certificates and remarks may come before the key.
pub const HEAD: u64 = 1 << 10;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"PRIVATE KEY-----";

/// Returns whether one of the lines of `head` starts a private key: `-----BEGIN RSA PRIVATE KEY-----` and the like.
pub fn starts_private_key(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\n').any(|line| {
        let label = line.trim_ascii().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
        label.is_some_and(|label| label.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b' '))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_from_what_is_public() {
        for (head, expected) in [
            ("-----BEGIN PRIVATE KEY-----\nMII", true),
            ("-----BEGIN RSA PRIVATE KEY-----\r\nMII", true),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", true),
            ("Bag Attributes\n-----BEGIN ENCRYPTED PRIVATE KEY-----\n", true),
            ("-----BEGIN CERTIFICATE-----\nMII", false),
            ("-----BEGIN PUBLIC KEY-----\nMII", false),
            ("It says \"-----BEGIN PRIVATE KEY-----\" at the top.", false),
            ("-----BEGIN my PRIVATE KEY-----", false),
            ("-----BEGIN ", false),
            ("", false),
        ] {
            assert_eq!(starts_private_key(head.as_bytes()), expected, "{head}");
        }
    }
}
