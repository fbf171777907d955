//! A project file -> the flags of `minimage build` that it stands for, under the same names, each with its line.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use crate::explain::{Explain, Explanation, Failure};
use crate::nearest::nearest;

/// The name that a project file has.
pub const FILE: &str = "minimage.toml";
/// The key for programs, which are no flag.
pub const PROGRAM: &str = "program";
/// The key for what comes after `--`.
pub const ARGUMENTS: &str = "arguments";
/// What can be said about the image.
const OF_IMAGE: [(&str, Takes); 25] = [
    ("add", Takes::Many),
    ("allow-missing", Takes::Many),
    ("allow-sensitive", Takes::Nothing),
    (ARGUMENTS, Takes::Many),
    ("assume-ldconfig", Takes::Nothing),
    ("cmd", Takes::Words),
    ("dlopen", Takes::One),
    ("entrypoint", Takes::Words),
    ("env", Takes::Pairs),
    ("exclude", Takes::Many),
    ("from", Takes::Pairs),
    ("hwcaps", Takes::Many),
    ("include", Takes::Many),
    ("label", Takes::Pairs),
    ("no-package-data", Takes::Nothing),
    ("nss", Takes::Many),
    ("platform", Takes::Many),
    (PROGRAM, Takes::Many),
    ("rules", Takes::Many),
    ("user", Takes::Number),
    ("verbose", Takes::Nothing),
    ("with", Takes::Many),
    ("with-suggested", Takes::Nothing),
    ("with-user", Takes::Many),
    ("without", Takes::Many),
];
/// What can be said about how `minimage build` makes it and where it goes, which is BuildKit's business inside of BuildKit.
const OF_COMMAND: [(&str, Takes); 24] = [
    ("annotation", Takes::Pairs),
    ("attach-report", Takes::Nothing),
    ("authfile", Takes::One),
    ("cache-dir", Takes::One),
    ("cert-dir", Takes::One),
    ("compression", Takes::One),
    ("compression-level", Takes::Number),
    ("dry-run", Takes::Nothing),
    ("format", Takes::One),
    ("iidfile", Takes::One),
    ("image-refs", Takes::One),
    ("insecure-registry", Takes::Many),
    ("layers", Takes::Number),
    ("load", Takes::OneOrNothing),
    ("metadata-file", Takes::One),
    ("mount-from", Takes::Many),
    ("no-cache", Takes::Nothing),
    ("output", Takes::Many),
    ("progress", Takes::One),
    ("push", Takes::OneOrNothing),
    ("push-if-changed", Takes::OneOrNothing),
    ("registry-mirror", Takes::Pairs),
    ("report", Takes::One),
    ("tag", Takes::Many),
];

/// A flag that a project file may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: String,
    /// What it takes.
    pub takes: Takes,
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: it is on or off.
    Nothing,
    /// One value.
    One,
    /// One value, which is a whole number or may be one.
    Number,
    /// One value, or nothing.
    OneOrNothing,
    /// A command: one word, or a list of words, which flags take as a JSON array.
    Words,
    /// Any number of values.
    Many,
    /// Any number of values that have a name and an equals sign before them, or may have.
    Pairs,
}

impl Takes {
    /// Returns what that is in a project file.
    fn expected(self) -> &'static str {
        match self {
            Self::Nothing => "true or false",
            Self::One => "a string",
            Self::Number => "a string or a whole number",
            Self::OneOrNothing => "a string, true or false",
            Self::Words | Self::Many => "a string or a list of strings",
            Self::Pairs => "a string, a list of strings or a table of strings",
        }
    }
}

/// Returns what to say of a project file called `file` whose `settings` name nothing that an image could be of.
pub fn without_program(settings: &[Setting], file: &str) -> Option<Explanation> {
    let is_something =
        |setting: &Setting| [PROGRAM, "add", "include", "with"].contains(&setting.name.as_str());
    if settings.iter().any(|setting| is_something(setting) && !setting.values.is_empty()) {
        return None;
    }
    let what = format!("no program is named, nor does `{file}` name one");
    Some(Explanation::new("no-program", what).fix(format!("write `{PROGRAM} = \"…\"`")))
}

/// Returns everything that a project file may set.
pub fn flags() -> Vec<Flag> {
    let flag = |&(name, takes): &(&str, Takes)| Flag { name: name.to_owned(), takes };
    OF_IMAGE.iter().chain(&OF_COMMAND).map(flag).collect()
}

