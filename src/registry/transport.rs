//! A request -> its answer: redirects, time limits, tries, and what may be told of a failure.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Body, Method, Response, StatusCode, Url};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::debug;

use super::clients::{Clients, authority};
use super::error::{CredentialUse, Refusal, RegistryError};
use super::headers::{location, retry_after};
use super::{Limits, Retry};
use crate::observer::{Event, Observer};
use crate::oci::Descriptor;

const REDIRECTS_MAX: usize = 5;
/// How much of an answer that reports a failure is read, in bytes.
const REPORT_MAX: usize = 64 << 10;
const MESSAGES_MAX: usize = 5;
const MESSAGE_MAX: usize = 300;
/// How often progress is told, and silence looked for.
const TICK: Duration = Duration::from_millis(100);
/// What a time-out costs of the tries: its time is already spent.
const TIME_OUT_COST: u32 = 3;

/// One request, in a form that can be sent again.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload<'a>,
    pub(super) redirects: Redirects,
    /// Where the host is, if that was looked up already.
    pub(super) addresses: Vec<SocketAddr>,
}

impl Call<'_> {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            payload: Payload::Empty,
            redirects: Redirects::Follow,
            addresses: Vec::new(),
        }
    }
}

/// What a request carries.
pub(super) enum Payload<'a> {
    Empty,
    Bytes(Bytes),
    Stream(&'a dyn Source),
}

/// A body that can be opened several times.
pub(super) trait Source: Sync {
    /// Returns the number of bytes in the body.
    fn length(&self) -> u64;
    /// Starts to read the body.
    fn open(&self) -> Body;
    /// Returns where to look for progress, and whom to tell.
    fn watch(&self) -> Watch<'_>;
}

/// Progress of a transfer, and whom it is told.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) observer: &'a dyn Observer,
    pub(super) blob: &'a Descriptor,
    pub(super) moved: &'a AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirects {
    Follow,
    Never,
}

/// What is shown along with a request: never its query, which can be a signature.
pub(super) fn shown(method: &Method, url: &Url) -> String {
    format!("{method} {}://{}{}", url.scheme(), authority(url), url.path())
}

/// Sends requests.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) clients: Clients,
    pub(super) retry: Retry,
    pub(super) limits: Limits,
}

/// The head of an answer, with its body still to come.
#[derive(Debug)]
pub(super) struct Answer {
    response: Response,
    pub(super) request: String,
    /// How long all of it may take, and when that is over.
    allowed: Duration,
    deadline: Instant,
    limits: Limits,
    /// What the registry was shown, and could send back.
    pub(super) secrets: Vec<String>,
    pub(super) credential: CredentialUse,
}

impl Transport {
    /// Sends a request once. `authorization` goes to `origin` only, wherever the request leads.
    pub(super) async fn once(
        &self,
        call: &Call<'_>,
        origin: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let mut url = call.url.clone();
        let mut addresses = call.addresses.clone();
        let request = shown(&call.method, &url);
        for _ in 0..=REDIRECTS_MAX {
            let client = self.clients.of(&url, &addresses)?;
            let mut builder = client.request(call.method.clone(), url.clone()).headers(call.headers.clone());
            if let Some(value) = authorization.filter(|_| url.origin() == origin.origin()) {
                builder = builder.header(AUTHORIZATION, value);
            }
            let answer = self.answered(call, builder, &request).await?;
            debug!(%request, status = answer.status().as_u16(), "answer");
            let Some(target) = redirect(call, &url, &answer)? else { return Ok(answer) };
            // Not into networks that the registry is no part of: what is there trusts whoever reaches it.
            let admitted = self.clients.admitted(&call.url, &target).await;
            addresses = admitted.map_err(|reason| RegistryError::Refused {
                request: answer.request.clone(),
                target: format!("{}://{}", target.scheme(), authority(&target)),
                reason,
            })?;
            url = target;
        }
        Err(RegistryError::RedirectLoop { request, limit: REDIRECTS_MAX })
    }

