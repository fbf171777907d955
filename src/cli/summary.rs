//! A closure report + its layers -> about ten lines that say what is in the image, and what is not.

use std::collections::BTreeMap;

use super::console::Console;
use super::size;
use crate::layer::Layer;
use crate::report::Report as ClosureReport;

/// How many things that were left out are named one by one.
const LEFT_OUT_MAX: usize = 5;
/// How many warnings are said one by one.
const WARNINGS_MAX: usize = 8;

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
    for warning in closure.warnings.iter().take(WARNINGS_MAX) {
        console.say(&format!("warning: {warning}"));
    }
    if closure.warnings.len() > WARNINGS_MAX {
        console.say(&format!("warning: and {} more, in the report", closure.warnings.len() - WARNINGS_MAX));
    }
    let files: Vec<_> = closure.entries.iter().filter(|entry| entry.kind == "file").collect();
    let bytes: u64 = files.iter().map(|entry| entry.size).sum();
    let blobs: u64 = layers.iter().map(|layer| layer.descriptor.size()).sum();
    let name = if closure.programs.is_empty() { "files".to_owned() } else { closure.programs.join(" ") };
    console.say(&format!("{name}: {} files, {}, {} to store", files.len(), size(bytes), size(blobs)));
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
            console.say(line.trim_end());
        }
    }
    say_left_out(closure, console);
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

/// Says what was left out and how to take it; things that are taken in the same way share a line.
fn say_left_out(closure: &ClosureReport, console: &mut Console) {
    let mut groups: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    // What the user excludes they know.
    for left in closure.left_out.iter().filter(|left| left.kind != "excluded") {
        let how =
            if left.kind == "sensitive" { "--include PATH --allow-sensitive" } else { left.how.as_str() };
        match groups.iter_mut().find(|(kind, known, _)| *kind == left.kind && *known == how) {
            Some((_, _, what)) => what.push(&left.what),
            None => groups.push((&left.kind, how, vec![&left.what])),
        }
    }
    for (kind, how, what) in groups.iter().take(LEFT_OUT_MAX) {
        let what = match what.as_slice() {
            [one] => format!("`{one}`"),
            [first, ..] => format!("{} files such as `{first}`", what.len()),
            [] => continue,
        };
        console.say(&format!("left out ({kind}): {what}; to take it: {how}"));
    }
    if groups.len() > LEFT_OUT_MAX {
        let more: Vec<_> = groups[LEFT_OUT_MAX..].iter().map(|(_, how, _)| *how).collect();
        console.say(&format!("left out as well: {}", more.join(", ")));
    }
    if !closure.hints.is_empty() {
        console.say(&format!(
            "{} libraries are only named in data, and not taken; the report has them (--report FILE)",
            closure.hints.len()
        ));
    }
}
