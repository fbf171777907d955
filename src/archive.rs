//! A file that holds images, an OCI archive or a docker archive -> the images, in a layout.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::explain::{Explain, Explanation};
use crate::formats::{ReadAt, read_all};
use crate::oci::{
    Descriptor, Digest, DigestError, Index, Layout, LayoutError, Manifest, ManifestBuilder, MediaType, Named,
    Reference, Sealed, digest_of,
};
use crate::path::RawPath;
use crate::rootfs::{ImageRootfs, LayersError, Rootfs, RootfsError, chase};

/// The largest JSON document that is read, in bytes.
const DOCUMENT_MAX: u64 = 8 << 20;
/// How deep indexes may lie in indexes.
const NESTING_MAX: usize = 3;
/// How much of a blob is read at once, in bytes.
const CHUNK: usize = 1 << 18;

/// An archive of images.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    /// The members of the archive.
    members: ImageRootfs,
}

/// Why an archive gives no image. Paths are of the host.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The file cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// The archive.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no tar.
    #[error("`{}` is no archive of images", path.display())]
    NotATar {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        source: LayersError,
    },
    /// It is a tar of something else.
    #[error("`{}` has neither an `index.json` nor a `manifest.json`", path.display())]
    NoImages {
        /// The archive.
        path: PathBuf,
    },
    /// Something in it that must be there is not.
    #[error("`{}` has no `{member}`", path.display())]
    Missing {
        /// The archive.
        path: PathBuf,
        /// The path in it.
        member: RawPath,
    },
    /// Something in it cannot be read.
    #[error("cannot read `{member}` in `{}`", path.display())]
    Read {
        /// The archive.
        path: PathBuf,
        /// The path in it.
        member: RawPath,
        /// What the system says.
        source: io::Error,
    },
    /// A document in it is not what it should be.
    #[error("`{member}` in `{}` is no valid document of an image", path.display())]
    Document {
        /// The archive.
        path: PathBuf,
        /// The path in it.
        member: RawPath,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A digest in it is not one of ours.
    #[error("a descriptor in `{}` has an unusable digest", path.display())]
    Digest {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: DigestError,
    },
    /// Indexes lie in indexes, deeper than in any real one.
    #[error("the indexes in `{}` are nested more than {NESTING_MAX} deep", path.display())]
    TooDeep {
        /// The archive.
        path: PathBuf,
    },
    /// The layout does not take it.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Explain for ArchiveError {
    fn explain(&self) -> Vec<Explanation> {
        let (code, fix) = match self {
            Self::Layout(error) => return error.explain(),
            Self::Open { .. } => ("unreadable-file", "check the path and its permissions"),
            Self::NotATar { .. } | Self::NoImages { .. } => {
                ("bad-archive", "name an OCI archive, or a file that `docker save` wrote")
            }
            _ => ("bad-archive", "make the archive again"),
        };
        vec![Explanation::new(code, self.to_string()).because_of(self).fix(fix)]
    }
}

/// What docker's `manifest.json` says of one image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    layers: Vec<String>,
    repo_tags: Option<Vec<String>>,
}

