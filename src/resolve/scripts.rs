//! The first line of a script -> who interprets it (execve(2), env(1)).

use std::io;

use crate::formats::{ReadAt, read_head};
use crate::path::RawPath;

/// How many interpreters may be scripts themselves (`bprm` depth of Linux).
pub(super) const DEPTH_MAX: usize = 5;
/// How much of the file the kernel looks at, in bytes (since Linux 5.1; 127 before).
const LINE_MAX: u64 = 256;

/// How a script is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The interpreter's path, as spelled.
    pub interp: RawPath,
    /// The command that the interpreter `env` starts in turn, as found in the search path.
    pub command: Option<RawPath>,
    /// Whether it is in the grammar of POSIX shells.
    pub is_shell: bool,
}

/// The first line of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shebang {
    /// The interpreter's path, as spelled.
    pub(super) interp: Vec<u8>,
    /// Everything after it: one argument, whatever blanks are in it.
    pub(super) argument: Option<Vec<u8>>,
}

/// Returns the first line of the script `file`, or `None` if it does not start with `#!` and a path.
pub(super) fn shebang(file: &dyn ReadAt) -> io::Result<Option<Shebang>> {
    Ok(parse(&read_head(file, LINE_MAX)?))
}

fn parse(head: &[u8]) -> Option<Shebang> {
    let line = head.strip_prefix(b"#!")?.split(|byte| matches!(byte, b'\n' | 0)).next()?;
    let line = trimmed(line);
    let end = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    let (interp, argument) = line.split_at(end);
    let argument = trimmed(argument);
    if interp.is_empty() {
        return None;
    }
    Some(Shebang {
        interp: interp.to_vec(),
        argument: if argument.is_empty() { None } else { Some(argument.to_vec()) },
    })
}

/// Returns the command that `env` would look up in PATH, if the interpreter is `env` and has one.
pub(super) fn env_command(shebang: &Shebang) -> Option<Vec<u8>> {
    let name = shebang.interp.rsplit(|byte| *byte == b'/').next()?;
    if name != b"env" {
        return None;
    }
    let argument = shebang.argument.as_deref()?;
    let is_split = ["-S", "--split-string", "-vS", "-iS", "-ivS"].iter().find_map(|option| {
        let rest = argument.strip_prefix(option.as_bytes())?;
        rest.first()
            .is_none_or(|byte| is_blank(*byte) || *byte == b'=' || !option.starts_with("--"))
            .then_some(rest)
    });
    // Without -S the kernel's one argument is the name of the command, blanks and all.
    let words = match is_split {
        Some(rest) => split_string(rest.strip_prefix(b"=").unwrap_or(rest)),
        None => vec![argument.to_vec()],
    };
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        match word.as_slice() {
            b"-u" | b"--unset" | b"-C" | b"--chdir" | b"-a" | b"--argv0" => {
                words.next();
            }
            b"--" => return words.find(|word| !word.contains(&b'=')),
            word if word.starts_with(b"-") => {}
            word if word.contains(&b'=') => {}
            _ => return Some(word),
        }
    }
    None
}

/// Splits as `env -S` does: blanks separate, quotes keep together, `\_` is a blank, `\c` ends, `#` starts a comment.
fn split_string(text: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\\', quote) if quote != Some(b'\'') => match bytes.next() {
                Some(b'c') if quote.is_none() => break,
                Some(b'_') if quote.is_none() => words.extend(word.take()),
                Some(b'_') => word.get_or_insert_default().push(b' '),
                Some(b'n' | b't' | b'r' | b'f' | b'v') if quote.is_none() => words.extend(word.take()),
                Some(other) => word.get_or_insert_default().push(other),
                None => break,
            },
            (b'"' | b'\'', None) => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (byte, Some(open)) if byte == open => quote = None,
            (b'#', None) if word.is_none() => break,
            (byte, None) if byte.is_ascii_whitespace() => words.extend(word.take()),
            (byte, _) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trimmed(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_blank(*byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(*byte)).map_or(start, |at| at + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        for (head, interp, argument) in [
            ("#!/bin/sh\necho", "/bin/sh", None),
            ("#! \t/bin/sh \t -e  -u \n", "/bin/sh", Some("-e  -u")),
            ("#!/bin/sh\r\n", "/bin/sh\r", None),
            ("#!/bin/sh", "/bin/sh", None),
            ("#!relative\n", "relative", None),
        ] {
            let found = parse(head.as_bytes()).unwrap();
            assert_eq!(found.interp, interp.as_bytes(), "{head:?}");
            assert_eq!(found.argument.as_deref(), argument.map(str::as_bytes), "{head:?}");
        }
        for not in ["", "#", "#!", "#!\n/bin/sh", " #!/bin/sh", "#! \n"] {
            assert_eq!(parse(not.as_bytes()), None, "{not:?}");
        }
    }

    #[test]
    fn env_is_looked_through() {
        for (line, command) in [
            ("#!/usr/bin/env python3", Some("python3")),
            ("#!/usr/bin/env python3 -u", Some("python3 -u")),
            ("#!/usr/bin/env -S python3 -u", Some("python3")),
            ("#!/usr/bin/env -Spython3 -u", Some("python3")),
            ("#!/usr/bin/env -S -i A=1 B=2 perl -w", Some("perl")),
            ("#!/usr/bin/env -S -u HOME -C /tmp \"my prog\" x", Some("my prog")),
            ("#!/usr/bin/env --split-string=ruby\\_-w", Some("ruby")),
            ("#!/usr/bin/env -S A=1 # nothing", None),
            ("#!/usr/bin/env -i", None),
            ("#!/usr/bin/env", None),
            ("#!/bin/sh -S x", None),
        ] {
            let shebang = parse(line.as_bytes()).unwrap();
            let found = env_command(&shebang).map(|word| String::from_utf8(word).unwrap());
            assert_eq!(found.as_deref(), command, "{line}");
        }
    }
}
