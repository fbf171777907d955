//! The text of a server's configuration -> the users that it names: `user www-data;`, `User www-data`, `user = mysql`,
//! `User=mysql` of a systemd unit, `export APACHE_RUN_USER=www-data`.

use std::collections::BTreeSet;

/// The largest such file that is read, in bytes.
pub const CONFIGURATION_MAX: u64 = 4 << 20;
/// The longest name of a user, as useradd(8) has it.
const NAME_MAX: usize = 32;

/// Returns the names that lines with the word `user` give, sorted. Whether there are such users, the caller knows.
pub fn users(text: &[u8]) -> BTreeSet<Vec<u8>> {
    text.split(|byte| *byte == b'\n').filter_map(user).collect()
}

fn user(line: &[u8]) -> Option<Vec<u8>> {
    let line = line.trim_ascii();
    let line = line.strip_prefix(b"export ").unwrap_or(line).trim_ascii_start();
    let end = line.iter().position(|byte| !byte.is_ascii_alphanumeric() && !b"_-".contains(byte))?;
    let (key, rest) = line.split_at_checked(end)?;
    if !is_user_key(key) {
        return None;
    }
    let rest = rest.trim_ascii_start();
    let rest = rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii_start();
    let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
    let end = rest.iter().position(|byte| !is_in_name(*byte)).unwrap_or(rest.len());
    let (name, after) = rest.split_at_checked(end)?;
    let ends = after.first().is_none_or(|byte| byte.is_ascii_whitespace() || b";\"#".contains(byte));
    let is_name = name.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
    (is_name && ends && name.len() <= NAME_MAX).then(|| name.to_vec())
}

/// Returns whether `key` gives a user: the word alone, or at the end of another with a joint between them.
fn is_user_key(key: &[u8]) -> bool {
    let lower = key.to_ascii_lowercase();
    lower == b"user" || lower.ends_with(b"_user") || lower.ends_with(b"-user")
}

fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-.".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_in_many_ways() {
        for (line, expected) in [
            ("user www-data;", Some("www-data")),
            ("user  nginx nginx;", Some("nginx")),
            ("User apache", Some("apache")),
            ("user\t\t= mysql", Some("mysql")),
            ("user=_x # y", Some("_x")),
            ("User=mysql", Some("mysql")),
            ("User=%i", None),
            ("export APACHE_RUN_USER=www-data", Some("www-data")),
            ("  default_internal_user = dovecot", Some("dovecot")),
            ("#user nobody;", None),
            ("User ${APACHE_RUN_USER}", None),
            ("user = 1000", None),
            ("username x", None),
            ("superuser x", None),
            ("user", None),
            ("user /etc/passwd", None),
        ] {
            let found = users(line.as_bytes());
            let shown = found.first().map(|name| str::from_utf8(name).unwrap());
            assert_eq!(shown, expected, "{line}");
        }
    }
}
