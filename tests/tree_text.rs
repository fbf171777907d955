//! `testdata/rootfs/*.tree` -> a root filesystem, in memory or on the disk, with the programs to look at.
//!
//! One line is one path, or a question; indented lines continue the one above; `#` starts a comment line.
//!
//! ```text
//! program /bin/hello                      the question: what does this program need?
//! library /usr/lib/libx.so                the same of a library by itself
//! file /opt/data                          keep this, with what it needs if it runs
//! member /opt/plugins/x.so                keep this, with what it needs as far as that is there
//! env LD_LIBRARY_PATH=/opt LD_PRELOAD=x   what the process would have in its environment
//! hwcaps x86-64-v3 x86-64-v2              for which CPU; `all` for each of them
//! dlopen recommended                      down to which level dlopen notes are followed; none if not said
//! hints                                   look up what strings in read-only data name
//! shared-libc                             take the files of the C library that every image has
//! assume-ldconfig                         take what ldconfig would write for the cache
//! include debian                          the lines of testdata/rootfs/base/debian
//! not-traced WHY                          the loader of this machine cannot be asked
//! /bin/hello elf needed=libc.so.6 runpath=$ORIGIN/../lib
//! /lib -> usr/lib                         a link
//! /bin/hi => /bin/hello                   a hard link
//! /etc/x file "content" mode=0644 uid=0 gid=0
//! /etc/y text "one line" "another"                     a file of lines
//! /d dir mode=0700
//! /f fifo
//! /lib/ld.so loader glibc=2.36 dirs=/lib/:/usr/lib/    a loader with what is compiled into it
//! /etc/ld.so.cache cache libz.so.1=/opt/libz.so.1
//! /var/lib/rpm/rpmdb.sqlite rpmdb package=bash version=5.2 release=1 arch=x86_64 file=/usr/bin/bash
//! ```
//!
//! Words may have parts in double quotes, with `\n`, `\t`, `\"`, `\\` and `\xff` in them; escapes work outside too.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use minimage::path::{RawPath, RootPath};
use minimage::rootfs::{Kind, MemoryRootfs, Node};
use minimage::roots::Keep;
use minimage::spec::{CacheSource, DlopenLevel, Hints, Hwcaps, LibcFiles, Preloads, Search};

use crate::cache_writer::{Format, Line, cache};
use crate::elf_text::{elf_of_words, loader_of_words};
use crate::rpm_writer::database_of_words;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    File(Vec<u8>),
    /// A loader, which a differential test replaces by the real one of the same machine.
    Loader {
        bytes: Vec<u8>,
        is_musl: bool,
        machine: u16,
    },
    Directory,
    Link(Vec<u8>),
    HardLink(Vec<u8>),
    Fifo,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub path: Vec<u8>,
    pub what: What,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub capability: Option<Vec<u8>>,
}

/// A root filesystem as text, and what to ask about it.
#[derive(Debug, Clone)]
pub struct Tree {
    pub name: String,
    pub programs: Vec<Vec<u8>>,
    pub libraries: Vec<Vec<u8>>,
    /// What an image of it has beside the programs.
    pub files: Vec<Keep>,
    pub search: Search,
    /// Why no real loader can be asked.
    pub not_traced: Option<String>,
    pub items: Vec<Item>,
}

/// Returns the directory with the fixtures.
pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

/// Returns all trees, by name.
pub fn all() -> Vec<Tree> {
    let directory = testdata().join("rootfs");
    let mut names: Vec<_> = fs::read_dir(&directory)
        .expect("testdata/rootfs can be listed")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tree"))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "there are trees in {}", directory.display());
    names.iter().map(|path| Tree::read(path)).collect()
}

impl Tree {
    /// Reads the tree in the file `path`.
    pub fn read(path: &Path) -> Self {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(&name, &text)
    }

    /// Reads the tree `text`.
    pub fn parse(name: &str, text: &str) -> Self {
        let mut tree = Self {
            name: name.to_owned(),
            programs: Vec::new(),
            libraries: Vec::new(),
            files: Vec::new(),
            search: Search {
                preloads: Preloads::AsInSource,
                dlopen: DlopenLevel::None,
                ..Search::standard()
            },
            not_traced: None,
            items: Vec::new(),
        };
        tree.add_lines(text);
        tree
    }

    fn add_lines(&mut self, text: &str) {
        for line in logical_lines(text) {
            let words = words(&line);
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            self.add_line(&words).unwrap_or_else(|problem| panic!("{}: {problem}: {line}", self.name));
        }
    }

