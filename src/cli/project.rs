//! The words of the command line + the project file in the working directory -> the words of both.

use std::ffi::OsString;
use std::fs;
use std::io;

use thiserror::Error;

use super::boxed;
use crate::explain::{Explain, Explanation, Failure};
use crate::project::{self, ARGUMENTS, FILE, PROGRAM, Setting};

/// The subcommand that reads one.
const COMMAND: &str = "build";

/// Why there is nothing to build.
#[derive(Debug, Error)]
enum NoProject {
    #[error("no program is named, and there is no `{FILE}` here")]
    Nothing,
    #[error("no program is named: `{word}` is taken for where to push")]
    TakenByPush { word: String },
    #[error("{}", explanation.what)]
    NoProgram { explanation: Box<Explanation> },
    #[error("cannot read `{FILE}`")]
    Unreadable { source: io::Error },
}

impl Explain for NoProject {
    fn explain(&self) -> Vec<Explanation> {
        let explanation = Explanation::new("no-program", self.to_string()).because_of(self);
        vec![match self {
            Self::Nothing => explanation.fix("name one: `minimage build curl`"),
            Self::TakenByPush { word } => explanation
                .fix(format!("say where to push, too: `minimage build --push REGISTRY/NAME {word}`"))
                .fix(format!("or what to build: `minimage build --push {word} PROGRAM`")),
            Self::NoProgram { explanation } => (**explanation).clone(),
            Self::Unreadable { .. } => explanation.fix("make it a text file that you may read"),
        }]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// Returns `words`, which run `build` without a program, with those of the project file put in: before the flags of
/// the command line, which win. `pushed` is the word that `--push` has taken.
pub(super) fn completed(words: &[OsString], pushed: Option<&str>) -> Result<Vec<OsString>, Box<dyn Explain>> {
    let text = match fs::read_to_string(FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let taken = |word: &str| NoProject::TakenByPush { word: word.to_owned() };
            return Err(boxed(pushed.map_or(NoProject::Nothing, taken)));
        }
        Err(source) => return Err(boxed(NoProject::Unreadable { source })),
    };
    let mut settings = project::parse(&text, FILE, &project::flags()).map_err(boxed)?;
    let at = words.iter().position(|word| word == COMMAND).map_or(words.len(), |at| at + 1);
    let (before, after) = words.split_at(at);
    // They may be repeated, but those of the command line take the place of those in the file.
    for name in ["from", "platform"] {
        let flag = format!("--{name}");
        let is_flag = |word: &OsString| {
            word.to_string_lossy()
                .strip_prefix(&flag)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        if after.iter().take_while(|word| *word != "--").any(is_flag) {
            settings.retain(|setting| setting.name != name);
        }
    }
    let values = |name: &str| settings.iter().find(|setting| setting.name == name).map(|it| &it.values);
    let programs = values(PROGRAM).cloned().unwrap_or_default();
    if let Some(explanation) = project::without_program(&settings, FILE) {
        return Err(boxed(NoProject::NoProgram { explanation: Box::new(explanation) }));
    }
    let mut completed = before.to_vec();
    completed.extend(settings.iter().flat_map(as_flags));
    completed.extend(programs.into_iter().map(OsString::from));
    completed.extend_from_slice(after);
    if let Some(arguments) = values(ARGUMENTS)
        && !after.iter().any(|word| word == "--")
    {
        completed.push("--".into());
        completed.extend(arguments.iter().map(OsString::from));
    }
    Ok(completed)
}

/// Returns the words of one setting.
fn as_flags(setting: &Setting) -> Vec<OsString> {
    let name = &setting.name;
    match setting.values.as_slice() {
        _ if name == PROGRAM || name == ARGUMENTS => Vec::new(),
        [] => vec![format!("--{name}").into()],
        values => values.iter().map(|value| format!("--{name}={value}").into()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{ArgAction, CommandFactory};

    use super::*;
    use crate::cli::args::Arguments;
    use crate::options;
    use crate::project::{Flag, Takes};

    /// Returns the flags of `build` as the command line knows them.
    fn flags() -> Vec<Flag> {
        let mut command = Arguments::command();
        // Global flags are known to a subcommand only when all is put together.
        command.build();
        let arguments = command.find_subcommand(COMMAND).unwrap().get_arguments();
        let pairs = ["annotation", "env", "from", "label", "registry-mirror"];
        let numbers = ["compression-level", "layers", "user"];
        let flag = |argument: &clap::Arg| {
            let name = argument.get_long().filter(|name| *name != "help")?.to_owned();
            let may_be_bare = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
            let takes = match argument.get_action() {
                ArgAction::Append if pairs.contains(&name.as_str()) => Takes::Pairs,
                ArgAction::Append => Takes::Many,
                ArgAction::Set if argument.get_value_delimiter().is_some() => Takes::Many,
                ArgAction::Set if may_be_bare => Takes::OneOrNothing,
                ArgAction::Set if ["cmd", "entrypoint"].contains(&name.as_str()) => Takes::Words,
                ArgAction::Set if numbers.contains(&name.as_str()) => Takes::Number,
                ArgAction::Set => Takes::One,
                _ => Takes::Nothing,
            };
            Some(Flag { name, takes })
        };
        arguments.filter_map(flag).collect()
    }

    #[test]
    fn a_project_file_sets_what_flags_do() {
        let sorted = |flags: Vec<Flag>| {
            let mut flags: Vec<String> =
                flags.iter().map(|flag| format!("{} {:?}", flag.name, flag.takes)).collect();
            flags.sort();
            flags
        };
        let words = [PROGRAM, ARGUMENTS].map(|name| Flag { name: name.to_owned(), takes: Takes::Many });
        assert_eq!(sorted(project::flags()), sorted([flags(), words.to_vec()].concat()));
    }

    #[test]
    fn options_that_every_build_has_are_flags() {
        let flags = flags();
        for option in options::flags() {
            assert!(flags.contains(&option), "{option:?}");
        }
    }
}
