//! Commands -> the same commands in a namespace of our own, where every process and mount ends with this
//! process.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::outcome::Outcome;
use crate::requirement::path;

/// Processes and mounts that nobody else sees and that cannot outlive us. `keeper.sh` says how.
pub(crate) struct Sandbox {
    /// A script that runs its arguments as a command inside.
    entrance: PathBuf,
    directory: PathBuf,
    cgroup: String,
    /// Held for its standard input: the namespace ends when that is closed.
    _keeper: Child,
}

/// Returns the one sandbox of this run. Needs [`crate::requirement::ROOT`].
pub(crate) fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(Sandbox::start)
}

impl Sandbox {
    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("minimage-e2e.").tempdir().unwrap().keep();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        let script = directory.join("keeper.sh");
        fs::write(&script, include_str!("keeper.sh")).unwrap();
        let cgroup = directory.file_name().unwrap().to_str().unwrap().to_owned();

        let mut keeper = Command::new("sh")
            .arg(&script)
            .args([directory.as_os_str(), cgroup.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0) // an interrupt from the keyboard is for us; the keeper cleans up after us
            .spawn()
            .unwrap();
        let mut init = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut init).unwrap();
        if init.is_empty() {
            let mut log = String::new();
            keeper.stderr.take().unwrap().read_to_string(&mut log).unwrap();
            panic!("no namespaces here\n--- keeper\n{log}---");
        }
        let entrance = directory.join("inside");
        let enter = format!("nsenter --target {} --mount --root --wd --pid --", init.trim());
        fs::write(&entrance, format!("#!/bin/sh\nexec {enter} setpriv --pdeathsig KILL -- \"$@\"\n"))
            .unwrap();
        fs::set_permissions(&entrance, Permissions::from_mode(0o755)).unwrap();
        Self { entrance, directory, cgroup, _keeper: keeper }
    }

    /// Returns a command that runs `program` inside. It dies with whoever runs it, like any child should.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(&self.entrance);
        command
            .arg(program)
            // Not the user's configuration, credentials or sockets.
            .env_clear()
            .envs(path().map(|path| ("PATH", path)))
            .env("HOME", self.subdirectory("home"));
        command
    }

    /// Runs `program` inside, which must succeed.
    pub(crate) fn run<Word: AsRef<OsStr>>(
        &self,
        program: &str,
        words: impl IntoIterator<Item = Word>,
    ) -> Outcome {
        Outcome::of(self.command(program).args(words)).success()
    }

    /// Returns a directory of this run, made if it is not there; it goes with the sandbox.
    pub(crate) fn subdirectory(&self, name: impl AsRef<Path>) -> PathBuf {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// Returns the control group that containers belong to, from the top; removed with the sandbox.
    pub(crate) fn cgroup(&self) -> String {
        format!("/{}", self.cgroup)
    }
}
