//! `testdata/programs/*.c`: compiled, built into an image, and run in it; what the loader has mapped then is what
//! minimage says, in the same order.
//!
//! Comments lay a program out, libraries before their users:
//!
//! ```text
//! //# compiler musl-gcc
//! //# lib PATH [soname=] [needed=A,B] [rpath=] [runpath=] [flags=] [version-script=]
//! //# link PATH TARGET
//! //# main PATH …
//! //# any-order        the loader lists what it maps in another order than it finds it
//! ```
//!
//! Each part is compiled from the whole file, with `PART_main` or `PART_libq_so_1` defined.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use minimage::formats::elf::Elf;
use minimage::path::show;
use minimage::resolve::Linkage;
use minimage::rootfs::HostRootfs;
use minimage::spec::{Layering, Search};

use crate::answer::{Linked, linked};
use crate::command::run;
use crate::image_text::{image_of, layers};
use crate::oracle::{chroot_prefix, in_chroot};
use crate::require;
use crate::tree_text::{Tree, host_path, testdata};

/// One program as its comments lay it out.
struct Program {
    name: String,
    source: PathBuf,
    compiler: String,
    parts: Vec<Part>,
    links: Vec<(String, String)>,
    is_any_order: bool,
}

struct Part {
    path: String,
    is_main: bool,
    options: Vec<(String, String)>,
}

impl Part {
    fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }

    fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

fn read(source: &Path) -> Program {
    let text = fs::read_to_string(source).unwrap();
    let name = source.file_stem().unwrap().to_string_lossy().into_owned();
    let mut program = Program {
        name,
        source: source.to_owned(),
        compiler: "cc".to_owned(),
        parts: Vec::new(),
        links: Vec::new(),
        is_any_order: false,
    };
    for line in text.lines().filter_map(|line| line.strip_prefix("//# ")) {
        let words: Vec<_> = line.split(' ').collect();
        match words.as_slice() {
            ["compiler", compiler] => program.compiler = (*compiler).to_owned(),
            ["any-order"] => program.is_any_order = true,
            ["link", path, target] => program.links.push(((*path).to_owned(), (*target).to_owned())),
            [kind @ ("lib" | "main"), path, options @ ..] => {
                let pair =
                    |word: &&str| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
                let options = options.iter().map(|word| pair(word).expect("key=value")).collect();
                program.parts.push(Part { path: (*path).to_owned(), is_main: *kind == "main", options });
            }
            _ => panic!("{}: what is `{line}`?", program.name),
        }
    }
    program
}

