//! A pattern for paths, as flags and rules spell it -> does a path match, and where could matches be.
//!
//! `*`, `?` and `[ab]` stay inside one name, `**` stands for any number of directories, `{a,b}` for either, and a
//! backslash takes the meaning of what follows it. Names are bytes.

use std::fmt;

use fast_glob::glob_match;
use thiserror::Error;

use crate::explain::{Explain, Explanation, Failure};
use crate::path::{RootPath, show};

/// How many patterns the braces of one may stand for.
const ALTERNATIVES_MAX: usize = 256;

/// A pattern for absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Glob {
    text: Vec<u8>,
    alternatives: Vec<Vec<Part>>,
}

/// One name of a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Exactly this name.
    Name(Vec<u8>),
    /// Any name that this matches.
    Pattern(Vec<u8>),
    /// Any number of directories: `**`.
    Deep,
}

/// Why a text is no pattern for paths.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is no pattern for absolute paths: {what}")]
pub struct GlobError {
    text: String,
    what: &'static str,
}

impl Explain for GlobError {
    fn explain(&self) -> Vec<Explanation> {
        vec![Explanation::new("bad-pattern", self.to_string()).fix("write for example `/etc/nginx/**`")]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

impl Glob {
    /// Returns the pattern that `text` spells.
    ///
    /// # Errors
    /// [`GlobError`] if it does not start at the root, has `..` in it, or braces that do not close.
    pub fn parse(text: impl Into<Vec<u8>>) -> Result<Self, GlobError> {
        let text = text.into();
        let error = |what| GlobError { text: show(&text), what };
        if text.first() != Some(&b'/') {
            return Err(error("it does not start with a slash"));
        }
        let spelled = without_braces(&text).map_err(error)?;
        let alternatives: Vec<Vec<Part>> = spelled.iter().map(|text| parts(text)).collect();
        for part in alternatives.iter().flatten() {
            if let Part::Pattern(name) = part {
                check_brackets(name).map_err(error)?;
            }
        }
        let has_dots = |part: &Part| matches!(part, Part::Name(name) if name == b".." || name == b".");
        if alternatives.iter().flatten().any(has_dots) {
            return Err(error("`.` and `..` match nothing"));
        }
        Ok(Self { text, alternatives })
    }

    /// Returns what the pattern stands for, without braces: each alternative as the names from the top down.
    pub fn alternatives(&self) -> &[Vec<Part>] {
        &self.alternatives
    }

    /// Returns whether `path` matches.
    pub fn matches(&self, path: &RootPath) -> bool {
        // Most patterns are told from most paths by the first name.
        let first = path.components().next();
        let may = |parts: &&Vec<Part>| match (parts.first(), first) {
            (Some(Part::Name(name)), Some(first)) => name == first,
            _ => true,
        };
        let mut candidates = self.alternatives.iter().filter(may).peekable();
        if candidates.peek().is_none() {
            return false;
        }
        let names: Vec<&[u8]> = path.components().collect();
        candidates.any(|parts| is_match(parts, &names))
    }
}

/// Returns whether one of `patterns` matches `path` or a directory above it.
pub fn covers(patterns: &[Glob], path: &RootPath) -> bool {
    let mut above = std::iter::successors(Some(path.clone()), RootPath::parent);
    !patterns.is_empty() && above.any(|path| patterns.iter().any(|glob| glob.matches(&path)))
}

impl Part {
    /// Returns whether this one part matches the name `name`.
    pub fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Pattern(pattern) => glob_match(pattern, name),
            Self::Deep => true,
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(&self.text))
    }
}

/// Checks that `pattern`, for one name of anything, has braces and brackets that close.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(pattern: &str) -> Result<(), &'static str> {
    without_braces(pattern.as_bytes())?.iter().try_for_each(|name| check_brackets(name))
}

fn check_brackets(name: &[u8]) -> Result<(), &'static str> {
    let mut rest = name;
    while let [byte, after @ ..] = rest {
        rest = match byte {
            b'\\' => after.get(1..).unwrap_or_default(),
            b'[' => {
                let negated = after.strip_prefix(b"!").or_else(|| after.strip_prefix(b"^"));
                // The first of the set may be a closing bracket itself.
                let set = negated.unwrap_or(after).get(1..).unwrap_or_default();
                let end = set.iter().position(|byte| *byte == b']').ok_or("a bracket is not closed")?;
                &set[end + 1..]
            }
            _ => after,
        };
    }
    Ok(())
}

