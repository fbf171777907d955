//! An image in a layout -> repositories of registries: blobs first, then what refers to them, then the names.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::document::{Content, Document, DocumentError, is_document};
use super::error::RegistryError;
use super::repository::Repository;
use super::upload::Upload;
use super::{Client, referrers};
use crate::observer::{Event, NameOutcome, Observer};
use crate::oci::{Descriptor, Digest, Layout, Reference, digest_of};

/// How deep indexes may lie in indexes.
pub(super) const NESTING_MAX: usize = 3;

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The digest of the image's manifest or index.
    pub digest: Digest,
    /// Each blob in each repository.
    pub blobs: Vec<PushedBlob>,
    /// Each name that was asked for.
    pub names: Vec<PushedName>,
}

/// What became of one blob in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedBlob {
    /// The repository, with its registry.
    pub repository: String,
    /// The blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What happened.
    pub outcome: BlobOutcome,
}

/// How a blob came to be in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobOutcome {
    /// It was sent.
    Uploaded,
    /// It was there before.
    AlreadyThere,
    /// The registry took it over from another of its repositories.
    Mounted {
        /// That repository.
        from: String,
    },
}

/// What became of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedName {
    /// The name.
    pub reference: Reference,
    /// What happened.
    pub outcome: NameOutcome,
}

/// Everything that one image consists of.
struct Parts {
    /// Smallest first, each once.
    blobs: Vec<(Descriptor, Digest)>,
    /// Each after all that it refers to; the image itself is the last.
    documents: Vec<Part>,
}

struct Part {
    digest: Digest,
    bytes: Bytes,
    document: Document,
}

impl Client {
    /// Sends the image `image` of `layout` to each of `references`, as far as it is not there already. A reference with
    /// a digest and no tag gets no name; only its repository counts.
    ///
    /// # Errors
    /// [`RegistryError`]; then no tag has changed, unless one of several failed.
    pub async fn push(
        &self,
        layout: &Layout,
        image: &Descriptor,
        references: &[Reference],
        observer: &dyn Observer,
    ) -> Result<Pushed, RegistryError> {
        let parts = Parts::of(layout, image)?;
        let digest = parts.image().digest;
        if let Some(other) = references.iter().find(|it| it.digest().is_some_and(|own| own != digest)) {
            return Err(RegistryError::OtherImage { reference: other.to_string(), digest });
        }
        let mut pushed = Pushed { digest, blobs: Vec::new(), names: Vec::new() };
        let mut done: Vec<&Reference> = Vec::new();
        for first in references {
            if done.iter().any(|done| done.without_version() == first.without_version()) {
                continue;
            }
            let endpoint = self.endpoint(first.registry(), observer).await?;
            let repository = self.repository(&endpoint, first.repository(), observer);
            let mountable: BTreeSet<&str> = (self.mount_from.iter().chain(done.iter().copied()))
                .filter(|it| it.registry() == first.registry() && it.repository() != first.repository())
                .map(Reference::repository)
                .collect();
            let mountable: Vec<&str> = mountable.into_iter().collect();
            let uploads =
                parts.blobs.iter().map(|(blob, digest)| Upload::new(repository, layout, blob, *digest));
            let uploads: Vec<_> = uploads.collect();
            let runs =
                parts.blobs.iter().zip(&uploads).enumerate().map(|(index, ((blob, digest), upload))| {
                    let mountable = mountable.as_slice();
                    async move {
                        let outcome = upload.run(mountable).await?;
                        let repository = first.without_version();
                        let blob = PushedBlob { repository, digest: *digest, size: blob.size(), outcome };
                        Ok::<_, RegistryError>((index, blob))
                    }
                });
            // As they end, so that a slow one holds up neither the others nor the news that one failed.
            let runs = stream::iter(runs).buffer_unordered(self.concurrency.get());
            let mut blobs: Vec<(usize, PushedBlob)> = match runs.try_collect().await {
                Ok(blobs) => blobs,
                Err(error) => {
                    join_all(uploads.iter().map(Upload::abandon)).await;
                    return Err(error);
                }
            };
            blobs.sort_by_key(|(index, _)| *index);
            pushed.blobs.extend(blobs.into_iter().map(|(_, blob)| blob));
            let names: Vec<&Reference> =
                references.iter().filter(|it| it.without_version() == first.without_version()).collect();
            pushed.names.extend(publish(repository, &parts, &names).await?);
            done.push(first);
        }
        Ok(pushed)
    }

