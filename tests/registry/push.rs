use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use minimage::oci::{Digest, MediaType, digest_of};
use minimage::registry::{Client, Options};
use serde_json::json;

use super::stub::{Reply, Stub, answer};
use super::{Bench, count, run, told};

#[test]
fn a_repeat_sends_nothing() {
    let (bench, stub) = (Bench::new(), Stub::plain());
    let image = bench.image(&[b"one", b"three", b""]);
    let name = format!("{}/team/app:1", stub.address);
    let names = std::slice::from_ref(&name);
    let uploaded = "Uploaded ".repeat(4);
    assert_eq!(
        bench.push(bench.options(), &image, names).unwrap(),
        format!("Pushed {}", uploaded.trim_end())
    );
    let digest = image.digest().to_string();
    let stored = stub.content().manifests[&("team/app".to_owned(), "1".to_owned())].1.clone();
    assert_eq!(Digest::of(&stored).to_string(), digest);
    assert_eq!(stub.content().blobs.len(), 4);
    let writes = stub.log().iter().filter(|line| !line.starts_with("HEAD")).count();
    assert_eq!(writes, 4 * 2 + 2, "{:?} {:?}", stub.log(), bench.events());
    assert_eq!(
        count(bench.events()),
        count(["started", "finished"].repeat(4).into_iter().map(str::to_owned))
    );

    stub.content().requests.clear();
    let there = "AlreadyThere ".repeat(5);
    assert_eq!(bench.push(bench.options(), &image, names).unwrap(), there.trim_end());
    assert!(stub.log().iter().all(|line| line.starts_with("HEAD")), "{:?}", stub.log());

    // One blob is gone, and the tag means something else.
    let gone = digest_of(&bench.blob(b"three", MediaType::ImageLayer)).unwrap().to_string();
    stub.content().blobs.remove(&("team/app".to_owned(), gone));
    let other = ("application/vnd.oci.image.manifest.v1+json".to_owned(), b"{}".to_vec());
    stub.content().manifests.insert(("team/app".to_owned(), "1".to_owned()), other);
    stub.content().requests.clear();
    let outcome = bench.push(bench.options(), &image, names).unwrap();
    assert_eq!(outcome.split(' ').next(), Some("Retagged"));
    assert_eq!(
        count(outcome.split(' ')),
        count(["Retagged", "AlreadyThere", "AlreadyThere", "AlreadyThere", "Uploaded"])
    );
    assert_eq!(
        (stub.count("POST", ""), stub.count("PUT", "/blobs/"), stub.count("PUT", "/manifests/")),
        (1, 1, 1)
    );
}

#[test]
fn an_index_comes_after_its_children() {
    let (bench, stub) = (Bench::new(), Stub::plain());
    let outcome = bench.push(bench.options(), &bench.index(), &[format!("{}/app:1", stub.address)]).unwrap();
    assert_eq!(outcome, "Pushed Uploaded Uploaded Uploaded Uploaded");
    // The stub refuses documents whose children are not there.
    assert_eq!(stub.count("PUT", "/manifests/sha256:"), 3);
    assert_eq!(stub.log().last().unwrap(), "PUT /v2/app/manifests/1");
}

#[test]
fn names_share_what_they_can() {
    let (bench, stub) = (Bench::new(), Stub::plain());
    let image = bench.image(&[b"one"]);
    let name = |text: &str| format!("{}/{text}", stub.address);
    let names = [name("a:1"), name("a:2"), name("b:1"), name(&format!("c@{}", image.digest()))];
    let outcome = bench.push(bench.options(), &image, &names).unwrap();
    assert_eq!(
        outcome,
        "Pushed Pushed Pushed Pushed Uploaded Uploaded Mounted { from: \"a\" } Mounted { from: \"a\" } \
         Mounted { from: \"a\" } Mounted { from: \"a\" }"
    );
    assert_eq!(stub.count("PUT", "/blobs/"), 2);

    let other = name(&format!("d@{}", Digest::of(b"")));
    let (code, _) = told(bench.push(bench.options(), &image, &[other]));
    assert_eq!(code, "bad-reference");
}

