//! `NAME.oci.tar`: one file that is an OCI archive and a docker archive, so that every engine loads it.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tar::{Builder, EntryType, Header};
use thiserror::Error;

use super::{Destination, PublishError, Published};
use crate::oci::{
    Descriptor, Layout, LayoutError, Manifest, Named, Reference, canonical_json, digest_of, index_json,
    publish, scratch,
};

/// A file that holds one image.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Where the file goes, on the host; what is there is replaced as the last step.
    pub path: PathBuf,
    /// For whom it is.
    pub kind: ArchiveKind,
}

/// What an archive can be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArchiveKind {
    /// An OCI layout, and nothing else.
    Oci,
    /// An OCI layout and what `docker load` of every version reads.
    OciAndDocker,
}

impl Destination for Archive {
    fn publish(
        &self,
        layout: &Layout,
        image: &Descriptor,
        names: &[Reference],
    ) -> Result<Published, PublishError> {
        let error = |action| move |source| PublishError::Archive { action, path: self.path.clone(), source };
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = scratch(directory.unwrap_or(Path::new("."))).map_err(error("create"))?;
        let mut buffer = BufWriter::with_capacity(1 << 20, file);
        match write(layout, image, names, self.kind, &mut buffer) {
            Ok(()) => {}
            Err(WriteError::Layout(source)) => return Err(source.into()),
            Err(WriteError::Io(source)) => return Err(error("write")(source)),
        }
        let file = buffer.into_inner().map_err(io::IntoInnerError::into_error).map_err(error("write"))?;
        publish(file, &self.path).map_err(error("write"))?;
        Ok(Published { digest: layout.digest_of(image)?, names: names.to_vec() })
    }
}

/// Why an archive was not written to its end.
#[derive(Debug, Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes the archive of `image` to `to`.
pub(super) fn write(
    layout: &Layout,
    image: &Descriptor,
    names: &[Reference],
    kind: ArchiveKind,
    to: &mut dyn Write,
) -> Result<(), WriteError> {
    let mut builder = Builder::new(to);
    let mut blobs = layout.blobs_of(image)?;
    blobs.sort_by(|one, other| one.digest().as_ref().cmp(other.digest().as_ref()));
    for directory in ["blobs/", "blobs/sha256/"] {
        append(&mut builder, directory, 0o755, 0, io::empty())?;
    }
    for blob in &blobs {
        append(&mut builder, &blob_name(blob)?, 0o644, blob.size(), layout.open(blob)?)?;
    }
    let mut documents = vec![("index.json", index_json(&Named { descriptor: image, names })?)];
    if kind == ArchiveKind::OciAndDocker {
        documents.push(("manifest.json", docker_manifest(layout, image, names)?));
    }
    documents.push(("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    for (name, bytes) in documents {
        append(&mut builder, name, 0o644, bytes.len() as u64, bytes.as_slice())?;
    }
    Ok(builder.finish()?)
}

fn append(
    builder: &mut Builder<impl Write>,
    name: &str,
    mode: u32,
    size: u64,
    bytes: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    builder.append_data(&mut header, name, bytes.take(size))
}

/// Returns the document that makes a docker archive of an OCI layout.
fn docker_manifest(layout: &Layout, image: &Descriptor, names: &[Reference]) -> Result<Vec<u8>, LayoutError> {
    let path = || layout.path().to_owned();
    let manifest: Manifest = serde_json::from_slice(&layout.read(image)?)
        .map_err(|source| LayoutError::Document { path: path(), source })?;
    let layers = manifest.layers().iter().map(blob_name).collect::<Result<Vec<_>, _>>()?;
    let tags: Vec<_> = names.iter().map(ToString::to_string).collect();
    let config = blob_name(manifest.config())?;
    canonical_json(&json!([{ "Config": config, "Layers": layers, "RepoTags": tags }]))
        .map_err(|source| LayoutError::Json { source })
}

fn blob_name(blob: &Descriptor) -> Result<String, LayoutError> {
    let digest =
        digest_of(blob).map_err(|source| LayoutError::Digest { path: PathBuf::from("blobs"), source })?;
    Ok(format!("blobs/sha256/{}", digest.hex()))
}
