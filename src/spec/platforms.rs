//! The sources of a build, with or without platforms, and platforms -> the source of each platform.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use thiserror::Error;

use super::{Source, SourceError};
use crate::explain::{Choice, Explain, Explanation, Failure, Fix};
use crate::oci::{Platform, platform};

/// The value of one `--from`: `SOURCE`, or `PLATFORM=SOURCE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceWord {
    /// What the source is for, if that is said.
    pub platform: Option<Platform>,
    /// The source.
    pub source: Source,
}

impl SourceWord {
    /// Reads such a value. No source begins like a platform: a path starts with `/` or `.`, and no image has a `=`.
    ///
    /// # Errors
    /// Those of [`Source::parse`].
    pub fn parse(word: &OsStr) -> Result<Self, SourceError> {
        let bytes = word.as_bytes();
        let at = bytes.iter().position(|byte| *byte == b'=').unwrap_or(0);
        let before = std::str::from_utf8(bytes.get(..at).unwrap_or_default());
        match before.ok().and_then(platform::parse) {
            Some(platform) => {
                let rest = OsStr::from_bytes(bytes.get(at + 1..).unwrap_or_default());
                Ok(Self { platform: Some(platform), source: Source::parse(rest)? })
            }
            None => Ok(Self { platform: None, source: Source::parse(word)? }),
        }
    }
}

/// Nobody says what is made for which platform.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlatformsError {
    /// There are several sources, and which to take is not said.
    #[error("one of several sources does not say which platform it is for")]
    Unnamed,
    /// Platforms are listed, and sources have theirs.
    #[error("the platform is said twice: with the source, and on its own")]
    SaidTwice,
    /// A platform has two sources.
    #[error("two sources are for `{platform}`")]
    Repeated {
        /// The platform.
        platform: String,
    },
    /// One source was expected.
    #[error("there are several sources, and this is about one")]
    Several,
}

impl Explain for PlatformsError {
    fn explain(&self) -> Vec<Explanation> {
        let values = ["linux/amd64=SOURCE", "linux/arm64=SOURCE"].map(str::to_owned).to_vec();
        let fix = match self {
            Self::Unnamed => Fix::from("write ").choice(Choice { name: "from".to_owned(), values }),
            Self::SaidTwice => Fix::from("leave ").name("platform").text(" out"),
            Self::Repeated { .. } => Fix::from("name each platform once"),
            Self::Several => Fix::from("name one source, and one platform"),
        };
        vec![Explanation::new("usage", self.to_string()).fix(fix)]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// What an image is from, and what it is for; `None` stands for what nobody says.
pub type SourceFor = (Option<Source>, Option<Platform>);

/// Returns each platform that `words` and `platforms` name, with the source of it.
///
/// # Errors
/// [`PlatformsError`].
pub fn sources(words: &[SourceWord], platforms: &[Platform]) -> Result<Vec<SourceFor>, PlatformsError> {
    let source = |word: &SourceWord| word.source.clone();
    let parts: Vec<_> = match (words, platforms) {
        ([] | [SourceWord { platform: None, .. }], []) => vec![(words.first().map(source), None)],
        ([] | [SourceWord { platform: None, .. }], platforms) => {
            platforms.iter().map(|platform| (words.first().map(source), Some(platform.clone()))).collect()
        }
        (words, _) if words.iter().any(|word| word.platform.is_none()) => {
            return Err(PlatformsError::Unnamed);
        }
        (words, []) => words.iter().map(|word| (Some(source(word)), word.platform.clone())).collect(),
        _ => return Err(PlatformsError::SaidTwice),
    };
    for (at, (_, part)) in parts.iter().enumerate() {
        if let Some(platform) = part
            && parts.iter().take(at).any(|(_, other)| other == part)
        {
            return Err(PlatformsError::Repeated { platform: platform::shown(platform) });
        }
    }
    Ok(parts)
}
