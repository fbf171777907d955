//! Blobs and their index -> an OCI image layout: the only form in which images lie on a disk of ours.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use thiserror::Error;

use super::blob_writer::BlobWriter;
use super::{
    Descriptor, Digest, DigestError, Hasher, Index, IndexBuilder, MediaType, NewFile, Reference, Sealed,
    canonical_json, digest_of,
};
use crate::explain::{Explain, Explanation};

/// The largest JSON document that is read, in bytes. Registries refuse manifests above 4 MiB.
const DOCUMENT_MAX: u64 = 8 << 20;
/// How much of a blob is read at once, in bytes.
const CHUNK: usize = 1 << 18;
/// How many files are waited for at once, until the disk has them.
const SYNCED_AT_ONCE: usize = 16;
pub(super) const ANNOTATION_TAG: &str = "org.opencontainers.image.ref.name";
pub(super) const ANNOTATION_NAME: &str = "io.containerd.image.name";
const LAYOUT_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";

/// An OCI image layout in a directory of the host (image-spec, image-layout.md).
#[derive(Debug, Clone)]
pub struct Layout {
    path: PathBuf,
    pub(super) lifetime: Lifetime,
    /// What was written, and the disk may not have yet.
    unsettled: Arc<Mutex<Vec<(PathBuf, File)>>>,
}

/// Whether what is written must outlive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lifetime {
    Lasting,
    Temporary,
}

/// A manifest or index with the names it goes by; without names it is found by its digest only.
#[derive(Debug, Clone)]
pub struct Named<'a> {
    /// The document.
    pub descriptor: &'a Descriptor,
    /// Its names, possibly none.
    pub names: &'a [Reference],
}

/// Why a layout cannot be read or written. Paths are of the host.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// The file system refuses.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The directory holds something else.
    #[error("`{}` is not an OCI layout, and not empty", path.display())]
    NotALayout {
        /// The directory.
        path: PathBuf,
    },
    /// There is no layout in the directory.
    #[error("`{}` is not an OCI layout", path.display())]
    NoLayout {
        /// The directory.
        path: PathBuf,
    },
    /// A document is no valid JSON of its kind.
    #[error("`{}` is not a valid OCI document", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A document is larger than any real one.
    #[error("`{}` is larger than {DOCUMENT_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A document cannot be expressed as JSON.
    #[error("cannot write the document as JSON")]
    Json {
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A descriptor has a digest that is not one of ours.
    #[error("a descriptor in `{}` has an unusable digest", path.display())]
    Digest {
        /// The layout.
        path: PathBuf,
        /// What is wrong with it.
        source: DigestError,
    },
    /// A blob's bytes are not those its name promises.
    #[error("the blob `{}` does not have the digest in its name", path.display())]
    Corrupt {
        /// The blob.
        path: PathBuf,
    },
}

impl Explain for LayoutError {
    fn explain(&self) -> Vec<Explanation> {
        let (code, fix) = match self {
            Self::Io { .. } => {
                ("unwritable-output", "check the path, its permissions and the space left there")
            }
            Self::NotALayout { .. } => {
                ("unwritable-output", "name a new or empty directory, or one that holds an OCI layout")
            }
            Self::NoLayout { .. } => {
                ("bad-layout", "name a directory with the files `oci-layout` and `index.json`")
            }
            _ => ("bad-layout", "make the layout again"),
        };
        vec![Explanation::new(code, self.to_string()).because_of(self).fix(fix)]
    }
}

impl Layout {
    /// Opens the layout in the directory `path`, which is made if it is missing.
    ///
    /// # Errors
    /// [`LayoutError::NotALayout`] if the directory holds anything else; [`LayoutError::Io`].
    pub fn create(path: &Path) -> Result<Self, LayoutError> {
        Self::with(path, Lifetime::Lasting)
    }

    /// Opens a layout as [`Layout::create`] does, for images on their way elsewhere: it waits for no disk, and a
    /// crash of the machine may leave it with blobs that are not what their names say.
    ///
    /// # Errors
    /// As of [`Layout::create`].
    pub fn create_temporary(path: &Path) -> Result<Self, LayoutError> {
        Self::with(path, Lifetime::Temporary)
    }

