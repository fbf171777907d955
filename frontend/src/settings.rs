//! What the labels, the build arguments and the `# syntax` line say -> the settings of one image.

use minimage::explain::{Choice, Explain, Explanation, Spelling};
use minimage::glob::Glob;
use minimage::options::{self, Choices, OptionError};
use minimage::project::{Flag, Takes};
use minimage::resolve::named_rules;
use minimage::rules::Catalogue;
use minimage::spec::{Search, Selection};
use serde::{Deserialize, Serialize};

use crate::instructions::{Instructions, split};
use crate::options::Options;

/// What the build arguments begin with that are for us.
const ARGUMENT: &str = "MINIMAGE_";
/// The build argument that says what else the first line could.
const SYNTAX: &str = "BUILDKIT_SYNTAX";
/// How many letters of what a client says are shown.
const SHOWN_MAX: usize = 60;
/// What the labels begin with that are for us.
pub(crate) const LABEL: &str = "minimage.";

/// The settings of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) base: Base,
    /// All that is said, what counts most last.
    pub(crate) given: Vec<Given>,
}

/// Whether anything is done at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    /// The image is minimised.
    #[default]
    On,
    /// The image is what the stock frontend makes.
    Off,
}

/// What becomes of the image that the target was built on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Base {
    /// It stays as far as it is needed.
    #[default]
    Minimise,
    /// It stays.
    Keep,
}

/// A setting as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) place: Written,
    /// What it is called in messages: what the build file says, or what the client or another image does.
    pub(crate) text: String,
    /// The line range, as in [`crate::request::Asked`].
    pub(crate) lines: (i32, i32),
}

/// Where a setting is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Written {
    /// After the image in the `# syntax` line.
    Syntax,
    Label,
    /// A build argument that the client gives.
    Argument,
    /// The value that the build file has for a build argument which the client does not give.
    Default,
    /// A key of a project file, or an instruction of which there is an option, too.
    File,
}

impl Given {
    /// Returns where it is said; `file` is the build file's name.
    pub(crate) fn place(&self, file: &str) -> String {
        let Self { text, .. } = self;
        match (self.place, self.lines) {
            (Written::Label, (0, _)) => format!("`{text}` of an image that this one is built on"),
            // Where it is declared is not where it is said.
            (Written::Argument, _) | (_, (0, _)) => format!("`{text}`"),
            (_, (line, _)) => format!("`{text}` ({file}:{line})"),
        }
    }

    /// Returns how options are spelled there; `None` for what is no option there.
    pub(crate) fn spelling(&self) -> Option<Spelling> {
        match self.place {
            Written::Syntax => Some(Spelling::Words),
            Written::Label => Some(Spelling::Labels),
            Written::Argument => Some(Spelling::Arguments),
            Written::Default => Some(Spelling::Defaults),
            Written::File => None,
        }
    }

    /// Returns whether it takes back what has been said of its option: a build argument without a value does.
    pub(crate) fn is_empty_argument(&self) -> bool {
        self.place == Written::Argument && self.value.is_empty()
    }

    /// Returns whether it gives the option `choice` what that has.
    pub(crate) fn is(&self, choice: &Choice) -> bool {
        let is_item = |value: &String| {
            let mut items = self.value.split(['\n', ',']).map(str::trim);
            items.any(|item| item == value || item.split('=').next() == Some(value)) || self.value == *value
        };
        self.name == choice.name && choice.values.iter().all(is_item)
    }
}

/// Why a setting cannot be used.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) given: Given,
    pub(crate) explanation: Explanation,
}

