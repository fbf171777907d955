//! The name of a registry -> where its API is, and how it is spoken to.

use std::collections::BTreeMap;

use reqwest::{Method, Url};
use tracing::debug;

use super::Retry;
use super::auth::Auth;
use super::clients::is_loopback;
use super::credentials::{Credential, CredentialError, Files};
use super::error::RegistryError;
use super::transport::{Call, Patience, Transport, Trouble};
use crate::observer::Observer;

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
    ) -> Result<Option<Credential>, CredentialError> {
        match self.given.get(registry) {
            Some(credential) => Ok(Some(credential.clone())),
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
        let mut failure = None;
        for origin in origins(transport, registry)? {
            // With a second way to try, the first must not be tried for long.
            let last = failure.is_some() || origin.scheme() == "https" && !may_be_plain(transport, &origin);
            match ping(transport, &origin, last.then_some(&retry), observer).await {
                // A TLS server answers plain http with 400.
                Ok(answer) if failure.is_some() && answer.status() == reqwest::StatusCode::BAD_REQUEST => {}
                Ok(answer) => {
                    debug!(registry, %origin, status = answer.status().as_u16(), "registry found");
                    let (registry, auth) = (registry.to_owned(), Auth::default());
                    let endpoint = Self { registry, origin, auth, secrets, retry };
                    if answer.status() == reqwest::StatusCode::UNAUTHORIZED {
                        endpoint.auth.learn(&answer).await;
                    }
                    return Ok(endpoint);
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| not_a_host(registry)))
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

async fn ping(
    transport: &Transport,
    origin: &Url,
    retry: Option<&Retry>,
    observer: &dyn Observer,
) -> Result<super::transport::Answer, RegistryError> {
    let mut url = origin.clone();
    url.set_path("/v2/");
    let call = Call::new(Method::GET, url);
    let mut patience = retry.map(|retry| Patience::new(retry, observer, &call.url));
    loop {
        let mut outcome = transport.once(&call, origin, None).await;
        if let (Some(trouble), Some(patience)) = (Trouble::of(&outcome), &mut patience)
            && patience.pause(&trouble).await
        {
            continue;
        }
        if let Ok(answer) = &mut outcome {
            answer.drained().await;
        }
        return outcome;
    }
}

/// Returns whether plain http to this host is allowed: on this machine, or where the user says so.
fn may_be_plain(transport: &Transport, origin: &Url) -> bool {
    is_loopback(origin) || transport.clients.is_insecure(origin)
}

/// Returns where a registry's API can be, the best first.
fn origins(transport: &Transport, registry: &str) -> Result<Vec<Url>, RegistryError> {
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let parse = |scheme: &str| format!("{scheme}://{host}/").parse().map_err(|_| not_a_host(registry));
    let (secure, plain): (Url, Url) = (parse("https")?, parse("http")?);
    let has_port = host.trim_start_matches('[').contains(':') && !host.ends_with(']');
    Ok(match may_be_plain(transport, &plain) {
        false => vec![secure],
        true if is_loopback(&plain) && !has_port && !transport.clients.is_insecure(&plain) => vec![plain],
        true => vec![secure, plain],
    })
}

fn not_a_host(registry: &str) -> RegistryError {
    RegistryError::NotFound { what: registry.to_owned() }
}
