//! The bytes of a loader -> what its `./configure` compiled into it.

use crate::formats::elf::{ByteOrder, Class, Elf};
use crate::path::RawPath;

/// The largest loader that is read, in bytes; real ones have about 200 KiB, musl's 700.
pub(super) const LOADER_MAX: u64 = 64 << 20;

/// Which kind of loader a program asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    Glibc,
    Musl,
}

impl Flavour {
    /// Returns the kind of the loader called `interp`; musl's is always `ld-musl-ARCH.so.1`.
    pub(super) fn of(interp: &[u8]) -> Self {
        let has = |needle: &[u8]| interp.windows(needle.len()).any(|window| window == needle);
        if has(b"ld-musl") { Self::Musl } else { Self::Glibc }
    }
}

/// What was compiled into one glibc loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GlibcConf {
    /// The default directories, each with a slash at its end.
    pub(super) directories: Vec<Vec<u8>>,
    /// Where the cache is.
    pub(super) cache: RawPath,
    /// Where the list of objects to preload is.
    pub(super) preload: RawPath,
    /// The release, if the loader names it.
    pub(super) version: Option<(u32, u32)>,
    /// What `$LIB` means.
    pub(super) lib: Vec<u8>,
    /// Whether it looks into `glibc-hwcaps/` (2.33).
    pub(super) has_hwcaps: bool,
    /// Whether it looks into `tls/` and directories named after hwcaps (until 2.36).
    pub(super) has_legacy_hwcaps: bool,
}

impl GlibcConf {
    /// Returns what is compiled into the loader `bytes` of `class`.
    pub(super) fn read(bytes: &[u8], class: Class) -> Self {
        let directories = directories(bytes).unwrap_or_else(|| fallback_directories(class));
        let version = version(bytes);
        let has = |needle: &[u8]| find(bytes, needle).is_some();
        let path_ending = |end: &[u8], default: &str| {
            string_ending(bytes, end).map_or(RawPath::from(default), RawPath::new)
        };
        Self {
            lib: lib(&directories, class),
            directories,
            cache: path_ending(b"/ld.so.cache\0", "/etc/ld.so.cache"),
            preload: path_ending(b"/ld.so.preload\0", "/etc/ld.so.preload"),
            version,
            has_hwcaps: version.map_or_else(|| has(b"glibc-hwcaps"), |version| version >= (2, 33)),
            has_legacy_hwcaps: version.map_or_else(|| has(b"\0tls\0"), |version| version < (2, 37)),
        }
    }
}

impl GlibcConf {
    /// Returns whether the loader passes over files for other machines before it looks at their byte order and operating
    /// system, which stop others. Debian's does, by a patch of its own for its directories of several machines.
    pub(super) fn looks_at_machine_first(&self) -> bool {
        self.directories.iter().any(|directory| find(directory, b"-linux-gnu").is_some())
    }
}

/// Returns the default directories: the longest run of NUL-ended absolute paths that end in a slash and of which one
/// has "lib" in it. No symbol names them, but they lie in one array.
fn directories(bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut best: Vec<Vec<u8>> = Vec::new();
    let mut run: Vec<Vec<u8>> = Vec::new();
    let mut finish = |run: &mut Vec<Vec<u8>>| {
        let has_lib = run.iter().any(|path| find(path, b"lib").is_some());
        if has_lib && run.len() > best.len() {
            best = std::mem::take(run);
        }
        run.clear();
    };
    // Only strings that end in a slash are looked at: a loader has tens of thousands of others.
    let mut next = 0;
    for slash in memchr::memmem::find_iter(bytes, b"/\0") {
        let begin = memchr::memrchr(0, &bytes[..slash]).map_or(0, |nul| nul + 1);
        let string = &bytes[begin..=slash];
        if begin != next {
            finish(&mut run);
        }
        next = slash + 2;
        let start = string.iter().rposition(|byte| !is_path_byte(*byte)).map_or(0, |at| at + 1);
        let tail = &string[start..];
        let path = tail.iter().position(|byte| *byte == b'/').map(|at| &tail[at..]);
        let directory = path.filter(|path| path.len() > 2 && path.ends_with(b"/") && path[1] != b'/');
        // A path that is only the end of something longer can begin a run, not continue one.
        if directory.is_none_or(|path| path.len() != string.len()) {
            finish(&mut run);
        }
        match directory {
            Some(path) if path.starts_with(b"/proc/") || path == b"/dev/" => {}
            Some(path) => run.push(path.to_vec()),
            None => {}
        }
    }
    finish(&mut run);
    (!best.is_empty()).then_some(best)
}

