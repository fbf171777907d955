//! The binary, run as somebody would run it: with nothing in its environment that a test did not put there.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No command of a test takes longer, unless it hangs.
const TIME_MAX: Duration = Duration::from_secs(30);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Returns the command `minimage`, with `home` for everything that it may want to keep.
pub fn minimage(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minimage"));
    isolate(&mut command, home);
    command
}

/// Takes everything out of the environment of `command` that could make a difference.
pub fn isolate(command: &mut Command, home: &Path) {
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", home)
        .env("XDG_CACHE_HOME", home.join("cache"));
    command.current_dir(home).stdin(Stdio::null());
}

/// Runs `command` to its end.
pub fn run(command: &mut Command) -> Outcome {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let (stdout, stderr) = (reader(child.stdout.take()), reader(child.stderr.take()));
    let code = wait(&mut child);
    let join = |reader: std::thread::JoinHandle<String>| reader.join().expect("the output is read");
    Outcome { code, stdout: join(stdout), stderr: join(stderr) }
}

fn reader<R: Read + Send + 'static>(pipe: Option<R>) -> std::thread::JoinHandle<String> {
    let mut pipe = pipe.expect("a pipe");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("the output can be read");
        String::from_utf8(bytes).expect("the output is text")
    })
}

fn wait(child: &mut Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the command can be waited for") {
            return status.code();
        }
        if start.elapsed() > TIME_MAX {
            child.kill().expect("the command can be killed");
            panic!("the command hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
