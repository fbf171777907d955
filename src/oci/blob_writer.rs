//! Bytes -> a blob of a layout, hashed on the way.

use std::io::{self, BufWriter, Write};
use std::num::NonZeroU64;
use std::thread;

use rustix::fs::Advice;
use tracing::warn;

use super::layout::Lifetime;
use super::{Descriptor, Digest, Hasher, Layout, LayoutError, MediaType, NewFile, descriptor};

/// Pieces with fewer bytes are collected before they are written.
const BUFFER: usize = 1 << 16;
/// A piece of this many bytes is hashed while it is stored.
const LARGE: usize = 1 << 18;
/// How much the disk gets to write at once, in bytes.
const STRETCH: u64 = 1 << 20;

/// A blob that is being written. Dropped, it is gone; [`commit`](BlobWriter::commit) makes it visible.
#[derive(Debug)]
pub struct BlobWriter {
    layout: Layout,
    file: BufWriter<NewFile>,
    copy: Option<Box<BlobWriter>>,
    hasher: Hasher,
    size: u64,
    /// How much of the blob the disk has been asked to take.
    started: u64,
}

impl BlobWriter {
    pub(super) fn create(layout: &Layout) -> Result<Self, LayoutError> {
        let directory = layout.blobs();
        let file = NewFile::create_in(&directory).map_err(|source| LayoutError::Io {
            action: "create a file in",
            path: directory,
            source,
        })?;
        Ok(Self {
            layout: layout.clone(),
            file: BufWriter::with_capacity(BUFFER, file),
            copy: None,
            hasher: Hasher::default(),
            size: 0,
            started: 0,
        })
    }

    /// Writes the blob to `copy` too, from the start. What goes wrong there costs the copy, and nothing else.
    pub fn with_copy(self, copy: BlobWriter) -> Self {
        Self { copy: Some(Box::new(copy)), ..self }
    }

    /// Adds `bytes` to the blob.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        if bytes.len() < LARGE {
            self.hasher.update(bytes);
            return self.store_all(bytes);
        }
        // Either takes about as long as the other, and a hundred times as long as starting a thread.
        let mut hasher = std::mem::take(&mut self.hasher);
        let (hasher, stored) = thread::scope(|scope| {
            let hashed = scope.spawn(move || {
                hasher.update(bytes);
                hasher
            });
            let stored = self.store_all(bytes);
            (hashed.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), stored)
        });
        self.hasher = hasher;
        stored
    }

    fn store_all(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.store(bytes)?;
        if let Some(copy) = &mut self.copy
            && let Err(error) = copy.store(bytes)
        {
            warn!(%error, "a blob is not kept");
            self.copy = None;
        }
        Ok(())
    }

    fn store(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.file.write_all(bytes).map_err(|source| self.error(source))?;
        self.size += bytes.len() as u64;
        self.start_disk();
        Ok(())
    }

    /// Has the disk begin with what was written, which it must have at the end: the next bytes are made meanwhile.
    fn start_disk(&mut self) {
        let written = self.size - self.file.buffer().len() as u64;
        let fresh = written - self.started;
        if self.layout.lifetime == Lifetime::Lasting && fresh >= STRETCH {
            // On Linux this starts the writing of the pages, and waits for none (PostgreSQL does the same). It is a
            // hint: whatever it returns, the end waits for all of them.
            let file = self.file.get_ref().file();
            let _ = rustix::fs::fadvise(file, self.started, NonZeroU64::new(fresh), Advice::DontNeed);
            self.started = written;
        }
    }

    /// Gives the blob its name, and returns its descriptor.
    ///
    /// # Errors
    /// [`LayoutError::Io`].
    pub fn commit(self, media_type: MediaType) -> Result<Descriptor, LayoutError> {
        let digest = self.hasher.clone().finish();
        let size = self.size;
        self.persist(digest)?;
        Ok(descriptor(media_type, digest, size))
    }

    /// Gives the blob its name if it is the one that `expected` describes.
    ///
    /// # Errors
    /// [`LayoutError::Corrupt`] if it is not; [`LayoutError::Io`].
    pub fn commit_as(self, expected: &Descriptor) -> Result<(), LayoutError> {
        let digest = self.layout.digest_of(expected)?;
        if self.hasher.clone().finish() != digest || self.size != expected.size() {
            return Err(LayoutError::Corrupt { path: self.layout.blob_path(digest) });
        }
        self.persist(digest)
    }

    fn persist(self, digest: Digest) -> Result<(), LayoutError> {
        if let Some(Err(error)) = self.copy.map(|copy| copy.persist(digest)) {
            warn!(%error, "a blob is not kept");
        }
        let Self { layout, file, .. } = self;
        let file = file.into_inner().map_err(|error| LayoutError::Io {
            action: "write a blob in",
            path: layout.blobs(),
            source: error.into_error(),
        })?;
        layout.name(file, &layout.blob_path(digest))
    }

    fn error(&self, source: io::Error) -> LayoutError {
        LayoutError::Io { action: "write a blob in", path: self.layout.blobs(), source }
    }
}