/// Returns what the build arguments and the `# syntax` line say, and where `instructions` have it; `labels` are those of
/// the image that are for us. A later one wins: labels are of the build file, arguments of this build.
pub(crate) fn given(
    options: &Options,
    labels: Vec<(String, String)>,
    instructions: &Instructions<'_>,
) -> Vec<Given> {
    let given = |name: &str, value: String, place, spelled: String, lines| {
        let text = match (lines, place) {
            // The line as it is. An argument of the client is in none.
            ((1.., _), Written::Syntax | Written::Label | Written::Default) => instructions.text(lines),
            _ => None,
        };
        Given { name: name.to_owned(), value, place, text: text.unwrap_or(spelled), lines }
    };
    let mut all: Vec<Given> = Vec::new();
    let instead = options.value(&format!("build-arg:{SYNTAX}"));
    for (name, value) in words(options.syntax_words()) {
        let (spelled, lines) = match instead {
            Some(line) => (format!("--build-arg {SYNTAX}={:?}", shown(line)), (0, 0)),
            None => {
                let line = options.value("cmdline").unwrap_or_default();
                (format!("# syntax={}", shown(line)), instructions.syntax(&name))
            }
        };
        all.push(given(&name, value, Written::Syntax, spelled, lines));
    }
    for (label, value) in labels {
        let lines = instructions.label(&label);
        // One with other letters in its prefix has no option.
        let name = label.strip_prefix(LABEL).unwrap_or(&label);
        let bare = label.get(LABEL.len()..).unwrap_or_default();
        let spelled = Spelling::Labels.of(&Choice::new(bare, shown(&value)));
        let spelled = spelled.replacen(&format!("{LABEL}{bare}"), &label, 1);
        all.push(given(name, value, Written::Label, spelled, lines));
    }
    let client = format!("build-arg:{ARGUMENT}");
    let client: Vec<(&str, &str)> = options.with_prefix(&client).collect();
    let defaults = instructions.defaults();
    let defaults =
        defaults.iter().filter_map(|(name, value)| Some((name.strip_prefix(ARGUMENT)?, value.as_str())));
    let is_given = |name: &str| client.iter().any(|(known, _)| *known == name);
    let defaults = defaults.filter(|(name, value)| !value.is_empty() && !is_given(name));
    let defaults = defaults.map(|argument| (argument, Written::Default));
    for ((argument, value), place) in
        client.iter().map(|argument| (*argument, Written::Argument)).chain(defaults)
    {
        let lines = instructions.argument(&format!("{ARGUMENT}{argument}"));
        let name = argument.to_ascii_lowercase().replace('_', "-");
        let spelled = Spelling::Arguments.of(&Choice::new(&name, shown(value)));
        all.push(given(&name, value.to_owned(), place, spelled, lines));
    }
    all
}

/// Returns the beginning of `text` that there is room for in a message.
fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.len() < text.trim_end().len() => format!("{line}…"),
        None => line.to_owned(),
    }
}

/// Reads `--name=value`, `--name value` and `--switch`, as on the command line; quotes keep blanks.
fn words(text: &str) -> Vec<(String, String)> {
    let mut given: Vec<(String, String)> = Vec::new();
    let mut takes_next = false;
    for word in split(text) {
        let bare = word.strip_prefix("--").unwrap_or(&word);
        match (bare.split_once('='), given.last_mut()) {
            (_, Some((_, value))) if takes_next && !word.starts_with("--") => {
                *value = word;
                takes_next = false;
            }
            (Some((name, value)), _) => {
                given.push((name.to_owned(), value.to_owned()));
                takes_next = false;
            }
            (None, _) => {
                takes_next = flags().any(|flag| flag.name == bare && flag.takes != Takes::Nothing);
                given.push((bare.to_owned(), String::new()));
            }
        }
    }
    given
}

/// Options that only a build with a Dockerfile has.
const OWN: [(&str, Takes); 3] = [("mode", Takes::One), ("base", Takes::One), ("include", Takes::Many)];

/// Returns every setting that there is.
fn flags() -> impl Iterator<Item = Flag> {
    let own = OWN.into_iter().map(|(name, takes)| Flag { name: name.to_owned(), takes });
    own.chain(options::flags())
}

impl Settings {
    /// Returns the settings that `given` make, or all that is wrong with them.
    pub(crate) fn of(given: Vec<Given>) -> Result<Self, Vec<Wrong>> {
        let mut settings = Self::default();
        let mut wrong = Vec::new();
        let mut choices = Choices { search: Search::standard(), selection: Selection::default() };
        for given in given {
            match settings.set(&given, &mut choices) {
                Ok(()) if given.is_empty_argument() => settings.take_back(&given.name),
                Ok(()) => settings.given.push(given),
                Err(error) => {
                    let explained = error.explain().into_iter();
                    wrong.extend(explained.map(|explanation| Wrong { given: given.clone(), explanation }));
                }
            }
        }
        wrong.extend(settings.wrong_rules());
        if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
    }

    fn set(&mut self, given: &Given, choices: &mut Choices) -> Result<(), OptionError> {
        let Given { name, value, place, .. } = given;
        let bad = |expected| Err(OptionError::Value { name: name.clone(), value: value.clone(), expected });
        if !flags().any(|flag| flag.name == *name) {
            return Err(unknown(name));
        }
        // Nobody says what variables are.
        if *place == Written::Default && value.contains('$') {
            return bad("the value itself, or a label with the variable");
        }
        if given.is_empty_argument() {
            return Ok(());
        }
        match name.as_str() {
            "mode" => match value.as_str() {
                "on" => self.mode = Mode::On,
                "off" => self.mode = Mode::Off,
                _ => return bad("`on` or `off`"),
            },
            "base" => match value.as_str() {
                "keep" => self.base = Base::Keep,
                "minimise" => self.base = Base::Minimise,
                _ => return bad("`keep` or `minimise`"),
            },
            "include" => drop(patterns(given)?),
            name => options::set(choices, name, value)?,
        }
        Ok(())
    }