/// Returns `text` with a backslash before everything that means something in a pattern.
pub fn escaped(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text {
        if b"*?[]{}!\\,".contains(byte) {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

fn is_match(parts: &[Part], names: &[&[u8]]) -> bool {
    match (parts, names) {
        ([], []) => true,
        // At the end it stands for at least one name: a directory is not below itself.
        ([Part::Deep], names) => !names.is_empty(),
        ([Part::Deep, rest @ ..], names) => (0..=names.len()).any(|skip| is_match(rest, &names[skip..])),
        ([part, parts @ ..], [name, names @ ..]) => part.matches(name) && is_match(parts, names),
        _ => false,
    }
}

fn parts(text: &[u8]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for name in text.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let part = match name {
            b"**" => Part::Deep,
            name if name.iter().any(|byte| b"*?[!".contains(byte)) => Part::Pattern(name.to_vec()),
            name => Part::Name(unescaped(name)),
        };
        // Twice any number is any number.
        if part != Part::Deep || parts.last() != Some(&Part::Deep) {
            parts.push(part);
        }
    }
    parts
}

fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        plain.push(if *byte == b'\\' { *bytes.next().unwrap_or(byte) } else { *byte });
    }
    plain
}

/// Returns the texts that the braces of `text` stand for.
fn without_braces(text: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    let mut done = Vec::new();
    let mut todo = vec![text.to_vec()];
    while let Some(text) = todo.pop() {
        let Some((open, close, commas)) = outer_braces(&text)? else {
            done.push(text);
            continue;
        };
        if done.len() + todo.len() + commas.len() > ALTERNATIVES_MAX {
            return Err("its braces stand for too many paths");
        }
        let ends: Vec<usize> = commas.into_iter().chain([close]).collect();
        let starts = [open].into_iter().chain(ends.iter().copied());
        let mut choices: Vec<Vec<u8>> = starts
            .zip(&ends)
            .map(|(start, end)| [&text[..open], &text[start + 1..*end], &text[close + 1..]].concat())
            .collect();
        choices.reverse();
        todo.extend(choices);
    }
    Ok(done)
}

/// Where the first outermost braces of a text open and close, and the commas between them.
type Braces = (usize, usize, Vec<usize>);

fn outer_braces(text: &[u8]) -> Result<Option<Braces>, &'static str> {
    let (mut depth, mut open, mut commas, mut is_escaped) = (0_usize, 0, Vec::new(), false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'{' => {
                if depth == 0 {
                    open = at;
                }
                depth += 1;
            }
            b',' if depth == 1 => commas.push(at),
            b'}' if depth == 1 => return Ok(Some((open, at, commas))),
            b'}' if depth > 1 => depth -= 1,
            b'}' => return Err("a brace closes that was not opened"),
            _ => {}
        }
    }
    if depth > 0 { Err("a brace is not closed") } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, path, expected) in [
            ("/etc/nginx/**", "/etc/nginx/conf.d/x", true),
            ("/etc/nginx/**", "/etc/nginx", false),
            ("/etc/*", "/etc/nginx/x", false),
            ("/etc/*.conf", "/etc/a.conf", true),
            ("/**/bin/python3*", "/bin/python3", true),
            ("/**/bin/python3*", "/usr/local/bin/python3.11", true),
            ("/{bin,usr/bin}/{a,b{c,d}}", "/usr/bin/bd", true),
            ("/{bin,usr/bin}/{a,b{c,d}}", "/usr/bin/b", false),
            ("/a\\*b", "/a*b", true),
            ("/a\\*b", "/axb", false),
            ("/x[0-9]", "/x7", true),
            ("/", "/", true),
        ] {
            let path = RootPath::from_normal(path.as_bytes()).unwrap();
            assert_eq!(Glob::parse(pattern).unwrap().matches(&path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_is_absolute_and_closed() {
        for bad in [
            "",
            "etc/*",
            "/etc/../x",
            "/{a,b",
            "/a}",
            "/etc/[a",
            "/etc/x[]",
            "/[a/b]",
            "/{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}",
        ] {
            assert!(Glob::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_escaped_matches_itself_alone() {
        let name = b"/a*b?c[d]{e,f}!\\g";
        let glob = Glob::parse(escaped(name)).unwrap();
        assert!(glob.matches(&RootPath::from_normal(name).unwrap()));
        assert!(!glob.matches(&RootPath::from_normal(b"/aXb?c[d]{e,f}!\\g").unwrap()));
    }
}
