//! The nouns of the OCI image and distribution specifications, on the types of the `oci-spec` crate.

mod blob_writer;
mod digest;
mod facts;
mod find;
mod layout;
mod new_file;
mod parts;
pub mod platform;
mod reference;
mod sealed;

pub use blob_writer::BlobWriter;
pub use digest::{DiffId, Digest, DigestError, Hasher, descriptor, digest_of};
pub use facts::ImageFacts;
pub use find::{FindError, Wanted, find, named};
pub use layout::{Layout, LayoutError, Named, names_of};
pub(crate) use layout::{entries, index_json, index_of};
pub(crate) use new_file::{NewFile, OutputFile};
pub use oci_spec::image::{
    Arch, Config as RuntimeConfig, ConfigBuilder as RuntimeConfigBuilder, Descriptor, History,
    HistoryBuilder, ImageConfiguration as Config, ImageConfigurationBuilder as ConfigBuilder,
    ImageIndex as Index, ImageIndexBuilder as IndexBuilder, ImageManifest as Manifest,
    ImageManifestBuilder as ManifestBuilder, MediaType, Os, Platform, PlatformBuilder, RootFsBuilder,
};
pub use reference::{Reference, ReferenceError};
pub use sealed::{Sealed, canonical_json};
