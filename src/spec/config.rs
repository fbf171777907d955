//! What the user says of the image config -> values.

use std::collections::BTreeMap;

use thiserror::Error;

use super::RunAs;
use crate::explain::{Explain, Explanation, Failure};
use crate::formats::shell;
use crate::roots::{Keep, Origin, Root};

/// What the user says of the image config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigEdits {
    /// The words after `--`: arguments of the one program.
    pub arguments: Vec<String>,
    /// What is started, instead of the one program.
    pub entrypoint: Option<Vec<String>>,
    /// The default arguments, instead of the words after `--`.
    pub cmd: Option<Vec<String>>,
    /// Variables of the environment; they win over those that rules give.
    pub env: BTreeMap<String, String>,
    /// Labels of the config.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The user that the image runs as.
    pub user: Option<RunAs>,
    /// The platform that the image is meant to be for, as `linux/ARCH[/VARIANT]`.
    pub platform: Option<String>,
}

/// A text that says nothing about a config.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EditError {
    /// There is no equals sign, or nothing before it.
    #[error("`{name}` takes KEY=VALUE, not `{text}`")]
    NotAPair {
        /// The flag.
        name: String,
        /// What it was given.
        text: String,
    },
    /// It starts like a JSON array.
    #[error("`{name}` is no JSON array of words")]
    NotWords {
        /// The flag.
        name: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Explain for EditError {
    fn explain(&self) -> Vec<Explanation> {
        let fix = match self {
            Self::NotAPair { .. } => "write for example `MODE=fast`",
            Self::NotWords { .. } => "write one word, or for example `[\"serve\", \"--port=80\"]`",
        };
        vec![Explanation::new("usage", self.to_string()).because_of(self).fix(fix)]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

impl ConfigEdits {
    /// Returns the words after those of the entrypoint.
    pub fn command(&self) -> &[String] {
        self.cmd.as_ref().unwrap_or(&self.arguments)
    }

    /// Returns the roots that an image of `roots` has besides because of its command: the login shells in it.
    pub fn roots_of_command(&self, roots: &[Root]) -> Vec<Root> {
        let program = |root: &Root| match &root.keep {
            Keep::Program { name, .. } => Some(String::from_utf8_lossy(name.as_bytes()).into_owned()),
            _ => None,
        };
        let programs: Vec<String> = roots.iter().filter_map(program).collect();
        let entrypoint = match (&self.entrypoint, programs.as_slice()) {
            (Some(words), _) => words.as_slice(),
            (None, [program]) => std::slice::from_ref(program),
            (None, _) => &[],
        };
        let words = entrypoint.iter().chain(self.command());
        let words: Vec<&str> = words.map(String::as_str).collect();
        let origin = Origin::Argument(words.join(" "));
        let root = |login| Root { keep: Keep::Login(login), origin: origin.clone() };
        shell::started(&words).logins.into_iter().map(root).collect()
    }

    /// Returns the words of a JSON array, or `text` as one word; `name` is the flag that has it.
    ///
    /// # Errors
    /// [`EditError::NotWords`].
    pub fn words(name: &str, text: &str) -> Result<Vec<String>, EditError> {
        if !text.trim_start().starts_with('[') {
            return Ok(vec![text.to_owned()]);
        }
        serde_json::from_str(text).map_err(|source| EditError::NotWords { name: name.to_owned(), source })
    }

    /// Returns the pairs that `texts` are, of which a later one wins; `name` is the flag that has them.
    ///
    /// # Errors
    /// [`EditError::NotAPair`].
    pub fn pairs(name: &str, texts: &[String]) -> Result<BTreeMap<String, String>, EditError> {
        let pair = |text: &String| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(EditError::NotAPair { name: name.to_owned(), text: text.clone() }),
        };
        texts.iter().map(pair).collect()
    }
}
