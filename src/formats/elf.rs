//! ELF files -> what a loader reads of them: header, program headers and `.dynamic`, never the section headers.
//!
//! Addresses become offsets through PT_LOAD alone, as in the loader, and by `p_filesz`: what the file does not hold
//! does not count. Names are bytes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;

use goblin::container::Ctx;
use goblin::elf::dynamic::{self as dt, Dynamic};
use goblin::elf::header;
use goblin::elf::program_header::{PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_NOTE, ProgramHeader};
use memchr::{memchr, memmem, memrchr};
use thiserror::Error;

use super::ReadAt;

/// The longest string taken from a string table or PT_INTERP, in bytes. Runpaths of store-based distributions reach
/// several thousand.
pub const STRING_MAX: usize = 64 << 10;
/// The most of `.dynamic` that is read, in bytes: 65,536 entries; real files have fewer than a thousand.
pub const DYNAMIC_MAX: u64 = 1 << 20;
/// The most version records that are walked in one file; glibc defines about 50.
pub const VERSIONS_MAX: usize = 65_536;
/// The most of one PT_NOTE segment that is read, in bytes.
pub const NOTES_MAX: u64 = 1 << 20;
/// The most dynamic symbols looked at for imports; the largest libraries have about 200,000.
pub const SYMBOLS_MAX: u32 = 1 << 20;
/// The largest dynamic string table that is read whole, in bytes; the largest real ones have 10 MiB.
pub const STRINGS_MAX: u64 = 64 << 20;
/// The most of one segment that is searched for strings, in bytes.
pub const READ_ONLY_MAX: u64 = 64 << 20;
/// How much is read at once where little is needed, in bytes.
const WINDOW: usize = 4096;
/// How much read-only data is looked at together, in bytes, unless a string is longer.
const PIECE: usize = 256 << 10;

/// Owner and type of the notes that say what a file loads at run time (UAPI.12).
const DLOPEN_OWNER: &[u8] = b"FDO";
const DLOPEN_NOTE: u32 = 0x407c_0c0a;

const DT_AUXILIARY: u64 = 0x7fff_fffd;
const DT_FILTER: u64 = 0x7fff_ffff;
const DT_AUDIT: u64 = 0x6fff_fefc;
const DT_DEPAUDIT: u64 = 0x6fff_fefb;

/// `DF_1_NODEFLIB`: the loader asks neither the cache for the default directories nor the directories themselves.
pub const DF_1_NODEFLIB: u64 = 0x800;
/// `DF_1_PIE`: a program, not a library, although its type is ET_DYN.
pub const DF_1_PIE: u64 = 0x0800_0000;

/// Why bytes are no usable ELF file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ElfError {
    /// The file does not start with the ELF magic.
    #[error("not an ELF file")]
    NotElf,
    /// The file ends before its header does.
    #[error("file too short for an ELF header")]
    TooShort,
    /// The header is not one this crate understands.
    #[error("malformed ELF header")]
    Header {
        /// What the parser says.
        source: goblin::error::Error,
    },
    /// A table lies outside the file, or is cut off by its end.
    #[error("{what} at offset {at} ({len} bytes) lies outside the file")]
    OutOfBounds {
        /// Which table.
        what: &'static str,
        /// Offset in the file, in bytes.
        at: u64,
        /// Claimed length, in bytes.
        len: u64,
    },
    /// An address in `.dynamic` belongs to no PT_LOAD segment.
    #[error("{tag} points to address {address:#x}, which no segment of the file holds")]
    Unmapped {
        /// Which entry of `.dynamic`.
        tag: &'static str,
        /// The virtual address.
        address: u64,
    },
    /// A string has no end within the limit.
    #[error("{what} has no end within {STRING_MAX} bytes")]
    EndlessString {
        /// Which string.
        what: &'static str,
    },
    /// A count or length is larger than any real file has.
    #[error("{what} claims {count} entries")]
    TooMany {
        /// Which table.
        what: &'static str,
        /// The claimed count.
        count: u64,
    },
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read {
        /// What the source says.
        source: io::Error,
    },
}

