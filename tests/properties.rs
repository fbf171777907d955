//! What must hold of random input: layers read back, names of images, canonical JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;

use minimage::closure::{Cause, Closure, Demand};
use minimage::formats::elf::Elf;
use minimage::layer;
use minimage::oci::{Digest, Layout, Reference, canonical_json};
use minimage::path::{RawPath, RootPath};
use minimage::rootfs::{Kind, MemoryRootfs, Node, Rootfs};
use minimage::roots::Origin;
use minimage::spec::{Algorithm, Epoch, LayerOptions, Layering};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::elf_writer::ElfFile;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// A name that a file can have: of few letters, of any bytes, or long.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let any = prop::collection::vec(any::<u8>(), 1..40);
    let names = prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        2 => any,
        1 => (1_usize..256).prop_map(|len| vec![b'n'; len]),
        1 => "[a-zäß€]{1,60}".prop_map(String::into_bytes),
    ];
    names.prop_filter("a name that no file or no layer can have", |name| {
        let is_name = RootPath::root().child(name).is_some() && name.len() < 256;
        is_name && !name.starts_with(b".wh.")
    })
}

fn node() -> impl Strategy<Value = (Node, Vec<u8>)> {
    let id = prop_oneof![Just(0), 1_u32..70_000, Just(0o7_777_777), Just(0o10_000_000), Just(u32::MAX - 1)];
    let target = prop::collection::vec(1_u8.., 1..300).prop_map(|target| Kind::Link(RawPath::new(target)));
    let kind = prop_oneof![3 => Just(Kind::File), 1 => Just(Kind::Directory), 2 => target];
    // Version 2 of the attribute: a word with flags, and two of each set.
    let sets = prop::collection::vec(any::<u8>(), 16);
    let capability = (0_u8..2, sets).prop_map(|(flag, sets)| [vec![flag, 0, 0, 2], sets].concat());
    let capability = prop::option::weighted(0.2, capability);
    let content = prop::collection::vec(any::<u8>(), 0..1200);
    (kind, 0_u32..0o10000, id.clone(), id, capability, content).prop_map(
        |(kind, mode, uid, gid, capability, content)| {
            let is_file = kind == Kind::File;
            let node =
                Node { kind, mode, uid, gid, capability: capability.filter(|_| is_file), ..Node::file(0) };
            (node, if is_file { content } else { Vec::new() })
        },
    )
}

type Item = (Vec<Vec<u8>>, (Node, Vec<u8>));

/// Puts items into a tree; what would lie below anything but a directory is left out.
fn tree(items: &[Item]) -> MemoryRootfs {
    let mut rootfs = MemoryRootfs::new("random");
    for (names, (node, content)) in items {
        let mut path = RootPath::root();
        let mut is_fine = true;
        for name in names {
            let above = rootfs.lookup(&path).unwrap();
            is_fine &= above.is_none_or(|node| node.kind == Kind::Directory);
            path = path.child(name).unwrap();
        }
        if is_fine && rootfs.lookup(&path).unwrap().is_none() {
            rootfs.insert(&path, node.clone(), content.clone());
        }
    }
    rootfs
}

/// Takes everything below `path` as it is, links not followed.
fn take_all(closure: &mut Closure, rootfs: &MemoryRootfs, path: &RootPath) {
    for name in rootfs.read_dir(path).unwrap() {
        let path = path.child(&name).unwrap();
        let node = rootfs.lookup(&path).unwrap().unwrap();
        match node.kind {
            Kind::Link(_) => closure.put(&path, node, minimage::closure::Content::None, Cause::Layout),
            _ => {
                let cause = Cause::Root(Origin::Argument("all".to_owned()));
                closure.take(rootfs, Demand { path: path.to_raw(), cause }).unwrap();
            }
        }
        if matches!(rootfs.lookup(&path).unwrap().unwrap().kind, Kind::Directory) {
            take_all(closure, rootfs, &path);
        }
    }
}

/// An entry of a tar, with what its PAX header says put in place.
struct Entry {
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: u64,
    capability: Option<Vec<u8>>,
    content: Vec<u8>,
}

