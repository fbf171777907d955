//! The words after `elf` and `loader` in a tree -> an ELF file.

use crate::elf_writer::{DF_1_NODEFLIB, DF_1_PIE, ET_DYN, ET_EXEC, ElfFile, Note, Tag, VersionNeed};
use crate::tree_text::{number, split_pair, text};

/// The type and owner of a note that declares what is opened at run time (UAPI.12).
const DLOPEN_NOTE: (u32, &[u8]) = (0x407c_0c0a, b"FDO");

/// A machine: name, `e_machine`, 64 bit, big endian, PT_INTERP of glibc programs.
struct Machine(&'static str, u16, bool, bool, &'static str);

const MACHINES: [Machine; 13] = [
    Machine("x86_64", 62, true, false, "/lib64/ld-linux-x86-64.so.2"),
    Machine("x32", 62, false, false, "/libx32/ld-linux-x32.so.2"),
    Machine("i386", 3, false, false, "/lib/ld-linux.so.2"),
    Machine("aarch64", 183, true, false, "/lib/ld-linux-aarch64.so.1"),
    Machine("arm", 40, false, false, "/lib/ld-linux-armhf.so.3"),
    Machine("riscv64", 243, true, false, "/lib/ld-linux-riscv64-lp64d.so.1"),
    Machine("ppc64", 21, true, true, "/lib64/ld64.so.1"),
    Machine("ppc64le", 21, true, false, "/lib64/ld64.so.2"),
    Machine("s390x", 22, true, true, "/lib/ld64.so.1"),
    Machine("sparc64", 43, true, true, "/lib64/ld-linux.so.2"),
    Machine("mips", 8, false, true, "/lib/ld.so.1"),
    Machine("mips64el", 8, true, false, "/lib64/ld.so.1"),
    Machine("loongarch64", 258, true, false, "/lib64/ld-linux-loongarch-lp64d.so.1"),
];

/// Reads an ELF file. A name with `.so` in it is a library, anything else a position-independent program with its
/// machine's usual loader.
///
/// `machine= e_machine=0x.. interp= (none) needed= soname= rpath= runpath= filter= auxiliary= audit= depaudit= flags=0x.. (e_flags)
/// flags_1=0x.. verneed=SONAME:V1:V2? (? is weak) verdef=V1:V2 import=SYMBOL dlopen=JSON note=OWNER:TYPE:TEXT
/// rodata=TEXT osabi=N type=exec|dyn|rel|core pie nopie nodeflib static big-endian truncate=N`, the string ones as often
/// as wanted, `needed` and `import` with commas too.
pub fn elf_of_words(path: &[u8], words: &[&[u8]]) -> Result<ElfFile, String> {
    let is_library = path.windows(3).any(|window| window == b".so");
    let mut file = ElfFile::default();
    let mut interp = (!is_library).then(|| MACHINES[0].4.as_bytes().to_vec());
    if !is_library {
        file.flags_1 = DF_1_PIE;
    }
    for word in words {
        match *word {
            b"pie" => file.flags_1 |= DF_1_PIE,
            b"nopie" => file.flags_1 &= !DF_1_PIE,
            b"nodeflib" => file.flags_1 |= DF_1_NODEFLIB,
            b"static" => {
                file.is_dynamic = false;
                file.e_type = ET_EXEC;
                interp = None;
            }
            b"no-dynamic" => file.is_dynamic = false,
            b"big-endian" => file.is_big_endian = true,
            word => {
                let (key, value) = split_pair(word)?;
                if key == b"machine" {
                    let Machine(_, machine, is_64, is_big_endian, loader) = MACHINES
                        .iter()
                        .find(|machine| machine.0.as_bytes() == value)
                        .ok_or("unknown machine")?;
                    (file.machine, file.is_64, file.is_big_endian) = (*machine, *is_64, *is_big_endian);
                    interp = interp.map(|_| loader.as_bytes().to_vec());
                } else if key == b"interp" {
                    interp = (value != b"none").then(|| value.to_vec());
                } else {
                    set(&mut file, key, value)?;
                }
            }
        }
    }
    file.interp = interp;
    Ok(file)
}