/// 32 or 64 bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// ELFCLASS32
    Elf32,
    /// ELFCLASS64
    Elf64,
}

/// The order of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ByteOrder {
    /// ELFDATA2LSB
    Little,
    /// ELFDATA2MSB
    Big,
}

/// How an object asks for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeedKind {
    /// DT_NEEDED
    Needed,
    /// DT_FILTER
    Filter,
    /// DT_AUXILIARY: may be missing
    Auxiliary,
}

/// One request for another object, as spelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Which tag asks.
    pub kind: NeedKind,
    /// The name or path asked for.
    pub name: Vec<u8>,
}

/// A version that an object requires of a library, or defines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The version's name, such as `GLIBC_2.34`.
    pub name: Vec<u8>,
    /// Whether it may be missing (`VER_FLG_WEAK`).
    pub weak: bool,
}

/// What DT_VERNEED says of one library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionNeed {
    /// The soname of the library that must define the versions.
    pub soname: Vec<u8>,
    /// The versions, in the order of the file.
    pub versions: Vec<Version>,
}

/// One note of a PT_NOTE segment.
struct Note<'a> {
    owner: &'a [u8],
    kind: u32,
    description: &'a [u8],
}

/// The head of an ELF file: what its loader looks at before it maps the rest.
#[derive(Debug, Clone)]
pub struct Elf {
    /// 32 or 64 bit.
    pub class: Class,
    /// The order of bytes.
    pub byte_order: ByteOrder,
    /// `e_machine`.
    pub machine: u16,
    /// `EI_OSABI`.
    pub os_abi: u8,
    /// `e_type`.
    pub e_type: u16,
    /// `e_flags`.
    pub e_flags: u32,
    /// PT_INTERP, as spelled.
    pub interp: Option<Vec<u8>>,
    /// Whether there is a PT_DYNAMIC with at least one entry.
    pub is_dynamic: bool,
    /// DT_NEEDED, DT_FILTER and DT_AUXILIARY, in the order of `.dynamic`.
    pub needs: Vec<Need>,
    /// DT_SONAME.
    pub soname: Option<Vec<u8>>,
    /// DT_RPATH, unsplit.
    pub rpath: Option<Vec<u8>>,
    /// DT_RUNPATH, unsplit.
    pub runpath: Option<Vec<u8>>,
    /// DT_FLAGS_1; 0 if absent, which means the same.
    pub flags_1: u64,
    /// DT_AUDIT and DT_DEPAUDIT, unsplit, in the order of `.dynamic`.
    pub audit: Vec<Vec<u8>>,
    /// The descriptors of its dlopen notes (UAPI.12), in the order of the file.
    pub dlopen_notes: Vec<Vec<u8>>,
    loads: Vec<Load>,
    tables: Tables,
}

/// A PT_LOAD segment, by what the file holds of it.
#[derive(Debug, Clone, Copy)]
struct Load {
    address: u64,
    offset: u64,
    size: u64,
    kind: LoadKind,
}

/// What a PT_LOAD segment may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoadKind {
    ReadOnly,
    Code,
    Writable,
}

/// Where `.dynamic` says the lazily read tables are.
#[derive(Debug, Clone, Copy, Default)]
struct Tables {
    strings: Option<u64>,
    strings_size: Option<u64>,
    symbols: Option<u64>,
    hash: Option<u64>,
    gnu_hash: Option<u64>,
    version_needs: Option<u64>,
    version_definitions: Option<u64>,
}

/// ELF header fields that decide whether a loader looks any further; parsed from the first 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ident {
    /// `EI_CLASS` as stored: 1 is 32 bit, 2 is 64 bit.
    pub class: u8,
    /// `EI_DATA` as stored: 1 is little endian, 2 is big endian.
    pub data: u8,
    /// `EI_OSABI`.
    pub os_abi: u8,
}