    /// Opens the layout in the directory `path`, which is only read.
    ///
    /// # Errors
    /// [`LayoutError::NoLayout`] if there is none.
    pub fn open_existing(path: &Path) -> Result<Self, LayoutError> {
        if !Self::is_at(path) {
            return Err(LayoutError::NoLayout { path: path.to_owned() });
        }
        Ok(Self::new(path, Lifetime::Lasting))
    }

    /// Returns whether a layout is in the directory `path`.
    pub fn is_at(path: &Path) -> bool {
        path.join(LAYOUT_FILE).is_file() && path.join(INDEX_FILE).is_file()
    }

    fn new(path: &Path, lifetime: Lifetime) -> Self {
        Self { path: path.to_owned(), lifetime, unsettled: Arc::default() }
    }

    fn with(path: &Path, lifetime: Lifetime) -> Result<Self, LayoutError> {
        let layout = Self::new(path, lifetime);
        let marker = path.join(LAYOUT_FILE);
        if marker.is_file() && layout.blobs().is_dir() {
            return Ok(layout);
        }
        let io = |action| move |source| LayoutError::Io { action, path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(io("create"))?;
        // Another build may be making the same layout.
        let lock = layout.lock()?;
        if !marker.is_file() {
            for entry in fs::read_dir(path).map_err(io("read"))? {
                // Left by a build that was killed right here.
                let is_unfinished = entry.map_err(io("read"))?.file_name().as_bytes().starts_with(b".tmp");
                if !is_unfinished {
                    return Err(LayoutError::NotALayout { path: path.to_owned() });
                }
            }
            layout.name(layout.document_file(br#"{"imageLayoutVersion":"1.0.0"}"#)?, &marker)?;
        }
        fs::create_dir_all(layout.blobs()).map_err(io("create"))?;
        drop(lock);
        Ok(layout)
    }

    /// Returns the directory of the host that holds the layout.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a new blob.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn blob(&self) -> Result<BlobWriter, LayoutError> {
        BlobWriter::create(self)
    }

    /// Stores a sealed document, unless it is there.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn put<T>(&self, document: &Sealed<T>, media_type: MediaType) -> Result<Descriptor, LayoutError> {
        let descriptor = document.descriptor(media_type.clone());
        if fs::read(self.blob_path(document.digest())).is_ok_and(|bytes| bytes == document.bytes()) {
            return Ok(descriptor);
        }
        let mut blob = self.blob()?;
        blob.append(document.bytes())?;
        blob.commit(media_type)
    }

    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`LayoutError::Io`], [`LayoutError::Digest`].
    pub fn open(&self, descriptor: &Descriptor) -> Result<File, LayoutError> {
        let path = self.blob_path(self.digest_of(descriptor)?);
        File::open(&path).map_err(|source| LayoutError::Io { action: "open", path, source })
    }

