//! `-o type=oci,tar=false,dest=DIR`: the image in an OCI layout on the host.

use std::path::PathBuf;

use super::{Destination, PublishError, Published};
use crate::oci::{Descriptor, Layout, Named, Reference};

/// An OCI layout in a directory of the host, which may hold other images already.
#[derive(Debug, Clone)]
pub struct LayoutDirectory {
    /// The directory.
    pub path: PathBuf,
}

impl Destination for LayoutDirectory {
    fn publish(
        &self,
        layout: &Layout,
        image: &Descriptor,
        names: &[Reference],
    ) -> Result<Published, PublishError> {
        let target = if layout.path() == self.path {
            layout.clone()
        } else {
            // It may be the same directory by another name.
            layout.settle()?;
            Layout::create(&self.path)?
        };
        for blob in layout.blobs_of(image)? {
            if !target.has(&blob)? {
                target.copy_from(layout, &blob)?;
            }
        }
        target.enter(&Named { descriptor: image, names })?;
        Ok(Published { digest: layout.digest_of(image)?, names: names.to_vec() })
    }
}
