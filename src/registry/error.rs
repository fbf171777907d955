//! What went wrong with a registry -> what a person reads. Nothing here holds a credential, a token or a query string:
//! they are removed before a value is made.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error as ThisError;

use super::certificates::CertificateFileError;
use super::credentials::{CredentialError, CredentialOrigin};
use super::document::DocumentError;
use crate::explain::{Explain, Explanation, Failure};
use crate::oci::{Digest, DigestError, LayoutError};

/// Why a push or pull did not happen. `request` is a method and a URL without its query.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum RegistryError {
    /// No answer came, not even after several tries.
    #[error("no answer to `{request}`")]
    Unreachable {
        /// What was asked.
        request: String,
        /// What the connection says.
        source: reqwest::Error,
    },
    /// The connection broke in the middle of an answer, time and again.
    #[error("the answer to `{request}` breaks off")]
    BrokenOff {
        /// What was asked.
        request: String,
        /// What the connection says.
        source: reqwest::Error,
    },
    /// The other side was too slow, or went silent.
    #[error("`{request}` was not done in {}", seconds(*limit))]
    TimedOut {
        /// What was asked.
        request: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The registry does not allow it.
    #[error("the registry denies `{request}` ({status})")]
    Denied {
        /// What was asked.
        request: String,
        /// The HTTP status: 401 or 403.
        status: u16,
        /// What the registry says about it.
        messages: Vec<String>,
        /// What the registry was shown.
        credential: CredentialUse,
    },
    /// There is no such image.
    #[error("the registry has no `{what}`")]
    NotFound {
        /// The reference, or the blob.
        what: String,
    },
    /// The registry answered with a status that was not hoped for.
    #[error("the registry answers {status} to `{request}`")]
    Status {
        /// What was asked.
        request: String,
        /// The HTTP status.
        status: u16,
        /// What the registry says about it.
        messages: Vec<String>,
        /// How long the registry asks to be left alone, if that is too long to wait for.
        pause: Option<Duration>,
    },
    /// A registry wants a token, and does not say where to get one.
    #[error("`{registry}` asks for a token, and does not say where to get one")]
    NoRealm {
        /// The registry.
        registry: String,
    },
    /// The answer lacks something, or has something that makes no sense.
    #[error("the answer to `{request}` has no usable {what}")]
    BadAnswer {
        /// What was asked.
        request: String,
        /// What is missing or wrong.
        what: &'static str,
    },
    /// The registry sent us from one address to the next, without end.
    #[error("`{request}` is redirected more than {limit} times")]
    RedirectLoop {
        /// What was asked.
        request: String,
        /// How many redirects are followed.
        limit: usize,
    },
    /// The registry sent us where we do not go.
    #[error("`{request}` leads to `{target}`, which is refused")]
    Refused {
        /// What was asked.
        request: String,
        /// Where the registry sent us, without path and query.
        target: String,
        /// Why we do not go there.
        reason: Refusal,
    },
    /// The bytes are not those that were asked for.
    #[error("the registry sends other bytes than those of `{what}`")]
    OtherBytes {
        /// What was fetched.
        what: String,
        /// The digest of what came, if it was not too much to tell.
        found: Option<Digest>,
    },
    /// A registry says of something that it is something else.
    #[error("to `{request}`, the registry says that the digest is {claimed}, and it is {digest}")]
    WrongClaim {
        /// What was asked.
        request: String,
        /// What the registry says; a text, as it can be anything.
        claimed: String,
        /// The digest of the bytes.
        digest: Digest,
    },
    /// More or fewer bytes came than the descriptor says.
    #[error("`{what}` has {} {expected} bytes", if *.more { "more than its" } else { "fewer than its" })]
    SizeMismatch {
        /// What was fetched.
        what: String,
        /// How many bytes it should have.
        expected: u64,
        /// Whether too many came; otherwise too few.
        more: bool,
    },
    /// A document is larger than any real one.
    #[error("the answer to `{request}` is larger than {limit} bytes")]
    TooLarge {
        /// What was asked.
        request: String,
        /// How much is read.
        limit: u64,
    },
    /// A manifest or index is not what it should be.
    #[error("`{what}` is no usable manifest")]
    Document {
        /// Where it comes from.
        what: String,
        /// What is wrong.
        source: DocumentError,
    },
    /// A descriptor has a digest that is not one of ours.
    #[error("a descriptor in `{what}` has an unusable digest")]
    Digest {
        /// The document.
        what: String,
        /// What is wrong with it.
        source: DigestError,
    },
    /// The image is not made for the platform.
    #[error("`{reference}` is not there for {wanted}")]
    NoPlatform {
        /// The image.
        reference: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// A name to push to has a digest in it, and it is another image's.
    #[error("`{reference}` names another image than {digest}")]
    OtherImage {
        /// The name.
        reference: String,
        /// The image.
        digest: Digest,
    },
    /// The credentials cannot be found out.
    #[error("cannot find out the credentials for `{registry}`")]
    Credentials {
        /// The registry.
        registry: String,
        /// What is in the way.
        source: CredentialError,
    },
    /// The certificates that are laid down for a registry cannot be used.
    #[error(transparent)]
    Certificates(#[from] CertificateFileError),
    /// The certificates of this system cannot be used.
    #[error("cannot set up TLS for `{host}`")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong.
        source: reqwest::Error,
    },
    /// A blob of the layout changed after it was written.
    #[error("the blob `{}` does not have the bytes that its name promises", path.display())]
    Corrupt {
        /// The blob.
        path: PathBuf,
    },
    /// A blob of the layout cannot be read to its end.
    #[error("cannot read the blob `{}`", path.display())]
    Read {
        /// The blob.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The layout cannot be read or written.
    #[error("cannot use the layout")]
    Layout {
        /// Why.
        source: LayoutError,
    },
    /// An index cannot be expressed as JSON.
    #[error("cannot write the index of referrers")]
    Json {
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The runtime is shutting down.
    #[error("the transfer was interrupted")]
    Interrupted,
}

/// What a registry was shown that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialUse {
    /// Nothing: it did not ask who we are.
    NotAsked,
    /// Nothing: no credential is known.
    Anonymous {
        /// Where it was looked.
        searched: Vec<PathBuf>,
    },
    /// A credential, which is from here.
    Tried(Box<CredentialOrigin>),
}

impl CredentialUse {
    fn reason(&self) -> String {
        match self {
            Self::NotAsked => "it did not ask who you are".to_owned(),
            Self::Anonymous { searched } => {
                let searched = searched.iter().map(|path| format!("`{}`", path.display()));
                format!("you have no credentials for it in {}", searched.collect::<Vec<_>>().join(", "))
            }
            Self::Tried(origin) => format!("it was shown {origin}"),
        }
    }
}

/// Why an address is not visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It would carry secrets in clear text.
    PlainHttp,
    /// It is on this machine or in a private network, and the registry that named it is not.
    PrivateAddress,
    /// It is no URL that a registry has a use for.
    NotHttp,
    /// What is to be uploaded would go to another host.
    OtherHost,
}

impl Refusal {
    fn text(self) -> &'static str {
        match self {
            Self::PlainHttp => "it is plain http, and secrets would be readable on the way",
            Self::PrivateAddress => {
                "it is an address of this machine or a private network, and the registry is not"
            }
            Self::NotHttp => "it is not an http or https URL without user and password",
            Self::OtherHost => "it is another host than the registry, and uploads are not redirected there",
        }
    }
}

