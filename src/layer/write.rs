//! A layer plan + the source -> blobs in a layout.

use std::io::{self, Write};

use thiserror::Error;

use super::compress::{Compression, Encoder};
use super::plan::{LayerPlan, PlannedLayer};
use super::tar::{self, TarError};
use crate::explain::{Explain, Explanation};
use crate::oci::{BlobWriter, Descriptor, DiffId, Hasher, Layout, LayoutError};
use crate::rootfs::Rootfs;
use crate::spec::Epoch;

/// A layer that is in a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The blob as stored.
    pub descriptor: Descriptor,
    /// The tar inside it.
    pub diff_id: DiffId,
    /// What it holds.
    pub name: String,
}

/// Why a layer cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The tar cannot be made.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The blob cannot be stored.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Explain for LayerError {
    fn explain(&self) -> Vec<Explanation> {
        match self {
            Self::Layout(error) => error.explain(),
            Self::Tar(TarError::Rootfs(error)) => error.explain(),
            Self::Tar(error) => {
                let fix = match error {
                    TarError::Changed { .. } => "build again when nothing writes to the source",
                    TarError::Special { .. } => "leave it out",
                    TarError::Whiteout { .. } => "rename it in the source",
                    _ => "check the path, its permissions and the space left there",
                };
                vec![Explanation::new("unwritable-layer", error.to_string()).because_of(error).fix(fix)]
            }
        }
    }
}

/// Writes the layers of `plan`, whose files are in `rootfs`, as blobs of `layout`. The only step that moves bytes.
///
/// # Errors
/// [`LayerError`]; what is not whole is not in the layout.
pub fn write(
    plan: &LayerPlan,
    rootfs: &dyn Rootfs,
    epoch: Epoch,
    compression: Compression,
    layout: &Layout,
) -> Result<Vec<Layer>, LayerError> {
    plan.layers.iter().map(|layer| write_layer(layer, rootfs, epoch, compression, layout)).collect()
}

fn write_layer(
    layer: &PlannedLayer,
    rootfs: &dyn Rootfs,
    epoch: Epoch,
    compression: Compression,
    layout: &Layout,
) -> Result<Layer, LayerError> {
    let mut pipe = Pipe {
        diff_id: Hasher::default(),
        encoder: Encoder::new(compression),
        blob: layout.blob()?,
        failure: None,
    };
    let written = tar::write(layer, rootfs, epoch, &mut pipe);
    // The blob knows better than the tar what went wrong with it.
    if let Some(error) = pipe.failure {
        return Err(error.into());
    }
    written?;
    let Pipe { diff_id, encoder, mut blob, .. } = pipe;
    encoder.finish(&mut |bytes| blob.append(bytes))?;
    let descriptor = blob.commit(compression.media_type())?;
    Ok(Layer { descriptor, diff_id: DiffId(diff_id.finish()), name: layer.name.clone() })
}

/// Hashes the tar, and passes it on to the compressor and the blob.
struct Pipe {
    diff_id: Hasher,
    encoder: Encoder,
    blob: BlobWriter,
    failure: Option<LayoutError>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.diff_id.update(bytes);
        let blob = &mut self.blob;
        match self.encoder.push(bytes, &mut |part| blob.append(part)) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failure = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