impl Ident {
    /// Returns the identification of the file that starts with `head`, or `None` without the ELF magic.
    pub fn parse(head: &[u8]) -> Option<Self> {
        let rest = head.strip_prefix(header::ELFMAG)?;
        Some(Self { class: *rest.first()?, data: *rest.get(1)?, os_abi: *rest.get(3)? })
    }
}

impl Elf {
    /// Returns the head of the ELF file `file`.
    ///
    /// # Errors
    /// [`ElfError::NotElf`] and [`ElfError::TooShort`] for other files; the rest for files that claim to be ELF and
    /// are broken where a loader would look.
    pub fn parse(file: &dyn ReadAt) -> Result<Self, ElfError> {
        let window = Window::new(file);
        let head = window.prefix(0, 64)?;
        if Ident::parse(&head).is_none() {
            return Err(if head.len() < 4 && header::ELFMAG.starts_with(&head) && !head.is_empty() {
                ElfError::TooShort
            } else {
                ElfError::NotElf
            });
        }
        if head.len() < 52 {
            return Err(ElfError::TooShort);
        }
        let header = goblin::elf::Elf::parse_header(&head).map_err(|source| ElfError::Header { source })?;
        let container = header.container().map_err(|source| ElfError::Header { source })?;
        let endian = header.endianness().map_err(|source| ElfError::Header { source })?;
        let ctx = Ctx::new(container, endian);
        let count = usize::from(header.e_phnum);
        let table_len = count.saturating_mul(ProgramHeader::size(ctx));
        let table = window.exact("program header table", header.e_phoff, table_len)?;
        let segments =
            ProgramHeader::parse(&table, 0, count, ctx).map_err(|source| ElfError::Header { source })?;

        let mut elf = Self {
            class: if container.is_big() { Class::Elf64 } else { Class::Elf32 },
            byte_order: if endian.is_little() { ByteOrder::Little } else { ByteOrder::Big },
            machine: header.e_machine,
            os_abi: head.get(7).copied().unwrap_or_default(),
            e_type: header.e_type,
            e_flags: header.e_flags,
            interp: None,
            is_dynamic: false,
            needs: Vec::new(),
            soname: None,
            rpath: None,
            runpath: None,
            flags_1: 0,
            audit: Vec::new(),
            loads: segments.iter().filter(|segment| segment.p_type == PT_LOAD).map(Load::of).collect(),
            dlopen_notes: Vec::new(),
            tables: Tables::default(),
        };
        if let Some(segment) = segments.iter().find(|segment| segment.p_type == PT_INTERP) {
            elf.interp = Some(interp(&window, segment)?);
        }
        // Notes lie near the header: mostly they are in the page that is read already.
        elf.dlopen_notes = elf.read_notes(&window, &segments, DLOPEN_OWNER, DLOPEN_NOTE)?;
        if let Some(segment) = segments.iter().find(|segment| segment.p_type == PT_DYNAMIC) {
            elf.read_dynamic(&window, segment, ctx)?;
        }
        Ok(elf)
    }