#[test]
fn a_refused_mount_becomes_an_upload() {
    for refusal in [404, 403, 405] {
        let bench = Bench::new();
        let stub =
            Stub::start(
                move |request| {
                    if request.target.contains("mount=") { answer(refusal, &[], "") } else { None }
                },
            );
        let image = bench.image(&[b"one"]);
        let from = format!("{}/base:1", stub.address).parse().unwrap();
        let options = Options { mount_from: vec![from], ..bench.options() };
        let outcome = bench.push(options, &image, &[format!("{}/app:1", stub.address)]).unwrap();
        assert_eq!(outcome, "Pushed Uploaded Uploaded");
        assert_eq!(stub.count("POST", "mount="), 2);
    }
}

#[test]
fn a_broken_upload_goes_on_where_it_broke() {
    let bench = Bench::new();
    let whole = AtomicBool::new(true);
    let stub = Stub::start(move |request| {
        let is_layer = request.method == "PUT" && request.header("content-length") == "3000000";
        (is_layer && whole.swap(false, Ordering::SeqCst)).then_some(Reply::Cut(1_000_000))
    });
    let layer = vec![7; 3_000_000];
    let image = bench.image(&[&layer]);
    let outcome = bench.push(bench.options(), &image, &[format!("{}/app:1", stub.address)]).unwrap();
    assert_eq!(outcome, "Pushed Uploaded Uploaded");
    let patches: Vec<_> = stub.content().requests.iter().filter(|it| it.method == "PATCH").cloned().collect();
    assert_eq!(patches.len(), 1);
    assert_eq!(patches[0].header("content-range"), "1000000-2999999");
    assert!(stub.content().blobs.values().any(|blob| *blob == layer));
}

#[test]
fn a_registry_that_takes_little_gets_chunks() {
    let bench = Bench::new();
    let stub = Stub::start(|request| {
        let length: usize = request.header("content-length").parse().unwrap_or(0);
        if request.method == "PUT" && length > 9 << 20 {
            return answer(413, &[("connection", "close")], "");
        }
        None
    });
    let layer: Vec<u8> = (0..20_000_000_u32).map(|at| (at >> 8) as u8).collect();
    let image = bench.image(&[&layer]);
    bench.push(bench.options(), &image, &[format!("{}/app:1", stub.address)]).unwrap();
    let content = stub.content();
    let ranges: Vec<_> = content
        .requests
        .iter()
        .filter(|it| it.method == "PATCH")
        .map(|it| it.header("content-range"))
        .collect();
    assert_eq!(ranges, ["0-8388607", "8388608-16777215", "16777216-19999999"]);
    assert!(content.blobs.values().any(|blob| *blob == layer));
}

/// Everything that breaks on the way of one blob, and passes.
#[test]
fn what_passes_is_tried_again() {
    type Rule = fn(&super::stub::Request) -> Option<Reply>;
    let cases: [(&str, Rule); 9] =
        [
            ("500 to HEAD", |it| {
                if it.is("HEAD", "/blobs/") && it.before < 2 { answer(500, &[], "") } else { None }
            }),
            ("502 to POST", |it| {
                if it.is("POST", "/uploads/") && it.before < 2 { answer(502, &[], "") } else { None }
            }),
            ("503 to PUT", |it| {
                if it.is("PUT", "/uploads/") && it.before < 1 { answer(503, &[], "") } else { None }
            }),
            ("429 to manifest", |it| {
                if it.is("PUT", "/manifests/") && it.before < 2 {
                    answer(429, &[("retry-after", "0")], "")
                } else {
                    None
                }
            }),
            ("408 to tag", |it| {
                if it.is("PUT", "/manifests/1") && it.before < 1 { answer(408, &[], "") } else { None }
            }),
            ("reset at once", |it| {
                if it.is("PUT", "/uploads/") && it.before < 1 { Some(Reply::Cut(0)) } else { None }
            }),
            ("reset at the end", |it| {
                if it.is("PUT", "/uploads/") && it.before < 1 { Some(Reply::Close) } else { None }
            }),
            ("lost session", |it| {
                if it.is("PUT", "/uploads/") && it.before < 1 { answer(404, &[], "") } else { None }
            }),
            ("closed instead of answered", |it| (it.is("HEAD", "") && it.before < 1).then_some(Reply::Close)),
        ];
    for (what, rule) in cases {
        let (bench, stub) = (Bench::new(), Stub::start(rule));
        let image = bench.image(&[b"some bytes"]);
        let outcome = bench.push(bench.options(), &image, &[format!("{}/app:1", stub.address)]);
        assert_eq!(outcome.unwrap(), "Pushed Uploaded Uploaded", "{what}");
        assert!(bench.events().iter().any(|event| event.starts_with("waiting")), "{what}");
        let tagged = stub.content().manifests.contains_key(&("app".to_owned(), "1".to_owned()));
        assert!(tagged, "{what}");
    }
}

