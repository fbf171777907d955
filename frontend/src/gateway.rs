//! Requests -> BuildKit's answers: gRPC over standard input and output, and the only asynchronous code here.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use prost::Message;
use thiserror::Error;
use tokio::net::unix::pipe;
use tokio::runtime::{Builder, Runtime};

use crate::proto::{
    Empty, InputsResponse, PathRequest, PingResponse, ReadDirResponse, ReadFileResponse, ReturnRequest,
    SolveRequest, SolveResponse, SolveResult, Stat, StatFileResponse, Status, WarnRequest,
};

/// The service that the daemon offers to a frontend.
const SERVICE: &str = "moby.buildkit.v1.frontend.LLBBridge";
/// The largest message that the daemon sends or takes, in bytes.
const MESSAGE_MAX: usize = 16 << 20;
/// `UNKNOWN` of gRPC.
const UNKNOWN: i32 = 2;

/// Why a request has no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum GatewayError {
    /// Nobody speaks to us as BuildKit does.
    #[error("standard input and output are not connected to BuildKit")]
    NotAFrontend {
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to BuildKit broke")]
    Connection {
        /// How.
        source: h2::Error,
    },
    /// The daemon refuses, and says why.
    #[error("{}", .0.message)]
    Status(Status),
}

impl From<h2::Error> for GatewayError {
    fn from(source: h2::Error) -> Self {
        Self::Connection { source }
    }
}

/// The connection to the daemon that runs us.
pub(crate) struct Gateway {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
}

impl Gateway {
    /// Connects through standard input and output, where the daemon has its end of two pipes.
    pub(crate) fn connect() -> Result<Self, GatewayError> {
        let not_a_frontend = |source| GatewayError::NotAFrontend { source };
        let runtime = Builder::new_current_thread().enable_io().build().map_err(not_a_frontend)?;
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(not_a_frontend)?;
        let stdout = io::stdout().as_fd().try_clone_to_owned().map_err(not_a_frontend)?;
        let sender = runtime.block_on(async {
            let receiver = pipe::Receiver::from_file(File::from(stdin)).map_err(not_a_frontend)?;
            let sender = pipe::Sender::from_file(File::from(stdout)).map_err(not_a_frontend)?;
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
            let (sender, connection) = builder.handshake(tokio::io::join(receiver, sender)).await?;
            // What ends the connection also ends each request, which then says so.
            tokio::spawn(async move {
                let _ = connection.await;
            });
            Ok::<_, GatewayError>(sender)
        })?;
        Ok(Self { runtime, sender })
    }

    /// Returns what the daemon can do.
    pub(crate) fn ping(&self) -> Result<PingResponse, GatewayError> {
        self.call("Ping", &Empty {})
    }

    /// Returns the definitions that the client passed in by name.
    pub(crate) fn inputs(&self) -> Result<InputsResponse, GatewayError> {
        self.call("Inputs", &Empty {})
    }

    /// Has a definition or a frontend solved; nothing is run yet.
    pub(crate) fn solve(&self, mut request: SolveRequest) -> Result<SolveResult, GatewayError> {
        request.allow_result_return = true;
        request.allow_result_array_ref = true;
        let response: SolveResponse = self.call("Solve", &request)?;
        Ok(response.result.unwrap_or_default())
    }

    /// Returns the contents of a regular file, for which what makes it is run.
    pub(crate) fn read_file(&self, reference: &str, path: &str) -> Result<Vec<u8>, GatewayError> {
        let response: ReadFileResponse = self.call("ReadFile", &at(reference, path))?;
        Ok(response.data)
    }

    /// Returns what is at `path`, for which what makes it is run.
    pub(crate) fn stat_file(&self, reference: &str, path: &str) -> Result<Stat, GatewayError> {
        let response: StatFileResponse = self.call("StatFile", &at(reference, path))?;
        Ok(response.stat.unwrap_or_default())
    }

    /// Returns what is in the directory `path`, for which what makes it is run.
    pub(crate) fn read_dir(&self, reference: &str, path: &str) -> Result<Vec<Stat>, GatewayError> {
        let response: ReadDirResponse = self.call("ReadDir", &at(reference, path))?;
        Ok(response.entries)
    }

    /// Shows a warning.
    pub(crate) fn warn(&self, warning: &WarnRequest) -> Result<(), GatewayError> {
        let Empty {} = self.call("Warn", warning)?;
        Ok(())
    }

