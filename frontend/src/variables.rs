//! A word of a build file + the values of variables -> the word with those in it, as the stock frontend has it.

use crate::proto::Platform;

/// Names and their values.
pub(crate) type Variables = Vec<(String, String)>;

/// Returns what the stock frontend calls the parts of a platform, with `prefix` before it.
pub(crate) fn of_platform(prefix: &str, platform: &Platform) -> Variables {
    let Platform { os, architecture, variant, .. } = platform;
    // The only one that there is goes without saying.
    let variant = if architecture == "arm64" && variant == "v8" { "" } else { variant };
    let whole = [os, architecture, variant].into_iter().filter(|part| !part.is_empty());
    let whole = whole.collect::<Vec<_>>().join("/");
    let parts = [("PLATFORM", whole.as_str()), ("OS", os), ("ARCH", architecture), ("VARIANT", variant)];
    parts.map(|(name, value)| (format!("{prefix}{name}"), value.to_owned())).into()
}

/// What a variable without a value stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unset {
    /// Nothing, as for the stock frontend.
    Empty,
    /// Something that somebody has forgotten to say.
    Forgotten,
}

/// Returns `word` without its quotes, with variables as `variables` have them; of several of one name the first counts.
/// `None` if that takes more than `$NAME`, `${NAME}` and `${NAME:-other}` with its kin, or what somebody has forgotten.
pub(crate) fn expanded(word: &str, variables: &[(String, String)], unset: Unset) -> Option<String> {
    let mut text = String::new();
    let mut rest = word;
    let mut quoted = false;
    while let Some(letter) = rest.chars().next() {
        let after = rest.get(letter.len_utf8()..)?;
        rest = after;
        match letter {
            '"' => quoted = !quoted,
            '\'' if !quoted => {
                let (literal, end) = after.split_once('\'')?;
                text.push_str(literal);
                rest = end;
            }
            // Between quotes it escapes only what means something there.
            '\\' if !quoted || after.starts_with(['"', '$', '\\']) => {
                let escaped = after.chars().next()?;
                text.push(escaped);
                rest = after.get(escaped.len_utf8()..)?;
            }
            '$' => {
                let (value, end) = variable(after, variables, unset)?;
                text.push_str(&value);
                rest = end;
            }
            letter => text.push(letter),
        }
    }
    Some(text)
}

/// Returns what the variable stands for that `text` begins with, and what follows it.
fn variable<'a>(text: &'a str, variables: &[(String, String)], unset: Unset) -> Option<(String, &'a str)> {
    if let Some(inside) = text.strip_prefix('{') {
        let end = closing(inside)?;
        return Some((in_braces(inside.get(..end)?, variables, unset)?, inside.get(end + 1..)?));
    }
    let (name, rest) = split_name(text);
    Some((set(value(name, variables), unset)?, rest))
}

/// Returns the value of a variable that has `value`.
fn set(value: Option<&str>, unset: Unset) -> Option<String> {
    match (value, unset) {
        (None, Unset::Forgotten) => None,
        (value, _) => Some(value.unwrap_or_default().to_owned()),
    }
}

/// Splits `text` after the name of a variable that it begins with, which may be empty.
pub(crate) fn split_name(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    text.split_at(end.unwrap_or(text.len()))
}

/// Returns where the brace is that closes the one before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1_u32;
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Returns what `${text}` stands for.
fn in_braces(text: &str, variables: &[(String, String)], unset: Unset) -> Option<String> {
    let (name, rest) = split_name(text);
    let known = value(name, variables);
    // With a colon, to have no value is to be empty, too.
    let (known, rest) = match rest.strip_prefix(':') {
        Some(rest) => (known.filter(|value| !value.is_empty()), rest),
        None => (known, rest),
    };
    match (rest.chars().next(), known) {
        (None, known) => set(known, unset),
        (Some('-'), Some(known)) => Some(known.to_owned()),
        (Some('-'), None) | (Some('+'), Some(_)) => expanded(rest.get(1..)?, variables, unset),
        (Some('+'), None) => Some(String::new()),
        _ => None,
    }
}

fn value<'a>(name: &str, variables: &'a [(String, String)]) -> Option<&'a str> {
    variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_four_variables() {
        let shown = |os: &str, architecture: &str, variant: &str| {
            let [os, architecture, variant] = [os, architecture, variant].map(str::to_owned);
            let platform = Platform { os, architecture, variant, ..Platform::default() };
            let variables = of_platform("TARGET", &platform).into_iter();
            variables.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        let amd64 = "TARGETPLATFORM=linux/amd64 TARGETOS=linux TARGETARCH=amd64 TARGETVARIANT=";
        assert_eq!(shown("linux", "amd64", ""), amd64);
        assert_eq!(shown("linux", "arm64", "v8"), amd64.replace("amd64", "arm64"));
        let armv7 = "TARGETPLATFORM=linux/arm/v7 TARGETOS=linux TARGETARCH=arm TARGETVARIANT=v7";
        assert_eq!(shown("linux", "arm", "v7"), armv7);
    }

    #[test]
    fn variables_are_those_of_the_stock_frontend() {
        let variables = [("A", "a"), ("B_1", "b"), ("EMPTY", ""), ("A", "later")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (word, expected) in [
            ("plain", Some("plain")),
            ("$A", Some("a")),
            ("x-$A-$B_1.y", Some("x-a-b.y")),
            ("${A}${B_1}", Some("ab")),
            ("$NONE:1", Some(":1")),
            ("${NONE:-d}", Some("d")),
            ("${NONE:-${A}x}", Some("ax")),
            ("${EMPTY:-d}${EMPTY-d}", Some("d")),
            ("${A:+set}${NONE:+set}", Some("set")),
            ("${A#a}", None),
            ("${A", None),
            ("\"$A b\" '$A' \\$A", Some("a b $A $A")),
            ("\"a\\n\\\"\\$A\"", Some("a\\n\"$A")),
            ("'$A", None),
        ] {
            assert_eq!(expanded(word, &variables, Unset::Empty).as_deref(), expected, "{word}");
        }
        for (word, expected) in [
            ("$A$EMPTY", Some("a")),
            ("$NONE", None),
            ("${NONE}", None),
            ("${NONE:-$NONE}", None),
            ("${NONE:-d}${NONE+x}${EMPTY:-e}", Some("de")),
            ("'$NONE'", Some("$NONE")),
        ] {
            assert_eq!(expanded(word, &variables, Unset::Forgotten).as_deref(), expected, "{word}");
        }
    }
}