/// Returns the first absolute path in `bytes` that has `end`, which is with its NUL.
fn string_ending<'a>(bytes: &'a [u8], end: &[u8]) -> Option<&'a [u8]> {
    memchr::memmem::find_iter(bytes, end).find_map(|at| {
        let start = memchr::memrchr(0, &bytes[..at]).map_or(0, |nul| nul + 1);
        let string = &bytes[start..at + end.len() - 1];
        string.starts_with(b"/").then_some(string)
    })
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.+@=:/-".contains(&byte)
}

fn fallback_directories(class: Class) -> Vec<Vec<u8>> {
    let directories: &[&str] = match class {
        Class::Elf64 => &["/lib64/", "/usr/lib64/", "/lib/", "/usr/lib/"],
        Class::Elf32 => &["/lib/", "/usr/lib/"],
    };
    directories.iter().map(|directory| directory.as_bytes().to_vec()).collect()
}

fn version(bytes: &[u8]) -> Option<(u32, u32)> {
    let marker = b"release version ";
    let rest = &bytes[find(bytes, marker)? + marker.len()..];
    let text = str::from_utf8(rest.get(..rest.len().min(16))?.split(|byte| *byte == 0).next()?).ok()?;
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Returns what `$LIB` means: the last part of the first default directory, with the multiarch name below it.
fn lib(directories: &[Vec<u8>], class: Class) -> Vec<u8> {
    let first = directories.first().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = first.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
    match names.iter().rposition(|name| name.starts_with(b"lib")) {
        // `/lib/x86_64-linux-gnu`, `/usr/lib64/lp64d`: what follows the last `lib*` belongs to it.
        Some(at) => names[at..].join(&b'/'),
        None if class == Class::Elf64 => b"lib64".to_vec(),
        None => b"lib".to_vec(),
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}

/// What a loader must find in an object to map it beside the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abi {
    pub(super) machine: u16,
    pub(super) class: Class,
    pub(super) byte_order: ByteOrder,
    pub(super) e_flags: u32,
}

const EM_MIPS: u16 = 8;
pub(super) const EM_386: u16 = 3;
const EM_MIPS_RS3_LE: u16 = 10;
const EM_PPC: u16 = 20;
const EM_PPC64: u16 = 21;
const EM_S390: u16 = 22;
pub(super) const EM_ARM: u16 = 40;
const EM_SPARCV9: u16 = 43;
pub(super) const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;
const EM_RISCV: u16 = 243;
const EM_LOONGARCH: u16 = 258;

impl Abi {
    pub(super) fn of(elf: &Elf) -> Self {
        Self { machine: elf.machine, class: elf.class, byte_order: elf.byte_order, e_flags: elf.e_flags }
    }

    /// Returns whether `other` is for the same machine, as a loader of this byte order reads that.
    pub(super) fn is_same_machine(&self, other: &Elf) -> bool {
        let is_swapped = other.byte_order != self.byte_order;
        let machine = if is_swapped { other.machine.swap_bytes() } else { other.machine };
        machine == self.machine || self.machine == EM_MIPS && machine == EM_MIPS_RS3_LE
    }

    /// Returns whether `other`, of the same class, is for the same machine and floating point convention. The loader
    /// passes over what is not.
    pub(super) fn accepts(&self, other: &Elf) -> bool {
        if !self.is_same_machine(other) {
            return false;
        }
        let same = |mask: u32| other.e_flags & mask == self.e_flags & mask;
        match self.machine {
            EM_RISCV => same(0x6),
            EM_PPC64 => same(0x3) || other.e_flags & 0x3 == 0 || self.e_flags & 0x3 == 0,
            EM_MIPS => same(0x420),
            _ => true,
        }
    }

    /// Returns the flags that the loader accepts in cache entries, its own first.
    pub(super) fn cache_flags(&self) -> &'static [u32] {
        match (self.machine, self.class) {
            (EM_X86_64, Class::Elf64) => &[0x303],
            (EM_X86_64, Class::Elf32) => &[0x803],
            (EM_AARCH64, Class::Elf64) => &[0xa03],
            (EM_ARM, Class::Elf32) if self.e_flags & 0x200 != 0 => &[0xb03, 3],
            (EM_ARM, Class::Elf32) => &[0x903, 3],
            (EM_RISCV, Class::Elf64) if self.e_flags & 0x6 == 0 => &[0xf03],
            (EM_RISCV, Class::Elf64) => &[0x1003],
            (EM_PPC64, Class::Elf64) => &[0x503],
            (EM_S390, Class::Elf64) => &[0x403],
            (EM_LOONGARCH, Class::Elf64) => &[0x1203],
            (EM_SPARCV9, Class::Elf64) => &[0x103],
            (EM_MIPS, Class::Elf64) => &[0x703],
            (EM_MIPS, Class::Elf32) if self.e_flags & 0x20 != 0 => &[0x603],
            _ => &[3, 1],
        }
    }

    /// Returns the value of `$PLATFORM` that every CPU of the machine has.
    pub(super) fn platform(&self) -> Option<&'static [u8]> {
        match self.machine {
            EM_X86_64 => Some(b"x86_64"),
            EM_386 => Some(b"i686"),
            EM_AARCH64 => Some(b"aarch64"),
            EM_ARM => Some(b"v7l"),
            _ => None,
        }
    }

    /// Returns the subdirectories that loaders before 2.37 look into on every CPU of the machine, best first.
    pub(super) fn legacy_hwcaps(&self) -> &'static [&'static [u8]] {
        match self.machine {
            EM_X86_64 => &[b"tls/x86_64/", b"tls/", b"x86_64/"],
            _ => &[b"tls/"],
        }
    }

    /// Returns the `glibc-hwcaps` levels that CPUs of the machine can have, from the best to the most common; a CPU
    /// with one has all after it.
    pub(super) fn hwcaps(&self) -> &'static [&'static [u8]] {
        match (self.machine, self.class) {
            (EM_X86_64, Class::Elf64) => &[b"x86-64-v4", b"x86-64-v3", b"x86-64-v2"],
            (EM_PPC64, _) if self.byte_order == ByteOrder::Little => &[b"power10", b"power9"],
            (EM_S390, Class::Elf64) => &[b"z16", b"z15", b"z14", b"z13"],
            _ => &[],
        }
    }

    /// Returns where each kind of C library keeps the loader of this machine. It serves objects that name none:
    /// libraries.
    pub(super) fn loaders(&self) -> &'static [(Flavour, &'static str)] {
        use Flavour::{Glibc, Musl};
        match (self.machine, self.class) {
            (EM_X86_64, Class::Elf64) => {
                &[(Glibc, "/lib64/ld-linux-x86-64.so.2"), (Musl, "/lib/ld-musl-x86_64.so.1")]
            }
            (EM_X86_64, Class::Elf32) => &[(Glibc, "/libx32/ld-linux-x32.so.2")],
            (EM_386, _) => &[(Glibc, "/lib/ld-linux.so.2"), (Musl, "/lib/ld-musl-i386.so.1")],
            (EM_AARCH64, _) => &[(Glibc, "/lib/ld-linux-aarch64.so.1"), (Musl, "/lib/ld-musl-aarch64.so.1")],
            (EM_ARM, _) => &[
                (Glibc, "/lib/ld-linux-armhf.so.3"),
                (Glibc, "/lib/ld-linux.so.3"),
                (Musl, "/lib/ld-musl-armhf.so.1"),
            ],
            (EM_RISCV, Class::Elf64) => {
                &[(Glibc, "/lib/ld-linux-riscv64-lp64d.so.1"), (Musl, "/lib/ld-musl-riscv64.so.1")]
            }
            (EM_PPC64, _) => &[
                (Glibc, "/lib64/ld64.so.2"),
                (Glibc, "/lib64/ld64.so.1"),
                (Musl, "/lib/ld-musl-powerpc64le.so.1"),
            ],
            (EM_S390, Class::Elf64) => &[(Glibc, "/lib/ld64.so.1"), (Musl, "/lib/ld-musl-s390x.so.1")],
            (EM_LOONGARCH, _) => &[(Glibc, "/lib64/ld-linux-loongarch-lp64d.so.1")],
            (EM_MIPS, Class::Elf64) => &[(Glibc, "/lib64/ld.so.1")],
            (EM_MIPS | EM_PPC, Class::Elf32) => &[(Glibc, "/lib/ld.so.1")],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_tells_what_it_was_built_with() {
        let bytes = b"\x7fELF\0GNU C Library stable release version 2.36.\0\x01\x02/lib/x86_64-linux-gnu/\0\
            /usr/lib/x86_64-linux-gnu/\0/lib/\0/usr/lib/\0/etc/ld.so.cache\0/proc/self/\0x/etc/ld.so.preload\0\
            /etc/ld.so.preload\0";
        let conf = GlibcConf::read(bytes, Class::Elf64);
        let shown: Vec<_> = conf.directories.iter().map(|path| crate::path::show(path)).collect();
        assert_eq!(shown, ["/lib/x86_64-linux-gnu/", "/usr/lib/x86_64-linux-gnu/", "/lib/", "/usr/lib/"]);
        assert_eq!(conf.version, Some((2, 36)));
        assert_eq!(conf.lib, b"lib/x86_64-linux-gnu");
        assert_eq!(conf.cache.to_string(), "/etc/ld.so.cache");
        assert_eq!(conf.preload.to_string(), "/etc/ld.so.preload");
        assert!(conf.has_hwcaps && conf.has_legacy_hwcaps);
        let unknown = GlibcConf::read(b"", Class::Elf64);
        assert_eq!(unknown.lib, b"lib64");
        assert_eq!(unknown.directories.len(), 4);
    }
}
