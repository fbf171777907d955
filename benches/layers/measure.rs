//! Commands -> medians of their times.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// Makes a command ready for one run: clears what the last one left, and says where its layout will be.
type Prepare<'a> = Box<dyn FnMut() -> (Command, Option<PathBuf>) + 'a>;

/// Something that is run again and again.
pub(crate) struct Runs<'a> {
    name: String,
    prepare: Prepare<'a>,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(name: &str, prepare: impl FnMut() -> (Command, Option<PathBuf>) + 'a) -> Self {
        Self { name: name.to_owned(), prepare: Box::new(prepare) }
    }
}

/// Medians: milliseconds, and megabytes of the largest blob.
pub(crate) struct Figures {
    pub(crate) name: String,
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
    pub(crate) blob: f64,
}

/// Runs everything in turn, `rounds` times over.
pub(crate) fn alternately(
    mut runs: Vec<Runs<'_>>,
    rounds: usize,
    blob: impl Fn(&Path) -> Option<u64>,
) -> Vec<Figures> {
    let mut times: Vec<(Vec<f64>, Vec<f64>, f64)> = runs.iter().map(|_| Default::default()).collect();
    for _ in 0..rounds {
        for (runs, (walls, cpus, size)) in runs.iter_mut().zip(&mut times) {
            let (mut command, layout) = (runs.prepare)();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let (before, start) = (children(), Instant::now());
            let status = command.status();
            let wall = start.elapsed();
            if !status.is_ok_and(|status| status.success()) {
                eprintln!("{}: {command:?} failed", runs.name);
                continue;
            }
            walls.push(wall.as_secs_f64() * 1e3);
            cpus.push(children().saturating_sub(before).as_secs_f64() * 1e3);
            if let Some(bytes) = layout.as_deref().and_then(&blob) {
                *size = bytes as f64 / 1e6;
            }
        }
    }
    let figures = runs.iter().zip(times).map(|(runs, (walls, cpus, blob))| Figures {
        name: runs.name.clone(),
        wall: median(walls),
        cpu: median(cpus),
        blob,
    });
    figures.collect()
}

fn children() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel counts");
    let micros =
        [usage.user_time(), usage.system_time()].map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    Duration::from_micros(micros.iter().sum::<i64>().unsigned_abs())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