    /// Returns what is wrong with the rules that are named.
    fn wrong_rules(&self) -> Vec<Wrong> {
        let mut choices = Choices { search: Search::standard(), selection: Selection::default() };
        let is_about_rules = |given: &Given| matches!(given.name.as_str(), "with" | "without");
        // What is broken otherwise, the step finds.
        if !self.given.iter().any(is_about_rules) || self.apply(&mut choices).is_err() {
            return Vec::new();
        }
        let Ok(rules) = Catalogue::with(&[]) else { return Vec::new() };
        let Err(errors) = named_rules(&rules, &choices.selection) else { return Vec::new() };
        let explained = errors.iter().flat_map(Explain::explain);
        let wrong = explained.filter_map(|explanation| {
            let choice = explanation.about.as_ref()?;
            let given = self.given.iter().rfind(|given| given.is(choice))?.clone();
            Some(Wrong { given, explanation })
        });
        wrong.collect()
    }

    /// Forgets what has been said of the option `name`.
    fn take_back(&mut self, name: &str) {
        self.given.retain(|given| given.name != name);
        match name {
            "mode" => self.mode = Mode::default(),
            "base" => self.base = Base::default(),
            _ => {}
        }
    }

    /// Returns the patterns for paths of the target that are kept, and who gives each.
    pub(crate) fn included(&self) -> Result<Vec<(Glob, &Given)>, OptionError> {
        let mut included = Vec::new();
        for given in self.given.iter().filter(|given| given.name == "include") {
            included.extend(patterns(given)?.into_iter().map(|glob| (glob, given)));
        }
        Ok(included)
    }

    /// Changes `choices` as the options say.
    pub(crate) fn apply(&self, choices: &mut Choices) -> Result<(), OptionError> {
        let is_own = |given: &Given| OWN.iter().any(|(name, _)| *name == given.name);
        let mut given = self.given.iter().filter(|given| !is_own(given));
        given.try_for_each(|given| options::set(choices, &given.name, &given.value))
    }
}

/// Returns that there is no option `name`, which may be all of a label's name.
fn unknown(name: &str) -> OptionError {
    let prefix = if name.to_ascii_lowercase().starts_with(LABEL) { LABEL } else { "" };
    options::unknown(name, flags().map(|flag| Flag { name: format!("{prefix}{}", flag.name), ..flag }))
}

/// Returns the patterns that an option is `given`.
fn patterns(given: &Given) -> Result<Vec<Glob>, OptionError> {
    options::patterns(&given.value).map_err(|expected| OptionError::Value {
        name: given.name.clone(),
        value: given.value.clone(),
        expected,
    })
}

#[cfg(test)]
mod tests {
    use minimage::spec::{CacheSource, DlopenLevel};

    use super::*;
    use crate::proto::SourceInfo;

    fn settings(
        options: &[(&str, &str)],
        labels: &[(&str, &str)],
        file: &str,
    ) -> Result<Settings, Vec<String>> {
        let variables = options.iter().enumerate().map(|(index, (key, value))| {
            (format!("BUILDKIT_FRONTEND_OPT_{index}").into(), format!("{key}={value}").into())
        });
        let options = Options::read(variables);
        let label = |name: &str| if name.contains('.') { name.to_owned() } else { format!("{LABEL}{name}") };
        let labels = labels.iter().map(|(name, value)| (label(name), (*value).to_owned())).collect();
        let file = SourceInfo { data: file.as_bytes().to_vec(), ..SourceInfo::default() };
        Settings::of(given(&options, labels, &Instructions::of(Some(&file), None))).map_err(|wrong| {
            let text = |Wrong { given, explanation }: &Wrong| {
                format!("{} {}: {}", given.lines.0, given.place("Dockerfile"), explanation)
            };
            wrong.iter().map(text).collect()
        })
    }

    /// Returns what is said in the end, as name, value and line.
    fn said(settings: &Settings) -> Vec<(&str, &str, i32)> {
        let given = settings.given.iter();
        given.map(|given| (given.name.as_str(), given.value.as_str(), given.lines.0)).collect()
    }