    fn add_line(&mut self, words: &[&[u8]]) -> Result<(), String> {
        match words {
            [b"program", path] => self.programs.push(path.to_vec()),
            [b"library", path] => self.libraries.push(path.to_vec()),
            [b"file", path] => self.files.push(Keep::File(RawPath::new(*path))),
            [b"member", path] => self.files.push(Keep::Member(RawPath::new(*path))),
            [b"hwcaps", b"all"] => self.search.hwcaps = Hwcaps::All,
            [b"hwcaps", levels @ ..] => {
                self.search.hwcaps = Hwcaps::Levels(levels.iter().map(|level| level.to_vec()).collect());
            }
            [b"hints"] => self.search.hints = Hints::Find,
            [b"shared-libc"] => self.search.libc = LibcFiles::Shared,
            [b"assume-ldconfig"] => self.search.cache = CacheSource::AssumeLdconfig,
            [b"dlopen", level] => {
                self.search.dlopen = match *level {
                    b"none" => DlopenLevel::None,
                    b"required" => DlopenLevel::Required,
                    b"recommended" => DlopenLevel::Recommended,
                    b"suggested" => DlopenLevel::Suggested,
                    _ => return Err("unknown level".to_owned()),
                }
            }
            [b"not-traced", reason @ ..] => {
                self.not_traced = Some(String::from_utf8_lossy(&reason.join(&b' ')).into_owned());
            }
            [b"env", variables @ ..] => {
                for variable in variables {
                    match split_pair(variable)? {
                        (b"LD_LIBRARY_PATH", value) => self.search.library_path = Some(value.to_vec()),
                        (b"LD_PRELOAD", value) => self.search.preload = Some(value.to_vec()),
                        _ => return Err("unknown variable".to_owned()),
                    }
                }
            }
            [b"include", name] => {
                let path = testdata().join("rootfs/base").join(text(name)?);
                let text =
                    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                self.add_lines(&text);
            }
            [path, rest @ ..] if path.starts_with(b"/") => {
                let item = item(path, rest)?;
                // A later line about the same path wins: a tree may change what it includes.
                self.items.retain(|old| old.path != item.path);
                self.items.push(item);
            }
            _ => return Err("neither a path nor a directive".to_owned()),
        }
        Ok(())
    }

    /// Returns the tree as a root filesystem in memory.
    pub fn to_memory(&self) -> MemoryRootfs {
        let mut rootfs = MemoryRootfs::new(self.name.as_str());
        let normal = |path: &[u8]| {
            RootPath::from_normal(path).unwrap_or_else(|| panic!("{}: a path is not normal", self.name))
        };
        for item in &self.items {
            let (kind, bytes) = match &item.what {
                What::File(bytes) | What::Loader { bytes, .. } => (Kind::File, bytes.clone()),
                What::Directory => (Kind::Directory, Vec::new()),
                What::Link(target) => (Kind::Link(RawPath::new(target.as_slice())), Vec::new()),
                What::Fifo => (Kind::Special("a FIFO"), Vec::new()),
                What::HardLink(target) => {
                    rootfs.hard_link(&normal(&item.path), &normal(target));
                    continue;
                }
            };
            let node = Node {
                kind,
                mode: item.mode,
                uid: item.uid,
                gid: item.gid,
                capability: item.capability.clone(),
                ..Node::file(0)
            };
            rootfs.insert(&normal(&item.path), node, bytes);
        }
        rootfs
    }

    /// Writes the tree into the directory `top` of the host, except for owners and capabilities. `loader` gives the
    /// bytes to write for a loader: (is it musl's, `e_machine`).
    pub fn to_disk(&self, top: &Path, loader: impl Fn(bool, u16) -> Option<Vec<u8>>) {
        for item in &self.items {
            let host = host_path(top, &item.path);
            let above = host.parent().expect("below the top");
            let fine = |what: &str, result: std::io::Result<()>| {
                result.unwrap_or_else(|error| panic!("{}: {what} {}: {error}", self.name, host.display()));
            };
            fine("make what is above", fs::create_dir_all(above));
            match &item.what {
                What::File(bytes) => fine("write", fs::write(&host, bytes)),
                What::Loader { bytes, is_musl, machine } => {
                    fine("write", fs::write(&host, loader(*is_musl, *machine).as_ref().unwrap_or(bytes)));
                }
                What::Directory => fine("make", fs::create_dir_all(&host)),
                What::Link(target) => {
                    fine("link", symlink(std::ffi::OsStr::from_bytes(target), &host));
                }
                What::HardLink(target) => fine("link", fs::hard_link(host_path(top, target), &host)),
                What::Fifo => fine("make a FIFO at", make_fifo(&host)),
            }
            if matches!(item.what, What::File(_) | What::Loader { .. } | What::Directory) {
                fine("chmod", fs::set_permissions(&host, fs::Permissions::from_mode(item.mode)));
            }
        }
    }
}

fn make_fifo(path: &Path) -> std::io::Result<()> {
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o644));
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0)?)
}

/// Returns where the path `inside` is below `top`.
pub fn host_path(top: &Path, inside: &[u8]) -> PathBuf {
    top.join(std::ffi::OsStr::from_bytes(inside.strip_prefix(b"/").unwrap_or(inside)))
}

