//! What people read about a registry that misbehaves, word for word.

use minimage::oci::Digest;
use minimage::registry::RegistryError;

use super::stub::{Reply, Request, Stub, answer};
use super::{Bench, told};

const LAYER: &[u8] = b"a layer";

type Rule = fn(&Request) -> Option<Reply>;

/// Returns what a failure says, with `HOST` for the registry and `KNOWN` for the digest of [`LAYER`].
fn words<T: std::fmt::Debug>(stub: &Stub, outcome: Result<T, RegistryError>) -> String {
    let text = told(outcome).1.replace(&stub.address.to_string(), "HOST");
    text.replace(&Digest::of(LAYER).to_string(), "KNOWN")
}

fn of_push(rule: Rule) -> String {
    let (bench, stub) = (Bench::new(), Stub::start(rule));
    words(&stub, bench.push(bench.options(), &bench.image(&[LAYER]), &[format!("{}/app:1", stub.address)]))
}

/// Returns what a pull of an image says, from a registry that has it and misbehaves as told.
fn of_pull(rule: Rule) -> String {
    let (bench, other, stub) = (Bench::new(), Bench::new(), Stub::start(rule));
    let name = format!("{}/app:1", stub.address);
    bench.push(bench.options(), &bench.image(&[LAYER]), std::slice::from_ref(&name)).unwrap();
    words(&stub, other.pull(other.options(), &name))
}

#[test]
fn a_challenge_that_leads_nowhere() {
    let bearer = of_push(|_| answer(401, &[("www-authenticate", "Bearer service=\"x\"")], ""));
    assert_eq!(
        bearer,
        "error[registry-error]: `HOST` asks for a token, and does not say where to get one
    why: its `WWW-Authenticate: Bearer` has no `realm`
    fix: ask the registry's operator; `MINIMAGE_LOG=minimage=debug` shows each request"
    );
}

#[test]
fn a_digest_that_is_not_that_of_the_bytes() {
    const WRONG: (&str, &str) = ("docker-content-digest", "sha256:00");
    let header = of_push(|it| {
        let is_end = it.is("PUT", &Digest::of(LAYER).hex());
        if is_end { answer(201, &[WRONG], "") } else { None }
    });
    assert_eq!(
        header.replace("/s0`", "/ID`").replace("/s1`", "/ID`"),
        "error[digest-mismatch]: to `PUT http://HOST/v2/app/blobs/uploads/ID`, the registry says that the digest is sha256:00, and it is KNOWN
    fix: ask the registry's operator; `MINIMAGE_LOG=minimage=debug` shows each request"
    );
    let bytes = of_pull(|it| {
        let is_layer = it.is("GET", &Digest::of(LAYER).to_string());
        if is_layer { answer(200, &[], "A layer") } else { None }
    });
    assert_eq!(
        bytes,
        "error[digest-mismatch]: the registry sends other bytes than those of `HOST/app@KNOWN`
    fix: ask the registry's operator; `MINIMAGE_LOG=minimage=debug` shows each request"
    );
}

#[test]
fn a_body_that_breaks_off() {
    let text = of_pull(|it| it.is("GET", &Digest::of(LAYER).to_string()).then_some(Reply::Truncate(0)));
    assert_eq!(
        text,
        "error[registry-unreachable]: the answer to `GET http://HOST/v2/app/blobs/KNOWN` breaks off
    why: error decoding response body
    why: error reading a body from connection
    why: end of file before message length reached
    fix: try again, or check the network on the way to the registry"
    );
}

#[test]
fn a_pause_that_is_too_long() {
    let text = of_push(|it| {
        let said = r#"{"message":"too many of you"}"#;
        if it.is("POST", "") { answer(429, &[("retry-after", "3600")], said) } else { None }
    });
    assert_eq!(
        text,
        "error[registry-error]: the registry answers 429 to `POST http://HOST/v2/app/blobs/uploads/`
    why: the registry says: too many of you
    why: it asks to be left alone for 3600 s, which is too long to wait
    fix: try again then"
    );
}
