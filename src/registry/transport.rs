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
use tokio::time::Instant;
use tracing::debug;

use super::certificates::Versions;
use super::clients::{Clients, authority};
use super::complaint::messages;
use super::error::{CredentialUse, Refusal, RegistryError};
use super::headers::{location, retry_after};
use super::{Limits, Retry};
use crate::observer::{Event, Hitch, Observer};
use crate::oci::Descriptor;

const REDIRECTS_MAX: usize = 5;
/// How much of an answer that reports a failure is read, in bytes.
const REPORT_MAX: usize = 64 << 10;
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
    pub(super) versions: Versions,
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
            versions: Versions::All,
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
    /// The longest pause that is waited for.
    pause_max: Duration,
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
            let client = self.clients.of(&url, call.versions, &addresses)?;
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
                let response = result.map_err(|source| unanswered(request, source, self.limits.idle))?;
                return Ok(Answer {
                    response,
                    request: request.to_owned(),
                    allowed: limit,
                    deadline,
                    limits: self.limits.clone(),
                    pause_max: self.retry.asked_max,
                    secrets: Vec::new(),
                    credential: CredentialUse::NotAsked,
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

    /// Returns how long the registry asks to be left alone.
    fn asked_pause(&self) -> Option<Duration> {
        retry_after(self.header(RETRY_AFTER.as_str())?, Timestamp::now())
    }

    /// Lets the body take as long as `size` bytes may take.
    pub(super) fn expect(&mut self, size: u64) {
        self.allowed = self.limits.of(size);
        self.deadline = Instant::now() + self.allowed;
    }

    /// Returns the next piece of the body.
    ///
    /// # Errors
    /// [`RegistryError::BrokenOff`] if the connection breaks, [`RegistryError::TimedOut`].
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let (pause, limit) =
            if left < self.limits.idle { (left, self.allowed) } else { (self.limits.idle, self.limits.idle) };
        match tokio::time::timeout(pause, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(source)) if source.is_timeout() => {
                Err(RegistryError::TimedOut { request: self.request.clone(), limit: self.limits.idle })
            }
            Ok(Err(source)) => {
                Err(RegistryError::BrokenOff { request: self.request.clone(), source: source.without_url() })
            }
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
        let pause = self.asked_pause().filter(|pause| *pause > self.pause_max);
        let body = self.drained().await;
        let messages = messages(&body, &self.secrets);
        match status {
            401 | 403 => {
                RegistryError::Denied { request: self.request, status, messages, credential: self.credential }
            }
            _ => RegistryError::Status { request: self.request, status, messages, pause },
        }
    }

    /// Returns the error that says `what` is missing or wrong in this answer.
    pub(super) fn lacks(&self, what: &'static str) -> RegistryError {
        RegistryError::BadAnswer { request: self.request.clone(), what }
    }
}

/// Returns the error of a request that nothing came back for.
fn unanswered(request: &str, source: reqwest::Error, silence: Duration) -> RegistryError {
    let request = request.to_owned();
    // The system gives up a connection on which nothing is acknowledged.
    if source.is_timeout() && !source.is_connect() {
        return RegistryError::TimedOut { request, limit: silence };
    }
    RegistryError::Unreachable { request, source: source.without_url() }
}

/// How a try went that may be worth another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trouble {
    hitch: Hitch,
    /// The pause that the registry asks for.
    asked: Option<Duration>,
}

impl Trouble {
    /// The registry did less than it was told.
    pub(super) const HALF_DONE: Self = Self { hitch: Hitch::Broken, asked: None };

    /// Returns what kept a request from being done, if another try can help.
    pub(super) fn of(outcome: &Result<Answer, RegistryError>) -> Option<Self> {
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => return Self::of_error(error),
        };
        let status = answer.status();
        let passes = status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED;
        let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        (passes || busy).then(|| Self { asked: answer.asked_pause(), ..Self::answered(answer) })
    }

    pub(super) fn of_error(error: &RegistryError) -> Option<Self> {
        let hitch = match error {
            error if error.is_about_trust() => return None,
            RegistryError::Unreachable { source, .. } if source.is_connect() => Hitch::Unreachable,
            RegistryError::Unreachable { .. } | RegistryError::BrokenOff { .. } => Hitch::Broken,
            RegistryError::TimedOut { .. } => Hitch::Silence,
            _ => return None,
        };
        Some(Self { hitch, asked: None })
    }

    /// Returns the trouble that this answer is, whatever its status.
    pub(super) fn answered(answer: &Answer) -> Self {
        Self { hitch: Hitch::Status(answer.status().as_u16()), asked: None }
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

    /// Waits before the next try, and returns whether there is one. A registry that asks for more time than we have is
    /// not tried again.
    pub(super) async fn pause(&mut self, trouble: &Trouble) -> bool {
        self.failures += if trouble.hitch == Hitch::Silence { TIME_OUT_COST } else { 1 };
        if self.failures > self.retry.tries || trouble.asked.is_some_and(|asked| asked > self.retry.asked_max)
        {
            return false;
        }
        let pause = trouble.asked.unwrap_or_else(|| self.retry.pause(self.failures, random()));
        self.observer.event(Event::Waiting { host: &self.host, hitch: trouble.hitch, pause });
        debug!(host = %self.host, hitch = ?trouble.hitch, ?pause, failures = self.failures, "trying again");
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

    /// The system's own limit for what is not acknowledged is told as a time-out, not as a connection that broke.
    #[test]
    fn a_silent_connection_is_no_broken_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let of = |kind: std::io::ErrorKind| {
            let failing = futures_util::stream::iter([Err::<Bytes, _>(std::io::Error::from(kind))]);
            let client = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let request = client.post(&url).body(Body::wrap_stream(failing));
            let error = runtime.block_on(async { request.send().await.unwrap_err() });
            Trouble::of_error(&unanswered("POST", error, Duration::ZERO)).unwrap().hitch
        };
        assert_eq!(of(std::io::ErrorKind::TimedOut), Hitch::Silence);
        assert_eq!(of(std::io::ErrorKind::ConnectionReset), Hitch::Broken);
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
