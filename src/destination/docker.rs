//! `--load`: the image in Docker, through its socket; no client of Docker's is needed.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;

use bytes::Bytes;
use reqwest::{Body, Client, ClientBuilder, StatusCode};
use serde::Deserialize;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::archive::{self, ArchiveKind};
use super::{Destination, PublishError, Published};
use crate::oci::{Descriptor, Layout, Reference};
use crate::registry::{CertificateFileError, Certificates, Trust, Versions};

const ENGINE: &str = "Docker";
/// How many pieces wait between us and the daemon.
const PIECES: usize = 8;
/// How large a piece is, in bytes.
const PIECE: usize = 256 << 10;
/// How much of the daemon's answer is read, in bytes.
const ANSWER_MAX: usize = 1 << 20;
/// The longest line of it that is shown if it is no document, in bytes.
const LINE_MAX: usize = 300;

/// The images of a Docker daemon.
#[derive(Debug)]
pub struct Docker<'a> {
    /// Where the daemon listens.
    pub address: DockerAddress,
    /// Where waiting for it is done.
    pub runtime: &'a Runtime,
}

/// Where a Docker daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerAddress {
    /// At a socket of this machine.
    Socket(PathBuf),
    /// At `HOST:PORT`, in plain http.
    Host(String),
    /// At `HOST:PORT`, in https.
    Secure {
        /// `HOST:PORT`.
        host: String,
        /// What proves who is who.
        tls: DockerTls,
    },
}

/// What proves who a Docker daemon is, and who we are: files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerTls {
    /// Who may vouch for the daemon; without it, who may for any server.
    pub authorities: Option<PathBuf>,
    /// Our certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Whether the daemon must be who it says.
    pub daemon: DaemonCheck,
}

/// Whether a daemon must prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonCheck {
    /// It must.
    Verify,
    /// The user does not mind.
    Skip,
}

impl DockerTls {
    /// Returns the files that are in `directory`, under the names that Docker has for them.
    pub fn of(directory: Option<PathBuf>, daemon: DaemonCheck) -> Self {
        let file = |name: &str| directory.as_ref().map(|it| it.join(name)).filter(|path| path.exists());
        Self { authorities: file("ca.pem"), certificate: file("cert.pem"), key: file("key.pem"), daemon }
    }

    fn enter(&self, builder: ClientBuilder) -> Result<ClientBuilder, CertificateFileError> {
        let mut files = Certificates::default();
        if let Some(path) = &self.authorities {
            files.trust(path)?;
        }
        if let (Some(certificate), Some(key)) = (&self.certificate, &self.key) {
            files.show(certificate, key)?;
        }
        files.enter(
            builder,
            match self.daemon {
                DaemonCheck::Verify => Trust::FilesFirst,
                DaemonCheck::Skip => Trust::Anyone,
            },
            Versions::One,
        )
    }
}

impl fmt::Display for DockerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Host(host) | Self::Secure { host, .. } => write!(f, "tcp://{host}"),
        }
    }
}

impl Destination for Docker<'_> {
    fn publish(
        &self,
        layout: &Layout,
        image: &Descriptor,
        names: &[Reference],
    ) -> Result<Published, PublishError> {
        let unreachable = |source: reqwest::Error| PublishError::Docker {
            address: self.address.clone(),
            source: source.without_url(),
        };
        let builder =
            Client::builder().no_proxy().user_agent(concat!("minimage/", env!("CARGO_PKG_VERSION")));
        // Where no TLS is spoken, a machine without root certificates must be able to load.
        let plain = |builder: ClientBuilder| builder.tls_danger_accept_invalid_certs(true);
        let (builder, origin) = match &self.address {
            DockerAddress::Socket(path) => {
                (plain(builder.unix_socket(path.clone())), "http://localhost".to_owned())
            }
            DockerAddress::Host(host) => (plain(builder), format!("http://{host}")),
            DockerAddress::Secure { host, tls } => (tls.enter(builder)?, format!("https://{host}")),
        };
        let client = builder.build().map_err(unreachable)?;
        let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES);
        let body =
            Body::wrap_stream(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)));
        let request = client.post(format!("{origin}/images/load?quiet=1"));
        let request = request.header("content-type", "application/x-tar").body(body);
        let (answer, written) = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut pieces = Pieces { sender, piece: Vec::with_capacity(PIECE) };
                let written = archive::write(layout, image, names, ArchiveKind::OciAndDocker, &mut pieces);
                let written = written.and_then(|()| Ok(pieces.flush()?));
                if let Err(error) = &written {
                    // Ends the request in a way that the daemon does not take for its proper end.
                    let _ = pieces.sender.blocking_send(Err(io::Error::other(error.to_string())));
                }
                written
            });
            let answer = self.runtime.block_on(request.send());
            let answer = answer.and_then(|mut answer| {
                let mut text = Vec::new();
                while let Some(piece) = self.runtime.block_on(answer.chunk())? {
                    if text.len() < ANSWER_MAX {
                        text.extend_from_slice(&piece);
                    }
                }
                Ok((answer.status(), text))
            });
            (answer, writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let answer = match (answer, written) {
            // The daemon knows better why it stopped to read.
            (Ok(answer), _) => answer,
            (Err(_), Err(archive::WriteError::Layout(error))) => return Err(error.into()),
            (Err(error), _) => return Err(unreachable(error)),
        };
        let mut messages = failures(&answer.1);
        if answer.0 != StatusCode::OK && messages.is_empty() {
            messages.extend(first_line(&answer.1));
        }
        if answer.0 != StatusCode::OK || !messages.is_empty() {
            return Err(PublishError::Engine {
                engine: ENGINE,
                status: format!("status {}", answer.0.as_u16()),
                messages,
            });
        }
        Ok(Published { digest: layout.digest_of(image)?, names: names.to_vec() })
    }
}

/// Returns what the daemon complains of: it says so in the middle of an answer that began well.
fn failures(answer: &[u8]) -> Vec<String> {
    #[derive(Deserialize)]
    struct Line {
        error: Option<String>,
        message: Option<String>,
    }
    let lines = serde_json::Deserializer::from_slice(answer).into_iter::<Line>();
    let texts = lines.map_while(Result::ok).filter_map(|line| line.error.or(line.message));
    texts.map(|text| crate::path::show(text.as_bytes())).collect()
}

/// Returns the first line of an answer that is no document.
fn first_line(answer: &[u8]) -> Option<String> {
    let line = answer.trim_ascii().split(|byte| *byte == b'\n').next()?.trim_ascii();
    let is_text = !line.is_empty() && line.len() <= LINE_MAX && !line.starts_with(b"<");
    is_text.then(|| crate::path::show(line))
}

/// Collects what is written into pieces of a body.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        if piece.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_complains_in_the_middle() {
        let answer = br#"{"stream":"Loaded image: x:latest\n"}
{"errorDetail":{"message":"no space"},"error":"no space"}
"#;
        assert_eq!(failures(answer), ["no space"]);
        assert_eq!(failures(br#"{"message":"denied"}"#), ["denied"]);
        assert!(failures(br#"{"stream":"Loaded image: x:latest\n"}"#).is_empty());
        assert!(failures(b"<html>").is_empty());
    }
}