#[test]
fn a_registry_may_ask_for_a_pause_but_not_for_a_long_one() {
    let bench = Bench::new();
    let busy = |pause: &'static str| {
        Stub::start(move |it| {
            let is_first = it.is("HEAD", "/manifests/") && it.before < 1;
            if is_first { answer(429, &[("retry-after", pause)], "") } else { None }
        })
    };
    let mut options = bench.options();
    options.retry.asked_max = Duration::from_secs(1);
    options.retry.first = Duration::from_secs(100);
    options.retry.longest = options.retry.first;
    let stub = busy("1");
    bench.push(options.clone(), &bench.image(&[]), &[format!("{}/app:1", stub.address)]).unwrap();
    let waits: Vec<_> = bench.events().into_iter().filter(|it| it.starts_with("waiting")).collect();
    assert_eq!(waits, ["waiting 1000 ms", "waiting 1000 ms"]); // once for the tag, once for the digest

    let stub = busy("2");
    let (code, _) = told(bench.push(options, &bench.image(&[]), &[format!("{}/app:1", stub.address)]));
    assert_eq!(code, "registry-error");
    assert!(!bench.events().iter().any(|it| it.starts_with("waiting")));
}

/// Everything that ends a push: what it is called, and that nothing is visible afterwards.
#[test]
fn what_stays_broken_is_told_and_leaves_no_tag() {
    type Rule = fn(&super::stub::Request) -> Option<Reply>;
    let wrong = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Digest::of(b"").to_string(), wrong);
    const WRONG: (&str, &str) =
        ("docker-content-digest", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    let cases: [(&str, Rule, &str); 20] = [
        (
            "some web server",
            |it| (it.target != "/v2/").then(|| Reply::Endless(200, Vec::new())),
            "registry-error",
        ),
        (
            "a manifest that is not stored",
            |it| if it.is("PUT", "/manifests/") { answer(200, &[], "<html>") } else { None },
            "registry-error",
        ),
        (
            "a tag that may not change",
            |it| if it.is("PUT", "/manifests/1") { answer(412, &[], "immutable") } else { None },
            "registry-error",
        ),
        (
            "always 500",
            |it| if it.is("PUT", "/uploads/") { answer(500, &[], "") } else { None },
            "registry-error",
        ),
        ("always reset", |it| it.is("PUT", "/uploads/").then_some(Reply::Cut(2)), "registry-unreachable"),
        (
            "wrong digest of a blob",
            |it| if it.is("PUT", "/uploads/") { answer(201, &[WRONG], "") } else { None },
            "digest-mismatch",
        ),
        (
            "wrong digest in HEAD",
            |it| if it.is("HEAD", "/blobs/") { answer(200, &[WRONG], "") } else { None },
            "digest-mismatch",
        ),
        (
            "wrong digest of a manifest",
            |it| if it.is("PUT", "/manifests/sha256") { answer(201, &[WRONG], "") } else { None },
            "digest-mismatch",
        ),
        ("no Location", |it| if it.is("POST", "") { answer(202, &[], "") } else { None }, "registry-error"),
        (
            "a Location that is no URL",
            |it| if it.is("POST", "") { answer(202, &[("location", "http://")], "") } else { None },
            "registry-error",
        ),
        (
            "a Location of another kind",
            |it| {
                if it.is("POST", "") { answer(202, &[("location", "file:///etc/passwd")], "") } else { None }
            },
            "registry-error",
        ),
        (
            "a Location with a password",
            |it| {
                if it.is("POST", "") {
                    answer(202, &[("location", "http://a:b@127.0.0.1/")], "")
                } else {
                    None
                }
            },
            "registry-error",
        ),
        (
            "a Location in the cloud's metadata",
            |it| {
                if it.is("POST", "") {
                    answer(202, &[("location", "http://169.254.169.254/x")], "")
                } else {
                    None
                }
            },
            "registry-refused",
        ),
        (
            "redirects without end",
            |it| {
                if it.is("HEAD", "/blobs/") {
                    answer(307, &[("location", it.target.as_str())], "")
                } else {
                    None
                }
            },
            "registry-error",
        ),
        (
            "an upload redirected elsewhere",
            |it| {
                if it.is("PUT", "/uploads/") {
                    answer(307, &[("location", "http://127.0.0.1:1/")], "")
                } else {
                    None
                }
            },
            "registry-refused",
        ),
        (
            "denied",
            |it| {
                if it.is("POST", "") {
                    answer(403, &[], r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#)
                } else {
                    None
                }
            },
            "registry-denied",
        ),
        (
            "quota",
            |it| if it.is("PUT", "/manifests/") { answer(400, &[], "no") } else { None },
            "registry-error",
        ),
        (
            "an answer without end",
            |it| it.is("PUT", "/manifests/").then(|| Reply::Endless(400, Vec::new())),
            "registry-error",
        ),
        (
            "a range from nowhere",
            |it| match it.method.as_str() {
                "PUT" if it.target.contains("/uploads/") => answer(413, &[], ""),
                "PATCH" => answer(202, &[("range", "0-99999")], ""),
                _ => None,
            },
            "registry-error",
        ),
        (
            "a chunk that never arrives",
            |it| match it.method.as_str() {
                "PUT" if it.target.contains("/uploads/") => answer(413, &[], ""),
                "PATCH" => answer(202, &[("range", "0-0")], ""),
                _ => None,
            },
            "registry-error",
        ),
    ];
    for (what, rule, code) in cases {
        let (bench, stub) = (Bench::new(), Stub::start(rule));
        let image = bench.image(&[b"some bytes"]);
        let (got, text) = told(bench.push(bench.options(), &image, &[format!("{}/app:1", stub.address)]));
        assert_eq!(got, code, "{what}: {text}");
        let tagged = stub.content().manifests.contains_key(&("app".to_owned(), "1".to_owned()));
        assert!(!tagged, "{what}");
        assert!(!text.contains("_state"), "no query is shown: {text}");
    }
}

/// A registry that takes next to nothing of each chunk does not keep us busy for ever.
#[test]
fn chunks_that_hardly_arrive_are_given_up() {
    let (bench, taken) = (Bench::new(), AtomicUsize::new(0));
    let stub = Stub::start(move |it| {
        let range = format!("0-{}", taken.load(Ordering::SeqCst));
        match it.method.as_str() {
            "PUT" if it.target.contains("/uploads/") => answer(413, &[], ""),
            "GET" if it.target.contains("/uploads/") => answer(204, &[("range", &range)], ""),
            "PATCH" => {
                let next = taken.fetch_add(1, Ordering::SeqCst) + 1;
                answer(202, &[("range", &format!("0-{next}"))], "")
            }
            _ => None,
        }
    });
    let layer = [7; 1000];
    let (code, text) =
        told(bench.push(bench.options(), &bench.image(&[&layer]), &[format!("{}/app:1", stub.address)]));
    assert_eq!(code, "registry-error", "{text}");
    assert!(stub.count("PATCH", "") <= 2 * 4, "{}", stub.count("PATCH", ""));
    assert_eq!(stub.count("PUT", "/manifests/"), 0);
}

#[test]
fn nobody_at_the_port() {
    let bench = Bench::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, text) = told(bench.push(bench.options(), &bench.image(&[]), &[format!("{closed}/app:1")]));
    assert_eq!(code, "registry-unreachable");
    assert!(text.contains("refused"), "{text}");
}