/// Returns whether the flag `name` is only about how `minimage build` makes the image and where it goes.
pub fn is_of_command(name: &str) -> bool {
    OF_COMMAND.iter().any(|(known, _)| *known == name)
}

/// A flag that a project file sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The flag.
    pub name: String,
    /// What it is given; empty for one that takes nothing.
    pub values: Vec<String>,
    /// The line that says so, from 1.
    pub line: usize,
}

/// What is wrong with a project file: everything, not only the first.
#[derive(Debug, Error)]
#[error("`{file}` cannot be used")]
pub struct ProjectError {
    /// The name of the file.
    file: String,
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Problem {
    line: usize,
    kind: ProblemKind,
}

#[derive(Debug)]
enum ProblemKind {
    /// It is no TOML.
    Syntax(String),
    /// There is no such flag.
    UnknownKey { key: String, nearest: Option<String> },
    /// The flag takes something else.
    WrongType { key: String, takes: Takes, found: String, why: Option<&'static str>, fix: String },
}

impl Explain for ProjectError {
    fn explain(&self) -> Vec<Explanation> {
        let explanation = |problem: &Problem| {
            let place = format!("{}:{}", self.file, problem.line);
            match &problem.kind {
                ProblemKind::Syntax(what) => {
                    let explanation = Explanation::new("project-syntax", what.clone()).at(place);
                    explanation.fix(match what {
                        what if what.starts_with("invalid unquoted key") => {
                            "write it in quotes: `\"a/b\" = \"…\"`"
                        }
                        what if what == "duplicate key" => "leave one of the two away",
                        _ => "write TOML: `name = \"value\"`",
                    })
                }
                ProblemKind::UnknownKey { key, nearest } => {
                    let explanation =
                        Explanation::new("project-key", format!("there is no option `{key}`")).at(place);
                    explanation.fix(match nearest {
                        Some(nearest) => format!("did you mean `{nearest}`?"),
                        None => "`minimage build --help` lists them".to_owned(),
                    })
                }
                ProblemKind::WrongType { key, takes, found, why, fix } => {
                    let what = format!("`{key}` takes {}, not {found}", takes.expected());
                    let explanation = Explanation::new("project-type", what).at(place);
                    let explanation = why.iter().fold(explanation, |explanation, why| explanation.why(*why));
                    explanation.fix(format!("write `{fix}`"))
                }
            }
        };
        self.problems.iter().map(explanation).collect()
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

impl ProjectError {
    /// Returns the lines with problems, each from 1.
    pub fn lines(&self) -> impl Iterator<Item = usize> {
        self.problems.iter().map(|problem| problem.line)
    }
}

/// Returns what `text`, the project file called `file`, sets of `flags`, in the order of its lines. What is set to
/// `false`, or to a list of nothing, is not set.
///
/// # Errors
/// [`ProjectError`] for what is no TOML, for unknown names, and for values of the wrong type.
pub fn parse(text: &str, file: &str, flags: &[Flag]) -> Result<Vec<Setting>, ProjectError> {
    let error = |problems| ProjectError { file: file.to_owned(), problems };
    let table = DeTable::parse(text).map_err(|error_in_text| {
        let line = line(text, &error_in_text.span().unwrap_or_default());
        let kind = ProblemKind::Syntax(error_in_text.message().to_owned());
        error(vec![Problem { line, kind }])
    })?;
    let mut settings = Vec::new();
    let mut problems = Vec::new();
    for (key, value) in table.get_ref() {
        let line = line(text, &key.span());
        let name: &str = key.get_ref();
        let Some(flag) = flags.iter().find(|flag| flag.name == name) else {
            let nearest = nearest(name, flags.iter().map(|flag| flag.name.as_str())).map(str::to_owned);
            problems.push(Problem { line, kind: ProblemKind::UnknownKey { key: name.to_owned(), nearest } });
            continue;
        };
        match values(value, flag.takes) {
            Ok(Some(values)) => settings.push(Setting { name: name.to_owned(), values, line }),
            Ok(None) => {}
            Err(wrong) => problems.extend(wrong.into_iter().map(|wrong| {
                let takes = flag.takes;
                let (found, why, fix) = (wrong.found(), wrong.why(), wrong.fix(text, key, takes));
                let kind = ProblemKind::WrongType { key: name.to_owned(), takes, found, why, fix };
                Problem { line: self::line(text, &wrong.value.span()), kind }
            })),
        }
    }
    if problems.is_empty() {
        settings.sort_by_key(|setting| setting.line);
        Ok(settings)
    } else {
        problems.sort_by_key(|problem| problem.line);
        Err(error(problems))
    }
}

/// A value of the wrong type.
struct Wrong<'a> {
    value: &'a Spanned<DeValue<'a>>,
    within: Within<'a>,
}

/// What a value of the wrong type is part of.
enum Within<'a> {
    Nothing,
    List,
    /// A table, in which it has this name.
    Table(&'a str),
    /// Tables in a table: the names that lead there, with dots between them.
    Tables(String),
}

impl Wrong<'_> {
    /// Returns what stands there.
    fn found(&self) -> String {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        match self.within {
            Within::Nothing => found.to_owned(),
            Within::List => format!("a list with {found} in it"),
            Within::Table(_) => format!("a table with {found} in it"),
            Within::Tables(_) => "a table with a table in it".to_owned(),
        }
    }

