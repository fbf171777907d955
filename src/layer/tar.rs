//! Planned entries -> the bytes of a layer's tar.
//!
//! The bytes are those that BuildKit's OCI worker exports for the same files, so that both routes give one diff_id:
//! ustar where everything fits, a PAX header only where it does not, no times but the epoch, names of nobody.

use std::borrow::Cow;

use tar::{EntryType, Header, UstarHeader};
use thiserror::Error;

use super::plan::PlannedEntry;
use crate::path::RootPath;
use crate::rootfs::{Kind, RootfsError};
use crate::spec::Epoch;

/// The unit of a tar, in bytes.
pub const BLOCK: usize = 512;
/// What a tar ends with.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
const NAME_MAX: usize = 100;
const PREFIX_MAX: usize = 155;
const ID_MAX: u32 = 0o7_777_777;
const SIZE_MAX: u64 = 1 << 33;

/// Why a tar cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TarError {
    /// The source cannot be read.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A file is not what it was when it was looked up, or was written to while it was read.
    #[error("`{path}` changed while it was read")]
    Changed {
        /// The file, inside the source.
        path: RootPath,
    },
    /// An entry is of a kind that no image holds.
    #[error("`{path}` is {what}, which cannot be put into an image")]
    Special {
        /// The entry.
        path: RootPath,
        /// What it is.
        what: &'static str,
    },
    /// A name means "deleted" in a layer.
    #[error("`{path}` has a name that marks a deleted file in a layer")]
    Whiteout {
        /// The entry.
        path: RootPath,
    },
    /// Capabilities count in one user namespace only, or cannot be read.
    #[error("`{path}` has file capabilities that {what}")]
    Capability {
        /// The entry.
        path: RootPath,
        /// What is wrong with them.
        what: &'static str,
    },
}

/// Returns how many zeros follow the `size` bytes of a file.
pub(crate) fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { 0 } else { BLOCK - over }
}

/// Returns the header of `entry`, with its PAX header in front if it needs one.
pub(super) fn head(entry: &PlannedEntry, epoch: Epoch) -> Result<Vec<u8>, TarError> {
    let node = &entry.node;
    if entry.path.file_name().starts_with(b".wh.") {
        return Err(TarError::Whiteout { path: entry.path.clone() });
    }
    let link = entry.hard_link_to.as_ref().map(RootPath::relative);
    let (entry_type, link, size) = match (&node.kind, link) {
        (Kind::File, Some(first)) => (EntryType::Link, first, 0),
        (Kind::File, None) => (EntryType::Regular, b"".as_slice(), node.size),
        (Kind::Directory, _) => (EntryType::Directory, b"".as_slice(), 0),
        (Kind::Link(target), _) => (EntryType::Symlink, target.as_bytes(), 0),
        (Kind::Special(what), _) => return Err(TarError::Special { path: entry.path.clone(), what }),
    };
    let mut name = entry.path.relative().to_vec();
    if node.kind == Kind::Directory {
        name.push(b'/');
    }
    let mut records: Vec<(&[u8], Vec<u8>)> = Vec::new();
    // Repeated on each hard link: engines change the owner of a link after unpacking it, which drops capabilities.
    if let Some(capability) = &node.capability {
        let value = portable_capability(capability)
            .map_err(|what| TarError::Capability { path: entry.path.clone(), what })?;
        records.push((b"SCHILY.xattr.security.capability", value.into_owned()));
    }
    for (key, id) in [(b"gid".as_slice(), node.gid), (b"uid", node.uid)] {
        if id > ID_MAX {
            records.push((key, id.to_string().into_bytes()));
        }
    }
    if link.len() > NAME_MAX || !link.is_ascii() {
        records.push((b"linkpath", link.to_vec()));
    }
    if size >= SIZE_MAX {
        records.push((b"size", size.to_string().into_bytes()));
    }
    // The prefix field is for headers that need no record: this one looks at all others.
    let split = split_name(&name);
    if split.is_none() || name.len() > NAME_MAX && !records.is_empty() {
        records.push((b"path", name.clone()));
    }
    records.sort();
    let has_path_record = records.iter().any(|(key, _)| *key == b"path");

    let mut header = Header::new_ustar();
    header.set_entry_type(entry_type);
    header.set_mode(node.mode & 0o7777);
    header.set_uid(if node.uid > ID_MAX { 0 } else { node.uid.into() });
    header.set_gid(if node.gid > ID_MAX { 0 } else { node.gid.into() });
    header.set_size(if size >= SIZE_MAX { 0 } else { size });
    header.set_mtime(epoch.seconds());
    if let Some(ustar) = header.as_ustar_mut() {
        match split.filter(|_| !has_path_record) {
            Some((prefix, rest)) => {
                put(&mut ustar.prefix, prefix);
                put(&mut ustar.name, rest);
            }
            None => put(&mut ustar.name, cut(&ascii(&name))),
        }
        put(&mut ustar.linkname, cut(&ascii(link)));
        put(&mut ustar.dev_major, b"0000000");
        put(&mut ustar.dev_minor, b"0000000");
    }
    let mut bytes = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        bytes.extend(pax(&name, &records));
    }
    bytes.extend(finished(header));
    Ok(bytes)
}

