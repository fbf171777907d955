//! One blob of a layout -> the repository: not at all, mounted, in one piece, or in chunks from where a connection broke.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use reqwest::{Body, Method, StatusCode, Url};
use tokio::sync::mpsc;

use super::auth::Scope;
use super::error::{Refusal, RegistryError};
use super::headers::{location, received};
use super::push::BlobOutcome;
use super::repository::{Repository, claimed, matches_claim};
use super::transport::{Answer, Call, Patience, Payload, Source, Trouble, Watch};
use crate::observer::{Direction, Event};
use crate::oci::{Descriptor, Digest, Hasher, Layout};

/// How much of a file is read at once, in bytes.
const PIECE: usize = 256 << 10;
/// How many pieces wait between disk and network.
const PIECES: usize = 4;
/// The smallest chunk of an upload in chunks, but for the last.
const CHUNK: u64 = 8 << 20;

/// A blob, and the repository it goes to.
pub(super) struct Upload<'a> {
    repository: Repository<'a>,
    layout: &'a Layout,
    blob: &'a Descriptor,
    digest: Digest,
    moved: Arc<AtomicU64>,
    /// Where the upload goes on, while the registry holds a place for it.
    open: Mutex<Option<Url>>,
}

/// Where to send the bytes of an upload that has begun.
struct Session {
    url: Url,
    /// The smallest chunk that the registry takes.
    chunk: u64,
}

