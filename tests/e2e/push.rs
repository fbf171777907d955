//! Images go to a real registry, arrive whole or not at all, and come back the same.

use crate::layout::{Layout, digest, text};
use crate::minimage::{Message, Workspace};
use crate::outcome::{difference, none_of};
use crate::registry::{Line, Registry};
use crate::requirement::{ROOT, SKOPEO, present};
use crate::sandbox::sandbox;

/// Both spellings put the image under its name, say so, and write no file.
#[test]
fn both_spellings_push() {
    let Some(registry) = Registry::start("spellings") else { return };
    let workspace = Workspace::new();
    let reference = |name: &str| registry.reference(&format!("team/{name}:1.0"));
    let (one, two) = (reference("one"), reference("two"));
    let spellings = [
        ("team/one", &one, vec!["build", "bash", "--push", &one]),
        ("team/two", &two, vec!["build", "bash", "-t", &two, "--push"]),
    ];
    for (repository, reference, words) in spellings {
        let results = workspace.results(words);
        let stored = registry.manifest(repository, "1.0").unwrap();
        assert_eq!(results, [format!("{reference}@{}", stored.digest)]);
        assert_eq!(digest(&stored.bytes), stored.digest);
        assert_eq!(workspace.listing(), Vec::<String>::new());
    }
}

/// What the registry serves is byte for byte what a build writes to a file.
#[test]
fn registry_serves_what_was_built() {
    let Some(registry) = Registry::start("bytes") else { return };
    let workspace = Workspace::new();
    let reference = registry.reference("team/app:1.0");
    workspace.results(["build", "bash", "-t", &reference, "--push", "-o", "type=oci,dest=layout,tar=false"]);
    let image = Layout::open(&workspace.path("layout")).image();
    let stored = registry.manifest("team/app", "1.0").unwrap();
    assert_eq!(stored.digest, image.digest);
    let layers = image.manifest["layers"].as_array().unwrap();
    for descriptor in layers.iter().chain([&image.manifest["config"]]) {
        let wanted = text(&descriptor["digest"]);
        assert_eq!(digest(&registry.blob("team/app", &wanted)), wanted);
    }
}

/// A push of what is there already succeeds, and changes nothing.
#[test]
fn second_push_is_a_repeat() {
    let Some(registry) = Registry::start("repeat") else { return };
    let workspace = Workspace::new();
    let reference = registry.reference("bash:1.0");
    let push = || workspace.results(["build", "bash", "--push", &reference]);
    let first = push();
    assert_eq!(push(), first);
    assert_eq!(registry.tags("bash"), ["1.0"]);
}

/// Each tag of one build is pushed; one line on stdout for each.
#[test]
fn every_tag_is_pushed() {
    let Some(registry) = Registry::start("tags") else { return };
    let workspace = Workspace::new();
    let tags = ["app:1.0", "app:latest", "other/app:1.0"].map(|name| registry.reference(name));
    let results =
        workspace.results(["build", "bash", "-t", &tags[0], "-t", &tags[1], "-t", &tags[2], "--push"]);
    let stored = registry.manifest("other/app", "1.0").unwrap();
    assert_eq!(results, tags.each_ref().map(|tag| format!("{tag}@{}", stored.digest)));
    let mut both = registry.tags("app");
    both.sort();
    assert_eq!(both, ["1.0", "latest"]);
}

/// Another client pulls the image and finds the digest that was printed.
#[test]
fn skopeo_copies_it_back() {
    let Some(registry) = Registry::start("copy") else { return };
    if !present(&[ROOT, SKOPEO]) {
        return;
    }
    let workspace = Workspace::new();
    let reference = registry.reference("team/app:1.0");
    let results = workspace.results(["build", "bash", "ls", "--push", &reference]);
    let (from, to) =
        (format!("docker://{reference}"), format!("oci:{}:1.0", workspace.path("back").display()));
    let copy = ["--insecure-policy", "copy", "--src-tls-verify=false", "--preserve-digests", &from, &to];
    sandbox().run("skopeo", copy);
    let back = Layout::open(&workspace.path("back")).image();
    assert_eq!(results, [format!("{reference}@{}", back.digest)]);
}

/// A registry that dies in the middle of an upload: nothing is to be seen under the tag, and a new push mends
/// it.
#[test]
fn interrupted_push_shows_nothing() {
    let Some(registry) = Registry::start("interrupted") else { return };
    let workspace = Workspace::new();
    // Large enough for the requests around a layer, too small for the layer.
    let line = Line::to(registry.address(), 200_000, move || drop(registry));
    let outcome = workspace.run(["build", "bash", "--push", &format!("{}/app:1.0", line.address)]);
    let message = Message::only_one(&outcome, 5);
    assert!(message.names(&line.address.to_string()), "{message:#?}");

    let registry = Registry::start("interrupted").unwrap();
    assert!(registry.manifest("app", "1.0").is_none());
    let reference = registry.reference("app:1.0");
    let results = workspace.results(["build", "bash", "--push", &reference]);
    let stored = registry.manifest("app", "1.0").unwrap();
    assert_eq!(results, [format!("{reference}@{}", stored.digest)]);
}

/// An interrupted push over an older image leaves the older image under the tag.
#[test]
fn interrupted_push_keeps_the_older_image() {
    let Some(registry) = Registry::start("older") else { return };
    let workspace = Workspace::new();
    workspace.results(["build", "ls", "--push", &registry.reference("app:1.0")]);
    let older = registry.manifest("app", "1.0").unwrap();
    let line = Line::to(registry.address(), 200_000, || ());
    let outcome = workspace.run(["build", "bash", "--push", &format!("{}/app:1.0", line.address)]);
    Message::only_one(&outcome, 5);
    let now = registry.manifest("app", "1.0").unwrap();
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    none_of(difference("app:1.0", ("before", &shown(&older.bytes)), ("after", &shown(&now.bytes))));
}

/// Nobody listens: one message that names the registry, and the code for trouble outside.
#[test]
fn unreachable_registry() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let workspace = Workspace::new();
    let outcome = workspace.run(["build", "bash", "--push", &format!("{free}/app:1.0")]);
    let message = Message::only_one(&outcome, 5);
    assert!(message.names(&free.to_string()), "{message:#?}");
    assert!(!message.reasons.is_empty(), "{message:#?}");
    assert_eq!(workspace.listing(), Vec::<String>::new());
}

/// A registry that cannot store: its own words reach the user, and nothing is visible.
#[test]
fn registry_without_room() {
    let Some(registry) = Registry::start("full") else { return };
    let workspace = Workspace::new();
    let storage = registry.storage().to_str().unwrap();
    sandbox().run("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", storage]);
    let outcome = workspace.run(["build", "bash", "--push", &registry.reference("app:1.0")]);
    let message = Message::only_one(&outcome, 5);
    assert!(message.names(&registry.address().to_string()), "{message:#?}");
    assert!(registry.manifest("app", "1.0").is_none());
}
