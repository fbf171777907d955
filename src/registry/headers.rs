//! Header values that a registry sends -> what they mean. Every one of them is a claim by somebody else.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::Url;

/// The most challenges that are read from one answer.
const CHALLENGES_MAX: usize = 16;

/// One way to authenticate that a registry offers (RFC 9110 section 11.6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The scheme, in lower case.
    pub(super) scheme: String,
    /// The parameters, names in lower case.
    pub(super) parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns the value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Returns every challenge in one `WWW-Authenticate` value. What makes no sense is left out: an unknown scheme must not
/// hide a known one.
pub(super) fn challenges(value: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    for item in split_outside_quotes(value) {
        let item = item.trim();
        // `Scheme name=value`, `Scheme`, `Scheme token68` or a further `name=value` of the scheme before.
        let (scheme, rest) = match item.split_once([' ', '\t']) {
            Some((first, rest)) if is_token(first) && !rest.trim_start().starts_with('=') => {
                (Some(first), rest.trim_start())
            }
            _ if is_token(item) => (Some(item), ""),
            _ => (None, item),
        };
        if let Some(scheme) = scheme {
            if found.len() == CHALLENGES_MAX {
                break;
            }
            found.push(Challenge { scheme: scheme.to_ascii_lowercase(), parameters: Vec::new() });
        }
        if let (Some(challenge), Some((name, value))) = (found.last_mut(), rest.split_once('=')) {
            let name = name.trim();
            // `token68` of other schemes ends in `=`; nothing with an empty value is of use.
            if is_token(name) && !value.trim_matches(['=', ' ']).is_empty() {
                challenge.parameters.push((name.to_ascii_lowercase(), unquoted(value.trim())));
            }
        }
    }
    found
}

fn split_outside_quotes(value: &str) -> Vec<&str> {
    let (mut items, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, character) in value.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                items.push(value.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(value.get(start..).unwrap_or_default());
    items
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else { return value.to_owned() };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    let (mut text, mut escaped) = (String::new(), false);
    for character in inner.chars() {
        if character == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            text.push(character);
        }
    }
    text
}

/// Returns how long a `Retry-After` value asks to wait, counted from `now` if it is a date.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    static PARSER: DateTimeParser = DateTimeParser::new();
    let date = PARSER.parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// Returns how many bytes of an upload have arrived, from the `Range` of its session: `0-99` are 100 bytes.
///
/// `0-0` counts as none: docker/distribution writes it for an empty upload.
pub(super) fn received(range: &str) -> Option<u64> {
    let range = range.trim();
    let range = range.strip_prefix("bytes=").or_else(|| range.strip_prefix("bytes ")).unwrap_or(range);
    let (start, end) = range.split_once('-')?;
    let end: u64 = digits(end)?;
    (digits(start)? == 0).then_some(())?;
    if end == 0 { Some(0) } else { end.checked_add(1) }
}

/// Returns the first byte, the last byte and the size in a `Content-Range: bytes 5-9/10`.
pub(super) fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, size) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let size = if size == "*" { None } else { Some(digits(size)?) };
    let (start, end) = (digits(start)?, digits(end)?);
    (start <= end && size.is_none_or(|size| end < size)).then_some((start, end, size))
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Returns where a `Location` leads from `request` (RFC 3986 section 5), or `None` if no request can go there.
pub(super) fn location(request: &Url, value: &str) -> Option<Url> {
    let mut url = request.join(value).ok()?;
    let fits = matches!(url.scheme(), "http" | "https") && url.has_host();
    if !fits || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    url.set_fragment(None);
    Some(url)
}

