//! Registries of https that want to know who asks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::{fs, thread};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::{Bench, told};

/// Valid for 127.0.0.1 until 2126: `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj
/// /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE`.
const CERTIFICATE: &[u8] = include_bytes!("../../testdata/certificates/this-machine.pem");
const KEY: &[u8] = include_bytes!("../../testdata/certificates/this-machine.key");

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(CERTIFICATE).unwrap()
}

/// Returns how a server shakes hands that wants a certificate from who asks.
fn settings() -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let mut authorities = RootCertStore::empty();
    authorities.add(certificate()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider));
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let builder = builder.with_client_cert_verifier(verifier.build().unwrap());
    let mut settings = builder.with_single_cert(vec![certificate()], key).unwrap();
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(settings)
}

/// Starts a registry that lets nobody in. It says so; but who speaks HTTP/2 does not read it, as if it came while they
/// were still writing. Returns its address, and what is offered to it, one connection after the other.
fn closed_registry() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, offers) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut first = [0];
            if stream.peek(&mut first).unwrap() == 0 {
                continue;
            }
            let serve = if first == *b"G" { turn_away } else { shake_hands };
            serve(&mut stream, &sender);
        }
    });
    (address, offers)
}

/// Answers a request in plain HTTP as servers of https do.
fn turn_away(stream: &mut TcpStream, offers: &Sender<String>) {
    let mut request = [0; 4096];
    let length = stream.read(&mut request).unwrap();
    assert!(request[..length].ends_with(b"\r\n\r\n"));
    offers.send("plain".to_owned()).unwrap();
    stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
}

fn shake_hands(stream: &mut TcpStream, offers: &Sender<String>) {
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        acceptor.read_tls(stream).unwrap();
        if let Some(accepted) = acceptor.accept().map_err(|(error, _)| error).unwrap() {
            break accepted;
        }
    };
    let names = accepted.client_hello().alpn().into_iter().flatten();
    let offer = names.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
    offers.send(offer.clone()).unwrap();
    let mut connection = accepted.into_connection(settings()).map_err(|(error, _)| error).unwrap();
    while connection.is_handshaking() {
        connection.write_tls(stream).unwrap();
        if connection.read_tls(stream).unwrap() == 0 || connection.process_new_packets().is_err() {
            break;
        }
    }
    if !offer.contains("h2") {
        connection.write_tls(stream).unwrap();
        // Closing with something unread would overtake what was written.
        let _ = stream.read(&mut [0; 4096]);
    }
}

/// Why a server hangs up is told, though it may do so while we write; and nobody is asked twice who said no.
#[test]
fn a_registry_that_wants_a_certificate_is_understood() {
    for insecure in [false, true] {
        let (bench, (address, offers)) = (Bench::new(), closed_registry());
        let mut options = bench.options();
        if insecure {
            options.insecure_hosts.push(address.to_string());
        } else {
            let directory = bench.path().join(address.to_string());
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("ca.crt"), CERTIFICATE).unwrap();
            options.certificates.push(bench.path().to_owned());
        }
        let (code, text) = told(bench.pull(options, &format!("{address}/app:1")));
        assert_eq!(code, "registry-unreachable");
        assert!(text.contains("received fatal alert: CertificateRequired\n"), "{text}");
        assert!(text.contains("`/etc/docker/certs.d/HOST:PORT/client.cert`"), "{text}");
        assert_eq!(offers.try_iter().collect::<Vec<_>>(), ["plain", "h2 http/1.1", "http/1.1"]);
        assert_eq!(bench.events(), Vec::<String>::new());
    }
}
