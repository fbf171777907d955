//! What this machine has -> whether a test that needs more is skipped or fails.

use std::io::Write;

/// Says that a test is skipped because `component` is missing, and fails if `MINIMAGE_REQUIRE` (a list with commas, or
/// `all`) names it.
pub fn skip(component: &str, reason: &str) {
    let required = std::env::var("MINIMAGE_REQUIRE").unwrap_or_default();
    let is_required = required.split(',').any(|name| name == component || name == "all");
    assert!(!is_required, "{component} is required: {reason}");
    // Past the capture of the test harness: a skip that nobody sees is a hole.
    let _ = writeln!(std::io::stderr().lock(), "skipped, without {component}: {reason}");
}