    fn read_dynamic(
        &mut self,
        window: &Window<'_>,
        segment: &ProgramHeader,
        ctx: Ctx,
    ) -> Result<(), ElfError> {
        // A separate debug file says here that it holds nothing; a file that holds less than it says is cut off.
        if segment.p_filesz > DYNAMIC_MAX {
            return Err(ElfError::TooMany { what: ".dynamic", count: segment.p_filesz / 16 });
        }
        let len = usize::try_from(segment.p_filesz).unwrap_or(usize::MAX);
        let bytes = window.exact(".dynamic", segment.p_offset, len)?;
        let at_start = ProgramHeader {
            p_type: PT_DYNAMIC,
            p_filesz: bytes.len() as u64,
            p_memsz: bytes.len() as u64,
            ..ProgramHeader::default()
        };
        let dynamic = Dynamic::parse(&bytes, std::slice::from_ref(&at_start), ctx)
            .map_err(|source| ElfError::Header { source })?;
        let entries = dynamic.map(|dynamic| dynamic.dyns).unwrap_or_default();
        let entries = || entries.iter().take_while(|entry| entry.d_tag != dt::DT_NULL);
        for entry in entries() {
            self.is_dynamic = true;
            let value = Some(entry.d_val);
            match entry.d_tag {
                dt::DT_STRTAB => self.tables.strings = value,
                dt::DT_STRSZ => self.tables.strings_size = value,
                dt::DT_SYMTAB => self.tables.symbols = value,
                dt::DT_HASH => self.tables.hash = value,
                dt::DT_GNU_HASH => self.tables.gnu_hash = value,
                dt::DT_VERNEED => self.tables.version_needs = value,
                dt::DT_VERDEF => self.tables.version_definitions = value,
                dt::DT_FLAGS_1 => self.flags_1 = entry.d_val,
                _ => {}
            }
        }
        let string = |offset: u64, what: &'static str| self.string(window, offset, what);
        let mut needs = Vec::new();
        let mut audit = Vec::new();
        let (mut soname, mut rpath, mut runpath) = (None, None, None);
        for entry in entries() {
            let need = |kind| string(entry.d_val, "DT_NEEDED").map(|name| Need { kind, name });
            match entry.d_tag {
                dt::DT_NEEDED => needs.push(need(NeedKind::Needed)?),
                DT_FILTER => needs.push(need(NeedKind::Filter)?),
                DT_AUXILIARY => needs.push(need(NeedKind::Auxiliary)?),
                dt::DT_SONAME => soname = Some(string(entry.d_val, "DT_SONAME")?),
                dt::DT_RPATH => rpath = Some(string(entry.d_val, "DT_RPATH")?),
                dt::DT_RUNPATH => runpath = Some(string(entry.d_val, "DT_RUNPATH")?),
                DT_AUDIT | DT_DEPAUDIT => audit.push(string(entry.d_val, "DT_AUDIT")?),
                _ => {}
            }
        }
        self.needs = needs;
        self.audit = audit;
        (self.soname, self.rpath, self.runpath) = (soname, rpath, runpath);
        Ok(())
    }

    /// Returns the string at `offset` of the dynamic string table.
    fn string(&self, window: &Window<'_>, offset: u64, what: &'static str) -> Result<Vec<u8>, ElfError> {
        let address = self.tables.strings.ok_or(ElfError::Unmapped { tag: "DT_STRTAB", address: 0 })?;
        let table = self.offset_of("DT_STRTAB", address)?;
        let at = table.checked_add(offset).ok_or(ElfError::OutOfBounds { what, at: table, len: offset })?;
        window.string(what, at)
    }

    /// Returns where in the file the byte at virtual `address` is.
    fn offset_of(&self, tag: &'static str, address: u64) -> Result<u64, ElfError> {
        self.loads.iter().find_map(|load| load.offset_of(address)).ok_or(ElfError::Unmapped { tag, address })
    }

    /// Returns whether this is a program that the kernel starts without a loader: no PT_INTERP, and either nothing
    /// dynamic at all or a position-independent program.
    pub fn is_static(&self) -> bool {
        self.interp.is_none() && (!self.is_dynamic || self.flags_1 & DF_1_PIE != 0)
    }

