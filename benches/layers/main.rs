//! `cargo bench --bench layers [-- SIZE_MB... warm levels limits]`: trees of real files -> an OCI layout, cold and warm,
//! beside what the machine itself allows and beside other tools, whole processes taking turns; then compression levels
//! and start-up.
//!
//! A ratio counts, a time does not: all figures of a table come from one run.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used, clippy::unwrap_used)]

mod fixture;
mod measure;
mod peers;
mod work;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use self::fixture::Tree;
use self::measure::{Figures, Runs, alternately};
use self::peers::{Peers, blob_size};

const ROUNDS: usize = 5;
const SIZES: [u64; 3] = [10, 100, 1000];
const COMPRESSIONS: [&str; 3] = ["gzip", "zstd", "none"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let Some(("work", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        work::run(rest);
        return ExitCode::SUCCESS;
    }
    let sizes: Vec<u64> = arguments.iter().filter_map(|word| word.parse().ok()).collect();
    let sizes = if arguments.is_empty() { SIZES.to_vec() } else { sizes };
    let own = std::env::current_exe().expect("this program has a path");
    for megabytes in &sizes {
        let tree = Tree::new(megabytes * 1_000_000);
        println!("\n== {megabytes} MB: {} files, {} bytes, {ROUNDS} rounds", tree.files.len(), tree.bytes);
        for compression in COMPRESSIONS {
            cold(&own, &tree, compression);
        }
        warm(&own, &tree);
    }
    if arguments.is_empty() || arguments.iter().any(|word| word == "warm") {
        let tree = Tree::of_files(100_000_000, 300_000);
        println!("\n== 100 MB in few files: {} files, {} bytes", tree.files.len(), tree.bytes);
        warm(&own, &tree);
    }
    if arguments.is_empty() || arguments.iter().any(|word| word == "levels") {
        work::levels(&Tree::new(48_000_000));
    }
    if arguments.is_empty() || arguments.iter().any(|word| word == "limits") {
        limits(&own);
    }
    startup();
    ExitCode::SUCCESS
}

/// Builds into an empty layout with an empty cache, with the floor and, for gzip, the peers beside it.
fn cold(own: &Path, tree: &Tree, compression: &str) {
    let tar = tree.place("layer.tar");
    let layout = tree.place("layout");
    let cache = tree.place("cache");
    let flushed = tree.place("flushed");
    let run = |words: &[&std::ffi::OsStr]| {
        let mut command = Command::new(own);
        command.arg("work").args(words);
        command
    };
    // The tar itself, for peers that want one.
    let plain = tree.place("plain");
    let made = run(&["build".as_ref(), tree.root.as_ref(), plain.as_ref(), "none".as_ref()]).status();
    assert!(made.is_ok_and(|status| status.success()), "the tar can be made");
    std::fs::rename(peers::layer_blob(&plain).expect("a layer"), &tar).expect("the tar can be moved");
    tree.clear(&[&plain]);

    println!("{compression}, cold");
    let peers = Peers::new(tree, &tar);
    let here = if compression == "gzip" { peers.here() } else { Vec::new() };
    let mut runs: Vec<Runs<'_>> = vec![
        Runs::new("floor: read, 2 SHA-256, same work", || {
            (run(&["floor".as_ref(), tree.root.as_ref(), compression.as_ref()]), None)
        }),
        Runs::new("floor, written and flushed", || {
            tree.clear(&[&flushed]);
            (run(&["floor".as_ref(), tree.root.as_ref(), compression.as_ref(), flushed.as_ref()]), None)
        }),
        Runs::new("minimage", || {
            tree.clear(&[&layout, &cache]);
            let words =
                ["build".as_ref(), tree.root.as_ref(), layout.as_ref(), compression.as_ref(), cache.as_ref()];
            (run(&words), Some(layout.clone()))
        }),
        Runs::new("minimage --no-cache", || {
            tree.clear(&[&layout, &cache]);
            let words = ["build".as_ref(), tree.root.as_ref(), layout.as_ref(), compression.as_ref()];
            (run(&words), Some(layout.clone()))
        }),
    ];
    runs.extend(here.iter().map(|peer| Runs::new(peer.name, || peer.cold())));
    print(&alternately(runs, ROUNDS, blob_size));

    for peer in &here {
        // One after the other: each keeps what it remembers in the same place.
        if let Some(again) = peer.again() {
            let name = format!("{}, again", peer.name);
            print(&alternately(vec![Runs::new(&name, again)], ROUNDS, |_| None));
        }
    }
    tree.clear(&[&tar, &layout, &cache, &flushed]);
}

