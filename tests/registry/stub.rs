//! A registry in this process: it works, until a test says otherwise about one request.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use minimage::oci::Digest;

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
    /// How many requests with the same method and path came before; all uploads count as one path.
    pub(super) before: usize,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(super) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// Returns a value of the query, with its escapes resolved as far as digests and names need it.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?;
        Some(value.replace("%3A", ":").replace("%2F", "/").replace("%2C", ","))
    }
}

/// What a test does with a request.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Answer(u16, Vec<(String, String)>, Vec<u8>),
    /// Takes that many bytes of the body into the upload, then resets the connection.
    Cut(usize),
    /// Closes the connection.
    Close,
    /// Sends that many bytes of the right answer's body, then closes the connection.
    Truncate(usize),
    /// Sends a body without end.
    Endless(u16, Vec<(String, String)>),
    /// Sends nothing until the client leaves.
    Silent,
    /// Sends a body without end, a byte every few milliseconds.
    Trickle,
}

pub(super) fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Option<Reply> {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Some(Reply::Answer(status, headers.collect(), body.into()))
}

/// What the registry holds.
#[derive(Default)]
pub(super) struct Content {
    /// By repository and digest.
    pub(super) blobs: BTreeMap<(String, String), Vec<u8>>,
    /// By repository and tag or digest: media type and bytes.
    pub(super) manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    sessions: BTreeMap<String, Vec<u8>>,
    begun: usize,
    pub(super) requests: Vec<Request>,
}

type Rule = Box<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

/// A running registry; its threads end with the test.
pub(super) struct Stub {
    pub(super) address: SocketAddr,
    content: Arc<Mutex<Content>>,
}

impl Stub {
    pub(super) fn start(rule: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let content = Arc::new(Mutex::new(Content::default()));
        let (shared, rule) = (Arc::clone(&content), Arc::new(Box::new(rule) as Rule));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, rule) = (Arc::clone(&shared), Arc::clone(&rule));
                thread::spawn(move || drop(serve(&stream.unwrap(), &shared, &rule)));
            }
        });
        Self { address, content }
    }

    pub(super) fn plain() -> Self {
        Self::start(|_| None)
    }

    pub(super) fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap()
    }

    /// Returns the requests as `METHOD path`, without those that only look whether the registry is there.
    pub(super) fn log(&self) -> Vec<String> {
        let content = self.content();
        let shown = content.requests.iter().map(|it| format!("{} {}", it.method, it.path()));
        shown.filter(|line| line != "GET /v2/").collect()
    }

    /// Returns how many uploads have begun and not ended.
    pub(super) fn open(&self) -> usize {
        self.content().sessions.len()
    }

    pub(super) fn count(&self, method: &str, part: &str) -> usize {
        self.content().requests.iter().filter(|it| it.is(method, part)).count()
    }
}

fn serve(stream: &TcpStream, content: &Mutex<Content>, rule: &Rule) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        // A first byte of 0x16 is a TLS handshake.
        if reader.fill_buf()?.first().is_none_or(|byte| *byte == 0x16) {
            return Ok(());
        }
        reader.read_until(b'\n', &mut line)?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        // As a proxy is asked.
        let target = target.strip_prefix("http://registry.test").unwrap_or(target);
        let mut request = Request {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: BTreeMap::new(),
            body: Vec::new(),
            before: 0,
        };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            request.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let mut length: usize = request.header("content-length").parse().unwrap_or(0);
        let kind = |it: &Request| match it.path().split_once("/uploads/") {
            Some((repository, _)) => repository.to_owned(),
            None => it.path().to_owned(),
        };
        let same = |it: &&Request| it.method == request.method && kind(it) == kind(&request);
        request.before = content.lock().unwrap().requests.iter().filter(same).count();
        let reply = rule(&request);
        if let Some(Reply::Cut(after)) = reply {
            length = length.min(after);
        }
        request.body = vec![0; length];
        reader.read_exact(&mut request.body)?;
        content.lock().unwrap().requests.push(request.clone());
        match reply {
            Some(Reply::Cut(_)) => {
                let id = request.path().rsplit('/').next().unwrap().to_owned();
                if let Some(session) = content.lock().unwrap().sessions.get_mut(&id) {
                    session.extend_from_slice(&request.body);
                }
                return Ok(()); // with bytes unread, the system sends a reset
            }
            Some(Reply::Close) => return Ok(()),
            Some(Reply::Silent) => {
                let _ = reader.fill_buf();
                return Ok(());
            }
            Some(Reply::Truncate(length)) => {
                let (status, headers, body) = content.lock().unwrap().answer(&request);
                return send(stream, &request, status, &headers, &body, length);
            }
            Some(Reply::Endless(status, headers)) => {
                return endless(stream, status, &headers, Duration::ZERO);
            }
            Some(Reply::Trickle) => return endless(stream, 200, &[], Duration::from_millis(5)),
            Some(Reply::Answer(status, headers, body)) => {
                send(stream, &request, status, &headers, &body, usize::MAX)?;
            }
            None => {
                let (status, headers, body) = content.lock().unwrap().answer(&request);
                send(stream, &request, status, &headers, &body, usize::MAX)?;
            }
        }
    }
}

fn head(status: u16, headers: &[(String, String)]) -> String {
    let mut text = format!("HTTP/1.1 {status} x\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text
}

fn send(
    mut stream: &TcpStream,
    request: &Request,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    limit: usize,
) -> std::io::Result<()> {
    let mut bytes = head(status, headers).into_bytes();
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) && status != 204 {
        bytes.extend(format!("content-length: {}\r\n", body.len()).bytes());
    }
    bytes.extend(b"\r\n");
    if request.method != "HEAD" {
        bytes.extend(&body[..body.len().min(limit)]);
    }
    stream.write_all(&bytes)
}

