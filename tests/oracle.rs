//! A root filesystem on the disk -> what its own loader says, asked in a chroot.
//!
//! No root is needed where the kernel grants user namespaces. The loader is asked to trace (ld.so(8), and `--list` of
//! musl), so that nothing of the tree runs but its loader.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use minimage::formats::elf::Elf;
use minimage::path::show;
use minimage::resolve::Linkage;
use minimage::rootfs::HostRootfs;
use minimage::spec::{Hwcaps, Search};

use crate::answer::{Linked, linked};

/// What a loader makes of a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapped {
    /// The names asked for and the paths found, in order.
    pub libraries: Vec<(String, String)>,
    pub missing: BTreeSet<String>,
    /// The file that made it give up: its path, or, from glibc at times, the name that it was asked by.
    pub refused: Option<String>,
}

/// Returns the bytes of this machine's own loader of a kind for `machine`, if it has one.
pub fn host_loader(is_musl: bool, machine: u16) -> Option<Vec<u8>> {
    let path = if is_musl { "/lib/ld-musl-x86_64.so.1" } else { "/lib64/ld-linux-x86-64.so.2" };
    (machine == 62 && cfg!(target_arch = "x86_64")).then(|| fs::read(path).ok()).flatten()
}

/// How to get into a chroot here; the error says why there is no way.
pub fn chroot_prefix() -> Result<Vec<&'static str>, String> {
    for prefix in [Vec::new(), vec!["unshare", "--user", "--map-root-user"]] {
        let scratch = tempfile::tempdir().expect("a directory");
        let mut command = in_chroot(&prefix, scratch.path(), "/nothing", &[], &[]);
        let output = command.output().map_err(|error| format!("{}: {error}", prefix.join(" ")))?;
        // The helper got in if all that it lacks is a program.
        if String::from_utf8_lossy(&output.stderr).contains("cannot start /nothing") {
            return Ok(prefix);
        }
    }
    Err("neither root nor user namespaces".to_owned())
}

/// Returns the command that runs `program` with the root `top` and nothing but `variables` in its environment.
pub fn in_chroot(
    prefix: &[&str],
    top: &Path,
    program: &str,
    arguments: &[Vec<u8>],
    variables: &[(String, Vec<u8>)],
) -> Command {
    // The variables of a loader must reach the program, not what leads there; so the test binary leads there itself.
    let helper = std::env::current_exe().expect("the test binary has a path");
    let mut command = match prefix {
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(helper);
            command
        }
        [] => Command::new(helper),
    };
    command.args(["--exact", "oracle::helper", "--ignored", "--nocapture"]);
    command.env_remove("MINIMAGE_REQUIRE").env("CHROOT_TOP", top).env("CHROOT_PROGRAM", program);
    command.env("CHROOT_ARGUMENTS", OsStr::from_bytes(&arguments.join(&b'\n')));
    for (name, value) in variables {
        command.env(format!("CHROOT_ENV_{name}"), OsStr::from_bytes(value));
    }
    command
}

