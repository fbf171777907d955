//! Closure -> layer plan -> tar -> compressed blob; or -> a directory.

mod cache;
mod compress;
mod directory;
mod groups;
mod pipeline;
mod plan;
mod read;
mod tar;
mod write;

pub use cache::{Cache, CacheError, Pruned, Usage};
pub use directory::{DirectoryError, write_dir};
pub use plan::{LayerPlan, PlannedEntry, PlannedLayer, plan};
pub use tar::{BLOCK, TarError};
pub(crate) use tar::{END, padding};
pub use write::{Layer, LayerError, write};

/// The version of everything that decides a byte of a layer: the tar, the groups it is cut into, the members. Other
/// bytes for the same files and options are a new version.
pub const FORMAT_VERSION: u32 = 3;
