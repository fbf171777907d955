//! Events of transfers -> lines on standard error, or one line that changes.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::args::ProgressName;
use super::size;
use crate::observer::{Direction, Event, NameOutcome, Observer};
use crate::oci::Descriptor;

/// How often the line that changes is drawn again.
const REDRAW: Duration = Duration::from_millis(100);
/// Pauses shorter than this are not worth a line.
const PAUSE: Duration = Duration::from_secs(1);

/// Draws what moves.
pub(super) struct Progress {
    form: Form,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Quiet,
    Plain,
    Changing,
}

#[derive(Default)]
struct State {
    /// What is on its way, by digest.
    moving: BTreeMap<String, Moving>,
    drawn: Option<Instant>,
    is_line_open: bool,
}

struct Moving {
    bytes: u64,
    size: u64,
    since: Instant,
    direction: Direction,
}

impl Progress {
    pub(super) fn new(name: ProgressName) -> Self {
        let form = match name {
            ProgressName::Quiet => Form::Quiet,
            ProgressName::Plain => Form::Plain,
            ProgressName::Tty => Form::Changing,
            ProgressName::Auto if io::stderr().is_terminal() => Form::Changing,
            ProgressName::Auto => Form::Plain,
        };
        Self { form, state: Mutex::default() }
    }
}

impl Observer for Progress {
    fn event(&self, event: Event<'_>) {
        if self.form == Form::Quiet {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let text = state.note(event, Instant::now(), self.form);
        // If standard error is gone, there is nobody to tell.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

impl State {
    /// Takes an event in, and returns what to write.
    fn note(&mut self, event: Event<'_>, now: Instant, form: Form) -> String {
        let line = match event {
            Event::Started { blob, direction } => {
                let moving = Moving { bytes: 0, size: blob.size(), since: now, direction };
                self.moving.insert(blob.digest().to_string(), moving);
                None
            }
            Event::Advanced { blob, bytes } => {
                if let Some(moving) = self.moving.get_mut(blob.digest().as_ref()) {
                    moving.bytes = bytes;
                }
                None
            }
            Event::Finished { blob } => self.moving.remove(blob.digest().as_ref()).map(|moving| {
                let verb = match moving.direction {
                    Direction::Push => "pushed",
                    Direction::Pull => "pulled",
                };
                let time = now.saturating_duration_since(moving.since);
                let rate = moving.size as f64 / time.as_secs_f64().max(1e-3);
                let (size, rate) = (size(moving.size), size(rate as u64));
                format!("{}: {verb} {size} in {:.1} s ({rate}/s)", short(blob), time.as_secs_f64())
            }),
            Event::AlreadyThere { blob } => {
                Some(format!("{}: {} already there", short(blob), size(blob.size())))
            }
            Event::Mounted { blob, from } => {
                Some(format!("{}: {} mounted from {from}", short(blob), size(blob.size())))
            }
            Event::Named { reference, outcome } => Some(match outcome {
                NameOutcome::Pushed => format!("{reference}: pushed"),
                NameOutcome::Retagged => format!("{reference}: retagged"),
                NameOutcome::AlreadyThere => format!("{reference}: already there"),
            }),
            Event::Waiting { host, pause } if pause >= PAUSE => {
                Some(format!("{host} is busy or out of reach: trying again in {:.0} s", pause.as_secs_f64()))
            }
            Event::Waiting { .. } => None,
        };
        let mut text = String::new();
        let is_due = self.drawn.is_none_or(|drawn| now.saturating_duration_since(drawn) >= REDRAW);
        if self.is_line_open && (line.is_some() || self.moving.is_empty() || is_due) {
            text.push_str("\r\x1b[K");
            self.is_line_open = false;
        }
        if let Some(line) = line {
            text.push_str(&format!("  {line}\n"));
        }
        if form == Form::Changing && !self.is_line_open && !self.moving.is_empty() {
            text.push_str(&self.line(now));
            self.is_line_open = true;
            self.drawn = Some(now);
        }
        text
    }

    /// Returns the line that changes.
    fn line(&self, now: Instant) -> String {
        let sum = |of: fn(&Moving) -> u64| self.moving.values().map(of).fold(0, u64::saturating_add);
        let (bytes, all) = (sum(|moving| moving.bytes), sum(|moving| moving.size));
        let rates = self.moving.values().map(|moving| {
            let time = now.saturating_duration_since(moving.since).as_secs_f64().max(0.1);
            moving.bytes as f64 / time
        });
        let rate = rates.sum::<f64>() as u64;
        let blobs = match self.moving.len() {
            1 => "1 blob".to_owned(),
            several => format!("{several} blobs"),
        };
        format!("  {} of {} in {blobs}, {}/s", size(bytes), size(all), size(rate))
    }
}

/// Returns as much of a digest as people compare.
fn short(blob: &Descriptor) -> String {
    blob.digest().to_string().chars().take("sha256:".len() + 12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Digest, MediaType, descriptor};

    fn told(form: Form) -> String {
        let blob = descriptor(MediaType::ImageLayerGzip, Digest::of(b""), 5_000_000);
        let start = Instant::now();
        let reference = "registry.example/app:1".parse().unwrap();
        let mut state = State::default();
        let events = [
            (0, Event::Started { blob: &blob, direction: Direction::Push }),
            (50, Event::Advanced { blob: &blob, bytes: 1_000_000 }),
            (1000, Event::Advanced { blob: &blob, bytes: 2_000_000 }),
            (2000, Event::Finished { blob: &blob }),
            (2000, Event::AlreadyThere { blob: &blob }),
            (2000, Event::Mounted { blob: &blob, from: "team/base" }),
            (2000, Event::Waiting { host: "registry.example", pause: Duration::from_millis(10) }),
            (2000, Event::Waiting { host: "registry.example", pause: Duration::from_secs(2) }),
            (2000, Event::Named { reference: &reference, outcome: NameOutcome::Retagged }),
        ];
        events
            .into_iter()
            .map(|(time, event)| state.note(event, start + Duration::from_millis(time), form))
            .collect()
    }

    #[test]
    fn each_transfer_is_a_line() {
        let lines = "  sha256:e3b0c44298fc: pushed 5.0 MB in 2.0 s (2.5 MB/s)
  sha256:e3b0c44298fc: 5.0 MB already there
  sha256:e3b0c44298fc: 5.0 MB mounted from team/base
  registry.example is busy or out of reach: trying again in 2 s
  registry.example/app:1: retagged
";
        assert_eq!(told(Form::Plain), lines);
        let changing =
            "  0 bytes of 5.0 MB in 1 blob, 0 bytes/s\r\x1b[K  2.0 MB of 5.0 MB in 1 blob, 2.0 MB/s\r\x1b[K";
        assert_eq!(told(Form::Changing), format!("{changing}{lines}"));
    }
}
