//! A finished image -> files for scripts: `--iidfile`, `--metadata-file`, `--image-refs`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use thiserror::Error;

use super::{Outcome, boxed};
use crate::explain::{Explain, Explanation};
use crate::oci::{Config, Descriptor, Layout, LayoutError, Manifest, OutputFile, Reference};

/// Where to write what became of the image.
#[derive(Debug, Args)]
#[command(next_help_heading = "Results")]
pub(super) struct ResultArguments {
    /// Write the ID of the image to this file: the digest of its config, or of the index if it is for several platforms
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Write digests, names and layers to this file, as JSON
    #[arg(long, value_name = "FILE")]
    metadata_file: Option<PathBuf>,
    /// Write each name with the digest to this file, a line each; of an index, also those of the images in it
    #[arg(long, value_name = "FILE")]
    image_refs: Option<PathBuf>,
}

/// A file of results cannot be written.
#[derive(Debug, Error)]
#[error("cannot write `{}`", path.display())]
struct ResultFileError {
    path: PathBuf,
    source: io::Error,
}

impl Explain for ResultFileError {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("unwritable-output", self.to_string())
                .because_of(self)
                .fix("check the path, its permissions and the space left there"),
        ]
    }
}

/// An image that was written.
pub(super) struct Finished<'a> {
    pub(super) layout: &'a Layout,
    pub(super) image: &'a Descriptor,
    /// The image for each platform; the image itself if there is one.
    pub(super) platforms: &'a [(Descriptor, Config)],
    pub(super) names: &'a [Reference],
}

impl ResultArguments {
    /// Removes what an earlier build wrote: if this one fails, nobody must take that for its result.
    pub(super) fn clear(&self) -> Outcome {
        for path in [&self.iidfile, &self.metadata_file, &self.image_refs].into_iter().flatten() {
            OutputFile::clear(path)
                .map_err(|source| boxed(ResultFileError { path: path.clone(), source }))?;
        }
        Ok(())
    }

    /// Writes the files that were asked for.
    pub(super) fn write(&self, finished: &Finished<'_>) -> Outcome {
        if let Some(path) = &self.iidfile {
            save(path, &finished.id().map_err(boxed)?)?;
        }
        if let Some(path) = &self.metadata_file {
            let document = finished.metadata().map_err(boxed)?;
            save(path, &format!("{document:#}\n"))?;
        }
        if let Some(path) = &self.image_refs {
            save(path, &finished.references())?;
        }
        Ok(())
    }
}

impl Finished<'_> {
    fn id(&self) -> Result<String, LayoutError> {
        Ok(match self.platforms {
            [(image, _)] => self.layout.document::<Manifest>(image)?.config().digest().to_string(),
            _ => self.image.digest().to_string(),
        })
    }

    /// Returns a line for each name of each image; the bare digests, without names.
    fn references(&self) -> String {
        let mut digests = vec![self.image.digest()];
        digests.extend(self.platforms.iter().map(|(image, _)| image.digest()));
        digests.dedup();
        let lines = digests.iter().flat_map(|digest| {
            let names = self.names.iter().map(move |name| format!("{}@{digest}\n", name.without_version()));
            let bare = self.names.is_empty().then(|| format!("{digest}\n"));
            names.chain(bare)
        });
        lines.collect()
    }

    /// Returns what `docker buildx build --metadata-file` says, and more under names of our own.
    fn metadata(&self) -> Result<Value, LayoutError> {
        let mut platforms = Vec::new();
        for (image, config) in self.platforms {
            let manifest: Manifest = self.layout.document(image)?;
            let own: Config = self.layout.document(manifest.config())?;
            let layers = manifest.layers().iter().zip(own.rootfs().diff_ids());
            let layers = layers.map(|(layer, diff_id)| json!({ "descriptor": layer, "diff_id": diff_id }));
            platforms.push(json!({
                "platform": format!("{}/{}", config.os(), config.architecture()),
                "digest": image.digest(),
                "config": manifest.config().digest(),
                "layers": layers.collect::<Vec<_>>(),
            }));
        }
        let names = self.names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let mut document = json!({
            "containerimage.digest": self.image.digest(),
            "containerimage.descriptor": self.image,
            "minimage.images": platforms,
        });
        if let [(image, _)] = self.platforms {
            let manifest: Manifest = self.layout.document(image)?;
            document["containerimage.config.digest"] = json!(manifest.config().digest());
        }
        if !names.is_empty() {
            document["image.name"] = names.into();
        }
        Ok(document)
    }
}

/// Writes a file, whole or not at all.
fn save(path: &Path, text: &str) -> Outcome {
    let saved = OutputFile::create(path).and_then(|output| {
        output.file().write_all(text.as_bytes())?;
        output.publish()
    });
    saved.map_err(|source| boxed(ResultFileError { path: path.to_owned(), source }))
}