    #[test]
    fn the_later_wins_and_lists_grow() {
        let found = settings(
            &[
                ("cmdline", "minimage --include '/a b' --base keep mode=off --assume-ldconfig --dlopen none"),
                ("build-arg:MINIMAGE_MODE", "on"),
                ("build-arg:MINIMAGE_INCLUDE", "/e"),
                ("build-arg:OTHER", "x"),
            ],
            &[("mode", "off"), ("include", "/c/{x,y}, /d\n")],
            "",
        );
        let found = found.unwrap();
        assert_eq!((found.mode, found.base), (Mode::On, Base::Keep));
        let include: Vec<String> =
            found.included().unwrap().iter().map(|(pattern, _)| pattern.to_string()).collect();
        assert_eq!(include, ["/a b", "/c/{x,y}", "/d", "/e"]);
        let mut choices = Choices { search: Search::standard(), selection: Selection::default() };
        found.apply(&mut choices).unwrap();
        let Search { cache, dlopen, .. } = choices.search;
        assert_eq!((cache, dlopen), (CacheSource::AssumeLdconfig, DlopenLevel::None));
    }

    #[test]
    fn what_is_said_has_its_line() {
        let file = "# syntax=minimage --nss=a\nARG MINIMAGE_WITH=tzdata\nFROM x\nLABEL minimage.without=metadata\n\
            ARG MINIMAGE_DLOPEN=none\nARG MINIMAGE_NSS=\nARG OTHER=1\n";
        let found = settings(
            &[("cmdline", "minimage --nss=a"), ("build-arg:MINIMAGE_DLOPEN", "required")],
            &[("without", "metadata"), ("nss", "of the base")],
            file,
        );
        let found = found.unwrap();
        let expected = [
            ("nss", "a", 1),
            ("without", "metadata", 4),
            ("nss", "of the base", 0),
            ("dlopen", "required", 5),
            ("with", "tzdata", 2),
        ];
        assert_eq!(said(&found), expected);
        let texts: Vec<&str> = found.given.iter().map(|given| given.text.as_str()).collect();
        let expected = [
            "# syntax=minimage --nss=a",
            "LABEL minimage.without=metadata",
            "LABEL minimage.nss=\"of the base\"",
            "--build-arg MINIMAGE_DLOPEN=required",
            "ARG MINIMAGE_WITH=tzdata",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn an_empty_argument_takes_back_what_was_said() {
        let empty = [
            ("build-arg:MINIMAGE_WITH", ""),
            ("build-arg:MINIMAGE_MODE", ""),
            ("build-arg:MINIMAGE_WITH_SUGGESTED", ""),
        ];
        let labels = [("with", "tzdata"), ("mode", "off"), ("without", "nss"), ("with-suggested", "")];
        let found = settings(&empty, &labels, "ARG MINIMAGE_WITH=x\n").unwrap();
        assert_eq!((found.mode, said(&found)), (Mode::On, vec![("without", "nss", 0)]));
        assert!(settings(&[("build-arg:MINIMAGE_WIHT", "")], &[], "").is_err());
    }

    #[test]
    fn an_option_is_found_by_what_it_is_given() {
        let given = |name: &str, value: &str| {
            let (name, value) = (name.to_owned(), value.to_owned());
            Given { name, value, place: Written::Label, text: String::new(), lines: (0, 0) }
        };
        let with = given("with", "locale=de_DE.UTF-8, nosuch");
        for (name, value, expected) in [
            ("with", "nosuch", true),
            ("with", "locale", true),
            ("with", "locale=de_DE.UTF-8", true),
            ("with", "de_DE.UTF-8", false),
            ("without", "nosuch", false),
        ] {
            assert_eq!(with.is(&Choice::new(name, value)), expected, "{name} {value}");
        }
        assert!(given("without", "nosuch").is(&Choice::new("without", "nosuch")));
    }

    #[test]
    fn all_that_is_wrong_is_told_with_what_was_written() {
        let wrong = settings(
            &[
                ("cmdline", "minimage incldue=/x"),
                ("build-arg:MINIMAGE_DLOPEN", "sometimes"),
                ("build-arg:MINIMAGE_WITH", "locale,tzdaat"),
            ],
            &[("mode", "maybe"), ("without", "metdata"), ("with", "foo bar")],
            "# syntax=minimage incldue=/x\nARG MINIMAGE_NSS=$x\nFROM x\nLABEL minimage.mode=maybe\n\
                LABEL minimage.with=\"foo bar\"\n",
        );
        assert_eq!(
            wrong.unwrap_err(),
            [
                "1 `# syntax=minimage incldue=/x` (Dockerfile:1): error[unknown-option]: there is no option `incldue`\n    \
                    fix: did you mean `include`?",
                "4 `LABEL minimage.mode=maybe` (Dockerfile:4): error[bad-option]: `mode` cannot be `maybe`\n    \
                    fix: write `on` or `off`",
                "0 `--build-arg MINIMAGE_DLOPEN=sometimes`: error[bad-option]: `dlopen` cannot be `sometimes`\n    \
                    fix: write `none`, `required`, `recommended` or `suggested`",
                "2 `ARG MINIMAGE_NSS=$x` (Dockerfile:2): error[bad-option]: `nss` cannot be `$x`\n    \
                    fix: write the value itself, or a label with the variable",
                "0 `LABEL minimage.without=metdata` of an image that this one is built on: error[unknown-rule]: there is \
                    no rule called `metdata`\n  where: `--without metdata`\n    fix: did you mean `metadata`?",
                "5 `LABEL minimage.with=\"foo bar\"` (Dockerfile:5): error[unknown-rule]: there is no rule called \
                    `foo bar`\n  where: `--with foo bar`\n    fix: write `--with foo --with bar`",
                "0 `--build-arg MINIMAGE_WITH=locale,tzdaat`: error[usage]: the rule `locale` does not say which\n  \
                    where: `--with locale`\n    fix: write `--with locale=NAME`",
                "0 `--build-arg MINIMAGE_WITH=locale,tzdaat`: error[unknown-rule]: there is no rule called `tzdaat`\n  \
                    where: `--with tzdaat`\n    fix: did you mean `tzdata`?",
            ]
        );
    }

    #[test]
    fn labels_in_other_letters_are_slips() {
        let file = "FROM x\nLABEL Minimage.with=shell\nLABEL minimage.WITH=shell a=b\n";
        let labels = [("Minimage.with", "shell"), ("MINIMAGE.Wiht", "a b"), ("WITH", "shell")];
        let start = "error[unknown-option]: there is no option";
        assert_eq!(
            settings(&[], &labels, file).unwrap_err(),
            [
                format!(
                    "2 `LABEL Minimage.with=shell` (Dockerfile:2): {start} `Minimage.with`\n    \
                        fix: did you mean `minimage.with`?"
                ),
                format!(
                    "0 `LABEL MINIMAGE.Wiht=\"a b\"` of an image that this one is built on: {start} `MINIMAGE.Wiht`\n    \
                        fix: did you mean `minimage.with`?"
                ),
                format!(
                    "3 `LABEL minimage.WITH=shell a=b` (Dockerfile:3): {start} `WITH`\n    \
                        fix: did you mean `with`?"
                ),
            ]
        );
    }

    #[test]
    fn what_stands_instead_of_the_first_line_is_told() {
        let long = format!("minimage --allow-missing=a --nss={}", "x".repeat(100));
        let options = [("cmdline", long.as_str()), ("build-arg:BUILDKIT_SYNTAX", long.as_str())];
        let found = settings(&options, &[], "# syntax=minimage --nss=a\nFROM x\n").unwrap();
        let places: Vec<String> = found.given.iter().map(|given| given.place("Dockerfile")).collect();
        let shown = format!("--nss={}…", "x".repeat(60 - "minimage --allow-missing=a --nss=".len()));
        let expected = format!("`--build-arg BUILDKIT_SYNTAX=\"minimage --allow-missing=a {shown}\"`");
        assert_eq!(places, [expected.clone(), expected]);
        let found = settings(&options[..1], &[], "FROM x\n").unwrap();
        let expected = format!("`# syntax=minimage --allow-missing=a {shown}`");
        assert_eq!(found.given[0].place("Dockerfile"), expected);
    }

    #[test]
    fn the_documentation_has_every_option() {
        let text = include_str!("../../docs/buildkit.md");
        let mut rows = text.lines().filter(|line| line.starts_with("| `minimage."));
        let mut flags: Vec<Flag> = flags().collect();
        flags.sort_by(|one, other| one.name.cmp(&other.name));
        for Flag { name, takes } in flags {
            let argument = name.to_ascii_uppercase().replace('-', "_");
            let takes = match takes {
                Takes::Nothing => "`true` or `false`",
                Takes::Many | Takes::Pairs => "a list",
                Takes::One | Takes::Number | Takes::OneOrNothing | Takes::Words => "a word",
            };
            let expected = format!("| `{LABEL}{name}` | `{ARGUMENT}{argument}` | {takes} | ");
            let row = rows.next().unwrap_or_default();
            assert!(row.starts_with(&expected), "expected {expected:?}, found {row:?}");
        }
        assert_eq!(rows.next(), None);
    }
}
