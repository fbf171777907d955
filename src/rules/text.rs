//! The text of a rule file -> rules.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use super::{
    Directory, FileKind, Implied, Level, PARTS, Pattern, Places, Reader, Rule, Start, Strength, Triggers,
};
use crate::explain::{Explain, Explanation, Failure};
use crate::glob::{self, Glob, GlobError};
use crate::path::RootPath;

/// Why a text is no file of rules.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuleFileError {
    /// It is not TOML of this form.
    #[error("`{name}` is no file of rules")]
    Document {
        /// What was read.
        name: String,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// It has rules that cannot be, or could never do what they say.
    #[error("`{name}` has {} that cannot be", if faults.len() == 1 { "a rule" } else { "rules" })]
    Rules {
        /// What was read.
        name: String,
        /// Everything that is wrong, in the order of the text.
        faults: Vec<Fault>,
    },
    /// A list of files has a pattern that is none.
    #[error("`{name}` has a bad pattern")]
    Pattern {
        /// What was read.
        name: String,
        /// What is wrong with it.
        source: GlobError,
    },
}

/// One thing that is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, as one clause.
    pub what: String,
}

impl Explain for RuleFileError {
    fn explain(&self) -> Vec<Explanation> {
        let fix = "docs/rules.md says what a rule can have";
        match self {
            Self::Rules { name, faults } => {
                let explanation = |fault: &Fault| {
                    let Fault { line, what } = fault;
                    Explanation::new("bad-rules", what).at(format!("{name}:{line}")).fix(fix)
                };
                faults.iter().map(explanation).collect()
            }
            Self::Document { .. } | Self::Pattern { .. } => {
                vec![Explanation::new("bad-rules", self.to_string()).because_of(self).fix(fix)]
            }
        }
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    rule: Vec<RuleText>,
}

/// A text, and where it is.
type Text = Spanned<String>;

/// One `[[rule]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    id: Text,
    why: String,
    #[serde(default)]
    level: LevelText,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    when: WhenText,
    #[serde(default)]
    files: Vec<Text>,
    #[serde(default)]
    dlopen: Vec<Text>,
    #[serde(default)]
    programs: Vec<Text>,
    #[serde(default)]
    fellows: bool,
    #[serde(default)]
    directories: Vec<Text>,
    #[serde(default)]
    env: BTreeMap<String, Text>,
    #[serde(default)]
    users: Vec<Text>,
    reader: Option<ReaderText>,
    install: Option<String>,
    make: Option<String>,
    one_program: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WhenText {
    #[serde(default)]
    soname: Vec<Text>,
    #[serde(default)]
    imports: Vec<Text>,
    #[serde(default)]
    string: Vec<Text>,
    #[serde(default)]
    path: Vec<Text>,
    #[serde(default)]
    directory: Vec<Text>,
    #[serde(default)]
    package: Vec<Text>,
    starts: Option<StartText>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum StartText {
    LoginShell,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum LevelText {
    #[default]
    On,
    Suggest,
    Off,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum ReaderText {
    User,
    Shell,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKindsText {
    #[serde(alias = "sensitive", alias = "volatile")]
    kind: Vec<FileKindText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKindText {
    what: String,
    files: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    places: bool,
}

fn document<'a, T: Deserialize<'a>>(name: &str, text: &'a str) -> Result<T, RuleFileError> {
    toml::from_str(text)
        .map_err(|source| RuleFileError::Document { name: name.to_owned(), source: Box::new(source) })
}

/// Returns the rules in `text`, which is called `name` in messages.
pub(super) fn rules(name: &str, text: &str) -> Result<Vec<Rule>, RuleFileError> {
    let file: FileText = document(name, text)?;
    let mut faults = Faults { text, found: Vec::new() };
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut rules = Vec::new();
    for rule in file.rule {
        let (id, line) = (rule.id.get_ref().clone(), faults.line(&rule.id));
        if let Some(first) = seen.get(&id) {
            faults.add(&rule.id, format!("the rule `{id}` is there twice: first in line {first}"));
        }
        seen.entry(id).or_insert(line);
        rules.push(rule.checked(&mut faults));
    }
    let mut faults = faults.found;
    faults.sort();
    if faults.is_empty() { Ok(rules) } else { Err(RuleFileError::Rules { name: name.to_owned(), faults }) }
}

/// Returns the kinds of files in `text`.
pub(super) fn file_kinds(name: &str, text: &str) -> Result<Vec<FileKind>, RuleFileError> {
    let file: FileKindsText = document(name, text)?;
    let kind = |kind: FileKindText| {
        let globs = |texts: Vec<String>| texts.into_iter().map(Glob::parse).collect::<Result<_, _>>();
        let error = |source| RuleFileError::Pattern { name: name.to_owned(), source };
        let files = globs(kind.files).map_err(error)?;
        let except = globs(kind.except).map_err(error)?;
        Ok(FileKind { files, except, what: kind.what, keeps_places: kind.places })
    };
    file.kind.into_iter().map(kind).collect()
}

/// What is wrong with the rules of a text.
struct Faults<'a> {
    text: &'a str,
    found: Vec<Fault>,
}

impl Faults<'_> {
    fn line(&self, at: &Text) -> usize {
        let before = self.text.get(..at.span().start).unwrap_or_default();
        1 + before.matches('\n').count()
    }

    fn add(&mut self, at: &Text, what: impl Into<String>) {
        let line = self.line(at);
        self.found.push(Fault { line, what: what.into() });
    }

    /// Returns those of `texts` that `read` can read, and notes the others.
    fn read<T, E: Into<String>>(&mut self, texts: Vec<Text>, read: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        let mut good = Vec::with_capacity(texts.len());
        for text in texts {
            match read(text.get_ref()) {
                Ok(item) => good.push(item),
                Err(what) => self.add(&text, what),
            }
        }
        good
    }
}

impl RuleText {
    /// Returns the rule, as far as it can be, and notes in `faults` what cannot.
    fn checked(self, faults: &mut Faults<'_>) -> Rule {
        let id = self.id;
        if let Some(what) = bad_id(id.get_ref()) {
            faults.add(&id, what);
        }
        if self.why.is_empty() {
            faults.add(&id, format!("the rule `{}` does not say why", id.get_ref()));
        }
        let when = self.when;
        if let Some(text) = when.string.first().filter(|_| when.soname.is_empty() && when.imports.is_empty())
        {
            faults.add(text, "`string` says which objects, of those that `soname` or `imports` names");
        }
        let when = Triggers {
            sonames: faults.read(when.soname, name_pattern),
            imports: faults.read(when.imports, word),
            strings: faults.read(when.string, word),
            paths: faults.read(when.path, path_pattern),
            directories: faults.read(when.directory, path_pattern),
            packages: faults.read(when.package, name_pattern),
            starts: when.starts.map(|start| match start {
                StartText::LoginShell => Start::LoginShell,
            }),
        };
        let of_triggers = [
            ("dlopen", self.dlopen.is_empty()),
            ("fellows", !self.fellows),
            ("directories", self.directories.is_empty()),
            ("users", self.users.is_empty()),
            ("reader", self.reader.is_none()),
        ];
        for (key, _) in of_triggers.into_iter().filter(|(_, is_empty)| !is_empty && when.is_empty()) {
            faults.add(&id, format!("`{key}` is of no use in a rule without `when`"));
        }
        let files = faults.read(self.files, |text| file_pattern(text, &when));
        let mut env = BTreeMap::new();
        for (key, value) in self.env {
            if key.is_empty() || key.contains(['=', '\0']) {
                faults.add(&value, format!("`{key}` is no name of a variable"));
            } else if value.get_ref().contains("{value}") && !when.is_empty() {
                faults.add(&value, NO_VALUE);
            }
            env.insert(key, value.into_inner());
        }
        Rule {
            why: self.why,
            level: match self.level {
                LevelText::On => Level::On,
                LevelText::Suggest => Level::Suggest,
                LevelText::Off => Level::Off,
            },
            strength: if self.required { Strength::Required } else { Strength::IfThere },
            implies: Implied {
                files,
                dlopen: faults.read(self.dlopen, word),
                programs: faults.read(self.programs, program),
                fellows: self.fellows,
                directories: faults.read(self.directories, directory),
                env,
                users: faults.read(self.users, user),
                reader: self.reader.map(|reader| match reader {
                    ReaderText::User => Reader::User,
                    ReaderText::Shell => Reader::Shell,
                }),
            },
            when,
            install: self.install,
            make: self.make,
            one_program: self.one_program,
            id: id.into_inner(),
        }
    }
}

/// What is wrong with a rule that something triggers and that waits for a value.
const NO_VALUE: &str = "`{value}` and `{codeset}` come from `--with ID=VALUE`, not from what `when` names";

/// Returns what is wrong with `id`, which people write after `--with`.
fn bad_id(id: &str) -> Option<String> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.+".contains(letter);
    match id {
        "" => Some("a rule needs an ID".to_owned()),
        id if PARTS.contains(&id) => {
            Some(format!("`{id}` is a part of every image, so no rule is called so"))
        }
        id if !id.chars().all(is_letter) => {
            Some(format!("`{id}` cannot be named: an ID has letters, digits, `-`, `_`, `.` and `+`"))
        }
        _ => None,
    }
}

fn word(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("an empty name is nobody's") } else { Ok(text.to_owned()) }
}

/// Returns the pattern `text` for names.
fn name_pattern(text: &str) -> Result<String, String> {
    glob::check_name(text).map_err(|what| format!("`{text}` is no pattern for names: {what}"))?;
    Ok(word(text)?)
}

/// Returns the pattern `text` for paths that trigger a rule.
fn path_pattern(text: &str) -> Result<Glob, String> {
    match places(text).next() {
        Some(place) => Err(format!("`{place}` in `{text}`: what triggers a rule has no places")),
        None => Glob::parse(text).map_err(|error| error.to_string()),
    }
}

/// Returns the pattern `text` of a rule with the triggers `when`, after trying it with values in its places.
fn file_pattern(text: &str, when: &Triggers) -> Result<Pattern, String> {
    let known = || Pattern::PLACES.iter().map(|(name, _)| *name);
    if let Some(place) = places(text).find(|place| !known().any(|known| known == *place)) {
        let known = known().collect::<Vec<_>>().join(", ");
        return Err(format!("`{place}` in `{text}` is no place; there are {known}"));
    }
    let pattern = Pattern { text: text.to_owned() };
    if pattern.has_value() && !when.is_empty() {
        return Err(NO_VALUE.to_owned());
    }
    if pattern.has_own() && when.is_empty() {
        return Err(format!("`{text}` is beside the file that triggers the rule, and nothing does"));
    }
    let places = Places {
        lib: vec![b"/lib".to_vec()],
        own: Some(b"/bin".to_vec()),
        names: Rc::new([b"name".to_vec()]),
        home: Some(b"/home".to_vec()),
        value: Some("value".to_owned()),
    };
    pattern.globs(&places).map_err(|error| error.to_string())?;
    Ok(pattern)
}

/// Returns what looks like a place in `text`: a word in braces, which is no choice of several.
fn places(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('{').filter_map(|(open, _)| {
        let rest = text.get(open..)?;
        let inner = rest.get(1..)?.split_once(['}', '{'])?.0;
        let end = inner.len() + 2;
        let is_word = inner.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        rest.get(..end).filter(|place| is_word && place.ends_with('}'))
    })
}

/// Returns the program `text`: a name, or an absolute path.
fn program(text: &str) -> Result<String, String> {
    let is_path = || RootPath::from_normal(text.as_bytes()).is_some_and(|path| !path.is_root());
    match text.contains('/') {
        _ if text.is_empty() => Err("an empty name is nobody's".to_owned()),
        true if !is_path() => Err(format!("`{text}` is neither a name nor an absolute path without `..`")),
        _ => Ok(text.to_owned()),
    }
}

/// Returns the user `text`: a name, or one of the two places for users.
fn user(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && !text.contains([':', '/', '{', '}']);
    if is_name || ["{name}", "{named}"].contains(&text) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no user"))
    }
}

/// Reads `0755 root /run/x`.
fn directory(text: &str) -> Result<Directory, String> {
    let words: Vec<&str> = text.split(' ').collect();
    let [mode, owner, path] = words.as_slice() else {
        return Err(format!("`{text}` for a directory is not `MODE OWNER PATH`"));
    };
    // A directory has no use for the set-user-ID bit.
    let Some(mode) = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o3777) else {
        return Err(format!("`{mode}` is no mode of a directory"));
    };
    let is_path = RootPath::from_normal(path.as_bytes()).is_some_and(|path| !path.is_root());
    if !is_path {
        return Err(format!("`{path}` is no absolute path without `.` and `..`"));
    }
    Ok(Directory { path: (*path).to_owned(), mode, owner: user(owner)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_another_form_is_said_with_its_place() {
        for (text, expected) in [
            ("[[rule]]\nid = \"x\"", "missing field `why`"),
            ("[[rule]]\nid = \"x\"\nwhy = \"y\"\nfile = []", "unknown field `file`"),
            ("[[rule]]\nid = \"x\"\nwhy = \"y\"\nlevel = \"maybe\"", "unknown variant `maybe`"),
        ] {
            let error = rules("mine.toml", text).unwrap_err();
            let shown = error.explain()[0].to_string();
            assert!(shown.contains(expected) && shown.contains("mine.toml"), "{shown}");
        }
    }

    /// What is wrong with the rules of the test below, with the line of each.
    const EXPECTED_FAULTS: [&str; 25] = [
        "3: `metadata` is a part of every image, so no rule is called so",
        "3: the rule `metadata` does not say why",
        "5: `/etc/[a` is no pattern for absolute paths: a bracket is not closed",
        "5: `/{self}` is beside the file that triggers the rule, and nothing does",
        "5: `etc` is no pattern for absolute paths: it does not start with a slash",
        "5: `{libs}` in `/usr/share/{libs}/x` is no place; there are {lib}, {self}, {prefix}, {name}, {home}, {value}, {codeset}",
        "8: `directories` is of no use in a rule without `when`",
        "8: a rule needs an ID",
        "10: `string` says which objects, of those that `soname` or `imports` names",
        "11: `/../../x` is no absolute path without `.` and `..`",
        "11: `/run` for a directory is not `MODE OWNER PATH`",
        "11: `4777` is no mode of a directory",
        "14: `a b` cannot be named: an ID has letters, digits, `-`, `_`, `.` and `+`",
        "16: `lib[.so` is no pattern for names: a bracket is not closed",
        "16: `{lib}` in `/{lib}/x`: what triggers a rule has no places",
        "16: an empty name is nobody's",
        "17: `{value}` and `{codeset}` come from `--with ID=VALUE`, not from what `when` names",
        "18: `/bin/../x` is neither a name nor an absolute path without `..`",
        "18: `bin/x` is neither a name nor an absolute path without `..`",
        "18: an empty name is nobody's",
        "19: `a:b` is no user",
        "19: `{value}` is no user",
        "24: `A=B` is no name of a variable",
        "27: the rule `twice` is there twice: first in line 22",
        "30: `{value}` and `{codeset}` come from `--with ID=VALUE`, not from what `when` names",
    ];

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let text = r#"
[[rule]]
id = "metadata"
why = ""
files = ["etc", "/etc/[a", "/usr/share/{libs}/x", "/x/{a,b}/{name}", "/{self}"]

[[rule]]
id = ""
why = "y"
when = { string = ["x"] }
directories = ["/run", "4777 root /run", "0755 root /../../x", "0755 root /run/x"]

[[rule]]
id = "a b"
why = "y"
when = { soname = ["lib[.so", "libx.so.*"], path = ["/{lib}/x"], imports = [""] }
files = ["/usr/lib/locale/{value}/**"]
programs = ["", "bin/x", "/bin/../x", "/bin/x", "x"]
users = ["a:b", "{name}", "{value}"]

[[rule]]
id = "twice"
why = "y"
env = { "A=B" = "x", FINE = "{value}" }

[[rule]]
id = "twice"
why = "y"
when.path = ["/x"]
env = { LANG = "{value}" }
"#;
        let error = rules("mine.toml", text).unwrap_err();
        let shown: Vec<_> = match &error {
            RuleFileError::Rules { faults, .. } => {
                faults.iter().map(|Fault { line, what }| format!("{line}: {what}")).collect()
            }
            error => panic!("{error}"),
        };
        assert_eq!(shown, EXPECTED_FAULTS);
        assert_eq!(
            error.explain()[0].to_string(),
            "error[bad-rules]: `metadata` is a part of every image, so no rule is called so\n  \
             where: mine.toml:3\n    fix: docs/rules.md says what a rule can have"
        );
    }

    #[test]
    fn a_rule_says_what_it_says() {
        let text = r#"
            [[rule]]
            id = "x"
            why = "because"
            level = "suggest"
            required = true
            when = { soname = ["libx.so.*"], imports = ["open"] }
            files = ["{lib}/x/*"]
            directories = ["1777 root /run/x"]
        "#;
        let rule = rules("x", text).unwrap().remove(0);
        assert_eq!((rule.level, rule.strength), (Level::Suggest, Strength::Required));
        let directory = Directory { path: "/run/x".to_owned(), mode: 0o1777, owner: "root".to_owned() };
        assert_eq!(rule.implies.directories, [directory]);
        assert_eq!(rule.when.sonames, ["libx.so.*"]);
    }
}
