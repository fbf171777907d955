use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::stub::{Reply, Request, Stub, answer};
use super::{Bench, count, told};

/// `u:hunter2` in base64.
const BASIC: &str = "Basic dTpodW50ZXIy";

fn login(bench: &Bench, stub: &Stub) {
    let key = stub.address.to_string();
    bench.auth(&json!({ "auths": { (key): { "auth": BASIC.trim_start_matches("Basic ") } } }));
}

/// A token server that knows one user, and gives each token a number.
fn token_server(granted: Arc<AtomicUsize>) -> Stub {
    Stub::start(move |it| {
        if it.target == "/v2/" {
            return None;
        }
        if it.method == "GET" && it.header("authorization") == BASIC {
            let number = granted.fetch_add(1, Ordering::SeqCst);
            return answer(
                200,
                &[],
                &json!({ "token": format!("t{number}"), "expires_in": 300 }).to_string(),
            );
        }
        answer(401, &[], &format!(r#"{{"details":"who are you, {}? hunter3?"}}"#, it.header("authorization")))
    })
}

/// A registry that wants a token, and takes those that `good` likes.
fn guarded(challenge: String, good: impl Fn(&Request, &str) -> bool + Send + Sync + 'static) -> Stub {
    Stub::start(move |it| match it.header("authorization").strip_prefix("Bearer ") {
        Some(token) if good(it, token) => None,
        _ => answer(
            401,
            &[("www-authenticate", challenge.as_str())],
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}"#,
        ),
    })
}

fn scopes(stub: &Stub) -> Vec<String> {
    let content = stub.content();
    let one = |it: &Request| {
        let query = it.target.split_once('?').map_or("", |(_, query)| query);
        let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
        scopes.map(|scope| scope.replace("%3A", ":").replace("%2C", ",")).collect::<Vec<_>>().join(" + ")
    };
    content.requests.iter().filter(|it| it.target != "/v2/").map(one).collect()
}

#[test]
fn a_password_is_shown_when_it_is_asked_for() {
    let bench = Bench::new();
    let stub = Stub::start(|it| match it.header("authorization") {
        BASIC => None,
        _ => answer(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
    });
    login(&bench, &stub);
    bench.push(bench.options(), &bench.image(&[b"x"]), &[format!("{}/app:1", stub.address)]).unwrap();
    let refused = stub.content().requests.iter().filter(|it| it.header("authorization").is_empty()).count();
    assert_eq!(refused, 1, "one question is enough");

    bench.auth(&json!({}));
    let (code, text) =
        told(bench.push(bench.options(), &bench.image(&[b"x"]), &[format!("{}/app:1", stub.address)]));
    assert_eq!(code, "registry-denied");
    assert!(text.contains("you have no credentials for it"), "{text}");
}

#[test]
fn a_password_buys_tokens_that_are_kept() {
    let bench = Bench::new();
    let tokens = token_server(Arc::default());
    let challenge = format!(
        "Negotiate, Bearer realm=\"http://{}/token\",service=\"s,1\",scope=\"repository:victim:pull,push\", Basic realm=\"x\"",
        tokens.address
    );
    let stub = guarded(challenge, |_, token| token.starts_with('t'));
    login(&bench, &stub);
    let name = |text: &str| format!("{}/{text}", stub.address);
    bench.push(bench.options(), &bench.image(&[b"x", b"y", b"z"]), &[name("a:1"), name("b:1")]).unwrap();
    assert_eq!(
        scopes(&tokens),
        ["repository:a:pull,push", "repository:b:pull,push", "repository:b:pull,push + repository:a:pull"],
        "what we need, not what the registry names; each once"
    );
    let asked = tokens.content().requests[0].query("service");
    assert_eq!(asked.as_deref(), Some("s,1"));
    assert!(stub.content().requests.iter().all(|it| it.header("authorization") != BASIC));
}

#[test]
fn a_token_that_ends_early_is_renewed() {
    let bench = Bench::new();
    let granted = Arc::<AtomicUsize>::default();
    let tokens = token_server(Arc::clone(&granted));
    // Each token is good for two requests.
    let used = std::sync::Mutex::new(std::collections::BTreeMap::<String, usize>::new());
    let stub = guarded(format!("Bearer realm=\"http://{}/token\"", tokens.address), move |_, token| {
        let mut used = used.lock().unwrap();
        let uses = used.entry(token.to_owned()).or_default();
        *uses += 1;
        *uses <= 2
    });
    login(&bench, &stub);
    let mut options = bench.options();
    options.concurrency = std::num::NonZeroUsize::MIN;
    let layer = vec![5; 2_000_000];
    let outcome =
        bench.push(options, &bench.image(&[&layer, b"y"]), &[format!("{}/app:1", stub.address)]).unwrap();
    assert_eq!(outcome, "Pushed Uploaded Uploaded Uploaded");
    assert!(granted.load(Ordering::SeqCst) > 4);
    assert!(stub.content().blobs.values().any(|blob| *blob == layer));
}

#[test]
fn a_second_no_is_final_and_tells_no_secret() {
    let bench = Bench::new();
    let tokens = token_server(Arc::default());
    let stub = Stub::start({
        let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.address);
        move |it| {
            let said = format!(
                r#"{{"errors":[{{"code":"DENIED","message":"{} is bad"}}]}}"#,
                it.header("authorization")
            );
            answer(401, &[("www-authenticate", challenge.as_str())], &said)
        }
    });
    login(&bench, &stub);
    let (code, text) =
        told(bench.push(bench.options(), &bench.image(&[]), &[format!("{}/app:1", stub.address)]));
    assert_eq!(code, "registry-denied");
    assert!(text.contains("DENIED: Bearer [secret] is bad"), "{text}");
    assert!(stub.count("HEAD", "") <= 2 * 4, "no more than two tries each");

    // The token server itself says no, and repeats the password.
    bench.auth(&json!({ "auths": { (stub.address.to_string()): { "auth": "dTpodW50ZXIz" } } }));
    let (code, text) =
        told(bench.push(bench.options(), &bench.image(&[]), &[format!("{}/app:1", stub.address)]));
    assert_eq!(code, "registry-denied");
    assert!(text.contains("who are you") && !text.contains("hunter3"), "{text}");
}

#[test]
fn an_identity_token_is_exchanged() {
    for knows_post in [true, false] {
        let bench = Bench::new();
        let tokens = Stub::start(move |it| match it.method.as_str() {
            _ if it.target == "/v2/" => None,
            "POST" if knows_post => answer(200, &[], r#"{"access_token":"t1"}"#),
            "POST" => answer(405, &[], ""),
            // `<token>:refresh-me` in base64
            _ if it.header("authorization") == "Basic PHRva2VuPjpyZWZyZXNoLW1l" => {
                answer(200, &[], r#"{"token":"t2"}"#)
            }
            _ => answer(401, &[], ""),
        });
        let stub =
            guarded(format!("Bearer realm=\"http://{}/token\",service=s", tokens.address), |_, token| {
                token.starts_with('t')
            });
        bench.auth(&json!({ "auths": { (stub.address.to_string()): { "identitytoken": "refresh-me" } } }));
        bench.push(bench.options(), &bench.image(&[]), &[format!("{}/app:1", stub.address)]).unwrap();
        let content = tokens.content();
        let form = content.requests.iter().find(|it| it.method == "POST").unwrap();
        assert_eq!(
            String::from_utf8_lossy(&form.body),
            "service=s&grant_type=refresh_token&client_id=minimage&refresh_token=refresh-me&scope=repository%3Aapp%3Apull%2Cpush"
        );
        assert!(!form.target.contains("refresh-me"));
    }
}

#[test]
fn a_registry_token_is_sent_as_it_is() {
    let bench = Bench::new();
    let stub = guarded("Bearer realm=\"http://127.0.0.1:1/\"".to_owned(), |_, token| token == "mine");
    bench.auth(&json!({ "auths": { (stub.address.to_string()): { "registrytoken": "mine" } } }));
    bench.push(bench.options(), &bench.image(&[]), &[format!("{}/app:1", stub.address)]).unwrap();
}

#[test]
fn credentials_do_not_go_where_they_do_not_belong() {
    for realm in [
        "http://169.254.169.254/token",
        "https://169.254.169.254/token",
        "http://registry.invalid/token",
        "http://user:password@127.0.0.1:1/token",
        "ftp://127.0.0.1/token",
        "file:///etc/passwd",
        "/token",
    ] {
        let bench = Bench::new();
        let stub = guarded(format!("Bearer realm=\"{realm}\""), |_, _| true);
        login(&bench, &stub);
        let (code, text) =
            told(bench.push(bench.options(), &bench.image(&[]), &[format!("{}/app:1", stub.address)]));
        assert_eq!(code, "registry-refused", "{realm}: {text}");
        assert!(stub.content().requests.iter().all(|it| it.header("authorization").is_empty()));
    }
}

#[test]
fn a_bad_realm_beside_basic_does_not_hurt() {
    let bench = Bench::new();
    let stub = Stub::start(|it| match it.header("authorization") {
        BASIC => None,
        _ => answer(401, &[("www-authenticate", "Bearer realm=\"ftp://x/\", Basic realm=\"x\"")], ""),
    });
    login(&bench, &stub);
    bench.push(bench.options(), &bench.image(&[]), &[format!("{}/app:1", stub.address)]).unwrap();
}

#[test]
fn redirects_carry_no_credentials_to_another_host() {
    let bench = Bench::new();
    let storage = Stub::start(|it| (it.target != "/v2/").then(|| Reply::Answer(404, Vec::new(), Vec::new())));
    let at = storage.address;
    let stub = Stub::start(move |it| match it.header("authorization") {
        BASIC if it.is("HEAD", "/blobs/") => {
            answer(307, &[("location", &format!("http://{at}/x?sig=1"))], "")
        }
        BASIC => None,
        _ => answer(401, &[("www-authenticate", "Basic realm=\"x\"")], ""),
    });
    login(&bench, &stub);
    bench.push(bench.options(), &bench.image(&[b"x"]), &[format!("{}/app:1", stub.address)]).unwrap();
    let content = storage.content();
    assert_eq!(count(content.requests.iter().map(|it| it.target.as_str())), [("/x?sig=1", 2)].into());
    assert!(content.requests.iter().all(|it| it.header("authorization").is_empty()));
}

#[test]
fn another_hosts_challenge_is_not_met() {
    let bench = Bench::new();
    let thief = Stub::start(|_| answer(401, &[("www-authenticate", "Basic realm=\"x\"")], ""));
    let at = thief.address;
    let stub = Stub::start(move |it| {
        if it.is("HEAD", "/blobs/") {
            answer(307, &[("location", &format!("http://{at}/x"))], "")
        } else {
            None
        }
    });
    login(&bench, &stub);
    bench.push(bench.options(), &bench.image(&[]), &[format!("{}/app:1", stub.address)]).unwrap();
    let both = [thief.content().requests.clone(), stub.content().requests.clone()].concat();
    assert!(both.iter().all(|it| it.header("authorization").is_empty()));
}
