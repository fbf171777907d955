//! A description of an ELF file -> its bytes: whole enough for the real loaders to map, small enough to keep as text.
//!
//! There are no section headers: no loader reads them. Nothing here depends on minimage, so that the fuzz targets can
//! use it for their seeds.
#![allow(dead_code)] // each user needs another part of it

/// `e_type` of a program at a fixed address.
pub const ET_EXEC: u16 = 2;
/// `e_type` of a library or position-independent program.
pub const ET_DYN: u16 = 3;
/// The flag in DT_FLAGS_1 that tells a program from a library.
pub const DF_1_PIE: u64 = 0x0800_0000;
/// The flag in DT_FLAGS_1 that switches the default directories off.
pub const DF_1_NODEFLIB: u64 = 0x800;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PT_GNU_STACK: u32 = 0x6474_e551;

const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_SYMENT: u64 = 11;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DT_VERSYM: u64 = 0x6fff_fff0;
const DT_VERDEF: u64 = 0x6fff_fffc;
const DT_VERDEFNUM: u64 = 0x6fff_fffd;
const DT_VERNEED: u64 = 0x6fff_fffe;
const DT_VERNEEDNUM: u64 = 0x6fff_ffff;

/// The distance between the segments in memory; the largest page of any machine we write for.
const PAGE: u64 = 0x1_0000;

/// A kind of entry in `.dynamic` whose value is a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    Needed,
    Soname,
    Rpath,
    Runpath,
    Filter,
    Auxiliary,
    Audit,
    DepAudit,
}

impl Tag {
    fn number(self) -> u64 {
        match self {
            Self::Needed => 1,
            Self::Soname => 14,
            Self::Rpath => 15,
            Self::Runpath => 29,
            Self::Filter => 0x7fff_ffff,
            Self::Auxiliary => 0x7fff_fffd,
            Self::Audit => 0x6fff_fefc,
            Self::DepAudit => 0x6fff_fefb,
        }
    }
}

/// What DT_VERNEED says of one library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionNeed {
    pub soname: Vec<u8>,
    /// Each version with whether it may be missing.
    pub versions: Vec<(Vec<u8>, bool)>,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub owner: Vec<u8>,
    pub kind: u32,
    pub description: Vec<u8>,
}

/// What is in an ELF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfFile {
    pub is_64: bool,
    pub is_big_endian: bool,
    pub machine: u16,
    pub e_type: u16,
    pub e_flags: u32,
    pub os_abi: u8,
    pub interp: Option<Vec<u8>>,
    pub is_dynamic: bool,
    /// Strings of `.dynamic`, in its order.
    pub tags: Vec<(Tag, Vec<u8>)>,
    pub flags_1: u64,
    pub version_needs: Vec<VersionNeed>,
    pub version_definitions: Vec<Vec<u8>>,
    /// Undefined dynamic symbols.
    pub imports: Vec<Vec<u8>>,
    pub notes: Vec<Note>,
    /// Bytes that lie in the read-only segment.
    pub read_only: Vec<u8>,
}

impl Default for ElfFile {
    /// A library for x86-64 that needs nothing.
    fn default() -> Self {
        Self {
            is_64: true,
            is_big_endian: false,
            machine: 62,
            e_type: ET_DYN,
            e_flags: 0,
            os_abi: 0,
            interp: None,
            is_dynamic: true,
            tags: Vec::new(),
            flags_1: 0,
            version_needs: Vec::new(),
            version_definitions: Vec::new(),
            imports: Vec::new(),
            notes: Vec::new(),
            read_only: Vec::new(),
        }
    }
}

/// Bytes in one class and byte order.
struct Writer {
    bytes: Vec<u8>,
    is_64: bool,
    is_big_endian: bool,
}

impl Writer {
    fn of(file: &ElfFile) -> Self {
        Self { bytes: Vec::new(), is_64: file.is_64, is_big_endian: file.is_big_endian }
    }

    fn number(&mut self, value: u64, len: usize) {
        let little = value.to_le_bytes();
        match self.is_big_endian {
            true => self.bytes.extend(little[..len].iter().rev()),
            false => self.bytes.extend(&little[..len]),
        }
    }

    fn half(&mut self, value: u16) {
        self.number(value.into(), 2);
    }

    fn word(&mut self, value: u32) {
        self.number(value.into(), 4);
    }

