//! Errors -> what a person reads: what is wrong, where, why, and how to go on.

use std::error::Error;
use std::fmt;

/// An option of a build and what it is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Choice {
    /// The name of its flag, without dashes.
    pub name: String,
    /// What it is given; nothing for a switch.
    pub values: Vec<String>,
}

impl Choice {
    /// Returns the option `name` with one value.
    pub fn new(name: &str, value: impl fmt::Display) -> Self {
        Self { name: name.to_owned(), values: vec![value.to_string()] }
    }

    /// Returns the switch `name`, on.
    pub fn switch(name: &str) -> Self {
        Self { name: name.to_owned(), values: Vec::new() }
    }
}

/// Where the reader of an explanation writes options, and so how they are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// On the command line: `--with tzdata`.
    Flags,
    /// In a Dockerfile: `LABEL minimage.with=tzdata`.
    Labels,
    /// In a project file: `with = "tzdata"`.
    Keys,
    /// After the image in a `# syntax` line: `--with=tzdata`.
    Words,
    /// To a client of BuildKit: `--build-arg MINIMAGE_WITH=tzdata`.
    Arguments,
    /// In a Dockerfile, as what counts if the client gives no argument: `ARG MINIMAGE_WITH=tzdata`.
    Defaults,
}

impl Spelling {
    /// Returns `choice` as the reader writes it.
    pub fn of(self, choice: &Choice) -> String {
        let Choice { name, values } = choice;
        match (self, values.as_slice()) {
            (Self::Flags, []) => format!("--{name}"),
            (Self::Flags, values) => {
                values.iter().map(|value| format!("--{name} {value}")).collect::<Vec<_>>().join(" ")
            }
            (Self::Words, []) => format!("--{name}"),
            (Self::Labels | Self::Arguments | Self::Defaults, []) => {
                format!("{}=true", self.name_in_full(name))
            }
            (Self::Labels | Self::Words | Self::Arguments | Self::Defaults, values) => {
                let value = values.join(",");
                let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._/:=,@+-".contains(letter);
                let name = self.name_in_full(name);
                match value.chars().all(is_plain) {
                    true => format!("{name}={value}"),
                    false => format!("{name}={value:?}"),
                }
            }
            (Self::Keys, []) => format!("{name} = true"),
            (Self::Keys, [value]) => format!("{name} = {value:?}"),
            (Self::Keys, values) => format!("{name} = {values:?}"),
        }
    }

    /// Returns what the reader calls the option `name`.
    fn name(self, name: &str) -> String {
        match self {
            Self::Flags | Self::Words => format!("--{name}"),
            Self::Labels => format!("minimage.{name}"),
            Self::Arguments | Self::Defaults => argument(name),
            Self::Keys => name.to_owned(),
        }
    }

    /// Returns what stands before the value of the option `name`.
    fn name_in_full(self, name: &str) -> String {
        let own = self.name(name);
        match self {
            Self::Labels => format!("LABEL {own}"),
            Self::Arguments => format!("--build-arg {own}"),
            Self::Defaults => format!("ARG {own}"),
            Self::Flags | Self::Keys | Self::Words => own,
        }
    }
}

/// Returns what the build argument for the option `name` is called.
fn argument(name: &str) -> String {
    format!("MINIMAGE_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Something that the reader can do: a text with options in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Choice(Choice),
    Name(&'static str),
}

impl Fix {
    /// Adds `choice`, in backticks.
    pub fn choice(mut self, choice: Choice) -> Self {
        self.0.push(Part::Choice(choice));
        self
    }

    /// Adds the name of an option, in backticks.
    pub fn name(mut self, name: &'static str) -> Self {
        self.0.push(Part::Name(name));
        self
    }

    /// Adds `text` as it is.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }

    /// Returns the text with each option as `spelling` says.
    fn spelled_by(&self, spelling: &dyn Fn(&Choice) -> Spelling) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Choice(choice) => format!("`{}`", spelling(choice).of(choice)),
            Part::Name(name) => format!("`{}`", spelling(&Choice::switch(name)).name(name)),
        };
        self.0.iter().map(part).collect()
    }
}

impl<T: Into<String>> From<T> for Fix {
    fn from(text: T) -> Self {
        Self(vec![Part::Text(text.into())])
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelled_by(&|_| Spelling::Flags))
    }
}

/// What a person reads about one problem. The command line prints it; the frontend adds the line of the build file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// A stable, greppable name of the kind of problem, such as `missing-library`.
    pub code: &'static str,
    /// One clause that names the problem.
    pub what: String,
    /// The option that it is about, if it is about one.
    pub about: Option<Choice>,
    /// Who ran into it.
    pub places: Vec<String>,
    /// The facts behind it.
    pub reasons: Vec<String>,
    /// What to do next, the most likely first.
    pub fixes: Vec<Fix>,
}

impl Explanation {
    /// Returns an explanation that says only what is wrong.
    pub fn new(code: &'static str, what: impl Into<String>) -> Self {
        let (places, reasons, fixes) = (Vec::new(), Vec::new(), Vec::new());
        Self { code, what: what.into(), about: None, places, reasons, fixes }
    }

