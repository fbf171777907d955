//! `/etc/ld.so.cache` -> where glibc's loader finds a name in it.
//!
//! Look-ups walk the file as the loader does, by binary search over its own order, so that an odd cache gives the same
//! odd answers (glibc, elf/dl-cache.c; formats `ld.so-1.7.0` and `glibc-ld.so.cache1.1`).

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::elf::ByteOrder;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0";
const OLD_HEAD: usize = 16;
const OLD_ENTRY: usize = 12;
const NEW_MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const NEW_HEAD: usize = 48;
const NEW_ENTRY: usize = 24;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const EXTENSION_HWCAPS: u32 = 1;
/// Marks an entry's hwcap field as an index into the names of levels.
const HWCAP_NAMED: u64 = 1 << 62;
/// The most extension records and hwcaps names that are read; glibc writes two and a handful.
const EXTENSIONS_MAX: u32 = 1024;
/// How much longer than the file all its lines may be together; in what ldconfig writes, they share a few endings.
const SHARING_MAX: usize = 4;

/// One line of a cache to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheLine {
    /// The name that is asked for.
    pub name: Vec<u8>,
    /// The path that answers.
    pub path: Vec<u8>,
    /// What a loader must accept to use it.
    pub flags: u32,
    /// The `glibc-hwcaps` level that a CPU must have to use it.
    pub hwcap: Option<Vec<u8>>,
}

/// Returns a cache of `lines` in the new format, which every loader since 2.2 reads. It depends on nothing but the
/// lines; their order does not matter.
pub fn write(lines: &[CacheLine], byte_order: ByteOrder) -> Vec<u8> {
    let mut lines: Vec<&CacheLine> = lines.iter().collect();
    lines.sort_by(|one, other| {
        compare_names(&other.name, &one.name)
            .then_with(|| other.flags.cmp(&one.flags))
            // Lines for a level come before the plain ones, which end a loader's search.
            .then_with(|| other.hwcap.cmp(&one.hwcap))
            .then_with(|| one.name.cmp(&other.name))
            .then_with(|| one.path.cmp(&other.path))
    });
    lines.dedup();
    let word = |value: usize| {
        let value = u32::try_from(value).unwrap_or(u32::MAX);
        if byte_order == ByteOrder::Little { value.to_le_bytes() } else { value.to_be_bytes() }
    };
    let mut strings = Vec::new();
    let strings_at = lines.len().saturating_mul(NEW_ENTRY).saturating_add(NEW_HEAD);
    let mut string = |text: &[u8]| {
        let at = strings_at.saturating_add(strings.len());
        strings.extend_from_slice(text);
        strings.push(0);
        at
    };
    // Sorted, as the loader walks them beside its own sorted list.
    let levels: BTreeSet<&[u8]> = lines.iter().filter_map(|line| line.hwcap.as_deref()).collect();
    let mut table = Vec::new();
    for line in &lines {
        let (name, path) = (string(&line.name), string(&line.path));
        let level = levels.iter().position(|level| Some(*level) == line.hwcap.as_deref());
        let hwcap = level.map_or(0, |index| HWCAP_NAMED | index as u64);
        for value in [line.flags as usize, name, path, 0] {
            table.extend(word(value));
        }
        table.extend(if byte_order == ByteOrder::Little { hwcap.to_le_bytes() } else { hwcap.to_be_bytes() });
    }
    let names: Vec<usize> = levels.iter().map(|level| string(level)).collect();
    let mut bytes = NEW_MAGIC.to_vec();
    bytes.extend(word(lines.len()));
    bytes.extend(word(strings.len()));
    bytes.extend([if byte_order == ByteOrder::Little { 2 } else { 3 }, 0, 0, 0]);
    let end = strings_at.saturating_add(strings.len());
    let extension = end.next_multiple_of(4);
    bytes.extend(word(if names.is_empty() { 0 } else { extension }));
    bytes.extend([0; 12]);
    bytes.extend(table);
    bytes.extend(strings);
    if !names.is_empty() {
        bytes.resize(extension, 0);
        let (at, len) = (extension.saturating_add(24), names.len().saturating_mul(4));
        for value in [EXTENSION_MAGIC as usize, 1, EXTENSION_HWCAPS as usize, 0, at, len] {
            bytes.extend(word(value));
        }
        bytes.extend(names.into_iter().flat_map(word));
    }
    bytes
}

