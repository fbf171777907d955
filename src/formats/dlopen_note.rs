//! An ELF dlopen note -> what its object loads at run time (UAPI.12, "ELF Metadata for dlopen() Dependencies").

use serde::Deserialize;

/// The most entries of one note, and names of one entry, that count. systemd's largest has about ten.
const ENTRIES_MAX: usize = 256;

/// How much an object depends on a library that it loads at run time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// It cannot do without.
    Required,
    /// It loses something that most users want. Also meant where nothing is said.
    #[default]
    Recommended,
    /// It loses something that few users want.
    Suggested,
}

/// One library that an object loads at run time, by any of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DlopenEntry {
    /// The names, the best first; never empty.
    pub sonames: Vec<Vec<u8>>,
    /// How much depends on it.
    pub priority: Priority,
    /// What it is good for.
    pub feature: String,
}

#[derive(Deserialize)]
struct RawEntry {
    #[serde(default)]
    soname: Vec<String>,
    #[serde(default)]
    priority: Option<serde_json::Value>,
    #[serde(default)]
    feature: Option<serde_json::Value>,
}

/// Returns the entries of the note with the descriptor `bytes`: a JSON array, perhaps with NULs after it. What is not
/// understood is left out: a note helps, and never hurts.
pub fn parse(bytes: &[u8]) -> Vec<DlopenEntry> {
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    let text = bytes.get(..end).unwrap_or_default();
    let Ok(values) = serde_json::from_slice::<Vec<serde_json::Value>>(text) else { return Vec::new() };
    values.into_iter().take(ENTRIES_MAX).filter_map(entry).collect()
}

fn entry(value: serde_json::Value) -> Option<DlopenEntry> {
    let raw: RawEntry = serde_json::from_value(value).ok()?;
    let names = raw.soname.into_iter().take(ENTRIES_MAX).map(String::into_bytes);
    let sonames: Vec<_> = names.filter(|name| !name.is_empty() && !name.contains(&0)).collect();
    let priority = raw.priority.and_then(|value| serde_json::from_value(value).ok());
    let feature = raw.feature.and_then(|value| Some(value.as_str()?.to_owned()));
    (!sonames.is_empty()).then(|| DlopenEntry {
        sonames,
        priority: priority.unwrap_or_default(),
        feature: feature.unwrap_or_else(|| "something".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(note: &str) -> Vec<String> {
        let show = |entry: DlopenEntry| {
            let names: Vec<_> = entry.sonames.iter().map(|name| crate::path::show(name)).collect();
            format!("{} {:?} {}", names.join("|"), entry.priority, entry.feature)
        };
        parse(note.as_bytes()).into_iter().map(show).collect()
    }

    #[test]
    fn notes_as_systemd_writes_them() {
        let note = r#"[{"feature":"xz","description":"Support xz","priority":"suggested","soname":["liblzma.so.5"]},
            {"soname":["libbpf.so.1","libbpf.so.0"],"priority":"required","extra":{}}, {"soname":["liba.so"]}]"#;
        let padded = format!("{note}\0\0\0");
        assert_eq!(
            shown(&padded),
            [
                "liblzma.so.5 Suggested xz",
                "libbpf.so.1|libbpf.so.0 Required something",
                "liba.so Recommended something"
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_left_out() {
        for bad in ["", "{}", "[", "null", "[1]", r#"[{"soname":"libx.so"}]"#, r#"[{"soname":[]}]"#, "\u{1}"]
        {
            assert_eq!(shown(bad), [""; 0], "{bad}");
        }
        let mixed = r#"[{"soname":[1]},{"soname":["","a\u0000b","libx.so"],"priority":7,"feature":[]}]"#;
        assert_eq!(shown(mixed), ["libx.so Recommended something"]);
        assert_eq!(shown(&"[".repeat(100_000)), [""; 0]);
    }
}
