//! An image in a registry -> the same bytes in a layout, each checked against the digest that named it.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::header::{HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::debug;

use super::Client;
use super::auth::Scope;
use super::document::{Content, Document, DocumentError, is_document, is_index};
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::headers::content_range;
use super::push::NESTING_MAX;
use super::repository::{DOCUMENT_MAX, Repository};
use super::transport::{Answer, Call, Patience, Trouble};
use crate::observer::{Direction, Event, Observer};
use crate::oci::{
    Descriptor, Digest, Hasher, ImageFacts, Layout, LayoutError, Platform, Reference, digest_of, platform,
};

/// The most manifests and indexes of one image.
const DOCUMENTS_MAX: usize = 1000;
/// How many pieces wait between network and disk.
const PIECES: usize = 16;
/// How much of a file is read at once, in bytes.
const PIECE: usize = 256 << 10;

/// Where an image can be had: mirrors first, the registry last.
struct Sources<'a> {
    repositories: Vec<Repository<'a>>,
}

impl Client {
    /// Fetches the image that `reference` names into `layout`, and returns the descriptor of its manifest; or of its
    /// index, if no platform is chosen. What the layout has already is not fetched, but checked.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::NoPlatform`], [`RegistryError::OtherBytes`]; all the others.
    pub async fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        layout: &Layout,
        observer: &dyn Observer,
    ) -> Result<Descriptor, RegistryError> {
        let endpoints = self.sources(reference, observer).await?;
        let repositories = endpoints.iter().map(|(endpoint, mirrored)| Repository {
            mirrored: mirrored.then_some(reference.registry()),
            ..self.repository(endpoint, reference.repository(), observer)
        });
        let sources = Sources { repositories: repositories.collect() };
        let mut image = sources.document(&Wanted::of(reference)).await?;
        if let (Some(platform), Content::Index { manifests }) = (platform, &image.document.content) {
            let chosen = chosen(manifests, platform, reference)?;
            image = sources.document(&Wanted::child(chosen, &image)?).await?;
            if is_index(&image.document.media_type) {
                return Err(image.error(DocumentError::Missing { field: "manifest for one platform" }));
            }
        }
        let blobs = sources.documents(&image, layout).await?;
        let fetches = blobs.iter().map(|(blob, digest)| sources.blob(blob, *digest, layout));
        stream::iter(fetches).buffer_unordered(self.concurrency.get()).try_collect::<Vec<()>>().await?;
        if let (Some(platform), Content::Manifest { config, .. }) = (platform, &image.document.content) {
            let bytes = layout.read(config).map_err(|source| RegistryError::Layout { source })?;
            if let Some(own) = ImageFacts::parse(&bytes).ok().and_then(|facts| facts.platform)
                && !platform::suits(platform, &own)
            {
                return Err(RegistryError::NoPlatform {
                    reference: reference.to_string(),
                    wanted: platform::shown(platform),
                    available: vec![platform::shown(&own)],
                });
            }
        }
        Ok(image.descriptor)
    }

    /// Returns the digest of the image for `platform` that `reference` means at this moment. An image that is not for
    /// several platforms is taken for whatever it is.
    ///
    /// # Errors
    /// [`RegistryError::NotFound`], [`RegistryError::NoPlatform`]; all the others.
    pub async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        observer: &dyn Observer,
    ) -> Result<Digest, RegistryError> {
        let endpoint = self.endpoint(reference.registry(), observer).await?;
        let repository = self.repository(&endpoint, reference.repository(), observer);
        let image = document(&repository, &Wanted::of(reference)).await?;
        match &image.document.content {
            Content::Index { manifests } => image.digest_of(chosen(manifests, platform, reference)?),
            Content::Manifest { .. } => Ok(image.digest),
        }
    }

    /// Returns the mirrors that answer, and the registry itself. Mirrors are marked.
    async fn sources(
        &self,
        reference: &Reference,
        observer: &dyn Observer,
    ) -> Result<Vec<(Arc<Endpoint>, bool)>, RegistryError> {
        let mut found = Vec::new();
        for mirror in self.mirrors.get(reference.registry()).into_iter().flatten() {
            match self.mirror(mirror, observer).await {
                Ok(endpoint) => found.push((endpoint, true)),
                Err(error) => debug!(%mirror, %error, "mirror left out"),
            }
        }
        match self.endpoint(reference.registry(), observer).await {
            Ok(endpoint) => found.push((endpoint, false)),
            // Mirrors are there for just that.
            Err(error) if !found.is_empty() => debug!(%error, "registry left out"),
            Err(error) => return Err(error),
        }
        Ok(found)
    }
}