/// Splits `name` into the ustar prefix and name fields; `None` if it fits neither way.
fn split_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if !name.is_ascii() {
        return None;
    }
    if name.len() <= NAME_MAX {
        return Some((b"", name));
    }
    // The last slash that leaves a prefix of at most 155 bytes; a directory's own slash is no place to split.
    let mut end = name.len();
    if end > PREFIX_MAX + 1 {
        end = PREFIX_MAX + 1;
    } else if name.ends_with(b"/") {
        end -= 1;
    }
    let slash = name[..end].iter().rposition(|byte| *byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    let fits = !prefix.is_empty() && !rest.is_empty() && rest.len() <= NAME_MAX && prefix.len() <= PREFIX_MAX;
    fits.then_some((prefix, rest))
}

/// Returns the PAX header of `name` with `records`: a header block and its data.
fn pax(name: &[u8], records: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        data.extend(pax_record(key, value));
    }
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_mode(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    if let Some(UstarHeader { name: field, .. }) = header.as_ustar_mut() {
        let name = ascii(&pax_name(name));
        let shown = &name[..name.len().min(NAME_MAX)];
        put(field, shown.strip_suffix(b"/").unwrap_or(shown));
    }
    let mut bytes = finished(header).to_vec();
    bytes.extend(&data);
    bytes.resize(bytes.len() + padding(data.len() as u64), 0);
    bytes
}

