//! A layout with an image in it -> wherever the image goes.

mod archive;
#[cfg(feature = "registry")]
mod docker;
mod engine;
mod layout;
#[cfg(feature = "registry")]
mod registry;

pub use archive::{Archive, ArchiveKind};
#[cfg(feature = "registry")]
pub use docker::{DaemonCheck, Docker, DockerAddress, DockerTls};
pub use engine::{Containerd, Podman};
pub use layout::LayoutDirectory;
#[cfg(feature = "registry")]
pub use registry::{PushMode, Registry};

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::explain::{Explain, Explanation, Failure};
use crate::oci::{Descriptor, Digest, Layout, LayoutError, Reference};

/// A place that an image goes to.
pub trait Destination {
    /// Brings the image `image` of `layout` to the place under each of `names`: blobs first, what refers to them
    /// after. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`PublishError`]; nothing half-written is then visible under the final name. [`PublishError::Partly`] tells what is.
    fn publish(
        &self,
        layout: &Layout,
        image: &Descriptor,
        names: &[Reference],
    ) -> Result<Published, PublishError>;
}

/// What can be found at a destination afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The digest of the manifest or index.
    pub digest: Digest,
    /// The names that it is found by there.
    pub names: Vec<Reference>,
}

impl Published {
    /// Returns the lines that scripts read: one for each name, or the bare digest.
    pub fn lines(&self) -> Vec<String> {
        if self.names.is_empty() {
            return vec![self.digest.to_string()];
        }
        let line = |name: &Reference| match name.digest() {
            Some(_) => name.to_string(),
            None => format!("{name}@{}", self.digest),
        };
        self.names.iter().map(line).collect()
    }
}

/// An image that arrived under some of its names only.
#[cfg(feature = "registry")]
#[derive(Debug, Error)]
#[error("the image arrived under some of its names only")]
pub struct Partly {
    /// What arrived.
    pub published: Published,
    /// Why the rest did not.
    pub source: crate::registry::RegistryError,
}

/// Why an image did not arrive.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A layout cannot be read or written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A registry did not take it.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Registry(#[from] crate::registry::RegistryError),
    /// A registry did not take it under all of its names.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    Partly(#[from] Box<Partly>),
    /// An archive cannot be written. The path is of the host.
    #[error("cannot {action} `{}`", path.display())]
    Archive {
        /// What was tried, as a verb.
        action: &'static str,
        /// The archive.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No daemon of Docker answers.
    #[cfg(feature = "registry")]
    #[error("cannot load the image into Docker at `{address}`")]
    Docker {
        /// Where it was looked for.
        address: DockerAddress,
        /// What the connection says.
        source: reqwest::Error,
    },
    /// A file that proves who somebody is cannot be used.
    #[cfg(feature = "registry")]
    #[error(transparent)]
    DockerFile(#[from] crate::registry::CertificateFileError),
    /// The command of an engine cannot be run.
    #[error("cannot load the image with `{command}`")]
    Command {
        /// The command.
        command: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// An engine does not take the image.
    #[error("{engine} did not load the image ({status})")]
    Engine {
        /// Its name.
        engine: &'static str,
        /// How it says no.
        status: String,
        /// What it says about it.
        messages: Vec<String>,
    },
}

impl Explain for PublishError {
    fn explain(&self) -> Vec<Explanation> {
        match self {
            Self::Layout(error) => error.explain(),
            #[cfg(feature = "registry")]
            Self::Registry(error) => error.explain(),
            #[cfg(feature = "registry")]
            Self::Partly(partly) => {
                let names = partly.published.names.iter().map(|name| format!("`{name}`"));
                let names = names.collect::<Vec<_>>().join(", ");
                let explanations = partly.source.explain().into_iter();
                explanations.map(|it| it.at(format!("after {names} had arrived"))).collect()
            }
            #[cfg(feature = "registry")]
            Self::Docker { address, .. } => {
                let explanation = Explanation::new("engine-unreachable", self.to_string()).because_of(self);
                let explanation = explanation.fix("start Docker, or say where it is with DOCKER_HOST");
                vec![match address {
                    DockerAddress::Socket(_) => explanation.fix("be root, or a member of the group `docker`"),
                    DockerAddress::Host(_) => {
                        explanation.fix("if it speaks TLS, set DOCKER_TLS_VERIFY and DOCKER_CERT_PATH")
                    }
                    DockerAddress::Secure { .. } => {
                        explanation.fix("check the certificates in DOCKER_CERT_PATH or of its context")
                    }
                }]
            }
            #[cfg(feature = "registry")]
            Self::DockerFile(_) => vec![
                Explanation::new("bad-certificates", self.to_string())
                    .because_of(self)
                    .fix("mend the file, or say where it is with DOCKER_CERT_PATH"),
            ],
            Self::Command { command, .. } => vec![
                Explanation::new("engine-unreachable", self.to_string())
                    .because_of(self)
                    .fix(format!("install `{command}`, or load into another engine")),
            ],
            Self::Engine { messages, .. } => {
                let mut explanation = Explanation::new("engine-error", self.to_string());
                explanation.reasons.extend(messages.iter().map(|message| format!("it says: {message}")));
                vec![explanation.fix("see to what the engine says, and load again")]
            }
            Self::Archive { .. } => vec![
                Explanation::new("unwritable-output", self.to_string())
                    .because_of(self)
                    .fix("check the path, its permissions and the space left there"),
            ],
        }
    }

    fn failure(&self) -> Failure {
        match self {
            #[cfg(feature = "registry")]
            Self::Registry(error) => error.failure(),
            #[cfg(feature = "registry")]
            Self::Partly(partly) => partly.source.failure(),
            #[cfg(feature = "registry")]
            Self::Docker { .. } | Self::DockerFile(_) => Failure::Outside,
            Self::Command { .. } | Self::Engine { .. } => Failure::Outside,
            Self::Layout(_) | Self::Archive { .. } => Failure::NoImage,
        }
    }
}