/// How a try to send a whole blob ended.
enum Sent {
    Whole,
    /// The registry does not take as much at once.
    TooMuch,
    /// It broke off, in a way that another try may mend.
    Trouble(Trouble, Box<Result<Answer, RegistryError>>),
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        repository: Repository<'a>,
        layout: &'a Layout,
        blob: &'a Descriptor,
        digest: Digest,
    ) -> Self {
        Self { repository, layout, blob, digest, moved: Arc::default(), open: Mutex::default() }
    }

    /// Brings the blob into the repository.
    pub(super) async fn run(&self, mount_from: &[&str]) -> Result<BlobOutcome, RegistryError> {
        if self.is_there().await? {
            self.tell(Event::AlreadyThere { blob: self.blob });
            return Ok(BlobOutcome::AlreadyThere);
        }
        let mut session = None;
        for from in mount_from {
            match self.mount(from).await? {
                Mount::Done => {
                    self.tell(Event::Mounted { blob: self.blob, from });
                    return Ok(BlobOutcome::Mounted { from: (*from).to_owned() });
                }
                Mount::Session(begun) => {
                    session = Some(begun);
                    break;
                }
                Mount::Refused => {}
            }
        }
        self.tell(Event::Started { blob: self.blob, direction: Direction::Push });
        self.send(session).await?;
        self.holds(None);
        self.tell(Event::Finished { blob: self.blob });
        Ok(BlobOutcome::Uploaded)
    }

    fn tell(&self, event: Event<'_>) {
        self.repository.observer.event(event);
    }

    /// Notes where the registry holds a place for the blob, and returns where it held one before.
    fn holds(&self, place: Option<Url>) -> Option<Url> {
        std::mem::replace(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner), place)
    }

    async fn is_there(&self) -> Result<bool, RegistryError> {
        let call = Call::new(Method::HEAD, self.repository.url(&format!("blobs/{}", self.digest)));
        let answer = self.repository.write(&call).await?;
        match answer.status() {
            StatusCode::OK => {
                matches_claim(&answer, self.digest)?;
                // A blob of another size is not this one, whatever it is called; sending it lets the registry notice.
                // And 200 alone says nothing: so does any web server.
                Ok(match answer.content_length() {
                    Some(length) => length == self.blob.size(),
                    None => claimed(&answer).is_some(),
                })
            }
            // An answer to HEAD has no body. If the registry denies the upload, too, it can say why.
            StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(false),
            _ => Err(answer.into_error().await),
        }
    }

    async fn mount(&self, from: &str) -> Result<Mount, RegistryError> {
        let mut url = self.repository.url("blobs/uploads/");
        url.query_pairs_mut().append_pair("mount", &self.digest.to_string()).append_pair("from", from);
        let call = Call::new(Method::POST, url);
        let scopes = [self.repository.push_scope(), Scope::pull(from)];
        let Repository { transport, endpoint, observer, .. } = self.repository;
        let answer = transport.send(endpoint, &call, &scopes, observer).await?;
        match answer.status() {
            StatusCode::CREATED => {
                matches_claim(&answer, self.digest)?;
                Ok(Mount::Done)
            }
            StatusCode::ACCEPTED => Ok(Mount::Session(self.session(&answer).await?)),
            status if status.is_client_error() => Ok(Mount::Refused),
            _ => Err(answer.into_error().await),
        }
    }

    async fn begin(&self) -> Result<Session, RegistryError> {
        let call = Call::new(Method::POST, self.repository.url("blobs/uploads/"));
        let answer = self.repository.write(&call).await?;
        match answer.status() {
            StatusCode::ACCEPTED => self.session(&answer).await,
            _ => Err(answer.into_error().await),
        }
    }

    async fn session(&self, answer: &Answer) -> Result<Session, RegistryError> {
        let url = self.next(answer).await?.ok_or_else(|| answer.lacks("`Location`"))?;
        self.holds(Some(url.clone()));
        let minimum = answer.header("oci-chunk-min-length").and_then(|text| text.parse().ok());
        Ok(Session { url, chunk: minimum.unwrap_or(0).max(CHUNK) })
    }

    /// Lets the upload go on where an answer sends it.
    async fn go_on(&self, session: &mut Session, answer: &Answer) -> Result<(), RegistryError> {
        if let Some(url) = self.next(answer).await? {
            self.holds(Some(url.clone()));
            session.url = url;
        }
        Ok(())
    }

    /// Returns where an answer sends the upload next.
    async fn next(&self, answer: &Answer) -> Result<Option<Url>, RegistryError> {
        let Some(text) = answer.header(LOCATION.as_str()) else { return Ok(None) };
        let url = location(answer.url(), text).ok_or_else(|| answer.lacks("`Location`"))?;
        let origin = self.repository.endpoint.origin();
        let refused = |reason| RegistryError::Refused {
            request: answer.request.clone(),
            target: url.origin().ascii_serialization(),
            reason,
        };
        if origin.scheme() == "https" && url.scheme() == "http" {
            return Err(refused(Refusal::PlainHttp));
        }
        self.repository.transport.clients.admitted(origin, &url).await.map_err(refused)?;
        Ok(Some(url))
    }

    /// Sends the blob, in as many tries as are left.
    async fn send(&self, begun: Option<Session>) -> Result<(), RegistryError> {
        let Repository { transport, observer, .. } = self.repository;
        let mut session = match begun {
            Some(session) => session,
            None => self.begin().await?,
        };
        let mut patience = Patience::new(&transport.retry, observer, &session.url);
        // From where to go on in chunks; without it the blob is sent in one piece.
        let mut resume: Option<u64> = None;
        loop {
            let sent = match resume {
                None => self.whole(&session).await,
                Some(from) => self.in_chunks(&mut session, from).await,
            };
            let (trouble, outcome) = match sent {
                Ok(Sent::Whole) => return Ok(()),
                Ok(Sent::TooMuch) => {
                    self.abandon().await;
                    session = self.begin().await?;
                    resume = Some(0);
                    continue;
                }
                Ok(Sent::Trouble(trouble, outcome)) => (trouble, *outcome),
                Err(error) => return Err(error),
            };
            if !patience.pause(&trouble).await {
                return Err(match outcome {
                    Ok(answer) => answer.into_error().await,
                    Err(error) => error,
                });
            }
            // The answer can be lost after the work is done.
            if self.is_there().await? {
                return Ok(());
            }
            match self.progress(&mut session).await? {
                Some(from) if from > 0 && from <= self.blob.size() => resume = Some(from),
                _ => {
                    session = self.begin().await?;
                    resume = resume.map(|_| 0);
                }
            }
        }
    }

    /// Sends one request of the upload, once: whoever calls decides how to go on.
    async fn request(&self, call: &Call<'_>) -> Result<Answer, RegistryError> {
        let Repository { transport, endpoint, observer, .. } = self.repository;
        transport.authorized(endpoint, call, &[self.repository.push_scope()], observer).await
    }

    async fn whole(&self, session: &Session) -> Result<Sent, RegistryError> {
        let source = Blob::new(self, 0, self.blob.size(), Check::Digest(self.digest));
        let mut call = Call::new(Method::PUT, self.closing(session));
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.payload = if self.blob.size() == 0 { Payload::Empty } else { Payload::Stream(&source) };
        let outcome = self.request(&call).await;
        if let Some(error) = source.error() {
            return Err(error);
        }
        self.concluded(outcome).await
    }

    /// Returns the URL that ends an upload.
    fn closing(&self, session: &Session) -> Url {
        let mut url = session.url.clone();
        // Appended by hand: a signed query must keep its bytes.
        let query = match url.query() {
            Some(query) if !query.is_empty() => format!("{query}&digest={}", self.digest),
            _ => format!("digest={}", self.digest),
        };
        url.set_query(Some(&query));
        url
    }

    /// Judges the answer to the last request of an upload.
    async fn concluded(&self, outcome: Result<Answer, RegistryError>) -> Result<Sent, RegistryError> {
        if let Some(trouble) = Trouble::of(&outcome) {
            return Ok(Sent::Trouble(trouble, Box::new(outcome)));
        }
        let answer = outcome?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => {
                matches_claim(&answer, self.digest)?;
                Ok(Sent::Whole)
            }
            StatusCode::PAYLOAD_TOO_LARGE => Ok(Sent::TooMuch),
            // The session is lost, or the registry has other bytes in it than were sent.
            StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => {
                Ok(Sent::Trouble(Trouble::answered(&answer), Box::new(Ok(answer))))
            }
            _ => Err(answer.into_error().await),
        }
    }

    /// Sends the blob from its byte `from` on, a chunk at a time.
    async fn in_chunks(&self, session: &mut Session, mut from: u64) -> Result<Sent, RegistryError> {
        let size = self.blob.size();
        // A part of a file cannot be checked while it is sent.
        self.verified().await?;
        while from < size {
            let length = session.chunk.min(size - from);
            let source = Blob::new(self, from, length, Check::None);
            let mut call = Call::new(Method::PATCH, session.url.clone());
            call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            let range = HeaderValue::try_from(format!("{from}-{}", from + length - 1));
            call.headers.extend(range.ok().map(|range| (CONTENT_RANGE, range)));
            call.payload = Payload::Stream(&source);
            let outcome = self.request(&call).await;
            if let Some(error) = source.error() {
                return Err(error);
            }
            if let Some(trouble) = Trouble::of(&outcome) {
                return Ok(Sent::Trouble(trouble, Box::new(outcome)));
            }
            let answer = outcome?;
            match answer.status() {
                StatusCode::ACCEPTED => {}
                StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE => {
                    return Ok(Sent::Trouble(Trouble::answered(&answer), Box::new(Ok(answer))));
                }
                _ => return Err(answer.into_error().await),
            }
            self.go_on(session, &answer).await?;
            let arrived = answer.header(RANGE.as_str()).and_then(received).unwrap_or(from + length);
            if arrived > from + length {
                return Err(answer.lacks("`Range`"));
            }
            // Not all of it: that may pass, but it must not go on for ever.
            if arrived < from + length {
                return Ok(Sent::Trouble(Trouble::HALF_DONE, Box::new(Ok(answer))));
            }
            from = arrived;
        }
        let mut call = Call::new(Method::PUT, self.closing(session));
        call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let outcome = self.request(&call).await;
        self.concluded(outcome).await
    }

    /// Returns how many bytes of the upload the registry has, or `None` if it knows nothing of it.
    async fn progress(&self, session: &mut Session) -> Result<Option<u64>, RegistryError> {
        let answer = match self.request(&Call::new(Method::GET, session.url.clone())).await {
            Ok(answer) => answer,
            Err(error) if Trouble::of_error(&error).is_some() => return Ok(None),
            Err(error) => return Err(error),
        };
        if !matches!(answer.status(), StatusCode::NO_CONTENT | StatusCode::ACCEPTED | StatusCode::OK) {
            return Ok(None);
        }
        self.go_on(session, &answer).await?;
        Ok(answer.header(RANGE.as_str()).and_then(received))
    }

    /// Tells the registry that the upload, if one is going on, is given up. It forgets it sooner or later anyway.
    pub(super) async fn abandon(&self) {
        let Some(url) = self.holds(None) else { return };
        let limit = self.repository.transport.limits.connect;
        let _ = tokio::time::timeout(limit, self.request(&Call::new(Method::DELETE, url))).await;
    }

    /// Checks the blob in the layout.
    async fn verified(&self) -> Result<(), RegistryError> {
        let source = Blob::new(self, 0, self.blob.size(), Check::Digest(self.digest));
        let mut pieces = source.pieces();
        while pieces.recv().await.is_some() {}
        self.moved.store(0, Ordering::Relaxed);
        source.error().map_or(Ok(()), Err)
    }
}

