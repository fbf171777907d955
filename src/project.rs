//! A project file -> the flags of `minimage build` that it stands for, under the same names, each with its line.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

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
    ("env", Takes::Many),
    ("exclude", Takes::Many),
    ("from", Takes::Many),
    ("hwcaps", Takes::Many),
    ("include", Takes::Many),
    ("label", Takes::Many),
    ("no-package-data", Takes::Nothing),
    ("nss", Takes::Many),
    ("platform", Takes::Many),
    (PROGRAM, Takes::Many),
    ("rules", Takes::Many),
    ("user", Takes::One),
    ("verbose", Takes::Nothing),
    ("with", Takes::Many),
    ("with-suggested", Takes::Nothing),
    ("with-user", Takes::Many),
    ("without", Takes::Many),
];
/// What can be said about how `minimage build` makes it and where it goes, which is BuildKit's business inside of BuildKit.
const OF_COMMAND: [(&str, Takes); 24] = [
    ("annotation", Takes::Many),
    ("attach-report", Takes::Nothing),
    ("authfile", Takes::One),
    ("cache-dir", Takes::One),
    ("cert-dir", Takes::One),
    ("compression", Takes::One),
    ("compression-level", Takes::One),
    ("dry-run", Takes::Nothing),
    ("format", Takes::One),
    ("iidfile", Takes::One),
    ("image-refs", Takes::One),
    ("insecure-registry", Takes::Many),
    ("layers", Takes::One),
    ("load", Takes::OneOrNothing),
    ("metadata-file", Takes::One),
    ("mount-from", Takes::Many),
    ("no-cache", Takes::Nothing),
    ("output", Takes::Many),
    ("progress", Takes::One),
    ("push", Takes::OneOrNothing),
    ("push-if-changed", Takes::OneOrNothing),
    ("registry-mirror", Takes::Many),
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
    /// One value, or nothing.
    OneOrNothing,
    /// A command: one word, or a list of words, which flags take as a JSON array.
    Words,
    /// Any number of values.
    Many,
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
    WrongType { key: String, takes: Takes, found: &'static str },
}

impl Explain for ProjectError {
    fn explain(&self) -> Vec<Explanation> {
        let explanation = |problem: &Problem| {
            let place = format!("{}:{}", self.file, problem.line);
            match &problem.kind {
                ProblemKind::Syntax(what) => Explanation::new("project-syntax", what.clone())
                    .at(place)
                    .fix("write TOML: `name = \"value\"`"),
                ProblemKind::UnknownKey { key, nearest } => {
                    let explanation =
                        Explanation::new("project-key", format!("there is no option `{key}`")).at(place);
                    explanation.fix(match nearest {
                        Some(nearest) => format!("did you mean `{nearest}`?"),
                        None => "`minimage build --help` lists them".to_owned(),
                    })
                }
                ProblemKind::WrongType { key, takes, found } => {
                    Explanation::new("project-type", format!("`{key}` is {found}")).at(place).fix(match takes
                    {
                        Takes::Nothing => format!("write `{key} = true`"),
                        Takes::One => format!("write `{key} = \"…\"`"),
                        Takes::OneOrNothing => format!("write `{key} = \"…\"` or `{key} = true`"),
                        Takes::Many | Takes::Words => format!("write `{key} = [\"…\", \"…\"]`"),
                    })
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
/// `false` is not set.
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
            Some(Some(values)) => settings.push(Setting { name: name.to_owned(), values, line }),
            Some(None) => {}
            None => {
                let found = kind(value.get_ref(), flag.takes);
                let kind = ProblemKind::WrongType { key: name.to_owned(), takes: flag.takes, found };
                problems.push(Problem { line, kind });
            }
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

/// Returns the values that `value` gives a flag; the inner `None` if it switches the flag off, the outer one if it is
/// of the wrong type.
fn values(value: &Spanned<DeValue<'_>>, takes: Takes) -> Option<Option<Vec<String>>> {
    match (value.get_ref(), takes) {
        (DeValue::Boolean(is_on), Takes::Nothing | Takes::OneOrNothing) => Some(is_on.then(Vec::new)),
        (DeValue::Array(items), Takes::Many | Takes::Words) => {
            let words: Vec<String> = items.iter().map(|item| text(item.get_ref())).collect::<Option<_>>()?;
            Some(Some(if takes == Takes::Words { vec![serde_json::json!(words).to_string()] } else { words }))
        }
        (value, Takes::One | Takes::OneOrNothing | Takes::Words) => Some(Some(vec![text(value)?])),
        // For what is itself a name and a value, such as a label.
        (DeValue::Table(table), Takes::Many) => {
            let pair = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                let name: &std::borrow::Cow<'_, str> = name.get_ref();
                Some(format!("{name}={}", text(value.get_ref())?))
            };
            table.iter().map(pair).collect::<Option<_>>().map(Some)
        }
        (value, Takes::Many) => Some(Some(vec![text(value)?])),
        (_, Takes::Nothing) => None,
    }
}

/// Returns a string or a whole number as text.
fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number.to_string())
        }
        _ => None,
    }
}

fn kind(value: &DeValue<'_>, takes: Takes) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) if matches!(takes, Takes::Many | Takes::Words) => {
            "a list with something else than strings in it"
        }
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
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
            ("label", Takes::Many),
            ("push", Takes::OneOrNothing),
            ("assume-ldconfig", Takes::Nothing),
            ("compression-level", Takes::One),
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
        assert_eq!(parse("push = false\nassume-ldconfig = false", FILE, &flags()).unwrap(), []);
        for (text, value) in [
            ("push = 'r/x'", "r/x"),
            ("entrypoint = ['a b', 'c']", r#"["a b","c"]"#),
            ("entrypoint = 'a b'", "a b"),
        ] {
            assert_eq!(parse(text, FILE, &flags()).unwrap()[0].values, [value], "{text}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_its_line() {
        let text = "form = '/'\nassume-ldconfig = 'yes'\ntag = [1.5]\n\nnothing-like-it = 1\nfrom = ['/']\n\
            entrypoint = [true]\n";
        let error = parse(text, "x.toml", &flags()).unwrap_err();
        let shown: Vec<String> = error
            .explain()
            .iter()
            .map(|one| format!("{} {} {}", one.places[0], one.what, one.fixes[0]))
            .collect();
        assert_eq!(
            shown,
            [
                "x.toml:1 there is no option `form` did you mean `from`?",
                "x.toml:2 `assume-ldconfig` is a string write `assume-ldconfig = true`",
                "x.toml:3 `tag` is a list with something else than strings in it write `tag = [\"…\", \"…\"]`",
                "x.toml:5 there is no option `nothing-like-it` `minimage build --help` lists them",
                "x.toml:6 `from` is a list write `from = \"…\"`",
                "x.toml:7 `entrypoint` is a list with something else than strings in it write `entrypoint = \
                    [\"…\", \"…\"]`",
            ]
        );
        assert_eq!(
            parse("from = '/'\nfrom = '/'", FILE, &flags()).unwrap_err().lines().collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(parse("a\nb = ", FILE, &flags()).unwrap_err().lines().next(), Some(1));
    }
}
