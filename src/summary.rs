//! A closure report -> what people read of it in a few lines.

use std::collections::BTreeSet;

use crate::explain::{Choice, Spelling};
use crate::report::{LeftOutRecord, Report};

/// How many things of one kind are named one by one.
const NAMED_MAX: usize = 3;

/// What can be left out, the most important first: its kind in reports, and what one of them and several are called.
/// What the user excludes they know, and what is private in a home nobody misses.
const KINDS: [(&str, &str, &str); 6] = [
    ("missing", "thing that is missing", "things that are missing"),
    ("suggested", "rule", "rules"),
    ("program", "program that may be started", "programs that may be started"),
    ("script", "script", "scripts"),
    ("unloadable", "file that would not load", "files that would not load"),
    ("sensitive", "sensitive file", "sensitive files"),
];

/// Returns a number of bytes as people read it.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Returns what was left out, the most important first, and how to take it, in `count` lines at most.
pub fn left_out(report: &Report, count: usize, spelling: Spelling) -> Vec<String> {
    let left = all_left_out(report);
    let in_full = |left: &LeftOut<'_>| left.in_full(spelling);
    if left.len() <= count {
        return left.iter().map(in_full).collect();
    }
    let Some(named) = count.checked_sub(1) else { return Vec::new() };
    let (named, others) = left.split_at(named);
    let others: Vec<_> = others.iter().map(LeftOut::counted).collect();
    let others = format!("left out as well: {}{}", others.join(", "), in_the_report(spelling));
    named.iter().map(in_full).chain([others]).collect()
}

/// Returns which sensitive files were left out, and how to take them; `None` if none were.
pub fn sensitive(report: &Report, spelling: Spelling) -> Option<String> {
    let is_sensitive = |left: &LeftOut<'_>| matches!(left, LeftOut::Records { kind: "sensitive", .. });
    all_left_out(report).iter().find(|left| is_sensitive(left)).map(|left| left.in_full(spelling))
}

/// Returns how to read on, where there is a way.
fn in_the_report(spelling: Spelling) -> &'static str {
    if spelling == Spelling::Flags { "; the report has them (--report FILE)" } else { "" }
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
fn all_left_out(report: &Report) -> Vec<LeftOut<'_>> {
    let mut left = Vec::new();
    for (kind, one, several) in KINDS {
        let records: Vec<_> = report.left_out.iter().filter(|left| left.kind == kind).collect();
        if !records.is_empty() {
            left.push(LeftOut::Records { kind, one, several, records });
        }
    }
    if !report.hints.is_empty() {
        left.push(LeftOut::Hints(report.hints.len()));
    }
    left
}

impl LeftOut<'_> {
    /// Returns what it is, and how to take it.
    fn in_full(&self, spelling: Spelling) -> String {
        let Self::Records { kind, one, several, records } = self else {
            return format!("left out: {}{}", self.counted(), in_the_report(spelling));
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
        let include = |what: &str| spelling.of(&Choice::new("include", what));
        let path = match records.as_slice() {
            [only] => &only.what,
            _ => "PATH",
        };
        let how = match (*kind, hows.as_slice()) {
            ("sensitive", _) if spelling == Spelling::Labels => include(path),
            ("sensitive", _) => {
                format!("{} {}", include(path), spelling.of(&Choice::switch("allow-sensitive")))
            }
            (_, [only]) => (*only).to_owned(),
            ("suggested", _) if is_each_named => {
                let values = records.iter().map(|record| record.what.clone()).collect();
                spelling.of(&Choice { values, ..Choice::switch("with") })
            }
            ("suggested", _) => spelling.of(&Choice::switch("with-suggested")),
            _ if spelling == Spelling::Labels => include("PROGRAM"),
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