    async fn answered(
        &self,
        call: &Call<'_>,
        builder: reqwest::RequestBuilder,
        request: &str,
    ) -> Result<Answer, RegistryError> {
        let (length, watch) = match &call.payload {
            Payload::Empty => (0, None),
            Payload::Bytes(bytes) => (bytes.len() as u64, None),
            Payload::Stream(source) => (source.length(), Some(source.watch())),
        };
        let builder = match &call.payload {
            // Not every server takes a POST without a length for an empty one.
            Payload::Empty if matches!(call.method, Method::GET | Method::HEAD) => builder,
            Payload::Empty => builder.header(CONTENT_LENGTH, 0),
            Payload::Bytes(bytes) => builder.body(bytes.clone()),
            Payload::Stream(source) => builder.header(CONTENT_LENGTH, length).body(source.open()),
        };
        let limit = self.limits.of(length);
        let deadline = Instant::now() + limit;
        let mut sending = pin!(builder.send());
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            if let Ok(result) = tokio::time::timeout(TICK, &mut sending).await {
                let response = result.map_err(|source| RegistryError::Unreachable {
                    request: request.to_owned(),
                    source: source.without_url(),
                })?;
                return Ok(Answer {
                    response,
                    request: request.to_owned(),
                    allowed: limit,
                    deadline,
                    limits: self.limits.clone(),
                    secrets: Vec::new(),
                    credential: CredentialUse::Anonymous,
                });
            }
            let timed_out = |limit| RegistryError::TimedOut { request: request.to_owned(), limit };
            // Once everything is sent, the registry may take its time to store it.
            let silent = match watch {
                Some(watch) => {
                    let moved = watch.moved.load(Ordering::Relaxed);
                    if moved != seen {
                        (seen, since) = (moved, Instant::now());
                        watch.observer.event(Event::Advanced { blob: watch.blob, bytes: moved });
                    }
                    moved < watch.blob.size()
                }
                None => true,
            };
            if silent && since.elapsed() > self.limits.idle {
                return Err(timed_out(self.limits.idle));
            }
            if Instant::now() > deadline {
                return Err(timed_out(limit));
            }
        }
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn url(&self) -> &Url {
        self.response.url()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(super) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        self.response.headers().get_all(name).iter().filter_map(|value| value.to_str().ok())
    }

    /// Returns the length that the head announces.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// Lets the body take as long as `size` bytes may take.
    pub(super) fn expect(&mut self, size: u64) {
        self.allowed = self.limits.of(size);
        self.deadline = Instant::now() + self.allowed;
    }

    /// Returns the next piece of the body.
    ///
    /// # Errors
    /// [`RegistryError::Unreachable`] if the connection breaks, [`RegistryError::TimedOut`].
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (pause, limit) =
            if left < self.limits.idle { (left, self.allowed) } else { (self.limits.idle, self.limits.idle) };
        match tokio::time::timeout(pause, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(source)) => Err(RegistryError::Unreachable {
                request: self.request.clone(),
                source: source.without_url(),
            }),
            Err(_) => Err(RegistryError::TimedOut { request: self.request.clone(), limit }),
        }
    }

    /// Returns the body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// [`RegistryError::TooLarge`]; as of [`Answer::chunk`].
    pub(super) async fn bytes(&mut self, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let too_large = || RegistryError::TooLarge { request: self.request.clone(), limit };
        if self.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() as u64 + chunk.len() as u64 > limit {
                return Err(RegistryError::TooLarge { request: self.request.clone(), limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Reads what is left of a short body, so that the connection can serve again.
    pub(super) async fn drained(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < REPORT_MAX {
            match self.chunk().await {
                Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
                // What is there must do: this is only about how to tell of a failure.
                Ok(None) | Err(_) => break,
            }
        }
        bytes.truncate(REPORT_MAX);
        bytes
    }

    /// Returns the error that this answer is.
    pub(super) async fn into_error(mut self) -> RegistryError {
        let status = self.status().as_u16();
        let body = self.drained().await;
        let messages = messages(&body, &self.secrets);
        match status {
            401 | 403 => {
                RegistryError::Denied { request: self.request, status, messages, credential: self.credential }
            }
            _ => RegistryError::Status { request: self.request, status, messages },
        }
    }

    /// Returns the error that says `what` is missing or wrong in this answer.
    pub(super) fn lacks(&self, what: &'static str) -> RegistryError {
        RegistryError::BadAnswer { request: self.request.clone(), what }
    }
}

/// Returns what a registry says about a failure (distribution-spec, "Error Codes"), without anything secret.
pub(super) fn messages(body: &[u8], secrets: &[String]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Envelope {
        #[serde(default)]
        errors: Vec<Item>,
        #[serde(default, alias = "error_description")]
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let texts = match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => {
            let items = envelope.errors.into_iter().map(|item| match (item.code.as_str(), item.message) {
                (code, message) if message.is_empty() => code.to_owned(),
                ("", message) => message,
                (code, message) => format!("{code}: {message}"),
            });
            items.chain(envelope.details).collect()
        }
        Err(_) => vec![String::from_utf8_lossy(body).lines().next().unwrap_or_default().to_owned()],
    };
    let texts = texts.into_iter().map(|text| clean(&text, secrets)).filter(|text| !text.is_empty());
    texts.take(MESSAGES_MAX).collect()
}

/// Returns `text` without secrets, without the queries of URLs, without control characters, and not too long.
fn clean(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "[secret]");
    }
    let words = text.split_whitespace().map(|word| match word.split_once('?') {
        Some((before, after)) if before.contains("://") || after.contains('=') => format!("{before}?[..]"),
        _ => word.to_owned(),
    });
    let text = words.collect::<Vec<_>>().join(" ");
    text.chars().filter(|character| !character.is_control()).take(MESSAGE_MAX).collect()
}

/// How a try went that may be worth another one.
pub(super) enum Trouble {
    /// The registry can do it later; it may have said when.
    Later(Option<Duration>),
    /// The connection broke.
    Broken,
    /// Nothing came.
    TimedOut,
}

impl Trouble {
    /// Returns what kept a request from being done, if another try can help.
    pub(super) fn of(outcome: &Result<Answer, RegistryError>) -> Option<Self> {
        match outcome {
            Ok(answer) => {
                let status = answer.status();
                let passes = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
                let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
                let asked = answer.header(RETRY_AFTER.as_str());
                (passes || busy)
                    .then(|| Self::Later(asked.and_then(|value| retry_after(value, Timestamp::now()))))
            }
            Err(error) => Self::of_error(error),
        }
    }

    pub(super) fn of_error(error: &RegistryError) -> Option<Self> {
        match error {
            RegistryError::Unreachable { .. } => Some(Self::Broken),
            RegistryError::TimedOut { .. } => Some(Self::TimedOut),
            _ => None,
        }
    }
}

/// How many more tries one thing gets.
pub(super) struct Patience<'a> {
    retry: &'a Retry,
    observer: &'a dyn Observer,
    host: String,
    failures: u32,
}