    /// Returns what DT_VERNEED requires, library by library.
    ///
    /// # Errors
    /// Those of broken tables.
    pub fn version_needs(&self, file: &dyn ReadAt) -> Result<Vec<VersionNeed>, ElfError> {
        let Some(address) = self.tables.version_needs else { return Ok(Vec::new()) };
        let window = Window::new(file);
        let mut at = self.offset_of("DT_VERNEED", address)?;
        let mut needs = Vec::new();
        let mut budget = VERSIONS_MAX;
        loop {
            let record = window.exact("version requirement", at, 16)?;
            let aux_count = self.u16(&record, 2);
            let soname =
                self.string(&window, u64::from(self.u32(&record, 4)), "file of a version requirement")?;
            let mut aux = at.saturating_add(u64::from(self.u32(&record, 8)));
            let mut versions = Vec::new();
            for _ in 0..aux_count {
                spend(&mut budget, "DT_VERNEED")?;
                let record = window.exact("required version", aux, 16)?;
                let name = self.string(&window, u64::from(self.u32(&record, 8)), "name of a version")?;
                versions.push(Version { name, weak: self.u16(&record, 4) & 2 != 0 });
                match self.u32(&record, 12) {
                    0 => break,
                    next => aux = aux.saturating_add(u64::from(next)),
                }
            }
            needs.push(VersionNeed { soname, versions });
            spend(&mut budget, "DT_VERNEED")?;
            match self.u32(&record, 12) {
                0 => return Ok(needs),
                next => at = at.saturating_add(u64::from(next)),
            }
        }
    }

    /// Returns the versions that DT_VERDEF defines; `None` if the file has no such table, which the loader takes as
    /// "any version".
    ///
    /// # Errors
    /// Those of broken tables.
    pub fn version_definitions(&self, file: &dyn ReadAt) -> Result<Option<Vec<Vec<u8>>>, ElfError> {
        let Some(address) = self.tables.version_definitions else { return Ok(None) };
        let window = Window::new(file);
        let mut at = self.offset_of("DT_VERDEF", address)?;
        let mut versions = Vec::new();
        let mut budget = VERSIONS_MAX;
        loop {
            spend(&mut budget, "DT_VERDEF")?;
            let record = window.exact("version definition", at, 20)?;
            let aux = at.saturating_add(u64::from(self.u32(&record, 12)));
            let name = window.exact("name of a version definition", aux, 8)?;
            versions.push(self.string(&window, u64::from(self.u32(&name, 0)), "name of a version")?);
            match self.u32(&record, 16) {
                0 => return Ok(Some(versions)),
                next => at = at.saturating_add(u64::from(next)),
            }
        }
    }

    /// Returns the descriptors of the notes of `kind` by `owner`. A note that lies about its length ends its segment:
    /// a broken note must not hurt a program that runs.
    fn read_notes(
        &self,
        window: &Window<'_>,
        segments: &[ProgramHeader],
        owner: &[u8],
        kind: u32,
    ) -> Result<Vec<Vec<u8>>, ElfError> {
        let mut descriptions = Vec::new();
        for segment in segments.iter().filter(|segment| segment.p_type == PT_NOTE) {
            let held =
                window.file.size().saturating_sub(segment.p_offset).min(segment.p_filesz).min(NOTES_MAX);
            let bytes = window.prefix(segment.p_offset, usize::try_from(held).unwrap_or(0))?;
            let mut rest = bytes.as_slice();
            while let Some((note, after)) = self.note(rest) {
                if note.owner == owner && note.kind == kind {
                    descriptions.push(note.description.to_vec());
                }
                rest = after;
            }
        }
        Ok(descriptions)
    }

