//! The words of the command line + the project file in the working directory -> the words of both.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;

use clap::{ArgAction, CommandFactory};
use thiserror::Error;

use super::args::Arguments;
use super::boxed;
use crate::explain::{Explain, Explanation, Failure};
use crate::project::{self, FILE, Flag, Setting, Takes};

/// What a project file says that is no flag: the programs, and the words after `--`.
const PROGRAM: &str = "program";
const ARGUMENTS: &str = "arguments";
const COMMAND: &str = "build";

/// Why there is nothing to build.
#[derive(Debug, Error)]
enum NoProject {
    #[error("no program is named, and there is no `{FILE}` here")]
    Nothing,
    #[error("no program is named, nor does `{FILE}` name one")]
    NoProgram,
    #[error("cannot read `{FILE}`")]
    Unreadable { source: io::Error },
}

impl Explain for NoProject {
    fn explain(&self) -> Vec<Explanation> {
        let explanation = Explanation::new("no-program", self.to_string()).because_of(self);
        vec![match self {
            Self::Nothing => explanation.fix("name one: `minimage build curl`"),
            Self::NoProgram => explanation.fix(format!("write `{PROGRAM} = \"…\"`")),
            Self::Unreadable { .. } => explanation.fix("make it a text file that you may read"),
        }]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// Returns `words`, which run `build` without a program, with those of the project file put in: before the flags of
/// the command line, which win.
pub(super) fn completed(words: &[OsString]) -> Result<Vec<OsString>, Box<dyn Explain>> {
    let text = match fs::read_to_string(FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(boxed(NoProject::Nothing)),
        Err(source) => return Err(boxed(NoProject::Unreadable { source })),
    };
    let mut settings = project::parse(&text, FILE, &flags()).map_err(boxed)?;
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
    if programs.is_empty() && ["add", "include", "with"].into_iter().all(|name| values(name).is_none()) {
        return Err(boxed(NoProject::NoProgram));
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

/// Returns the flags of `build`, and the two keys that stand for words without a dash.
fn flags() -> Vec<Flag> {
    let mut command = Arguments::command();
    // Global flags are known to a subcommand only when all is put together.
    command.build();
    let arguments =
        command.find_subcommand(OsStr::new(COMMAND)).into_iter().flat_map(|build| build.get_arguments());
    let of_command = arguments.filter_map(|argument| {
        let name = argument.get_long().filter(|name| *name != "help")?.to_owned();
        let may_be_bare = argument.get_num_args().is_some_and(|count| count.min_values() == 0);
        let takes = match argument.get_action() {
            ArgAction::Append => Takes::Many,
            ArgAction::Set if argument.get_value_delimiter().is_some() => Takes::Many,
            ArgAction::Set if may_be_bare => Takes::OneOrNothing,
            ArgAction::Set => Takes::One,
            _ => Takes::Nothing,
        };
        Some(Flag { name, takes })
    });
    let words = [PROGRAM, ARGUMENTS].map(|name| Flag { name: name.to_owned(), takes: Takes::Many });
    of_command.chain(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;

    #[test]
    fn options_that_every_build_has_are_flags() {
        let flags = flags();
        for option in options::flags() {
            assert!(flags.contains(&option), "{option:?}");
        }
    }
}
