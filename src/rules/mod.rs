//! `*.toml` here and files of the user -> the [`Catalogue`]: what programs need that no loader names, as data.
//!
//! A rule has triggers, what it implies, a level, and a reason that people read. Nothing here looks at files; that is
//! the resolver's part.

mod text;

use std::collections::BTreeMap;
use std::rc::Rc;

use thiserror::Error;

use crate::explain::{Choice, Explain, Explanation, Failure, Fix};
use crate::glob::{Glob, GlobError, escaped};
use crate::nearest::nearest;
use crate::path::{RawPath, RootPath};

pub use text::{Fault, RuleFileError};

/// The rules that come with minimage, in the order in which they are tried.
const EMBEDDED: [(&str, &str); 6] = [
    ("bundles.toml", include_str!("bundles.toml")),
    ("libc.toml", include_str!("libc.toml")),
    ("libraries.toml", include_str!("libraries.toml")),
    ("languages.toml", include_str!("languages.toml")),
    ("servers.toml", include_str!("servers.toml")),
    ("tools.toml", include_str!("tools.toml")),
];

/// The files that tell hosts and people apart, or hold their secrets.
const SENSITIVE: &str = include_str!("sensitive.toml");

/// What commands leave behind and no application needs.
const VOLATILE: &str = include_str!("volatile.toml");

/// Parts of every image that are no rules, but can be left out by name like rules.
pub const PARTS: [&str; 4] = ["base-layout", "metadata", "package-data", "user-db"];

/// All rules that are known.
#[derive(Debug, Clone)]
pub struct Catalogue {
    rules: Vec<Rule>,
    sensitive: Vec<FileKind>,
    volatile: Vec<FileKind>,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What the user calls it.
    pub id: String,
    /// What goes wrong without it, as one clause.
    pub why: String,
    /// What happens when it is triggered.
    pub level: Level,
    /// What it takes for what it implies to be there: with `Required`, a demand that finds nothing stops the build.
    pub strength: Strength,
    /// What triggers it; a rule without triggers is taken by name alone.
    pub when: Triggers,
    /// What it implies.
    pub implies: Implied,
    /// The package to install where nothing of it is there.
    pub install: Option<String>,
    /// What makes it in the source where that package is installed, as one clause; `{value}` is what the user gave.
    pub make: Option<String>,
    /// Why package data cannot do it, if only one program triggers the rule.
    pub one_program: Option<String>,
}

/// What happens when a rule is triggered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Level {
    /// It is taken.
    #[default]
    On,
    /// It is mentioned.
    Suggest,
    /// Nothing, unless the user names it.
    Off,
}

/// What becomes of a demand that nothing meets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strength {
    /// It stops the build.
    Required,
    /// What is not there is not needed.
    #[default]
    IfThere,
}

/// What triggers a rule: any of these.
#[derive(Debug, Clone, Default)]
pub struct Triggers {
    /// An object in the closure is called so, by name or path: patterns for one name.
    pub sonames: Vec<String>,
    /// An object in the closure expects one of these symbols from others.
    pub imports: Vec<String>,
    /// With `sonames` or `imports`: only objects with one of these texts in read-only data.
    pub strings: Vec<String>,
    /// A path in the closure, of anything but a directory.
    pub paths: Vec<Glob>,
    /// A directory in the closure.
    pub directories: Vec<Glob>,
    /// A file of a package in the closure, by the package's name.
    pub packages: Vec<String>,
    /// What a command in the closure, or of the image, starts.
    pub starts: Option<Start>,
}

/// What commands can start that is no matter of files alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// A shell as if somebody had logged in: `bash -l`, `su - USER`.
    LoginShell,
}

/// What a rule implies.
#[derive(Debug, Clone, Default)]
pub struct Implied {
    /// Patterns for paths, with the [places](Place) of a closure in them.
    pub files: Vec<Pattern>,
    /// Names that the matching object passes to dlopen.
    pub dlopen: Vec<String>,
    /// Programs, by path or by name.
    pub programs: Vec<String>,
    /// Whether those programs of its package are implied that the matching object names in its data.
    pub fellows: bool,
    /// Empty directories.
    pub directories: Vec<Directory>,
    /// Variables of the image's environment, where nobody sets them.
    pub env: BTreeMap<String, String>,
    /// Users, by their names, as far as the source has them; with [places](Place) too.
    pub users: Vec<String>,
    /// Who reads the file that triggered the rule, or those that it implies, for what they name.
    pub reader: Option<Reader>,
}