/// The first connection of all is no other than those after it.
#[test]
fn a_first_connection_that_breaks_is_tried_again() {
    let (bench, stub) =
        (Bench::new(), Stub::start(|it| (it.target == "/v2/" && it.before < 2).then_some(Reply::Close)));
    let image = bench.image(&[]);
    bench.push(bench.options(), &image, &[format!("{}/app:1", stub.address)]).unwrap();
    assert_eq!(bench.events()[..2], ["waiting 0 ms", "waiting 0 ms"]);

    let stub = Stub::start(|_| Some(Reply::Close));
    let (code, text) = told(bench.push(bench.options(), &image, &[format!("{}/app:1", stub.address)]));
    assert_eq!(code, "registry-unreachable");
    let request = format!("no answer to `GET http://{}/v2/`", stub.address);
    assert!(text.contains(&request) && !text.contains("--insecure-registry"), "{text}");
}

#[test]
fn silence_ends_in_time() {
    let bench = Bench::new();
    let stub = Stub::start(|it| it.is("PUT", "/uploads/").then_some(Reply::Silent));
    let mut options = bench.options();
    options.limits.idle = Duration::from_millis(300);
    options.limits.request = Duration::from_secs(1);
    let start = Instant::now();
    let (code, text) =
        told(bench.push(options, &bench.image(&[&[0; 100_000]]), &[format!("{}/app:1", stub.address)]));
    assert_eq!(code, "registry-timeout", "{text}");
    assert!(start.elapsed() < Duration::from_secs(100));
}

