//! What an image could hold and does not, and how to take it.

use std::fmt;

use crate::explain::{Choice, Spelling};
use crate::glob::Glob;
use crate::path::{RawPath, RootPath, show};

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LeftOut {
    /// A file or directory that no image should hold by accident.
    Sensitive {
        /// Where it is.
        path: RootPath,
        /// Why: what is in it, or that not everybody may read it.
        what: String,
    },
    /// A file in somebody's home that a rule takes only if everybody may read it.
    Private {
        /// Where it is.
        path: RootPath,
        /// Why: what is in it, or that not everybody may read it.
        what: String,
    },
    /// A rule that is only a suggestion.
    Rule {
        /// Its ID.
        id: String,
        /// What is missing without it.
        why: String,
        /// The path that triggered it.
        by: RootPath,
        /// What it would bring, as patterns.
        files: Vec<Glob>,
    },
    /// A script of package data whose interpreter is not in the image.
    Script {
        /// The script.
        path: RawPath,
        /// What runs it.
        interp: Vec<u8>,
    },
    /// A program of another package whose path is in the data of one that can start programs.
    Program {
        /// The program.
        path: RawPath,
        /// Who may start it.
        by: RootPath,
    },
    /// A program or library of package data or of a rule that would not load.
    Unloadable {
        /// The file.
        path: RawPath,
        /// What is wrong.
        why: String,
    },
    /// What the user wants left out, whoever asks for it.
    Excluded {
        /// The path.
        path: RootPath,
        /// The pattern that says so.
        pattern: String,
    },
    /// A demand that nothing meets, which the user allows.
    Missing {
        /// The name or path.
        name: String,
        /// Who asked for it.
        by: String,
    },
}

impl LeftOut {
    /// Returns the kind in one word, as reports have it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sensitive { .. } => "sensitive",
            Self::Private { .. } => "private",
            Self::Rule { .. } => "suggested",
            Self::Script { .. } => "script",
            Self::Program { .. } => "program",
            Self::Unloadable { .. } => "unloadable",
            Self::Excluded { .. } => "excluded",
            Self::Missing { .. } => "missing",
        }
    }

    /// Returns what is left out: a path or the ID of a rule.
    pub fn what(&self) -> String {
        match self {
            Self::Sensitive { path, .. } | Self::Private { path, .. } | Self::Excluded { path, .. } => {
                path.to_string()
            }
            Self::Rule { id, .. } => id.clone(),
            Self::Script { path, .. } | Self::Program { path, .. } | Self::Unloadable { path, .. } => {
                path.to_string()
            }
            Self::Missing { name, .. } => name.clone(),
        }
    }

    /// Returns what is missing without it, or what is in it, where that is known.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Rule { why, .. } | Self::Unloadable { why, .. } => Some(why),
            Self::Sensitive { what, .. } | Self::Private { what, .. } => Some(what),
            Self::Script { .. } | Self::Program { .. } | Self::Excluded { .. } | Self::Missing { .. } => None,
        }
    }

    /// Returns patterns of the paths that it would bring, where one thing stands for many.
    pub fn files(&self) -> &[Glob] {
        match self {
            Self::Rule { files, .. } => files,
            _ => &[],
        }
    }

    /// Returns how to take it, with options as `spelling` has them.
    pub fn how(&self, spelling: Spelling) -> String {
        let include = |path: &dyn fmt::Display| spelling.of(&Choice::new("include", path));
        let is_dockerfile = spelling == Spelling::Labels;
        // A Dockerfile has several, and the image is of all of them.
        let source = if is_dockerfile { "the stage that it is from" } else { "the source" };
        match self {
            // There, what is named is what is meant.
            Self::Sensitive { path, .. } | Self::Private { path, .. } if is_dockerfile => include(path),
            Self::Sensitive { path, .. } | Self::Private { path, .. } => {
                format!("{} {}", include(path), spelling.of(&Choice::switch("allow-sensitive")))
            }
            Self::Rule { id, .. } => spelling.of(&Choice::new("with", id)),
            Self::Excluded { pattern, .. } => {
                format!("leave `{}` away", spelling.of(&Choice::new("exclude", pattern)))
            }
            Self::Script { interp, .. } if is_dockerfile => include(&show(interp)),
            Self::Script { interp, .. } => {
                let name = interp.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                format!("name `{}` as a program too", show(name))
            }
            Self::Program { path, .. } if is_dockerfile => include(path),
            Self::Program { .. } => "name it as a program too".to_owned(),
            Self::Unloadable { .. } => format!("install what it needs in {source}"),
            Self::Missing { .. } => format!("install what has it in {source}"),
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sensitive { path, what } | Self::Private { path, what } => write!(f, "`{path}`: {what}"),
            Self::Rule { id, why, by, .. } => write!(f, "rule `{id}` for `{by}`: {why}"),
            Self::Script { path, interp } => write!(f, "`{path}`: it needs `{}`", show(interp)),
            Self::Program { path, by } => write!(f, "`{path}`: `{by}` may start it"),
            Self::Unloadable { path, why } => write!(f, "`{path}`: {why}"),
            Self::Excluded { path, pattern } => write!(f, "`{path}`: excluded by `{pattern}`"),
            Self::Missing { name, by } => write!(f, "`{name}`, which {by}"),
        }
    }
}