/// An empty directory that a rule implies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Where.
    pub path: String,
    /// Its permission bits.
    pub mode: u32,
    /// Whose, by the name of the user, and of the user's group.
    pub owner: String,
}

/// What reads a file of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// `user www-data;`, `User www-data`, `user = mysql`: a line with the word `user` and a name.
    User,
    /// A shell reads the files that the rule implies: the programs that they run are implied, too, if they are there.
    Shell,
}

/// A place in a pattern that differs from closure to closure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `{lib}`: each default directory of the loaders.
    Lib,
    /// `{self}`: the directory of the file that triggered the rule.
    Own,
    /// `{prefix}`: the directory above that one.
    Prefix,
    /// `{name}`: the name of a root program.
    Name,
    /// `{home}`: the home of the user whose login shell it is, or else of the image's user.
    Home,
    /// `{value}`: what the user gave, as in `--with locale=de_DE.UTF-8`.
    Value,
    /// `{codeset}`: the same as `locale -a` spells it, `de_DE.utf8`.
    Codeset,
}

/// A pattern with places in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
}

/// Files that have something in common which rules do not know.
#[derive(Debug, Clone)]
pub struct FileKind {
    /// Which files.
    files: Vec<Glob>,
    /// Which of those are not meant after all.
    except: Vec<Glob>,
    /// What they are.
    pub what: String,
    /// Whether directories and links are not meant.
    pub keeps_places: bool,
}

impl FileKind {
    /// Returns whether the file at `path` is one.
    pub fn is(&self, path: &RootPath) -> bool {
        let is_one_of = |globs: &[Glob]| globs.iter().any(|glob| glob.matches(path));
        is_one_of(&self.files) && !is_one_of(&self.except)
    }
}

/// The user asks for a rule in a way that makes no sense.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuleError {
    /// There is none of this name.
    #[error("there is no rule called `{id}`")]
    Unknown {
        /// The name.
        id: String,
        /// The option that has it.
        option: &'static str,
        /// A name that is much like it.
        nearest: Option<String>,
    },
    /// It is asked for and left out.
    #[error("`{id}` cannot be taken and left out")]
    TakenAndLeft {
        /// The rule.
        id: String,
    },
    /// It needs a value, and has none.
    #[error("the rule `{id}` does not say which")]
    NoValue {
        /// The rule.
        id: String,
    },
    /// It has a value, and needs none.
    #[error("`{id}` takes no value")]
    Value {
        /// The rule.
        id: String,
    },
}

