//! Command lines -> runs of the program under test, each in a directory and a home of its own.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::outcome::Outcome;
use crate::requirement::ROOT;
use crate::sandbox::sandbox;

/// The program under test.
pub(crate) const MINIMAGE: &str = env!("CARGO_BIN_EXE_minimage");

/// An empty directory to run minimage in, open to every user, gone with the test.
pub(crate) struct Workspace(TempDir);

impl Workspace {
    pub(crate) fn new() -> Self {
        // In the sandbox's directory, if there is one, nothing stays even if this process is killed.
        let place = if ROOT.is_here() { sandbox().subdirectory("work") } else { std::env::temp_dir() };
        let directory = tempfile::Builder::new().prefix("minimage-e2e.").tempdir_in(place).unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }

    /// Returns the path that `name` has in the directory.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the names in the directory, sorted, without the home.
    pub(crate) fn listing(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| name != "home");
        names.sort();
        names
    }

    /// Returns a run of `minimage` with `words`, in the directory.
    pub(crate) fn command<Word: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = Word>) -> Command {
        self.settle(Command::new(MINIMAGE), words)
    }

    /// Appends `words` to a command line and gives it the directory and an environment that says nothing else.
    pub(crate) fn settle<Word: AsRef<OsStr>>(
        &self,
        mut command: Command,
        words: impl IntoIterator<Item = Word>,
    ) -> Command {
        let home = self.path("home");
        fs::create_dir_all(&home).unwrap();
        command
            .args(words)
            .current_dir(self.0.path())
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", home);
        command
    }

    /// Runs `minimage` with `words`.
    pub(crate) fn run<Word: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = Word>) -> Outcome {
        Outcome::of(&mut self.command(words))
    }

    /// Runs `minimage` with `words`, which must succeed; returns the lines it prints.
    pub(crate) fn results<Word: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = Word>) -> Vec<String> {
        self.run(words).success().stdout.lines().map(str::to_owned).collect()
    }
}

/// What minimage says when it cannot do what it was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The kind of problem, as in `error[kind]`.
    pub(crate) code: String,
    pub(crate) what: String,
    pub(crate) places: Vec<String>,
    pub(crate) reasons: Vec<String>,
    pub(crate) fixes: Vec<String>,
}

impl Message {
    /// Reads the messages on stderr; what is not part of one, such as progress before it, is passed over.
    pub(crate) fn all_of(outcome: &Outcome) -> Vec<Self> {
        let mut messages: Vec<Self> = Vec::new();
        for line in outcome.stderr.lines().filter(|line| !line.is_empty()) {
            if let Some((code, what)) = line.strip_prefix("error[").and_then(|line| line.split_once("]: ")) {
                let (code, what) = (code.to_owned(), what.to_owned());
                messages.push(Self { code, what, places: vec![], reasons: vec![], fixes: vec![] });
            } else if let Some(message) = messages.last_mut() {
                let Some((label, rest)) = line.split_once(": ") else {
                    panic!("no label: {line}\n{outcome}")
                };
                let lines = match label {
                    "  where" => &mut message.places,
                    "    why" => &mut message.reasons,
                    "    fix" => &mut message.fixes,
                    _ => panic!("no such label: {line}\n{outcome}"),
                };
                lines.push(rest.to_owned());
            }
        }
        messages
    }

    /// Returns the one message of a run that must have failed with `status`, said nothing on stdout, and known
    /// a fix.
    pub(crate) fn only_one(outcome: &Outcome, status: i32) -> Self {
        assert_eq!((outcome.status, outcome.stdout.as_str()), (status, ""), "{outcome}");
        let mut messages = Self::all_of(outcome);
        assert!(messages.len() == 1, "one message expected\n{outcome}");
        let message = messages.remove(0);
        assert!(!message.fixes.is_empty(), "a way on expected\n{outcome}");
        message
    }

    /// Returns whether `word` is anywhere in it.
    pub(crate) fn names(&self, word: &str) -> bool {
        let lines = [&self.places, &self.reasons, &self.fixes].into_iter().flatten();
        lines.chain([&self.what]).any(|line| line.contains(word))
    }
}