    /// Returns why it is of that type, if that may surprise.
    fn why(&self) -> Option<&'static str> {
        let is_nested = matches!(self.within, Within::Tables(_));
        is_nested.then_some("without quotes, each part of a key with dots in it is a table")
    }

    /// Returns what could stand there instead of what `text` has, for the flag `key` that takes `takes`.
    fn fix(&self, text: &str, key: &Spanned<Cow<'_, str>>, takes: Takes) -> String {
        // What is text somewhere else, only lacks its quotes; a switch is none.
        let written = match (self.value.get_ref(), &self.within) {
            (DeValue::Boolean(_), Within::Nothing) => None,
            (DeValue::Float(_), _) if takes == Takes::Number => None,
            (DeValue::String(string), Within::Tables(_)) => Some(&**string),
            (DeValue::Array(_) | DeValue::Table(_) | DeValue::String(_), _) => None,
            _ => text.get(self.value.span()),
        };
        let string = quoted(written.unwrap_or("…"));
        let (key, at) = (key.get_ref(), key.span());
        let named = |name: &str| {
            let table = if is_in_front_of_a_name(text, &at) { format!("{key}.") } else { String::new() };
            format!("{table}{} = {string}", bare_or_quoted(name))
        };
        match &self.within {
            Within::List => string,
            Within::Table(name) => named(name),
            // As whoever left the quotes away means them.
            Within::Tables(names) => named(names),
            Within::Nothing if takes == Takes::Nothing => format!("{key} = true"),
            Within::Nothing => format!("{key} = {string}"),
        }
    }
}

/// Adds to `wrong` everything in `table`, to which `names` lead; TOML nests no deeper than its reader lets it.
fn add_all_of<'a>(table: &'a DeTable<'a>, names: &str, wrong: &mut Vec<Wrong<'a>>) {
    for (name, value) in table {
        let names = format!("{names}.{}", name.get_ref());
        match value.get_ref() {
            DeValue::Table(table) if !table.is_empty() => add_all_of(table, &names, wrong),
            _ => wrong.push(Wrong { value, within: Within::Tables(names) }),
        }
    }
}

/// Returns whether the key at `at` of `text` is the first part of one with dots, as in `label.x = "y"`.
fn is_in_front_of_a_name(text: &str, at: &Range<usize>) -> bool {
    let before = text.get(..at.start).unwrap_or_default().trim_end();
    let after = text.get(at.end..).unwrap_or_default().trim_start();
    after.starts_with('.') && !before.ends_with('[')
}

/// Returns `key` as TOML has it.
fn bare_or_quoted(key: &str) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    if !key.is_empty() && key.chars().all(is_bare) { key.to_owned() } else { quoted(key) }
}

/// Returns `text` as a string of JSON, which is one of TOML.
fn quoted(text: &str) -> String {
    serde_json::json!(text).to_string()
}