impl Explain for RuleError {
    fn explain(&self) -> Vec<Explanation> {
        let with = |value: &str| Choice::new("with", value);
        let (code, fix) = match self {
            // A list as a shell has it.
            Self::Unknown { id, option, .. } if id.contains(char::is_whitespace) => {
                let values = id.split_whitespace().map(str::to_owned).collect();
                ("unknown-rule", Fix::from("write ").choice(Choice { values, ..Choice::switch(option) }))
            }
            Self::Unknown { nearest: Some(nearest), .. } => {
                ("unknown-rule", format!("did you mean `{nearest}`?").into())
            }
            Self::Unknown { nearest: None, .. } => {
                ("unknown-rule", "docs/rules.md says what rules there are, and how to write one".into())
            }
            Self::TakenAndLeft { id } => (
                "usage",
                Fix::from("say either ").choice(with(id)).text(" or ").choice(Choice::new("without", id)),
            ),
            Self::NoValue { id } => ("usage", Fix::from("write ").choice(with(&format!("{id}=NAME")))),
            Self::Value { id } => ("usage", Fix::from("write ").choice(with(id))),
        };
        let about = match self {
            Self::Unknown { id, option, .. } => Choice::new(option, id),
            Self::TakenAndLeft { id } | Self::NoValue { id } | Self::Value { id } => with(id),
        };
        vec![Explanation::new(code, self.to_string()).about(about).fix(fix)]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

impl Catalogue {
    /// Returns the rules that come with minimage, and those in `added`: pairs of a name for messages and a text. A
    /// rule with an ID that is known already takes its place.
    ///
    /// # Errors
    /// [`RuleFileError`] for a text that holds no rules.
    pub fn with(added: &[(String, String)]) -> Result<Self, RuleFileError> {
        let mut rules: Vec<Rule> = Vec::new();
        let embedded = EMBEDDED.iter().map(|(name, text)| (*name, *text));
        let added = added.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        for (name, text) in embedded.chain(added) {
            for rule in text::rules(name, text)? {
                match rules.iter_mut().find(|known| known.id == rule.id) {
                    Some(known) => *known = rule,
                    None => rules.push(rule),
                }
            }
        }
        let sensitive = text::file_kinds("sensitive.toml", SENSITIVE)?;
        Ok(Self { rules, sensitive, volatile: text::file_kinds("volatile.toml", VOLATILE)? })
    }

    /// Returns a catalogue without any rules.
    pub fn empty() -> Self {
        Self { rules: Vec::new(), sensitive: Vec::new(), volatile: Vec::new() }
    }

    /// Returns the rules, in the order in which they are tried.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Returns the kinds of files that no image should hold by accident.
    pub fn sensitive(&self) -> &[FileKind] {
        &self.sensitive
    }

    /// Returns why no application needs what commands leave behind at `path` and below it, if that is so.
    pub fn volatile(&self, path: &RootPath) -> Option<&FileKind> {
        self.volatile.iter().find(|kind| kind.is(path))
    }

    /// Returns the rule called `id`.
    ///
    /// # Errors
    /// [`RuleError::Unknown`], with the name that is nearest.
    pub fn rule(&self, id: &str) -> Result<&Rule, RuleError> {
        self.rules.iter().find(|rule| rule.id == id).ok_or_else(|| unknown(id, "with", self.ids()))
    }

    /// Checks that `id` is a rule or another [part](PARTS) of images that can be left out.
    ///
    /// # Errors
    /// [`RuleError::Unknown`], with the name that is nearest.
    pub fn check(&self, id: &str) -> Result<(), RuleError> {
        match self.ids().chain(PARTS).any(|known| known == id) {
            true => Ok(()),
            false => Err(unknown(id, "without", self.ids().chain(PARTS))),
        }
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.id.as_str())
    }
}

/// Returns that `option` names a rule `id` which is not among `known`.
fn unknown<'a>(id: &str, option: &'static str, known: impl Iterator<Item = &'a str>) -> RuleError {
    RuleError::Unknown { id: id.to_owned(), option, nearest: nearest(id, known).map(str::to_owned) }
}

impl Rule {
    /// Checks that the user gives it a `value` if it takes one, and none if it does not.
    ///
    /// # Errors
    /// [`RuleError::NoValue`] or [`RuleError::Value`].
    pub fn check_value(&self, value: Option<&str>) -> Result<(), RuleError> {
        let Implied { files, env, .. } = &self.implies;
        let takes = files.iter().any(Pattern::has_value) || env.values().any(|text| text.contains("{value}"));
        match value.filter(|value| !value.is_empty()) {
            None if takes => Err(RuleError::NoValue { id: self.id.clone() }),
            Some(_) if !takes => Err(RuleError::Value { id: self.id.clone() }),
            _ => Ok(()),
        }
    }
}

impl Triggers {
    /// Returns whether the rule is taken by name alone.
    pub fn is_empty(&self) -> bool {
        self.sonames.is_empty()
            && self.imports.is_empty()
            && self.paths.is_empty()
            && self.directories.is_empty()
            && self.packages.is_empty()
            && self.starts.is_none()
    }
}

/// What the places in a pattern stand for.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// The default directories of the loaders.
    pub lib: Vec<Vec<u8>>,
    /// The directory of the file that triggered the rule.
    pub own: Option<Vec<u8>>,
    /// The names of the root programs.
    pub names: Rc<[Vec<u8>]>,
    /// The home of the user whose login shell triggered the rule, or else of the image's user.
    pub home: Option<Vec<u8>>,
    /// What the user gave.
    pub value: Option<String>,
}

