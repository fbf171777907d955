//! A layout with an image in it -> wherever the image goes.

mod archive;
mod layout;
#[cfg(feature = "registry")]
mod registry;

pub use archive::{Archive, ArchiveKind};
pub use layout::LayoutDirectory;
#[cfg(feature = "registry")]
pub use registry::Registry;

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
    /// [`PublishError`]; nothing half-written is then visible under the final name.
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
}

impl Explain for PublishError {
    fn explain(&self) -> Vec<Explanation> {
        match self {
            Self::Layout(error) => error.explain(),
            #[cfg(feature = "registry")]
            Self::Registry(error) => error.explain(),
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
            Self::Layout(_) | Self::Archive { .. } => Failure::NoImage,
        }
    }
}