/// Returns the values that `value` gives a flag; `None` if it switches the flag off, or has none.
///
/// # Errors
/// Everything of it that is of the wrong type.
fn values<'a>(value: &'a Spanned<DeValue<'a>>, takes: Takes) -> Result<Option<Vec<String>>, Vec<Wrong<'a>>> {
    let (mut values, mut wrong) = (Vec::new(), Vec::new());
    match (value.get_ref(), takes) {
        (DeValue::Boolean(is_on), Takes::Nothing | Takes::OneOrNothing) => return Ok(is_on.then(Vec::new)),
        (DeValue::Integer(number), Takes::Number) => values.push(number_text(number)),
        (DeValue::Array(items), Takes::Words | Takes::Many | Takes::Pairs) => {
            for item in items.iter() {
                match item.get_ref() {
                    DeValue::String(text) => values.push(text.to_string()),
                    _ => wrong.push(Wrong { value: item, within: Within::List }),
                }
            }
            if takes == Takes::Words {
                values = vec![serde_json::json!(values).to_string()];
            }
        }
        (DeValue::Table(table), Takes::Pairs) => {
            for (name, value) in table {
                let name: &str = name.get_ref();
                match value.get_ref() {
                    DeValue::String(text) => values.push(format!("{name}={text}")),
                    DeValue::Integer(number) => values.push(format!("{name}={}", number_text(number))),
                    DeValue::Table(table) if !table.is_empty() => add_all_of(table, name, &mut wrong),
                    _ => wrong.push(Wrong { value, within: Within::Table(name) }),
                }
            }
        }
        (DeValue::String(text), takes) if takes != Takes::Nothing => values.push(text.to_string()),
        _ => wrong.push(Wrong { value, within: Within::Nothing }),
    }
    if wrong.is_empty() { Ok((!values.is_empty()).then_some(values)) } else { Err(wrong) }
}

/// Returns a whole number as text; one that is too large for anything as it is written.
fn number_text(number: &DeInteger<'_>) -> String {
    let read = i64::from_str_radix(number.as_str(), number.radix());
    read.map_or_else(|_| number.as_str().to_owned(), |number| number.to_string())
}