/// Builds again when nothing or one file of 1 MB has changed.
fn warm(own: &Path, tree: &Tree) {
    let (layout, cache) = (tree.place("layout"), tree.place("cache"));
    let build = || {
        let mut command = Command::new(own);
        command.arg("work").arg("build").arg(&tree.root).arg(&layout).arg("gzip").arg(&cache);
        (command, None::<PathBuf>)
    };
    tree.settle();
    assert!(build().0.status().is_ok_and(|status| status.success()), "it can be built");
    let figures = alternately(vec![Runs::new("nothing changed", build)], 21, |_| None);
    println!("gzip, warm: the layout has the blobs");
    print(&figures);
    let mut turn = 0;
    let changed = || {
        turn += 1;
        tree.change(turn);
        build()
    };
    let figures = alternately(vec![Runs::new("one file of 1 MB changed", changed)], ROUNDS, |_| None);
    print(&figures);
    tree.clear(&[&layout, &cache]);
}

/// Builds what is large in one way or the other: a file of 4 GiB with 256 MiB of memory, and many small files.
fn limits(own: &Path) {
    println!("\n== limits");
    let directory = tempfile::tempdir().expect("a directory");
    let (layout, large) = (directory.path().join("layout"), directory.path().join("large"));
    std::fs::create_dir(&large).expect("a directory");
    let file = std::fs::File::create(large.join("file")).expect("a file");
    file.set_len(4 << 30).expect("a hole");
    let build = |shell: &'static str, tree: PathBuf| {
        let layout = layout.clone();
        move || {
            let _ = std::fs::remove_dir_all(&layout);
            let mut command = Command::new("sh");
            command.args(["-c", shell, "sh"]).arg(own).args(["work", "build"]);
            command.arg(&tree).arg(&layout).arg("gzip");
            (command, None)
        }
    };
    let limited = build("ulimit -v 262144 && exec \"$@\"", large);
    let mut runs = vec![Runs::new("4 GiB, sparse, with 256 MiB of memory", limited)];
    for (count, name) in [(10_000, "10,000 files of 100 bytes"), (100_000, "100,000 files of 100 bytes")] {
        let tree = directory.path().join(count.to_string());
        for index in 0..count {
            let below = tree.join(format!("{}", index / 1000));
            std::fs::create_dir_all(&below).expect("a directory");
            std::fs::write(below.join(index.to_string()), format!("{index:100}")).expect("a file");
        }
        runs.push(Runs::new(name, build("exec \"$@\"", tree)));
    }
    print(&alternately(runs, 3, |_| None));
}

/// Prints times, and the ratio of each to that of minimage (`x` = minimage / other).
fn print(figures: &[Figures]) {
    println!(
        "  {:<36} {:>9} {:>9} {:>9}   {:>6} {:>6} {:>6}",
        "", "wall ms", "CPU ms", "blob MB", "wall x", "CPU x", "blob x"
    );
    let own = figures.iter().find(|figures| figures.name == "minimage").or(figures.first());
    for figures in figures {
        let Some(own) = own else { continue };
        let ratio =
            |mine: f64, other: f64| if other > 0.0 { format!("{:.2}", mine / other) } else { "-".to_owned() };
        println!(
            "  {:<36} {:>9.1} {:>9.1} {:>9.2}   {:>6} {:>6} {:>6}",
            figures.name,
            figures.wall,
            figures.cpu,
            figures.blob,
            ratio(own.wall, figures.wall),
            ratio(own.cpu, figures.cpu),
            ratio(own.blob, figures.blob),
        );
    }
}

/// Prints what starting costs, beside the smallest program there is.
fn startup() {
    let version = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_minimage"));
        command.arg("version");
        (command, None)
    };
    let figures = alternately(
        vec![Runs::new("minimage", version), Runs::new("/bin/true", || (Command::new("/bin/true"), None))],
        201,
        |_| None,
    );
    println!("\n== start-up: minimage version");
    print(&figures);
}