    /// An address, offset or size.
    fn address(&mut self, value: u64) {
        self.number(value, if self.is_64 { 8 } else { 4 });
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }
}

/// The string table of `.dynamic`.
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, text: &[u8]) -> u32 {
        let at = self.0.len();
        self.0.extend(text);
        self.0.push(0);
        at as u32
    }
}

/// A program header: type, flags, offset, address, length.
struct Segment(u32, u32, u64, u64, u64);

/// The System V hash of a name, which version records carry.
fn elf_hash(name: &[u8]) -> u32 {
    name.iter().fold(0_u32, |hash, byte| {
        let hash = (hash << 4).wrapping_add(u32::from(*byte));
        let high = hash & 0xf000_0000;
        (hash ^ (high >> 24)) & !high
    })
}

impl ElfFile {
    /// Returns the bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let base: u64 = if self.e_type == ET_EXEC { 0x40_0000 } else { 0 };
        let header_len = if self.is_64 { 64 } else { 52 };
        let segment_len = if self.is_64 { 56 } else { 32 };
        let segments_len = 3
            + usize::from(self.interp.is_some())
            + usize::from(self.is_dynamic)
            + usize::from(!self.notes.is_empty());

        let mut body = Writer::of(self);
        body.bytes.resize(header_len + segments_len * segment_len, 0);
        let mut special = Vec::new();
        if let Some(interp) = &self.interp {
            let at = body.bytes.len();
            body.bytes.extend(interp);
            body.bytes.push(0);
            special.push(Segment(PT_INTERP, 4, at as u64, base + at as u64, interp.len() as u64 + 1));
        }
        if !self.notes.is_empty() {
            body.align(4);
            let at = body.bytes.len() as u64;
            self.notes.iter().for_each(|note| write_note(&mut body, note));
            special.push(Segment(PT_NOTE, 4, at, base + at, body.bytes.len() as u64 - at));
        }
        body.bytes.extend(&self.read_only);
        let dynamic = if self.is_dynamic { self.tables(&mut body, base) } else { Vec::new() };
        let read_only_len = body.bytes.len() as u64;

        body.align(16);
        let dynamic_at = body.bytes.len() as u64;
        let dynamic_address = base + read_only_len.next_multiple_of(PAGE) + dynamic_at;
        for (tag, value) in &dynamic {
            body.address(*tag);
            body.address(*value);
        }
        let dynamic_len = body.bytes.len() as u64 - dynamic_at;
        // A segment of no length would be malformed for some loaders.
        body.address(0);
        let writable_len = body.bytes.len() as u64 - dynamic_at;
        if self.is_dynamic {
            special.push(Segment(PT_DYNAMIC, 6, dynamic_at, dynamic_address, dynamic_len));
        }

