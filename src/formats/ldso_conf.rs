//! `/etc/ld.so.conf` -> the directories that ldconfig(8) would look into, and the files it includes.
//!
//! No loader reads this file; it matters only for root filesystems whose ldconfig has not run yet.

use crate::path::RawPath;

/// The most lines of one file that count.
const LINES_MAX: usize = 10_000;

/// One line that means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfLine {
    /// A directory with libraries.
    Directory(RawPath),
    /// Other files of this kind, as a glob; a relative one counts from the directory of this file.
    Include(RawPath),
}

/// Returns the lines of the file `bytes` that mean something, in order.
pub fn parse(bytes: &[u8]) -> Vec<ConfLine> {
    let lines = bytes.split(|byte| *byte == b'\n').take(LINES_MAX);
    lines.flat_map(|line| parse_line(line.split(|byte| *byte == b'#').next().unwrap_or_default())).collect()
}

fn parse_line(line: &[u8]) -> Vec<ConfLine> {
    let line = line.trim_ascii();
    let words = || line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    match words().next() {
        None => Vec::new(),
        Some(b"include") => words().skip(1).map(|glob| ConfLine::Include(RawPath::new(glob))).collect(),
        // Of the time of numbered CPU capabilities; ldconfig passes over it.
        Some(b"hwcap") => Vec::new(),
        Some(_) => {
            // `directory=libc6` names a kind of library as well, which nobody needs any more.
            let path = line.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii_end();
            let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last.saturating_add(1));
            let path = path.get(..end).unwrap_or_default();
            if path.is_empty() { Vec::new() } else { vec![ConfLine::Directory(RawPath::new(path))] }
        }
    }
}

/// Returns whether `name` matches `pattern`, in which `*` is any run of bytes, `?` one byte and `[…]` one of a set
/// (glob(7)); neither matches a leading dot. Used for one path component at a time.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // The last star and where the name stood then: on a mismatch the star takes one byte more.
    let mut star: Option<(&[u8], &[u8])> = None;
    let (mut pattern, mut name) = (pattern, name);
    loop {
        match (pattern.split_first(), name.split_first()) {
            (Some((b'*', rest)), _) => {
                star = Some((rest, name));
                pattern = rest;
                continue;
            }
            (None, None) => return true,
            (Some(_), Some((byte, after))) => {
                if let Some(rest) = matches_one(pattern, *byte) {
                    (pattern, name) = (rest, after);
                    continue;
                }
            }
            _ => {}
        }
        match star {
            Some((rest, [_, after @ ..])) => {
                star = Some((rest, after));
                (pattern, name) = (rest, after);
            }
            _ => return false,
        }
    }
}

/// Returns the rest of `pattern` if its first element matches `byte`.
fn matches_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] if rest.contains(&b']') => {
            let end = rest.iter().skip(1).position(|byte| *byte == b']').map(|at| at.saturating_add(1))?;
            let (set, after) = (rest.get(..end)?, rest.get(end.saturating_add(1)..)?);
            let (set, is_negated) = match set {
                [b'!' | b'^', set @ ..] => (set, true),
                set => (set, false),
            };
            (in_set(set, byte) != is_negated).then_some(after)
        }
        [b'\\', literal, rest @ ..] => (*literal == byte).then_some(rest),
        [literal, rest @ ..] => (*literal == byte).then_some(rest),
        [] => None,
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let mut rest = set;
    loop {
        match rest {
            [low, b'-', high, after @ ..] => {
                if (*low..=*high).contains(&byte) {
                    return true;
                }
                rest = after;
            }
            [one, after @ ..] => {
                if *one == byte {
                    return true;
                }
                rest = after;
            }
            [] => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_ldconfig_reads_them() {
        let text = b"# comment\ninclude /etc/ld.so.conf.d/*.conf more/*.conf\n /opt/lib/ # mine\n\
            /usr/lib=libc6\nhwcap 1 nosegneg\n\n/with blank/x\n/\n";
        let directory = |path: &str| ConfLine::Directory(path.into());
        let include = |path: &str| ConfLine::Include(path.into());
        assert_eq!(
            parse(text),
            [
                include("/etc/ld.so.conf.d/*.conf"),
                include("more/*.conf"),
                directory("/opt/lib"),
                directory("/usr/lib"),
                directory("/with blank/x"),
            ]
        );
    }

    #[test]
    fn globs() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", false),
            ("*.conf", "a.conf~", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?.so", "x.so", true),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]x", "]x", true),
            ("\\*", "*", true),
            ("", "", true),
            ("*", "", true),
            ("[", "[", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        assert!(!matches(&b"*a".repeat(500), &b"a".repeat(400)));
    }
}
