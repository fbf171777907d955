//! What a registry demands and what we may show -> the `Authorization` of each request
//! (distribution, docs/spec/auth/token.md and oauth.md).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{debug, info};

use super::clients::{authority, is_loopback};
use super::credentials::{Credential, CredentialError, Found};
use super::endpoint::Endpoint;
use super::error::{CredentialUse, Refusal, RegistryError};
use super::headers::{Challenge, challenges, location};
use super::transport::{Answer, Call, Patience, Payload, Redirects, Transport, Trouble};
use crate::observer::Observer;

/// The largest token answer that is read, in bytes.
const TOKEN_MAX: u64 = 1 << 20;
/// How long a token lives if nothing is said about it.
const LIFE: u64 = 60;
/// The longest time before its end that a token is no longer used.
const MARGIN: Duration = Duration::from_secs(10);
const CLIENT_ID: &str = "minimage";
/// The user name that stands for an identity token where only a user and password can be given.
const TOKEN_USER: &str = "<token>";

/// What a token must allow: actions on one repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Scope {
    pub(super) repository: String,
    pub(super) actions: &'static str,
}

impl Scope {
    pub(super) fn pull(repository: &str) -> Self {
        Self { repository: repository.to_owned(), actions: "pull" }
    }

    pub(super) fn push(repository: &str) -> Self {
        Self { repository: repository.to_owned(), actions: "pull,push" }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repository:{}:{}", self.repository, self.actions)
    }
}

/// A header to send, and the texts in it that nobody may read.
#[derive(Clone)]
struct Authorization {
    header: HeaderValue,
    secrets: Vec<String>,
}

struct Token {
    text: String,
    renew: Instant,
}

#[derive(Default)]
struct State {
    offers: Vec<Challenge>,
    tokens: BTreeMap<Vec<Scope>, Token>,
    credentials: BTreeMap<String, Option<Found>>,
}

/// What is known about how to authenticate to one registry.
#[derive(Default)]
pub(super) struct Auth {
    state: Mutex<State>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth(..)")
    }
}

impl Auth {
    /// Notes what the registry demands; an answer without a challenge changes nothing.
    pub(super) async fn learn(&self, answer: &Answer) {
        let mut offers: Vec<Challenge> =
            answer.headers(WWW_AUTHENTICATE.as_str()).flat_map(challenges).collect();
        offers.retain(|offer| matches!(offer.scheme.as_str(), "bearer" | "basic"));
        // A token is worth less to a thief than a password, so it goes first.
        offers.sort_by_key(|offer| offer.scheme != "bearer");
        if !offers.is_empty() {
            self.state.lock().await.offers = offers;
        }
    }
}

impl Transport {
    /// Sends a request to a registry, authenticated as it demands. A second 401 is final.
    pub(super) async fn authorized(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        scopes: &[Scope],
        observer: &dyn Observer,
    ) -> Result<Answer, RegistryError> {
        let with = |mut answer: Answer, authorization: &Option<Authorization>, known: CredentialUse| {
            answer.secrets = authorization.iter().flat_map(|it| it.secrets.clone()).collect();
            answer.credential = known;
            answer
        };
        let (first, known) = self.authorization(endpoint, scopes, None, observer).await?;
        let header = first.as_ref().map(|it| &it.header);
        let mut answer = self.once(call, endpoint.origin(), header).await?;
        // Another host has no say in where our credentials go.
        let ours = answer.url().origin() == endpoint.origin().origin();
        if answer.status() != StatusCode::UNAUTHORIZED || !ours {
            return Ok(with(answer, &first, known));
        }
        endpoint.auth().learn(&answer).await;
        let (second, known) = self.authorization(endpoint, scopes, header, observer).await?;
        if second.as_ref().is_none_or(|second| Some(&second.header) == header) {
            return Ok(with(answer, &first, known));
        }
        answer.drained().await;
        let header = second.as_ref().map(|it| &it.header);
        let answer = self.once(call, endpoint.origin(), header).await?;
        Ok(with(answer, &second, known))
    }

    /// Sends a request to a registry until it is answered, or no more tries are left.
    pub(super) async fn send(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        scopes: &[Scope],
        observer: &dyn Observer,
    ) -> Result<Answer, RegistryError> {
        let mut patience = Patience::new(&endpoint.retry, observer, &call.url);
        loop {
            let outcome = self.authorized(endpoint, call, scopes, observer).await;
            let Some(trouble) = Trouble::of(&outcome) else { return outcome };
            if !patience.pause(&trouble).await {
                return outcome;
            }
        }
    }

