//! `--from` and `--platform` -> the source of each platform that an image is made for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use thiserror::Error;

use super::args::SourceArguments;
use crate::explain::{Explain, Explanation, Failure};
use crate::oci::{Platform, platform};
use crate::spec::{Source, SourceError};

/// The value of one `--from`: `SOURCE`, or `PLATFORM=SOURCE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceWord {
    pub(super) platform: Option<Platform>,
    pub(super) source: Source,
}

impl SourceWord {
    /// Reads such a value. No source begins like a platform: a path starts with `/` or `.`, and no image has a `=`.
    pub(super) fn parse(word: &OsStr) -> Result<Self, SourceError> {
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

/// The flags do not say what is made for which platform.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum PlatformsError {
    #[error("one of several `--from` does not say which platform it is for")]
    Unnamed,
    #[error("both `--platform` and `--from PLATFORM=SOURCE` say what the image is for")]
    SaidTwice,
    #[error("two sources are for `{platform}`")]
    Repeated { platform: String },
    #[error("there are several sources, and this is about one")]
    Several,
}

impl Explain for PlatformsError {
    fn explain(&self) -> Vec<Explanation> {
        let fix = match self {
            Self::Unnamed => "write `--from linux/amd64=SOURCE --from linux/arm64=SOURCE`",
            Self::SaidTwice => "leave `--platform` out",
            Self::Repeated { .. } => "name each platform once",
            Self::Several => "name one source, and one platform",
        };
        vec![Explanation::new("usage", self.to_string()).fix(fix)]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

impl SourceArguments {
    /// Returns these arguments once for each platform that they name, each with one source at most.
    pub(super) fn each(&self) -> Result<Vec<Self>, PlatformsError> {
        // What was said in either way is said in the same way afterwards.
        let one = |from: Option<&SourceWord>, platform: Option<&Platform>| Self {
            from: from.map(|word| SourceWord { platform: None, ..word.clone() }).into_iter().collect(),
            platforms: platform.cloned().into_iter().collect(),
            ..self.clone()
        };
        let parts: Vec<Self> = match (self.from.as_slice(), self.platforms.as_slice()) {
            ([] | [SourceWord { platform: None, .. }], []) => vec![one(self.from.first(), None)],
            ([] | [SourceWord { platform: None, .. }], platforms) => {
                platforms.iter().map(|platform| one(self.from.first(), Some(platform))).collect()
            }
            (words, _) if words.iter().any(|word| word.platform.is_none()) => {
                return Err(PlatformsError::Unnamed);
            }
            (words, []) => words.iter().map(|word| one(Some(word), word.platform.as_ref())).collect(),
            _ => return Err(PlatformsError::SaidTwice),
        };
        for (at, part) in parts.iter().enumerate() {
            if let Some(platform) = part.platforms.first()
                && parts.iter().take(at).any(|other| other.platforms == part.platforms)
            {
                return Err(PlatformsError::Repeated { platform: platform::shown(platform) });
            }
        }
        Ok(parts)
    }

    /// Returns these arguments if they name one source and one platform at most.
    pub(super) fn only(&self) -> Result<Self, PlatformsError> {
        let mut parts = self.each()?;
        match (parts.pop(), parts.is_empty()) {
            (Some(part), true) => Ok(part),
            _ => Err(PlatformsError::Several),
        }
    }

    /// Returns the first source that is named; without any, it is this machine.
    pub(super) fn source(&self) -> Option<&Source> {
        self.from.first().map(|word| &word.source)
    }

    /// Returns the first platform that is named.
    pub(super) fn platform(&self) -> Option<&Platform> {
        self.platforms.first()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        source: SourceArguments,
    }

    fn told(line: &str) -> String {
        let flags = Flags::try_parse_from(format!("m {line}").split_whitespace()).unwrap();
        let one = |part: &SourceArguments| {
            let platform = part.platform().map_or_else(|| "-".to_owned(), platform::shown);
            format!("{platform} {}", part.source().map_or_else(|| "-".to_owned(), Source::to_string))
        };
        match flags.source.each() {
            Ok(parts) => parts.iter().map(one).collect::<Vec<_>>().join(", "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn sources_and_platforms() {
        for (line, want) in [
            ("", "- -"),
            ("--from ./a", "- ./a"),
            ("--from ./linux/amd64=a", "- ./linux/amd64=a"),
            ("--from debian:12 --platform linux/arm64/v8", "linux/arm64 docker.io/library/debian:12"),
            ("--from ./a --platform linux/amd64,linux/arm64", "linux/amd64 ./a, linux/arm64 ./a"),
            ("--platform linux/amd64 --platform linux/arm/v7", "linux/amd64 -, linux/arm/v7 -"),
            ("--from linux/arm64=./a", "linux/arm64 ./a"),
            (
                "--from linux/amd64=oci:a=b:1 --from linux/arm64=/a=b",
                "linux/amd64 oci:a=b:1, linux/arm64 /a=b",
            ),
            ("--from ./a --from ./b", "one of several `--from` does not say which platform it is for"),
            (
                "--from linux/amd64=./a --from ./b",
                "one of several `--from` does not say which platform it is for",
            ),
            (
                "--from linux/amd64=./a --platform linux/amd64",
                "both `--platform` and `--from PLATFORM=SOURCE` say what the image is for",
            ),
            ("--from linux/arm64=./a --from linux/arm64/v8=./b", "two sources are for `linux/arm64`"),
            ("--platform linux/amd64,linux/amd64", "two sources are for `linux/amd64`"),
        ] {
            assert_eq!(told(line), want, "{line}");
        }
        let flags = Flags::try_parse_from(["m", "--platform", "linux/amd64,linux/arm64"]).unwrap();
        assert_eq!(flags.source.only().unwrap_err(), PlatformsError::Several);
    }
}