#[test]
#[ignore = "not a test, but what other tests start to get into a chroot"]
fn helper() {
    let (Some(top), Ok(program)) = (std::env::var_os("CHROOT_TOP"), std::env::var("CHROOT_PROGRAM")) else {
        return;
    };
    rustix::process::chroot(top.as_os_str()).expect("chroot");
    std::env::set_current_dir("/").expect("the new root");
    let arguments = std::env::var_os("CHROOT_ARGUMENTS").unwrap_or_default().into_vec();
    let arguments = arguments.split(|byte| *byte == b'\n').filter(|argument| !argument.is_empty());
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.to_str()?.strip_prefix("CHROOT_ENV_")?.to_owned(), value)));
    let mut command = Command::new(&program);
    command.args(arguments.map(|argument| OsString::from_vec(argument.to_vec())));
    command.env_clear().envs(variables.collect::<Vec<_>>());
    loop {
        let error = command.exec();
        // Between fork and exec, a child of another test holds what its parent has open for writing.
        let is_busy = error.kind() == std::io::ErrorKind::ExecutableFileBusy;
        assert!(is_busy, "cannot start {program}: {error}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Returns what the loader `interp` in `top` says of the object at `path`.
pub fn truth(prefix: &[&str], top: &Path, interp: &str, path: &[u8], search: &Search) -> Mapped {
    let is_musl = interp.contains("ld-musl");
    let mut variables = Vec::new();
    if let Some(value) = &search.library_path {
        variables.push(("LD_LIBRARY_PATH".to_owned(), value.clone()));
    }
    if let Some(value) = &search.preload {
        variables.push(("LD_PRELOAD".to_owned(), value.clone()));
    }
    let mut arguments = Vec::new();
    if is_musl {
        arguments.push(b"--list".to_vec());
    } else {
        variables.push(("LD_TRACE_LOADED_OBJECTS".to_owned(), b"1".to_vec()));
        let loader = fs::read(top.join(interp.trim_start_matches('/'))).unwrap_or_default();
        // Since 2.33.
        if loader.windows(17).any(|window| window == b"glibc-hwcaps-mask") {
            let mask = match &search.hwcaps {
                Hwcaps::Levels(levels) => levels.join(&b':'),
                Hwcaps::All => Vec::new(),
            };
            let mask = if mask.is_empty() { b"none".to_vec() } else { mask };
            arguments.extend([b"--glibc-hwcaps-mask".to_vec(), mask]);
        }
    }
    arguments.push(path.to_vec());
    let output = in_chroot(prefix, top, interp, &arguments, &variables).output().expect("the loader starts");
    parse(&output, interp)
}

/// Returns each line as minimage shows names.
fn show_lines(bytes: &[u8]) -> String {
    bytes.split(|byte| *byte == b'\n').map(|line| show(line).replace("\\t", "\t") + "\n").collect()
}

fn parse(output: &Output, interp: &str) -> Mapped {
    let (stdout, stderr) = (show_lines(&output.stdout), show_lines(&output.stderr));
    let mut mapped = Mapped::default();
    let without_address = |text: &str| text.rsplit_once(" (0x").map_or(text, |(path, _)| path).to_owned();
    for line in stdout.lines().filter_map(|line| line.strip_prefix('\t')) {
        match line.split_once(" => ") {
            Some((name, "not found")) => {
                mapped.missing.insert(name.to_owned());
            }
            Some((name, path)) => mapped.libraries.push((name.to_owned(), without_address(path))),
            None if line.contains(" (0x") => {
                let path = without_address(line);
                mapped.libraries.push((path.clone(), path));
            }
            None => {}
        }
    }
    mapped.libraries.retain(|(name, path)| path != interp && !name.starts_with("linux-vdso"));
    for line in stderr.lines() {
        // "PROGRAM: error while loading shared libraries: PATH: REASON"
        if let Some((_, rest)) = line.split_once("error while loading shared libraries: ") {
            mapped.refused = Some(rest.split(": ").next().unwrap_or(rest).to_owned());
            mapped.libraries.clear();
        }
        if let Some(rest) = line.strip_prefix("Error loading shared library ") {
            mapped.missing.insert(rest.split(": ").next().unwrap_or(rest).to_owned());
        }
    }
    mapped
}

impl Mapped {
    /// Returns whether the loader's answer `truth` is the same as this one.
    pub fn agrees(&self, truth: &Self) -> bool {
        let name = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
        let refusal = match (&self.refused, &truth.refused) {
            (Some(ours), Some(theirs)) => ours == theirs || name(ours) == *theirs,
            (ours, theirs) => ours == theirs,
        };
        refusal && (&self.libraries, &self.missing) == (&truth.libraries, &truth.missing)
    }
}

/// Returns what minimage says of the same, and the loader to ask.
pub fn ours(top: &Path, path: &[u8], search: &Search) -> (Mapped, Option<String>) {
    let rootfs = HostRootfs::open_directory(top).expect("a directory");
    match linked(&rootfs, path, search) {
        Linked::Fine(Linkage::Dynamic { interp, list, .. }) => {
            let libraries =
                list.libraries().map(|(_, loaded)| (show(&loaded.asked_as), show(loaded.name.as_bytes())));
            let missing = list.missing.iter().map(|missing| show(&missing.soname)).collect();
            let mapped = Mapped { libraries: libraries.collect(), missing, ..Mapped::default() };
            (mapped, Some(interp.to_string()))
        }
        Linked::Refused(error) => {
            let refused = match &error {
                minimage::resolve::ResolveError::Incomplete { problems } => match problems.as_slice() {
                    [minimage::resolve::Problem::Unloadable { fatal, .. }, ..] => {
                        Some(fatal.path.to_string())
                    }
                    _ => None,
                },
                _ => None,
            };
            (Mapped { refused, ..Mapped::default() }, interp_of(top, path))
        }
        _ => (Mapped::default(), interp_of(top, path)),
    }
}

/// Returns the loader that the object at `path` names, else the usual one.
fn interp_of(top: &Path, path: &[u8]) -> Option<String> {
    let bytes = fs::read(crate::tree_text::host_path(top, path)).ok()?;
    let elf = Elf::parse(&bytes.as_slice()).ok()?;
    Some(elf.interp.map_or_else(|| "/lib64/ld-linux-x86-64.so.2".to_owned(), |interp| show(&interp)))
}
