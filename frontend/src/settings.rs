//! What the labels, the build arguments and the `# syntax` line say -> the settings of one image.

use minimage::options::{self, Choices, OptionError};
use minimage::project::{Flag, Takes};
use minimage::spec::{Search, Selection};
use serde::{Deserialize, Serialize};

use crate::options::Options;

/// What the build arguments begin with that are for us.
const ARGUMENT: &str = "build-arg:MINIMAGE_";

/// The settings of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) base: Base,
    /// What is kept besides: patterns for paths of the target.
    pub(crate) include: Vec<String>,
    /// What is not kept, whoever asks for it: patterns for paths of the target.
    pub(crate) exclude: Vec<String>,
    /// Options that the command line has too, by name.
    pub(crate) options: Vec<(String, String)>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) value: String,
    /// What to look for in the build file to find the line.
    pub(crate) spelled: String,
}

/// Why settings cannot be used.
#[derive(Debug)]
pub(crate) struct Wrong {
    pub(crate) given: Given,
    pub(crate) error: OptionError,
}

/// Returns what the build arguments and the `# syntax` line say; `labels` are those of the image without their prefix.
/// A later one wins: labels are of the build file, arguments of this build.
pub(crate) fn given(options: &Options, labels: Vec<(String, String)>) -> Vec<Given> {
    let mut given = words(options.syntax_words());
    given.extend(labels.into_iter().map(|(name, value)| {
        let spelled = format!("minimage.{name}");
        Given { name, value, spelled }
    }));
    given.extend(options.with_prefix(ARGUMENT).map(|(name, value)| Given {
        name: name.to_ascii_lowercase().replace('_', "-"),
        value: value.to_owned(),
        spelled: format!("MINIMAGE_{name}"),
    }));
    given
}

/// Reads `--name=value`, `--name value` and `--switch`, as on the command line; quotes keep blanks.
fn words(text: &str) -> Vec<Given> {
    let mut given: Vec<Given> = Vec::new();
    let mut takes_next = false;
    for word in split(text) {
        let bare = word.strip_prefix("--").unwrap_or(&word);
        match (bare.split_once('='), given.last_mut()) {
            (_, Some(last)) if takes_next && !word.starts_with("--") => {
                last.value = word;
                takes_next = false;
            }
            (Some((name, value)), _) => {
                let (name, value) = (name.to_owned(), value.to_owned());
                given.push(Given { spelled: name.clone(), name, value });
                takes_next = false;
            }
            (None, _) => {
                takes_next = flags().any(|flag| flag.name == bare && flag.takes != Takes::Nothing);
                given.push(Given { spelled: bare.to_owned(), name: bare.to_owned(), value: String::new() });
            }
        }
    }
    given
}

/// Splits at blanks outside of quotes.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            None if letter == '"' || letter == '\'' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Returns every setting that there is.
fn flags() -> impl Iterator<Item = Flag> {
    let own =
        [("mode", Takes::One), ("base", Takes::One), ("include", Takes::Many), ("exclude", Takes::Many)];
    let own = own.into_iter().map(|(name, takes)| Flag { name: name.to_owned(), takes });
    own.chain(options::flags())
}

impl Settings {
    /// Returns the settings that `given` make, or all that is wrong with them.
    pub(crate) fn of(given: Vec<Given>) -> Result<Self, Vec<Wrong>> {
        let mut settings = Self::default();
        let mut wrong = Vec::new();
        let mut choices = Choices { search: Search::standard(), selection: Selection::default() };
        for given in given {
            if let Err(error) = settings.set(&given, &mut choices) {
                wrong.push(Wrong { given, error });
            }
        }
        if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
    }

    fn set(&mut self, given: &Given, choices: &mut Choices) -> Result<(), OptionError> {
        let Given { name, value, .. } = given;
        let bad = |expected| Err(OptionError::Value { name: name.clone(), value: value.clone(), expected });
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
            "include" => self.include.extend(patterns(value)),
            "exclude" => self.exclude.extend(patterns(value)),
            name => {
                if !options::flags().any(|flag| flag.name == name) {
                    return Err(options::unknown(name, flags()));
                }
                options::set(choices, name, value)?;
                self.options.push((name.to_owned(), value.clone()));
            }
        }
        Ok(())
    }

    /// Changes `choices` as the options say.
    pub(crate) fn apply(&self, choices: &mut Choices) -> Result<(), OptionError> {
        self.options.iter().try_for_each(|(name, value)| options::set(choices, name, value))
    }
}

/// Splits at commas and ends of lines, but not inside of `{a,b}`.
fn patterns(text: &str) -> Vec<String> {
    let mut depth = 0_u32;
    let parts = text.split(|letter| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == '\n' || letter == ',' && depth == 0
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use minimage::explain::Explain;

    use super::*;

    fn settings(options: &[(&str, &str)], labels: &[(&str, &str)]) -> Result<Settings, Vec<String>> {
        let variables = options.iter().enumerate().map(|(index, (key, value))| {
            (format!("BUILDKIT_FRONTEND_OPT_{index}").into(), format!("{key}={value}").into())
        });
        let options = Options::read(variables);
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::of(given(&options, labels)).map_err(|wrong| {
            let text = |wrong: &Wrong| format!("{}: {}", wrong.given.spelled, wrong.error.explain()[0]);
            wrong.iter().map(text).collect()
        })
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
        );
        let options = [("assume-ldconfig", ""), ("dlopen", "none")];
        let expected = Settings {
            mode: Mode::On,
            base: Base::Keep,
            include: ["/a b", "/c/{x,y}", "/d", "/e"].map(str::to_owned).into(),
            exclude: Vec::new(),
            options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        };
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn all_that_is_wrong_is_told_with_what_was_written() {
        let wrong = settings(
            &[("cmdline", "minimage incldue=/x"), ("build-arg:MINIMAGE_DLOPEN", "sometimes")],
            &[("mode", "maybe")],
        );
        assert_eq!(
            wrong.unwrap_err(),
            [
                "incldue: error[unknown-option]: there is no option `incldue`\n    fix: did you mean `include`?",
                "minimage.mode: error[bad-option]: `mode` cannot be `maybe`\n    fix: write `on` or `off`",
                "MINIMAGE_DLOPEN: error[bad-option]: `dlopen` cannot be `sometimes`\n    \
                    fix: write `none`, `required`, `recommended` or `suggested`",
            ]
        );
    }
}
