//! `-o type=oci,tar=false,dest=DIR`: the image in an OCI layout on the host.

use std::io::Read;
use std::path::PathBuf;

use super::{Destination, PublishError, Published};
use crate::oci::{Descriptor, Layout, LayoutError, Named, Reference};

const CHUNK: usize = 1 << 20;

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
        let target = Layout::create(&self.path)?;
        for blob in layout.blobs_of(image)? {
            if !target.has(&blob)? {
                copy(layout, &target, &blob)?;
            }
        }
        target.enter(&Named { descriptor: image, names })?;
        Ok(Published { digest: layout.digest_of(image)?, names: names.to_vec() })
    }
}

/// Copies one blob, which keeps its digest or does not arrive.
fn copy(from: &Layout, to: &Layout, descriptor: &Descriptor) -> Result<(), LayoutError> {
    let mut file = from.open(descriptor)?;
    let mut blob = to.blob()?;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = file.read(&mut buffer).map_err(|source| LayoutError::Io {
            action: "read a blob of",
            path: from.path().to_owned(),
            source,
        })?;
        if count == 0 {
            break;
        }
        blob.append(&buffer[..count])?;
    }
    blob.commit_as(descriptor)
}