impl Archive {
    /// Opens the archive `path`, which may be compressed as a whole.
    ///
    /// # Errors
    /// [`ArchiveError::Open`], [`ArchiveError::NotATar`].
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let error = |source| ArchiveError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(error)?;
        if !file.metadata().map_err(error)?.is_file() {
            return Err(error(io::Error::other("not a regular file")));
        }
        let members = ImageRootfs::of_tar(file, format!("`{}`", path.display()))
            .map_err(|source| ArchiveError::NotATar { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), members })
    }

    /// Copies the images to `layout`, and returns what the archive calls them: entries as an `index.json` has them.
    ///
    /// # Errors
    /// [`ArchiveError`]; what arrived has the digest that named it.
    pub fn bring(&self, layout: &Layout) -> Result<Vec<Descriptor>, ArchiveError> {
        // An archive that is both says more as an OCI archive.
        if self.has("/index.json")? {
            let index: Index = self.document(&"/index.json".into())?;
            for entry in index.manifests() {
                self.bring_image(entry, layout, 0)?;
            }
            return Ok(index.manifests().clone());
        }
        if !self.has("/manifest.json")? {
            return Err(ArchiveError::NoImages { path: self.path.clone() });
        }
        let images: Vec<DockerImage> = self.document(&"/manifest.json".into())?;
        let mut entries = Vec::new();
        for image in images {
            let descriptor = self.bring_docker_image(&image, layout)?;
            let tags = image.repo_tags.iter().flatten();
            let names: Vec<Reference> = tags.filter_map(|tag| tag.parse().ok()).collect();
            entries.extend(crate::oci::entries(&Named { descriptor: &descriptor, names: &names }));
        }
        Ok(entries)
    }

    /// Copies a document, and first all that it refers to.
    fn bring_image(&self, image: &Descriptor, layout: &Layout, depth: usize) -> Result<(), ArchiveError> {
        let digest = self.digest_of(image)?;
        let member = blob_path(digest);
        let media_type = image.media_type().to_string();
        if depth > NESTING_MAX {
            return Err(ArchiveError::TooDeep { path: self.path.clone() });
        }
        if media_type.contains("index") || media_type.contains("manifest.list") {
            let index: Index = self.document(&member)?;
            for entry in index.manifests() {
                // An archive for some platforms keeps the index of all.
                if self.has(&blob_path(self.digest_of(entry)?).to_string())? {
                    self.bring_image(entry, layout, depth + 1)?;
                }
            }
        } else if media_type.contains("manifest") {
            let manifest: Manifest = self.document(&member)?;
            for blob in manifest.layers().iter().chain([manifest.config()]) {
                self.bring_blob(blob, layout)?;
            }
        }
        self.bring_blob(image, layout)
    }

    fn bring_blob(&self, blob: &Descriptor, layout: &Layout) -> Result<(), ArchiveError> {
        if layout.has(blob)? && layout.verify(blob).is_ok() {
            return Ok(());
        }
        let mut writer = layout.blob()?;
        self.pieces(&blob_path(self.digest_of(blob)?), |piece| Ok(writer.append(piece)?))?;
        Ok(writer.commit_as(blob)?)
    }

    /// Copies an image in docker's form, and makes the manifest that it lacks.
    fn bring_docker_image(&self, image: &DockerImage, layout: &Layout) -> Result<Descriptor, ArchiveError> {
        let member = |name: &str| RawPath::from("/").join(name.as_bytes());
        let mut layers = Vec::new();
        for name in &image.layers {
            let mut writer = layout.blob()?;
            let mut media_type = None;
            self.pieces(&member(name), |piece| {
                media_type.get_or_insert_with(|| media_type_of(piece));
                Ok(writer.append(piece)?)
            })?;
            layers.push(writer.commit(media_type.unwrap_or(MediaType::ImageLayer))?);
        }
        let mut config = layout.blob()?;
        self.pieces(&member(&image.config), |piece| Ok(config.append(piece)?))?;
        let builder = ManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config.commit(MediaType::ImageConfig)?)
            .layers(layers);
        // Every field that the builder requires is set.
        #[expect(clippy::expect_used)]
        let manifest = builder.build().expect("a manifest has all its fields");
        let sealed = Sealed::new(manifest).map_err(|source| LayoutError::Json { source })?;
        Ok(layout.put(&sealed, MediaType::ImageManifest)?)
    }

    fn has(&self, member: &str) -> Result<bool, ArchiveError> {
        let member = RawPath::from(member);
        let chased = chase(&self.members, &member).map_err(|error| self.unreadable(&member, error))?;
        Ok(chased.end.is_ok())
    }

    fn document<T: DeserializeOwned>(&self, member: &RawPath) -> Result<T, ArchiveError> {
        let read = |source| ArchiveError::Read { path: self.path.clone(), member: member.clone(), source };
        let file = self.file(member)?;
        let bytes = read_all(&*file, DOCUMENT_MAX).map_err(read)?;
        let bytes = bytes.ok_or_else(|| read(io::ErrorKind::FileTooLarge.into()))?;
        serde_json::from_slice(&bytes).map_err(|source| ArchiveError::Document {
            path: self.path.clone(),
            member: member.clone(),
            source,
        })
    }

    /// Passes the bytes of `member` to `each`, piece by piece.
    fn pieces(
        &self,
        member: &RawPath,
        mut each: impl FnMut(&[u8]) -> Result<(), ArchiveError>,
    ) -> Result<(), ArchiveError> {
        let file = self.file(member)?;
        let (mut buffer, mut offset) = (vec![0; CHUNK], 0);
        loop {
            let read =
                |source| ArchiveError::Read { path: self.path.clone(), member: member.clone(), source };
            match file.read_at(offset, &mut buffer).map_err(read)? {
                0 => return Ok(()),
                count => {
                    each(&buffer[..count])?;
                    offset += count as u64;
                }
            }
        }
    }

    /// Opens `member`. docker writes links for layers that several images share.
    fn file(&self, member: &RawPath) -> Result<Box<dyn ReadAt + '_>, ArchiveError> {
        let chased = chase(&self.members, member).map_err(|error| self.unreadable(member, error))?;
        match chased.target() {
            Some(path) => self.members.open(&path).map_err(|error| self.unreadable(member, error)),
            None => Err(ArchiveError::Missing { path: self.path.clone(), member: member.clone() }),
        }
    }

    fn unreadable(&self, member: &RawPath, error: RootfsError) -> ArchiveError {
        let (path, member) = (self.path.clone(), member.clone());
        let source = match error {
            RootfsError::Read { source, .. } | RootfsError::Open { source, .. } => source,
            RootfsError::Denied { .. } => io::ErrorKind::PermissionDenied.into(),
            RootfsError::TooLarge { .. } => io::ErrorKind::FileTooLarge.into(),
        };
        ArchiveError::Read { path, member, source }
    }

    fn digest_of(&self, descriptor: &Descriptor) -> Result<Digest, ArchiveError> {
        digest_of(descriptor).map_err(|source| ArchiveError::Digest { path: self.path.clone(), source })
    }
}

fn blob_path(digest: Digest) -> RawPath {
    RawPath::new(format!("/blobs/sha256/{}", digest.hex()))
}

/// Returns what a layer that begins with `bytes` is: most docker archives have tars, some have them compressed.
fn media_type_of(bytes: &[u8]) -> MediaType {
    match bytes {
        [0x1f, 0x8b, ..] => MediaType::ImageLayerGzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => MediaType::ImageLayerZstd,
        _ => MediaType::ImageLayer,
    }
}