/// The news that one upload failed does not wait for another that hangs, and neither is left behind.
#[test]
fn a_failure_is_told_while_another_upload_hangs() {
    let (bench, smallest, hangs) = (Bench::new(), Digest::of(b"x").hex(), AtomicBool::new(false));
    let stub = Stub::start(move |it| match it.is("PUT", "/uploads/") {
        true if it.target.contains(&smallest) => {
            hangs.store(true, Ordering::SeqCst);
            Some(Reply::Silent)
        }
        true => {
            while !hangs.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            answer(403, &[], r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#)
        }
        false => None,
    });
    let image = bench.image(&[b"x", &[7; 1000]]);
    let options = Options { concurrency: NonZeroUsize::new(2).unwrap(), ..bench.options() };
    let start = Instant::now();
    let (code, text) = told(bench.push(options, &image, &[format!("{}/app:1", stub.address)]));
    assert_eq!(code, "registry-denied", "{text}");
    assert!(start.elapsed() < bench.options().limits.idle, "before the other one is given up");
    assert_eq!((stub.count("DELETE", "/uploads/"), stub.open()), (2, 0), "both uploads are given back");
}

#[test]
fn a_blob_that_changed_in_the_layout_is_never_referred_to() {
    for (what, bytes) in
        [("other", &b"sOme bytes"[..]), ("shorter", b"some"), ("longer", b"some bytes and more")]
    {
        let (bench, stub) = (Bench::new(), Stub::plain());
        let image = bench.image(&[b"some bytes"]);
        std::fs::write(bench.blob_path(Digest::of(b"some bytes")), bytes).unwrap();
        let options = Options { concurrency: NonZeroUsize::MIN, ..bench.options() };
        let (code, _) = told(bench.push(options, &image, &[format!("{}/app:1", stub.address)]));
        assert_eq!(code, "bad-layout", "{what}");
        assert_eq!(stub.count("PUT", "/manifests/"), 0, "{what}");
        assert!(stub.content().blobs.values().all(|blob| blob != bytes), "{what}");
        assert_eq!(
            (stub.count("DELETE", "/uploads/"), stub.open()),
            (1, 0),
            "the upload is given back: {what}"
        );
    }
    let (bench, stub) = (Bench::new(), Stub::plain());
    let image = bench.image(&[b"some bytes"]);
    std::fs::remove_file(bench.blob_path(Digest::of(b"some bytes"))).unwrap();
    let (code, text) = told(bench.push(bench.options(), &image, &[format!("{}/app:1", stub.address)]));
    assert_eq!(code, "bad-layout");
    assert!(text.contains(&Digest::of(b"some bytes").hex()), "{text}");
}

#[test]
fn locations_may_lead_anywhere_but_the_password_does_not() {
    let bench = Bench::new();
    // Storage on another port, which takes uploads without asking who sends them.
    let storage = Stub::start(|it| if it.method == "PUT" { answer(201, &[], "") } else { None });
    let at = storage.address;
    let stub = Stub::start(move |it| {
        if it.header("authorization").is_empty() {
            return answer(401, &[("www-authenticate", "Basic realm=\"x\"")], "");
        }
        let location = format!("http://{at}/v2/app/blobs/uploads/s0?sig=a%2Bb");
        if it.is("POST", "/uploads/") { answer(202, &[("location", location.as_str())], "") } else { None }
    });
    bench.auth(
        &json!({ "auths": { (stub.address.to_string()): { "username": "u", "password": "hunter2" } } }),
    );
    // The blobs are not really there, so the manifest is refused; what counts is what was sent where.
    let _ = bench.push(bench.options(), &bench.image(&[b"x"]), &[format!("{}/app:1", stub.address)]);
    let seen = storage.content().requests.iter().filter(|it| it.method == "PUT").cloned().collect::<Vec<_>>();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|it| it.header("authorization").is_empty()));
    assert!(
        seen.iter().all(|it| it.target.starts_with("/v2/app/blobs/uploads/s0?sig=a%2Bb&digest=sha256:")),
        "{seen:?}"
    );
}

