//! `registry.example/team/app:1.2` -> [`Reference`], with everything filled in that Docker would fill in.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::Reference as SpecReference;
use thiserror::Error;

use super::{Digest, DigestError};
use crate::explain::{Explain, Explanation, Failure};

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
    #[error("`{text}` is not an image reference")]
    Grammar {
        /// What was given.
        text: String,
        /// What the grammar says.
        source: oci_spec::distribution::ParseError,
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
        let spec: SpecReference =
            text.parse().map_err(|source| ReferenceError::Grammar { text: shown(), source })?;
        let digest = spec.digest().map(Digest::from_str).transpose();
        Ok(Self {
            registry: spec.registry().to_owned(),
            repository: spec.repository().to_owned(),
            tag: spec.tag().map(str::to_owned),
            digest: digest.map_err(|source| ReferenceError::Digest { text: shown(), source })?,
        })
    }
}

impl Reference {
    /// Returns the registry's host, with its port if it has one; `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
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
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), full, "{text}");
        }
        for bad in ["", "X", "x:", "x:a b", "http://x/y", "x@sha256:12", "-x", "a//b"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
