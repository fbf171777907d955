//! What cannot work ends with one clear message, the right exit code, and nothing half-written.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::minimage::{MINIMAGE, Message, Workspace};
use crate::outcome::Outcome;
use crate::requirement::{CC, ROOT, present};
use crate::sandbox::sandbox;

const LOADER: &str = match cfg!(target_arch = "x86_64") {
    true => "/lib64/ld-linux-x86-64.so.2",
    false => "/lib/ld-linux-aarch64.so.1",
};

/// Compiles `source` without a C library; `words` are further words for the compiler.
fn compile(source: &str, output: &Path, words: &[&str]) {
    let file = output.with_extension("c");
    fs::write(&file, source).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-nostdlib", "-fno-stack-protector", "-o"]).arg(output).arg(&file).args(words);
    Outcome::of(&mut compiler).success();
    fs::remove_file(file).unwrap();
}

/// Makes a tree with a program in it that needs two libraries which are not there any more.
fn tree_with_gaps(workspace: &Workspace) -> std::path::PathBuf {
    let tree = workspace.path("tree");
    let (programs, libraries) = (tree.join("usr/bin"), tree.join("usr/lib"));
    fs::create_dir_all(&programs).unwrap();
    fs::create_dir_all(&libraries).unwrap();
    for name in ["one", "two"] {
        let library = libraries.join(format!("libgone-{name}.so"));
        let soname = format!("-Wl,-soname,libgone-{name}.so.1");
        compile(&format!("int {name}(void) {{ return 1; }}"), &library, &["-shared", &soname]);
    }
    let search = format!("-L{}", libraries.display());
    let program = "int one(void); int two(void); void _start(void) { one(); two(); for (;;) {} }";
    compile(program, &programs.join("app"), &[&search, "-lgone-one", "-lgone-two"]);
    // With its loader, the libraries are all that is missing.
    let loader = tree.join(LOADER.trim_start_matches('/'));
    fs::create_dir_all(loader.parent().unwrap()).unwrap();
    fs::copy(LOADER, loader).unwrap();
    for name in ["one", "two"] {
        fs::remove_file(libraries.join(format!("libgone-{name}.so"))).unwrap();
    }
    tree
}

/// Both gaps are listed at once, with who asked; no image is written.
#[test]
fn missing_libraries() {
    if !present(&[CC]) {
        return;
    }
    let workspace = Workspace::new();
    let tree = tree_with_gaps(&workspace);
    let outcome = workspace.run(["build", "/usr/bin/app", "--from", tree.to_str().unwrap()]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (1, ""), "{outcome}");
    let messages = Message::all_of(&outcome);
    for library in ["libgone-one.so.1", "libgone-two.so.1"] {
        let message = messages.iter().find(|message| message.what.contains(library));
        let message = message.unwrap_or_else(|| panic!("{library} is not named\n{outcome}"));
        assert_eq!(message.code, "missing-library");
        assert!(message.places.iter().any(|place| place.contains("/usr/bin/app")), "{message:#?}");
        assert!(!message.reasons.is_empty() && !message.fixes.is_empty(), "{message:#?}");
    }
    assert_eq!(workspace.listing(), ["tree"]);
}

/// A program of this machine whose library went away.
#[test]
fn missing_library_of_this_machine() {
    if !present(&[CC]) {
        return;
    }
    let workspace = Workspace::new();
    let tree = tree_with_gaps(&workspace);
    let outcome = workspace.run(["build", tree.join("usr/bin/app").to_str().unwrap()]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (1, ""), "{outcome}");
    let messages = Message::all_of(&outcome);
    assert!(messages.iter().any(|message| message.what.contains("libgone-one.so.1")), "{outcome}");
    assert_eq!(workspace.listing(), ["tree"]);
}

#[test]
fn program_that_does_not_exist() {
    for program in ["no-such-program", "/usr/bin/no-such-program", "./no-such-program"] {
        let workspace = Workspace::new();
        let message = Message::only_one(&workspace.run(["build", program]), 1);
        assert!(message.names("no-such-program"), "{message:#?}");
        assert_eq!(workspace.listing(), Vec::<String>::new());
    }
}

