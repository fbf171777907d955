//! What the command line says of bad input: the exit code and the full text, compared with golden files.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::command::{Outcome, minimage, run};
use crate::elf_writer::{ElfFile, Tag};
use crate::golden;
use crate::require;
use crate::tree_text::Tree;

/// A command on a tree: name of the golden file, lines of the tree, arguments. `$TOP` is where the tree is.
struct Case {
    name: &'static str,
    tree: &'static str,
    arguments: &'static str,
}

const OUT: &str = "-o type=oci,dest=$HOME/out.tar";

const CASES: [Case; 42] = [
    Case {
        name: "arguments-twice",
        tree: "include debian\n/app/main elf",
        arguments: "build --from $TOP $OUT /app/main --cmd a -- b",
    },
    Case {
        name: "missing-libraries",
        tree: "include debian\n/app/main elf needed=libq.so.1,libr.so.1\n/app/two elf needed=libs.so.1 runpath=/opt\n\
            /usr/lib/libr.so.1 elf needed=libt.so.1",
        arguments: "build --from $TOP $OUT /app/main /app/two",
    },
    Case { name: "program-by-name", tree: "include debian", arguments: "build --from $TOP $OUT nothing" },
    Case {
        name: "program-by-path",
        tree: "include debian",
        arguments: "build --from $TOP $OUT /app/nothing",
    },
    Case {
        name: "program-not-executable",
        tree: "include debian\n/app/main elf mode=0644",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case {
        name: "program-is-a-directory",
        tree: "include debian\n/app/main dir",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case {
        name: "program-is-a-fifo",
        tree: "include debian\n/app/main fifo",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case {
        name: "program-is-text",
        tree: "include debian\n/app/main script text",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case {
        name: "program-is-empty",
        tree: "include debian\n/app/main script \"\"",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case {
        name: "program-is-a-library",
        tree: "include debian\n/app/libq.so.1 elf soname=libq.so.1",
        arguments: "build --from $TOP $OUT /app/libq.so.1",
    },
    Case {
        name: "links-in-a-circle",
        tree: "include debian\n/app/main -> other\n/app/other -> main",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case {
        name: "library-is-a-fifo",
        tree: "include debian\n/app/main elf needed=libq.so.1 runpath=/app\n/app/libq.so.1 fifo",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case {
        name: "library-is-a-link-to-itself",
        tree: "include debian\n/app/main elf needed=libq.so.1 runpath=/app\n/app/libq.so.1 -> libq.so.1",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case {
        name: "loader-missing",
        tree: "/app/main elf needed=libc.so.6",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case {
        name: "loader-is-text",
        tree: "/app/main elf\n/lib64/ld-linux-x86-64.so.2 file text mode=0755",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case {
        name: "script-with-carriage-return",
        tree: "include debian\n/app/run script \"#!/bin/sh\\r\\n\"",
        arguments: "build --from $TOP $OUT /app/run",
    },
    Case {
        name: "mixed-machines",
        tree: "include debian\ninclude debian-arm64\n/app/one elf\n/app/two elf machine=aarch64",
        arguments: "build --from $TOP $OUT /app/one /app/two",
    },
    Case {
        name: "platform-is-another",
        tree: "include debian\n/app/one elf",
        arguments: "build --from $TOP $OUT --platform linux/arm64 /app/one",
    },
    Case {
        name: "rule-mistyped",
        tree: "include debian\n/app/one elf",
        arguments: "build --from $TOP $OUT --without metdata /app/one",
    },
    Case {
        name: "name-that-marks-a-deletion",
        tree: "include debian\n/app/main elf needed=.wh.libq.so.1 runpath=/app\n/app/.wh.libq.so.1 elf",
        arguments: "build --from $TOP $OUT /app/main",
    },
    Case { name: "source-missing", tree: "", arguments: "build --from $TOP/nowhere $OUT /app/main" },
    Case {
        name: "source-is-a-file",
        tree: "/file file x",
        arguments: "build --from $TOP/file $OUT /app/main",
    },
    Case {
        name: "output-directory-missing",
        tree: "include debian\n/app/main elf",
        arguments: "build --from $TOP -o type=oci,dest=$HOME/no/out.tar /app/main",
    },
    Case {
        name: "output-is-a-directory",
        tree: "include debian\n/app/main elf\n/out dir",
        arguments: "build --from $TOP -o type=oci,dest=$TOP/out /app/main",
    },
    Case {
        name: "output-holds-something-else",
        tree: "include debian\n/app/main elf\n/out/file file x",
        arguments: "build --from $TOP -o type=oci,tar=false,dest=$TOP/out /app/main",
    },
    Case {
        name: "arguments-for-two",
        tree: "include debian\n/a elf\n/b elf",
        arguments: "build --from $TOP $OUT /a /b -- -x",
    },
    Case {
        name: "two-outputs-to-one-place",
        tree: "include debian\n/app/main elf",
        arguments: "build --from $TOP $OUT -o type=oci,docker=false,dest=$HOME/out.tar /app/main",
    },
    Case { name: "flag-unknown", tree: "", arguments: "build --form /srv bash" },
    Case {
        name: "excluded-what-is-needed",
        tree: "include debian\n/app/main elf",
        arguments: "build --from $TOP $OUT --exclude /app/main /app/main",
    },
    Case { name: "output-unknown", tree: "", arguments: "build -o type=zip,dest=x /app/main" },
    Case { name: "reference-bad", tree: "", arguments: "build -t Upper/Case /app/main" },
    Case { name: "layers-too-many", tree: "", arguments: "build --layers 200 /app/main" },
    Case { name: "level-too-high", tree: "", arguments: "build --compression-level 13 /app/main" },
    Case { name: "transport-unknown", tree: "", arguments: "build --from docker-daemon:app /app/main" },
    Case { name: "push-nowhere", tree: "", arguments: "build /app/main --push" },
    Case { name: "push-takes-the-program", tree: "", arguments: "build --push ./main" },
    Case {
        name: "push-of-a-layout-and-a-tag",
        tree: "/app dir",
        arguments: "push $TOP/app:1.0 r.example/app",
    },
    Case {
        name: "push-of-an-archive-and-a-tag",
        tree: "/app.tar file x",
        arguments: "push $TOP/app.tar:1.0 r.example/app",
    },
    Case { name: "push-of-nothing", tree: "", arguments: "push $TOP/app:1.0 r.example/app" },
    Case {
        name: "load-by-digest",
        tree: "",
        arguments: "load $TOP/app -t r.example/app:1@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    },
    Case {
        name: "tree-of-a-script",
        tree: "include debian\n/app/run script \"#!/usr/bin/env -S main -u\\n\"\n/usr/bin/env elf needed=libc.so.6\n\
            /usr/bin/main elf needed=libq.so.1\n/app/lost script \"#!/usr/bin/env nothing\\n\"",
        arguments: "tree --from $TOP /app/run /app/lost",
    },
    Case {
        name: "tree-of-what-is-missing",
        tree: "include debian\n/app/main elf needed=libq.so.1",
        arguments: "tree --from $TOP /app/main /app/nothing",
    },
];

/// Returns the golden text of `outcome`, in which nothing of this machine is left.
pub fn text(arguments: &str, outcome: &Outcome, top: &Path, home: &Path) -> String {
    let plain = |text: &str| {
        let text = text.replace(top.to_str().unwrap(), "$TOP");
        text.replace(home.to_str().unwrap(), "$HOME")
    };
    let mut text = format!("$ minimage {arguments}\n");
    for line in plain(&outcome.stdout).lines() {
        writeln!(text, "1> {line}").unwrap();
    }
    for line in plain(&outcome.stderr).lines() {
        // How well a tree compresses depends on who owns it.
        let line = match line.strip_suffix(" to store").and_then(|line| line.rsplit_once(", ")) {
            Some((start, _)) => format!("{start}, some to store"),
            None => line.to_owned(),
        };
        writeln!(text, "2> {line}").unwrap();
    }
    writeln!(text, "exit code {}", outcome.code.map_or("none".to_owned(), |code| code.to_string())).unwrap();
    text
}

/// Runs `arguments` on what is at `top`.
pub fn outcome(arguments: &str, top: &Path, home: &Path) -> Outcome {
    let arguments = arguments.replace("$OUT", OUT);
    let words = arguments
        .split(' ')
        .map(|word| word.replace("$TOP", top.to_str().unwrap()).replace("$HOME", home.to_str().unwrap()));
    run(minimage(home).args(words))
}

#[test]
fn errors_say_what_where_why_and_how_to_go_on() {
    golden::check(CASES.iter().map(|case| {
        let (top, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Tree::parse(case.name, case.tree).to_disk(top.path(), |_, _| None);
        let outcome = outcome(case.arguments, top.path(), home.path());
        assert_ne!(outcome.code, Some(0), "{}: {}", case.name, outcome.stderr);
        let left = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
        // What the cache keeps is kept on purpose.
        let left: Vec<_> = left.filter(|name| name != "cache").collect();
        assert!(left.is_empty(), "{}: {left:?} is left behind", case.name);
        (format!("cli/{}.txt", case.name), text(case.arguments, &outcome, top.path(), home.path()))
    }));
}

/// Files that are broken in ways that no line of text makes: what is at `/app/main`, or at `/app/libq.so.1` of a fine
/// program.
fn broken_files() -> Vec<(&'static str, Vec<u8>)> {
    let program = ElfFile {
        interp: Some(b"/lib64/ld-linux-x86-64.so.2".to_vec()),
        tags: vec![(Tag::Needed, b"libc.so.6".to_vec())],
        ..ElfFile::default()
    }
    .to_bytes();
    let edited = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = program.clone();
        edit(&mut bytes);
        bytes
    };
    // Program headers have 56 bytes and begin at 64: PT_INTERP, then PT_DYNAMIC.
    let (interp, dynamic) = (64, 64 + 56);
    let huge = (1_u64 << 44).to_le_bytes();
    vec![
        ("cut-in-the-header", program[..40].to_vec()),
        ("cut-in-the-program-headers", program[..100].to_vec()),
        ("cut-in-the-middle", program[..program.len() / 2].to_vec()),
        ("program-headers-far-away", edited(&|bytes| bytes[32..40].copy_from_slice(&huge))),
        ("program-headers-of-all-ones", edited(&|bytes| bytes[56..58].copy_from_slice(&[0xff, 0xff]))),
        ("interp-far-away", edited(&|bytes| bytes[interp + 8..interp + 16].copy_from_slice(&huge))),
        (
            "dynamic-of-2-to-the-40-entries",
            edited(&|bytes| bytes[dynamic + 32..dynamic + 40].copy_from_slice(&huge)),
        ),
        ("class-unknown", edited(&|bytes| bytes[4] = 3)),
        ("byte-order-unknown", edited(&|bytes| bytes[5] = 0)),
        ("nothing-but-the-magic", b"\x7fELF".to_vec()),
        ("ones", [b"\x7fELF\x02\x01\x01\x00".as_slice(), &[0xff; 4096]].concat()),
    ]
}

#[test]
fn broken_elf_files_are_errors_not_panics() {
    let mut texts = Vec::new();
    for (name, bytes) in broken_files() {
        let (top, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tree = "include debian\n/app/fine elf needed=libq.so.1 runpath=/app\n/usr/lib/libc.so.6 elf";
        Tree::parse(name, tree).to_disk(top.path(), |_, _| None);
        for file in ["app/main", "app/libq.so.1"] {
            let path = top.path().join(file);
            fs::write(&path, &bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut both = String::new();
        for arguments in ["build --from $TOP $OUT /app/main", "build --from $TOP $OUT /app/fine"] {
            let outcome = outcome(arguments, top.path(), home.path());
            assert!(!outcome.stderr.contains("panicked"), "{name}: {}", outcome.stderr);
            if outcome.code != Some(0) {
                both.push_str(&text(arguments, &outcome, top.path(), home.path()));
                continue;
            }
            // What the kernel would take as it is, such as a table that is only said to be longer than the file.
            writeln!(both, "$ minimage {arguments}\nexit code 0").unwrap();
        }
        texts.push((format!("cli/broken-{name}.txt"), both));
    }
    golden::check(texts);
}

#[test]
fn huge_sparse_files_take_no_time() {
    let (top, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = "include debian\n/app/fine elf needed=libq.so.1 runpath=/app";
    Tree::parse("sparse", tree).to_disk(top.path(), |_, _| None);
    let header =
        ElfFile { tags: vec![(Tag::Needed, b"libc.so.6".to_vec())], ..ElfFile::default() }.to_bytes();
    for (name, content) in [("app/zeros", b"".as_slice()), ("app/libq.so.1", &header), ("cache", b"")] {
        let path = top.path().join(name);
        fs::write(&path, content).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(2 << 30).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let said = |name: &str, arguments: &str| {
        let outcome = outcome(arguments, top.path(), home.path());
        (format!("cli/sparse-{name}.txt"), text(arguments, &outcome, top.path(), home.path()))
    };
    let zeros = said("zeros", "build --from $TOP $OUT /app/zeros");
    let fine = said("fine", "tree --from $TOP /app/fine");
    fs::create_dir_all(top.path().join("etc")).unwrap();
    fs::rename(top.path().join("cache"), top.path().join("etc/ld.so.cache")).unwrap();
    golden::check([zeros, fine, said("cache", "build --from $TOP $OUT /app/fine")]);
}

#[test]
fn an_unreadable_file_is_said_by_name() {
    if rustix::process::geteuid().is_root() {
        return require::skip("ordinary-user", "root may read everything");
    }
    let (top, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = "include debian\n/app/main elf needed=libq.so.1 runpath=/app\n/app/libq.so.1 elf mode=0000\n\
        /app/secret elf mode=0111\n/closed/main elf";
    Tree::parse("unreadable", tree).to_disk(top.path(), |_, _| None);
    let closed = top.path().join("closed");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let texts = ["/app/main", "/app/secret", "/closed/main"].map(|program| {
        let arguments = format!("build --from $TOP $OUT {program}");
        let outcome = outcome(&arguments, top.path(), home.path());
        let name = program[1..].replace('/', "-");
        (format!("cli/unreadable-{name}.txt"), text(&arguments, &outcome, top.path(), home.path()))
    });
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    golden::check(texts);
}

#[test]
fn names_need_not_be_text() {
    let (top, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = "include debian\n/app/main elf needed=lib\\xff.so runpath=$ORIGIN/\\xfe\n/app/\\xfe/lib\\xff.so elf\n\
        /bad/ma\\xffin elf";
    Tree::parse("bytes", tree).to_disk(top.path(), |_, _| None);
    let fine = outcome("build --from $TOP $OUT /app/main", top.path(), home.path());
    assert_eq!(fine.code, Some(0), "{}", fine.stderr);
    // An entrypoint is text, and so are the words of the command line.
    let mut command = minimage(home.path());
    command.args(["build", "-o", "type=oci,dest=other.tar", "--from"]).arg(top.path());
    command.arg(OsString::from_vec(b"/bad/ma\xffin".to_vec()));
    let outcome = run(&mut command);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{}", outcome.stderr);
}

#[test]
fn a_variable_of_the_image_is_one_for_its_loader() {
    let (top, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree = "include debian\n/app/main elf needed=libq.so\n/app/lib/libq.so elf\n/app/lib/libp.so elf";
    Tree::parse("variables", tree).to_disk(top.path(), |_, _| None);
    let build =
        "build --from $TOP --dry-run /app/main --env LD_LIBRARY_PATH=lib:/app/lib --env LD_PRELOAD=libp.so";
    let Outcome { code, stdout, stderr } = outcome(build, top.path(), home.path());
    assert_eq!(code, Some(0), "{stderr}");
    let libraries: Vec<&str> = stdout.lines().filter(|line| line.contains("/app/lib/")).collect();
    let line = |name| {
        let size = fs::metadata(top.path().join("app/lib").join(name)).unwrap().len();
        format!("0755 0:0 {size:>10} /app/lib/{name}  # `/app/main` needs `{name}`")
    };
    assert_eq!(libraries, [line("libp.so"), line("libq.so")]);
}

#[test]
fn standard_output_is_data_alone() {
    let (top, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Tree::parse("fine", "include debian\n/app/main elf").to_disk(top.path(), |_, _| None);
    let plain = outcome("build --from $TOP $OUT /app/main", top.path(), home.path());
    let digest = plain.stdout.trim_end();
    assert_eq!(plain.stdout, format!("{digest}\n"));
    assert!(digest.parse::<minimage::oci::Digest>().is_ok(), "{digest}");
    let named =
        outcome("build --from $TOP $OUT -t team/app:1 -t r.example/app /app/main", top.path(), home.path());
    let lines = [format!("docker.io/team/app:1@{digest}"), format!("r.example/app:latest@{digest}")];
    assert_eq!(named.stdout, lines.join("\n") + "\n");
    let mut loud = minimage(home.path());
    loud.args(["build", "-vvv", "-o", "type=oci,dest=out.tar", "--from"]).arg(top.path()).arg("/app/main");
    assert_eq!(run(&mut loud).stdout, plain.stdout);
}

#[test]
fn a_bad_epoch_is_a_wrong_request() {
    let (top, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Tree::parse("fine", "include debian\n/app/main elf").to_disk(top.path(), |_, _| None);
    for epoch in ["", "-1", "tomorrow", "99999999999"] {
        let mut command = minimage(home.path());
        command.env("SOURCE_DATE_EPOCH", epoch).args(["build", "--from"]).arg(top.path()).arg("/app/main");
        let outcome = run(&mut command);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(2), ""), "{epoch}: {}", outcome.stderr);
        assert!(outcome.stderr.starts_with("error[bad-epoch]"), "{epoch}: {}", outcome.stderr);
    }
}

#[test]
fn what_was_there_stays_if_the_new_image_fails() {
    let (top, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Tree::parse("broken", "include debian\n/app/main elf needed=libq.so.1").to_disk(top.path(), |_, _| None);
    let out = home.path().join("out.tar");
    fs::write(&out, "an image of yesterday").unwrap();
    let outcome = outcome("build --from $TOP $OUT /app/main", top.path(), home.path());
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert_eq!(fs::read_to_string(&out).unwrap(), "an image of yesterday");
}
