//! What is attached to an image: listed by the registry, or under a tag where it does not know referrers
//! (distribution-spec, "Listing Referrers" and "Referrers Tag Schema").

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, IF_MATCH, LINK};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::Client;
use super::document::{Content, Document, DocumentError, OCI_INDEX};
use super::error::RegistryError;
use super::headers::next_page;
use super::repository::{DOCUMENT_MAX, Repository};
use super::transport::{Answer, Call};
use crate::observer::Observer;
use crate::oci::{Descriptor, Digest, Reference, canonical_json, digest_of};

/// The most pages, and the most referrers, of one list.
const PAGES_MAX: usize = 20;
const REFERRERS_MAX: usize = 1000;
/// How often the tag is read and written again because somebody else wrote it.
const WRITES_MAX: usize = 5;

impl Client {
    /// Returns what is attached to `subject` in the repository of `reference`, of one artifact type or of all.
    ///
    /// # Errors
    /// [`RegistryError`]; a repository without referrers is no error.
    pub async fn referrers(
        &self,
        reference: &Reference,
        subject: Digest,
        artifact_type: Option<&str>,
        observer: &dyn Observer,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        let endpoint = self.endpoint(reference.registry(), observer).await?;
        let repository = self.repository(&endpoint, reference.repository(), observer);
        let mut found = match listed(repository, subject, artifact_type).await? {
            Some(found) => found,
            None => match repository.manifest(&tag(subject)).await? {
                Some(stored) => entries(&stored.bytes, stored.content_type.as_deref(), &tag(subject))?,
                None => Vec::new(),
            },
        };
        // A registry may ignore the filter.
        if let Some(wanted) = artifact_type {
            found.retain(|it| it.artifact_type().as_ref().is_some_and(|own| own.to_string() == wanted));
        }
        Ok(found)
    }
}

/// Returns what the registry lists, or `None` if it does not know how to.
async fn listed(
    repository: Repository<'_>,
    subject: Digest,
    artifact_type: Option<&str>,
) -> Result<Option<Vec<Descriptor>>, RegistryError> {
    let mut url = repository.url(&format!("referrers/{subject}"));
    if let Some(wanted) = artifact_type {
        url.query_pairs_mut().append_pair("artifactType", wanted);
    }
    let mut found = Vec::new();
    for _ in 0..PAGES_MAX {
        let mut call = Call::new(Method::GET, url);
        call.headers.insert(ACCEPT, HeaderValue::from_static(OCI_INDEX));
        let mut answer = repository.read(&call).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND if found.is_empty() => return Ok(None),
            _ => return Err(answer.into_error().await),
        }
        let bytes = answer.bytes(DOCUMENT_MAX).await?;
        found.extend(entries(&bytes, answer.header(CONTENT_TYPE.as_str()), &answer.request)?);
        if found.len() > REFERRERS_MAX {
            break;
        }
        let next = answer.headers(LINK.as_str()).find_map(|link| next_page(answer.url(), link));
        match next.filter(|next| next.origin() == repository.endpoint.origin().origin()) {
            Some(next) => url = next,
            None => return Ok(Some(found)),
        }
    }
    let source = DocumentError::TooMany { count: found.len(), limit: REFERRERS_MAX };
    Err(RegistryError::Document { what: format!("the referrers of {subject}"), source })
}

/// Makes sure that what was just stored can be found from its subject. `answer` is the registry's to its manifest.
pub(super) async fn attached(
    repository: Repository<'_>,
    descriptor: &Descriptor,
    document: &Document,
    answer: &Answer,
) -> Result<(), RegistryError> {
    let Some(subject) = &document.subject else { return Ok(()) };
    if answer.header("oci-subject").is_some() {
        return Ok(());
    }
    let what = || descriptor.digest().to_string();
    let subject = digest_of(subject).map_err(|source| RegistryError::Digest { what: what(), source })?;
    let mut entry = descriptor.clone();
    entry.set_artifact_type(document.artifact_type.as_deref().map(Into::into));
    entry.set_annotations(document.annotations.clone());
    for _ in 0..WRITES_MAX {
        let stored = repository.manifest(&tag(subject)).await?;
        let mut index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] });
        let mut condition = None;
        if let Some(stored) = stored {
            let known = entries(&stored.bytes, stored.content_type.as_deref(), &tag(subject))?;
            if known.iter().any(|known| known.digest() == entry.digest()) {
                return Ok(());
            }
            // Not through our types: what others wrote stays as it is.
            index = serde_json::from_slice(&stored.bytes).map_err(|source| RegistryError::Json { source })?;
            condition = stored.etag.map(|etag| (IF_MATCH, etag));
        }
        let entry = serde_json::to_value(&entry).map_err(|source| RegistryError::Json { source })?;
        if let Some(Value::Array(manifests)) = index.get_mut("manifests") {
            manifests.push(entry);
        }
        let bytes = Bytes::from(canonical_json(&index).map_err(|source| RegistryError::Json { source })?);
        let answer = repository.put_manifest(&tag(subject), &bytes, OCI_INDEX, condition).await?;
        if answer.status() != StatusCode::PRECONDITION_FAILED {
            return Ok(());
        }
    }
    Err(RegistryError::BadAnswer {
        request: format!("PUT {}", repository.url(&format!("manifests/{}", tag(subject)))),
        what: "end: others write the same tag at the same time",
    })
}

/// Returns the tag that lists what is attached to `subject`.
fn tag(subject: Digest) -> String {
    format!("sha256-{}", subject.hex())
}

fn entries(bytes: &[u8], content_type: Option<&str>, what: &str) -> Result<Vec<Descriptor>, RegistryError> {
    let error = |source| RegistryError::Document { what: what.to_owned(), source };
    let document = Document::parse(bytes, content_type).map_err(error)?;
    match document.content {
        Content::Index { manifests } => Ok(manifests),
        Content::Manifest { .. } => Err(error(DocumentError::Missing { field: "`manifests`" })),
    }
}