impl<'a> Patience<'a> {
    pub(super) fn new(retry: &'a Retry, observer: &'a dyn Observer, url: &Url) -> Self {
        Self { retry, observer, host: authority(url), failures: 0 }
    }

    /// Waits before the next try, and returns whether there is one.
    pub(super) async fn pause(&mut self, trouble: &Trouble) -> bool {
        self.failures += match trouble {
            Trouble::TimedOut => TIME_OUT_COST,
            Trouble::Later(_) | Trouble::Broken => 1,
        };
        if self.failures > self.retry.tries {
            return false;
        }
        let asked = match trouble {
            Trouble::Later(asked) => asked.map(|asked| asked.min(self.retry.asked_max)),
            _ => None,
        };
        let pause = asked.unwrap_or_else(|| self.retry.pause(self.failures, random()));
        self.observer.event(Event::Waiting { host: &self.host, pause });
        debug!(host = %self.host, ?pause, failures = self.failures, "trying again");
        tokio::time::sleep(pause).await;
        true
    }
}

/// Returns a number between 0 and 1, so that clients that failed together do not come back together.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 40;
    f64::from(u32::try_from(bits).unwrap_or(0)) / f64::from(1 << 24)
}

/// Returns where `answer`, which `url` gave, sends us, if it does.
fn redirect(call: &Call<'_>, url: &Url, answer: &Answer) -> Result<Option<Url>, RegistryError> {
    let reads = matches!(call.method, Method::GET | Method::HEAD);
    let follows = match answer.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => reads,
        _ => false,
    };
    if !follows || call.redirects == Redirects::Never {
        return Ok(None);
    }
    let Some(text) = answer.header(LOCATION.as_str()) else { return Ok(None) };
    let refused = |target: &str, reason| RegistryError::Refused {
        request: answer.request.clone(),
        target: target.to_owned(),
        reason,
    };
    let Some(target) = location(url, text) else { return Err(refused("a redirect", Refusal::NotHttp)) };
    let shown = format!("{}://{}", target.scheme(), authority(&target));
    if url.scheme() == "https" && target.scheme() == "http" {
        return Err(refused(&shown, Refusal::PlainHttp));
    }
    if !reads && target.origin() != call.url.origin() {
        return Err(refused(&shown, Refusal::OtherHost));
    }
    Ok(Some(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_hold_no_secret() {
        let secrets = ["hunter2".to_owned()];
        for (body, want) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no hunter2"},{"message":"m"},{"code":"C"}]}"#,
                vec!["DENIED: no [secret]", "m", "C"],
            ),
            (
                "see https://s3.example/x?X-Amz-Signature=abc now\nmore",
                vec!["see https://s3.example/x?[..] now"],
            ),
            ("/relative?sig=abc", vec!["/relative?[..]"]),
            ("really?", vec!["really?"]),
            ("\u{1b}[31mred", vec!["[31mred"]),
            ("", vec![]),
            ("{}", vec![]),
        ] {
            assert_eq!(messages(body.as_bytes(), &secrets), want, "{body}");
        }
        assert_eq!(messages("x".repeat(1000).as_bytes(), &[])[0].len(), MESSAGE_MAX);
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let retry = Retry::default();
        let seconds: Vec<f64> = (1..9).map(|failures| retry.pause(failures, 1.0).as_secs_f64()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        assert_eq!(retry.pause(1, 0.0), Duration::from_millis(250));
        assert!((0..100).all(|_| (0.0..1.0).contains(&random())));
    }
}
