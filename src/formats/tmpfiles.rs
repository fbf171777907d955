//! The lines of a tmpfiles.d file -> the directories that it makes (tmpfiles.d(5)).

/// The largest such file that is read, in bytes.
pub const TMPFILES_MAX: u64 = 1 << 20;

/// A directory to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Where.
    pub path: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Whose: a name or a number; `root` if nothing is said.
    pub user: Vec<u8>,
    /// The group: a name or a number; `root` if nothing is said.
    pub group: Vec<u8>,
}

/// Returns the directories that the lines of `text` make. Those with specifiers in their paths depend on the machine,
/// and are left out.
pub fn directories(text: &[u8]) -> Vec<Directory> {
    text.split(|byte| *byte == b'\n').filter_map(directory).collect()
}

fn directory(line: &[u8]) -> Option<Directory> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (kind, path) = (words.next()?, words.next()?);
    let makes_directory = matches!(kind.first()?, b'd' | b'D' | b'v' | b'q' | b'Q');
    // Flags follow the letter; `!` means only at boot, which is when a container starts too.
    let has_known_flags = kind.get(1..)?.iter().all(|flag| b"!-=~^+$".contains(flag));
    if !makes_directory || !has_known_flags || !path.starts_with(b"/") || path.contains(&b'%') {
        return None;
    }
    let mode = match words.next() {
        None | Some(b"-") => 0o755,
        Some(text) => mode(text)?,
    };
    let mut account = || match words.next() {
        None | Some(b"-") => b"root".to_vec(),
        Some(name) => name.strip_prefix(b":").unwrap_or(name).to_vec(),
    };
    let (user, group) = (account(), account());
    Some(Directory { path: path.to_vec(), mode, user, group })
}

fn mode(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"~").unwrap_or(text);
    let digits = digits.strip_prefix(b":").unwrap_or(digits);
    let mode = u32::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()?;
    (mode <= 0o7777).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_count() {
        let text = b"# comment\nd /run/postgresql 2775 postgres postgres - -\nD! /run/x - - -\nf /run/f 0644 root root\n\
            d /run/user/%U 0700\nd relative\nd /run/bad 99 a b\nq /var/q ~0750 :daemon :0\n";
        let shown: Vec<_> = directories(text)
            .iter()
            .map(|found| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let (path, user, group) = (text(&found.path), text(&found.user), text(&found.group));
                format!("{path} {:04o} {user}:{group}", found.mode)
            })
            .collect();
        assert_eq!(
            shown,
            ["/run/postgresql 2775 postgres:postgres", "/run/x 0755 root:root", "/var/q 0750 daemon:0"]
        );
    }
}
