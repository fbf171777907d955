//! A closure report + its layers -> about ten lines that say what is in the image, and what is not.

use std::collections::{BTreeMap, BTreeSet};

use super::console::Console;
use super::size;
use crate::layer::Layer;
use crate::report::{LeftOutRecord, Report as ClosureReport};

/// How many lines there are at most, besides the one that says where the image went.
const LINES_MAX: usize = 9;
/// How many lines what was left out gets at least, if there is so much of it.
const LEFT_OUT_MIN: usize = 2;
/// How many things of one kind are named one by one.
const NAMED_MAX: usize = 3;

/// What can be left out, the most important first: its kind in reports, and what one of them and several are called.
/// What the user excludes they know.
const KINDS: [(&str, &str, &str); 6] = [
    ("missing", "thing that is missing", "things that are missing"),
    ("suggested", "rule", "rules"),
    ("program", "program that may be started", "programs that may be started"),
    ("script", "script", "scripts"),
    ("unloadable", "file that would not load", "files that would not load"),
    ("sensitive", "sensitive file", "sensitive files"),
];

/// What brought a file, in the words of the summary, and in its order.
const GROUPS: [(&str, &[&str]); 5] = [
    ("asked for", &["root"]),
    ("to load and run it", &["interp", "needed", "dlopen-note", "loader-config", "shebang", "command-word"]),
    ("package data", &["package-data"]),
    ("rules", &["rule"]),
    ("users, metadata", &["layout", "user-db", "metadata"]),
];

/// Says what is in the image.
pub(super) fn say(closure: &ClosureReport, layers: &[Layer], console: &mut Console) {
    let stored = layers.iter().map(|layer| layer.descriptor.size()).sum();
    for line in lines(closure, stored) {
        console.say(&line);
    }
}

/// Returns what there is to say of an image whose layers take `stored` bytes.
fn lines(closure: &ClosureReport, stored: u64) -> Vec<String> {
    let taken = taken(closure, stored);
    let left: Vec<LeftOut<'_>> = left_out(closure);
    let free = LINES_MAX.saturating_sub(taken.len());
    let mut lines = warnings(closure, free - left.len().min(LEFT_OUT_MIN).min(free));
    let free = free - lines.len();
    lines.extend(taken);
    if left.len() <= free {
        lines.extend(left.iter().map(LeftOut::in_full));
        return lines;
    }
    let (named, others) = left.split_at(free.saturating_sub(1));
    lines.extend(named.iter().map(LeftOut::in_full));
    let others: Vec<_> = others.iter().map(LeftOut::counted).collect();
    lines.push(format!("left out as well: {}; the report has them (--report FILE)", others.join(", ")));
    lines
}

/// Returns the first `count` warnings, the last with how many more there are.
fn warnings(closure: &ClosureReport, count: usize) -> Vec<String> {
    let shown = closure.warnings.iter().take(count).map(|warning| format!("warning: {warning}"));
    let mut shown: Vec<_> = shown.collect();
    let more = closure.warnings.len() - shown.len();
    if let Some(last) = shown.last_mut().filter(|_| more > 0) {
        last.push_str(&format!(" (and {more} more, in the report)"));
    }
    shown
}

/// Returns what the image holds, and what brought it.
fn taken(closure: &ClosureReport, stored: u64) -> Vec<String> {
    let files: Vec<_> = closure.entries.iter().filter(|entry| entry.kind == "file").collect();
    let bytes: u64 = files.iter().map(|entry| entry.size).sum();
    let name = if closure.programs.is_empty() { "files".to_owned() } else { closure.programs.join(" ") };
    let mut lines =
        vec![format!("{name}: {} files, {}, {} to store", files.len(), size(bytes), size(stored))];
    for (group, kinds) in GROUPS {
        let mut names: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut count, mut bytes) = (0_u64, 0_u64);
        for entry in &files {
            let demand = entry.reasons.first().and_then(|reason| closure.demands.get(reason.demand));
            let Some(demand) = demand.filter(|demand| kinds.contains(&demand.kind.as_str())) else {
                continue;
            };
            count += 1;
            bytes += entry.size;
            if let Some(name) = &demand.name {
                *names.entry(name).or_default() += entry.size;
            }
        }
        if count > 0 {
            let files = if count == 1 { "file" } else { "files" };
            let line = format!("  {group:<18} {count:>6} {files:<5} {:>10}  {}", size(bytes), largest(names));
            lines.push(line.trim_end().to_owned());
        }
    }
    lines
}

