//! `type=oci,dest=app.tar` -> where an image goes (the grammar of `docker buildx build -o`).

use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use super::files::FilesOutput;
use super::load::EngineName;
use crate::destination::ArchiveKind;

/// One `-o`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum OutputSpec {
    /// An archive; without a path, `NAME.oci.tar`.
    Archive { path: Option<PathBuf>, kind: ArchiveKind },
    /// An OCI layout in a directory.
    Directory { path: PathBuf },
    /// The registry that the tags name.
    Registry,
    /// A container engine of this machine; without a name, the first that is found.
    Engine(Option<EngineName>),
    /// The files alone.
    Files(FilesOutput),
}

/// Why a text is no output.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum OutputError {
    #[error("`{part}` is not of the form key=value")]
    NoValue { part: String },
    #[error("unknown key `{key}`; there are: type, dest, tar, docker")]
    UnknownKey { key: String },
    #[error("unknown type `{value}`; there are: oci, docker, registry, local, tar")]
    UnknownType { value: String },
    #[error("`{key}` is `{value}`, not true or false")]
    NotABoolean { key: String, value: String },
    #[error("an image does not go to standard output, which is for its digest; write dest=PATH")]
    Stdout,
    #[error("there is no type; write type=oci,dest=PATH")]
    NoType,
    #[error("there is no path; write dest=PATH")]
    NoPath,
    #[error("type={kind} needs dest=PATH")]
    NoDestination { kind: &'static str },
    #[error("type={kind} takes no `{key}`")]
    Misplaced { kind: &'static str, key: &'static str },
}

impl FromStr for OutputSpec {
    type Err = OutputError;

    fn from_str(text: &str) -> Result<Self, OutputError> {
        let (mut kind, mut path, mut is_tar, mut is_docker) = (None, None, None, None);
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| OutputError::NoValue { part: part.to_owned() })?;
            match key {
                "type" => kind = Some(value),
                "dest" if matches!(value, "-" | "/dev/stdout") => return Err(OutputError::Stdout),
                "dest" if value.is_empty() => return Err(OutputError::NoPath),
                "dest" => path = Some(PathBuf::from(value)),
                "tar" => is_tar = Some(boolean(key, value)?),
                "docker" => is_docker = Some(boolean(key, value)?),
                _ => return Err(OutputError::UnknownKey { key: key.to_owned() }),
            }
        }
        match kind.ok_or(OutputError::NoType)? {
            "oci" if is_tar == Some(false) => match (path, is_docker) {
                (_, Some(true)) => Err(OutputError::Misplaced { kind: "oci,tar=false", key: "docker" }),
                (Some(path), _) => Ok(Self::Directory { path }),
                (None, _) => Err(OutputError::NoDestination { kind: "oci,tar=false" }),
            },
            "oci" if is_docker == Some(false) => Ok(Self::Archive { path, kind: ArchiveKind::Oci }),
            "oci" => Ok(Self::Archive { path, kind: ArchiveKind::OciAndDocker }),
            "docker" if is_tar == Some(false) => {
                Err(OutputError::Misplaced { kind: "docker", key: "tar=false" })
            }
            "docker" if is_docker == Some(false) => {
                Err(OutputError::Misplaced { kind: "docker", key: "docker=false" })
            }
            "docker" if path.is_none() => Ok(Self::Engine(Some(EngineName::Docker))),
            "docker" => Ok(Self::Archive { path, kind: ArchiveKind::OciAndDocker }),
            "registry" if path.is_some() => Err(OutputError::Misplaced { kind: "registry", key: "dest" }),
            "registry" => Ok(Self::Registry),
            kind @ ("local" | "tar") => {
                let kind = if kind == "local" { "local" } else { "tar" };
                match (path, is_tar, is_docker) {
                    (_, Some(_), _) => Err(OutputError::Misplaced { kind, key: "tar" }),
                    (_, _, Some(_)) => Err(OutputError::Misplaced { kind, key: "docker" }),
                    (Some(path), ..) if kind == "local" => Ok(Self::Files(FilesOutput::Directory(path))),
                    (Some(path), ..) => Ok(Self::Files(FilesOutput::Tar(path))),
                    (None, ..) => Err(OutputError::NoDestination { kind }),
                }
            }
            value => Err(OutputError::UnknownType { value: value.to_owned() }),
        }
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, OutputError> {
    value.parse().map_err(|_| OutputError::NotABoolean { key: key.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_of_buildx() {
        let archive = |path: Option<&str>, kind| OutputSpec::Archive { path: path.map(PathBuf::from), kind };
        for (text, expected) in [
            ("type=oci", archive(None, ArchiveKind::OciAndDocker)),
            ("type=oci,dest=a.tar", archive(Some("a.tar"), ArchiveKind::OciAndDocker)),
            ("dest=a.tar,type=oci,docker=false", archive(Some("a.tar"), ArchiveKind::Oci)),
            ("type=docker,dest=a.tar", archive(Some("a.tar"), ArchiveKind::OciAndDocker)),
            ("type=oci,tar=false,dest=a", OutputSpec::Directory { path: "a".into() }),
            ("type=docker", OutputSpec::Engine(Some(EngineName::Docker))),
            ("type=registry", OutputSpec::Registry),
            ("type=local,dest=a", OutputSpec::Files(FilesOutput::Directory("a".into()))),
            ("dest=a.tar,type=tar", OutputSpec::Files(FilesOutput::Tar("a.tar".into()))),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for bad in [
            "",
            "a.tar",
            "dest=a",
            "type=zip",
            "type=oci,to=a",
            "type=oci,tar=no",
            "type=oci,tar=false",
            "type=docker,dest=a,docker=false",
            "type=registry,dest=a",
            "type=local",
            "type=tar,dest=a,docker=false",
            "type=oci,dest=-",
            "type=oci,dest=/dev/stdout",
            "type=oci,dest=",
        ] {
            assert!(bad.parse::<OutputSpec>().is_err(), "{bad}");
        }
    }
}
