//! The loop without a fuzzer: mutate, check, keep what is new, watch time and memory.

use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use crate::memory::peak_of;
use crate::mutate::{Random, mutate};

/// What one check may have in use at most, in bytes: inputs have up to 64 KiB.
const MEMORY_MAX: usize = 64 << 20;
/// How long one check may take.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How many inputs are kept to mutate further.
const KEPT_MAX: usize = 10_000;

struct Options {
    seconds: u64,
    seed: u64,
    files: Vec<PathBuf>,
}

/// Runs the target `name` as its arguments say: on files, or on mutants for some seconds.
pub fn run(name: &str, check: fn(&[u8]) -> u64, seeds: Vec<Vec<u8>>) -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\nusage: {name} [--seconds N] [--seed N] [FILE...]");
            return ExitCode::from(2);
        }
    };
    if !options.files.is_empty() {
        for path in &options.files {
            let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            println!("{}: {:016x}", path.display(), check(&bytes));
        }
        return ExitCode::SUCCESS;
    }
    println!("{name}: {} seconds, --seed {}", options.seconds, options.seed);
    let mut random = Random::new(options.seed);
    let mut kept = seeds;
    // Every seed must pass as it is.
    let mut seen: HashSet<u64> = kept.iter().map(|seed| check(seed)).collect();
    let start = Instant::now();
    let (mut count, mut slowest, mut largest) = (0_u64, Duration::ZERO, 0);
    while start.elapsed().as_secs() < options.seconds {
        let mut bytes = kept[random.below(kept.len())].clone();
        let other = kept[random.below(kept.len())].clone();
        mutate(&mut bytes, &other, &mut random);
        let before = Instant::now();
        let (outcome, memory) = peak_of(|| catch_unwind(AssertUnwindSafe(|| check(&bytes))));
        let time = before.elapsed();
        count += 1;
        slowest = slowest.max(time);
        largest = largest.max(memory);
        let problem = match outcome {
            Err(_) => Some("it panicked".to_owned()),
            Ok(_) if memory > MEMORY_MAX => Some(format!("it had {memory} bytes in use")),
            Ok(_) if time > TIME_MAX => Some(format!("it took {time:?}")),
            Ok(signature) => {
                if seen.insert(signature) && kept.len() < KEPT_MAX {
                    kept.push(bytes.clone());
                }
                None
            }
        };
        if let Some(problem) = problem {
            let path = artifact(name, count, &bytes);
            eprintln!("{name}: check {count}: {problem}; the input is in {path}");
            return ExitCode::FAILURE;
        }
    }
    println!(
        "{name}: {count} checks, {} kinds, slowest {slowest:?}, at most {} KiB in use, nothing found",
        seen.len(),
        largest >> 10
    );
    ExitCode::SUCCESS
}

fn options(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut options = Options { seconds: 20, seed: clock.as_nanos() as u64, files: Vec::new() };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or(format!("{word} needs a number"))?;
            value.parse().map_err(|_| format!("{value} is not a number"))
        };
        match word.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            file => options.files.push(PathBuf::from(file)),
        }
    }
    Ok(options)
}

fn artifact(name: &str, count: u64, bytes: &[u8]) -> String {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
    let path = directory.join(format!("plain-{count}"));
    match fs::create_dir_all(&directory).and_then(|()| fs::write(&path, bytes)) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("no file ({error}): {bytes:02x?}"),
    }
}