/// Compiles `part` into `top`. The error says what the compiler says.
fn compile(program: &Program, part: &Part, top: &Path) -> Result<(), String> {
    let output = host_path(top, part.path.as_bytes());
    fs::create_dir_all(output.parent().unwrap()).unwrap();
    let mut command = Command::new(&program.compiler);
    command.arg("-o").arg(&output).arg(&program.source).arg("-I").arg(testdata().join("programs"));
    let name = if part.is_main { "main" } else { part.file_name() };
    command.arg(format!("-DPART_{}", name.replace(['.', '-'], "_")));
    if !part.is_main {
        let soname = part.option("soname").unwrap_or(part.file_name());
        command.args(["-shared", "-fPIC"]).arg(format!("-Wl,-soname,{soname}"));
    }
    // Their own needs are found when they are run, not now.
    command.arg("-Wl,--no-as-needed,--allow-shlib-undefined");
    for needed in part.option("needed").into_iter().flat_map(|names| names.split(',')) {
        let library =
            program.parts.iter().find(|part| part.file_name() == needed).expect("a part of that name");
        command.arg(host_path(top, library.path.as_bytes()));
    }
    for (key, flag) in [("rpath", "--disable-new-dtags"), ("runpath", "--enable-new-dtags")] {
        if let Some(path) = part.option(key) {
            command.arg(format!("-Wl,{flag},-rpath,{path}"));
        }
    }
    command.args(part.option("flags"));
    let script = tempfile::NamedTempFile::new().unwrap();
    if let Some(text) = part.option("version-script") {
        fs::write(script.path(), text).unwrap();
        command.arg(format!("-Wl,--version-script={}", script.path().display()));
    }
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// Puts the loader that the program names and the C library of this machine into `top`, where they are here.
fn put_libc(program: &Program, main: &Path, top: &Path) {
    let bytes = fs::read(main).unwrap();
    let elf = Elf::parse(&bytes.as_slice()).unwrap();
    let copy = |from: &Path| {
        let to = host_path(top, from.to_str().unwrap().as_bytes());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
    };
    if let Some(interp) = &elf.interp {
        copy(Path::new(str::from_utf8(interp).unwrap()));
        if program.compiler == "cc" {
            let output = Command::new("cc").arg("-print-file-name=libc.so.6").output().unwrap();
            let path = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
            let directory = path.parent().unwrap().canonicalize().unwrap();
            copy(&directory.join("libc.so.6"));
        }
    }
}

/// Returns what the loader has mapped in the running program, and what minimage says of it.
fn both(program: &Program, prefix: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
    let (top, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for part in &program.parts {
        compile(program, part, top.path())?;
    }
    for (path, target) in &program.links {
        symlink(target, host_path(top.path(), path.as_bytes())).unwrap();
    }
    let main = program.parts.last().unwrap();
    put_libc(program, &host_path(top.path(), main.path.as_bytes()), top.path());

    let rootfs = HostRootfs::open_directory(top.path()).unwrap();
    let search = Search::standard();
    let (interp, list) = match linked(&rootfs, main.path.as_bytes(), &search) {
        Linked::Fine(Linkage::Dynamic { interp, list, .. }) => (interp.to_string(), list),
        Linked::Fine(Linkage::Static) => (String::new(), Default::default()),
        Linked::NotElf(reason) => return Err(reason),
        Linked::Refused(error) => return Err(error.to_string()),
    };
    let mut ours: Vec<String> = list.libraries().map(|(_, loaded)| show(loaded.name.as_bytes())).collect();

    let mut tree = Tree::parse(&program.name, &format!("program {}", main.path));
    tree.search = search;
    let layout = tempfile::tempdir().unwrap();
    let made = image_of(&tree, &rootfs, layout.path(), Layering::Auto).ok_or("there is no image")?;
    for tar in layers(layout.path(), &made.digest) {
        tar::Archive::new(Cursor::new(tar)).unpack(image.path()).unwrap();
    }
    // Without /proc the loader knows the origin of a program only if it is told the path.
    let needs_path = main.options.iter().any(|(_, value)| value.contains("$ORIGIN"));
    let outcome = run(&mut match needs_path {
        true => in_chroot(prefix, image.path(), &interp, &[main.path.clone().into_bytes()], &[]),
        false => in_chroot(prefix, image.path(), &main.path, &[], &[]),
    });
    if outcome.code != Some(0) {
        return Err(format!("it ends with {:?}: {}{}", outcome.code, outcome.stdout, outcome.stderr));
    }
    // The lines of the harness come before the program is there.
    let is_other = |line: &&str| line.starts_with('/') && **line != interp && **line != main.path;
    let mut truth: Vec<String> = outcome.stdout.lines().filter(is_other).map(str::to_owned).collect();
    if program.is_any_order {
        ours.sort();
        truth.sort();
    }
    Ok((truth, ours))
}

#[test]
fn programs_load_in_their_image_what_we_say() {
    let prefix = match chroot_prefix() {
        Ok(prefix) => prefix,
        Err(reason) => return require::skip("chroot", &reason),
    };
    let mut sources: Vec<_> = fs::read_dir(testdata().join("programs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    sources.sort();
    let mut failures = Vec::new();
    for source in sources {
        let program = read(&source);
        if let Err(error) = Command::new(&program.compiler).arg("--version").output() {
            let component = if program.compiler == "cc" { "cc" } else { "musl" };
            require::skip(component, &format!("{}: {}: {error}", program.name, program.compiler));
            continue;
        }
        match both(&program, &prefix) {
            Ok((truth, ours)) if truth == ours => {}
            Ok((truth, ours)) => {
                failures.push(format!("{}\n  loader:   {truth:?}\n  minimage: {ours:?}", program.name));
            }
            Err(problem) => failures.push(format!("{}: {problem}", program.name)),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