/// Returns one record: its own length in decimal, a blank, `key=value` and a newline.
fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + rest.to_string().len();
    if len.to_string().len() + rest != len {
        len = rest + len.to_string().len();
    }
    [len.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// Returns the name of the PAX header of `name`: a directory of that name below the entry's own directory.
fn pax_name(name: &[u8]) -> Vec<u8> {
    let at = name.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let (directory, base) = name.split_at(at);
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    let mut parts: Vec<&[u8]> = Vec::new();
    if !directory.is_empty() {
        parts.push(directory);
    }
    parts.push(b"PaxHeaders.0");
    if !base.is_empty() {
        parts.push(base);
    }
    parts.join(&b'/')
}

/// Returns the capabilities in a form that holds on every machine: version 3 says which user is root in their
/// namespace, and with 0 means the same as version 2 (`linux/capability.h`).
pub(super) fn portable_capability(value: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    match (value, value.len()) {
        ([_, _, _, 1, ..], 12) | ([_, _, _, 2, ..], 20) => Ok(Cow::Borrowed(value)),
        ([a, b, c, 3, sets @ .., 0, 0, 0, 0], 24) => Ok(Cow::Owned([&[*a, *b, *c, 2], sets].concat())),
        ([_, _, _, 3, ..], 24) => Err("count in one user namespace only"),
        _ => Err("are of an unknown form"),
    }
}

/// Returns what Go's writer puts into a name field that `text` is too long for: no slash at the end.
fn cut(text: &[u8]) -> &[u8] {
    match text.get(..NAME_MAX) {
        Some(start) if text.len() > NAME_MAX => start.strip_suffix(b"/").unwrap_or(start),
        _ => text,
    }
}

fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

/// Puts as much of `text` into `field` as fits.
fn put(field: &mut [u8], text: &[u8]) {
    field.fill(0);
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
}

/// Returns the header with its checksum, which is written as six digits, NUL and a blank.
fn finished(header: Header) -> [u8; BLOCK] {
    let mut bytes = *header.as_bytes();
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    put(&mut bytes[148..155], format!("{sum:06o}").as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closure::Content;
    use crate::rootfs::Node;

    fn planned(path: &[u8], node: Node) -> PlannedEntry {
        let path = RootPath::from_normal(path).unwrap();
        let content = match node.kind {
            Kind::File => Content::Source(path.clone()),
            _ => Content::None,
        };
        PlannedEntry { path, node, content, hard_link_to: None }
    }

    fn text(bytes: &[u8]) -> String {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    #[test]
    fn a_plain_header_is_ustar() {
        let node = Node { mode: 0o4755, uid: 1000, gid: 50, ..Node::file(10) };
        let bytes = head(&planned(b"/usr/bin/su", node), Epoch::parse("1700000000").unwrap()).unwrap();
        assert_eq!(bytes.len(), BLOCK);
        assert_eq!(&bytes[..100], &{
            let mut name = [0; 100];
            name[..10].copy_from_slice(b"usr/bin/su");
            name
        });
        assert_eq!(&bytes[100..148], b"0004755\x000001750\x000000062\x0000000000012\x0014524770400\x00");
        assert_eq!(&bytes[156..157], b"0");
        assert_eq!(&bytes[257..265], b"ustar\x0000");
        assert_eq!(&bytes[329..345], b"0000000\x000000000\x00");
        assert_eq!((bytes[154], bytes[155]), (0, b' '));
    }

    #[test]
    fn names_are_split_or_carried_by_pax() {
        let long = |directories: usize, name: usize| {
            [b"/".as_slice(), &b"d/".repeat(directories), &b"n".repeat(name)].concat()
        };
        // (path, blocks, name field, prefix field)
        for (path, blocks, name_len, prefix_len) in [
            (long(0, 100), 1, 100, 0),
            (long(40, 60), 1, 60, 79),
            (long(0, 101), 3, 100, 0),
            // The 100th byte is a slash, which Go leaves away.
            (long(100, 60), 3, 99, 0),
            ("/käse".as_bytes().to_vec(), 3, 3, 0),
        ] {
            let bytes = head(&planned(&path, Node::file(0)), Epoch::default()).unwrap();
            assert_eq!(bytes.len(), blocks * BLOCK, "{}", text(&path));
            let header = &bytes[bytes.len() - BLOCK..];
            assert_eq!(text(&header[..100]).len(), name_len, "{}", text(&path));
            assert_eq!(text(&header[345..500]).len(), prefix_len, "{}", text(&path));
        }
    }

    #[test]
    fn pax_records_are_sorted_and_count_themselves() {
        let capability = [1, 0, 0, 2].into_iter().chain([0; 16]).collect::<Vec<u8>>();
        let node = Node { capability: Some(capability.clone()), uid: ID_MAX + 1, ..Node::file(0) };
        let bytes = head(&planned(b"/bin/ping", node), Epoch::default()).unwrap();
        assert_eq!(text(&bytes[..100]), "bin/PaxHeaders.0/ping");
        assert_eq!(&bytes[100..108], b"0000000\0");
        assert_eq!(&bytes[329..345], &[0; 16], "device fields of a PAX header stay empty");
        let data = &bytes[BLOCK..2 * BLOCK];
        let expected =
            [b"57 SCHILY.xattr.security.capability=".as_slice(), &capability, b"\n15 uid=2097152\n"].concat();
        assert_eq!(&data[..expected.len()], expected);
        for (len, value) in [(8, 3), (9, 4), (11, 5), (99, 93), (101, 94), (102, 95)] {
            let record = pax_record(b"k", &b"v".repeat(value));
            assert_eq!(record.len(), len, "{value}");
            assert!(text(&record).starts_with(&format!("{len} ")), "{value}");
        }
    }

    /// As Go has it: a long path goes into a record as soon as there is another one, of whatever kind.
    #[test]
    fn any_record_brings_a_long_path_along() {
        let path = [b"/".as_slice(), &b"d/".repeat(40), &b"n".repeat(60)].concat();
        let name = &path[1..];
        for (node, other) in [
            (Node::file(SIZE_MAX), "19 size=8589934592\n"),
            (Node { gid: ID_MAX + 1, ..Node::file(0) }, "15 gid=2097152\n"),
        ] {
            let bytes = head(&planned(&path, node), Epoch::default()).unwrap();
            let expected = format!("150 path={}\n", text(name));
            let mut records = [expected.as_str(), other];
            records.sort_by_key(|record| record.split_once(' ').map(|(_, rest)| rest));
            assert_eq!(text(&bytes[BLOCK..2 * BLOCK]), records.concat());
            assert_eq!(text(&bytes[2 * BLOCK + 345..]), "", "the prefix field");
        }
    }

    #[test]
    fn capabilities_are_portable_or_refused() {
        let version = |version: u8, len: usize| {
            let mut value = vec![0_u8; len];
            (value[0], value[3], value[5]) = (1, version, 32);
            value
        };
        let mut foreign = version(3, 24);
        foreign[20] = 7;
        assert_eq!(&*portable_capability(&version(1, 12)).unwrap(), version(1, 12));
        assert_eq!(&*portable_capability(&version(2, 20)).unwrap(), version(2, 20));
        assert_eq!(&*portable_capability(&version(3, 24)).unwrap(), version(2, 20));
        for bad in [foreign, version(3, 20), version(2, 24), version(4, 20), Vec::new()] {
            assert!(portable_capability(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_no_layer_can_hold_is_refused() {
        let fifo = Node { kind: Kind::Special("a FIFO"), ..Node::file(0) };
        assert!(matches!(head(&planned(b"/f", fifo), Epoch::default()), Err(TarError::Special { .. })));
        let whiteout = planned(b"/.wh.f", Node::file(0));
        assert!(matches!(head(&whiteout, Epoch::default()), Err(TarError::Whiteout { .. })));
    }
}