#[test]
fn what_is_attached_is_found() {
    for knows in [true, false] {
        let bench = Bench::new();
        let listed = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let list = std::sync::Arc::clone(&listed);
        let stub = Stub::start(move |it| {
            if knows && it.is("GET", "/referrers/") {
                let index = list.lock().unwrap().clone();
                return answer(200, &[("content-type", "application/vnd.oci.image.index.v1+json")], &index);
            }
            None
        });
        let image = bench.image(&[b"x"]);
        let name = format!("{}/app:1", stub.address);
        bench.push(bench.options(), &image, std::slice::from_ref(&name)).unwrap();
        let attach = |kind: &str| {
            let empty = bench.blob(b"{}", "application/vnd.oci.empty.v1+json".into());
            let layer = bench.blob(kind.as_bytes(), MediaType::Other(kind.to_owned()));
            let artifact = json!({
                "schemaVersion": 2, "mediaType": MediaType::ImageManifest, "artifactType": kind,
                "config": empty, "layers": [layer], "subject": image, "annotations": { "k": kind },
            });
            bench.document(artifact, MediaType::ImageManifest)
        };
        let artifacts = [attach("application/a"), attach("application/b")];
        let to = |artifact: &minimage::oci::Descriptor| format!("{}/app@{}", stub.address, artifact.digest());
        for artifact in artifacts.iter().chain(&artifacts) {
            bench.push(bench.options(), artifact, &[to(artifact)]).unwrap();
        }
        if knows {
            let entry = |artifact: &minimage::oci::Descriptor, kind: &str| {
                let mut entry = serde_json::to_value(artifact).unwrap();
                entry["artifactType"] = kind.into();
                entry
            };
            let entries = [entry(&artifacts[0], "application/a"), entry(&artifacts[1], "application/b")];
            *listed.lock().unwrap() = json!({
                "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": entries
            })
            .to_string();
        }
        let list = |kind: Option<&str>| {
            let subject = digest_of(&image).unwrap();
            let reference = name.parse().unwrap();
            let client = Client::new(bench.options());
            let found = run(client.referrers(&reference, subject, kind, &bench.log)).unwrap();
            found.iter().map(|it| it.digest().to_string()).collect::<Vec<_>>()
        };
        let digests = artifacts.each_ref().map(|it| it.digest().to_string());
        assert_eq!(list(None), digests);
        assert_eq!(list(Some("application/b")), digests[1..]);
        assert!(list(Some("application/c")).is_empty());
    }
}
