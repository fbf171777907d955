//! The text of a rule file -> rules.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use super::{Directory, FileKind, Implied, Level, Pattern, Places, Reader, Rule, Strength, Triggers};
use crate::explain::{Explain, Explanation, Failure};
use crate::glob::{Glob, GlobError};

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
    /// A rule has a pattern that is none.
    #[error("the rule `{id}` in `{name}` has a bad pattern")]
    Pattern {
        /// What was read.
        name: String,
        /// The rule.
        id: String,
        /// What is wrong with it.
        source: GlobError,
    },
    /// A rule names an empty directory in another form than `MODE OWNER PATH`.
    #[error("the rule `{id}` in `{name}` has `{text}` for a directory, not `MODE OWNER PATH`")]
    Directory {
        /// What was read.
        name: String,
        /// The rule.
        id: String,
        /// The text.
        text: String,
    },
}

impl Explain for RuleFileError {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("bad-rules", self.to_string())
                .because_of(self)
                .fix("docs/rules.md says what a rule can have"),
        ]
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

/// One `[[rule]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    id: String,
    why: String,
    #[serde(default)]
    level: LevelText,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    when: WhenText,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    dlopen: Vec<String>,
    #[serde(default)]
    programs: Vec<String>,
    #[serde(default)]
    fellows: bool,
    #[serde(default)]
    directories: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    users: Vec<String>,
    reader: Option<ReaderText>,
    install: Option<String>,
    one_program: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct WhenText {
    #[serde(default)]
    soname: Vec<String>,
    #[serde(default)]
    imports: Vec<String>,
    #[serde(default)]
    string: Vec<String>,
    #[serde(default)]
    path: Vec<String>,
    #[serde(default)]
    package: Vec<String>,
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
}

fn document<'a, T: Deserialize<'a>>(name: &str, text: &'a str) -> Result<T, RuleFileError> {
    toml::from_str(text)
        .map_err(|source| RuleFileError::Document { name: name.to_owned(), source: Box::new(source) })
}

/// Returns the rules in `text`, which is called `name` in messages.
pub(super) fn rules(name: &str, text: &str) -> Result<Vec<Rule>, RuleFileError> {
    let file: FileText = document(name, text)?;
    file.rule.into_iter().map(|rule| rule.checked(name)).collect()
}

/// Returns the kinds of sensitive files in `text`.
pub(super) fn sensitive(name: &str, text: &str) -> Result<Vec<Sensitive>, RuleFileError> {
    let file: SensitiveFile = document(name, text)?;
    let kind = |kind: SensitiveText| {
        let globs = |texts: Vec<String>| texts.into_iter().map(Glob::parse).collect::<Result<_, _>>();
        let error = |source| RuleFileError::Pattern { name: name.to_owned(), id: kind.what.clone(), source };
        let files = globs(kind.files).map_err(error)?;
        let except = globs(kind.except).map_err(error)?;
        Ok(Sensitive { files, except, what: kind.what })
    };
    file.kind.into_iter().map(kind).collect()
}

impl RuleText {
    fn checked(self, file: &str) -> Result<Rule, RuleFileError> {
        let id = self.id;
        let pattern_error = |source| RuleFileError::Pattern { name: file.to_owned(), id: id.clone(), source };
        let patterns = self.files.into_iter().map(|text| checked_pattern(text).map_err(&pattern_error));
        let files = patterns.collect::<Result<_, _>>()?;
        let paths = self.when.path.into_iter().map(|text| Glob::parse(text).map_err(&pattern_error));
        let paths = paths.collect::<Result<_, _>>()?;
        let directories = self.directories.into_iter().map(|text| match directory(&text) {
            Some(directory) => Ok(directory),
            None => Err(RuleFileError::Directory { name: file.to_owned(), id: id.clone(), text }),
        });
        let directories = directories.collect::<Result<_, _>>()?;
        Ok(Rule {
            why: self.why,
            level: match self.level {
                LevelText::On => Level::On,
                LevelText::Suggest => Level::Suggest,
                LevelText::Off => Level::Off,
            },
            strength: if self.required { Strength::Required } else { Strength::IfThere },
            when: Triggers {
                sonames: self.when.soname,
                imports: self.when.imports,
                strings: self.when.string,
                paths,
                packages: self.when.package,
            },
            implies: Implied {
                files,
                dlopen: self.dlopen,
                programs: self.programs,
                fellows: self.fellows,
                directories,
                env: self.env,
                users: self.users,
                reader: self.reader.map(|reader| match reader {
                    ReaderText::User => Reader::User,
                }),
            },
            install: self.install,
            one_program: self.one_program,
            id,
        })
    }
}

/// Returns the pattern `text`, after trying it with values in its places.
fn checked_pattern(text: String) -> Result<Pattern, GlobError> {
    let pattern = Pattern { text };
    let places = Places {
        lib: vec![b"/lib".to_vec()],
        own: Some(b"/bin".to_vec()),
        names: vec![b"name".to_vec()],
        value: Some("value".to_owned()),
    };
    pattern.globs(&places)?;
    Ok(pattern)
}

/// Reads `0755 root /run/x`.
fn directory(text: &str) -> Option<Directory> {
    let mut words = text.split(' ');
    let (mode, owner, path) = (words.next()?, words.next()?, words.next()?);
    let mode = u32::from_str_radix(mode, 8).ok().filter(|mode| *mode <= 0o7777)?;
    let is_path = path.starts_with('/') && words.next().is_none();
    is_path.then(|| Directory { path: path.to_owned(), mode, owner: owner.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, expected) in [
            ("[[rule]]\nid = \"x\"", "missing field `why`"),
            ("[[rule]]\nid = \"x\"\nwhy = \"y\"\nfile = []", "unknown field `file`"),
            ("[[rule]]\nid = \"x\"\nwhy = \"y\"\nfiles = [\"etc\"]", "does not start with a slash"),
            ("[[rule]]\nid = \"x\"\nwhy = \"y\"\ndirectories = [\"/run\"]", "not `MODE OWNER PATH`"),
            ("[[rule]]\nid = \"x\"\nwhy = \"y\"\nlevel = \"maybe\"", "unknown variant `maybe`"),
        ] {
            let error = rules("mine.toml", text).unwrap_err();
            let shown = error.explain()[0].to_string();
            assert!(shown.contains(expected) && shown.contains("mine.toml"), "{shown}");
        }
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
