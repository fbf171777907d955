//! What people read about a registry that misbehaves, word for word.

use std::sync::Arc;

use minimage::oci::Digest;
use minimage::registry::{Credential, RegistryError};
use serde_json::{Value, json};

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

/// Returns what the denials of a registry say that knows nobody: of the registry itself, and of its token service.
fn of_denials(auth: impl Fn(&Stub) -> Value, given: Option<Credential>) -> [String; 2] {
    let said = r#"{"errors":[{"code":"DENIED","message":"not you"}]}"#;
    let tokens = Arc::new(Stub::start(move |_| answer(403, &[], said)));
    let own = Stub::start(move |_| answer(401, &[("www-authenticate", "Basic realm=\"x\"")], said));
    let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.address);
    let other = Stub::start(move |_| answer(401, &[("www-authenticate", challenge.as_str())], ""));
    [own, other].map(|stub| {
        let bench = Bench::new();
        bench.auth(&auth(&stub));
        let mut options = bench.options();
        options.credentials.extend(given.clone().map(|credential| (stub.address.to_string(), credential)));
        let outcome = bench.push(options, &bench.image(&[]), &[format!("{}/team/app:1", stub.address)]);
        let text = words(&stub, outcome).replace(&tokens.address.to_string(), "TOKENS");
        text.replace(&bench.path().display().to_string(), "HOME")
    })
}

#[test]
fn a_denial_says_who_was_denied() {
    let entry = json!({ "auth": "dTpodW50ZXIy" });
    let log_in = "log in with `docker login REGISTRY` or `podman login REGISTRY`";
    let mend = "check that this account may do that, or log in again";
    let password = Credential::Password { user: "u\u{1b}".to_owned(), password: "hunter2".to_owned() };
    let token = Credential::Identity { token: "refresh".to_owned() };
    let (none, some) = (|_: &Stub| json!({}), |stub: &Stub| stub.address.to_string());
    for (told, reason, fix) in [
        (of_denials(none, None), "you have no credentials for it in `HOME/auth.json`", log_in),
        (
            of_denials(|stub| json!({ "auths": { (some(stub)): entry } }), None),
            "it was shown the password of `u`, from the entry `HOST` in `HOME/auth.json`",
            mend,
        ),
        (
            of_denials(|stub| json!({ "auths": { (some(stub) + "/team"): entry } }), None),
            "it was shown the password of `u`, from the entry `HOST/team` in `HOME/auth.json`",
            mend,
        ),
        (of_denials(none, Some(password)), "it was shown the password of `u\\u{1b}`", mend),
        (of_denials(none, Some(token)), "it was shown a token", mend),
    ] {
        let [own, other] = told;
        let rest = format!("    why: the registry says: DENIED: not you\n    why: {reason}\n    fix: {fix}");
        assert!(own.ends_with(&rest), "{own}\n{rest}");
        assert!(other.contains(" http://TOKENS/token` (403)\n"), "{other}");
        assert!(other.ends_with(&rest), "{other}\n{rest}");
    }
}

#[test]
fn a_denial_without_a_question() {
    assert_eq!(
        of_push(|it| if it.is("POST", "") { answer(403, &[], "") } else { None }),
        "error[registry-denied]: the registry denies `POST http://HOST/v2/app/blobs/uploads/` (403)
    why: it did not ask who you are
    fix: check the name, and whether that is allowed there"
    );
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

#[test]
fn an_answer_that_is_no_registrys() {
    assert_eq!(
        of_push(|_| answer(200, &[("content-length", "0")], "")),
        "error[registry-error]: the registry answers 200 to `POST http://HOST/v2/app/blobs/uploads/`
    why: that is not what a registry answers there
    fix: ask the registry's operator; `MINIMAGE_LOG=minimage=debug` shows each request"
    );
    assert_eq!(
        of_push(|it| if it.is("POST", "") { answer(302, &[("location", "/login")], "") } else { None }),
        "error[registry-error]: the registry answers 302 to `POST http://HOST/v2/app/blobs/uploads/`
    why: redirects are not followed there
    fix: ask the registry's operator; `MINIMAGE_LOG=minimage=debug` shows each request"
    );
}