    /// Returns whether the blob is there, with the size that its descriptor gives.
    ///
    /// # Errors
    /// [`LayoutError::Digest`].
    pub fn has(&self, descriptor: &Descriptor) -> Result<bool, LayoutError> {
        let path = self.blob_path(self.digest_of(descriptor)?);
        Ok(fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == descriptor.size()))
    }

    /// Returns the bytes of a small blob, checked against its digest.
    ///
    /// # Errors
    /// [`LayoutError::Corrupt`], [`LayoutError::TooLarge`], [`LayoutError::Io`].
    pub fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let digest = self.digest_of(descriptor)?;
        let bytes = read_document(&self.blob_path(digest))?;
        if Digest::of(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(LayoutError::Corrupt { path: self.blob_path(digest) })
        }
    }

    /// Checks a blob of any size against its digest.
    ///
    /// # Errors
    /// [`LayoutError::Corrupt`] if it is another; [`LayoutError::Io`].
    pub fn verify(&self, descriptor: &Descriptor) -> Result<(), LayoutError> {
        let digest = self.digest_of(descriptor)?;
        let mut hasher = Hasher::default();
        self.pieces(descriptor, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        if hasher.finish() == digest {
            Ok(())
        } else {
            Err(LayoutError::Corrupt { path: self.blob_path(digest) })
        }
    }

    /// Copies a blob of `other`, which keeps its digest or does not arrive.
    ///
    /// # Errors
    /// [`LayoutError::Corrupt`] if it is not what its name says; [`LayoutError::Io`].
    pub fn copy_from(&self, other: &Self, descriptor: &Descriptor) -> Result<(), LayoutError> {
        let mut blob = self.blob()?;
        other.pieces(descriptor, |bytes| blob.append(bytes))?;
        blob.commit_as(descriptor)
    }

    /// Passes the bytes of a blob to `each`, piece by piece.
    fn pieces(
        &self,
        descriptor: &Descriptor,
        mut each: impl FnMut(&[u8]) -> Result<(), LayoutError>,
    ) -> Result<(), LayoutError> {
        let mut file = self.open(descriptor)?;
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => each(&buffer[..count])?,
                Err(source) => {
                    let path = self.blob_path(self.digest_of(descriptor)?);
                    return Err(LayoutError::Io { action: "read", path, source });
                }
            }
        }
    }

    /// Returns the digest of the document that `descriptor` names.
    ///
    /// # Errors
    /// [`LayoutError::Digest`].
    pub fn digest_of(&self, descriptor: &Descriptor) -> Result<Digest, LayoutError> {
        digest_of(descriptor).map_err(|source| LayoutError::Digest { path: self.path.clone(), source })
    }

    /// Returns the index of the layout; an empty one if there is none yet.
    ///
    /// # Errors
    /// [`LayoutError::Document`], [`LayoutError::TooLarge`], [`LayoutError::Io`].
    pub fn index(&self) -> Result<Index, LayoutError> {
        let path = self.path.join(INDEX_FILE);
        match read_document(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| LayoutError::Document { path, source })
            }
            Err(LayoutError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(index_of(Vec::new()))
            }
            Err(error) => Err(error),
        }
    }

    /// Enters a document into the index, replacing what has the same names. Safe beside other writers.
    ///
    /// # Errors
    /// As of [`Layout::index`].
    pub fn enter(&self, named: &Named<'_>) -> Result<(), LayoutError> {
        let lock = self.lock()?;
        let fresh = entries(named);
        let mut manifests = self.index()?.manifests().clone();
        if fresh.iter().all(|new| manifests.contains(new)) {
            return Ok(());
        }
        manifests.retain(|old| {
            !fresh.iter().any(|new| old.annotations() == new.annotations() && name_of(old).is_some())
                && !fresh.contains(old)
        });
        manifests.extend(fresh);
        let bytes = canonical_json(&index_of(manifests)).map_err(|source| LayoutError::Json { source })?;
        let index = self.document_file(&bytes)?;
        // First what the index refers to, then the index: a crash shows the old one or the new one.
        self.settle_with(Some(index.file()))?;
        index.persist(&self.path.join(INDEX_FILE)).map_err(|source| self.io("write", source))?;
        drop(lock);
        Ok(())
    }

    /// Waits until the disk has everything that was written to the layout so far.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn settle(&self) -> Result<(), LayoutError> {
        self.settle_with(None)
    }

    fn settle_with(&self, more: Option<&File>) -> Result<(), LayoutError> {
        if self.lifetime == Lifetime::Temporary {
            return Ok(());
        }
        let written = std::mem::take(&mut *self.unsettled.lock().unwrap_or_else(PoisonError::into_inner));
        let names = File::open(self.blobs()).map_err(|source| self.io("open", source))?;
        let files = written.iter().map(|(_, file)| file).chain([&names]).chain(more);
        sync(&files.collect::<Vec<_>>()).map_err(|source| {
            // Nobody can say what of it the disk has; the next build must not find it.
            for (path, _) in &written {
                let _ = fs::remove_file(path);
            }
            self.io("write", source)
        })
    }

    /// Returns a file that holds `bytes`, and is still to be named.
    fn document_file(&self, bytes: &[u8]) -> Result<NewFile, LayoutError> {
        let mut file =
            NewFile::create_in(&self.path).map_err(|source| self.io("create a file in", source))?;
        file.write_all(bytes).map_err(|source| self.io("write", source))?;
        Ok(file)
    }

    /// Gives `file` its name. The disk has it when [`Layout::settle`] returns.
    pub(super) fn name(&self, file: NewFile, path: &Path) -> Result<(), LayoutError> {
        let file = file.persist(path).map_err(|source| self.io("write", source))?;
        if self.lifetime == Lifetime::Lasting {
            self.unsettled.lock().unwrap_or_else(PoisonError::into_inner).push((path.to_owned(), file));
        }
        Ok(())
    }

    fn io(&self, action: &'static str, source: io::Error) -> LayoutError {
        LayoutError::Io { action, path: self.path.clone(), source }
    }

    fn lock(&self) -> Result<File, LayoutError> {
        let io = |source| LayoutError::Io { action: "lock", path: self.path.clone(), source };
        let directory = File::open(&self.path).map_err(io)?;
        rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|errno| io(errno.into()))?;
        Ok(directory)
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.path.join("blobs").join("sha256")
    }

    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }
}

