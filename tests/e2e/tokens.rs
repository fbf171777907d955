//! A token server in front of a real registry: a password, or a refresh token, buys tokens that the registry checks.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::minimage::{Message, Workspace};
use crate::outcome::Outcome;
use crate::proxy::{Proxy, Spoil};
use crate::registry::{LOGIN, Registry, SERVICE};
use crate::requirement::{NETWORK_TOOLS, present};

const REFRESH: &str = "refresh-me";
/// How long after its end the registry still takes a token (distribution, registry/auth/token, `Leeway`).
const LEEWAY: u64 = 60;

/// How long tokens are good for, in truth and as the server says.
#[derive(Clone, Copy)]
struct Life {
    real: u64,
    told: u64,
}

/// A server of tokens, with a key of its own.
struct TokenServer {
    address: SocketAddr,
    certificate: PathBuf,
    /// What was asked for: `GET` or `POST`, and the scopes.
    asked: Arc<Mutex<Vec<String>>>,
}

impl TokenServer {
    fn start(directory: &Path, life: Life) -> Self {
        let (key, certificate) = (directory.join("key.pem"), directory.join("certificate.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=e2e", "-keyout"]);
        Outcome::of(openssl.arg(&key).arg("-out").arg(&certificate)).success();
        let pem = fs::read_to_string(&certificate).unwrap();
        let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                serve(&stream.unwrap(), &key, &der, life, &log);
            }
        });
        Self { address, certificate, asked }
    }

    fn realm(&self) -> String {
        format!("http://{}/token", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: &TcpStream, key: &Path, certificate: &str, life: Life, log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let (mut lines, mut line) = (Vec::new(), String::new());
    while reader.read_line(&mut line).unwrap_or(0) > 0 && line.trim() != "" {
        lines.push(std::mem::take(&mut line).trim_end().to_owned());
    }
    let Some(start) = lines.first() else { return };
    let header = |name: &str| {
        let value = |line: &String| {
            line.split_once(": ")
                .filter(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|it| it.1.to_owned())
        };
        lines.iter().find_map(value).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let method = start.split(' ').next().unwrap();
    let form = match method {
        "POST" => String::from_utf8(body).unwrap(),
        _ => {
            start.split(' ').nth(1).and_then(|target| target.split_once('?')).map_or("", |it| it.1).to_owned()
        }
    };
    let values = |name: &str| -> Vec<String> {
        let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
        let values = pairs.filter(|(known, _)| *known == name);
        values.map(|(_, value)| value.replace("%3A", ":").replace("%2C", ",").replace('+', " ")).collect()
    };
    let login = format!("Basic {}", STANDARD.encode(format!("{}:{}", LOGIN.0, LOGIN.1)));
    let known = match method {
        "POST" => values("refresh_token") == [REFRESH],
        _ => header("authorization") == login,
    };
    let scopes: Vec<String> =
        values("scope").iter().flat_map(|it| it.split(' ')).map(str::to_owned).collect();
    log.lock().unwrap().push(format!("{method} {}", scopes.join(" ")));
    let (status, answer) = if known && values("service") == [SERVICE] {
        let token = token(key, certificate, &scopes, life);
        let name = if method == "POST" { "access_token" } else { "token" };
        ("200 OK", json!({ (name): token, "expires_in": life.told }))
    } else {
        ("401 Unauthorized", json!({ "errors": [{ "code": "UNAUTHORIZED", "message": "who are you?" }] }))
    };
    let answer = answer.to_string();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    // If the client is gone, it has no use for it.
    let _ = stream.write_all((head + &answer).as_bytes());
}

/// Returns a token (distribution, docs/spec/auth/jwt.md) that allows what the scopes name.
fn token(key: &Path, certificate: &str, scopes: &[String], life: Life) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let access = scopes.iter().map(|scope| {
        let mut parts = scope.splitn(3, ':');
        let mut part = || parts.next().unwrap_or_default();
        let (kind, name) = (part(), part());
        json!({ "type": kind, "name": name, "actions": part().split(',').collect::<Vec<_>>() })
    });
    let claims = json!({
        "iss": SERVICE, "sub": LOGIN.0, "aud": SERVICE, "jti": "e2e", "iat": now - LEEWAY, "nbf": now - LEEWAY,
        "exp": now - LEEWAY + life.real, "access": access.collect::<Vec<_>>(),
    });
    let head = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(head), part(claims));
    let mut openssl = Command::new("openssl");
    openssl.args(["dgst", "-sha256", "-sign"]).arg(key).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut openssl = openssl.spawn().unwrap();
    openssl.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
    let signature = openssl.wait_with_output().unwrap().stdout;
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A registry that takes only tokens of a server, and the same storage with no guard, to look into.
struct Bench {
    workspace: Workspace,
    server: TokenServer,
    guarded: Registry,
    open: Registry,
}

impl Bench {
    fn new(name: &str, life: Life) -> Option<Self> {
        if !present(&[NETWORK_TOOLS]) {
            return None;
        }
        let open = Registry::start(name)?;
        let workspace = Workspace::new();
        let server = TokenServer::start(&workspace.path("."), life);
        let guarded = Registry::with_tokens(name, &server.realm(), &server.certificate)?;
        workspace.results(["build", "bash", "-o", "type=oci,dest=layout,tar=false"]);
        Some(Self { workspace, server, guarded, open })
    }

    /// Writes a credential file for the registry at `address`.
    fn login(&self, address: SocketAddr, entry: Value) {
        let file = json!({ "auths": { (address.to_string()): entry } });
        fs::write(self.workspace.path("auth.json"), file.to_string()).unwrap();
    }

    fn push(&self, reference: &str) -> Outcome {
        self.workspace.run(["push", "--authfile", "auth.json", "layout", reference])
    }
}

fn password(password: &str) -> Value {
    json!({ "auth": STANDARD.encode(format!("{}:{password}", LOGIN.0)) })
}

#[test]
fn tokens_of_a_password_and_of_a_refresh_token() {
    let Some(bench) = Bench::new("tokens", Life { real: 600, told: 300 }) else { return };
    let address = bench.guarded.address();
    for (name, entry) in [("word", password(LOGIN.1)), ("refresh", json!({ "identitytoken": REFRESH }))] {
        bench.login(address, entry);
        let pushed = bench.push(&bench.guarded.reference(&format!("{name}:1"))).success();
        let stored = bench.open.manifest(name, "1").unwrap();
        assert!(pushed.stdout.trim_end().ends_with(&stored.digest), "{pushed}");
        let from = bench.guarded.reference(&format!("{name}:1"));
        bench.workspace.results(["tree", "--no-cache", "--authfile", "auth.json", "--from", &from, "bash"]);
    }
    let scopes = ["repository:word:pull,push", "repository:word:pull"].map(|it| format!("GET {it}"));
    let refresh = ["repository:refresh:pull,push", "repository:refresh:pull"].map(|it| format!("POST {it}"));
    assert_eq!(bench.server.asked(), [scopes, refresh].concat(), "a token for each purpose, once");

    // What another repository has is mounted: that takes a token for both.
    bench.login(address, password(LOGIN.1));
    let (from, to) = (bench.guarded.reference("word:1"), bench.guarded.reference("mounted:1"));
    let words = ["push", "--authfile", "auth.json", "--mount-from", &from, "layout", &to];
    let mounted = bench.workspace.run(words).success();
    assert!(!mounted.stderr.contains(": pushed "), "{mounted}");
    assert!(mounted.stderr.contains("mounted from word"), "{mounted}");

    bench.login(address, password("*******"));
    let message = Message::only_one(&bench.push(&bench.guarded.reference("wrong:1")), 5);
    assert_eq!(message.code, "registry-denied");
    assert!(message.names("who are you?") && !message.names("*******"), "{message:#?}");
    assert!(bench.open.manifest("wrong", "1").is_none());
}

/// The server says that tokens live longer than they do, and one ends on the way.
#[test]
fn a_token_that_ends_in_the_middle() {
    let Some(bench) = Bench::new("expiring", Life { real: 8, told: 300 }) else { return };
    let proxy = Proxy::to(bench.guarded.address());
    proxy.spoil(|it| {
        (it.is("PUT", "/uploads/") && it.before == 0).then_some(Spoil::Hold(Duration::from_secs(10)))
    });
    bench.login(proxy.address, password(LOGIN.1));
    let pushed = bench.push(&format!("{}/app:1", proxy.address)).success();
    let stored = bench.open.manifest("app", "1").unwrap();
    assert!(pushed.stdout.trim_end().ends_with(&stored.digest), "{pushed}");
    assert!(bench.server.asked().len() > 1, "{:?}", bench.server.asked());
}
