//! What the step made, and how much there was -> about ten lines for its log.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use minimage::closure::Closure;
use minimage::layer::LayerPlan;
use minimage::path::RootPath;
use minimage::report::Report;
use minimage::rootfs::{HostRootfs, Kind, Rootfs, RootfsError};
use minimage::roots::Origin;
use minimage::summary::{left_out, sensitive, size};

use crate::blame::Said;
use crate::minimise::EVERY_IMAGE;

/// Of how many trees it is said how large they are.
const TREES_MAX: usize = 2;
/// How many roots are named.
const ROOTS_MAX: usize = 5;
/// How many files are named.
const FILES_MAX: usize = 3;
/// How many lines what was left out gets.
const LEFT_OUT_MAX: usize = 3;
/// How many letters of a line of the build file are shown.
const TEXT_MAX: usize = 50;

/// How many files there are, and how many bytes they have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    files: u64,
    bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// A count of the files of a directory, which goes on while something else is done.
pub(crate) struct Count {
    name: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    files: AtomicU64,
    bytes: AtomicU64,
    is_done: AtomicBool,
    is_over: AtomicBool,
}

impl Count {
    /// Begins to count the files of `directory`, which messages call `name`.
    pub(crate) fn start(directory: PathBuf, name: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        thread::spawn(move || {
            // What cannot be read, the step itself will run into, if it matters.
            if theirs.walk(&directory).is_ok() {
                theirs.is_done.store(true, Ordering::Release);
            }
        });
        Self { name: name.to_owned(), shared }
    }

    /// Ends the count, finished or not, and returns what it has come to, in words too.
    fn finish(self) -> (Amount, String) {
        let Self { name, shared } = self;
        let more = if shared.is_done.load(Ordering::Acquire) { "" } else { "more than " };
        shared.is_over.store(true, Ordering::Relaxed);
        let (files, bytes) = (shared.files.load(Ordering::Relaxed), shared.bytes.load(Ordering::Relaxed));
        let amount = Amount { files, bytes };
        (amount, format!("{name} has {more}{}", in_words(amount)))
    }
}

