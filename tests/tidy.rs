//! The sources themselves: what STYLE.md asks of them and a program can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Past this many lines a file needs a split.
const LINES_MAX: usize = 1_000;
/// What a parser must not touch: the border takes bytes, and what it says depends on nothing else.
const INPUT_OUTPUT: [&str; 8] =
    ["std::fs", "std::net", "std::env", "std::process", "std::time", "std::thread", "File::", "SystemTime"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the Rust files below `directory`, with their paths relative to the top and their texts.
fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![top().join(directory)];
    while let Some(directory) = todo.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", "corpus", "artifacts"].contains(&name.as_str()) {
                todo.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(top()).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// Returns `text` without comments and without the unit tests at its end.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect()
}

/// Returns the modules of the crate in their order in `lib.rs`.
fn layers() -> Vec<String> {
    let text = fs::read_to_string(top().join("src/lib.rs")).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

/// Returns the modules at the top that `code` names through `crate::`, also inside braces.
fn uses(code: &str) -> BTreeSet<String> {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(rest.split(|character| !is_name(character)).next().unwrap().to_owned());
            continue;
        };
        let mut depth = 0;
        let mut at_start = true;
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => at_start = true,
                character if depth == 0 && at_start && is_name(character) => {
                    found
                        .insert(list[at..].split(|character| !is_name(character)).next().unwrap().to_owned());
                    at_start = false;
                }
                _ => {}
            }
        }
    }
    found
}

#[track_caller]
fn assert_none(what: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{what}:\n  {}", offences.join("\n  "));
}

#[test]
fn imports_point_up() {
    let layers = layers();
    let mut offences = Vec::new();
    for (path, text) in sources("src") {
        let mut names = path.components().skip(1).map(|part| part.as_os_str().to_string_lossy().into_owned());
        let name = names.next().unwrap();
        let name = name.trim_end_matches(".rs");
        let Some(own) = layers.iter().position(|layer| layer == name) else {
            assert!(["lib", "main"].contains(&name), "{} is in no module of lib.rs", path.display());
            continue;
        };
        // The tests beside the code are held to it too: they move with it.
        let used = uses(
            &text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .fold(String::new(), |code, line| code + line + "\n"),
        );
        for used in used {
            match layers.iter().position(|layer| *layer == used) {
                Some(other) if other > own => offences.push(format!("{}: uses {used}", path.display())),
                _ => {}
            }
        }
    }
    assert_none("a module uses one below it in lib.rs", &offences);
}

#[test]
fn the_scan_for_imports_sees_all_forms() {
    let code = "use crate::a::B; use crate::{c, d::{e, f}, g}; fn x() { crate::h::i(crate::j) }";
    let expected = ["a", "c", "d", "g", "h", "j"].map(str::to_owned);
    assert_eq!(uses(code), expected.into());
}

#[test]
fn formats_do_no_input_or_output() {
    let mut offences = Vec::new();
    for (path, text) in sources("src/formats") {
        let code = code(&text);
        let found = INPUT_OUTPUT.iter().filter(|word| code.contains(**word));
        offences.extend(found.map(|word| format!("{}: {word}", path.display())));
    }
    assert_none("a parser does input or output", &offences);
}

#[test]
fn every_format_is_fuzzed() {
    let manifest = fs::read_to_string(top().join("fuzz/Cargo.toml")).unwrap();
    let mut offences = Vec::new();
    for (path, _) in sources("src/formats") {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if name == "mod" || path.parent() != Some(Path::new("src/formats")) {
            continue;
        }
        let target = format!("fuzz_targets/{name}.rs");
        if !top().join("fuzz").join(&target).is_file() {
            offences.push(format!("fuzz/{target} is missing"));
        }
        if !manifest.contains(&format!("name = \"{name}\"\npath = \"{target}\"\n")) {
            offences.push(format!("{name} is no [[bin]] of fuzz/Cargo.toml"));
        }
    }
    assert_none("a format is not fuzzed", &offences);
}

#[test]
fn files_are_not_too_long() {
    let mut offences = Vec::new();
    for (path, text) in ["src", "frontend", "tests", "fuzz"].into_iter().flat_map(sources) {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            offences.push(format!("{}: {lines} lines", path.display()));
        }
    }
    assert_none("a file needs a split", &offences);
}

#[test]
fn async_stays_at_the_edge() {
    let mut offences = Vec::new();
    for (path, text) in ["src", "frontend/src"].into_iter().flat_map(sources) {
        if path.starts_with("src/registry") || path == Path::new("frontend/src/gateway.rs") {
            continue;
        }
        let code = code(&text);
        for word in ["async fn", "async move", "async {", "async |", ".await"] {
            if code.contains(word) {
                offences.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert_none("asynchronous code outside src/registry and frontend/src/gateway.rs", &offences);
}

#[test]
fn json_maps_are_sorted() {
    // With `preserve_order`, serde_json keeps what a hash map gives, which changes from run to run. It would bring
    // indexmap as a dependency of serde_json, and any crate of the tree can switch it on.
    let lock = fs::read_to_string(top().join("Cargo.lock")).unwrap();
    let package =
        lock.split("[[package]]").find(|package| package.contains("\nname = \"serde_json\"\n")).unwrap();
    assert!(!package.contains("\"indexmap"), "serde_json has the feature preserve_order:\n{package}");
}

#[test]
fn no_module_prints() {
    let mut offences = Vec::new();
    for (path, text) in sources("src") {
        if path.starts_with("src/cli") {
            continue;
        }
        let code = code(&text);
        for word in ["println!", "eprintln!", "print!(", "io::stdout", "io::stderr"] {
            if code.contains(word) {
                offences.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert_none("only src/cli talks to people", &offences);
}