/// Returns the one of `manifests` that is for `platform`.
fn chosen<'a>(
    manifests: &'a [Descriptor],
    platform: &Platform,
    reference: &Reference,
) -> Result<&'a Descriptor, RegistryError> {
    platform::choice(manifests, platform).ok_or_else(|| RegistryError::NoPlatform {
        reference: reference.to_string(),
        wanted: platform::shown(platform),
        available: manifests.iter().filter_map(|it| it.platform().as_ref()).map(platform::shown).collect(),
    })
}

/// A document to fetch, and what is known of it.
struct Wanted {
    version: String,
    what: String,
    digest: Option<Digest>,
    size: Option<u64>,
    media_type: Option<String>,
}

impl Wanted {
    fn of(reference: &Reference) -> Self {
        let digest = reference.digest();
        let version = match (digest, reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        Self { version, what: reference.to_string(), digest, size: None, media_type: None }
    }

    fn child(descriptor: &Descriptor, parent: &Pulled) -> Result<Self, RegistryError> {
        let digest = parent.digest_of(descriptor)?;
        Ok(Self {
            version: digest.to_string(),
            what: digest.to_string(),
            digest: Some(digest),
            size: Some(descriptor.size()),
            media_type: Some(descriptor.media_type().to_string()),
        })
    }
}

/// A document that was fetched and checked.
struct Pulled {
    descriptor: Descriptor,
    digest: Digest,
    bytes: Vec<u8>,
    document: Document,
}

impl Pulled {
    fn error(&self, source: DocumentError) -> RegistryError {
        RegistryError::Document { what: self.digest.to_string(), source }
    }

    fn digest_of(&self, descriptor: &Descriptor) -> Result<Digest, RegistryError> {
        digest_of(descriptor)
            .map_err(|source| RegistryError::Digest { what: self.digest.to_string(), source })
    }
}

impl Sources<'_> {
    async fn document(&self, wanted: &Wanted) -> Result<Pulled, RegistryError> {
        let mut outcome = Err(RegistryError::NotFound { what: wanted.what.clone() });
        for repository in &self.repositories {
            outcome = document(repository, wanted).await;
            match &outcome {
                Ok(_) => break,
                Err(error) => debug!(%error, document = %wanted.what, "not from here"),
            }
        }
        outcome
    }

    /// Stores `image` and all documents below it, and returns the blobs that they refer to, smallest first.
    async fn documents(
        &self,
        image: &Pulled,
        layout: &Layout,
    ) -> Result<Vec<(Descriptor, Digest)>, RegistryError> {
        let mut blobs = Vec::new();
        let mut known = vec![image.digest];
        let mut waiting = below(image, layout, 1, &mut blobs)?;
        while let Some((wanted, depth)) = waiting.pop() {
            let Some(digest) = wanted.digest.filter(|digest| !known.contains(digest)) else { continue };
            known.push(digest);
            let pulled = self.document(&wanted).await?;
            let limit = NESTING_MAX;
            if depth > limit {
                return Err(pulled.error(DocumentError::TooDeep { limit }));
            }
            waiting.extend(below(&pulled, layout, depth + 1, &mut blobs)?);
            let (count, limit) = (known.len() + waiting.len(), DOCUMENTS_MAX);
            if count > limit {
                return Err(pulled.error(DocumentError::TooMany { count, limit }));
            }
        }
        blobs.sort_by_key(|(blob, digest)| (blob.size(), *digest));
        blobs.dedup_by_key(|(_, digest)| *digest);
        Ok(blobs)
    }

    async fn blob(&self, blob: &Descriptor, digest: Digest, layout: &Layout) -> Result<(), RegistryError> {
        let mut outcome = Err(RegistryError::NotFound { what: digest.to_string() });
        if is_whole(layout, blob, digest).await? {
            let observer = self.repositories.first().map(|repository| repository.observer);
            observer.into_iter().for_each(|observer| observer.event(Event::AlreadyThere { blob }));
            return Ok(());
        }
        for repository in &self.repositories {
            outcome = Download { repository: *repository, blob, digest, layout }.run().await;
            match &outcome {
                Ok(()) => break,
                Err(error @ RegistryError::Layout { .. }) => {
                    debug!(%error, "the layout is at fault, not the registry");
                    break;
                }
                Err(error) => debug!(%error, %digest, "not from here"),
            }
        }
        outcome
    }
}

