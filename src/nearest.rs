//! A name that nothing has + the names that there are -> the one that may have been meant.

/// Of how many letters of the longer name one may be wrong.
const LETTERS_PER_SLIP: usize = 3;

/// Returns the one of `names` that is most like `name`, if one is: of three letters one may be wrong, and two that are
/// swapped are one mistake, which is the likeliest; or all letters are there, in another order. Of several that are as near,
/// the first in the alphabet.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    let is_swapped = |other: &str| letters(other) == letters(name);
    let is_near =
        |other: &&str| distance(other) <= name.len().max(other.len()) / LETTERS_PER_SLIP || is_swapped(other);
    names.into_iter().filter(is_near).min_by_key(|other| (distance(other), !is_swapped(other), *other))
}

fn letters(name: &str) -> Vec<char> {
    let mut letters: Vec<char> = name.chars().collect();
    letters.sort_unstable();
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_seen_through_and_another_word_is_not() {
        for (name, names, expected) in [
            ("wiht", &["with", "without"][..], Some("with")),
            ("whit", &["with", "without"], Some("with")),
            ("push", &["base", "user"], None),
            ("ap", &["app", "as", "cap"], Some("app")),
            ("ls", &["ps", "cp"], None),
            ("nogrp", &["nogroup", "root"], Some("nogroup")),
            ("metdata", &["metadata", "mount"], Some("metadata")),
            ("bsah", &["bash", "bush"], Some("bash")),
            ("form", &["fork", "from", "fort"], Some("from")),
            ("forn", &["fork", "fort"], Some("fork")),
            ("", &["a"], None),
        ] {
            assert_eq!(nearest(name, names.iter().copied()), expected, "{name}");
        }
    }
}