/// Reads a tar with the `tar` crate, except for PAX records: it cuts them at line ends, of which values may have some.
fn read_back(tar: &[u8]) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut records: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for entry in tar::Archive::new(Cursor::new(tar)).entries().unwrap().raw(true) {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        if header.entry_type() == tar::EntryType::XHeader {
            records = pax_records(&content);
            continue;
        }
        let mut text = |key: &str, plain: Vec<u8>| records.remove(key.as_bytes()).unwrap_or(plain);
        let target = text("linkpath", entry.link_name_bytes().unwrap_or_default().into_owned());
        let name = text("path", entry.path_bytes().into_owned());
        let mut number = |key: &str, plain: u64| {
            let value = records.remove(key.as_bytes());
            value.map_or(plain, |value| str::from_utf8(&value).unwrap().parse().unwrap())
        };
        found.push(Entry {
            name,
            kind: match header.entry_type() {
                tar::EntryType::Directory => Kind::Directory,
                tar::EntryType::Symlink => Kind::Link(RawPath::new(target)),
                _ => Kind::File,
            },
            mode: header.mode().unwrap(),
            uid: number("uid", header.uid().unwrap()),
            gid: number("gid", header.gid().unwrap()),
            mtime: header.mtime().unwrap(),
            capability: records.remove(b"SCHILY.xattr.security.capability".as_slice()),
            content,
        });
        assert!(records.is_empty(), "there are other records: {records:?}");
    }
    found
}

/// Reads PAX records as POSIX has them: each tells its own length.
fn pax_records(mut bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut records = BTreeMap::new();
    while !bytes.is_empty() {
        let blank = bytes.iter().position(|byte| *byte == b' ').expect("a length");
        let len: usize = str::from_utf8(&bytes[..blank]).unwrap().parse().unwrap();
        let record = bytes[blank + 1..len].strip_suffix(b"\n").expect("a line end");
        let equals = record.iter().position(|byte| *byte == b'=').expect("key=value");
        let is_new = records.insert(record[..equals].to_vec(), record[equals + 1..].to_vec()).is_none();
        assert!(is_new, "a key is there twice");
        bytes = &bytes[len..];
    }
    records
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn a_layer_reads_back_as_it_was(
        items in prop::collection::vec((prop::collection::vec(name(), 1..6), node()), 0..24),
        seconds in any::<u32>(),
    ) {
        let rootfs = tree(&items);
        let mut closure = Closure::new();
        take_all(&mut closure, &rootfs, &RootPath::root());
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let epoch = Epoch::parse(&seconds.to_string()).unwrap();
        let plan = layer::plan(&closure, Layering::Single);
        let write = |algorithm: Algorithm, threads| {
            let threads = NonZeroUsize::new(threads).unwrap();
            let options = LayerOptions { layering: Layering::Single, compression: algorithm.into(), threads };
            layer::write(&plan, &rootfs, epoch, &options, &layout, None).unwrap()
        };
        let layers = write(Algorithm::None, 1);
        for algorithm in [Algorithm::Gzip, Algorithm::Zstd] {
            let (one, three) = (write(algorithm, 1), write(algorithm, 3));
            prop_assert_eq!(&one, &three, "threads change a layer");
            prop_assert_eq!(one[0].diff_id, layers[0].diff_id);
        }
        let mut bytes = Vec::new();
        layout.open(&layers[0].descriptor).unwrap().read_to_end(&mut bytes).unwrap();
        prop_assert_eq!(Digest::of(&bytes), layers[0].diff_id.0);
        prop_assert_eq!(bytes.len() % 512, 0);

        let mut entries = read_back(&bytes).into_iter();
        for (path, expected) in closure.entries() {
            let entry = entries.next().expect("as many entries as in the closure");
            let node = &expected.node;
            prop_assert_eq!(entry.name.strip_suffix(b"/").unwrap_or(&entry.name), path.relative());
            prop_assert_eq!(&entry.kind, &node.kind, "{}", path);
            prop_assert_eq!(entry.mode, node.mode, "{}", path);
            prop_assert_eq!(entry.mtime, u64::from(seconds));
            prop_assert_eq!((entry.uid, entry.gid), (node.uid.into(), node.gid.into()), "{}", path);
            prop_assert_eq!(&entry.capability, &node.capability, "{}", path);
            if node.kind == Kind::File {
                let file = rootfs.open(path).unwrap();
                let expected = minimage::formats::read_all(&*file, u64::MAX).unwrap().unwrap();
                prop_assert_eq!(entry.content, expected, "{}", path);
            }
        }
        prop_assert!(entries.next().is_none());
    }
}