enum Mount {
    Done,
    Session(Session),
    Refused,
}

/// What is checked while bytes are read.
#[derive(Clone, Copy)]
enum Check {
    /// The bytes are the blob, whole, and must have its digest before the last of them is given out.
    Digest(Digest),
    None,
}

/// A part of a blob as the body of a request.
struct Blob<'a> {
    upload: &'a Upload<'a>,
    start: u64,
    length: u64,
    check: Check,
    fault: Arc<OnceLock<Fault>>,
}

/// What is wrong with a blob of the layout.
#[derive(Debug)]
enum Fault {
    Unreadable(io::Error),
    Corrupt,
}

impl<'a> Blob<'a> {
    fn new(upload: &'a Upload<'a>, start: u64, length: u64, check: Check) -> Self {
        Self { upload, start, length, check, fault: Arc::default() }
    }

    fn path(&self) -> PathBuf {
        self.upload.layout.path().join("blobs").join("sha256").join(self.upload.digest.hex())
    }

    /// Returns why the bytes could not be read, if they could not.
    fn error(&self) -> Option<RegistryError> {
        let path = self.path();
        Some(match self.fault.get()? {
            Fault::Corrupt => RegistryError::Corrupt { path },
            Fault::Unreadable(error) => {
                let source = io::Error::new(error.kind(), error.to_string());
                RegistryError::Read { path, source }
            }
        })
    }

