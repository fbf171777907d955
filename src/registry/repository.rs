//! One repository of a registry: its manifests, by tag and by digest.

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};

use super::auth::Scope;
use super::document;
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::transport::{Answer, Call, Payload, Transport};
use crate::observer::Observer;
use crate::oci::Digest;

/// The largest manifest, index or config that is read, in bytes.
pub(super) const DOCUMENT_MAX: u64 = 8 << 20;
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A repository, ready to be used.
#[derive(Clone, Copy)]
pub(super) struct Repository<'a> {
    pub(super) transport: &'a Transport,
    pub(super) endpoint: &'a Endpoint,
    pub(super) name: &'a str,
    /// The registry that the endpoint is a mirror of.
    pub(super) mirrored: Option<&'a str>,
    pub(super) observer: &'a dyn Observer,
}

/// A manifest as a registry stores it.
pub(super) struct Stored {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: Option<String>,
    pub(super) digest: Digest,
    pub(super) etag: Option<HeaderValue>,
}

impl Repository<'_> {
    /// Returns the URL of something in the repository.
    pub(super) fn url(&self, rest: &str) -> Url {
        let mut url = self.endpoint.url(self.name, rest);
        if let Some(registry) = self.mirrored {
            url.query_pairs_mut().append_pair("ns", registry);
        }
        url
    }

    pub(super) fn push_scope(&self) -> Scope {
        Scope::push(self.name)
    }

    /// Sends a request that reads.
    pub(super) async fn read(&self, call: &Call<'_>) -> Result<Answer, RegistryError> {
        self.transport.send(self.endpoint, call, &[Scope::pull(self.name)], self.observer).await
    }

    /// Sends a request that may write.
    pub(super) async fn write(&self, call: &Call<'_>) -> Result<Answer, RegistryError> {
        self.transport.send(self.endpoint, call, &[self.push_scope()], self.observer).await
    }

    /// Returns the digest of the manifest that `version`, a tag or digest, names. A registry that does not tell counts as
    /// one that has nothing there.
    pub(super) async fn manifest_digest(&self, version: &str) -> Result<Option<Digest>, RegistryError> {
        let mut call = Call::new(Method::HEAD, self.url(&format!("manifests/{version}")));
        call.headers.insert(ACCEPT, HeaderValue::from_static(document::ACCEPT));
        let answer = self.write(&call).await?;
        match answer.status() {
            StatusCode::OK => Ok(claimed(&answer).and_then(|text| text.parse().ok())),
            // An answer to HEAD has no body. If the registry denies the push, too, it can say why.
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN => Ok(None),
            _ => Err(answer.into_error().await),
        }
    }

    /// Returns the manifest that `version`, a tag or digest, names, with its bytes checked as far as that goes.
    ///
    /// # Errors
    /// [`RegistryError::WrongClaim`], [`RegistryError::TooLarge`] and all that a connection can run into.
    pub(super) async fn manifest(&self, version: &str) -> Result<Option<Stored>, RegistryError> {
        let mut call = Call::new(Method::GET, self.url(&format!("manifests/{version}")));
        call.headers.insert(ACCEPT, HeaderValue::from_static(document::ACCEPT));
        let mut answer = self.read(&call).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(answer.into_error().await),
        }
        let bytes = answer.bytes(DOCUMENT_MAX).await?;
        let digest = Digest::of(&bytes);
        matches_claim(&answer, digest)?;
        Ok(Some(Stored {
            bytes,
            content_type: answer.header(CONTENT_TYPE.as_str()).map(str::to_owned),
            digest,
            etag: answer.header("etag").and_then(|tag| HeaderValue::from_str(tag).ok()),
        }))
    }

    /// Stores a manifest as `version`, which is its digest or a tag, and returns the answer: 412 if there is a
    /// `condition` that no longer holds.
    pub(super) async fn put_manifest(
        &self,
        version: &str,
        bytes: &Bytes,
        media_type: &str,
        condition: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, RegistryError> {
        let mut call = Call::new(Method::PUT, self.url(&format!("manifests/{version}")));
        call.headers.extend(HeaderValue::from_str(media_type).ok().map(|value| (CONTENT_TYPE, value)));
        let conditional = condition.is_some();
        call.headers.extend(condition);
        call.payload = Payload::Bytes(bytes.clone());
        let answer = self.write(&call).await?;
        let digest = Digest::of(bytes);
        match answer.status() {
            StatusCode::CREATED => {
                matches_claim(&answer, digest)?;
                Ok(answer)
            }
            // Some registries say this instead; but so does any web server, to everything.
            StatusCode::OK | StatusCode::ACCEPTED => {
                matches_claim(&answer, digest)?;
                let is_stored = |stored: Option<Stored>| stored.is_some_and(|stored| stored.digest == digest);
                if claimed(&answer).is_none() && !is_stored(self.manifest(version).await?) {
                    return Err(answer.lacks("digest of what is stored"));
                }
                Ok(answer)
            }
            // Without a condition of ours, it is the registry's: its tags may not change, say.
            StatusCode::PRECONDITION_FAILED if conditional => Ok(answer),
            _ => Err(answer.into_error().await),
        }
    }
}

/// Returns the digest that the registry says its content has.
pub(super) fn claimed(answer: &Answer) -> Option<&str> {
    answer.header(CONTENT_DIGEST).map(str::trim)
}

/// Checks that the registry, if it says what it holds, holds the right thing.
///
/// # Errors
/// [`RegistryError::WrongClaim`].
pub(super) fn matches_claim(answer: &Answer, expected: Digest) -> Result<(), RegistryError> {
    match claimed(answer) {
        Some(found) if found != expected.to_string() => Err(RegistryError::WrongClaim {
            request: answer.request.clone(),
            claimed: crate::path::show(found.as_bytes()),
            digest: expected,
        }),
        _ => Ok(()),
    }
}
