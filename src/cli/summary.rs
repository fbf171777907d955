//! A closure report + its layers -> about ten lines that say what is in the image, and what is not.

use std::collections::BTreeMap;

use super::console::Console;
use crate::explain::Spelling;
use crate::layer::Layer;
use crate::report::Report as ClosureReport;
use crate::summary::{left_out, size};

/// How many lines there are at most, besides the one that says where the image went.
const LINES_MAX: usize = 9;
/// How many lines what was left out gets at least, if there is so much of it.
const LEFT_OUT_MIN: usize = 2;
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
    let free = LINES_MAX.saturating_sub(taken.len());
    let left = left_out(closure, free.min(LEFT_OUT_MIN), Spelling::Flags).len();
    let mut lines = warnings(closure, free - left);
    let free = free - lines.len();
    lines.extend(taken);
    lines.extend(left_out(closure, free, Spelling::Flags));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{DemandRecord, EntryRecord, HintRecord, LeftOutRecord, ReasonRecord};

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
                left("private", "/root/.p", "--include /root/.p --allow-sensitive", Some("closed")),
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
left out (sensitive): `/k` (private keys); to take it: --include /k --allow-sensitive
left out: 12 libraries that are only named in data; the report has them (--report FILE)";
        assert_eq!(lines(&only, 0).join("\n"), expected);
    }
}
