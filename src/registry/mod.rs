//! A layout -> a registry, and back (OCI distribution-spec 1.1). The only asynchronous code of this crate.
//!
//! What is sent is what was hashed, and what arrives is hashed before it is used. A push makes nothing visible before
//! it is whole: blobs come first, then what refers to them, the tag last.

mod auth;
mod certificates;
mod clients;
mod complaint;
mod credentials;
mod document;
mod endpoint;
mod error;
mod headers;
mod helper;
mod pull;
mod push;
mod referrers;
mod repository;
mod transport;
mod upload;

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use self::clients::Clients;
use self::credentials::Files;
use self::endpoint::{Endpoint, Secrets};
use self::repository::Repository;
use self::transport::Transport;
use crate::observer::Observer;
use crate::oci::Reference;

pub use self::certificates::CertificateFileError;
pub(crate) use self::certificates::{Certificates, Trust, Versions};
pub use self::credentials::{Credential, CredentialError, CredentialOrigin};
pub use self::document::DocumentError;
pub use self::error::{CredentialUse, Refusal, RegistryError};
pub use self::push::{BlobOutcome, Pushed, PushedBlob, PushedName};
pub use crate::observer::NameOutcome;

/// How registries are spoken to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Hosts, or `host:port`, that need not prove who they are, and may be spoken to in plain http.
    pub insecure_hosts: Vec<String>,
    /// For a registry, the hosts to pull from first, in order.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Credentials by registry; they go before those in files.
    pub credentials: BTreeMap<String, Credential>,
    /// The one file to read credentials from. Without it, the files of Podman and Docker are read, where the environment
    /// places them.
    pub auth_file: Option<PathBuf>,
    /// Directories with a subdirectory for each `host:port` that has its own certificates.
    pub certificates: Vec<PathBuf>,
    /// Images that a push may take blobs over from, if they are in the registry that is pushed to.
    pub mount_from: Vec<Reference>,
    /// How many blobs move at the same time.
    pub concurrency: NonZeroUsize,
    /// How long to wait.
    pub limits: Limits,
    /// How often to try again.
    pub retry: Retry,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure_hosts: Vec::new(),
            mirrors: BTreeMap::new(),
            credentials: BTreeMap::new(),
            auth_file: None,
            certificates: ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from).to_vec(),
            mount_from: Vec::new(),
            concurrency: NonZeroUsize::new(4).unwrap_or(NonZeroUsize::MIN),
            limits: Limits::default(),
            retry: Retry::default(),
        }
    }
}

/// How long a single try may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Until a connection stands.
    pub connect: Duration,
    /// While nothing moves.
    pub idle: Duration,
    /// From the first byte of a request to the last of its answer, a blob's bytes not counted.
    pub request: Duration,
    /// How many bytes of a blob must move in a second, on average.
    pub slowest: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            request: Duration::from_secs(300),
            slowest: 8 << 10,
        }
    }
}

impl Limits {
    /// Returns how long a request with `bytes` of payload may take.
    fn of(&self, bytes: u64) -> Duration {
        self.request.saturating_add(Duration::from_secs(bytes / self.slowest.max(1)))
    }
}

/// How often, and after which pauses, something is tried again that can succeed later.
#[derive(Debug, Clone)]
pub struct Retry {
    /// How many more tries there are after the first.
    pub tries: u32,
    /// The pause after the first failure; it doubles with each one.
    pub first: Duration,
    /// The longest pause of our own.
    pub longest: Duration,
    /// The longest pause that a registry can ask for; if it asks for more, it is not tried again.
    pub asked_max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries: 5,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            asked_max: Duration::from_secs(60),
        }
    }
}

impl Retry {
    /// Returns the pause after that many failures; `random`, from 0 to 1, shortens it by up to a half.
    fn pause(&self, failures: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        doubled.min(self.longest).mul_f64(0.5 + 0.5 * random)
    }
}

/// A client of registries. It keeps connections and tokens, so one is enough for everything.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    secrets: Secrets,
    mirrors: BTreeMap<String, Vec<String>>,
    mount_from: Vec<Reference>,
    concurrency: NonZeroUsize,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
}

impl Client {
    /// Returns a client. It opens no connection and reads no file before it has something to do.
    pub fn new(options: Options) -> Self {
        let files = match &options.auth_file {
            Some(path) => Files::named(path),
            None => Files::usual(&|name| std::env::var_os(name)),
        };
        Self {
            transport: Transport {
                clients: Clients::new(options.insecure_hosts, options.certificates, &options.limits),
                retry: options.retry,
                limits: options.limits,
            },
            secrets: Secrets { given: options.credentials, files },
            mirrors: options.mirrors,
            mount_from: options.mount_from,
            concurrency: options.concurrency,
            endpoints: Mutex::default(),
        }
    }

    async fn endpoint(
        &self,
        registry: &str,
        observer: &dyn Observer,
    ) -> Result<Arc<Endpoint>, RegistryError> {
        // Held while the registry is looked for, so that this is done once.
        let mut endpoints = self.endpoints.lock().await;
        if let Some(endpoint) = endpoints.get(registry) {
            return Ok(Arc::clone(endpoint));
        }
        let retry = self.transport.retry.clone();
        let found = Endpoint::find(&self.transport, registry, self.secrets.clone(), retry, observer).await?;
        let endpoint = Arc::new(found);
        endpoints.insert(registry.to_owned(), Arc::clone(&endpoint));
        Ok(endpoint)
    }

    /// Returns a mirror. It is not waited for as long as a registry: there is another place to ask.
    async fn mirror(&self, host: &str, observer: &dyn Observer) -> Result<Arc<Endpoint>, RegistryError> {
        let retry = Retry { tries: 0, ..self.transport.retry.clone() };
        Endpoint::find(&self.transport, host, self.secrets.clone(), retry, observer).await.map(Arc::new)
    }

    fn repository<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        repository: &'a str,
        observer: &'a dyn Observer,
    ) -> Repository<'a> {
        Repository { transport: &self.transport, endpoint, name: repository, mirrored: None, observer }
    }
}