/// A parsed cache.
#[derive(Debug, Clone)]
pub struct LdsoCache {
    bytes: Vec<u8>,
    byte_order: ByteOrder,
    entries_at: usize,
    entry_size: usize,
    count: usize,
    strings_at: usize,
    hwcaps: Vec<Vec<u8>>,
}

/// One line of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry<'a> {
    flags: u32,
    name: &'a [u8],
    value: Option<&'a [u8]>,
    hwcap: u64,
}

impl LdsoCache {
    /// Returns the cache in `bytes`, or `None` if a loader of `byte_order` would ignore the file: no known magic, the
    /// other byte order, or too short for what it claims.
    pub fn parse(bytes: Vec<u8>, byte_order: ByteOrder) -> Option<Self> {
        let mut cache = Self {
            bytes,
            byte_order,
            entries_at: 0,
            entry_size: NEW_ENTRY,
            count: 0,
            strings_at: 0,
            hwcaps: Vec::new(),
        };
        if cache.bytes.starts_with(OLD_MAGIC) {
            let count = cache.u32(12)? as usize;
            let end = count.checked_mul(OLD_ENTRY)?.checked_add(OLD_HEAD)?;
            let aligned = end.checked_next_multiple_of(8)?;
            // A cache for old and new loaders has the new format behind the old one.
            if !cache.bytes.get(aligned..).is_some_and(|rest| rest.starts_with(NEW_MAGIC)) {
                (end <= cache.bytes.len()).then_some(())?;
                cache.entries_at = OLD_HEAD;
                cache.entry_size = OLD_ENTRY;
                cache.count = count;
                cache.strings_at = end;
                return Some(cache);
            }
            cache.strings_at = aligned;
        } else if !cache.bytes.starts_with(NEW_MAGIC) {
            return None;
        }
        let base = cache.strings_at;
        let field = |at: usize| base.checked_add(at);
        cache.count = cache.u32(field(20)?)? as usize;
        cache.entries_at = field(NEW_HEAD)?;
        let end = cache.count.checked_mul(NEW_ENTRY)?.checked_add(cache.entries_at)?;
        (end <= cache.bytes.len()).then_some(())?;
        let expected = if byte_order == ByteOrder::Little { 2 } else { 3 };
        let flags = *cache.bytes.get(field(28)?)?;
        (flags == 0 || flags & 3 == expected).then_some(())?;
        let extensions = cache.u32(field(32)?)?;
        cache.hwcaps = cache.read_hwcaps(extensions as usize).unwrap_or_default();
        Some(cache)
    }

    /// Returns the names of the hwcaps subdirectories that entries refer to, by index.
    fn read_hwcaps(&self, at: usize) -> Option<Vec<Vec<u8>>> {
        (at != 0 && at.is_multiple_of(4) && self.u32(at)? == EXTENSION_MAGIC).then_some(())?;
        let mut names = Vec::new();
        for index in 0..self.u32(at.checked_add(4)?)?.min(EXTENSIONS_MAX) {
            let record = (index as usize).checked_mul(16)?.checked_add(8)?.checked_add(at)?;
            if self.u32(record)? != EXTENSION_HWCAPS {
                continue;
            }
            let start = self.u32(record.checked_add(8)?)? as usize;
            let count = self.u32(record.checked_add(12)?)? / 4;
            for index in 0..count.min(EXTENSIONS_MAX) {
                let string = self.u32((index as usize).checked_mul(4)?.checked_add(start)?)?;
                names.push(self.string_at(string as usize)?.to_vec());
            }
        }
        Some(names)
    }

    /// Returns the path that a loader finds for `name`. It accepts entries whose flags are in `accepted`, prefers the
    /// first of them, and uses entries for the CPU capabilities in `hwcaps` only, the first one best.
    pub fn find(&self, name: &[u8], accepted: &[u32], hwcaps: &[&[u8]]) -> Option<&[u8]> {
        let (mut left, mut right) = (0, self.count.checked_sub(1)?);
        while left <= right {
            let middle = left.midpoint(right);
            match compare_names(name, self.entry(middle)?.name) {
                // The cache is sorted downwards.
                Ordering::Less => left = middle.checked_add(1)?,
                Ordering::Greater => right = middle.checked_sub(1)?,
                Ordering::Equal => return self.best(name, middle, accepted, hwcaps),
            }
        }
        None
    }