    /// Returns what to show a registry; not again what it `rejected`.
    async fn authorization(
        &self,
        endpoint: &Endpoint,
        scopes: &[Scope],
        rejected: Option<&HeaderValue>,
        observer: &dyn Observer,
    ) -> Result<(Option<Authorization>, CredentialUse), RegistryError> {
        // Held while a token is fetched: requests that run side by side need it once.
        let mut state = endpoint.auth().state.lock().await;
        let repository = scopes.first().map_or("", |scope| scope.repository.as_str());
        let known = match state.credentials.get(repository) {
            Some(known) => known.clone(),
            None if state.offers.is_empty() => return Ok((None, CredentialUse::NotAsked)),
            None => {
                let error = |source: CredentialError| RegistryError::Credentials {
                    registry: endpoint.registry().to_owned(),
                    source,
                };
                let found = endpoint.secrets().credential(endpoint.registry(), repository).await;
                let found = found.map_err(error)?;
                debug!(registry = endpoint.registry(), found = found.is_some(), "credential looked up");
                state.credentials.insert(repository.to_owned(), found.clone());
                found
            }
        };
        let used = match &known {
            Some(found) => CredentialUse::Tried(Box::new(found.origin.clone())),
            None => CredentialUse::Anonymous { searched: endpoint.secrets().files.paths() },
        };
        let known = known.map(|found| found.credential);
        let mut secrets = known.iter().flat_map(Credential::secrets).collect::<Vec<_>>();
        let mut refused = None;
        for offer in state.offers.clone() {
            let value = match (offer.scheme.as_str(), &known) {
                ("basic", Some(credential)) => credential.basic(),
                ("bearer", Some(Credential::Bearer { token })) => Some(format!("Bearer {token}")),
                ("bearer", _) => {
                    let is_rejected = |token: &Token| {
                        rejected
                            .is_some_and(|it| it.as_bytes() == format!("Bearer {}", token.text).as_bytes())
                    };
                    let usable = |token: &&Token| Instant::now() < token.renew && !is_rejected(token);
                    let text = match state.tokens.get(scopes).filter(usable) {
                        Some(token) => token.text.clone(),
                        None => match self.token(endpoint, &offer, known.as_ref(), scopes, observer).await {
                            Ok(token) => {
                                let text = token.text.clone();
                                state.tokens.insert(scopes.to_vec(), token);
                                text
                            }
                            Err(error @ (RegistryError::Refused { .. } | RegistryError::NoRealm { .. })) => {
                                refused = Some(error);
                                continue;
                            }
                            Err(error) => return Err(error.after(used)),
                        },
                    };
                    secrets.push(text.clone());
                    Some(format!("Bearer {text}"))
                }
                _ => None,
            };
            let Some(mut header) = value.and_then(|value| HeaderValue::try_from(value).ok()) else {
                continue;
            };
            header.set_sensitive(true);
            return Ok((Some(Authorization { header, secrets }), used));
        }
        refused.map_or(Ok((None, used)), Err)
    }

    /// Fetches a token. Its kind of server may refuse all if it refuses a repository to mount from, so that is tried without.
    async fn token(
        &self,
        endpoint: &Endpoint,
        offer: &Challenge,
        credential: Option<&Credential>,
        scopes: &[Scope],
        observer: &dyn Observer,
    ) -> Result<Token, RegistryError> {
        let realm = self.realm(endpoint, offer).await?;
        let service = offer.parameter("service");
        let outcome = self.exchange(&realm, service, credential, scopes, observer).await;
        match (outcome, scopes.split_first()) {
            (Err(RegistryError::Denied { .. }), Some((first, rest))) if !rest.is_empty() => {
                self.exchange(&realm, service, credential, std::slice::from_ref(first), observer).await
            }
            (outcome, _) => outcome,
        }
    }

    /// Returns where tokens are had, if credentials may go there.
    async fn realm(&self, endpoint: &Endpoint, offer: &Challenge) -> Result<Realm, RegistryError> {
        let origin = endpoint.origin();
        let registry = || endpoint.registry().to_owned();
        let text = offer.parameter("realm").ok_or_else(|| RegistryError::NoRealm { registry: registry() })?;
        let refused = |target: String, reason| RegistryError::Refused {
            request: format!("the token service of {}", registry()),
            target,
            reason,
        };
        let parsed = text.parse::<Url>().ok().and_then(|url| location(&url, ""));
        let Some(url) = parsed else { return Err(refused("its realm".to_owned(), Refusal::NotHttp)) };
        let target = format!("{}://{}", url.scheme(), authority(&url));
        if url.scheme() == "http" {
            let beside = origin.scheme() == "http" && is_loopback(origin) && is_loopback(&url);
            if !beside && !self.clients.is_insecure(&url) {
                return Err(refused(target, Refusal::PlainHttp));
            }
        }
        let addresses = self.clients.admitted(origin, &url).await;
        let addresses = addresses.map_err(|reason| refused(target.clone(), reason))?;
        if url.host_str() != origin.host_str() {
            info!(registry = endpoint.registry(), realm = %target, "tokens come from another host");
        }
        Ok(Realm { url, addresses })
    }