fn seconds(limit: Duration) -> String {
    if limit.as_secs() == 0 { format!("{} ms", limit.as_millis()) } else { format!("{} s", limit.as_secs()) }
}

/// Returns whether a cause of `error` has `word` in it: the TLS library keeps its types to itself.
fn mentions(error: &dyn Error, word: &str) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.to_string().contains(word) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Returns what is wrong with an answer that reports no failure.
fn unfit(status: u16) -> Option<&'static str> {
    match status {
        200..=299 => Some("that is not what a registry answers there"),
        300..=399 => Some("redirects are not followed there"),
        _ => None,
    }
}

/// Returns whether a request, a method and a URL, goes out in plain http.
fn is_plain(request: &str) -> bool {
    request.split_once(' ').is_some_and(|(_, url)| url.starts_with("http://"))
}

/// Returns whether the other side hung up because we did not prove who we are (RFC 8446 section 6.2).
fn wants_ours(error: &dyn Error) -> bool {
    ["alert: CertificateRequired", "alert: BadCertificate"].iter().any(|alert| mentions(error, alert))
}

impl RegistryError {
    /// Returns this error, with what was shown to whoever said no.
    pub(super) fn after(mut self, used: CredentialUse) -> Self {
        if let Self::Denied { credential, .. } = &mut self {
            *credential = used;
        }
        self
    }

