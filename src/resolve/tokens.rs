//! `$ORIGIN/../lib` -> the directory it means (dynamic string tokens, ld.so(8)).

/// A dynamic string token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Origin,
    Lib,
    Platform,
}

const TOKENS: [(&[u8], Token); 3] =
    [(b"ORIGIN", Token::Origin), (b"LIB", Token::Lib), (b"PLATFORM", Token::Platform)];

/// Where a token stands in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Whether the token is the first thing and a whole path component.
    pub(super) is_leading_component: bool,
}

/// Returns `text` with its tokens replaced by what `value` gives, or `None` if one has no value: then the whole text
/// does not count. Anything else after a `$` is plain text (glibc since 2.28).
pub(super) fn expand(text: &[u8], value: impl Fn(Token, Place) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let mut expanded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        match token(rest) {
            Some((token, after)) => {
                let is_leading = rest.len() == text.len();
                let is_component = after.first().is_none_or(|byte| *byte == b'/');
                expanded.extend(value(token, Place { is_leading_component: is_leading && is_component })?);
                rest = after;
            }
            None => {
                expanded.push(*first);
                rest = after;
            }
        }
    }
    Some(expanded)
}

/// Returns whether `text` has a token in it.
pub(super) fn has_token(text: &[u8]) -> bool {
    (0..text.len()).any(|at| token(&text[at..]).is_some())
}

fn token(text: &[u8]) -> Option<(Token, &[u8])> {
    let after = text.strip_prefix(b"$")?;
    if let Some(braced) = after.strip_prefix(b"{") {
        return TOKENS.into_iter().find_map(|(name, token)| {
            let rest = braced.strip_prefix(name)?.strip_prefix(b"}")?;
            Some((token, rest))
        });
    }
    TOKENS.into_iter().find_map(|(name, token)| {
        let rest = after.strip_prefix(name)?;
        let ends = rest.first().is_none_or(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
        ends.then_some((token, rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_whole_words() {
        let value = |token, place: Place| match token {
            Token::Origin if place.is_leading_component => Some(b"/app".to_vec()),
            Token::Origin => Some(b"/inner".to_vec()),
            Token::Lib => Some(b"lib64".to_vec()),
            Token::Platform => None,
        };
        for (text, expanded) in [
            ("/plain", Some("/plain")),
            ("$ORIGIN", Some("/app")),
            ("$ORIGIN/../lib", Some("/app/../lib")),
            ("${ORIGIN}/$LIB", Some("/app/lib64")),
            ("$ORIGIN.d", Some("/inner.d")),
            ("x/$ORIGIN", Some("x//inner")),
            ("$ORIGINX/$LIBS", Some("$ORIGINX/$LIBS")),
            ("${ORIGIN", Some("${ORIGIN")),
            ("$", Some("$")),
            ("/usr/$PLATFORM", None),
        ] {
            let found = expand(text.as_bytes(), value).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(found.as_deref(), expanded, "{text}");
        }
        assert!(has_token(b"a$LIB") && !has_token(b"a$LIBS"));
    }
}
