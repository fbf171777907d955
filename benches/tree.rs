//! `cargo bench --bench tree`: the closure of one large program, beside the loader itself and other tools, in CPU time
//! of whole processes; and the cost of each object when thousands are asked for in one process.
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

const RUNS: usize = 21;
/// The largest programs that a Debian machine is likely to have.
const PROGRAMS: [&str; 4] = ["/usr/bin/gdb", "/usr/bin/ffmpeg", "/usr/bin/git", "/usr/bin/bash"];
const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";

fn main() -> ExitCode {
    let Some(program) = PROGRAMS.into_iter().find(|program| Path::new(program).is_file()) else {
        println!("skipped: none of {PROGRAMS:?} is installed");
        return ExitCode::SUCCESS;
    };
    let minimage = env!("CARGO_BIN_EXE_minimage");
    let tools: [(&str, &[&str]); 6] = [
        ("ld.so --list", &[LOADER, "--list", program]),
        ("minimage tree", &[minimage, "tree", program]),
        ("minimage tree --format json", &[minimage, "tree", "--format", "json", program]),
        ("libtree", &["libtree", "-pvv", program]),
        ("ldd", &["ldd", program]),
        ("lddtree", &["lddtree", program]),
    ];
    println!("{program}, CPU time of a process, median of {RUNS}, tools taking turns");
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); tools.len()];
    for _ in 0..RUNS {
        for (tool, times) in tools.iter().zip(&mut times) {
            times.extend(cpu_time(tool.1));
        }
    }
    let base = median(&mut times[0]);
    for ((name, _), times) in tools.iter().zip(&mut times) {
        match (median(times), base) {
            (Some(time), Some(base)) => {
                println!("  {name:<28} {:>8.2} ms  {:>6.2}x", millis(time), millis(time) / millis(base));
            }
            _ => println!("  {name:<28} skipped: not installed, or it fails"),
        }
    }
    many(minimage);
    ExitCode::SUCCESS
}

/// Prints the cost of each object over growing numbers of them.
fn many(minimage: &str) {
    let mut seen = HashSet::new();
    let mut objects: Vec<PathBuf> = ["/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu"]
        .iter()
        .flat_map(|directory| std::fs::read_dir(directory).into_iter().flatten().flatten())
        .filter_map(|entry| entry.path().canonicalize().ok())
        .filter(|path| is_elf(path) && seen.insert(path.clone()))
        .collect();
    objects.sort();
    println!("many objects in one process, CPU time for each");
    for count in [10, 100, 1000, 4000] {
        let count = count.min(objects.len());
        let step = objects.len() / count.max(1);
        let mut command: Vec<&str> = vec![minimage, "tree"];
        command.extend(objects.iter().step_by(step.max(1)).take(count).filter_map(|path| path.to_str()));
        let mut times: Vec<_> = (0..5).filter_map(|_| cpu_time(&command)).collect();
        if let Some(time) = median(&mut times) {
            println!("  {count:>5} objects {:>8.1} µs each", time.as_secs_f64() * 1e6 / count as f64);
        }
    }
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let read =
        std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut magic));
    read.is_ok() && &magic == b"\x7fELF"
}

/// Returns the CPU time of one run with all its children, or `None` if it cannot run.
fn cpu_time(command: &[&str]) -> Option<Duration> {
    let before = children()?;
    let mut process = Command::new(command.first()?);
    process.args(command.get(1..)?).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    process.status().ok().filter(|status| status.success())?;
    children()?.checked_sub(before)
}

fn children() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    let micros =
        [usage.user_time(), usage.system_time()].map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    Some(Duration::from_micros(micros.iter().sum::<i64>().try_into().ok()?))
}

fn median(times: &mut [Duration]) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
