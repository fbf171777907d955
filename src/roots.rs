//! What the user wants kept, and where they said so.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::explain::{Choice, Explain, Explanation, Failure, Spelling};
use crate::formats::shell::Login;
use crate::glob::Glob;
use crate::path::RawPath;

/// One thing to keep, from which the closure starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// What to keep.
    pub keep: Keep,
    /// Where the user said so.
    pub origin: Origin,
}

/// What a root keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// A program.
    Program {
        /// Its path, or its name, which is looked up in the search path of the source.
        name: RawPath,
        /// Where it lands; if nothing is said, where it is.
        to: Option<RawPath>,
    },
    /// A file or a directory with everything in it.
    Tree(Tree),
    /// Whatever a pattern matches, at its own path.
    Matching(Glob),
    /// The file, link or directory at this path, by itself; a program or a library with what it needs.
    File(RawPath),
    /// The same, with the programs that the file runs if it is a script: a shell is told to read it.
    Script(RawPath),
    /// The same for a part of something larger, which may hold programs that nobody runs: what such a one needs and is
    /// not there is not missed.
    Member(RawPath),
    /// The same for a part that lands somewhere else: what it finds by its own place is found from there.
    Moved {
        /// Where it is.
        path: RawPath,
        /// Where it lands.
        to: RawPath,
    },
    /// What this login shell reads. It is not kept by this itself.
    Login(Login),
}

impl Keep {
    /// Returns the path that is kept, or the name of a program; a pattern has neither, nor has what login shells read.
    pub fn path(&self) -> Option<&RawPath> {
        match self {
            Self::Program { name: path, .. }
            | Self::Tree(Tree { path, .. })
            | Self::File(path)
            | Self::Script(path)
            | Self::Member(path)
            | Self::Moved { path, .. } => Some(path),
            Self::Matching(_) | Self::Login(_) => None,
        }
    }
}

/// A file or directory to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Where it is.
    pub path: RawPath,
    /// Where it lands; a path that ends in a slash is the directory to put it into. If nothing is said, where it is.
    pub to: Option<RawPath>,
    /// Whose everything in it becomes.
    pub owner: Option<Owner>,
    /// The permission bits that files in it get; directories get those that go with them.
    pub mode: Option<u32>,
}

/// A user and a group, by name or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: String,
    /// The group; that of the user if nothing is said.
    pub group: Option<String>,
}

/// A text that says nothing to add.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not of the form SRC[:DEST][,owner=USER:GROUP][,mode=OCTAL]: {what}")]
pub struct TreeError {
    text: String,
    what: &'static str,
}

impl Explain for TreeError {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("usage", self.to_string())
                .fix("write for example `--add site:/srv/www,owner=www-data,mode=0644`"),
        ]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

impl FromStr for Tree {
    type Err = TreeError;

    fn from_str(text: &str) -> Result<Self, TreeError> {
        let error = |what| TreeError { text: text.to_owned(), what };
        let mut rest = text;
        let (mut owner, mut mode) = (None, None);
        // From the end: a comma may be part of a name, but not before `owner=` or `mode=`.
        while let Some((before, option)) = rest.rsplit_once(',') {
            if let Some(value) = option.strip_prefix("owner=") {
                owner = Some(value.parse().map_err(error)?);
            } else if let Some(value) = option.strip_prefix("mode=") {
                let bits = u32::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o7777);
                mode = Some(bits.ok_or_else(|| error("the mode is no octal number"))?);
            } else {
                break;
            }
            rest = before;
        }
        let (path, to) = split_destination(rest);
        if path.is_empty() {
            return Err(error("there is no source"));
        }
        if to.is_some_and(|to| !to.starts_with('/')) {
            return Err(error("the destination is not absolute"));
        }
        Ok(Self { path: path.into(), to: to.map(RawPath::from), owner, mode })
    }
}

impl FromStr for Owner {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if user.is_empty() || group == Some("") {
            return Err("the owner has no name");
        }
        Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) })
    }
}

/// Splits `PATH:DEST` at the colon before an absolute path; without one, all of it is the path.
pub fn split_destination(text: &str) -> (&str, Option<&str>) {
    match text.rfind(":/") {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// Where the user asked for a root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An argument of the command line, as typed.
    Argument(String),
    /// An option, wherever it was said.
    Choice(Choice),
    /// A line of a build file.
    Line {
        /// The name of the file.
        file: String,
        /// The line, from 1.
        line: u32,
        /// What it says.
        text: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(text) => write!(f, "`{text}`"),
            Self::Choice(choice) => write!(f, "`{}`", Spelling::Flags.of(choice)),
            Self::Line { file, line, text } => write!(f, "`{text}` ({file}:{line})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_add_is_one_word() {
        let owner =
            |user: &str, group: Option<&str>| Owner { user: user.into(), group: group.map(str::to_owned) };
        for (text, path, to, expected_owner, mode) in [
            ("site", "site", None, None, None),
            ("site:/srv/www", "site", Some("/srv/www"), None, None),
            ("a,b:/c,mode=0600", "a,b", Some("/c"), None, Some(0o600)),
            ("/etc/x,owner=www-data,mode=755", "/etc/x", None, Some(owner("www-data", None)), Some(0o755)),
            ("x:/y/,owner=1:2", "x", Some("/y/"), Some(owner("1", Some("2"))), None),
            ("a:b", "a:b", None, None, None),
        ] {
            let found: Tree = text.parse().unwrap();
            let expected = Tree { path: path.into(), to: to.map(RawPath::from), owner: expected_owner, mode };
            assert_eq!(found, expected, "{text}");
        }
        for bad in ["", ":/x", "x,mode=9", "x,mode=77777", "x,owner=", "x,owner=a:"] {
            assert!(bad.parse::<Tree>().is_err(), "{bad}");
        }
    }
}
