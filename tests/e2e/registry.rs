//! A real registry on a loopback port, what it stores as a client sees it, and a line to it that can be cut.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::daemons::{Daemon, Witness};
use crate::requirement::{CRANE, REGISTRY, ROOT, find, present};
use crate::sandbox::sandbox;

/// The name and password that a guarded registry knows.
pub(crate) const LOGIN: (&str, &str) = ("somebody", "hunter2");
/// What a registry and its token server call each other.
pub(crate) const SERVICE: &str = "e2e.test";
const HTPASSWD: &str = "somebody:$2y$05$abcdefghijklmnopqrstuuoXuKqgZXLiJqzfmMXDDhSFPIvxV7t8.\n";

/// `crane registry serve`: another implementation, which keeps everything in memory.
pub(crate) struct OtherRegistry {
    _daemon: Daemon,
    port: u16,
    _witness: Witness,
}

impl OtherRegistry {
    /// Starts one; skips if there is none on this machine.
    pub(crate) fn start() -> Option<Self> {
        if !present(&[ROOT, CRANE]) {
            return None;
        }
        let mut command = sandbox().command(find("crane").unwrap());
        command.args(["registry", "serve", "--address", "127.0.0.1:0"]);
        let serving = |line: &str| line.split_once("serving on port ")?.1.trim().parse().ok();
        let started = Daemon::start("crane registry", &mut command, serving);
        let (daemon, port) = started.unwrap_or_else(|log| panic!("{log}"));
        let witness = daemon.witness();
        Some(Self { _daemon: daemon, port, _witness: witness })
    }

    /// Returns the reference that `rest` has here.
    pub(crate) fn reference(&self, rest: &str) -> String {
        format!("127.0.0.1:{}/{rest}", self.port)
    }
}

/// `docker-registry`: anonymous, plain HTTP, files in a directory of its own. Dropping it kills it in the middle of
/// whatever it does.
pub(crate) struct Registry {
    _daemon: Daemon,
    address: SocketAddr,
    storage: PathBuf,
    _witness: Witness,
}

impl Registry {
    /// Starts a registry whose storage is called `name`; skips if there is none on this machine.
    ///
    /// Two of the same name see the same images, one after the other.
    pub(crate) fn start(name: &str) -> Option<Self> {
        Self::start_with(name, |_| ())
    }

    /// Starts a registry that serves [`LOGIN`] only.
    pub(crate) fn guarded(name: &str) -> Option<Self> {
        Self::start_with(name, |settings| {
            let path = sandbox().subdirectory(format!("registry-{name}")).join("htpasswd");
            fs::write(&path, HTPASSWD).unwrap();
            settings["auth"] = json!({ "htpasswd": { "realm": "e2e", "path": path } });
        })
    }

    /// Starts a registry that speaks https with the certificates of [`crate::certificates::make`] in `directory`, and
    /// wants to see the client's.
    pub(crate) fn with_certificates(name: &str, directory: &Path) -> Option<Self> {
        let file = |name: &str| directory.join(name);
        Self::start_with(name, |settings| {
            settings["http"]["tls"] = json!({
                "certificate": file("server.pem"), "key": file("server.key"), "clientcas": [file("ca.pem")],
            });
        })
    }

    /// Starts a registry that speaks https with `server.pem` in `directory`, and does not mind who asks.
    pub(crate) fn with_certificate(name: &str, directory: &Path) -> Option<Self> {
        let file = |name: &str| directory.join(name);
        Self::start_with(name, |settings| {
            settings["http"]["tls"] = json!({ "certificate": file("server.pem"), "key": file("server.key") });
        })
    }

    /// Starts a registry that takes what a token server signs with the key of `certificate`.
    pub(crate) fn with_tokens(name: &str, realm: &str, certificate: &Path) -> Option<Self> {
        Self::start_with(name, |settings| {
            settings["auth"] = json!({ "token": {
                "realm": realm, "service": SERVICE, "issuer": SERVICE, "rootcertbundle": certificate,
            } });
        })
    }

    fn start_with(name: &str, adjust: impl FnOnce(&mut Value)) -> Option<Self> {
        if !present(&[ROOT, REGISTRY]) {
            return None;
        }
        let storage = sandbox().subdirectory(format!("registry-{name}"));
        let settings = storage.join("config.yml");
        let mut text = json!({ // which is YAML, too
            "version": 0.1,
            "storage": { "filesystem": { "rootdirectory": storage } },
            "http": { "addr": "127.0.0.1:0" },
        });
        adjust(&mut text);
        fs::write(&settings, text.to_string()).unwrap();
        let mut command = sandbox().command("docker-registry");
        command.arg("serve").arg(settings);
        let listening = |line: &str| {
            let (_, rest) = line.split_once("listening on ")?;
            rest.split(['"', ' ', ',']).next()?.parse().ok()
        };
        let (daemon, address) =
            Daemon::start("docker-registry", &mut command, listening).unwrap_or_else(|log| panic!("{log}"));
        let witness = daemon.witness();
        Some(Self { _daemon: daemon, address, storage, _witness: witness })
    }

