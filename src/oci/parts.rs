//! An image in a layout -> everything that it consists of.

use std::collections::HashSet;

use serde::de::DeserializeOwned;

use super::{Descriptor, Index, Layout, LayoutError, Manifest, MediaType};

/// How deep indexes may lie in indexes.
const NESTING_MAX: usize = 3;

impl Layout {
    /// Returns what the image `image` consists of, in an order in which nothing comes before what it refers to:
    /// layers, config, and the manifest itself; of an index, those of each image in it first. Each blob comes once.
    ///
    /// # Errors
    /// [`LayoutError::Document`] if a manifest cannot be parsed; as of [`Layout::read`].
    pub fn blobs_of(&self, image: &Descriptor) -> Result<Vec<Descriptor>, LayoutError> {
        let mut blobs = Vec::new();
        self.collect(image, 0, &mut blobs)?;
        let mut seen = HashSet::new();
        blobs.retain(|blob| seen.insert(blob.digest().to_string()));
        Ok(blobs)
    }

    fn collect(
        &self,
        image: &Descriptor,
        depth: usize,
        blobs: &mut Vec<Descriptor>,
    ) -> Result<(), LayoutError> {
        let children = if depth < NESTING_MAX { self.children(image)? } else { Vec::new() };
        if children.is_empty() {
            let manifest: Manifest = self.document(image)?;
            blobs.extend(manifest.layers().iter().chain([manifest.config()]).cloned());
        }
        for child in &children {
            self.collect(child, depth + 1, blobs)?;
        }
        blobs.push(image.clone());
        Ok(())
    }

    /// Returns the images that `image` is an index of; none if it is no index.
    ///
    /// # Errors
    /// As of [`Layout::blobs_of`].
    pub fn children(&self, image: &Descriptor) -> Result<Vec<Descriptor>, LayoutError> {
        if *image.media_type() != MediaType::ImageIndex {
            return Ok(Vec::new());
        }
        Ok(self.document::<Index>(image)?.manifests().clone())
    }

    /// Returns the JSON document that `descriptor` names.
    ///
    /// # Errors
    /// [`LayoutError::Document`] if it is of another form; as of [`Layout::read`].
    pub fn document<T: DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T, LayoutError> {
        serde_json::from_slice(&self.read(descriptor)?).map_err(|source| {
            let path = self.path().join(descriptor.digest().to_string());
            LayoutError::Document { path, source }
        })
    }
}