async fn document(repository: &Repository<'_>, wanted: &Wanted) -> Result<Pulled, RegistryError> {
    let what = || wanted.what.clone();
    if let Some(size) = wanted.size.filter(|size| *size > DOCUMENT_MAX) {
        return Err(RegistryError::TooLarge {
            request: format!("{} of {size} bytes", what()),
            limit: DOCUMENT_MAX,
        });
    }
    let stored = repository.manifest(&wanted.version).await?;
    let stored = stored.ok_or_else(|| RegistryError::NotFound { what: what() })?;
    if wanted.digest.is_some_and(|digest| digest != stored.digest) {
        return Err(RegistryError::OtherBytes { what: what(), found: Some(stored.digest) });
    }
    let size = stored.bytes.len() as u64;
    if let Some(expected) = wanted.size.filter(|expected| *expected != size) {
        return Err(RegistryError::SizeMismatch { what: what(), expected, more: size > expected });
    }
    let error = |source| RegistryError::Document { what: what(), source };
    let document = Document::parse(&stored.bytes, stored.content_type.as_deref()).map_err(error)?;
    if let Some(announced) = wanted.media_type.as_ref().filter(|it| **it != document.media_type) {
        let stated = document.media_type.clone();
        return Err(error(DocumentError::MediaType { stated, announced: announced.clone() }));
    }
    let descriptor = crate::oci::descriptor(document.media_type.as_str().into(), stored.digest, size);
    Ok(Pulled { descriptor, digest: stored.digest, bytes: stored.bytes, document })
}

/// Stores a document, adds its blobs to `blobs`, and returns the documents it refers to.
fn below(
    pulled: &Pulled,
    layout: &Layout,
    depth: usize,
    blobs: &mut Vec<(Descriptor, Digest)>,
) -> Result<Vec<(Wanted, usize)>, RegistryError> {
    let layout_error = |source| RegistryError::Layout { source };
    let mut writer = layout.blob().map_err(layout_error)?;
    writer.append(&pulled.bytes).map_err(layout_error)?;
    writer.commit_as(&pulled.descriptor).map_err(layout_error)?;
    let mut documents = Vec::new();
    match &pulled.document.content {
        Content::Manifest { config, layers } => {
            if config.size() > DOCUMENT_MAX {
                let request = format!("the config of {}", pulled.digest);
                return Err(RegistryError::TooLarge { request, limit: DOCUMENT_MAX });
            }
            for blob in layers.iter().chain([config.as_ref()]) {
                blobs.push((blob.clone(), pulled.digest_of(blob)?));
            }
        }
        Content::Index { manifests } => {
            for child in manifests {
                if is_document(child.media_type().as_ref()) {
                    documents.push((Wanted::child(child, pulled)?, depth));
                } else {
                    blobs.push((child.clone(), pulled.digest_of(child)?));
                }
            }
        }
    }
    Ok(documents)
}

/// Returns whether the layout has the blob, and not just something under its name.
async fn is_whole(layout: &Layout, blob: &Descriptor, digest: Digest) -> Result<bool, RegistryError> {
    if !layout.has(blob).map_err(|source| RegistryError::Layout { source })? {
        return Ok(false);
    }
    let mut file = layout.open(blob).map_err(|source| RegistryError::Layout { source })?;
    let path = layout.path().join("blobs").join("sha256").join(digest.hex());
    on_blocking_thread(move || {
        let (mut hasher, mut piece) = (Hasher::default(), vec![0; PIECE]);
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(hasher.finish() == digest),
                Ok(length) => hasher.update(piece.get(..length).unwrap_or_default()),
                Err(source) => return Err(RegistryError::Read { path, source }),
            }
        }
    })
    .await
}

async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(RegistryError::Interrupted))
}

/// One blob on its way into a layout.
struct Download<'a> {
    repository: Repository<'a>,
    blob: &'a Descriptor,
    digest: Digest,
    layout: &'a Layout,
}

/// A file that grows on a thread of its own.
struct Growing {
    pieces: mpsc::Sender<Bytes>,
    thread: JoinHandle<Result<(), LayoutError>>,
    size: u64,
}

impl Growing {
    fn start(layout: &Layout, blob: &Descriptor) -> Self {
        let (pieces, mut receiver) = mpsc::channel::<Bytes>(PIECES);
        let (layout, blob) = (layout.clone(), blob.clone());
        let thread = tokio::task::spawn_blocking(move || {
            let (mut writer, mut size) = (layout.blob()?, 0);
            while let Some(piece) = receiver.blocking_recv() {
                writer.append(&piece)?;
                size += piece.len() as u64;
            }
            // Fewer bytes: it was given up.
            if size == blob.size() { writer.commit_as(&blob) } else { Ok(()) }
        });
        Self { pieces, thread, size: 0 }
    }

