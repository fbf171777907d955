//! A text that a test made -> compared with the one in `testdata/golden`, which `UPDATE_GOLDEN=1` rewrites.

use std::fs;

use crate::tree_text::testdata;

/// Returns what is wrong with `found` as the content of `testdata/golden/NAME`: nothing, or both sides.
pub fn difference(name: &str, found: &str) -> Option<String> {
    let path = testdata().join("golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let directory = path.parent().expect("below testdata");
        fs::create_dir_all(directory).expect("a directory for golden files");
        fs::write(&path, found).expect("the golden file can be written");
        return None;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if expected == found {
        return None;
    }
    Some(format!("---- {name}: expected (-) and found (+)\n{}", both_sides(&expected, found)))
}

/// Returns the lines in which two texts differ, each side whole, between a few that they share.
fn both_sides(expected: &str, found: &str) -> String {
    const CONTEXT: usize = 3;
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let same = |(one, other): &(&&str, &&str)| one == other;
    let start = expected.iter().zip(&found).take_while(same).count();
    let end = expected[start..].iter().rev().zip(found[start..].iter().rev()).take_while(same).count();
    let before = &expected[start.saturating_sub(CONTEXT)..start];
    let after = &expected[expected.len() - end..];
    let lines =
        |sign: &str, lines: &[&str]| lines.iter().map(|line| format!("{sign} {line}\n")).collect::<String>();
    [
        lines(" ", before),
        lines("-", &expected[start..expected.len() - end]),
        lines("+", &found[start..found.len() - end]),
        lines(" ", &after[..end.min(CONTEXT)]),
    ]
    .concat()
}

/// Fails unless each of `texts` (name, found) is as its golden file says; shows all that differ.
pub fn check(texts: impl IntoIterator<Item = (String, String)>) {
    let differences: Vec<_> =
        texts.into_iter().filter_map(|(name, found)| difference(&name, &found)).collect();
    assert!(
        differences.is_empty(),
        "{} golden files differ (UPDATE_GOLDEN=1 rewrites them)\n{}",
        differences.len(),
        differences.join("\n")
    );
}