fn endless(
    mut stream: &TcpStream,
    status: u16,
    headers: &[(String, String)],
    gap: Duration,
) -> std::io::Result<()> {
    stream.write_all((head(status, headers) + "connection: close\r\n\r\n").as_bytes())?;
    let piece = if gap.is_zero() { vec![b' '; 64 << 10] } else { vec![b' '] };
    // Ends when the client hangs up.
    loop {
        stream.write_all(&piece)?;
        thread::sleep(gap);
    }
}

type Answer = (u16, Vec<(String, String)>, Vec<u8>);

fn plain(status: u16, headers: &[(&str, String)], body: &[u8]) -> Answer {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    (status, headers.collect(), body.to_vec())
}

fn failure(status: u16, code: &str) -> Answer {
    plain(status, &[], format!(r#"{{"errors":[{{"code":"{code}","message":"{code}"}}]}}"#).as_bytes())
}

impl Content {
    /// Does what distribution-spec says.
    fn answer(&mut self, request: &Request) -> Answer {
        let path = request.path().trim_start_matches("/v2/").to_owned();
        if path.is_empty() {
            return plain(200, &[], b"{}");
        }
        if let Some((repository, id)) = path.split_once("/blobs/uploads/") {
            return self.upload(request, repository, id);
        }
        if let Some((repository, digest)) = path.split_once("/blobs/") {
            let Some(bytes) = self.blobs.get(&(repository.to_owned(), digest.to_owned())) else {
                return failure(404, "BLOB_UNKNOWN");
            };
            let headers = [("docker-content-digest", digest.to_owned())];
            let range = request.header("range").trim_start_matches("bytes=").trim_end_matches('-').parse();
            return match range {
                Ok(start) => {
                    let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
                    plain(206, &[("content-range", range)], &bytes[start..])
                }
                Err(_) => plain(200, &headers, bytes),
            };
        }
        if let Some((repository, version)) = path.split_once("/manifests/") {
            return self.manifest(request, repository, version);
        }
        failure(404, "NOT_FOUND")
    }

    fn upload(&mut self, request: &Request, repository: &str, id: &str) -> Answer {
        let at = |id: &str| ("location", format!("/v2/{repository}/blobs/uploads/{id}?_state=s%2Fx"));
        let received = |bytes: usize| ("range", format!("0-{}", bytes.saturating_sub(1)));
        if request.method == "POST" {
            if let (Some(digest), Some(from)) = (request.query("mount"), request.query("from"))
                && let Some(bytes) = self.blobs.get(&(from, digest.clone())).cloned()
            {
                self.blobs.insert((repository.to_owned(), digest), bytes);
                return plain(201, &[], b"");
            }
            let id = format!("s{}", self.begun);
            self.begun += 1;
            self.sessions.insert(id.clone(), Vec::new());
            return plain(202, &[at(&id), received(0)], b"");
        }
        let Some(session) = self.sessions.get_mut(id) else { return failure(404, "BLOB_UPLOAD_UNKNOWN") };
        assert_eq!(request.query("_state").as_deref(), Some("s/x"), "the query of a Location is kept");
        match request.method.as_str() {
            "GET" => plain(204, &[at(id), received(session.len())], b""),
            "DELETE" => {
                self.sessions.remove(id);
                plain(204, &[], b"")
            }
            "PATCH" => {
                let start = request.header("content-range").split('-').next().unwrap().to_owned();
                if start.parse() != Ok(session.len()) {
                    return failure(416, "RANGE");
                }
                session.extend_from_slice(&request.body);
                plain(202, &[at(id), received(session.len())], b"")
            }
            _ => {
                session.extend_from_slice(&request.body);
                let digest = request.query("digest").unwrap();
                if Digest::of(session).to_string() != digest {
                    return failure(400, "DIGEST_INVALID");
                }
                let bytes = self.sessions.remove(id).unwrap();
                self.blobs.insert((repository.to_owned(), digest.clone()), bytes);
                plain(201, &[("docker-content-digest", digest)], b"")
            }
        }
    }

    fn manifest(&mut self, request: &Request, repository: &str, version: &str) -> Answer {
        let key = |version: &str| (repository.to_owned(), version.to_owned());
        if request.method == "PUT" {
            let digest = Digest::of(&request.body).to_string();
            if version.starts_with("sha256:") && version != digest {
                return failure(400, "DIGEST_INVALID");
            }
            // A real registry checks this, and a test must not pass if the order is wrong.
            let text = String::from_utf8(request.body.clone()).unwrap();
            let document: serde_json::Value = serde_json::from_str(&text).unwrap();
            for part in ["layers", "manifests"] {
                for child in document[part].as_array().into_iter().flatten() {
                    let child = key(child["digest"].as_str().unwrap());
                    let is_there = self.blobs.contains_key(&child) || self.manifests.contains_key(&child);
                    if !is_there {
                        return failure(400, "MANIFEST_BLOB_UNKNOWN");
                    }
                }
            }
            let stored = (request.header("content-type").to_owned(), request.body.clone());
            self.manifests.insert(key(&digest), stored.clone());
            self.manifests.insert(key(version), stored);
            return plain(201, &[("docker-content-digest", digest)], b"");
        }
        match self.manifests.get(&key(version)) {
            Some((media_type, bytes)) => {
                let digest = Digest::of(bytes).to_string();
                plain(200, &[("docker-content-digest", digest), ("content-type", media_type.clone())], bytes)
            }
            None => failure(404, "MANIFEST_UNKNOWN"),
        }
    }
}
