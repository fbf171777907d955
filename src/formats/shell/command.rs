//! The words of a command, one after the other -> what it runs.

use super::runners::{Operand, Runner, Says, Then};
use super::tokens::Word;
use super::{Found, Login, SHELLS, WORDS_MAX};

/// Words that the shell runs itself, and words of its grammar after which no command follows.
#[rustfmt::skip]
const BUILTINS: [&str; 68] = [
    ".", ":", "[", "[[", "]]", "alias", "bg", "bind", "break", "builtin", "caller", "case", "cd",
    "compgen", "complete", "continue", "declare", "dirs", "disown", "done", "echo", "enable", "esac",
    "exit", "export", "false", "fc", "fg", "fi", "for", "getopts", "hash", "help", "history", "in",
    "jobs", "kill", "let", "local", "logout", "mapfile", "popd", "print", "printf", "pushd", "pwd",
    "read", "readarray", "readonly", "return", "select", "set", "shift", "shopt", "source", "suspend",
    "test", "times", "trap", "true", "type", "typeset", "ulimit", "umask", "unalias", "unset", "wait",
    "}",
];
/// Builtins that run the command, or the script, among their arguments.
const BUILTINS_THAT_RUN: [&str; 4] = ["command", "eval", "exec", "time"];
/// Words after which a command begins.
pub(super) const OPENERS: [&str; 10] =
    ["!", "do", "elif", "else", "function", "if", "then", "until", "while", "{"];
/// The arguments of `find` after which a command follows.
const FINDERS_COMMANDS: [&str; 4] = ["-exec", "-execdir", "-ok", "-okdir"];
/// The longest name of a file or a user in Linux, in bytes.
const NAME_MAX: usize = 255;
/// The longest path, with its NUL.
const PATH_MAX: usize = 4096;

/// Where in a command the next word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// Where its name is.
    Command,
    /// Among the arguments of something that runs a command, after so many that are no options.
    Runner(&'static Runner, usize),
    /// The same, after an option that takes this word.
    RunnerValue(Says, &'static Runner, usize),
    /// Among the arguments of `find`.
    Finder,
    /// Among the options of a shell.
    Shell(Reads),
    /// The same, after an option that takes this word.
    ShellValue(Reads),
    /// Among the words that `eval` makes a script of.
    Eval,
    /// Among its arguments.
    Argument,
}

/// What a shell does with the first of its arguments that is no option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// It reads the file of this name.
    File,
    /// It reads the word itself.
    Word,
}

impl Position {
    /// Returns whether a word there that is no option is the name of a command.
    pub(super) fn is_of_command(self) -> bool {
        match self {
            Self::Command => true,
            Self::Runner(runner, count) => runner.operand(count).is_none() && runner.then() == Then::Command,
            _ => false,
        }
    }
}

/// What is known of a command before it ends.
#[derive(Default)]
pub(super) struct Command {
    /// The program whose arguments are read.
    program: Vec<u8>,
    /// Whether that one, or else the next, is a login shell or starts one.
    is_login: bool,
    /// Whom the programs before have become.
    user: Option<Vec<u8>>,
    /// Whether `find` runs the program, and maybe others after it.
    is_of_find: bool,
    /// What `eval` was given.
    evaluated: Vec<u8>,
}

impl Found {
    /// Notes what is known of a command when all of it is read.
    pub(super) fn end_command(&mut self) {
        self.end_program();
        let Command { evaluated, .. } = std::mem::take(&mut self.command);
        self.scripts.extend((!evaluated.is_empty()).then_some(evaluated));
    }

    /// Reads `word` at `position`; returns where the next one stands.
    pub(super) fn read_word(&mut self, position: Position, word: &Word) -> Position {
        let next = match position {
            Position::Command => self.read_name(word),
            Position::Runner(runner, count) => self.read_argument(runner, count, word),
            Position::RunnerValue(says, runner, count) => self.read_value(says, runner, count, &word.text),
            Position::Finder if word.known().is_some_and(|text| FINDERS_COMMANDS.contains(&text)) => {
                Position::Command
            }
            Position::Shell(reads) => self.read_argument_of_shell(reads, word),
            Position::ShellValue(reads) => Position::Shell(reads),
            Position::Eval => {
                self.command.evaluated.extend_from_slice(&word.text);
                self.command.evaluated.push(b' ');
                Position::Eval
            }
            Position::Finder | Position::Argument => Position::Argument,
        };
        if next == Position::Argument && self.command.is_of_find { Position::Finder } else { next }
    }

    /// Reads an argument of `runner` after `count` others that are no options.
    fn read_argument(&mut self, runner: &'static Runner, count: usize, word: &Word) -> Position {
        // What a word begins with says what it is, even if the rest is known only at run time.
        let beginning = word.beginning();
        if beginning.starts_with('-') {
            self.command.is_login |= runner.is_login(&word.text);
            return match runner.option(&word.text) {
                Some((says, Some(value))) => self.read_value(says, runner, count, value),
                Some((Says::Nothing, None)) => Position::Argument,
                Some((says, None)) => Position::RunnerValue(says, runner, count),
                None => Position::Runner(runner, count),
            };
        }
        match (runner.operand(count), runner.then()) {
            (Some(Operand::Root), _) if word.known() != Some("/") => Position::Argument,
            (Some(operand), _) => {
                if operand == Operand::User {
                    self.command.user = user(&word.text);
                }
                Position::Runner(runner, count.saturating_add(1))
            }
            // A variable of the environment.
            (None, _) if beginning.contains('=') => Position::Runner(runner, count),
            (None, Then::Command) => self.read_name(word),
            (None, Then::Shell) => self.read_argument_of_shell(Reads::File, word),
        }
    }