fn item(path: &[u8], words: &[&[u8]]) -> Result<Item, String> {
    let (mut mode, mut uid, mut gid, mut capability) = (None, 0, 0, None);
    let mut rest: Vec<&[u8]> = Vec::new();
    for word in words {
        match split_pair(word) {
            Ok((b"mode", value)) => {
                let value = u32::from_str_radix(text(value)?, 8).map_err(|error| error.to_string())?;
                mode = Some(value);
            }
            Ok((b"uid", value)) => uid = decimal(value)?,
            Ok((b"gid", value)) => gid = decimal(value)?,
            Ok((b"capability", value)) => capability = Some(value.to_vec()),
            _ => rest.push(word),
        }
    }
    let (what, default_mode) = match rest.as_slice() {
        [b"->", target] => (What::Link(target.to_vec()), 0o777),
        [b"=>", target] => (What::HardLink(target.to_vec()), 0o755),
        [b"file"] => (What::File(Vec::new()), 0o644),
        [b"file", content] => (What::File(content.to_vec()), 0o644),
        [b"text", lines @ ..] => {
            (What::File(lines.iter().flat_map(|line| [*line, b"\n"].concat()).collect()), 0o644)
        }
        [b"script", content] => (What::File(content.to_vec()), 0o755),
        [b"dir"] => (What::Directory, 0o755),
        [b"fifo"] => (What::Fifo, 0o644),
        [b"elf", words @ ..] => (What::File(elf_of_words(path, words)?.to_bytes()), 0o755),
        [b"loader", words @ ..] => {
            let (file, is_musl) = loader_of_words(path, words)?;
            (What::Loader { bytes: file.to_bytes(), is_musl, machine: file.machine }, 0o755)
        }
        [b"rpmdb", words @ ..] => (What::File(database_of_words(words)?), 0o644),
        [b"cache", words @ ..] => (What::File(cache_of_words(words)?), 0o644),
        _ => return Err("unknown kind of node".to_owned()),
    };
    let path = path.to_vec();
    Ok(Item { path, what, mode: mode.unwrap_or(default_mode), uid, gid, capability })
}

/// Reads `NAME=PATH[,flags=0x303][,level=x86-64-v2][,hwcap=4]`, one for each line, and `format=`.
fn cache_of_words(words: &[&[u8]]) -> Result<Vec<u8>, String> {
    let (mut format, mut is_big_endian, mut lines) = (Format::New, false, Vec::new());
    for word in words {
        match *word {
            b"format=new" => format = Format::New,
            b"format=old" => format = Format::Old,
            b"format=compat" => format = Format::Compat,
            b"big-endian" => is_big_endian = true,
            word => {
                let mut parts = word.split(|byte| *byte == b',');
                let (name, path) = split_pair(parts.next().unwrap_or_default())?;
                let mut line =
                    Line { name: name.to_vec(), path: path.to_vec(), flags: 0x303, level: None, hwcap: 0 };
                for part in parts {
                    match split_pair(part)? {
                        (b"flags", value) => line.flags = number(value)? as u32,
                        (b"hwcap", value) => line.hwcap = number(value)?,
                        (b"level", value) => line.level = Some(value.to_vec()),
                        _ => return Err("unknown part of a cache line".to_owned()),
                    }
                }
                lines.push(line);
            }
        }
    }
    Ok(cache(&lines, format, is_big_endian))
}

/// Splits `key=value`.
pub fn split_pair(word: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let at = word.iter().position(|byte| *byte == b'=').ok_or("not of the form key=value")?;
    Ok((&word[..at], &word[at + 1..]))
}

/// Returns `bytes` as text.
pub fn text(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|error| error.to_string())
}

fn decimal(bytes: &[u8]) -> Result<u32, String> {
    text(bytes)?.parse().map_err(|_| "not a decimal number".to_owned())
}

/// Reads a decimal number, or a hexadecimal one with `0x`.
pub fn number(bytes: &[u8]) -> Result<u64, String> {
    let text = text(bytes)?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("{text} is not a number"))
}

fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        match lines.last_mut().filter(|_| line.starts_with(' ')) {
            Some(last) => last.push_str(line),
            None => lines.push(line.to_owned()),
        }
    }
    lines
}

fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut is_quoted = false;
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            b' ' if !is_quoted => words.extend(word.take()),
            b'\\' => {
                let escaped = match bytes.next() {
                    Some(b'n') => b'\n',
                    Some(b't') => b'\t',
                    Some(b'r') => b'\r',
                    Some(b'x') => {
                        let digits = [bytes.next().unwrap_or(b'?'), bytes.next().unwrap_or(b'?')];
                        let digits = str::from_utf8(&digits).expect("hexadecimal digits");
                        u8::from_str_radix(digits, 16).expect("two hexadecimal digits")
                    }
                    Some(other) => other,
                    None => b'\\',
                };
                word.get_or_insert_default().push(escaped);
            }
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

#[test]
fn words_have_quotes_and_escapes() {
    let found = words(r#"/a\xff\x20b  file "one two\n" x="a \"b\"" "#);
    let expected: [&[u8]; 4] = [b"/a\xff b", b"file", b"one two\n", b"x=a \"b\""];
    assert_eq!(found, expected);
}