    /// Returns the lines that a loader may use, or `None` if they share their strings as no ldconfig makes them, which
    /// would make them long without end.
    pub fn lines(&self) -> Option<Vec<CacheLine>> {
        let mut left = self.bytes.len().saturating_mul(SHARING_MAX);
        let mut lines = Vec::new();
        for entry in (0..self.count).filter_map(|index| self.entry(index)) {
            let Some(path) = entry.value else { continue };
            let hwcap = match self.variant(entry.hwcap) {
                Variant::Plain => None,
                Variant::Named(Some(hwcap)) => Some(hwcap.to_vec()),
                Variant::Named(None) | Variant::Legacy => continue,
            };
            let len = [entry.name, path, hwcap.as_deref().unwrap_or_default()].map(<[u8]>::len);
            left = len.into_iter().try_fold(left, usize::checked_sub)?;
            let (name, path) = (entry.name.to_vec(), path.to_vec());
            lines.push(CacheLine { name, path, flags: entry.flags, hwcap });
        }
        Some(lines)
    }

    fn best(&self, name: &[u8], found: usize, accepted: &[u32], hwcaps: &[&[u8]]) -> Option<&[u8]> {
        let has_name =
            |index: usize| self.entry(index).is_some_and(|entry| compare_names(name, entry.name).is_eq());
        let first = (0..found).rev().take_while(|index| has_name(*index)).last().unwrap_or(found);
        let mut best = None;
        let mut best_rank = usize::MAX;
        for index in (first..self.count).take_while(|index| has_name(*index)) {
            let entry = self.entry(index)?;
            let Some(value) = entry.value.filter(|_| accepted.contains(&entry.flags)) else { continue };
            match self.variant(entry.hwcap) {
                Variant::Named(variant) => {
                    let rank = hwcaps.iter().position(|active| Some(*active) == variant);
                    let Some(rank) = rank.filter(|rank| *rank < best_rank) else { continue };
                    best_rank = rank;
                    best = Some(value);
                }
                // Entries for a capability come first: with one of them found, the plain ones do not count.
                _ if best_rank != usize::MAX => break,
                Variant::Legacy => {}
                Variant::Plain => {
                    best = Some(value);
                    if accepted.first() == Some(&entry.flags) {
                        break;
                    }
                }
            }
        }
        best
    }

    fn variant(&self, hwcap: u64) -> Variant<'_> {
        // Bit 62 marks an index; the ten bits above the index are an ISA level that the loader checks elsewhere.
        let [index, rest] = [hwcap & 0xffff_ffff, hwcap >> 32];
        if rest & !0x3ff == 1 << 30 {
            let name = usize::try_from(index).ok().and_then(|index| self.hwcaps.get(index));
            return Variant::Named(name.map(Vec::as_slice));
        }
        if hwcap == 0 { Variant::Plain } else { Variant::Legacy }
    }

    fn entry(&self, index: usize) -> Option<Entry<'_>> {
        let at = index.checked_mul(self.entry_size)?.checked_add(self.entries_at)?;
        let string = |offset: u32| self.string_at(self.strings_at.checked_add(offset as usize)?);
        let hwcap = match self.entry_size {
            NEW_ENTRY => self.u64(at.checked_add(16)?)?,
            _ => 0,
        };
        Some(Entry {
            flags: self.u32(at)?,
            name: string(self.u32(at.checked_add(4)?)?)?,
            value: string(self.u32(at.checked_add(8)?)?),
            hwcap,
        })
    }

    fn string_at(&self, at: usize) -> Option<&[u8]> {
        let rest = self.bytes.get(at..)?;
        rest.get(..rest.iter().position(|byte| *byte == 0)?)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(match self.byte_order {
            ByteOrder::Little => u32::from_le_bytes(bytes),
            ByteOrder::Big => u32::from_be_bytes(bytes),
        })
    }

    fn u64(&self, at: usize) -> Option<u64> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(match self.byte_order {
            ByteOrder::Little => u64::from_le_bytes(bytes),
            ByteOrder::Big => u64::from_be_bytes(bytes),
        })
    }
}

/// What an entry's hwcap field says.
enum Variant<'a> {
    /// For every CPU.
    Plain,
    /// For CPUs with a named capability; `None` if the index leads nowhere.
    Named(Option<&'a [u8]>),
    /// A mask of the time before names: never chosen.
    Legacy,
}