/// Returns the names with the most bytes, the largest first.
fn largest(names: BTreeMap<&str, u64>) -> String {
    let count = names.len();
    let mut names: Vec<_> = names.into_iter().collect();
    names.sort_by_key(|(name, bytes)| (u64::MAX - bytes, *name));
    let mut shown: Vec<_> = names.into_iter().take(4).map(|(name, _)| name.to_owned()).collect();
    if count > shown.len() {
        shown.push(format!("{} more", count - shown.len()));
    }
    shown.join(", ")
}

/// Things of one kind that were left out.
enum LeftOut<'a> {
    Records {
        kind: &'a str,
        one: &'a str,
        several: &'a str,
        records: Vec<&'a LeftOutRecord>,
    },
    /// So many libraries that programs name in their data.
    Hints(usize),
}

/// Returns what was left out, the most important first.
fn left_out(closure: &ClosureReport) -> Vec<LeftOut<'_>> {
    let mut left = Vec::new();
    for (kind, one, several) in KINDS {
        let records: Vec<_> = closure.left_out.iter().filter(|left| left.kind == kind).collect();
        if !records.is_empty() {
            left.push(LeftOut::Records { kind, one, several, records });
        }
    }
    if !closure.hints.is_empty() {
        left.push(LeftOut::Hints(closure.hints.len()));
    }
    left
}

impl LeftOut<'_> {
    /// Returns what it is, and how to take it.
    fn in_full(&self) -> String {
        let Self::Records { kind, one, several, records } = self else {
            return format!("left out: {}; the report has them (--report FILE)", self.counted());
        };
        let named = |record: &&LeftOutRecord| match few_words(record) {
            Some(why) => format!("`{}` ({why})", record.what),
            None => format!("`{}`", record.what),
        };
        // Of rules and names there are few, and each is another; files are many of a kind.
        let is_each_named = matches!(*kind, "missing" | "suggested") && records.len() <= NAMED_MAX;
        let what = match records.as_slice() {
            [only] => named(only),
            all if is_each_named => all.iter().map(named).collect::<Vec<_>>().join(", "),
            [first, ..] => format!("{} {several} such as {}", records.len(), named(first)),
            [] => (*one).to_owned(),
        };
        let hows: BTreeSet<&str> = records.iter().map(|record| record.how.as_str()).collect();
        let hows: Vec<&str> = hows.into_iter().collect();
        let how = match (*kind, hows.as_slice()) {
            ("sensitive", _) => "--include PATH --allow-sensitive".to_owned(),
            (_, [only]) => (*only).to_owned(),
            ("suggested", hows) if is_each_named => hows.join(" "),
            ("suggested", _) => "--with-suggested".to_owned(),
            _ => "name what runs them as a program too".to_owned(),
        };
        let them = if records.len() == 1 { "it" } else { "them" };
        format!("left out ({kind}): {what}; to take {them}: {how}")
    }

    /// Returns how many there are.
    fn counted(&self) -> String {
        match self {
            Self::Records { one, records, .. } if records.len() == 1 => format!("1 {one}"),
            Self::Records { several, records, .. } => format!("{} {several}", records.len()),
            Self::Hints(1) => "1 library that is only named in data".to_owned(),
            Self::Hints(count) => format!("{count} libraries that are only named in data"),
        }
    }
}