impl Shared {
    fn walk(&self, directory: &std::path::Path) -> Result<(), RootfsError> {
        let rootfs = HostRootfs::open_directory(directory)?;
        let mut open = vec![RootPath::root()];
        while let Some(directory) = open.pop() {
            for (name, is_directory) in rootfs.read_dir_kinds(&directory)? {
                let Some(path) = directory.child(&name) else { continue };
                if self.is_over.load(Ordering::Relaxed) {
                    return Ok(());
                }
                if is_directory {
                    open.push(path);
                } else if let Some(node) = rootfs.lookup(&path)?
                    && node.kind == Kind::File
                {
                    self.files.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(node.size, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}

/// Returns what there is to say of `plan`, which messages call `name`: how much each root of `closure` brings, beside how
/// much there was, and what was left out.
pub(crate) fn lines(
    name: &str,
    plan: &LayerPlan,
    closure: &Closure,
    report: &Report,
    counts: Vec<Count>,
    said: &Said<'_>,
) -> Vec<String> {
    let mut all = Amount::default();
    let mut of_roots: BTreeMap<String, Amount> = BTreeMap::new();
    let mut files: Vec<(u64, &RootPath)> = Vec::new();
    let planned = plan.layers.iter().flat_map(|layer| &layer.entries);
    for entry in planned.filter(|entry| entry.node.kind == Kind::File && entry.hard_link_to.is_none()) {
        let bytes = entry.node.size;
        all.add(bytes);
        of_roots.entry(asked_by(closure.origin(&entry.path), said)).or_default().add(bytes);
        files.push((bytes, &entry.path));
    }
    let mut counted: Vec<(Amount, String)> = counts.into_iter().map(Count::finish).collect();
    counted.retain(|(amount, _)| amount.files > all.files);
    counted.sort_by_key(|(amount, _)| Reverse(amount.bytes));
    let counted = counted.into_iter().take(TREES_MAX).map(|(_, words)| words);
    let head: Vec<String> = [format!("{name}: {}", in_words(all))].into_iter().chain(counted).collect();
    let mut lines = vec![head.join("; ")];
    lines.extend(of_each(of_roots));
    files.sort_by_key(|(bytes, path)| (Reverse(*bytes), *path));
    let largest = files.iter().take(FILES_MAX).map(|(bytes, path)| format!("`{path}` {}", size(*bytes)));
    if all.files > 1 {
        lines.push(format!("largest: {}", largest.collect::<Vec<_>>().join(", ")));
    }
    // Which files are sensitive, a warning says.
    let warning = sensitive(report, said.spelling);
    let left_out = left_out(report, LEFT_OUT_MAX, said.spelling).into_iter();
    lines.extend(left_out.filter(|line| Some(line) != warning.as_ref()));
    lines
}

/// Returns the lines of the roots, what brings most first.
fn of_each(of_roots: BTreeMap<String, Amount>) -> Vec<String> {
    let mut of_roots: Vec<(String, Amount)> = of_roots.into_iter().collect();
    of_roots.sort_by_key(|(_, amount)| Reverse(amount.bytes));
    if of_roots.len() > ROOTS_MAX {
        let others = of_roots.split_off(ROOTS_MAX - 1);
        let mut rest = Amount::default();
        for (_, amount) in &others {
            rest.files += amount.files;
            rest.bytes = rest.bytes.saturating_add(amount.bytes);
        }
        of_roots.push((format!("{} others", others.len()), rest));
    }
    let width = of_roots.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0);
    of_roots.into_iter().map(|(text, amount)| format!("  {text:<width$}  {}", in_words(amount))).collect()
}

/// Returns what the user said at `origin`, in short.
fn asked_by(origin: Option<&Origin>, said: &Said<'_>) -> String {
    let text = match origin {
        Some(Origin::Line { text, .. } | Origin::Argument(text)) => text.clone(),
        Some(Origin::Choice(choice)) => said.shown(choice),
        None => EVERY_IMAGE.to_owned(),
    };
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn in_words(Amount { files, bytes }: Amount) -> String {
    let noun = if files == 1 { "file" } else { "files" };
    format!("{files} {noun}, {}", size(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use minimage::closure::{Cause, Demand};
    use minimage::explain::{Choice, Spelling};
    use minimage::layer;
    use minimage::path::RawPath;
    use minimage::report::{HintRecord, LeftOutRecord};
    use minimage::rootfs::MemoryRootfs;
    use minimage::spec::Layering;

    use super::*;
    use crate::settings::{Given, Written};

    fn root(line: u32, text: &str) -> Cause {
        Cause::Root(Origin::Line { file: "Dockerfile".to_owned(), line, text: text.to_owned() })
    }

    fn left(kind: &str, what: &str, how: &str) -> LeftOutRecord {
        let [kind, what, how] = [kind, what, how].map(str::to_owned);
        LeftOutRecord { kind, what, how, text: String::new(), why: None, files: Vec::new() }
    }

    #[test]
    fn what_each_root_brings_is_said_once() {
        let (large, small) = ("x".repeat(2_500_000), "y".repeat(1_200));
        let files = [
            ("/bin/a", &*large),
            ("/bin/b", "b"),
            ("/lib/l.so", &*small),
            ("/etc/passwd", "root"),
            ("/etc/zone", "UTC"),
        ];
        let rootfs = MemoryRootfs::from(("stage", &files[..]));
        let mut closure = Closure::new();
        let mut take = |path: &str, cause: Cause| {
            closure.take(&rootfs, Demand { path: RawPath::from(path), cause }).unwrap();
        };
        let by = |path: &str| RootPath::from_normal(path.as_bytes()).unwrap();
        take("/bin/b", root(3, "COPY --from=build /bin/b /bin/c /bin/d /bin/e /bin/f /bin/"));
        take("/bin/a", root(4, "CMD [\"/bin/a\"]"));
        take("/lib/l.so", Cause::Needed { by: by("/bin/b"), soname: b"l.so".to_vec() });
        take("/lib/l.so", Cause::Needed { by: by("/bin/a"), soname: b"l.so".to_vec() });
        take("/etc/passwd", Cause::Layout);
        take("/etc/zone", Cause::Root(Origin::Choice(Choice::new("with", "tzdata"))));
        let plan = layer::plan(&closure, Layering::Single);
        let report = Report {
            demands: Vec::new(),
            entries: Vec::new(),
            form: 1,
            hints: vec![HintRecord { soname: String::new(), path: String::new(), named_by: String::new() }],
            left_out: vec![
                left("suggested", "tzdata", "LABEL minimage.with=tzdata"),
                left("suggested", "nss", "LABEL minimage.with=nss"),
                left("script", "/x", "LABEL minimage.include=/usr/bin/perl"),
                left("script", "/y", "LABEL minimage.include=/usr/bin/ruby"),
                left("sensitive", "/key", "LABEL minimage.include=/key"),
            ],
            programs: Vec::new(),
            source: String::new(),
            warnings: Vec::new(),
        };
        let directory = std::env::temp_dir().join(format!("minimage-count-{}", std::process::id()));
        fs::create_dir_all(directory.join("below")).unwrap();
        for name in ["1", "2", "3", "4", "below/5", "below/6"] {
            fs::write(directory.join(name), "12345").unwrap();
        }
        let count = Count::start(directory.clone(), "stage build");
        while !count.shared.is_done.load(Ordering::Acquire) {
            thread::yield_now();
        }
        fs::remove_dir_all(directory).unwrap();
        let expected = "\
stage last: 5 files, 2.5 MB; stage build has 6 files, 30 bytes
  CMD [\"/bin/a\"]                                       1 file, 2.5 MB
  COPY --from=build /bin/b /bin/c /bin/d /bin/e /bin…  2 files, 1.2 kB
  every image                                          1 file, 4 bytes
  --build-arg MINIMAGE_WITH=tzdata                     1 file, 3 bytes
largest: `/bin/a` 2.5 MB, `/lib/l.so` 1.2 kB, `/etc/passwd` 4 bytes
left out (suggested): `tzdata`, `nss`; to take them: LABEL minimage.with=tzdata,nss
left out (script): 2 scripts such as `/x`; to take them: LABEL minimage.include=PROGRAM
left out as well: 1 sensitive file, 1 library that is only named in data";
        let argument = Given {
            name: "with".to_owned(),
            value: "tzdata".to_owned(),
            place: Written::Argument,
            text: "--build-arg MINIMAGE_WITH=tzdata".to_owned(),
            lines: (0, 0),
        };
        let said = Said { given: vec![argument], spelling: Spelling::Labels, file: "Dockerfile" };
        let found = lines("stage last", &plan, &closure, &report, vec![count], &said);
        assert_eq!(found.join("\n"), expected);
        let key = left("sensitive", "/key", "LABEL minimage.include=/key");
        let report = Report { left_out: vec![key], hints: Vec::new(), ..report };
        let found = lines("stage last", &plan, &closure, &report, Vec::new(), &said);
        assert_eq!(found.last().unwrap(), expected.lines().nth(5).unwrap(), "a warning names the key");
    }
}
