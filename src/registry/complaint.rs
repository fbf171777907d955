//! The body of an answer that says no -> the words in it that may be shown.

use serde_json::{Map, Value};

const MESSAGES_MAX: usize = 5;
const MESSAGE_MAX: usize = 300;
/// What a failure is called, and what is said about it: by registries (distribution-spec, "Error Codes"), token servers
/// (RFC 6749 section 5.2), and what stands before them.
const NAMES: [&str; 2] = ["code", "error"];
const WORDS: [&str; 7] =
    ["message", "error_description", "details", "detail", "description", "reason", "title"];

/// Returns what a registry says about a failure, without anything secret: from JSON of any usual form, the title of a
/// page, or the first line of a text.
pub(super) fn messages(body: &[u8], secrets: &[String]) -> Vec<String> {
    let texts = match serde_json::from_slice(body) {
        Ok(value) => of_json(&value),
        Err(_) => of_text(&String::from_utf8_lossy(body)).into_iter().map(str::to_owned).collect(),
    };
    let mut texts: Vec<_> = texts.iter().map(|text| clean(text, secrets)).collect();
    texts.retain(|text| !text.is_empty());
    texts.truncate(MESSAGES_MAX);
    texts
}

fn of_json(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(of_json).collect(),
        Value::Object(fields) => of_fields(fields),
        _ => Vec::new(),
    }
}

fn of_fields(fields: &Map<String, Value>) -> Vec<String> {
    let nested = ["errors", "error"].iter().filter_map(|name| fields.get(*name));
    if let Some(nested) = nested.into_iter().find(|value| value.is_array() || value.is_object()) {
        return of_json(nested);
    }
    let text = |name: &&str| fields.get(*name).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (NAMES.iter().find_map(text), WORDS.iter().find_map(text)) {
        (Some(name), Some(words)) => vec![format!("{name}: {words}")],
        (Some(text), None) | (None, Some(text)) => vec![text.to_owned()],
        // Whatever it is, somebody wrote it to be read.
        (None, None) => {
            let texts = fields.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
            texts.map(|(name, text)| format!("{name}: {text}")).collect()
        }
    }
}

fn of_text(text: &str) -> Option<&str> {
    let text = text.trim_start();
    if text.starts_with('<') {
        let title = text.split_once("<title>")?.1;
        return title.split('<').next();
    }
    text.lines().next()
}

/// Returns `text` without secrets, without the queries of URLs, with what does not show itself escaped, and not too long.
fn clean(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "[secret]");
    }
    let words = text.split_whitespace().map(|word| match word.split_once('?') {
        Some((before, after)) if before.contains("://") || after.contains('=') => format!("{before}?[..]"),
        _ => word.to_owned(),
    });
    let text = words.collect::<Vec<_>>().join(" ");
    let escaped = text.chars().flat_map(|character| {
        let (escape, plain) = match is_invisible(character) {
            true => (Some(character.escape_unicode()), None),
            false => (None, Some(character)),
        };
        escape.into_iter().flatten().chain(plain)
    });
    escaped.take(MESSAGE_MAX).collect()
}

/// Returns whether a character could change what others look like: on a terminal, or from right to left.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_hold_no_secret() {
        let secrets = ["hunter2".to_owned(), "a\"b".to_owned()];
        for (body, want) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no hunter2"},{"message":"m"},{"code":"C"}]}"#,
                vec!["DENIED: no [secret]", "m", "C"],
            ),
            (r#"{"reason":"is it a\"b?"}"#, vec!["is it [secret]?"]),
            (r#"{"said":"a\"b"}"#, vec!["said: [secret]"]),
            (
                "see https://s3.example/x?X-Amz-Signature=abc now\nmore",
                vec!["see https://s3.example/x?[..] now"],
            ),
            ("/relative?sig=abc", vec!["/relative?[..]"]),
            ("really?", vec!["really?"]),
        ] {
            assert_eq!(messages(body.as_bytes(), &secrets), want, "{body}");
        }
    }

    #[test]
    fn a_complaint_has_many_forms() {
        for (body, want) in [
            (r#"{"message":"quota exceeded"}"#, vec!["quota exceeded"]),
            (r#"{"code":403,"message":"quota exceeded"}"#, vec!["quota exceeded"]),
            (r#"{"error":"no such account"}"#, vec!["no such account"]),
            (
                r#"{"error":"invalid_grant","error_description":"it has expired"}"#,
                vec!["invalid_grant: it has expired"],
            ),
            (r#"{"error":{"code":"E1","message":"m"}}"#, vec!["E1: m"]),
            (r#"{"details":"incorrect username or password"}"#, vec!["incorrect username or password"]),
            (r#"{"errors":["a","b"]}"#, vec!["a", "b"]),
            (r#"{"errors":{"message":"m"}}"#, vec!["m"]),
            (
                r#"{"errors":[{"code":"DENIED","message":"","detail":[{"Type":"repository"}]}]}"#,
                vec!["DENIED"],
            ),
            (r#"{"title":"Forbidden","status":403}"#, vec!["Forbidden"]),
            (r#"{"status":"locked","id":7}"#, vec!["status: locked"]),
            (r#""in one string""#, vec!["in one string"]),
            (r#"["a","b","c","d","e","f"]"#, vec!["a", "b", "c", "d", "e"]),
            (
                "<html>\r\n<head><title>413 Request Entity Too Large</title>",
                vec!["413 Request Entity Too Large"],
            ),
            ("<html><body>x", vec![]),
            ("\n too many\trequests \nmore", vec!["too many requests"]),
            ("\u{1b}[31mred \u{202e}back", vec!["\\u{1b}[31mred \\u{202e}back"]),
            ("größer als 容量", vec!["größer als 容量"]),
            ("", vec![]),
            ("{}", vec![]),
            ("null", vec![]),
            (r#"{"errors":[]}"#, vec![]),
        ] {
            assert_eq!(messages(body.as_bytes(), &[]), want, "{body}");
        }
        assert_eq!(messages("x".repeat(1000).as_bytes(), &[])[0].len(), MESSAGE_MAX);
    }
}