    /// Returns the reference that `rest` has here.
    pub(crate) fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn storage(&self) -> &Path {
        &self.storage
    }

    /// Returns the manifest that `tag` of `repository` names, or `None` if nothing is visible under that name.
    pub(crate) fn manifest(&self, repository: &str, tag: &str) -> Option<Stored> {
        let response = self.request(&format!("/v2/{repository}/manifests/{tag}"));
        match response.status {
            200 => Some(Stored { digest: response.header("docker-content-digest"), bytes: response.body }),
            404 => None,
            status => panic!("{status}: {}", String::from_utf8_lossy(&response.body)),
        }
    }

    /// Returns the tags of `repository`; none if it is unknown.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let response = self.request(&format!("/v2/{repository}/tags/list"));
        let list: Value = serde_json::from_slice(&response.body).unwrap();
        let tags = list["tags"].as_array().into_iter().flatten();
        tags.map(|tag| tag.as_str().unwrap().to_owned()).collect()
    }

    /// Returns a blob's bytes.
    pub(crate) fn blob(&self, repository: &str, digest: &str) -> Vec<u8> {
        let response = self.request(&format!("/v2/{repository}/blobs/{digest}"));
        assert_eq!(response.status, 200, "{}", String::from_utf8_lossy(&response.body));
        response.body
    }

    /// Returns whether a blob is there.
    pub(crate) fn has_blob(&self, repository: &str, digest: &str) -> bool {
        self.request(&format!("/v2/{repository}/blobs/{digest}")).status == 200
    }

    fn request(&self, path: &str) -> Response {
        let mut stream = TcpStream::connect(self.address).unwrap();
        // 1.0: no chunks to put together, and the body ends with the connection.
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: {accept}\r\n\r\n", self.address).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Response::parse(&bytes).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&bytes)))
    }
}

/// A manifest as the registry gives it out.
pub(crate) struct Stored {
    /// What the registry calls it.
    pub(crate) digest: String,
    pub(crate) bytes: Vec<u8>,
}

struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Some(Self { status, headers, body: bytes[end + 4..].to_vec() })
    }

    fn header(&self, wanted: &str) -> String {
        let (_, value) = self.headers.iter().find(|(name, _)| name == wanted).unwrap();
        value.clone()
    }
}

/// A line to a server that carries so many bytes to it, and then is dead: open connections end, and new ones
/// are refused.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
}

/// What a line can still carry, and what happens when it is worn out.
struct Wear {
    left: AtomicUsize,
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Line {
    /// Opens a line to `server` that lasts for `budget` bytes; `then` is done at its end, just before the
    /// client notices.
    pub(crate) fn to(server: SocketAddr, budget: usize, then: impl FnOnce() + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let wear = Arc::new(Wear { left: AtomicUsize::new(budget), then: Mutex::new(Some(Box::new(then))) });
        thread::spawn(move || {
            for client in listener.incoming() {
                if wear.left.load(Ordering::SeqCst) == 0 {
                    return; // with the listener: from here on, nobody answers
                }
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                let (back_from, back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || carry_back(back_from, back_to));
                let wear = Arc::clone(&wear);
                thread::spawn(move || {
                    let _ = carry(client, server, &wear); // an end of either side is an end
                    if wear.left.load(Ordering::SeqCst) == 0 {
                        let _ = TcpStream::connect(address); // wakes the listener, so that it ends too
                    }
                });
            }
        });
        Self { address }
    }
}

fn carry_back(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to); // as above
    let _ = to.shutdown(Shutdown::Both);
}

fn carry(mut from: TcpStream, mut to: TcpStream, wear: &Wear) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return to.shutdown(Shutdown::Write);
        }
        let spend = |left: usize| Some(left.saturating_sub(count));
        if wear.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).unwrap() <= count {
            if let Some(then) = wear.then.lock().unwrap().take() {
                then();
            }
            from.shutdown(Shutdown::Both)?;
            return to.shutdown(Shutdown::Both);
        }
        to.write_all(&buffer[..count])?;
    }
}
