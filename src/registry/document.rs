//! Bytes that are said to be a manifest or index -> what they refer to. The border for documents of a registry.

use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

use crate::oci::Descriptor;

/// The most layers of one image.
const LAYERS_MAX: usize = 500;
/// The most entries of one index.
const ENTRIES_MAX: usize = 1000;

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// What we read, as an `Accept` header says it.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// What a document refers to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    /// The media type, as the document and its descriptor or header say it.
    pub(super) media_type: String,
    pub(super) content: Content,
    /// What it is attached to.
    pub(super) subject: Option<Descriptor>,
    /// What kind of artifact it is: its own `artifactType`, else its config's media type.
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: Option<std::collections::HashMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Manifest { config: Box<Descriptor>, layers: Vec<Descriptor> },
    Index { manifests: Vec<Descriptor> },
}

/// Why bytes are no manifest that we use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// They are no JSON, or not of this form.
    #[error("it is not valid JSON of a manifest or index")]
    Json {
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It could be read as an index by one tool and as a manifest by another (CVE-2021-41190).
    #[error("it is a manifest and an index at the same time")]
    Ambiguous,
    /// It says to be something else than it was announced as.
    #[error("it says to be `{stated}`, but was announced as `{announced}`")]
    MediaType {
        /// What the document says.
        stated: String,
        /// What its descriptor or header says.
        announced: String,
    },
    /// It is of a kind that is not read.
    #[error("`{media_type}` is not a media type that is read")]
    Unknown {
        /// The media type.
        media_type: String,
    },
    /// It is Docker's old format, without digests of what it contains.
    #[error("it is in Docker's schema 1, which is out of use since 2017")]
    Schema1,
    /// It lacks what its kind must have.
    #[error("it has no {field}")]
    Missing {
        /// What is missing.
        field: &'static str,
    },
    /// It lists more than any real one.
    #[error("it lists {count} entries, and at most {limit} are read")]
    TooMany {
        /// How many.
        count: usize,
        /// How many are read.
        limit: usize,
    },
    /// Indexes lie in indexes, too deep.
    #[error("indexes are nested more than {limit} deep")]
    TooDeep {
        /// How deep is read.
        limit: usize,
    },
}

/// Returns whether a descriptor of this media type names a manifest or index; anything else is a blob.
pub(super) fn is_document(media_type: &str) -> bool {
    is_index(media_type) || matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

pub(super) fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

impl Document {
    /// Reads a document that was announced as `announced`, by its descriptor or by `Content-Type`.
    pub(super) fn parse(bytes: &[u8], announced: Option<&str>) -> Result<Self, DocumentError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields {
            media_type: Option<String>,
            artifact_type: Option<String>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
            manifests: Option<Vec<Descriptor>>,
            fs_layers: Option<IgnoredAny>,
            subject: Option<Descriptor>,
            annotations: Option<std::collections::HashMap<String, String>>,
        }
        let fields: Fields =
            serde_json::from_slice(bytes).map_err(|source| DocumentError::Json { source })?;
        if fields.fs_layers.is_some() {
            return Err(DocumentError::Schema1);
        }
        let media_type = media_type(fields.media_type, announced)?;
        let content = if is_index(&media_type) {
            if fields.config.is_some() || fields.layers.is_some() {
                return Err(DocumentError::Ambiguous);
            }
            let manifests = fields.manifests.ok_or(DocumentError::Missing { field: "`manifests`" })?;
            Content::Index { manifests: at_most(ENTRIES_MAX, manifests)? }
        } else if is_document(&media_type) {
            if fields.manifests.is_some() {
                return Err(DocumentError::Ambiguous);
            }
            let config = fields.config.ok_or(DocumentError::Missing { field: "`config`" })?;
            let layers = fields.layers.ok_or(DocumentError::Missing { field: "`layers`" })?;
            Content::Manifest { config: Box::new(config), layers: at_most(LAYERS_MAX, layers)? }
        } else {
            return Err(DocumentError::Unknown { media_type });
        };
        let artifact_type = fields.artifact_type.or_else(|| match &content {
            Content::Manifest { config, .. } => Some(config.media_type().to_string()),
            Content::Index { .. } => None,
        });
        Ok(Self {
            media_type,
            content,
            subject: fields.subject,
            artifact_type,
            annotations: fields.annotations,
        })
    }
}