    /// Says that it is about the option `choice`.
    pub fn about(mut self, choice: Choice) -> Self {
        self.about = Some(choice);
        self
    }

    /// Adds where it happened.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.places.push(place.into());
        self
    }

    /// Adds a fact that explains it.
    pub fn why(mut self, reason: impl Into<String>) -> Self {
        self.reasons.push(reason.into());
        self
    }

    /// Adds every cause behind `error`, outermost first.
    pub fn because_of(mut self, error: &dyn Error) -> Self {
        let mut cause = error.source();
        while let Some(error) = cause {
            self.reasons.push(error.to_string());
            cause = error.source();
        }
        self
    }

    /// Adds something the reader can do.
    pub fn fix(mut self, fix: impl Into<Fix>) -> Self {
        self.fixes.push(fix.into());
        self
    }

    /// Returns all of it, with options as `spelling` has them.
    pub fn spelled(&self, spelling: Spelling) -> String {
        self.spelled_by(&|_| spelling)
    }

    /// Returns all of it, with each option as `spelling` says; an option without values is one that only its name is of.
    pub fn spelled_by(&self, spelling: &dyn Fn(&Choice) -> Spelling) -> String {
        let about = self.about.iter().map(|choice| format!("`{}`", spelling(choice).of(choice)));
        let places = about.chain(self.places.iter().cloned()).map(|line| ("where", line));
        let reasons = self.reasons.iter().map(|line| ("  why", line.clone()));
        let fixes = self.fixes.iter().map(|fix| ("  fix", fix.spelled_by(spelling)));
        let lines = places.chain(reasons).chain(fixes);
        let lines: String = lines.map(|(label, line)| format!("\n  {label}: {line}")).collect();
        without_control(&format!("error[{}]: {}{lines}", self.code, self.what))
    }
}

/// Returns `text` with what is no text in it escaped: options and files can hold what moves a terminal's cursor.
fn without_control(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => shown.push(letter),
            _ if letter.is_control() => shown.extend(letter.escape_default()),
            _ => shown.push(letter),
        }
    }
    shown
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelled(Spelling::Flags))
    }
}

/// How a run ended, as the exit code says it (DESIGN.md section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// This input gives no image, or the output cannot be written.
    NoImage = 1,
    /// The request itself is wrong.
    Usage = 2,
    /// `check`, `diff`, `verify` or `--locked` found something.
    Found = 3,
    /// A registry, a daemon or something else outside failed.
    Outside = 5,
}

/// An error that can say how to go on.
pub trait Explain: Error {
    /// Returns one explanation for each problem; never empty.
    fn explain(&self) -> Vec<Explanation>;

    /// Returns which exit code this error deserves.
    fn failure(&self) -> Failure {
        Failure::NoImage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_spelled_as_their_reader_writes_them() {
        let many = Choice { values: vec!["a".to_owned(), "b".to_owned()], ..Choice::switch("with") };
        let pattern = Choice::new("include", "/etc/**");
        let cases = [
            (
                many,
                "--with a --with b | LABEL minimage.with=a,b | with = [\"a\", \"b\"] | --with=a,b | \
                    --build-arg MINIMAGE_WITH=a,b | ARG MINIMAGE_WITH=a,b",
            ),
            (
                pattern,
                "--include /etc/** | LABEL minimage.include=\"/etc/**\" | include = \"/etc/**\" | \
                    --include=\"/etc/**\" | --build-arg MINIMAGE_INCLUDE=\"/etc/**\" | ARG MINIMAGE_INCLUDE=\"/etc/**\"",
            ),
            (
                Choice::switch("with-suggested"),
                "--with-suggested | LABEL minimage.with-suggested=true | with-suggested = true | --with-suggested | \
                    --build-arg MINIMAGE_WITH_SUGGESTED=true | ARG MINIMAGE_WITH_SUGGESTED=true",
            ),
        ];
        let spellings = [
            Spelling::Flags,
            Spelling::Labels,
            Spelling::Keys,
            Spelling::Words,
            Spelling::Arguments,
            Spelling::Defaults,
        ];
        for (choice, expected) in cases {
            assert_eq!(spellings.map(|it| it.of(&choice)).join(" | "), expected);
        }
        let fix = Fix::from("write ").choice(Choice::new("without", "nss")).text(" or narrow ").name("with");
        let explanation = Explanation::new("x", "y").about(Choice::new("with", "nss")).at("z").fix(fix);
        assert_eq!(
            explanation.spelled(Spelling::Labels),
            "error[x]: y\n  where: `LABEL minimage.with=nss`\n  where: z\n    \
                fix: write `LABEL minimage.without=nss` or narrow `minimage.with`"
        );
        assert_eq!(
            explanation.to_string(),
            "error[x]: y\n  where: `--with nss`\n  where: z\n    fix: write `--without nss` or narrow `--with`"
        );
        let colored =
            Explanation::new("x", "`\u{1b}[31mä`").about(Choice::new("with", "\r\u{9b}")).why("a\n\tb");
        assert_eq!(
            colored.to_string(),
            "error[x]: `\\u{1b}[31mä`\n  where: `--with \\r\\u{9b}`\n    why: a\n\tb"
        );
    }
}