    async fn exchange(
        &self,
        realm: &Realm,
        service: Option<&str>,
        credential: Option<&Credential>,
        scopes: &[Scope],
        observer: &dyn Observer,
    ) -> Result<Token, RegistryError> {
        let mut fields: Vec<(&str, String)> = Vec::new();
        fields.extend(service.map(|service| ("service", service.to_owned())));
        let secrets = credential.map(Credential::secrets).unwrap_or_default();
        let (user, password) = match credential {
            Some(Credential::Identity { token }) => {
                // One field with all scopes, as OAuth 2 has it; the GET form repeats the field.
                let scope = scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ");
                let mut form = fields.clone();
                form.extend([
                    ("grant_type", "refresh_token".to_owned()),
                    ("client_id", CLIENT_ID.to_owned()),
                    ("refresh_token", token.clone()),
                    ("scope", scope),
                ]);
                let mut call = realm.call(Method::POST);
                let urlencoded = HeaderValue::from_static("application/x-www-form-urlencoded");
                call.headers.insert(CONTENT_TYPE, urlencoded);
                let body = Url::parse_with_params("form:", &form).ok();
                let body = body.and_then(|url| url.query().map(str::to_owned)).unwrap_or_default();
                call.payload = Payload::Bytes(body.into());
                let answer = self.persist(&call, observer).await?;
                let no_such = [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED];
                if !no_such.contains(&answer.status()) {
                    return token_in(answer, secrets).await;
                }
                (TOKEN_USER, Some(token.as_str()))
            }
            Some(Credential::Password { user, password }) => (user.as_str(), Some(password.as_str())),
            Some(Credential::Bearer { .. }) | None => ("", None),
        };
        let mut call = realm.call(Method::GET);
        fields.extend(scopes.iter().map(|scope| ("scope", scope.to_string())));
        if let Some(password) = password {
            fields.push(("client_id", CLIENT_ID.to_owned()));
            let basic = Credential::Password { user: user.to_owned(), password: password.to_owned() }.basic();
            if let Some(mut value) = basic.and_then(|basic| HeaderValue::try_from(basic).ok()) {
                value.set_sensitive(true);
                call.headers.insert(AUTHORIZATION, value);
            }
        }
        call.url.query_pairs_mut().extend_pairs(fields);
        token_in(self.persist(&call, observer).await?, secrets).await
    }

    /// Sends a request that carries its own authorization until it is answered, or no more tries are left.
    pub(super) async fn persist(
        &self,
        call: &Call<'_>,
        observer: &dyn Observer,
    ) -> Result<Answer, RegistryError> {
        let mut patience = Patience::new(&self.retry, observer, &call.url);
        loop {
            let outcome = self.once(call, &call.url, None).await;
            let Some(trouble) = Trouble::of(&outcome) else { return outcome };
            if !patience.pause(&trouble).await {
                return outcome;
            }
        }
    }
}

struct Realm {
    url: Url,
    addresses: Vec<std::net::SocketAddr>,
}

impl Realm {
    fn call(&self, method: Method) -> Call<'static> {
        let mut call = Call::new(method, self.url.clone());
        // What we prove ourselves with must not be passed on.
        call.redirects = Redirects::Never;
        call.addresses.clone_from(&self.addresses);
        call
    }
}

async fn token_in(mut answer: Answer, secrets: Vec<String>) -> Result<Token, RegistryError> {
    #[derive(Deserialize)]
    struct Body {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    answer.secrets = secrets;
    if !answer.status().is_success() {
        return Err(answer.into_error().await);
    }
    let bytes = answer.bytes(TOKEN_MAX).await?;
    let body: Body = serde_json::from_slice(&bytes).map_err(|_| answer.lacks("token"))?;
    let given = [body.token, body.access_token].into_iter().flatten().find(|token| !token.is_empty());
    let text = given.filter(|token| HeaderValue::try_from(token.as_str()).is_ok());
    let text = text.ok_or_else(|| answer.lacks("token"))?;
    let life = Duration::from_secs(body.expires_in.unwrap_or(LIFE).clamp(1, 86_400));
    Ok(Token { text, renew: Instant::now() + life - MARGIN.min(life / 4) })
}