    /// Adds a piece, unless the thread has failed; [`Growing::finish`] tells why.
    async fn add(&mut self, piece: Bytes) -> bool {
        self.size += piece.len() as u64;
        self.pieces.send(piece).await.is_ok()
    }

    async fn finish(self) -> Result<(), Option<LayoutError>> {
        drop(self.pieces);
        self.thread.await.map_err(|_| None)?.map_err(Some)
    }
}

impl Download<'_> {
    async fn run(&self) -> Result<(), RegistryError> {
        let Repository { transport, endpoint, observer, .. } = self.repository;
        let url = self.repository.url(&format!("blobs/{}", self.digest));
        let mut patience = Patience::new(&endpoint.retry, observer, &url);
        let mut growing = Growing::start(self.layout, self.blob);
        observer.event(Event::Started { blob: self.blob, direction: Direction::Pull });
        loop {
            let mut call = Call::new(Method::GET, url.clone());
            if growing.size > 0 {
                let range = HeaderValue::try_from(format!("bytes={}-", growing.size));
                call.headers.extend(range.ok().map(|range| (RANGE, range)));
            }
            let scopes = [Scope::pull(self.repository.name)];
            let outcome = transport.authorized(endpoint, &call, &scopes, observer).await;
            let trouble = match Trouble::of(&outcome) {
                Some(trouble) => (trouble, outcome),
                None => {
                    let mut answer = outcome?;
                    match self.receive(&mut answer, &mut growing).await {
                        Ok(()) => break,
                        Err(error) => match Trouble::of_error(&error) {
                            Some(trouble) => (trouble, Err(error)),
                            None if answer.status().is_success() => return Err(error),
                            None => return Err(self.failure(answer).await),
                        },
                    }
                }
            };
            if !patience.pause(&trouble.0).await {
                return match trouble.1 {
                    Ok(answer) => Err(answer.into_error().await),
                    Err(error) => Err(error),
                };
            }
        }
        match growing.finish().await {
            Ok(()) => {}
            Err(Some(LayoutError::Corrupt { .. })) => {
                let what = shown(&self.repository, self.digest);
                return Err(RegistryError::OtherBytes { what, found: None });
            }
            Err(Some(source)) => return Err(RegistryError::Layout { source }),
            Err(None) => return Err(RegistryError::Interrupted),
        }
        observer.event(Event::Finished { blob: self.blob });
        Ok(())
    }

    async fn failure(&self, answer: Answer) -> RegistryError {
        match answer.status() {
            StatusCode::NOT_FOUND => RegistryError::NotFound { what: shown(&self.repository, self.digest) },
            _ => answer.into_error().await,
        }
    }

    async fn receive(&self, answer: &mut Answer, growing: &mut Growing) -> Result<(), RegistryError> {
        let size = self.blob.size();
        let mismatch = |more| RegistryError::SizeMismatch {
            what: shown(&self.repository, self.digest),
            expected: size,
            more,
        };
        let begins = match answer.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                let range = answer.header("content-range").and_then(content_range);
                let (start, _, total) = range.ok_or_else(|| answer.lacks("`Content-Range`"))?;
                if start != growing.size || total.is_some_and(|total| total != size) {
                    return Err(answer.lacks("`Content-Range`"));
                }
                start
            }
            _ => return Err(answer.lacks("blob")),
        };
        if begins != growing.size {
            *growing = Growing::start(self.layout, self.blob);
        }
        let left = size - begins;
        if let Some(length) = answer.content_length().filter(|length| *length != left) {
            return Err(mismatch(length > left));
        }
        answer.expect(left);
        while let Some(piece) = answer.chunk().await? {
            if growing.size + piece.len() as u64 > size {
                return Err(mismatch(true));
            }
            if !growing.add(piece).await {
                // The disk is the reason, and `finish` has it.
                return Ok(());
            }
            self.repository.observer.event(Event::Advanced { blob: self.blob, bytes: growing.size });
        }
        if growing.size < size { Err(mismatch(false)) } else { Ok(()) }
    }
}

fn shown(repository: &Repository<'_>, digest: Digest) -> String {
    format!("{}/{}@{digest}", repository.endpoint.registry(), repository.name)
}
