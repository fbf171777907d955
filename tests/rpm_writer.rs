//! Packages as lines of a fixture -> `rpmdb.sqlite`, as rpm's own library would have stored them, in pages so small
//! that rows spill over and tables have more than one page.

use crate::tree_text::{number, split_pair, text};

const PAGE: usize = 512;

/// What is in the header of one package: strings by tag, and files.
#[derive(Default)]
struct Package {
    strings: Vec<(u32, Vec<Vec<u8>>)>,
    numbers: Vec<(u32, u32)>,
    files: Vec<File>,
}

struct File {
    directory: Vec<u8>,
    name: Vec<u8>,
    mode: u16,
    flags: u32,
}

/// Reads `package=NAME version= release= epoch= arch= source= vendor= built= requires=A,B recommends= provides=
/// file=PATH[,mode=OCTAL][,ghost]`; each `package=` starts another one. Returns the database.
pub fn database_of_words(words: &[&[u8]]) -> Result<Vec<u8>, String> {
    let mut packages: Vec<Package> = Vec::new();
    for word in words {
        let (key, value) = split_pair(word)?;
        if key == b"package" {
            packages.push(Package::default());
        }
        let package = packages.last_mut().ok_or("what comes before the first package?")?;
        let list = || value.split(|byte| *byte == b',').map(<[u8]>::to_vec).collect();
        match text(key)? {
            "package" => package.strings.push((1000, vec![value.to_vec()])),
            "version" => package.strings.push((1001, vec![value.to_vec()])),
            "release" => package.strings.push((1002, vec![value.to_vec()])),
            "vendor" => package.strings.push((1011, vec![value.to_vec()])),
            "arch" => package.strings.push((1022, vec![value.to_vec()])),
            "source" => package.strings.push((1044, vec![value.to_vec()])),
            "provides" => package.strings.push((1047, list())),
            "requires" => package.strings.push((1049, list())),
            "recommends" => package.strings.push((5046, list())),
            "epoch" => package.numbers.push((1003, number(value)? as u32)),
            "built" => package.numbers.push((1006, number(value)? as u32)),
            "file" => package.files.push(file(value)?),
            _ => return Err("unknown part of a package".to_owned()),
        }
    }
    let headers: Vec<_> = packages.iter().map(header).collect();
    Ok(sqlite(&headers))
}

fn file(value: &[u8]) -> Result<File, String> {
    let mut parts = value.split(|byte| *byte == b',');
    let path = parts.next().unwrap_or_default();
    let slash = path.iter().rposition(|byte| *byte == b'/').ok_or("a file has an absolute path")?;
    let (directory, name) = path.split_at(slash + 1);
    let mut file = File { directory: directory.to_vec(), name: name.to_vec(), mode: 0o100_644, flags: 0 };
    for part in parts {
        match part {
            b"ghost" => file.flags |= 1 << 6,
            part => match split_pair(part)? {
                (b"mode", value) => {
                    file.mode = u16::from_str_radix(text(value)?, 8).map_err(|error| error.to_string())?;
                }
                _ => return Err("unknown part of a file".to_owned()),
            },
        }
    }
    Ok(file)
}

fn header(package: &Package) -> Vec<u8> {
    let mut values: Vec<(u32, u32, usize, Vec<u8>)> = Vec::new();
    for (tag, strings) in &package.strings {
        let bytes = strings.iter().flat_map(|string| [string.as_slice(), b"\0"].concat()).collect();
        let is_list = matches!(tag, 1047 | 1049 | 5046);
        values.push((*tag, if is_list { 8 } else { 6 }, strings.len(), bytes));
    }
    for (tag, value) in &package.numbers {
        values.push((*tag, 4, 1, value.to_be_bytes().to_vec()));
    }
    let mut directories: Vec<&[u8]> = package.files.iter().map(|file| file.directory.as_slice()).collect();
    directories.sort_unstable();
    directories.dedup();
    let files = &package.files;
    let strings = |names: Vec<&[u8]>| names.into_iter().flat_map(|name| [name, b"\0"].concat()).collect();
    if !files.is_empty() {
        let index = |file: &File| directories.iter().position(|name| *name == file.directory).unwrap() as u32;
        values.push((1030, 3, files.len(), files.iter().flat_map(|file| file.mode.to_be_bytes()).collect()));
        values.push((1037, 4, files.len(), files.iter().flat_map(|file| file.flags.to_be_bytes()).collect()));
        values.push((
            1116,
            4,
            files.len(),
            files.iter().flat_map(|file| index(file).to_be_bytes()).collect(),
        ));
        values.push((1117, 8, files.len(), strings(files.iter().map(|file| file.name.as_slice()).collect())));
        values.push((1118, 8, directories.len(), strings(directories)));
    }
    values.sort();
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (tag, kind, count, bytes) in &values {
        let alignment = match kind {
            3 => 2,
            4 => 4,
            _ => 1,
        };
        data.resize(data.len().next_multiple_of(alignment), 0);
        for field in [*tag, *kind, data.len() as u32, *count as u32] {
            entries.extend(field.to_be_bytes());
        }
        data.extend(bytes);
    }
    let counts = [values.len() as u32, data.len() as u32].map(u32::to_be_bytes).concat();
    [counts, entries, data].concat()
}