fn set(file: &mut ElfFile, key: &[u8], value: &[u8]) -> Result<(), String> {
    let parts = |separator: u8| value.split(move |byte| *byte == separator).map(<[u8]>::to_vec);
    let mut tag = |tag: Tag| file.tags.push((tag, value.to_vec()));
    match key {
        b"needed" => file.tags.extend(parts(b',').map(|name| (Tag::Needed, name))),
        b"soname" => tag(Tag::Soname),
        b"rpath" => tag(Tag::Rpath),
        b"runpath" => tag(Tag::Runpath),
        b"filter" => tag(Tag::Filter),
        b"auxiliary" => tag(Tag::Auxiliary),
        b"audit" => tag(Tag::Audit),
        b"depaudit" => tag(Tag::DepAudit),
        b"e_machine" => file.machine = number(value)? as u16,
        b"flags" => file.e_flags = number(value)? as u32,
        b"flags_1" => file.flags_1 = number(value)?,
        b"osabi" => file.os_abi = number(value)? as u8,
        b"import" => file.imports.extend(parts(b',')),
        b"rodata" => file.read_only.extend(value),
        b"verdef" => file.version_definitions.extend(parts(b':')),
        b"type" => {
            file.e_type = match value {
                b"rel" => 1,
                b"exec" => ET_EXEC,
                b"dyn" => ET_DYN,
                b"core" => 4,
                _ => return Err("unknown type".to_owned()),
            }
        }
        b"verneed" => {
            let mut names = parts(b':');
            let soname = names.next().unwrap_or_default();
            let versions = names.map(|name| match name.strip_suffix(b"?") {
                Some(weak) => (weak.to_vec(), true),
                None => (name, false),
            });
            file.version_needs.push(VersionNeed { soname, versions: versions.collect() });
        }
        b"dlopen" => {
            let (kind, owner) = DLOPEN_NOTE;
            // The description of such a note ends with a NUL.
            let description = [value, b"\0"].concat();
            file.notes.push(Note { owner: owner.to_vec(), kind, description });
        }
        b"note" => {
            let mut parts = value.splitn(3, |byte| *byte == b':');
            let mut next = || parts.next().ok_or("a note is OWNER:TYPE:TEXT");
            let (owner, kind) = (next()?.to_vec(), number(next()?)? as u32);
            file.notes.push(Note { owner, kind, description: next()?.to_vec() });
        }
        _ => return Err(format!("unknown key {}", text(key)?)),
    }
    Ok(())
}

/// Reads a loader: `glibc=2.36 dirs=/lib/:/usr/lib/ [cache=PATH] [preload=PATH] [strings=A:B]` or `musl`, and the words
/// of an ELF file. The result says whether it is musl's.
pub fn loader_of_words(path: &[u8], words: &[&[u8]]) -> Result<(ElfFile, bool), String> {
    let mut elf_words: Vec<&[u8]> = Vec::new();
    let (mut version, mut directories) = (None, Vec::new());
    let (mut cache, mut preload) = (b"/etc/ld.so.cache".to_vec(), b"/etc/ld.so.preload".to_vec());
    let mut is_musl = false;
    let mut compiled_in: Vec<u8> = Vec::new();
    for word in words {
        match split_pair(word) {
            _ if *word == b"musl" => is_musl = true,
            Ok((b"glibc", value)) => version = Some(value.to_vec()),
            Ok((b"dirs", value)) => directories = value.split(|byte| *byte == b':').collect(),
            Ok((b"cache", value)) => cache = value.to_vec(),
            Ok((b"preload", value)) => preload = value.to_vec(),
            _ => elf_words.push(word),
        }
    }
    let mut file = elf_of_words(path, &elf_words)?;
    if !is_musl {
        let mut string = |text: &[u8]| {
            compiled_in.extend(text);
            compiled_in.push(0);
        };
        // In the order and with the neighbours that they have in a real one.
        string(b"\0/proc/self/exe");
        for directory in &directories {
            string(directory);
        }
        string(b"glibc-hwcaps/");
        string(&cache);
        string(&preload);
        if let Some(version) = version {
            string(&[b"ld.so (GNU libc) stable release version ".as_slice(), &version, b".\n"].concat());
        }
        if !file.tags.iter().any(|(tag, _)| *tag == Tag::Soname) {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            file.tags.push((Tag::Soname, name.to_vec()));
        }
    }
    file.read_only = [compiled_in, file.read_only].concat();
    Ok((file, is_musl))
}