/// All that is wrong with the roots is said at once.
#[test]
fn two_programs_that_do_not_exist() {
    let workspace = Workspace::new();
    let outcome = workspace.run(["build", "bash", "gone-one", "gone-two"]);
    assert_eq!(outcome.status, 1, "{outcome}");
    let messages = Message::all_of(&outcome);
    for program in ["gone-one", "gone-two"] {
        assert!(messages.iter().any(|message| message.names(program)), "{program} is not named\n{outcome}");
    }
}

#[test]
fn unreadable_program() {
    if !present(&[ROOT]) {
        return;
    }
    let workspace = Workspace::new();
    let program = workspace.path("locked");
    fs::copy("/bin/ls", &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o711)).unwrap();
    // The other user may see what is in the directory and write to it, but not read this file.
    fs::set_permissions(workspace.path(""), Permissions::from_mode(0o777)).unwrap();
    let message = Message::only_one(&as_nobody(&workspace, &["build", "./locked"]), 1);
    assert!(message.names("locked"), "{message:#?}");
    assert_eq!(workspace.listing(), ["locked", "minimage"]);
}

/// Runs minimage as a user without rights, from a place that this user can reach.
fn as_nobody(workspace: &Workspace, words: &[&str]) -> Outcome {
    let copy = workspace.path("minimage");
    fs::copy(MINIMAGE, &copy).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(copy);
    let mut command = workspace.settle(command, words);
    Outcome::of(command.env("HOME", "/nonexistent"))
}

/// The disk is full: the message says so, the older file is whole, and no part of the new one stays.
#[test]
fn no_room_for_the_output() {
    if !present(&[ROOT]) {
        return;
    }
    let workspace = Workspace::new();
    let full = workspace.path("full");
    fs::create_dir(&full).unwrap();
    let full = full.to_str().unwrap();
    sandbox().run("mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", full]);
    sandbox().run("sh", ["-c", "echo older >\"$1/older.tar\"", "sh", full]);
    for file in ["older.tar", "new.tar"] {
        let mut command = sandbox().command(MINIMAGE);
        command.args(["build", "bash", "-o", &format!("type=oci,dest={full}/{file}")]);
        let message = Message::only_one(&Outcome::of(&mut command), 1);
        assert!(message.names(file), "{message:#?}");
        assert!(message.names("No space left on device"), "{message:#?}");
    }
    let left = sandbox().run("sh", ["-c", "cd \"$1\" && ls -A && cat older.tar", "sh", full]);
    assert_eq!(left.stdout, "older.tar\nolder\n");
}

#[test]
fn output_in_a_directory_that_is_not_there() {
    let workspace = Workspace::new();
    let outcome = workspace.run(["build", "bash", "-o", "type=oci,dest=nowhere/bash.tar"]);
    let message = Message::only_one(&outcome, 1);
    assert!(message.names("nowhere"), "{message:#?}");
    assert_eq!(workspace.listing(), Vec::<String>::new());
}

/// A request that makes no sense is the user's to mend: exit 2, and nothing is done.
#[test]
fn wrong_usage() {
    let cases: [&[&str]; 8] = [
        &["no-such-command"],
        &["build", "--no-such-flag", "bash"],
        &["build"],
        &["build", "bash", "-o", "type=no-such-type"],
        &["build", "bash", "-o", "type=oci,no-such-key=1"],
        &["build", "bash", "-t", "UPPER/Case:1"],
        &["build", "bash", "-t", "app:not a tag"],
        &["build", "bash", "--push"],
    ];
    let mut wrong = Vec::new();
    for words in cases {
        let workspace = Workspace::new();
        let outcome = workspace.run(words);
        if outcome.status != 2 || !outcome.stdout.is_empty() || outcome.stderr.is_empty() {
            wrong.push(outcome.to_string());
        }
        assert_eq!(workspace.listing(), Vec::<String>::new());
    }
    crate::outcome::none_of(wrong);
}
