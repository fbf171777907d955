//! The name of a registry -> where its API is, and how it is spoken to.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode, Url};
use tracing::debug;

use super::Retry;
use super::auth::Auth;
use super::certificates::Versions;
use super::clients::is_loopback;
use super::credentials::{Credential, CredentialError, Files, Found};
use super::error::RegistryError;
use super::transport::{Answer, Call, Patience, Transport, Trouble};
use crate::observer::Observer;

/// How often more a registry is tried that does not answer to the first request: its name may well be wrong.
const FIRST_TRIES: u32 = 2;

/// Where credentials come from: those given, then those in files.
#[derive(Debug, Clone)]
pub(super) struct Secrets {
    pub(super) given: BTreeMap<String, Credential>,
    pub(super) files: Files,
}

impl Secrets {
    pub(super) async fn credential(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Found>, CredentialError> {
        match self.given.get(registry) {
            Some(credential) => Ok(Some(Found::given(credential.clone()))),
            None => self.files.credential(registry, repository).await,
        }
    }
}

/// One registry, or a mirror of one.
#[derive(Debug)]
pub(super) struct Endpoint {
    registry: String,
    origin: Url,
    auth: Auth,
    secrets: Secrets,
    pub(super) retry: Retry,
}

impl Endpoint {
    /// Finds out how `registry` is spoken to, and what it demands.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`] and its like.
    pub(super) async fn find(
        transport: &Transport,
        registry: &str,
        secrets: Secrets,
        retry: Retry,
        observer: &dyn Observer,
    ) -> Result<Self, RegistryError> {
        let (origin, answer) = reach(transport, registry, &retry, observer).await?;
        debug!(registry, %origin, status = answer.status().as_u16(), "registry found");
        let (registry, auth) = (registry.to_owned(), Auth::default());
        let endpoint = Self { registry, origin, auth, secrets, retry };
        if answer.status() == StatusCode::UNAUTHORIZED {
            endpoint.auth.learn(&answer).await;
        }
        Ok(endpoint)
    }

    pub(super) fn registry(&self) -> &str {
        &self.registry
    }

    pub(super) fn origin(&self) -> &Url {
        &self.origin
    }

    pub(super) fn auth(&self) -> &Auth {
        &self.auth
    }

    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Returns the URL of something in a repository, such as `manifests/latest`. All parts come from checked types.
    pub(super) fn url(&self, repository: &str, rest: &str) -> Url {
        let mut url = self.origin.clone();
        url.set_path(&format!("/v2/{repository}/{rest}"));
        url
    }
}

/// Returns where the API of `registry` is, and what it answers to the first request.
async fn reach(
    transport: &Transport,
    registry: &str,
    retry: &Retry,
    observer: &dyn Observer,
) -> Result<(Url, Answer), RegistryError> {
    let retry = Retry { tries: retry.tries.min(FIRST_TRIES), ..retry.clone() };
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let parse = |scheme: &str| {
        let url = format!("{scheme}://{host}/").parse::<Url>();
        url.map_err(|_| RegistryError::NotFound { what: registry.to_owned() })
    };
    let (secure, plain) = (parse("https")?, parse("http")?);
    let found = |origin: &Url, answer| Ok((origin.clone(), answer));
    let insecure = transport.clients.is_insecure(&secure);
    if insecure && !is_loopback(&secure) {
        let error = match ping_once(transport, &secure).await {
            Ok(answer) => return found(&secure, answer),
            Err(error) => error,
        };
        return match ping(transport, &plain, &retry, observer).await {
            Ok(answer) if !wants_tls(&answer) => found(&plain, answer),
            Err(plain) if !error.is_about_tls() => Err(plain),
            _ => Err(error),
        };
    }
    if !is_loopback(&secure) {
        return found(&secure, ping(transport, &secure, &retry, observer).await?);
    }
    // Nobody listens in on this machine, and the first request is not worth to be listened to. So plain http goes first:
    // it needs no root certificates, which take longer to read than an image that is there already takes to push.
    let mut patience = Patience::new(&retry, observer, &plain);
    loop {
        let error = match ping_once(transport, &plain).await {
            Ok(answer) if !wants_tls(&answer) => return found(&plain, answer),
            Ok(_) => return found(&secure, ping(transport, &secure, &retry, observer).await?),
            Err(error) => error,
        };
        // A server of https may answer by hanging up.
        if error.is_broken() {
            match ping_once(transport, &secure).await {
                Ok(answer) => return found(&secure, answer),
                Err(error) if error.is_about_tls() => return Err(error),
                Err(_) => {}
            }
        }
        match Trouble::of_error(&error) {
            Some(trouble) if patience.pause(&trouble).await => {}
            _ => return Err(error),
        }
    }
}

/// Returns whether a server of https answers to a request in plain http: with 400, or by sending us to https.
fn wants_tls(answer: &Answer) -> bool {
    answer.status() == StatusCode::BAD_REQUEST || answer.url().scheme() == "https"
}

/// Asks whether the API is at `origin`, until that is answered or no more tries are left.
async fn ping(
    transport: &Transport,
    origin: &Url,
    retry: &Retry,
    observer: &dyn Observer,
) -> Result<Answer, RegistryError> {
    let mut patience = Patience::new(retry, observer, origin);
    loop {
        let outcome = ping_once(transport, origin).await;
        match Trouble::of(&outcome) {
            Some(trouble) if patience.pause(&trouble).await => {}
            _ => return outcome,
        }
    }
}

/// Asks once whether the API is at `origin`, and if that breaks off, what there is to say about it.
async fn ping_once(transport: &Transport, origin: &Url) -> Result<Answer, RegistryError> {
    let mut url = origin.clone();
    url.set_path("/v2/");
    let mut call = Call::new(Method::GET, url);
    let mut outcome = transport.once(&call, origin, None).await;
    if outcome.as_ref().is_err_and(|error| origin.scheme() == "https" && error.is_broken()) {
        call.versions = Versions::One;
        outcome = transport.once(&call, origin, None).await;
    }
    let mut answer = outcome?;
    answer.drained().await;
    Ok(answer)
}