/// Returns the page that a `Link` value names as the next one (RFC 8288).
pub(super) fn next_page(request: &Url, value: &str) -> Option<Url> {
    let link = split_outside_quotes(value).into_iter().map(str::trim).find(|link| {
        link.split(';').skip(1).any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            matches!(parameter.as_str(), "rel=next" | "rel=\"next\"")
        })
    })?;
    let target = link.strip_prefix('<')?.split_once('>')?.0;
    location(request, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let one = |challenge: &Challenge| {
            let parameters = challenge.parameters.iter().map(|(name, value)| format!(" {name}=<{value}>"));
            challenge.scheme.clone() + &parameters.collect::<String>()
        };
        challenges(value).iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn challenges_are_read_in_all_their_forms() {
        for (value, want) in [
            ("Basic realm=\"a b\"", "basic realm=<a b>"),
            ("basic", "basic"),
            (
                "Bearer realm=\"https://x/t?a=b,c\",service=\"s\",scope=\"repository:a/b:pull,push\"",
                "bearer realm=<https://x/t?a=b,c> service=<s> scope=<repository:a/b:pull,push>",
            ),
            ("Bearer realm=https://x/t , Service = s", "bearer realm=<https://x/t> service=<s>"),
            ("Negotiate, Basic realm=\"x\"", "negotiate; basic realm=<x>"),
            ("Negotiate YII=, Bearer realm=\"r\"", "negotiate; bearer realm=<r>"),
            (
                "Bearer realm=\"r\", Basic realm=\"x\", charset=\"UTF-8\"",
                "bearer realm=<r>; basic realm=<x> charset=<UTF-8>",
            ),
            (r#"Basic realm="a\"b\\c, d""#, r#"basic realm=<a"b\c, d>"#),
            ("Basic realm=\"open", "basic realm=<open>"),
            ("", ""),
            (",,", ""),
            ("realm=\"x\"", ""),
        ] {
            assert_eq!(shown(value), want, "{value}");
        }
        assert_eq!(challenges(&"A,".repeat(100)).len(), CHALLENGES_MAX);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        for (value, want) in [
            ("0", Some(0)),
            (" 7 ", Some(7)),
            ("Mon, 01 Jan 2024 00:00:30 GMT", Some(30)),
            ("Sun, 31 Dec 2023 23:59:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), want.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn ranges_are_bounded_claims() {
        for (value, want) in [
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("0-0", Some(0)),
            ("5-9", None),
            ("0-", None),
            ("-1", None),
            ("0-+1", None),
            ("0-18446744073709551615", None),
            ("0-99999999999999999999", None),
        ] {
            assert_eq!(received(value), want, "{value}");
        }
        for (value, want) in [
            ("bytes 5-9/10", Some((5, 9, Some(10)))),
            ("bytes 5-9/*", Some((5, 9, None))),
            ("bytes 5-9/9", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("5-9/10", None),
        ] {
            assert_eq!(content_range(value), want, "{value}");
        }
    }

    #[test]
    fn locations_resolve_as_urls_do() {
        let request: Url = "https://r.example:5000/v2/a/blobs/uploads/?mount=x".parse().unwrap();
        for (value, want) in [
            ("/v2/a/blobs/uploads/1?_state=q", Some("https://r.example:5000/v2/a/blobs/uploads/1?_state=q")),
            ("1", Some("https://r.example:5000/v2/a/blobs/uploads/1")),
            ("../uploads/1", Some("https://r.example:5000/v2/a/blobs/uploads/1")),
            ("?session=1", Some("https://r.example:5000/v2/a/blobs/uploads/?session=1")),
            ("//other/x", Some("https://other/x")),
            ("http://other/x#part", Some("http://other/x")),
            ("https://user:pass@other/x", None),
            ("ftp://other/x", None),
            ("file:///etc/passwd", None),
            ("javascript:alert(1)", None),
            ("https://", None),
        ] {
            assert_eq!(location(&request, value).as_ref().map(Url::as_str), want, "{value}");
        }
        for (value, want) in [
            (
                "</v2/a/referrers/d?last=1>; rel=\"next\"",
                Some("https://r.example:5000/v2/a/referrers/d?last=1"),
            ),
            ("</x>; rel=prev, </y>; rel=next", Some("https://r.example:5000/y")),
            ("</x>; rel=prev", None),
            ("/x; rel=next", None),
        ] {
            assert_eq!(next_page(&request, value).as_ref().map(Url::as_str), want, "{value}");
        }
    }
}