impl Places {
    fn of(&self, place: &Place) -> Vec<Vec<u8>> {
        let value = self.value.as_deref();
        match place {
            Place::Lib => self.lib.clone(),
            Place::Own => self.own.iter().cloned().collect(),
            Place::Prefix => self.own.iter().filter_map(|own| parent(own)).collect(),
            Place::Name => self.names.to_vec(),
            Place::Home => self.home.iter().cloned().collect(),
            Place::Value => value.map(|value| value.as_bytes().to_vec()).into_iter().collect(),
            Place::Codeset => value.map(codeset).into_iter().collect(),
        }
    }
}

/// Returns the directory above `directory`, without a slash at its end.
fn parent(directory: &[u8]) -> Option<Vec<u8>> {
    let slash = directory.iter().rposition(|byte| *byte == b'/')?;
    Some(directory.get(..slash).unwrap_or_default().to_vec())
}

/// Returns the name of a locale as its directory is called: `de_DE.UTF-8` is `de_DE.utf8`.
fn codeset(locale: &str) -> Vec<u8> {
    let Some((language, codeset)) = locale.split_once('.') else { return locale.into() };
    let plain: String = codeset.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{language}.{}", plain.to_ascii_lowercase()).into_bytes()
}

impl Pattern {
    const PLACES: [(&str, Place); 7] = [
        ("{lib}", Place::Lib),
        ("{self}", Place::Own),
        ("{prefix}", Place::Prefix),
        ("{name}", Place::Name),
        ("{home}", Place::Home),
        ("{value}", Place::Value),
        ("{codeset}", Place::Codeset),
    ];

    /// Returns whether it depends on where the file is that triggered the rule.
    pub fn has_own(&self) -> bool {
        self.text.contains("{self}") || self.text.contains("{prefix}")
    }

    /// Returns whether it is for somebody's home, where files may well be private.
    pub fn is_of_home(&self) -> bool {
        self.text.contains("{home}")
    }

    /// Returns whether it depends on what the user gives.
    pub fn has_value(&self) -> bool {
        self.text.contains("{value}") || self.text.contains("{codeset}")
    }

    /// Returns the directory whose names are what the user can give, if that is how the pattern is made.
    pub fn values(&self) -> Option<RawPath> {
        let is_value = |name: &&str| ["{value}", "{codeset}"].contains(name);
        let before: Vec<&str> = self.text.split('/').take_while(|name| !is_value(name)).collect();
        let directory = before.join("/");
        let is_plain = self.has_value() && !directory.contains(['{', '*', '?', '[', '\\']);
        is_plain.then(|| RawPath::from(directory.as_str()))
    }

    /// Returns the patterns that come of putting each value of `places` in; none if a place has no value, or one that
    /// cannot be part of a real path.
    ///
    /// # Errors
    /// [`GlobError`] if what comes of it is no pattern.
    pub fn globs(&self, places: &Places) -> Result<Vec<Glob>, GlobError> {
        let mut texts = vec![self.text.as_bytes().to_vec()];
        for (token, place) in &Self::PLACES {
            if !self.text.contains(token) {
                continue;
            }
            let is_real =
                |value: &Vec<u8>| !value.split(|byte| *byte == b'/').any(|name| matches!(name, b"." | b".."));
            let values: Vec<Vec<u8>> = places.of(place).into_iter().filter(is_real).collect();
            texts = texts
                .iter()
                .flat_map(|text| values.iter().map(|value| replaced(text, token.as_bytes(), &escaped(value))))
                .collect();
        }
        texts.into_iter().map(Glob::parse).collect()
    }
}