/// Returns the parts of a well-formed name: registry, repository, tag, digest.
fn reference() -> impl Strategy<Value = (String, String, Option<String>, Option<String>)> {
    let host =
        prop_oneof!["[a-z][a-z0-9]{0,8}\\.[a-z]{2,3}", Just("localhost".to_owned()), "127\\.0\\.0\\.[1-9]"];
    let port = prop::option::of(1_u16..);
    let registry = (host, port).prop_map(|(host, port)| match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    });
    let component = "[a-z0-9]{1,6}((\\.|_|__|-{1,2})[a-z0-9]{1,4}){0,2}";
    let repository = prop::collection::vec(component, 1..4).prop_map(|parts| parts.join("/"));
    let tag = prop::option::of("[A-Za-z0-9_][A-Za-z0-9._-]{0,20}");
    let digest = prop::option::of("[0-9a-f]{64}".prop_map(|hex| format!("sha256:{hex}")));
    (registry, repository, tag, digest)
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn a_reference_is_what_it_was_made_of((registry, repository, tag, digest) in reference()) {
        let mut text = format!("{registry}/{repository}");
        text.extend(tag.iter().map(|tag| format!(":{tag}")));
        text.extend(digest.iter().map(|digest| format!("@{digest}")));
        let parsed: Reference = text.parse().unwrap();
        prop_assert_eq!(parsed.registry(), registry);
        prop_assert_eq!(parsed.repository(), repository);
        prop_assert_eq!(parsed.digest().map(|digest| digest.to_string()), digest.clone());
        let latest = if digest.is_none() { Some("latest".to_owned()) } else { None };
        prop_assert_eq!(parsed.tag().map(str::to_owned), tag.or(latest));
        prop_assert_eq!(parsed.to_string().parse::<Reference>().unwrap(), parsed);
    }

    #[test]
    fn no_text_is_a_reference_that_reads_differently_again(text in prop_oneof![
        "\\PC{0,40}",
        "[a-zA-Z0-9./:@_-]{0,40}",
        "([a-z0-9.:-]{1,12}/)?[a-zA-Z0-9._/-]{1,20}(:[A-Za-z0-9._-]{0,5})?(@sha256:[0-9a-fA-F]{62,65})?",
    ]) {
        if let Ok(parsed) = text.parse::<Reference>() {
            let shown = parsed.to_string();
            prop_assert_eq!(&shown.parse::<Reference>().unwrap(), &parsed, "{}", shown);
            prop_assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{}", shown);
            // It becomes part of paths and URLs.
            let names = parsed.without_version();
            prop_assert!(!names.contains("..") && !names.contains("//"), "{}", shown);
        }
    }

    #[test]
    fn json_is_sorted_dense_and_lossless(value in json_value()) {
        let bytes = canonical_json(&value).unwrap();
        let text = str::from_utf8(&bytes).unwrap();
        let again: Value = serde_json::from_str(text).unwrap();
        prop_assert_eq!(&again, &value);
        prop_assert_eq!(canonical_json(&again).unwrap(), bytes.clone());
        prop_assert_eq!(outside_strings(text).find(|character: char| character.is_whitespace()), None);
        prop_assert_eq!(text, written(&value));
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..6).prop_map(|map| json!(map)),
        ]
    })
}

/// Returns `text` without what is in its strings.
fn outside_strings(text: &str) -> String {
    let (mut outside, mut in_string, mut is_escaped) = (String::new(), false, false);
    for character in text.chars() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            other if !in_string => outside.push(other),
            _ => {}
        }
    }
    outside
}

/// Returns `value` as it should be written: keys in the order of their bytes.
fn written(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let pair = |(key, value): (&String, &Value)| format!("{}:{}", json!(key), written(value));
            format!("{{{}}}", sorted.into_iter().map(pair).collect::<Vec<_>>().join(","))
        }
        leaf => leaf.to_string(),
    }
}

/// Constants that are not read at once: the pieces must not cut a string, and one may be longer than a piece.
#[test]
fn strings_of_any_length_are_found_wherever_they_lie() {
    let mut read_only = Vec::new();
    let name = |at: usize| format!("lib{}{at}.so.1", "x".repeat(at % 97));
    for at in 0..20_000 {
        read_only.extend(name(at).into_bytes());
        read_only.push(0);
    }
    let long = "n".repeat(700_000);
    read_only.extend(format!("{long}the end").into_bytes());
    let file = ElfFile { read_only, ..ElfFile::default() }.to_bytes();
    let file = file.as_slice();
    let elf = Elf::parse(&file).unwrap();

    let found: BTreeSet<Vec<u8>> = elf.soname_strings(&file).unwrap().into_iter().collect();
    let written: BTreeSet<Vec<u8>> = (0..20_000).map(|at| name(at).into_bytes()).collect();
    assert!(found == written, "{} of {}", found.len(), written.len());
    let longest = elf.strings(&file, &|text| text.len() > 1000).unwrap();
    assert_eq!(longest.iter().map(Vec::len).collect::<Vec<_>>(), [long.len() + "the end".len()]);
    let names: Vec<String> = (0..20_000).step_by(37).map(name).collect();
    let there: BTreeSet<&str> = names.iter().map(String::as_str).chain(["the end"]).collect();
    let texts = there.iter().copied().chain(["the very end"]).collect();
    assert_eq!(elf.texts(&file, &texts).unwrap(), there);
}