    fn note<'a>(&self, bytes: &'a [u8]) -> Option<(Note<'a>, &'a [u8])> {
        let head = bytes.get(..12)?;
        let (owner_len, len) = (self.u32(head, 0) as usize, self.u32(head, 4) as usize);
        let padded = |len: usize| len.checked_next_multiple_of(4);
        let rest = bytes.get(12..)?;
        let owner = rest.get(..owner_len)?;
        let rest = rest.get(padded(owner_len)?..)?;
        let description = rest.get(..len)?;
        let owner = owner.strip_suffix(b"\0").unwrap_or(owner);
        let after = rest.get(padded(len)?..).unwrap_or_default();
        Some((Note { owner, kind: self.u32(head, 8), description }, after))
    }

    /// Returns the names of the undefined dynamic symbols: what this object expects others to provide.
    ///
    /// # Errors
    /// Those of broken tables.
    pub fn imports(&self, file: &dyn ReadAt) -> Result<Vec<Vec<u8>>, ElfError> {
        let Some(symbols) = self.tables.symbols else { return Ok(Vec::new()) };
        let window = Window::new(file);
        let symbols = self.offset_of("DT_SYMTAB", symbols)?;
        let entry_size: usize = if self.class == Class::Elf64 { 24 } else { 16 };
        let count = self.import_range(&window)?;
        if count > SYMBOLS_MAX {
            return Err(ElfError::TooMany { what: "the dynamic symbol table", count: u64::from(count) });
        }
        let table =
            window.exact("dynamic symbol table", symbols, entry_size.saturating_mul(count as usize))?;
        let strings = self.string_table(&window)?;
        let mut names = Vec::new();
        for symbol in table.chunks_exact(entry_size).skip(1) {
            let section = self.u16(symbol, if self.class == Class::Elf64 { 6 } else { 14 });
            let name = self.u32(symbol, 0) as usize;
            if section == 0 && name != 0 {
                let rest = strings.get(name..).unwrap_or_default();
                let end = rest.iter().position(|byte| *byte == 0);
                let end = end.ok_or(ElfError::EndlessString { what: "name of a symbol" })?;
                names.push(rest.get(..end).unwrap_or_default().to_vec());
            }
        }
        Ok(names)
    }

    /// Returns the whole dynamic string table.
    fn string_table(&self, window: &Window<'_>) -> Result<Vec<u8>, ElfError> {
        let address = self.tables.strings.ok_or(ElfError::Unmapped { tag: "DT_STRTAB", address: 0 })?;
        let size = self.tables.strings_size.unwrap_or(0);
        if size > STRINGS_MAX {
            return Err(ElfError::TooMany { what: "the dynamic string table", count: size });
        }
        let at = self.offset_of("DT_STRTAB", address)?;
        window.exact("dynamic string table", at, usize::try_from(size).unwrap_or(usize::MAX))
    }

    /// Returns how many leading symbols can be imports. DT_GNU_HASH leaves them in front of the hashed ones; DT_HASH
    /// counts all symbols.
    fn import_range(&self, window: &Window<'_>) -> Result<u32, ElfError> {
        if let Some(address) = self.tables.gnu_hash {
            let at = self.offset_of("DT_GNU_HASH", address)?;
            return Ok(self.u32(&window.exact("DT_GNU_HASH", at, 16)?, 4));
        }
        if let Some(address) = self.tables.hash {
            let at = self.offset_of("DT_HASH", address)?;
            return Ok(self.u32(&window.exact("DT_HASH", at, 8)?, 4));
        }
        Ok(0)
    }

    /// Returns the strings in read-only data that could be a soname: `libx.so.1`, without a directory. Sorted.
    ///
    /// # Errors
    /// [`ElfError::Read`].
    pub fn soname_strings(&self, file: &dyn ReadAt) -> Result<Vec<Vec<u8>>, ElfError> {
        let mut names = BTreeSet::new();
        self.visit_constants(file, |bytes| {
            names.extend(sonames_in(bytes).map(<[u8]>::to_vec));
            ControlFlow::Continue(())
        })?;
        Ok(names.into_iter().collect())
    }

    /// Returns which of `texts`, which have no NUL, are in read-only data.
    ///
    /// # Errors
    /// [`ElfError::Read`].
    pub fn texts<'t>(
        &self,
        file: &dyn ReadAt,
        texts: &BTreeSet<&'t str>,
    ) -> Result<BTreeSet<&'t str>, ElfError> {
        let mut missing: Vec<_> = texts.iter().map(|text| (*text, memmem::Finder::new(*text))).collect();
        let mut found = BTreeSet::new();
        self.visit_constants(file, |bytes| {
            found.extend(
                missing.extract_if(.., |(_, finder)| finder.find(bytes).is_some()).map(|(text, _)| text),
            );
            if missing.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(found)
    }

    /// Returns the strings in read-only data, each between two NULs, that `is_wanted`.
    ///
    /// # Errors
    /// [`ElfError::Read`].
    pub fn strings(
        &self,
        file: &dyn ReadAt,
        is_wanted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<BTreeSet<Vec<u8>>, ElfError> {
        let mut strings = BTreeSet::new();
        self.visit_constants(file, |bytes| {
            let wanted = bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty() && is_wanted(text));
            strings.extend(wanted.map(<[u8]>::to_vec));
            ControlFlow::Continue(())
        })?;
        Ok(strings)
    }

    /// Shows read-only data to `visit`, piece by piece, as long as it goes on. A string of C is wholly in one piece.
    fn visit_constants(
        &self,
        file: &dyn ReadAt,
        mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), ElfError> {
        let has_own_segment = self.loads.iter().any(|load| load.kind == LoadKind::ReadOnly);
        let wanted = |load: &&Load| match load.kind {
            LoadKind::ReadOnly => true,
            // Where the linker did not separate them, constants lie beside the code.
            LoadKind::Code => !has_own_segment,
            LoadKind::Writable => false,
        };
        // What was read lies in front of what was not, so that no byte is cleared for each that is read.
        let mut held = Vec::new();
        for load in self.loads.iter().filter(wanted) {
            let mut left = file.size().saturating_sub(load.offset).min(load.size).min(READ_ONLY_MAX);
            let mut offset = load.offset;
            let mut filled = 0_usize;
            while left > 0 {
                let piece = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                let end = filled.saturating_add(piece);
                if held.len() < end {
                    held.resize(end, 0);
                }
                let fresh = held.get_mut(filled..end).unwrap_or_default();
                let count = file.read_at(offset, fresh).map_err(|source| ElfError::Read { source })?;
                if count == 0 {
                    break;
                }
                (offset, left) = (offset.saturating_add(count as u64), left.saturating_sub(count as u64));
                let start = filled;
                filled = filled.saturating_add(count);
                // What is behind the last NUL goes on in the next piece.
                let Some(nul) = memrchr(0, held.get(start..filled).unwrap_or_default()) else { continue };
                let end = start.saturating_add(nul).saturating_add(1);
                if visit(held.get(..end).unwrap_or_default()).is_break() {
                    return Ok(());
                }
                held.copy_within(end..filled, 0);
                filled = filled.saturating_sub(end);
            }
            if visit(held.get(..filled).unwrap_or_default()).is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn u16(&self, bytes: &[u8], at: usize) -> u16 {
        let array = bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        match self.byte_order {
            ByteOrder::Little => u16::from_le_bytes(array),
            ByteOrder::Big => u16::from_be_bytes(array),
        }
    }

    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let array = bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        match self.byte_order {
            ByteOrder::Little => u32::from_le_bytes(array),
            ByteOrder::Big => u32::from_be_bytes(array),
        }
    }
}

impl Load {
    fn of(segment: &ProgramHeader) -> Self {
        Self {
            address: segment.p_vaddr,
            offset: segment.p_offset,
            size: segment.p_filesz,
            kind: match (segment.is_write(), segment.is_executable()) {
                (true, _) => LoadKind::Writable,
                (false, true) => LoadKind::Code,
                (false, false) => LoadKind::ReadOnly,
            },
        }
    }

    fn offset_of(&self, address: u64) -> Option<u64> {
        let inside = address.checked_sub(self.address).filter(|inside| *inside < self.size)?;
        self.offset.checked_add(inside)
    }
}

/// Returns the NUL-ended strings in `bytes` that look like sonames.
fn sonames_in(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    memmem::find_iter(bytes, b".so").filter_map(move |at| {
        let (before, after) = (bytes.get(..at)?, bytes.get(at..)?);
        let start = memrchr(0, before).map_or(0, |nul| nul.saturating_add(1));
        let end = memchr(0, after)?.saturating_add(at);
        bytes.get(start..end).filter(|text| is_soname(text))
    })
}

/// Returns whether `text` looks like `libNAME.so` with version numbers after it.
fn is_soname(text: &[u8]) -> bool {
    let is_name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+.-".contains(byte);
    if !(text.starts_with(b"lib") && text.len() < 128 && text.iter().all(is_name_byte)) {
        return false;
    }
    let Some(dot) = text.windows(3).rposition(|window| window == b".so") else { return false };
    let version = text.get(dot.saturating_add(3)..).unwrap_or_default();
    dot > 3 && version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

fn interp(window: &Window<'_>, segment: &ProgramHeader) -> Result<Vec<u8>, ElfError> {
    let len = usize::try_from(segment.p_filesz).unwrap_or(usize::MAX).min(STRING_MAX);
    let bytes = window.exact("PT_INTERP", segment.p_offset, len)?;
    // The kernel requires the NUL at the end; the loader's name stops at the first one.
    match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => Ok(bytes.get(..end).unwrap_or_default().to_vec()),
        None => Err(ElfError::EndlessString { what: "PT_INTERP" }),
    }
}

fn spend(budget: &mut usize, what: &'static str) -> Result<(), ElfError> {
    *budget = budget.checked_sub(1).ok_or(ElfError::TooMany { what, count: VERSIONS_MAX as u64 })?;
    Ok(())
}

/// A file behind one page of memory, so that neighbouring small reads cost one system call.
struct Window<'a> {
    file: &'a dyn ReadAt,
    page: RefCell<(u64, Vec<u8>)>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn ReadAt) -> Self {
        Self { file, page: RefCell::new((0, Vec::new())) }
    }

    /// Returns up to `len` bytes from `at` on: fewer only at the end of the file.
    fn prefix(&self, at: u64, len: usize) -> Result<Vec<u8>, ElfError> {
        let mut page = self.page.borrow_mut();
        let (start, bytes) = &*page;
        let skip = at.checked_sub(*start).and_then(|skip| usize::try_from(skip).ok());
        if let Some(held) = skip.and_then(|skip| bytes.get(skip..)).and_then(|rest| rest.get(..len)) {
            return Ok(held.to_vec());
        }
        let left = usize::try_from(self.file.size().saturating_sub(at)).unwrap_or(usize::MAX);
        let mut fresh = vec![0; len.max(WINDOW).min(left)];
        let mut filled = 0_usize;
        while let Some(rest) = fresh.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let offset = at.saturating_add(filled as u64);
            match self.file.read_at(offset, rest).map_err(|source| ElfError::Read { source })? {
                0 => break,
                count => filled = filled.saturating_add(count),
            }
        }
        fresh.truncate(filled);
        let wanted = fresh.get(..len).unwrap_or(&fresh).to_vec();
        *page = (at, fresh);
        Ok(wanted)
    }

    /// Returns exactly `len` bytes from `at` on.
    fn exact(&self, what: &'static str, at: u64, len: usize) -> Result<Vec<u8>, ElfError> {
        let error = || ElfError::OutOfBounds { what, at, len: len as u64 };
        // Checked before anything of that size is allocated.
        at.checked_add(len as u64).filter(|end| *end <= self.file.size()).ok_or_else(error)?;
        let bytes = self.prefix(at, len)?;
        if bytes.len() == len { Ok(bytes) } else { Err(error()) }
    }

    /// Returns the bytes from `at` up to the next NUL.
    fn string(&self, what: &'static str, at: u64) -> Result<Vec<u8>, ElfError> {
        if at >= self.file.size() {
            return Err(ElfError::OutOfBounds { what, at, len: 1 });
        }
        let mut len = 64;
        loop {
            let bytes = self.prefix(at, len)?;
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                return Ok(bytes.get(..end).unwrap_or_default().to_vec());
            }
            if bytes.len() < len || len >= STRING_MAX {
                return Err(ElfError::EndlessString { what });
            }
            len = len.saturating_mul(4).min(STRING_MAX);
        }
    }
}