fn replaced(text: &[u8], token: &[u8], value: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, token) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(value);
        rest = &rest[at + token.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_catalogue_is_whole() {
        let catalogue = Catalogue::with(&[]).unwrap();
        let ids: BTreeSet<_> = catalogue.rules().iter().map(|rule| &rule.id).collect();
        assert_eq!(ids.len(), catalogue.rules().len(), "an ID is used twice");
        for rule in catalogue.rules() {
            assert!(!rule.why.ends_with('.') && !rule.why.is_empty(), "{}: one clause", rule.id);
            let places = Places {
                lib: vec![b"/usr/lib".to_vec()],
                own: Some(b"/usr/bin".to_vec()),
                names: Rc::new([b"x".to_vec()]),
                home: Some(b"/root".to_vec()),
                value: Some("C.UTF-8".to_owned()),
            };
            for file in &rule.implies.files {
                assert_eq!(file.globs(&places).unwrap().len(), 1, "{}: {file:?}", rule.id);
            }
        }
    }

    /// Returns whether one program alone triggers `rule`, whatever version is in its name.
    fn is_for_one_program(rule: &Rule) -> bool {
        let Triggers { sonames, imports, paths, directories, packages, .. } = &rule.when;
        let program = |glob: &Glob| {
            let text = glob.to_string();
            let (directory, name) = text.rsplit_once('/')?;
            let is_for_programs =
                ["bin", "sbin", "games", "git-core"].iter().any(|end| directory.ends_with(end));
            let stem = name.split(['*', '?', '[', '{']).next()?;
            is_for_programs.then(|| stem.to_owned())
        };
        let programs: BTreeSet<_> = paths.iter().map(program).collect();
        sonames.is_empty()
            && imports.is_empty()
            && packages.is_empty()
            && directories.is_empty()
            && programs.len() == 1
            && programs.iter().all(Option::is_some)
    }

    #[test]
    fn a_rule_for_one_program_says_why_there_must_be_one() {
        let catalogue = Catalogue::with(&[]).unwrap();
        let ids = |is_wanted: &dyn Fn(&Rule) -> bool| -> Vec<String> {
            catalogue.rules().iter().filter(|rule| is_wanted(rule)).map(|rule| rule.id.clone()).collect()
        };
        let for_one = ids(&is_for_one_program);
        assert_eq!(ids(&|rule| rule.one_program.is_some()), for_one);
        let count =
            format!("{} rules; {} of them are for one program", catalogue.rules().len(), for_one.len());
        assert!(include_str!("../../docs/rules.md").contains(&count), "docs/rules.md does not say: {count}");
    }

    #[test]
    fn places_are_filled_in() {
        let places = Places {
            lib: vec![b"/lib/x86_64-linux-gnu".to_vec(), b"/usr/lib".to_vec()],
            own: Some(b"/opt/a*b".to_vec()),
            names: Rc::default(),
            home: Some(b"/home/x".to_vec()),
            value: Some("de_DE.UTF-8".to_owned()),
        };
        for (pattern, expected) in [
            ("{lib}/gconv/**", vec!["/lib/x86_64-linux-gnu/gconv/**", "/usr/lib/gconv/**"]),
            ("{self}/x", vec!["/opt/a\\\\*b/x"]),
            ("{prefix}/x", vec!["/opt/x"]),
            ("/usr/lib/locale/{codeset}/**", vec!["/usr/lib/locale/de_DE.utf8/**"]),
            ("{home}/.{a,b}", vec!["/home/x/.{a,b}"]),
            ("/l/{value}", vec!["/l/de_DE.UTF-8"]),
            ("/etc/pam.d/{name}", vec![]),
        ] {
            let pattern = Pattern { text: pattern.to_owned() };
            let globs: Vec<_> = pattern.globs(&places).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(globs, expected);
        }
        for value in ["..", "a/./b", "../x"] {
            let places = Places { value: Some(value.to_owned()), ..Places::default() };
            let pattern = Pattern { text: "/l/{value}".to_owned() };
            assert_eq!(pattern.globs(&places).unwrap(), [], "{value}");
        }
    }

    #[test]
    fn a_mistyped_name_finds_its_neighbour() {
        let catalogue = Catalogue::with(&[]).unwrap();
        let fix = |id: &str| catalogue.check(id).unwrap_err().explain()[0].to_string();
        assert!(fix("ca-certificate").contains("did you mean `ca-certificates`?"));
        assert!(fix("metdata").contains("did you mean `metadata`?"));
        assert!(!fix("quite something else").contains("did you mean"));
        assert!(catalogue.check("base-layout").is_ok());
    }
}
