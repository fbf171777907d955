//! Commands that stay -> running daemons, with logs that show only when a test fails.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a daemon may take until it serves; generous, as the machine may be busy building.
const START: Duration = Duration::from_secs(120);

/// A running daemon. Killed when dropped.
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    log: Log,
    reader: Option<JoinHandle<()>>,
}

/// What a daemon has said so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<String>>);

impl Log {
    fn add(&self, line: &str) {
        let mut text = self.0.lock().unwrap();
        text.push_str(line);
        text.push('\n');
    }

    /// Returns all of it.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Daemon {
    /// Starts `command` and waits for the line of its log in which `ready` finds what clients need to know.
    ///
    /// # Errors
    /// The daemon's log, if it ends or the time is up before such a line.
    pub(crate) fn start<Address: Send + 'static>(
        name: &'static str,
        command: &mut Command,
        ready: impl Fn(&str) -> Option<Address> + Send + 'static,
    ) -> Result<(Self, Address), String> {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::default();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, receiver) = mpsc::channel();
        let reader = thread::spawn({
            let log = log.clone();
            move || {
                let mut sender = Some(sender);
                for line in lines.map_while(Result::ok) {
                    log.add(&line);
                    if let Some(address) = ready(&line)
                        && let Some(sender) = sender.take()
                    {
                        let _ = sender.send(address); // nobody waits any more if the time was up
                    }
                }
            }
        });
        let mut daemon = Self { name, child, log, reader: Some(reader) };
        match receiver.recv_timeout(START) {
            Ok(address) => Ok((daemon, address)),
            Err(RecvTimeoutError::Disconnected) => {
                daemon.kill();
                Err(format!("{name} ended\n{}", daemon.log.text()))
            }
            Err(RecvTimeoutError::Timeout) => {
                daemon.kill();
                Err(format!("{name} does not get ready\n{}", daemon.log.text()))
            }
        }
    }

    /// Ends the daemon the hard way, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill(); // it may have ended before
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap(); // its log ends when its last process does
        }
    }

    /// Returns something that shows the log if the test that holds it fails.
    pub(crate) fn witness(&self) -> Witness {
        Witness { name: self.name, log: self.log.clone() }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Shows a daemon's log if it is dropped by a failing test.
pub(crate) struct Witness {
    name: &'static str,
    log: Log,
}

impl Drop for Witness {
    #[allow(clippy::print_stderr, reason = "libtest shows it with the failure")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of {}\n{}---", self.name, self.log.text());
        }
    }
}