    /// Reads the `value` of an option of `runner`, which is what `says` says, between its arguments.
    fn read_value(&mut self, says: Says, runner: &'static Runner, count: usize, value: &[u8]) -> Position {
        match says {
            Says::Value => {}
            Says::Line => self.scripts.push(value.to_vec()),
            Says::Program => self.add(value),
            Says::User => self.command.user = user(value),
            Says::UserAnd(other) => {
                self.command.user = user(value);
                return Position::Runner(other, 0);
            }
            Says::Nothing => return Position::Argument,
        }
        Position::Runner(runner, count)
    }

    /// Reads an argument of a shell, after nothing but options.
    fn read_argument_of_shell(&mut self, reads: Reads, word: &Word) -> Position {
        let options = word.beginning();
        if options.starts_with("--") {
            self.command.is_login |= word.text == b"--login";
            return match word.text.as_slice() {
                b"--init-file" | b"--rcfile" => Position::ShellValue(reads),
                _ => Position::Shell(reads),
            };
        }
        if options.starts_with(['-', '+']) {
            self.command.is_login |= options.starts_with('-') && options.contains('l');
            let reads = if options.contains('c') { Reads::Word } else { reads };
            return match reads {
                _ if options.contains(['o', 'O']) => Position::ShellValue(reads),
                // It reads what it is sent.
                Reads::File if options.contains('s') => Position::Argument,
                reads => Position::Shell(reads),
            };
        }
        match reads {
            Reads::Word => self.scripts.push(word.text.clone()),
            Reads::File => {
                let file = word.known().filter(|file| self.files.len() < WORDS_MAX && !file.is_empty());
                self.files.extend(file.map(|file| file.as_bytes().to_vec()));
            }
        }
        Position::Argument
    }

    /// Reads what stands where a command is named.
    fn read_name(&mut self, word: &Word) -> Position {
        if is_assignment(word.beginning()) {
            return Position::Command;
        }
        let Some(name) = word.known() else { return Position::Argument };
        if OPENERS.contains(&name) {
            return Position::Command;
        }
        if BUILTINS_THAT_RUN.contains(&name) {
            return Runner::named(name).map_or(Position::Eval, |builtin| Position::Runner(builtin, 0));
        }
        if BUILTINS.contains(&name) {
            return Position::Argument;
        }
        self.end_program();
        self.add(name.as_bytes());
        self.command.program = name.as_bytes().to_vec();
        match name.rsplit('/').next().unwrap_or(name) {
            "find" => {
                self.command.is_of_find = true;
                Position::Finder
            }
            name if SHELLS.contains(&name) => Position::Shell(Reads::File),
            name => Runner::named(name).map_or(Position::Argument, |runner| {
                self.command.user = runner.becomes().or(self.command.user.take());
                Position::Runner(runner, 0)
            }),
        }
    }

    /// Notes what is known of a program when its own arguments are read.
    fn end_program(&mut self) {
        let program = std::mem::take(&mut self.command.program);
        if !program.is_empty() && std::mem::take(&mut self.command.is_login) && self.logins.len() < WORDS_MAX
        {
            self.logins.insert(Login { program, user: self.command.user.clone() });
        }
    }

    fn add(&mut self, program: &[u8]) {
        if self.words.len() < WORDS_MAX && is_program_name(program) {
            self.words.insert(program.to_vec());
        }
    }
}

/// Returns the user in `USER` or `USER:GROUP`; `None` if that is known only at run time.
fn user(text: &[u8]) -> Option<Vec<u8>> {
    let name = text.split(|byte| *byte == b':').next()?;
    let is_name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    ((1..=NAME_MAX).contains(&name.len()) && name.iter().all(is_name_byte)).then(|| name.to_vec())
}

pub(super) fn is_assignment(text: &str) -> bool {
    let Some((name, _)) = text.split_once('=') else { return false };
    let name = name.strip_suffix('+').unwrap_or(name);
    let name = name.split('[').next().unwrap_or(name);
    let starts = name.starts_with(|character: char| character.is_ascii_alphabetic() || character == '_');
    starts && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

/// Returns whether `text` can be the name or path of a program.
pub(super) fn is_program_name(text: &[u8]) -> bool {
    let is_name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+.-@:".contains(byte);
    let is_name = |name: &[u8]| name.len() <= NAME_MAX && name.iter().all(is_name_byte);
    let ends = text.is_empty() || text.starts_with(b"-") || text.ends_with(b"/");
    !ends && text.len() < PATH_MAX && text.split(|byte| *byte == b'/').all(is_name)
}