/// Compares as the cache is sorted: runs of digits as numbers, everything else byte by byte.
fn compare_names(left: &[u8], right: &[u8]) -> Ordering {
    let (mut left, mut right) = (left, right);
    loop {
        match (left.split_first(), right.split_first()) {
            (Some((a, _)), Some((b, _))) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (number_a, rest_a) = number(left);
                let (number_b, rest_b) = number(right);
                let order = number_a.len().cmp(&number_b.len()).then_with(|| number_a.cmp(number_b));
                if order.is_ne() {
                    return order;
                }
                (left, right) = (rest_a, rest_b);
            }
            (Some((a, _)), Some((b, _))) if a.is_ascii_digit() != b.is_ascii_digit() => {
                return if a.is_ascii_digit() { Ordering::Greater } else { Ordering::Less };
            }
            (Some((a, rest_a)), Some((b, rest_b))) => {
                if a != b {
                    return a.cmp(b);
                }
                (left, right) = (rest_a, rest_b);
            }
            (None, None) => return Ordering::Equal,
            (Some(_), None) => return Ordering::Greater,
            (None, Some(_)) => return Ordering::Less,
        }
    }
}

/// Splits off a leading run of digits, without its leading zeros.
fn number(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    let (digits, rest) = bytes.split_at_checked(end).unwrap_or((bytes, b""));
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    (digits.get(zeros..).unwrap_or_default(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache in the new format: (name, value, flags, hwcap) sorted as given.
    fn cache(entries: &[(&str, &str, u32, u64)], hwcaps: &[&str]) -> Vec<u8> {
        let mut strings = Vec::new();
        let base = NEW_HEAD + entries.len() * NEW_ENTRY;
        let mut add = |text: &str| {
            let at = (base + strings.len()) as u32;
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let mut table = Vec::new();
        for (name, value, flags, hwcap) in entries {
            table.extend(flags.to_le_bytes());
            table.extend(add(name).to_le_bytes());
            table.extend(add(value).to_le_bytes());
            table.extend(0_u32.to_le_bytes());
            table.extend(hwcap.to_le_bytes());
        }
        let names: Vec<u32> = hwcaps.iter().map(|name| add(name)).collect();
        while !(base + strings.len()).is_multiple_of(4) {
            strings.push(0);
        }
        let extension = (base + strings.len()) as u32;
        let mut bytes = NEW_MAGIC.to_vec();
        bytes.extend((entries.len() as u32).to_le_bytes());
        bytes.extend((strings.len() as u32).to_le_bytes());
        bytes.extend([2, 0, 0, 0]);
        bytes.extend(extension.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(table);
        bytes.extend(strings);
        for word in [EXTENSION_MAGIC, 1, EXTENSION_HWCAPS, 0, extension + 24, names.len() as u32 * 4] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(names.iter().flat_map(|name| name.to_le_bytes()));
        bytes
    }

    fn find<'a>(cache: &'a LdsoCache, name: &str, hwcaps: &[&[u8]]) -> Option<&'a str> {
        cache.find(name.as_bytes(), &[0x303, 3], hwcaps).map(|path| str::from_utf8(path).unwrap())
    }

    #[test]
    fn finds_as_the_loader_does() {
        let named = |index: u64| (1 << 62) | index;
        let bytes = cache(
            &[
                ("libz.so.1", "/32/libz.so.1", 0x803, 0),
                ("libz.so.1", "/64/libz.so.1", 0x303, 0),
                ("liby.so.10", "/y10", 0x303, 0),
                ("liby.so.2", "/any", 3, 0),
                ("liby.so.2", "/exact", 0x303, 0),
                ("libx.so.1", "/v3", 0x303, named(0)),
                ("libx.so.1", "/v2", 0x303, named(1)),
                ("libx.so.1", "/lost", 0x303, named(7)),
                ("libx.so.1", "/legacy", 0x303, 4),
                ("libx.so.1", "/base", 0x303, 0),
            ],
            &["x86-64-v3", "x86-64-v2"],
        );
        let cache = LdsoCache::parse(bytes, ByteOrder::Little).unwrap();
        assert_eq!(find(&cache, "libz.so.1", &[]), Some("/64/libz.so.1"));
        assert_eq!(find(&cache, "libz.so.01", &[]), Some("/64/libz.so.1"));
        assert_eq!(find(&cache, "liby.so.2", &[]), Some("/exact"));
        assert_eq!(find(&cache, "liby.so.10", &[]), Some("/y10"));
        assert_eq!(find(&cache, "libx.so.1", &[]), Some("/base"));
        assert_eq!(find(&cache, "libx.so.1", &[b"x86-64-v2"]), Some("/v2"));
        assert_eq!(find(&cache, "libx.so.1", &[b"x86-64-v3", b"x86-64-v2"]), Some("/v3"));
        assert_eq!(find(&cache, "libx.so", &[]), None);
        assert_eq!(find(&cache, "libx.so.1.1", &[]), None);
    }

    #[test]
    fn what_is_written_is_found_again() {
        let line = |name: &str, path: &str, flags| CacheLine {
            name: name.into(),
            path: path.into(),
            flags,
            hwcap: None,
        };
        let level = |name: &str, path: &str, level: &str| CacheLine {
            hwcap: Some(level.into()),
            ..line(name, path, 0x303)
        };
        let lines = [
            line("libz.so.1", "/32/libz.so.1", 0x803),
            line("liba.so", "/a", 0x303),
            line("libz.so.1", "/64/libz.so.1", 0x303),
            line("libz.so.10", "/64/libz.so.10", 0x303),
            line("libv.so.1", "/base", 0x303),
            level("libv.so.1", "/v2", "x86-64-v2"),
            level("libv.so.1", "/v3", "x86-64-v3"),
        ];
        for byte_order in [ByteOrder::Little, ByteOrder::Big] {
            let bytes = write(&lines, byte_order);
            let mut shuffled = lines.to_vec();
            shuffled.reverse();
            assert_eq!(bytes, write(&shuffled, byte_order));
            let cache = LdsoCache::parse(bytes, byte_order).unwrap();
            for line in lines.iter().filter(|line| line.hwcap.is_none()) {
                assert_eq!(cache.find(&line.name, &[line.flags], &[]), Some(line.path.as_slice()));
            }
            let on_v3: [&[u8]; 2] = [b"x86-64-v3", b"x86-64-v2"];
            assert_eq!(cache.find(b"libv.so.1", &[0x303], &on_v3), Some(b"/v3".as_slice()));
            assert_eq!(cache.find(b"libv.so.1", &[0x303], &on_v3[1..]), Some(b"/v2".as_slice()));
        }
        assert!(LdsoCache::parse(write(&[], ByteOrder::Little), ByteOrder::Little).is_some());
    }

    #[test]
    fn what_a_loader_ignores_is_no_cache() {
        let good = cache(&[("liba.so", "/a", 0x303, 0)], &[]);
        assert!(LdsoCache::parse(good.clone(), ByteOrder::Little).is_some());
        assert!(LdsoCache::parse(good.clone(), ByteOrder::Big).is_none());
        assert!(LdsoCache::parse(good[..60].to_vec(), ByteOrder::Little).is_none());
        assert!(LdsoCache::parse(b"ld.so-1.7".to_vec(), ByteOrder::Little).is_none());
        let mut many = good;
        many[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(LdsoCache::parse(many, ByteOrder::Little).is_none());
    }

    #[test]
    fn order_is_numeric() {
        for (left, right, order) in [
            ("libz.so.10", "libz.so.9", Ordering::Greater),
            ("libz.so.1", "libz.so.01", Ordering::Equal),
            ("lib1", "liba", Ordering::Greater),
            ("lib", "lib1", Ordering::Less),
            ("a", "b", Ordering::Less),
        ] {
            assert_eq!(compare_names(left.as_bytes(), right.as_bytes()), order, "{left} {right}");
        }
    }

    #[test]
    fn lines_are_what_a_cache_is_written_from() {
        let line = |name: &str, path: &str, hwcap: Option<&str>| CacheLine {
            name: name.into(),
            path: path.into(),
            flags: 0x303,
            hwcap: hwcap.map(Into::into),
        };
        let lines = [
            line("libz.so.1", "/lib/v2/libz.so.1", Some("x86-64-v2")),
            line("libz.so.1", "/lib/libz.so.1", None),
            line("liba.so", "/opt/liba.so", None),
        ];
        let written = write(&lines, ByteOrder::Little);
        assert_eq!(LdsoCache::parse(written, ByteOrder::Little).unwrap().lines().unwrap(), lines);
        // A hundred lines of one long string.
        let name = "x".repeat(10_000);
        let entries: Vec<_> = (0..100).map(|_| ("a", "b", 0x303, 0)).collect();
        let mut bytes = cache(&entries, &[]);
        let at = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        bytes.extend(name.as_bytes());
        bytes.push(0);
        for index in 0..100 {
            let field = NEW_HEAD + index * NEW_ENTRY + 4;
            bytes[field..field + 4].copy_from_slice(&at);
        }
        assert_eq!(LdsoCache::parse(bytes, ByteOrder::Little).unwrap().lines(), None);
    }
}
