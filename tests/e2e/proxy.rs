//! A line to a registry that understands what it carries, keeps a log of it, and spoils what a test wants spoilt.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A request on its way.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    /// How many bytes of body it announces.
    pub(crate) length: usize,
    /// How many of the same kind came before: the method, and uploads, blobs or manifests.
    pub(crate) before: usize,
}

impl Request {
    pub(crate) fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.target.contains(part)
    }

    fn kind(&self) -> String {
        let kinds = ["/uploads/", "/blobs/", "/manifests/"];
        let kind = kinds.into_iter().find(|kind| self.target.contains(kind)).unwrap_or_default();
        format!("{} {kind}", self.method)
    }
}

/// What becomes of a request.
pub(crate) enum Spoil {
    /// It is answered with this status and these headers, and never arrives.
    Answer(&'static str),
    /// So many bytes of its body arrive, then both sides find the line dead.
    Cut(usize),
    /// It arrives, and the answer does not.
    Hush,
    /// It arrives late.
    Hold(Duration),
    /// A header of the answer has another value.
    Header(&'static str, fn(&str) -> String),
}

type Rule = fn(&Request) -> Option<Spoil>;

/// The line. Its threads end with the tests.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    server: SocketAddr,
    rule: Mutex<Rule>,
    log: Mutex<Vec<String>>,
}

impl Proxy {
    /// Opens a line to `server` that carries everything.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State { server, rule: Mutex::new(|_| None), log: Mutex::default() });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let state = Arc::clone(&shared);
                // An end of either side is an end.
                thread::spawn(move || drop(carry(&client.unwrap(), &state)));
            }
        });
        Self { address, state }
    }

    /// Spoils from now on what `rule` says, and forgets what went before.
    pub(crate) fn spoil(&self, rule: Rule) {
        *self.state.rule.lock().unwrap() = rule;
        self.state.log.lock().unwrap().clear();
    }

    /// Returns how many requests of this method went to uploads, blobs or manifests.
    pub(crate) fn count(&self, method: &str, kind: &str) -> usize {
        let wanted = format!("{method} {kind}");
        self.state.log.lock().unwrap().iter().filter(|line| **line == wanted).count()
    }
}

/// Carries one request and its answer; the connection serves no other.
fn carry(client: &TcpStream, state: &State) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let (start, headers) = head(&mut reader)?;
    let mut words = start.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, target) = (word(), word());
    let length = value(&headers, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut request = Request { method, target, length, before: 0 };
    let kind = request.kind();
    {
        let mut log = state.log.lock().unwrap();
        request.before = log.iter().filter(|line| **line == kind).count();
        log.push(kind);
    }
    let rule = *state.rule.lock().unwrap();
    let spoil = rule(&request);
    match &spoil {
        Some(Spoil::Answer(answer)) => {
            io::copy(&mut reader.take(length as u64), &mut io::sink())?;
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return (&mut &*client).write_all(answer.as_bytes());
        }
        Some(Spoil::Hold(pause)) => thread::sleep(*pause),
        _ => {}
    }
    let mut server = TcpStream::connect(state.server)?;
    server.write_all(text(&start, &headers).as_bytes())?;
    let carried = if let Some(Spoil::Cut(after)) = spoil { length.min(after) } else { length };
    io::copy(&mut reader.by_ref().take(carried as u64), &mut server)?;
    if let Some(Spoil::Cut(_)) = spoil {
        server.shutdown(Shutdown::Both)?;
        return client.shutdown(Shutdown::Both);
    }
    let mut answer = BufReader::new(server);
    let (status, mut headers) = head(&mut answer)?;
    if let Some(Spoil::Hush) = spoil {
        io::copy(&mut answer, &mut io::sink())?;
        return client.shutdown(Shutdown::Both);
    }
    if let Some(Spoil::Header(name, change)) = spoil {
        for (known, value) in headers.iter_mut().filter(|(known, _)| known.eq_ignore_ascii_case(name)) {
            *value = change(value);
            assert_eq!(known.to_lowercase(), name);
        }
    }
    (&mut &*client).write_all(text(&status, &headers).as_bytes())?;
    io::copy(&mut answer, &mut &*client)?;
    client.shutdown(Shutdown::Write)
}

type Headers = Vec<(String, String)>;

fn head(reader: &mut impl BufRead) -> io::Result<(String, Headers)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let start = lines.remove(0);
    let headers = lines.iter().filter_map(|line| line.split_once(": "));
    Ok((start, headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
}

fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Returns a head that says that the connection ends with this message.
fn text(start: &str, headers: &Headers) -> String {
    let mut text = format!("{start}\r\nConnection: close\r\n");
    for (name, value) in headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("connection")) {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    text + "\r\n"
}
