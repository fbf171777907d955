//! `registry.example/team/app:1.2` -> [`Reference`], with everything filled in that Docker would fill in.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

use super::{Digest, DigestError};
use crate::explain::{Explain, Explanation, Failure};

const HUB: &str = "docker.io";
const HUB_LEGACY: &str = "index.docker.io";
/// The longest registry and repository together, in bytes.
const NAME_MAX: usize = 255;

/// The name of an image: registry, repository, and a tag or digest. `x` means `docker.io/library/x:latest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that names no image.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// It breaks the grammar of references.
    #[error("`{text}` is not an image reference: {problem}")]
    Grammar {
        /// What was given.
        text: String,
        /// What the grammar says.
        problem: &'static str,
    },
    /// Its digest is not one we accept.
    #[error("`{text}` has an unusable digest")]
    Digest {
        /// What was given.
        text: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
}

impl Explain for ReferenceError {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("bad-reference", self.to_string())
                .because_of(self)
                .fix("write it as `[REGISTRY[:PORT]/]REPOSITORY[:TAG]`, in lower case"),
        ]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let shown = || crate::path::show(text.as_bytes());
        let grammar = |problem| ReferenceError::Grammar { text: shown(), problem };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; before it, a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (HUB, name),
        };
        if !is_host(registry) {
            return Err(grammar("its registry is no `HOST` or `HOST:PORT`"));
        }
        if !repository.split('/').all(is_component) {
            return Err(grammar(
                "its repository may have `a-z0-9` with single `.`, `_`, `__` or `-` between them",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(grammar(
                "its tag may have 128 of `A-Za-z0-9_.-`, and does not begin with `.` or `-`",
            ));
        }
        let registry = if registry == HUB_LEGACY { HUB } else { registry };
        let repository = match repository {
            official if registry == HUB && !official.contains('/') => format!("library/{official}"),
            repository => repository.to_owned(),
        };
        if registry.len() + 1 + repository.len() > NAME_MAX {
            return Err(grammar("its registry and repository have more than 255 characters"));
        }
        let digest = digest.map(Digest::from_str).transpose();
        let digest = digest.map_err(|source| ReferenceError::Digest { text: shown(), source })?;
        let tag = tag.or(if digest.is_none() { Some("latest") } else { None }).map(str::to_owned);
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

// The grammar of distribution's `reference` package, by hand: `oci-spec` makes a regular expression of it, which takes
// longer to compile than many a push, and takes letters of all scripts in a tag.

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_address = |host: &str| {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        inner.is_some_and(|inner| inner.parse::<Ipv6Addr>().is_ok())
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (host.split('.').all(is_label) || is_address(host)) && port.is_none_or(is_port)
}

fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = [text.bytes().next(), text.bytes().last()];
    edges.iter().all(|edge| edge.is_some_and(is_word))
        && text.split(|letter: char| letter.is_ascii() && is_word(letter as u8)).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

impl Reference {
    /// Returns the registry's host, with its port if it has one; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns whether `text` is a registry's host, with its port if it has one.
    pub fn is_registry(text: &str) -> bool {
        is_host(text)
    }

    /// Returns the repository in the registry, such as `library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag. Without a tag or digest it is `latest`; with a digest alone there is none.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, which wins over a tag beside it.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the name of `digest` in the same repository.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Returns the last part of the repository, which people call the image's name.
    pub fn short_name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }

    /// Returns `registry/repository`, without tag and digest.
    pub fn without_version(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, full) in [
            ("x", "docker.io/library/x:latest"),
            ("x:1", "docker.io/library/x:1"),
            ("team/x", "docker.io/team/x:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:t", "localhost:5000/x:t"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
            ("index.docker.io/x", "docker.io/library/x:latest"),
            ("[::1]:5000/x:t", "[::1]:5000/x:t"),
            ("x.example:5000", "docker.io/library/x.example:5000"),
            ("a/b__c/d--e.f_g:T.-", "docker.io/a/b__c/d--e.f_g:T.-"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), full, "{text}");
        }
        for bad in [
            "",
            "X",
            "x:",
            "x:a b",
            "http://x/y",
            "x@sha256:12",
            "-x",
            "a//b",
            "x@",
            "x:é",
            "a..b",
            "a___b",
            "a_.b",
            "A/b",
            "x.y/../z",
            "h:/x",
            "h:1:2/x",
            "[::g]/x",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn ascii_names_are_read_as_oci_spec_reads_them(text in "[a-cAB0-1./:_-]{1,12}|[a-c.]{1,5}(:[0-9]{1,3})?/[a-c_.-]{1,8}(:[a-c.]{1,5})?") {
            let ours = text.parse::<Reference>();
            match text.parse::<oci_spec::distribution::Reference>() {
                // What it takes for a host by its upper case, it then puts into the repository.
                Ok(spec) if spec.repository().contains(|letter: char| letter.is_ascii_uppercase()) => {
                    assert!(ours.is_err(), "{text}");
                }
                Ok(spec) => assert_eq!(ours.unwrap().to_string(), spec.to_string(), "{text}"),
                Err(_) => assert!(ours.is_err(), "{text}"),
            }
        }
    }
}