    /// Starts to read, on a thread that may block.
    fn pieces(&self) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(PIECES);
        let fault = Arc::clone(&self.fault);
        let (path, start, length, check) = (self.path(), self.start, self.length, self.check);
        tokio::task::spawn_blocking(move || {
            let send = |piece| sender.blocking_send(Ok(piece)).is_ok();
            if let Err(error) = read(&path, start, length, check, &send) {
                let _ = fault.set(error);
                // Ends the request in a way that no server takes for its proper end.
                let _ = sender.blocking_send(Err(io::Error::other("the blob cannot be read")));
            }
        });
        receiver
    }
}

/// Gives out a part of a file, piece by piece, until nobody wants more.
fn read(
    path: &std::path::Path,
    start: u64,
    length: u64,
    check: Check,
    send: &dyn Fn(Bytes) -> bool,
) -> Result<(), Fault> {
    let mut file = std::fs::File::open(path).map_err(Fault::Unreadable)?;
    file.seek(SeekFrom::Start(start)).map_err(Fault::Unreadable)?;
    let mut hasher = Hasher::default();
    let mut left = length;
    // A whole blob that is longer than its descriptor says is as wrong as a shorter one.
    if matches!(check, Check::Digest(_)) && file.metadata().map_err(Fault::Unreadable)?.len() != length {
        return Err(Fault::Corrupt);
    }
    while left > 0 {
        let want = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let mut piece = vec![0; want];
        match file.read_exact(&mut piece) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Fault::Corrupt),
            Err(error) => return Err(Fault::Unreadable(error)),
        }
        left -= want as u64;
        if let Check::Digest(digest) = check {
            hasher.update(&piece);
            if left == 0 && hasher.clone().finish() != digest {
                return Err(Fault::Corrupt);
            }
        }
        if !send(piece.into()) {
            return Ok(());
        }
    }
    Ok(())
}

impl Source for Blob<'_> {
    fn length(&self) -> u64 {
        self.length
    }

    fn open(&self) -> Body {
        self.upload.moved.store(self.start, Ordering::Relaxed);
        Body::wrap_stream(Pieces { pieces: self.pieces(), moved: Arc::clone(&self.upload.moved) })
    }

    fn watch(&self) -> Watch<'_> {
        Watch { observer: self.upload.repository.observer, blob: self.upload.blob, moved: &self.upload.moved }
    }
}

/// Pieces of a file as a stream that counts them.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    moved: Arc<AtomicU64>,
}

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.pieces.poll_recv(context);
        if let Poll::Ready(Some(Ok(piece))) = &next {
            self.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        next
    }
}