        let mut head = Writer::of(self);
        self.header(&mut head, base, header_len, segment_len, segments_len);
        let loads = [
            Segment(PT_LOAD, 5, 0, base, read_only_len),
            Segment(PT_LOAD, 6, dynamic_at, dynamic_address, writable_len),
            Segment(PT_GNU_STACK, 6, 0, 0, 0),
        ];
        for segment in special.iter().chain(&loads) {
            write_segment(&mut head, segment);
        }
        let mut bytes = body.bytes;
        bytes[..head.bytes.len()].copy_from_slice(&head.bytes);
        bytes
    }

    fn header(&self, out: &mut Writer, base: u64, len: usize, segment_len: usize, segments_len: usize) {
        out.bytes.extend(b"\x7fELF");
        out.bytes.extend([1 + u8::from(self.is_64), 1 + u8::from(self.is_big_endian), 1, self.os_abi]);
        out.bytes.resize(16, 0);
        out.half(self.e_type);
        out.half(self.machine);
        out.word(1);
        out.address(base);
        out.address(len as u64);
        out.address(0);
        out.word(self.e_flags);
        for half in [len, segment_len, segments_len, 0, 0, 0] {
            out.half(half as u16);
        }
        assert_eq!(out.bytes.len(), len);
    }

    /// Writes everything that `.dynamic` points to, and returns `.dynamic`.
    fn tables(&self, out: &mut Writer, base: u64) -> Vec<(u64, u64)> {
        let mut strings = Strings(vec![0]);
        let mut dynamic: Vec<(u64, u64)> = Vec::new();
        for (tag, text) in &self.tags {
            dynamic.push((tag.number(), strings.add(text).into()));
        }
        if self.flags_1 != 0 {
            dynamic.push((DT_FLAGS_1, self.flags_1));
        }
        out.align(8);
        let mut at = |out: &mut Writer, tag: u64| {
            out.align(8);
            dynamic.push((tag, base + out.bytes.len() as u64));
        };
        at(out, DT_SYMTAB);
        let symbol_len = if self.is_64 { 24 } else { 16 };
        out.bytes.resize(out.bytes.len() + symbol_len, 0);
        for name in &self.imports {
            let name = strings.add(name);
            write_undefined(out, name);
        }
        let symbols = self.imports.len() as u32 + 1;
        at(out, DT_HASH);
        // One bucket that chains all symbols.
        let first = u32::from(symbols > 1);
        let chain = (0..symbols).map(|symbol| if symbol == 0 { 0 } else { (symbol + 1) % symbols });
        for word in [1, symbols, first].into_iter().chain(chain) {
            out.word(word);
        }
        if !self.version_needs.is_empty() || !self.version_definitions.is_empty() {
            at(out, DT_VERSYM);
            for symbol in 0..symbols {
                out.half(u16::from(symbol != 0));
            }
        }
        if !self.version_needs.is_empty() {
            at(out, DT_VERNEED);
            let first_index = 2 + self.version_definitions.len() as u16;
            write_version_needs(out, &self.version_needs, first_index, &mut strings);
        }
        if !self.version_definitions.is_empty() {
            at(out, DT_VERDEF);
            write_version_definitions(out, &self.version_definitions, &mut strings);
        }
        at(out, DT_STRTAB);
        out.bytes.extend(&strings.0);
        dynamic.push((DT_STRSZ, strings.0.len() as u64));
        dynamic.push((DT_SYMENT, symbol_len as u64));
        for (tag, count) in
            [(DT_VERNEEDNUM, self.version_needs.len()), (DT_VERDEFNUM, self.version_definitions.len())]
        {
            if count != 0 {
                dynamic.push((tag, count as u64));
            }
        }
        dynamic.push((0, 0));
        dynamic
    }
}

fn write_segment(out: &mut Writer, Segment(kind, flags, offset, address, len): &Segment) {
    let align = if *kind == PT_LOAD { PAGE } else { 8 };
    out.word(*kind);
    if out.is_64 {
        out.word(*flags);
    }
    for value in [*offset, *address, *address, *len, *len] {
        out.address(value);
    }
    if !out.is_64 {
        out.word(*flags);
    }
    out.address(align);
}

fn write_note(out: &mut Writer, note: &Note) {
    out.word(note.owner.len() as u32 + 1);
    out.word(note.description.len() as u32);
    out.word(note.kind);
    out.bytes.extend(&note.owner);
    out.bytes.push(0);
    out.align(4);
    out.bytes.extend(&note.description);
    out.align(4);
}

/// Writes a symbol: global, a function, in no section.
fn write_undefined(out: &mut Writer, name: u32) {
    out.word(name);
    if out.is_64 {
        out.bytes.extend([0x12, 0, 0, 0]);
        out.address(0);
        out.address(0);
    } else {
        out.address(0);
        out.address(0);
        out.bytes.extend([0x12, 0, 0, 0]);
    }
}

fn write_version_needs(out: &mut Writer, needs: &[VersionNeed], first_index: u16, strings: &mut Strings) {
    let mut index = first_index;
    for (at, need) in needs.iter().enumerate() {
        out.half(1);
        out.half(need.versions.len() as u16);
        out.word(strings.add(&need.soname));
        out.word(16);
        let is_last = at + 1 == needs.len();
        out.word(if is_last { 0 } else { 16 + 16 * need.versions.len() as u32 });
        for (at, (name, weak)) in need.versions.iter().enumerate() {
            out.word(elf_hash(name));
            out.half(if *weak { 2 } else { 0 });
            out.half(index);
            out.word(strings.add(name));
            out.word(if at + 1 == need.versions.len() { 0 } else { 16 });
            index += 1;
        }
    }
}

fn write_version_definitions(out: &mut Writer, names: &[Vec<u8>], strings: &mut Strings) {
    for (at, name) in names.iter().enumerate() {
        for half in [1, 0, at as u16 + 2, 1] {
            out.half(half);
        }
        out.word(elf_hash(name));
        out.word(20);
        out.word(if at + 1 == names.len() { 0 } else { 28 });
        out.word(strings.add(name));
        out.word(0);
    }
}