    /// Returns whether there was a connection, but no answer on it.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if !source.is_connect())
    }

    /// Returns whether the other side speaks TLS.
    pub(super) fn is_about_tls(&self) -> bool {
        let alert = matches!(self, Self::Unreachable { source, .. } if mentions(source, "fatal alert"));
        alert || self.is_about_trust()
    }

    /// Returns whether one side does not trust the other, as it will not the next time either.
    pub(super) fn is_about_trust(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => mentions(source, "certificate") || wants_ours(source),
            Self::Certificates(_) => true,
            _ => false,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::BrokenOff { .. } => "registry-unreachable",
            Self::TimedOut { .. } => "registry-timeout",
            Self::Denied { .. } => "registry-denied",
            Self::NotFound { .. } => "image-not-found",
            Self::Status { .. }
            | Self::NoRealm { .. }
            | Self::BadAnswer { .. }
            | Self::RedirectLoop { .. } => "registry-error",
            Self::Refused { .. } => "registry-refused",
            Self::OtherBytes { .. } | Self::WrongClaim { .. } => "digest-mismatch",
            Self::SizeMismatch { .. } => "size-mismatch",
            Self::TooLarge { .. } | Self::Document { .. } | Self::Digest { .. } => "bad-manifest",
            Self::NoPlatform { .. } => "no-platform",
            Self::OtherImage { .. } => "bad-reference",
            Self::Credentials { .. } => "bad-credentials",
            Self::Certificates(_) | Self::Tls { .. } => "bad-certificates",
            Self::Corrupt { .. } | Self::Read { .. } | Self::Layout { .. } | Self::Json { .. } => {
                "bad-layout"
            }
            Self::Interrupted => "interrupted",
        }
    }

    fn fix(&self) -> &'static str {
        match self {
            Self::Unreachable { source, .. } if wants_ours(source) => {
                "the registry asks who you are: put your certificate into `/etc/docker/certs.d/HOST:PORT/client.cert`, its key into `client.key`"
            }
            Self::Unreachable { source, .. } if mentions(source, "certificate not valid for name") => {
                "call the registry by a name that is in its certificate; to do without: `--insecure-registry HOST`"
            }
            Self::Unreachable { source, .. } if mentions(source, "certificate expired") => {
                "ask the registry's operator for a new certificate; to do without: `--insecure-registry HOST`"
            }
            Self::Unreachable { source, .. } if mentions(source, "certificate") => {
                "put the registry's CA into `/etc/docker/certs.d/HOST:PORT/ca.crt`, or set `SSL_CERT_FILE`; to do without: `--insecure-registry HOST`"
            }
            Self::Unreachable { request, .. } if is_plain(request) => {
                "check the registry's name, its port and the network"
            }
            Self::Unreachable { .. } => {
                "check the registry's name, its port and the network; for plain http use `--insecure-registry HOST`"
            }
            Self::Status { pause: Some(_), .. } => "try again then",
            Self::BrokenOff { .. } | Self::TimedOut { .. } => {
                "try again, or check the network on the way to the registry"
            }
            Self::Denied { credential: CredentialUse::Anonymous { .. }, .. } => {
                "log in with `docker login REGISTRY` or `podman login REGISTRY`"
            }
            Self::Denied { credential: CredentialUse::NotAsked, .. } => {
                "check the name, and whether that is allowed there"
            }
            Self::Denied { .. } => "check that this account may do that, or log in again",
            Self::NotFound { .. } => "check the name and the tag",
            Self::NoPlatform { .. } => "choose one of the platforms it has with `--platform`",
            Self::OtherImage { .. } => "leave the digest out of the name",
            Self::Credentials { source: CredentialError::File { .. }, .. } => {
                "check the path, which `--authfile` or `REGISTRY_AUTH_FILE` can change, and the file's permissions"
            }
            Self::Credentials { .. } => "log in again, or mend the file",
            Self::Certificates(_) => "mend or remove the file",
            Self::Tls { .. } => {
                "install the CA certificates of the system (`ca-certificates`), or set `SSL_CERT_FILE`"
            }
            Self::Refused { .. } => {
                "if you trust the registry, ask its operator to mend the address it gives out"
            }
            Self::Corrupt { .. } | Self::Read { .. } => "make the layout again",
            Self::Layout { .. } | Self::Json { .. } => {
                "check the path, its permissions and the space left there"
            }
            _ => "ask the registry's operator; `MINIMAGE_LOG=minimage=debug` shows each request",
        }
    }
}

impl Explain for RegistryError {
    fn explain(&self) -> Vec<Explanation> {
        if let Self::Layout { source } = self {
            return source.explain();
        }
        let mut explanation = Explanation::new(self.code(), self.to_string());
        match self {
            Self::Denied { messages, .. } | Self::Status { messages, .. } => {
                explanation
                    .reasons
                    .extend(messages.iter().map(|message| format!("the registry says: {message}")));
                if let Self::Status { status, .. } = self {
                    explanation.reasons.extend(unfit(*status).map(str::to_owned));
                }
                if let Self::Denied { credential, .. } = self {
                    explanation.reasons.push(credential.reason());
                }
                if let Self::Status { pause: Some(pause), .. } = self {
                    let pause = format!(
                        "it asks to be left alone for {}, which is too long to wait",
                        seconds(*pause)
                    );
                    explanation.reasons.push(pause);
                }
            }
            Self::NoRealm { .. } => {
                explanation.reasons.push("its `WWW-Authenticate: Bearer` has no `realm`".to_owned());
            }
            Self::OtherBytes { found: Some(found), .. } => {
                explanation.reasons.push(format!("they have the digest {found}"));
            }
            Self::Refused { reason, .. } => explanation.reasons.push(reason.text().to_owned()),
            Self::NoPlatform { available, .. } => {
                explanation.reasons.push(format!("it is there for {}", available.join(", ")));
            }
            _ => {}
        }
        vec![explanation.because_of(self).fix(self.fix())]
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Layout { .. } | Self::Corrupt { .. } | Self::Read { .. } => Failure::NoImage,
            Self::OtherImage { .. } => Failure::Usage,
            _ => Failure::Outside,
        }
    }
}
