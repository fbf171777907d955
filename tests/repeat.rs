//! The same image under other circumstances: the same digest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{isolate, minimage, run};
use crate::tree_text::{Tree, testdata};

/// Returns a directory with the tree of all things in it, its files made in order or from the last to the first.
fn source(directory: &Path, name: &str, is_reversed: bool) -> PathBuf {
    let mut tree = Tree::read(&testdata().join("images/app.tree"));
    if is_reversed {
        tree.items.reverse();
        // What is linked to must be there first.
        tree.items.sort_by_key(|item| matches!(item.what, crate::tree_text::What::HardLink(_)));
    }
    let top = directory.join(name);
    fs::create_dir_all(&top).unwrap();
    tree.to_disk(&top, |_, _| None);
    top
}

/// Runs `command`, which is to print a digest alone, and returns it.
fn digest(what: &str, command: &mut Command) -> String {
    let outcome = run(command);
    assert_eq!(outcome.code, Some(0), "{what}: {}", outcome.stderr);
    let line = outcome.stdout.strip_suffix('\n').unwrap();
    assert!(line.starts_with("sha256:") && line.len() == 71, "{what}: {line}");
    line.to_owned()
}

#[test]
fn circumstances_do_not_reach_the_digest() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let (one, other) = (source(home, "one", false), source(home, "elsewhere/other", true));
    for sub in ["tmp", "work/deeper"] {
        fs::create_dir_all(home.join(sub)).unwrap();
    }
    let build = |from: &Path, dest: &str| {
        let mut command = minimage(home);
        command.arg("build").arg("--from").arg(from).args([
            "-o",
            &format!("type=oci,dest={dest}"),
            "/app/main",
            "--allow-sensitive",
        ]);
        command
    };
    let expected = digest("plain", &mut build(&one, "plain.tar"));
    let archive = fs::read(home.join("plain.tar")).unwrap();

    let mut other_tmp = build(&one, "tmp.tar");
    other_tmp.env("TMPDIR", home.join("tmp"));
    let mut zone = build(&one, "zone.tar");
    zone.env("TZ", "Asia/Kolkata");
    let mut locale = build(&one, "locale.tar");
    locale.env("LANG", "tr_TR.UTF-8").env("LC_ALL", "tr_TR.UTF-8").env("LANGUAGE", "tr");
    let mut relative = build(Path::new("../../one"), "../../relative.tar");
    relative.current_dir(home.join("work/deeper"));
    let mut umask = Command::new("sh");
    isolate(&mut umask, home);
    umask.args(["-c", "umask 077; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_minimage"), "build", "--from"]);
    umask.arg(&one).args(["-o", "type=oci,dest=umask.tar", "/app/main", "--allow-sensitive"]);
    for (name, command) in [
        ("tmp", &mut other_tmp),
        ("zone", &mut zone),
        ("locale", &mut locale),
        ("relative", &mut relative),
        ("umask", &mut umask),
        ("reversed", &mut build(&other, "reversed.tar")),
        ("again", &mut build(&one, "again.tar")),
    ] {
        assert_eq!(digest(name, command), expected, "{name}");
        // The archive is named in no other way, so that it is the same file too.
        assert!(fs::read(home.join(format!("{name}.tar"))).unwrap() == archive, "{name}: another archive");
    }
}

#[test]
fn times_of_files_do_not_reach_the_digest_but_the_epoch_does() {
    let directory = tempfile::tempdir().unwrap();
    let top = source(directory.path(), "top", false);
    let build = |epoch: Option<&str>| {
        let mut command = minimage(directory.path());
        command.arg("build").arg("--from").arg(&top).args([
            "-o",
            "type=oci,dest=image.tar",
            "/app/main",
            "--allow-sensitive",
        ]);
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        digest(epoch.unwrap_or("none"), &mut command)
    };
    let expected = build(None);
    let file = fs::File::options().write(true).open(top.join("app/main")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000)).unwrap();
    assert_eq!(build(None), expected, "another time of a file");
    assert_eq!(build(Some("0")), expected, "an epoch of 0");
    let later = build(Some("1700000000"));
    assert_ne!(later, expected, "another epoch");
    assert_eq!(build(Some("1700000000")), later, "the same epoch again");
}

/// Owner, umask and group of who unpacked a tree say nothing of a file that no package owns.
#[test]
fn modes_of_unowned_files_do_not_reach_the_digest() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let top = source(directory.path(), "top", false);
    let build = || {
        let mut command = minimage(directory.path());
        command.arg("build").arg("--from").arg(&top).args([
            "-o",
            "type=oci,dest=image.tar",
            "/app/main",
            "--allow-sensitive",
        ]);
        digest("build", &mut command)
    };
    let expected = build();
    for (file, mode) in
        [("app/main", 0o775), ("app/lib/liba.so", 0o664), ("app/lib", 0o775), ("opt/b/libb.so.1.2.3", 0o600)]
    {
        fs::set_permissions(top.join(file), fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(build(), expected, "{file} {mode:o}");
    }
}

/// The check above must be able to fail: a bit that an image does hold changes the digest.
#[test]
fn what_an_image_holds_reaches_the_digest() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let build = |top: &Path| {
        let mut command = minimage(directory.path());
        command.arg("build").arg("--from").arg(top).args([
            "-o",
            "type=oci,dest=image.tar",
            "/app/main",
            "--allow-sensitive",
        ]);
        digest("build", &mut command)
    };
    let top = source(directory.path(), "top", false);
    let expected = build(&top);
    fs::set_permissions(top.join("app/lib/liba.so"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(build(&top), expected, "a library that can be executed");
}