fn media_type(stated: Option<String>, announced: Option<&str>) -> Result<String, DocumentError> {
    let announced = announced.and_then(|text| text.split(';').next()).map(str::trim);
    // What servers say that do not know better, such as plain file servers.
    let generic = ["application/json", "text/plain", "application/octet-stream", "binary/octet-stream", ""];
    match (stated, announced.filter(|announced| !generic.contains(announced))) {
        (Some(stated), Some(announced)) if stated != announced => {
            Err(DocumentError::MediaType { stated, announced: announced.to_owned() })
        }
        (Some(stated), _) => Ok(stated),
        (None, Some(announced)) => Ok(announced.to_owned()),
        (None, None) => Err(DocumentError::Missing { field: "media type" }),
    }
}

fn at_most(limit: usize, list: Vec<Descriptor>) -> Result<Vec<Descriptor>, DocumentError> {
    if list.len() > limit { Err(DocumentError::TooMany { count: list.len(), limit }) } else { Ok(list) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_one_thing_only() {
        let blob = |media_type: &str| {
            let digest = crate::oci::Digest::of(b"x");
            format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1}}"#)
        };
        let config = blob("application/vnd.oci.image.config.v1+json");
        let manifest = format!(r#""config":{config},"layers":[]"#);
        let stated = |media_type: &str| format!(r#""mediaType":"{media_type}","#);
        let many = |count: usize| vec![config.as_str(); count].join(",");
        for (text, announced, want) in [
            (format!("{{{}{manifest}}}", stated(OCI_MANIFEST)), Some(OCI_MANIFEST), "ok"),
            (format!("{{{manifest}}}"), Some(DOCKER_MANIFEST), "ok"),
            (
                format!("{{{manifest}}}"),
                Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
                "ok",
            ),
            (format!("{{{}{manifest}}}", stated(OCI_MANIFEST)), Some("application/json"), "ok"),
            (format!("{{{}{manifest}}}", stated(OCI_MANIFEST)), None, "ok"),
            (r#"{"manifests":[]}"#.to_owned(), Some(OCI_INDEX), "ok"),
            (format!("{{{manifest}}}"), None, "it has no media type"),
            (format!("{{{manifest}}}"), Some("text/html"), "`text/html` is not a media type that is read"),
            (
                format!("{{{manifest},\"manifests\":[]}}"),
                Some(OCI_MANIFEST),
                "it is a manifest and an index at the same time",
            ),
            (
                format!("{{{manifest},\"manifests\":[]}}"),
                Some(OCI_INDEX),
                "it is a manifest and an index at the same time",
            ),
            (
                format!("{{{}{manifest}}}", stated(OCI_MANIFEST)),
                Some(OCI_INDEX),
                "it says to be `application/vnd.oci.image.manifest.v1+json`, but was announced as `application/vnd.oci.image.index.v1+json`",
            ),
            (
                r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
                None,
                "it is in Docker's schema 1, which is out of use since 2017",
            ),
            (r#"{"layers":[]}"#.to_owned(), Some(OCI_MANIFEST), "it has no `config`"),
            (
                format!(r#"{{"manifests":[{}]}}"#, many(1001)),
                Some(OCI_INDEX),
                "it lists 1001 entries, and at most 1000 are read",
            ),
            (
                format!(r#"{{"config":{config},"layers":[{}]}}"#, many(501)),
                Some(OCI_MANIFEST),
                "it lists 501 entries, and at most 500 are read",
            ),
            (
                format!(r#"{{{manifest},"layers":[]}}"#),
                Some(OCI_MANIFEST),
                "it is not valid JSON of a manifest or index",
            ),
            (
                manifest.replace("\"size\":1", "\"size\":-1"),
                Some(OCI_MANIFEST),
                "it is not valid JSON of a manifest or index",
            ),
            ("[".repeat(500), Some(OCI_MANIFEST), "it is not valid JSON of a manifest or index"),
        ] {
            let got = Document::parse(text.as_bytes(), announced)
                .map_or_else(|error| error.to_string(), |_| "ok".to_owned());
            assert_eq!(got, want, "{text:.200}");
        }
    }
}
