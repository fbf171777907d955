//! The lines of `/etc/passwd` and `/etc/group` -> users and groups (passwd(5), group(5)), and back.

/// The largest file of accounts that is read, in bytes.
pub const ACCOUNTS_MAX: u64 = 16 << 20;

/// One user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: Vec<u8>,
    /// The number.
    pub uid: u32,
    /// The number of the primary group.
    pub gid: u32,
    /// The home directory.
    pub home: Vec<u8>,
    /// The login shell.
    pub shell: Vec<u8>,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The name.
    pub name: Vec<u8>,
    /// The number.
    pub gid: u32,
    /// The names of the users who are in it besides those whose primary group it is.
    pub members: Vec<Vec<u8>>,
}

/// Returns the users in the text of `/etc/passwd`. Lines that the C library would pass over are passed over.
pub fn users(text: &[u8]) -> Vec<User> {
    let user = |line: &[u8]| {
        let [name, _, uid, gid, _, home, shell] = fields(line)?;
        is_name(name).then_some(User {
            name: name.to_vec(),
            uid: number(uid)?,
            gid: number(gid)?,
            home: home.to_vec(),
            shell: shell.to_vec(),
        })
    };
    lines(text).filter_map(user).collect()
}

/// Returns the groups in the text of `/etc/group`.
pub fn groups(text: &[u8]) -> Vec<Group> {
    let group = |line: &[u8]| {
        let [name, _, gid, members] = fields(line)?;
        let members = members.split(|byte| *byte == b',').filter(|name| is_name(name));
        is_name(name).then_some(Group {
            name: name.to_vec(),
            gid: number(gid)?,
            members: members.map(<[u8]>::to_vec).collect(),
        })
    };
    lines(text).filter_map(group).collect()
}

/// Where the password of a user is looked for (passwd(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Password {
    /// Nowhere: none fits, and everything else that an account is for works. A user of `Shadow` whom no shadow file
    /// knows is turned away by PAM, even with a key.
    None,
    /// In `/etc/shadow`.
    Shadow,
}

impl User {
    /// Returns the line of `/etc/passwd`, without anything about the person.
    pub fn line(&self, password: Password) -> Vec<u8> {
        let password = match password {
            Password::None => '*',
            Password::Shadow => 'x',
        };
        let numbers = format!(":{password}:{}:{}::", self.uid, self.gid);
        [&self.name, numbers.as_bytes(), &self.home, b":", &self.shell, b"\n"].concat()
    }
}

impl Group {
    /// Returns the line of `/etc/group`.
    pub fn line(&self) -> Vec<u8> {
        let number = format!(":x:{}:", self.gid);
        [&self.name, number.as_bytes(), &self.members.join(&b','), b"\n"].concat()
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.contains(&0))
}

fn fields<const N: usize>(line: &[u8]) -> Option<[&[u8]; N]> {
    line.split(|byte| *byte == b':').collect::<Vec<_>>().try_into().ok()
}

/// Returns whether `name` is one of an account, not a comment or a line of NIS (`+`, `-`).
fn is_name(name: &[u8]) -> bool {
    name.first().is_some_and(|byte| !b"#+-".contains(byte) && !byte.is_ascii_whitespace())
}

fn number(text: &[u8]) -> Option<u32> {
    let is_decimal = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| is_decimal)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_stay_out_of_lines() {
        let text = b"root:secret:0:0:The Boss,Room 1:/root:/bin/bash\n# no\n+nis::::::\nbad:x:-1:0::/:/\nshort:x:1\n\
            www:x:33:33::/var/www:\n";
        let lines = |password| -> Vec<_> {
            users(text).iter().map(|user| String::from_utf8(user.line(password)).unwrap()).collect()
        };
        assert_eq!(lines(Password::None), ["root:*:0:0::/root:/bin/bash\n", "www:*:33:33::/var/www:\n"]);
        assert_eq!(lines(Password::Shadow), ["root:x:0:0::/root:/bin/bash\n", "www:x:33:33::/var/www:\n"]);
    }

    #[test]
    fn groups_have_members() {
        let found = groups(b"ssl-cert:x:110:postgres,,www\nempty:*:7:\nnot a group\n");
        assert_eq!(found[0].members, [b"postgres".to_vec(), b"www".to_vec()]);
        let lines: Vec<_> = found.iter().map(|group| String::from_utf8(group.line()).unwrap()).collect();
        assert_eq!(lines, ["ssl-cert:x:110:postgres,www\n", "empty:x:7:\n"]);
    }
}
