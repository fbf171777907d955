//! Closure -> layer plan -> tar -> compressed blob.

mod compress;
mod plan;
mod tar;
mod write;

pub use compress::Compression;
pub use plan::{LayerPlan, PlannedEntry, PlannedLayer, plan};
pub use tar::{BLOCK, TarError};
pub use write::{Layer, LayerError, write};