/// Returns the text of an `index.json` with exactly `named` in it.
///
/// # Errors
/// [`LayoutError::Json`].
pub(crate) fn index_json(named: &Named<'_>) -> Result<Vec<u8>, LayoutError> {
    canonical_json(&index_of(entries(named))).map_err(|source| LayoutError::Json { source })
}

/// Returns an index with these entries.
pub(crate) fn index_of(manifests: Vec<Descriptor>) -> Index {
    let builder = IndexBuilder::default().schema_version(2_u32).media_type(MediaType::ImageIndex);
    // Every field that the builder requires is set.
    #[expect(clippy::expect_used)]
    builder.manifests(manifests).build().expect("an index has all its fields")
}

/// Returns one index entry for each name. Docker, Podman and containerd read the full name, Skopeo and umoci the tag
/// (facts measured: with both, all five find it).
pub(crate) fn entries(named: &Named<'_>) -> Vec<Descriptor> {
    if named.names.is_empty() {
        return vec![named.descriptor.clone()];
    }
    let entry = |name: &Reference| {
        let mut descriptor = named.descriptor.clone();
        let tag = name.tag().unwrap_or("latest").to_owned();
        let annotations = [(ANNOTATION_TAG.to_owned(), tag), (ANNOTATION_NAME.to_owned(), name.to_string())];
        descriptor.set_annotations(Some(annotations.into()));
        descriptor
    };
    named.names.iter().map(entry).collect()
}

/// Returns the names by which `entries` call the document `image`.
pub fn names_of(entries: &[Descriptor], image: &Descriptor) -> Vec<Reference> {
    let same = entries.iter().filter(|entry| entry.digest() == image.digest());
    same.filter_map(name_of).filter_map(|name| name.parse().ok()).collect()
}

fn name_of(descriptor: &Descriptor) -> Option<&String> {
    descriptor.annotations().as_ref()?.get(ANNOTATION_NAME)
}

fn read_document(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let io = |source| LayoutError::Io { action: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(DOCUMENT_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > DOCUMENT_MAX {
        return Err(LayoutError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Waits until the disk has `files`.
fn sync(files: &[&File]) -> io::Result<()> {
    // Side by side: the file system then writes its journal once for many of them.
    files.chunks(SYNCED_AT_ONCE).try_for_each(|some| {
        let synced: Vec<io::Result<()>> = thread::scope(|scope| {
            let syncing: Vec<_> = some.iter().map(|file| scope.spawn(|| file.sync_all())).collect();
            let joined = syncing.into_iter().map(|sync| sync.join());
            joined.map(|synced| synced.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        synced.into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_refuses_is_not_left_in_the_layout() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let blob = |bytes: &[u8]| {
            let mut blob = layout.blob().unwrap();
            blob.append(bytes).unwrap();
            blob.commit(MediaType::ImageLayer).unwrap()
        };
        let good = blob(b"good");
        layout.settle().unwrap();
        let bad = blob(b"bad");
        // Flushing it is what a pipe refuses.
        let (pipe, _) = std::io::pipe().unwrap();
        let path = layout.blob_path(layout.digest_of(&bad).unwrap());
        layout.unsettled.lock().unwrap().push((path, std::os::fd::OwnedFd::from(pipe).into()));
        assert!(matches!(layout.settle(), Err(LayoutError::Io { .. })));
        assert!(layout.has(&good).unwrap() && !layout.has(&bad).unwrap());
        layout.settle().unwrap();
    }
}
