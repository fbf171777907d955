//! A command -> what came out of it, in a form that tests compare and people read.

use std::fmt;
use std::process::{Command, Stdio};

/// What a finished command left: how it ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The command, as a person would type it.
    pub(crate) command: String,
    /// The exit code; a signal shows as 128 + its number, as in a shell.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Runs `command` to its end, with nothing to read.
    pub(crate) fn of(command: &mut Command) -> Self {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        let shown = words.map(|word| word.display().to_string()).collect::<Vec<_>>().join(" ");
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{shown}: {error}"));
        let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
        Self {
            command: shown,
            status: output.status.code().or(signal.map(|signal| 128 + signal)).expect("it ended"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Returns the outcome if the command succeeded; the test fails if it did not.
    pub(crate) fn success(self) -> Self {
        assert!(self.status == 0, "{self}");
        self
    }

    /// Returns what a comparison with the same program elsewhere looks at.
    pub(crate) fn visible(&self) -> String {
        format!("exit {}\n{}", self.status, self.stdout)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { command, status, stdout, stderr } = self;
        write!(f, "$ {command}\n{stdout}--- stderr\n{stderr}--- exit {status}")
    }
}

/// Returns how two texts differ, both in full, or `None` if they are the same.
pub(crate) fn difference(what: &str, left: (&str, &str), right: (&str, &str)) -> Option<String> {
    let shown = |(name, text): (&str, &str)| format!("--- {name}\n{}\n", text.trim_end_matches('\n'));
    (left.1 != right.1).then(|| format!("{what}\n{}{}---", shown(left), shown(right)))
}

/// Fails with every difference at once.
pub(crate) fn none_of(differences: impl IntoIterator<Item = String>) {
    let differences: Vec<String> = differences.into_iter().collect();
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}