    /// Ends the build with a result or an error. To be called once.
    pub(crate) fn finish(&self, result: Result<SolveResult, Status>) -> Result<(), GatewayError> {
        let request = match result {
            Ok(result) => ReturnRequest { result: Some(result), error: None },
            Err(status) => ReturnRequest { result: None, error: Some(status) },
        };
        let Empty {} = self.call("Return", &request)?;
        Ok(())
    }

    fn call<Answer: Message + Default>(
        &self,
        method: &str,
        question: &impl Message,
    ) -> Result<Answer, GatewayError> {
        let mut frame = BytesMut::with_capacity(5 + question.encoded_len());
        frame.put_u8(0); // not compressed
        frame.put_u32(u32::try_from(question.encoded_len()).unwrap_or(u32::MAX));
        frame.extend_from_slice(&question.encode_to_vec());
        let answer = self.runtime.block_on(exchange(self.sender.clone(), method, frame.freeze()))?;
        Answer::decode(answer).map_err(|error| failed(&format!("BuildKit's answer to {method}: {error}")))
    }
}

fn at(reference: &str, path: &str) -> PathRequest {
    PathRequest { reference: reference.to_owned(), path: path.to_owned() }
}

async fn exchange(sender: SendRequest<Bytes>, method: &str, question: Bytes) -> Result<Bytes, GatewayError> {
    let mut sender = sender.ready().await?;
    let request = Request::post(format!("http://localhost/{SERVICE}/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(|error| failed(&error.to_string()))?;
    let (response, mut stream) = sender.send_request(request, false)?;
    stream.send_data(question, true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut answer = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        if answer.len() + piece.len() > MESSAGE_MAX + 5 {
            return Err(failed("BuildKit's answer is too long"));
        }
        answer.extend_from_slice(&piece);
    }
    // An answer that is nothing but an error has its status in the head.
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    check(&trailers)?;
    let answer = answer.freeze();
    match answer.get(1..5) {
        Some([a, b, c, d]) if u32::from_be_bytes([*a, *b, *c, *d]) as usize == answer.len() - 5 => {
            Ok(answer.slice(5..))
        }
        _ => Err(failed("BuildKit's answer is cut off")),
    }
}

/// Returns the error that `trailers` carry, unless they say that all is well.
fn check(trailers: &HeaderMap) -> Result<(), GatewayError> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    let code = text("grpc-status").and_then(|code| code.parse().ok()).unwrap_or(UNKNOWN);
    if code == 0 {
        return Ok(());
    }
    // The whole status, with the details that clients show, is in a header of its own.
    let whole = text("grpc-status-details-bin").and_then(|encoded| {
        let encoded = encoded.trim_end_matches('=');
        Status::decode(STANDARD_NO_PAD.decode(encoded).ok()?.as_slice()).ok()
    });
    let message = text("grpc-message").map(percent_decoded).unwrap_or_default();
    Err(GatewayError::Status(whole.unwrap_or(Status { code, message, details: Vec::new() })))
}

/// Returns `text` with its `%XX` as what they stand for; gRPC has UTF-8 there.
fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) if *byte == b'%' => {
                decoded.push(escaped);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn failed(message: &str) -> GatewayError {
    GatewayError::Status(Status { code: UNKNOWN, message: message.to_owned(), details: Vec::new() })
}

/// Returns `bytes` as Go writes them into JSON.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_decoded() {
        for (text, decoded) in [
            ("plain", "plain"),
            ("a%20b%0Ac", "a b\nc"),
            ("k%C3%A4se", "käse"),
            ("100%", "100%"),
            ("%2", "%2"),
            ("%zz", "%zz"),
        ] {
            assert_eq!(percent_decoded(text), decoded);
        }
    }

    #[test]
    fn a_status_with_details_is_kept_whole() {
        let details = vec![crate::proto::Any { type_url: "type/of".to_owned(), value: b"{}".to_vec() }];
        let status = Status { code: 5, message: "not found".to_owned(), details };
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "5".parse().unwrap());
        trailers.insert("grpc-message", "not%20found".parse().unwrap());
        let message = |trailers: &HeaderMap| match check(trailers) {
            Err(GatewayError::Status(status)) => status,
            other => panic!("{other:?}"),
        };
        assert_eq!(message(&trailers), Status { details: Vec::new(), ..status.clone() });
        let encoded = base64(&status.encode_to_vec());
        trailers.insert("grpc-status-details-bin", encoded.parse().unwrap());
        assert_eq!(message(&trailers), status);
        trailers.insert("grpc-status", "0".parse().unwrap());
        assert!(check(&trailers).is_ok());
    }
}