/// Returns the first clause of why `record` matters, where a line has room for it.
fn few_words(record: &LeftOutRecord) -> Option<&str> {
    let why = record.why.as_deref().filter(|_| record.kind != "unloadable")?;
    why.split([';', ':']).next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{DemandRecord, EntryRecord, HintRecord, ReasonRecord};

    fn report() -> ClosureReport {
        let kinds = ["root", "needed", "package-data", "rule", "metadata"];
        let demand = |kind: &&str| DemandRecord {
            path: "/x".to_owned(),
            kind: (*kind).to_owned(),
            by: None,
            name: (*kind == "rule").then(|| "magic".to_owned()),
            text: String::new(),
        };
        let entry = |demand: usize| EntryRecord {
            path: format!("/{demand}"),
            kind: "file".to_owned(),
            mode: "0644".to_owned(),
            uid: 0,
            gid: 0,
            size: 1000,
            target: None,
            layer: 0,
            package: None,
            reasons: vec![ReasonRecord { demand, role: "target".to_owned() }],
        };
        let hint = |_| HintRecord { soname: String::new(), path: String::new(), named_by: String::new() };
        ClosureReport {
            form: 1,
            source: "/".to_owned(),
            programs: vec!["/bin/app".to_owned()],
            demands: kinds.iter().map(demand).collect(),
            entries: (0..kinds.len()).map(entry).collect(),
            warnings: (1..=8).map(|at| format!("warning {at}")).collect(),
            hints: (0..12).map(hint).collect(),
            left_out: vec![
                left("missing", "liba.so", "install what has it in the source", None),
                left("suggested", "tzdata", "--with tzdata", Some("zones are files; without them, UTC")),
                left("suggested", "x", "--with x", Some("because")),
                left("script", "/a", "name `perl` as a program too", None),
                left("script", "/b", "name `lua` as a program too", None),
                left("unloadable", "/c", "install what it needs in the source", Some("it needs d")),
                left("sensitive", "/k", "--include /k --allow-sensitive", Some("private keys")),
                left("excluded", "/e", "leave `--exclude /e` away", None),
            ],
        }
    }

    fn left(kind: &str, what: &str, how: &str, why: Option<&str>) -> LeftOutRecord {
        let [kind, what, how] = [kind, what, how].map(str::to_owned);
        LeftOutRecord { kind, what, how, text: String::new(), why: why.map(str::to_owned), files: Vec::new() }
    }

    #[test]
    fn the_fullest_summary_has_ten_lines_with_the_place() {
        let expected = "\
warning: warning 1 (and 7 more, in the report)
/bin/app: 5 files, 5.0 kB, 2.0 kB to store
  asked for               1 file      1.0 kB
  to load and run it      1 file      1.0 kB
  package data            1 file      1.0 kB
  rules                   1 file      1.0 kB  magic
  users, metadata         1 file      1.0 kB
left out (missing): `liba.so`; to take it: install what has it in the source
left out as well: 2 rules, 2 scripts, 1 file that would not load, 1 sensitive file, 12 libraries that are only named in data; the report has them (--report FILE)";
        assert_eq!(lines(&report(), 2000).join("\n"), expected);
    }

    #[test]
    fn what_was_left_out_is_said_in_full_where_there_is_room() {
        let full = report();
        let only = ClosureReport { warnings: Vec::new(), entries: Vec::new(), programs: Vec::new(), ..full };
        let expected = "\
files: 0 files, 0 bytes, 0 bytes to store
left out (missing): `liba.so`; to take it: install what has it in the source
left out (suggested): `tzdata` (zones are files), `x` (because); to take them: --with tzdata --with x
left out (script): 2 scripts such as `/a`; to take them: name what runs them as a program too
left out (unloadable): `/c`; to take it: install what it needs in the source
left out (sensitive): `/k` (private keys); to take it: --include PATH --allow-sensitive
left out: 12 libraries that are only named in data; the report has them (--report FILE)";
        assert_eq!(lines(&only, 0).join("\n"), expected);
    }
}
