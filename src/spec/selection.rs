//! What goes into an image besides what its roots need to load, as values.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::explain::{Explain, Explanation, Failure};
use crate::glob::Glob;
use crate::path::RawPath;

/// What is taken and what is left, apart from what programs need to start.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Rules that are taken whether or not anything triggers them.
    pub with: Vec<With>,
    /// Rules and parts of every image that are left out, by ID.
    pub without: Vec<String>,
    /// Whether rules that are only mentioned are taken too.
    pub suggested: Suggested,
    /// Whether the run-time files of the root programs' packages are taken.
    pub package_data: PackageData,
    /// Paths that are left out, whoever asks for them.
    pub exclude: Vec<Glob>,
    /// Names and paths that may be missing.
    pub allow_missing: Vec<String>,
    /// Whether files that not everybody may read can be taken by name.
    pub sensitive: SensitiveFiles,
    /// Users to take along, by name.
    pub users: Vec<String>,
    /// Name services to take along besides files and dns.
    pub nss: Vec<String>,
    /// Whose the files are that belong to no package.
    pub unowned: Unowned,
    /// Directories of the host whose programs lie there by accident: those land in `/usr/local/bin`.
    pub own_directories: Vec<RawPath>,
    /// Whether users, name services and the directories of every image are written.
    pub generated: Generated,
}

/// A rule that the user asks for: `ID` or `ID=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct With {
    /// The rule.
    pub id: String,
    /// What it is given.
    pub value: Option<String>,
}

impl From<&str> for With {
    fn from(text: &str) -> Self {
        match text.split_once('=') {
            Some((id, value)) => Self { id: id.to_owned(), value: Some(value.to_owned()) },
            None => Self { id: text.to_owned(), value: None },
        }
    }
}

impl fmt::Display for With {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.value.iter().try_for_each(|value| write!(f, "={value}"))
    }
}

/// What becomes of what is only suggested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Suggested {
    /// It is listed.
    #[default]
    List,
    /// It is taken.
    Take,
}

/// What becomes of the run-time files of the root programs' packages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PackageData {
    /// They are taken.
    #[default]
    Take,
    /// They are left.
    Leave,
}

/// What becomes of files that not everybody may read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SensitiveFiles {
    /// They are never taken.
    #[default]
    Refuse,
    /// They are taken where the user names them, or a program cannot start without them.
    Allow,
}

/// Whose a file is that belongs to no package.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unowned {
    /// Root's, with one of two modes: who made a file on some machine, and with which umask, says nothing.
    #[default]
    Plain,
    /// Whose it is in the source, which is an image and knows.
    AsInSource,
}

/// What is written into every image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Generated {
    /// Directories that runtimes expect, users, and name services.
    #[default]
    Everything,
    /// Directories that runtimes expect: for questions about the loader alone.
    Layout,
}

impl Selection {
    /// Returns the selection of nothing but what programs need to start, with all files as they are in the source.
    pub fn bare() -> Self {
        Self {
            package_data: PackageData::Leave,
            sensitive: SensitiveFiles::Allow,
            unowned: Unowned::AsInSource,
            generated: Generated::Layout,
            ..Self::default()
        }
    }

    /// Returns whether the user leaves out what is called `id`.
    pub fn is_without(&self, id: &str) -> bool {
        self.without.iter().any(|without| without == id)
    }
}

/// A user, and perhaps a group, by name or number: `NAME[:GROUP]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// The user.
    pub user: String,
    /// The group, where it is not the user's own.
    pub group: Option<String>,
}

/// A text that names no user.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not of the form USER[:GROUP]")]
pub struct RunAsError {
    text: String,
}

impl FromStr for RunAs {
    type Err = RunAsError;

    fn from_str(text: &str) -> Result<Self, RunAsError> {
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.starts_with('-')
                && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "._-".contains(letter))
        };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        if is_name(user) && group.is_none_or(is_name) {
            Ok(Self { user: user.to_owned(), group: group.map(str::to_owned) })
        } else {
            Err(RunAsError { text: text.to_owned() })
        }
    }
}

impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group.iter().try_for_each(|group| write!(f, ":{group}"))
    }
}

impl Explain for RunAsError {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("bad-user", self.to_string())
                .fix("write a name or a number, such as `www-data`"),
        ]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_a_number() {
        for (text, expected) in [
            ("postgres", Ok("postgres")),
            ("1000:100", Ok("1000:100")),
            ("", Err(())),
            ("a:", Err(())),
            ("a b", Err(())),
        ] {
            let found = text.parse::<RunAs>().map(|user| user.to_string()).map_err(drop);
            assert_eq!(found, expected.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_rule_may_have_a_value() {
        assert_eq!(With::from("locale=C.UTF-8").value.as_deref(), Some("C.UTF-8"));
        assert_eq!(With::from("tzdata").to_string(), "tzdata");
    }
}