/// Returns a database with the table `Packages` of these blobs.
fn sqlite(blobs: &[Vec<u8>]) -> Vec<u8> {
    assert!(blobs.len() >= 2, "the root of the table has children");
    let sql: &[u8] = b"CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT,blob BLOB NOT NULL)";
    let names: [&[u8]; 3] = [b"table", b"Packages", b"Packages"];
    let head = [names[0].len(), names[1].len(), names[2].len()].map(|len| (13 + 2 * len) as u8);
    let types = [&head[..], &[1], &varint(13 + 2 * sql.len() as u64)].concat();
    let row = [&[types.len() as u8 + 1], &types[..], &names.concat(), &[2], sql].concat();
    let cell = [&varint(row.len() as u64)[..], &[1], &row].concat();
    let mut file_head = b"SQLite format 3\0".to_vec();
    file_head.extend((PAGE as u16).to_be_bytes());
    file_head.extend([1, 1, 0, 64, 32, 32, 0, 0, 0, 1]);
    file_head.resize(100, 0);
    file_head[44..48].copy_from_slice(&4_u32.to_be_bytes());
    file_head[56..60].copy_from_slice(&1_u32.to_be_bytes());
    let mut pages = vec![page(&file_head, 13, &[cell], None), Vec::new()];
    let mut leaves = Vec::new();
    for (at, blob) in blobs.iter().enumerate() {
        let types = [&[0], &varint(12 + 2 * blob.len() as u64)[..]].concat();
        let payload = [&[types.len() as u8 + 1], &types[..], blob].concat();
        let local = local(payload.len());
        let mut cell = [varint(payload.len() as u64), varint(at as u64 + 1)].concat();
        cell.extend(&payload[..local]);
        let spilled: Vec<&[u8]> = payload[local..].chunks(PAGE - 4).collect();
        if !spilled.is_empty() {
            cell.extend((pages.len() as u32 + 1).to_be_bytes());
        }
        for (index, part) in spilled.iter().enumerate() {
            let next = if index + 1 < spilled.len() { pages.len() as u32 + 2 } else { 0 };
            let mut page = [&next.to_be_bytes()[..], part].concat();
            page.resize(PAGE, 0);
            pages.push(page);
        }
        pages.push(page(&[], 13, &[cell], None));
        leaves.push((pages.len() as u32, at as u64 + 1));
    }
    let (last, before) = leaves.split_last().expect("at least two");
    let cells: Vec<_> =
        before.iter().map(|(page, id)| [&page.to_be_bytes()[..], &varint(*id)].concat()).collect();
    pages[1] = page(&[], 5, &cells, Some(last.0));
    let count = (pages.len() as u32).to_be_bytes();
    pages[0][28..32].copy_from_slice(&count);
    pages[0][24..28].copy_from_slice(&1_u32.to_be_bytes());
    pages[0][92..96].copy_from_slice(&1_u32.to_be_bytes());
    pages.concat()
}

/// Returns a page of a table: `before` it, its kind, its cells, and its last child.
fn page(before: &[u8], kind: u8, cells: &[Vec<u8>], last: Option<u32>) -> Vec<u8> {
    let mut page = before.to_vec();
    page.resize(PAGE, 0);
    let (mut end, mut pointers) = (PAGE, Vec::new());
    for cell in cells {
        end -= cell.len();
        page[end..end + cell.len()].copy_from_slice(cell);
        pointers.extend((end as u16).to_be_bytes());
    }
    let mut head = vec![kind, 0, 0];
    head.extend((cells.len() as u16).to_be_bytes());
    head.extend((end as u16).to_be_bytes());
    head.push(0);
    head.extend(last.into_iter().flat_map(u32::to_be_bytes));
    head.extend(pointers);
    assert!(before.len() + head.len() <= end, "the page is too full");
    page[before.len()..before.len() + head.len()].copy_from_slice(&head);
    page
}

/// Returns how many bytes of a payload stay in its cell (SQLite's file format, "B-tree Cell Format").
fn local(size: usize) -> usize {
    let (most, least) = (PAGE - 35, (PAGE - 12) * 32 / 255 - 23);
    if size <= most {
        return size;
    }
    let wanted = least + (size - least) % (PAGE - 4);
    if wanted <= most { wanted } else { least }
}

fn varint(number: u64) -> Vec<u8> {
    let mut bytes = vec![(number & 0x7f) as u8];
    let mut rest = number >> 7;
    while rest > 0 {
        bytes.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    bytes.reverse();
    bytes
}