/// Returns the line, from 1, in which `span` starts.
fn line(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> Vec<Flag> {
        [
            ("from", Takes::One),
            ("tag", Takes::Many),
            ("label", Takes::Pairs),
            ("user", Takes::Number),
            ("push", Takes::OneOrNothing),
            ("assume-ldconfig", Takes::Nothing),
            ("compression-level", Takes::Number),
            ("entrypoint", Takes::Words),
        ]
        .map(|(name, takes)| Flag { name: name.to_owned(), takes })
        .into()
    }

    #[test]
    fn names_and_values_are_those_of_the_flags() {
        let text = "# a comment\nfrom = '/srv/root'\ntag = [\"a:1\",\n  \"a:2\"]\ncompression-level = 9\n\
            assume-ldconfig = true\npush = true\n\n[label]\n\"org.x\" = 'y'\n";
        let found = parse(text, FILE, &flags()).unwrap();
        let shown: Vec<String> = found
            .iter()
            .map(|setting| format!("{}: {} {}", setting.line, setting.name, setting.values.join(" ")))
            .collect();
        assert_eq!(
            shown,
            [
                "2: from /srv/root",
                "3: tag a:1 a:2",
                "5: compression-level 9",
                "6: assume-ldconfig ",
                "7: push ",
                "9: label org.x=y"
            ]
        );
        let nothing = "push = false\nassume-ldconfig = false\ntag = []\n[label]\n";
        assert_eq!(parse(nothing, FILE, &flags()).unwrap(), []);
        for (text, value) in [
            ("push = 'r/x'", "r/x"),
            ("entrypoint = ['a b', 'c']", r#"["a b","c"]"#),
            ("entrypoint = 'a b'", "a b"),
            ("entrypoint = []", "[]"),
            ("user = 0x10", "16"),
            ("user = 99999999999999999999", "99999999999999999999"),
            ("[label]\na = 1", "a=1"),
        ] {
            assert_eq!(parse(text, FILE, &flags()).unwrap()[0].values, [value], "{text}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_its_line() {
        let shown = |text: &str| -> Vec<String> {
            let problems = parse(text, "x.toml", &flags()).unwrap_err().explain();
            problems.iter().map(|one| format!("{} {} {}", one.places[0], one.what, one.fixes[0])).collect()
        };
        let keys = shown("form = '/'\n\nnothing-like-it = 1\nassume-ldconfig = 'yes'\n");
        assert_eq!(
            keys,
            [
                "x.toml:1 there is no option `form` did you mean `from`?",
                "x.toml:3 there is no option `nothing-like-it` `minimage build --help` lists them",
                "x.toml:4 `assume-ldconfig` takes true or false, not a string write `assume-ldconfig = true`",
            ]
        );
        let one = "`from` takes a string, not";
        let number = "`user` takes a string or a whole number, not";
        let switch = "`push` takes a string, true or false, not";
        let words = "`entrypoint` takes a string or a list of strings, not";
        let many = "`tag` takes a string or a list of strings, not";
        let pairs = "`label` takes a string, a list of strings or a table of strings, not";
        for (text, line, takes, found, fix) in [
            ("from = 3", 1, one, "a number", r#"from = "3""#),
            ("from = true", 1, one, "true or false", r#"from = "…""#),
            ("from = ['/']", 1, one, "a list", r#"from = "…""#),
            ("\nfrom.x = '/'", 2, one, "a table", r#"from = "…""#),
            ("user = 1.5", 1, number, "a decimal number", r#"user = "…""#),
            ("push = 1", 1, switch, "a number", r#"push = "1""#),
            ("entrypoint = ['a', true]", 1, words, "a list with true or false in it", r#""true""#),
            ("tag = 3", 1, many, "a number", r#"tag = "3""#),
            ("tag = 2020-01-02", 1, many, "a date", r#"tag = "2020-01-02""#),
            ("tag = {a = 'b'}", 1, many, "a table", r#"tag = "…""#),
            ("tag = [\n'a',\n1.50]", 3, many, "a list with a decimal number in it", r#""1.50""#),
            ("tag = ['a', 2]", 1, many, "a list with a number in it", r#""2""#),
            ("tag = ['a', ['b']]", 1, many, "a list with a list in it", r#""…""#),
            ("label = true", 1, pairs, "true or false", r#"label = "…""#),
            ("[label]\na = 1\nb = 1.0", 3, pairs, "a table with a decimal number in it", r#"b = "1.0""#),
            ("[label]\na = true", 2, pairs, "a table with true or false in it", r#"a = "true""#),
            ("[label]\n'a.b' = true", 2, pairs, "a table with true or false in it", r#""a.b" = "true""#),
            ("[label]\n'' = true", 2, pairs, "a table with true or false in it", r#""" = "true""#),
            ("label.a = true", 1, pairs, "a table with true or false in it", r#"label.a = "true""#),
            ("[label]\n\na.b.c = '1'", 3, pairs, "a table with a table in it", r#""a.b.c" = "1""#),
            ("[label]\na.'b c' = 1", 2, pairs, "a table with a table in it", r#""a.b c" = "1""#),
            ("[label]\na.b = []", 2, pairs, "a table with a table in it", r#""a.b" = "…""#),
            ("[label.a]\nb = '1'", 2, pairs, "a table with a table in it", r#""a.b" = "1""#),
            ("label.a.b = '\"'", 1, pairs, "a table with a table in it", r#"label."a.b" = "\"""#),
            ("label = {a.b = '1'}", 1, pairs, "a table with a table in it", r#""a.b" = "1""#),
            ("label = {a = {}}", 1, pairs, "a table with a table in it", r#"a = "…""#),
        ] {
            assert_eq!(shown(text), [format!("x.toml:{line} {takes} {found} write `{fix}`")], "{text}");
        }
        assert_eq!(shown("from = '/'\nfrom = '/'"), ["x.toml:2 duplicate key leave one of the two away"]);
        assert_eq!(
            shown("from.linux/386 = '/'"),
            [
                "x.toml:1 invalid unquoted key, expected letters, numbers, `-`, `_` write it in quotes: `\"a/b\" = \"…\"`"
            ]
        );
        let each = shown("[label]\na = true\nb.c = 1\nb.d.e = '2'\nf = 'x'\n[from]\n[other]\n");
        let table = "takes a string, a list of strings or a table of strings, not a table with";
        assert_eq!(
            each,
            [
                format!("x.toml:2 `label` {table} true or false in it write `a = \"true\"`"),
                format!("x.toml:3 `label` {table} a table in it write `\"b.c\" = \"1\"`"),
                format!("x.toml:4 `label` {table} a table in it write `\"b.d.e\" = \"2\"`"),
                "x.toml:6 `from` takes a string, not a table write `from = \"…\"`".to_owned(),
                "x.toml:7 there is no option `other` `minimage build --help` lists them".to_owned(),
            ]
        );
        let each = shown("tag = ['a', 1,\n 2]");
        let list = "`tag` takes a string or a list of strings, not a list with a number in it write";
        assert_eq!(each, [format!("x.toml:1 {list} `\"1\"`"), format!("x.toml:2 {list} `\"2\"`")]);
        let reasons = |text: &str| parse(text, "x.toml", &flags()).unwrap_err().explain()[0].reasons.clone();
        let why = "without quotes, each part of a key with dots in it is a table";
        assert_eq!(reasons("[label]\na.b = '1'"), [why]);
        assert!(reasons("[label]\na = true").is_empty());
        assert_eq!(
            parse("from = '/'\nfrom = '/'", FILE, &flags()).unwrap_err().lines().collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(parse("a\nb = ", FILE, &flags()).unwrap_err().lines().next(), Some(1));
    }
}