    /// Sends the image as [`Client::push`] does, but takes a registry that has its manifest at its word: what the
    /// manifest refers to is not asked for. One request says that a name means the image already.
    ///
    /// # Errors
    /// As of [`Client::push`].
    pub async fn push_if_changed(
        &self,
        layout: &Layout,
        image: &Descriptor,
        references: &[Reference],
        observer: &dyn Observer,
    ) -> Result<Pushed, RegistryError> {
        let bytes = layout.read(image).map_err(|source| RegistryError::Layout { source })?;
        let digest = Digest::of(&bytes);
        let media_type = image.media_type().to_string();
        let mut pushed = Pushed { digest, blobs: Vec::new(), names: Vec::new() };
        for reference in references {
            let endpoint = self.endpoint(reference.registry(), observer).await?;
            let repository = self.repository(&endpoint, reference.repository(), observer);
            let Some(tag) = reference.tag().filter(|_| reference.digest().is_none()) else {
                let all = self.push(layout, image, std::slice::from_ref(reference), observer).await?;
                pushed.blobs.extend(all.blobs);
                pushed.names.extend(all.names);
                continue;
            };
            let outcome = if repository.manifest_digest(tag).await? == Some(digest) {
                NameOutcome::AlreadyThere
            } else if repository.manifest_digest(&digest.to_string()).await? == Some(digest) {
                repository.put_manifest(tag, &bytes.clone().into(), &media_type, None).await?;
                NameOutcome::Retagged
            } else {
                let all = self.push(layout, image, std::slice::from_ref(reference), observer).await?;
                pushed.blobs.extend(all.blobs);
                pushed.names.extend(all.names);
                continue;
            };
            observer.event(Event::Named { reference, outcome });
            pushed.names.push(PushedName { reference: reference.clone(), outcome });
        }
        Ok(pushed)
    }
}

/// Stores the documents, and then the names, of an image whose blobs are there.
async fn publish(
    repository: Repository<'_>,
    parts: &Parts,
    references: &[&Reference],
) -> Result<Vec<PushedName>, RegistryError> {
    let image = parts.image();
    let mut before = Vec::new();
    for reference in references {
        let known = match reference.tag() {
            Some(tag) => repository.manifest_digest(tag).await?,
            None => None,
        };
        before.push(known == Some(image.digest));
    }
    let mut outcome = NameOutcome::Retagged;
    // What a tag means was checked when it was pushed; a child of an index can have been deleted since.
    for part in &parts.documents {
        let version = part.digest.to_string();
        let is_there = repository.manifest_digest(&version).await? == Some(part.digest);
        // An artifact is always sent: only the answer says whether the registry knows what it is attached to.
        if !is_there || part.document.subject.is_some() {
            let answer =
                repository.put_manifest(&version, &part.bytes, &part.document.media_type, None).await?;
            referrers::attached(repository, &part.descriptor(), &part.document, &answer).await?;
        }
        if part.digest == image.digest && !is_there {
            outcome = NameOutcome::Pushed;
        }
    }
    let mut names = Vec::new();
    for (reference, known) in references.iter().zip(before) {
        let outcome = match reference.tag() {
            _ if known => NameOutcome::AlreadyThere,
            None if outcome == NameOutcome::Retagged => NameOutcome::AlreadyThere,
            None => outcome,
            Some(tag) => {
                repository.put_manifest(tag, &image.bytes, &image.document.media_type, None).await?;
                outcome
            }
        };
        repository.observer.event(Event::Named { reference, outcome });
        names.push(PushedName { reference: (*reference).clone(), outcome });
    }
    Ok(names)
}

impl Part {
    fn descriptor(&self) -> Descriptor {
        let media_type = self.document.media_type.as_str().into();
        crate::oci::descriptor(media_type, self.digest, self.bytes.len() as u64)
    }
}

impl Parts {
    /// Reads what `image` consists of.
    fn of(layout: &Layout, image: &Descriptor) -> Result<Self, RegistryError> {
        let mut parts = Self { blobs: Vec::new(), documents: Vec::new() };
        parts.add(layout, image, 0)?;
        parts.blobs.sort_by_key(|(blob, digest)| (blob.size(), *digest));
        parts.blobs.dedup_by_key(|(_, digest)| *digest);
        Ok(parts)
    }

    fn add(&mut self, layout: &Layout, descriptor: &Descriptor, depth: usize) -> Result<(), RegistryError> {
        let what = descriptor.digest().to_string();
        let document_error = |source| RegistryError::Document { what: what.clone(), source };
        let digest = digest_of(descriptor)
            .map_err(|source| RegistryError::Digest { what: layout.path().display().to_string(), source })?;
        let media_type = descriptor.media_type().to_string();
        if depth > 0 && !is_document(&media_type) {
            self.blobs.push((descriptor.clone(), digest));
            return Ok(());
        }
        if self.documents.iter().any(|known| known.digest == digest) {
            return Ok(());
        }
        if depth > NESTING_MAX {
            return Err(document_error(DocumentError::TooDeep { limit: NESTING_MAX }));
        }
        let bytes = layout.read(descriptor).map_err(|source| RegistryError::Layout { source })?;
        let document = Document::parse(&bytes, Some(&media_type)).map_err(document_error)?;
        match &document.content {
            Content::Manifest { config, layers } => {
                for blob in layers.iter().chain([config.as_ref()]) {
                    let digest = digest_of(blob)
                        .map_err(|source| RegistryError::Digest { what: what.clone(), source })?;
                    self.blobs.push((blob.clone(), digest));
                }
            }
            Content::Index { manifests } => {
                for child in manifests {
                    self.add(layout, child, depth + 1)?;
                }
            }
        }
        self.documents.push(Part { digest, bytes: bytes.into(), document });
        Ok(())
    }

    /// Returns the document that all the others belong to.
    #[expect(clippy::expect_used)] // `of` returns only what has one
    fn image(&self) -> &Part {
        self.documents.last().expect("an image has a document")
    }
}
