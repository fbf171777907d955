//! `NAME.oci.tar`: one file that is an OCI archive and a docker archive, so that every engine loads it.

use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use serde_json::json;
use tar::{EntryType, Header};
use thiserror::Error;

use super::{Destination, PublishError, Published};
use crate::layer::{END, padding};
use crate::oci::{
    Descriptor, Layout, LayoutError, Manifest, Named, OutputFile, Reference, canonical_json, digest_of,
    index_json, platform,
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
        let output = OutputFile::create(&self.path).map_err(error("create"))?;
        // Directly into a file, so that the kernel can copy blobs by itself.
        let mut buffer = BufWriter::with_capacity(1 << 20, output.file());
        let written = write(layout, image, names, self.kind, &mut buffer);
        match written.and_then(|()| Ok(buffer.flush()?)) {
            Ok(()) => {}
            Err(WriteError::Layout(source)) => return Err(source.into()),
            Err(WriteError::Io(source)) => return Err(error("write")(source)),
        }
        drop(buffer);
        output.publish().map_err(error("write"))?;
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

/// Writes the archive of `image` to `to`. What it is matters: [`io::copy`] moves a blob from file to file, or from a file
/// into a pipe, inside the kernel.
pub(super) fn write<W: Write>(
    layout: &Layout,
    image: &Descriptor,
    names: &[Reference],
    kind: ArchiveKind,
    to: &mut W,
) -> Result<(), WriteError> {
    let mut blobs = layout.blobs_of(image)?;
    blobs.sort_by(|one, other| one.digest().as_ref().cmp(other.digest().as_ref()));
    for directory in ["blobs/", "blobs/sha256/"] {
        append(to, directory, 0o755, 0, io::empty())?;
    }
    for blob in &blobs {
        append(to, &blob_name(blob)?, 0o644, blob.size(), layout.open(blob)?)?;
    }
    let mut documents = vec![("index.json", index_json(&Named { descriptor: image, names })?)];
    if kind == ArchiveKind::OciAndDocker {
        documents.push(("manifest.json", docker_manifest(layout, image, names)?));
    }
    documents.push(("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    for (name, bytes) in documents {
        append(to, name, 0o644, bytes.len() as u64, bytes.as_slice())?;
    }
    Ok(to.write_all(&END)?)
}

fn append<W: Write>(to: &mut W, name: &str, mode: u32, size: u64, bytes: impl Read) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
    header.set_path(name)?;
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    to.write_all(header.as_bytes())?;
    let copied = io::copy(&mut bytes.take(size), to)?;
    if copied < size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("`{name}` is shorter than it was")));
    }
    to.write_all(&END[..padding(size)])
}

/// Returns the document that makes a docker archive of an OCI layout. Such an archive knows no platforms: of an index,
/// the image for this machine is in it, or the first if none is.
fn docker_manifest(layout: &Layout, image: &Descriptor, names: &[Reference]) -> Result<Vec<u8>, LayoutError> {
    let children = layout.children(image)?;
    let image = platform::choice(&children, &platform::host()).or(children.first()).unwrap_or(image);
    let manifest: Manifest = layout.document(image)?;
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
