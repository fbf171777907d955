//! Events of transfers -> lines on standard error, or one line that changes.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::args::ProgressName;
use crate::observer::{Direction, Event, Hitch, NameOutcome, Observer};
use crate::oci::Descriptor;
use crate::summary::size;

/// How often the line that changes is drawn again.
const REDRAW: Duration = Duration::from_millis(100);
/// How often lines that stay say how far a blob is.
const STEP: Duration = Duration::from_secs(5);
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
    /// How many blobs have arrived, and their size.
    arrived: (usize, u64),
    /// What each host was last waited for, and until when.
    waits: BTreeMap<String, (Hitch, Instant)>,
    drawn: Option<Instant>,
    is_line_open: bool,
}

struct Moving {
    bytes: u64,
    size: u64,
    since: Instant,
    /// When a line was last written about it.
    told: Instant,
    direction: Direction,
}

impl Moving {
    /// Returns how many bytes a second have moved so far.
    fn rate(&self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.since).as_secs_f64().max(0.1);
        (self.bytes as f64 / time) as u64
    }
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
                let moving = Moving { bytes: 0, size: blob.size(), since: now, told: now, direction };
                self.moving.insert(blob.digest().to_string(), moving);
                None
            }
            Event::Advanced { blob, bytes } => {
                let moving = self.moving.get_mut(blob.digest().as_ref());
                moving.and_then(|moving| {
                    moving.bytes = bytes;
                    let is_due = form == Form::Plain && now.saturating_duration_since(moving.told) >= STEP;
                    is_due.then(|| {
                        moving.told = now;
                        let (bytes, all, rate) = (size(bytes), size(moving.size), size(moving.rate(now)));
                        format!("{}: {bytes} of {all} ({rate}/s)", short(blob))
                    })
                })
            }
            Event::Finished { blob } => self.moving.remove(blob.digest().as_ref()).map(|moving| {
                self.arrived = (self.arrived.0 + 1, self.arrived.1.saturating_add(moving.size));
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
            Event::Waiting { host, hitch, pause } => self.waits(host, hitch, pause, now).then(|| {
                let what = match hitch {
                    Hitch::Status(status) => format!("{host} answers {status}"),
                    Hitch::Unreachable => format!("{host} cannot be reached"),
                    Hitch::Broken => format!("the connection to {host} broke"),
                    Hitch::Silence => format!("{host} does not answer"),
                };
                format!("{what}: trying again in {:.0} s", pause.as_secs_f64())
            }),
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

    /// Notes a pause, and returns whether it is news: blobs that move side by side run into the same thing.
    fn waits(&mut self, host: &str, hitch: Hitch, pause: Duration, now: Instant) -> bool {
        let known = self.waits.get(host).filter(|(known, until)| *known == hitch && *until > now);
        let is_news = pause >= PAUSE && known.is_none();
        if is_news {
            self.waits.insert(host.to_owned(), (hitch, now + pause));
        }
        is_news
    }

    /// Returns the line that changes: about all that has moved so far, so that it never counts back.
    fn line(&self, now: Instant) -> String {
        let (count, size_of_arrived) = self.arrived;
        let sum =
            |of: fn(&Moving) -> u64| self.moving.values().map(of).fold(size_of_arrived, u64::saturating_add);
        let (bytes, all) = (sum(|moving| moving.bytes), sum(|moving| moving.size));
        let rate = self.moving.values().map(|moving| moving.rate(now)).fold(0, u64::saturating_add);
        let blobs = match count + self.moving.len() {
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

    const START: &[u8] = b"";
    const OTHER: &[u8] = b"other";

    /// Returns what is written about `events`, each with its time in milliseconds.
    fn told(form: Form, events: &[(u64, Event<'_>)]) -> String {
        let (start, mut state) = (Instant::now(), State::default());
        let note =
            |(time, event): &(u64, Event<'_>)| state.note(*event, start + Duration::from_millis(*time), form);
        events.iter().map(note).collect()
    }

    fn blob(bytes: &[u8], size: u64) -> Descriptor {
        descriptor(MediaType::ImageLayerGzip, Digest::of(bytes), size)
    }

    #[test]
    fn each_transfer_is_a_line() {
        let blob = blob(START, 5_000_000);
        let reference = "registry.example/app:1".parse().unwrap();
        let events = [
            (0, Event::Started { blob: &blob, direction: Direction::Push }),
            (50, Event::Advanced { blob: &blob, bytes: 1_000_000 }),
            (1000, Event::Advanced { blob: &blob, bytes: 2_000_000 }),
            (2000, Event::Finished { blob: &blob }),
            (2000, Event::AlreadyThere { blob: &blob }),
            (2000, Event::Mounted { blob: &blob, from: "team/base" }),
            (2000, Event::Named { reference: &reference, outcome: NameOutcome::Retagged }),
        ];
        let lines = "  sha256:e3b0c44298fc: pushed 5.0 MB in 2.0 s (2.5 MB/s)
  sha256:e3b0c44298fc: 5.0 MB already there
  sha256:e3b0c44298fc: 5.0 MB mounted from team/base
  registry.example/app:1: retagged
";
        assert_eq!(told(Form::Plain, &events), lines);
        let changing =
            "  0 bytes of 5.0 MB in 1 blob, 0 bytes/s\r\x1b[K  2.0 MB of 5.0 MB in 1 blob, 2.0 MB/s\r\x1b[K";
        assert_eq!(told(Form::Changing, &events), format!("{changing}{lines}"));
    }

    #[test]
    fn a_long_transfer_is_told_of_on_its_way() {
        let blob = blob(START, 90_000_000);
        let advanced = |bytes| Event::Advanced { blob: &blob, bytes };
        let events = [
            (0, Event::Started { blob: &blob, direction: Direction::Pull }),
            (4_900, advanced(9_000_000)),
            (5_000, advanced(10_000_000)),
            (5_100, advanced(11_000_000)),
            (10_100, advanced(30_300_000)),
        ];
        assert_eq!(
            told(Form::Plain, &events),
            "  sha256:e3b0c44298fc: 10.0 MB of 90.0 MB (2.0 MB/s)
  sha256:e3b0c44298fc: 30.3 MB of 90.0 MB (3.0 MB/s)
"
        );
    }

    #[test]
    fn the_total_never_shrinks() {
        let (first, second) = (blob(START, 5_000_000), blob(OTHER, 7_000_000));
        let events = [
            (0, Event::Started { blob: &first, direction: Direction::Push }),
            (0, Event::Started { blob: &second, direction: Direction::Push }),
            (1000, Event::Advanced { blob: &second, bytes: 1_000_000 }),
            (2000, Event::Finished { blob: &first }),
            (3000, Event::Finished { blob: &second }),
        ];
        assert_eq!(
            told(Form::Changing, &events).replace("\r\x1b[K", "\n"),
            "  0 bytes of 5.0 MB in 1 blob, 0 bytes/s
  1.0 MB of 12.0 MB in 2 blobs, 1.0 MB/s
  sha256:e3b0c44298fc: pushed 5.0 MB in 2.0 s (2.5 MB/s)
  6.0 MB of 12.0 MB in 2 blobs, 500.0 kB/s
  sha256:d9298a10d1b0: pushed 7.0 MB in 3.0 s (2.3 MB/s)
"
        );
    }

    #[test]
    fn a_pause_is_told_once_and_why() {
        let waiting = |hitch, seconds| {
            let pause = Duration::from_secs(seconds);
            Event::Waiting { host: "r.example", hitch, pause }
        };
        let events = [
            (0, waiting(Hitch::Status(503), 0)),
            (0, waiting(Hitch::Status(429), 5)),
            (100, waiting(Hitch::Status(429), 5)),
            (200, waiting(Hitch::Broken, 2)),
            (2300, waiting(Hitch::Broken, 4)),
            (9000, waiting(Hitch::Silence, 1)),
            (9000, waiting(Hitch::Unreachable, 1)),
        ];
        assert_eq!(
            told(Form::Plain, &events),
            "  r.example answers 429: trying again in 5 s
  the connection to r.example broke: trying again in 2 s
  the connection to r.example broke: trying again in 4 s
  r.example does not answer: trying again in 1 s
  r.example cannot be reached: trying again in 1 s
"
        );
    }
}
