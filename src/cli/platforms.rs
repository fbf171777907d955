//! `--from` and `--platform` -> the source of each platform that an image is made for.

use super::args::SourceArguments;
use crate::oci::Platform;
use crate::spec::{self, PlatformsError, Source, SourceFor, SourceWord};

impl SourceArguments {
    /// Returns these arguments once for each platform that they name, each with one source at most.
    pub(super) fn each(&self) -> Result<Vec<Self>, PlatformsError> {
        // What was said in either way is said in the same way afterwards.
        let one = |(source, platform): SourceFor| Self {
            from: source.map(|source| SourceWord { platform: None, source }).into_iter().collect(),
            platforms: platform.into_iter().collect(),
            ..self.clone()
        };
        Ok(spec::sources(&self.from, &self.platforms)?.into_iter().map(one).collect())
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
    use crate::oci::platform;

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
            ("--from ./a --from ./b", "one of several sources does not say which platform it is for"),
            (
                "--from linux/amd64=./a --from ./b",
                "one of several sources does not say which platform it is for",
            ),
            (
                "--from linux/amd64=./a --platform linux/amd64",
                "the platform is said twice: with the source, and on its own",
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
