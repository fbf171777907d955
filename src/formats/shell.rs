//! A shell script -> the literal words in command position: the programs it would run, as far as a reader sees.
//!
//! No shell is imitated: functions and `eval` stay unknown, and a variable is all that the script plainly gives it. Command
//! substitutions are scripts of their own. What is found is looked up later, and what is not found is only a warning.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// How much of a script is read, in bytes.
pub const SCRIPT_MAX: u64 = 1 << 20;
/// The most words that one script yields.
const WORDS_MAX: usize = 10_000;
/// How often a script is read at most, on the whole: substitutions inside of substitutions are read again.
const DEPTH_MAX: usize = 8;

/// Words that the shell runs itself, and words of its grammar after which a command follows or not.
const BUILTINS: [&str; 63] = [
    ".",
    ":",
    "[",
    "[[",
    "]]",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "command",
    "compgen",
    "complete",
    "continue",
    "declare",
    "dirs",
    "disown",
    "echo",
    "enable",
    "esac",
    "eval",
    "exit",
    "export",
    "false",
    "fc",
    "fg",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "test",
    "times",
    "trap",
    "true",
    "type",
    "typeset",
    "ulimit",
    "umask",
];
const MORE_BUILTINS: [&str; 5] = ["print", "unalias", "unset", "wait", "suspend"];
/// Words after which a command begins.
const OPENERS: [&str; 10] = ["!", "do", "elif", "else", "if", "then", "time", "until", "while", "{"];
const CLOSERS: [&str; 3] = ["done", "fi", "}"];
/// Programs, and `exec` of the shell, that run the command among their arguments.
const RUNNERS: [&str; 13] = [
    "dumb-init",
    "env",
    "exec",
    "ionice",
    "nice",
    "nohup",
    "setpriv",
    "setsid",
    "stdbuf",
    "sudo",
    "timeout",
    "tini",
    "xargs",
];
/// The same with a user before the command.
const RUNNERS_AS: [&str; 2] = ["gosu", "su-exec"];
/// Programs that run the script among their arguments, in the grammar of POSIX.
const SHELLS: [&str; 7] = ["ash", "bash", "dash", "ksh", "mksh", "sh", "zsh"];
/// The arguments of `find` after which a command follows.
const FINDERS_COMMANDS: [&str; 4] = ["-exec", "-execdir", "-ok", "-okdir"];
/// The options of those that take the next word.
const RUNNERS_OPTIONS: [&str; 9] = ["-C", "-E", "-I", "-a", "-c", "-d", "-k", "-s", "-u"];

/// Returns the literal command words of `script`, each once, sorted. Names of functions that it defines are left out.
pub fn command_words(script: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Found::default();
    found.read_all(Cow::Borrowed(script));
    found.into_words()
}

/// Returns whether `program`, a name or path, is that of a shell whose grammar is that of POSIX.
pub fn is_shell(program: &[u8]) -> bool {
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    SHELLS.iter().any(|shell| shell.as_bytes() == name)
}

/// What a command starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Started {
    /// The programs, as [`command_words`] has them.
    pub programs: Vec<Vec<u8>>,
    /// The files that shells among them are to read.
    pub scripts: Vec<Vec<u8>>,
}

/// Returns what the command with these `words` starts, its own program too.
pub fn started(words: &[&str]) -> Started {
    let mut found = Found::default();
    let mut position = Position::Command;
    for word in words {
        position = match position {
            // No shell reads it.
            Position::Command if OPENERS.contains(word) || is_assignment(word) => Position::Argument,
            Position::Script => {
                found.read_all(Cow::Borrowed(word.as_bytes()));
                Position::Argument
            }
            position => found.read_word(position, Some(*word)),
        };
    }
    let scripts = std::mem::take(&mut found.files).into_iter().collect();
    Started { programs: found.into_words(), scripts }
}

/// Where in a command the next word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Where its name is.
    Command,
    /// Among the arguments of something that runs a command: options come first.
    Runner,
    /// After an option that takes this word, or where it stands for a user.
    RunnerValue,
    /// Among the arguments of `find`.
    Finder,
    /// Among the options of a shell.
    Shell,
    /// After an option of a shell that takes this word.
    ShellValue,
    /// Where a shell takes its script from.
    Script,
    /// Among its arguments.
    Argument,
}

/// What was read so far.
#[derive(Default)]
struct Found {
    words: BTreeSet<Vec<u8>>,
    functions: BTreeSet<Vec<u8>>,
    /// The values that variables are plainly given.
    values: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// The variables that stand where the name of a command is.
    commands: BTreeSet<Vec<u8>>,
    /// Files that other shells are to read.
    files: BTreeSet<Vec<u8>>,
    /// Scripts in words, for other shells.
    scripts: Vec<Vec<u8>>,
}

impl Found {
    /// Reads `script`, and what is a script in it.
    fn read_all(&mut self, script: Cow<'_, [u8]>) {
        let mut left = script.len().saturating_mul(DEPTH_MAX);
        let mut scripts = vec![script];
        while let Some(script) = scripts.pop() {
            let mut unread = vec![Part::Script(&script)];
            while let Some(part) = unread.pop()
                && left > 0
            {
                let (Part::Script(text) | Part::Text(text)) = part;
                left = left.saturating_sub(text.len());
                let mut scanner = Scanner { rest: text, heredocs: Vec::new(), parts: Vec::new() };
                match part {
                    Part::Script(_) => self.read(&mut scanner),
                    Part::Text(_) => scanner.skip_text(),
                }
                unread.extend(scanner.parts);
            }
            scripts.extend(self.scripts.drain(..).map(Cow::Owned));
        }
        for variable in std::mem::take(&mut self.commands) {
            for value in self.values.remove(&variable).unwrap_or_default() {
                self.read_word(Position::Command, str::from_utf8(&value).ok());
            }
        }
    }

    fn into_words(self) -> Vec<Vec<u8>> {
        let Self { words, functions, .. } = self;
        words.into_iter().filter(|word| !functions.contains(word)).collect()
    }

    /// Reads the script before `scanner`.
    fn read(&mut self, scanner: &mut Scanner<'_>) {
        let mut position = Position::Command;
        let mut is_case_pattern = false;
        let mut previous: Option<Vec<u8>> = None;
        while let Some(token) = scanner.next() {
            match token {
                Token::Separator => position = Position::Command,
                Token::CaseEnd => {
                    position = Position::Argument;
                    is_case_pattern = true;
                }
                Token::Close => {
                    // `name()` defines a function; `pattern)` begins the commands of a case.
                    position = Position::Command;
                    is_case_pattern = false;
                }
                Token::Function => {
                    self.functions.extend(previous.take());
                    position = Position::Command;
                }
                Token::Redirection => scanner.skip_word(),
                Token::Word(word) if position == Position::Script => {
                    self.scripts.push(word.text);
                    position = Position::Argument;
                }
                Token::Word(word) => {
                    self.note_variables(&word, position);
                    let text = word.literal().and_then(|literal| str::from_utf8(literal).ok());
                    if is_case_pattern {
                        is_case_pattern = text != Some("esac");
                        continue;
                    }
                    if position == Position::Finder {
                        let is_command = text.is_some_and(|text| FINDERS_COMMANDS.contains(&text));
                        position = if is_command { Position::Command } else { Position::Finder };
                        continue;
                    }
                    if position == Position::Argument {
                        if text == Some("in") && previous.as_deref() == Some(b"case") {
                            is_case_pattern = true;
                            previous = None;
                        }
                        continue;
                    }
                    if text == Some("function") && position == Position::Command {
                        self.functions.extend(scanner.next_literal());
                    }
                    position = self.read_word(position, text);
                    previous = word.into_literal();
                }
            }
        }
    }

    /// Notes what `word` gives a variable, or the variable that it is, if it stands where a command is named.
    fn note_variables(&mut self, word: &Word, position: Position) {
        if let Some((name, value)) = assigned(&word.text) {
            if self.values.len() < WORDS_MAX {
                self.values.entry(name.to_vec()).or_default().insert(value.to_vec());
            }
        } else if !word.is_literal && matches!(position, Position::Command | Position::Runner) {
            let name = word.text.strip_prefix(b"$").unwrap_or_default();
            let name = name.strip_prefix(b"{").and_then(|name| name.strip_suffix(b"}")).unwrap_or(name);
            self.commands.extend(is_variable(name).then(|| name.to_vec()));
        }
    }

    /// Reads a word at `position`, `None` if it is only known at run time; returns where the next one stands.
    fn read_word(&mut self, position: Position, text: Option<&str>) -> Position {
        let Some(text) = text else {
            return match position {
                // A user may be a variable, and the command after it plain.
                Position::RunnerValue => Position::Runner,
                Position::ShellValue => Position::Shell,
                _ => Position::Argument,
            };
        };
        let is_number = text.starts_with(|first: char| first.is_ascii_digit());
        match position {
            Position::Argument | Position::Finder | Position::Script => return position,
            Position::RunnerValue => return Position::Runner,
            Position::ShellValue => return Position::Shell,
            Position::Shell => {
                let is_short = text.starts_with(['-', '+']) && !text.starts_with("--");
                return match text {
                    "--init-file" | "--rcfile" => Position::ShellValue,
                    text if is_short && text.ends_with('o') => Position::ShellValue,
                    text if is_short && text.contains('c') => Position::Script,
                    // It reads what it is sent.
                    text if is_short && text.contains('s') => Position::Argument,
                    text if is_short || text.starts_with("--") => Position::Shell,
                    file => {
                        if self.files.len() < WORDS_MAX {
                            self.files.insert(file.as_bytes().to_vec());
                        }
                        Position::Argument
                    }
                };
            }
            Position::Runner if RUNNERS_OPTIONS.contains(&text) => return Position::RunnerValue,
            Position::Runner if text.starts_with('-') || is_number || !is_program_name(text) => {
                return Position::Runner;
            }
            Position::Runner | Position::Command => {}
        }
        let name = text.rsplit('/').next().unwrap_or(text);
        match name {
            _ if OPENERS.contains(&text) || is_assignment(text) || text == "function" => position,
            _ if RUNNERS.contains(&name) => {
                if text != "exec" {
                    self.add(text);
                }
                Position::Runner
            }
            _ if SHELLS.contains(&name) => {
                self.add(text);
                Position::Shell
            }
            _ if RUNNERS_AS.contains(&name) => {
                self.add(text);
                Position::RunnerValue
            }
            "find" => {
                self.add(text);
                Position::Finder
            }
            _ if CLOSERS.contains(&text) || BUILTINS.contains(&text) || MORE_BUILTINS.contains(&text) => {
                Position::Argument
            }
            _ => {
                self.add(text);
                Position::Argument
            }
        }
    }

    fn add(&mut self, text: &str) {
        if self.words.len() < WORDS_MAX && is_program_name(text) {
            self.words.insert(text.as_bytes().to_vec());
        }
    }
}

fn is_assignment(text: &str) -> bool {
    let Some((name, _)) = text.split_once('=') else { return false };
    let name = name.strip_suffix('+').unwrap_or(name);
    let name = name.split('[').next().unwrap_or(name);
    let starts = name.starts_with(|character: char| character.is_ascii_alphabetic() || character == '_');
    starts && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

fn is_program_name(text: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"_+.-/@:".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && !text.ends_with('/') && text.bytes().all(is_name_byte)
}

struct Word {
    /// What the command gets, with what is known only at run time as it is written.
    text: Vec<u8>,
    /// Whether everything in it is known.
    is_literal: bool,
}

impl Word {
    /// Returns the word, unless something in it is known only at run time.
    fn literal(&self) -> Option<&[u8]> {
        self.is_literal.then_some(self.text.as_slice())
    }

    fn into_literal(self) -> Option<Vec<u8>> {
        self.is_literal.then_some(self.text)
    }
}

enum Token {
    Word(Word),
    /// What ends a command: newline, `;`, `|`, `&`, `(`.
    Separator,
    /// `;;` and its kin: a pattern follows.
    CaseEnd,
    /// `)`.
    Close,
    /// `()` after a word: that was the name of a function.
    Function,
    /// `<` or `>`: a file name follows.
    Redirection,
}

struct Scanner<'a> {
    rest: &'a [u8],
    heredocs: Vec<HereDocument>,
    /// What was passed over and may hold commands.
    parts: Vec<Part<'a>>,
}

/// A text for a command, which begins in the next line.
struct HereDocument {
    /// The line that ends it.
    end: Vec<u8>,
    /// Whether lines begin behind their tabs.
    strips_tabs: bool,
    /// Whether there are no substitutions in it.
    is_plain: bool,
}

/// A part of a script.
#[derive(Debug, Clone, Copy)]
enum Part<'a> {
    /// Commands.
    Script(&'a [u8]),
    /// Something else, in which there may be command substitutions.
    Text(&'a [u8]),
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn skip_blanks(&mut self) {
        loop {
            match self.rest {
                [b' ' | b'\t' | b'\r', ..] => self.skip(1),
                [b'\\', b'\n', ..] => self.skip(2),
                [b'#', ..] => {
                    let end = self.rest.iter().position(|byte| *byte == b'\n').unwrap_or(self.rest.len());
                    self.skip(end);
                }
                _ => return,
            }
        }
    }

    fn next(&mut self) -> Option<Token> {
        self.skip_blanks();
        let token = match self.rest {
            [] => return None,
            [b'\n', ..] => {
                self.skip(1);
                self.skip_heredocs();
                Token::Separator
            }
            [b';', b';', b'&', ..] => {
                self.skip(3);
                Token::CaseEnd
            }
            [b';', b';' | b'&', ..] => {
                self.skip(2);
                Token::CaseEnd
            }
            [b'(', rest @ ..] => {
                let inner = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(rest.len());
                if rest.get(inner) == Some(&b')') {
                    self.skip(inner.saturating_add(2));
                    Token::Function
                } else {
                    self.skip(1);
                    Token::Separator
                }
            }
            [b')', ..] => {
                self.skip(1);
                Token::Close
            }
            [b'&', b'>', ..] => {
                self.skip(2);
                Token::Redirection
            }
            [b'<', b'<', b'<', ..] => {
                self.skip(3);
                Token::Redirection
            }
            [b'<', b'<', rest @ ..] => {
                let strips_tabs = rest.first() == Some(&b'-');
                self.skip(if strips_tabs { 3 } else { 2 });
                self.skip_blanks();
                let before = self.rest;
                let word = self.word();
                let spelled = before.get(..before.len().saturating_sub(self.rest.len())).unwrap_or_default();
                let is_plain = spelled.iter().any(|byte| b"'\"\\".contains(byte));
                let document = |end| HereDocument { end, strips_tabs, is_plain };
                self.heredocs.extend(word.into_literal().map(document));
                return self.next();
            }
            // `<(command)` is a word that runs a command; what it runs is a command of its own.
            [b'<' | b'>', b'(', ..] => {
                self.skip(2);
                Token::Separator
            }
            [b'<' | b'>', rest @ ..] => {
                let more = rest.iter().take_while(|byte| matches!(byte, b'>' | b'<' | b'&' | b'|')).count();
                self.skip(more.saturating_add(1));
                Token::Redirection
            }
            [b';' | b'|' | b'&', ..] => {
                self.skip(1);
                Token::Separator
            }
            _ => Token::Word(self.word()),
        };
        Some(token)
    }

    fn next_literal(&mut self) -> Option<Vec<u8>> {
        match self.next() {
            Some(Token::Word(word)) => word.into_literal(),
            _ => None,
        }
    }

    fn skip_word(&mut self) {
        self.skip_blanks();
        if !matches!(self.peek(), None | Some(b'\n')) {
            self.word();
        }
    }

    /// Reads one word. What `$` and backquotes stand for is not known, but for a default: `${PAGER-less}` may well be
    /// `less`.
    fn word(&mut self) -> Word {
        let mut text = Vec::new();
        let mut unknown: Vec<Option<&[u8]>> = Vec::new();
        // The length of `text` when something unknown was last added.
        let mut written = 0;
        let mut quote = None;
        while let Some(byte) = self.peek() {
            match (byte, quote) {
                (b'\'', Some(b'\'')) | (b'"', Some(b'"')) => quote = None,
                (byte, Some(b'\'')) => text.push(byte),
                (b'\\', _) => {
                    self.skip(1);
                    match self.peek() {
                        Some(b'\n') | None => {}
                        Some(escaped) => text.push(escaped),
                    }
                }
                (b'$' | b'`', _) => {
                    let before = self.rest;
                    let default = if byte == b'$' { self.skip_expansion() } else { self.skip_backquoted() };
                    unknown.push(default.filter(|_| text.is_empty()));
                    let len = before.len().saturating_sub(self.rest.len());
                    text.extend(before.get(..len).unwrap_or_default());
                    written = text.len();
                    continue;
                }
                (byte, Some(_)) => text.push(byte),
                (b'\'' | b'"', None) => quote = Some(byte),
                (b' ' | b'\t' | b'\r' | b'\n' | b';' | b'|' | b'&' | b'(' | b')' | b'<' | b'>', None) => {
                    break;
                }
                (byte, None) => text.push(byte),
            }
            self.skip(1);
        }
        // A digit before `<` or `>` is the number of a file, not a word.
        let is_file_number = matches!(self.peek(), Some(b'<' | b'>')) && text.iter().all(u8::is_ascii_digit);
        match unknown.as_slice() {
            // With anything around it, it is a part of something else.
            [Some(default)] if text.len() == written => Word { text: default.to_vec(), is_literal: true },
            unknown => Word { text, is_literal: unknown.is_empty() && !is_file_number },
        }
    }

    /// Passes over `$name`, `${…}`, `$(…)` and `$((…))`; returns the value that it has by default.
    fn skip_expansion(&mut self) -> Option<&'a [u8]> {
        self.skip(1);
        let (open, close) = match self.peek() {
            Some(b'(') => (b'(', b')'),
            Some(b'{') => (b'{', b'}'),
            _ => {
                let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let name = self.rest.iter().take_while(|byte| is_name(byte)).count();
                self.skip(name.max(usize::from(self.peek().is_some_and(|byte| b"@*#?!$-".contains(&byte)))));
                return None;
            }
        };
        let text = self.rest;
        let mut depth = 0_usize;
        while let Some(byte) = self.peek() {
            self.skip(1);
            if byte == b'\\' {
                self.skip(1);
            } else if byte == open {
                depth = depth.saturating_add(1);
            } else if byte == close {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    break;
                }
            }
        }
        let len = text.len().saturating_sub(self.rest.len());
        let is_closed = depth == 0;
        let inside = text.get(1..len.saturating_sub(usize::from(is_closed))).unwrap_or_default();
        let is_script = open == b'(' && !inside.starts_with(b"(");
        self.parts.push(if is_script { Part::Script(inside) } else { Part::Text(inside) });
        if open == b'{' { default_of(inside) } else { None }
    }

    /// Passes over `` `…` ``, which has no value by default.
    fn skip_backquoted(&mut self) -> Option<&'a [u8]> {
        self.skip(1);
        let end = self.rest.iter().position(|byte| *byte == b'`').unwrap_or(self.rest.len());
        self.parts.extend(self.rest.get(..end).map(Part::Script));
        self.skip(end.saturating_add(1));
        None
    }

    /// Passes over everything.
    fn skip_text(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\\' => self.skip(2),
                b'$' => drop(self.skip_expansion()),
                b'`' => drop(self.skip_backquoted()),
                _ => self.skip(1),
            }
        }
    }

    /// Passes over the here-documents that the line before has opened.
    fn skip_heredocs(&mut self) {
        for HereDocument { end, strips_tabs, is_plain } in std::mem::take(&mut self.heredocs) {
            let all = self.rest;
            while !self.rest.is_empty() {
                let len = self.rest.iter().position(|byte| *byte == b'\n').unwrap_or(self.rest.len());
                let line = self.rest.get(..len).unwrap_or_default();
                let tabs =
                    if strips_tabs { line.iter().take_while(|byte| **byte == b'\t').count() } else { 0 };
                let is_end = line.get(tabs..) == Some(end.as_slice());
                self.skip(len.saturating_add(1));
                if is_end {
                    break;
                }
            }
            if !is_plain {
                let len = all.len().saturating_sub(self.rest.len());
                self.parts.extend(all.get(..len).map(Part::Text));
            }
        }
    }
}

/// Returns whether `name` can be that of a variable.
fn is_variable(name: &[u8]) -> bool {
    !name.first().is_none_or(u8::is_ascii_digit)
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Returns the variable and its value in `NAME=value`, `NAME=${OTHER:-value}`, where the value may be the name of a
/// program.
fn assigned(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (text.get(..at)?, text.get(at.saturating_add(1)..)?);
    let inside = value.strip_prefix(b"${").and_then(|value| value.strip_suffix(b"}"));
    let value = inside.map_or(Some(value), default_of)?;
    let is_program = str::from_utf8(value).is_ok_and(is_program_name);
    (is_variable(name) && is_program).then_some((name, value))
}

/// Returns the default in `NAME-default`, `NAME=default`, and the same with a colon.
fn default_of(expansion: &[u8]) -> Option<&[u8]> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let name = expansion.iter().take_while(|byte| is_name(byte)).count();
    let rest = expansion.get(name..)?;
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    rest.strip_prefix(b"-").or(rest.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_position() {
        for (script, words) in [
            ("#!/bin/sh\nls -l; grep x | sort -u && wc\n", "grep ls sort wc"),
            ("if test -f x; then cat x; elif awk 1; then :; else sed p; fi", "awk cat sed"),
            ("for i in a b; do rm $i; done\nwhile read x; do cut -f1; done", "cut rm"),
            ("A=1 B=2 make install", "make"),
            ("exec /usr/sbin/nginx -g 'daemon off;'", "/usr/sbin/nginx"),
            ("$CMD x; ${CMD} y; \"$X/bin/z\" q", ""),
            (
                "A=${B:-/x/a} C=c; D=d\nE=\"x y\"; export F=f; $A; exec \"${C}\" $D; $E; nice $F; G=cd; $G",
                "/x/a c f nice",
            ),
            ("helper() { tar x; }\nfunction other { gzip; }\nhelper; other", "gzip tar"),
            ("case $1 in\n  start|stop) systemctl x ;;\n  *) usage ;;\nesac\nid", "id systemctl usage"),
            ("cat <<EOF\nrm -rf /\nEOF\nuname", "cat uname"),
            ("cat <<EOF >x\na=$(uname -a) `id`\n\\$(no)\nEOF\nls", "cat id ls uname"),
            ("cat <<\"EOF\"; cat <<\\END\n$(no)\nEOF\n$(no)\nEND\nls", "cat ls"),
            ("cat <<-'END' >/dev/null\n\tdd if=x\n\tEND\nuname", "cat uname"),
            ("ls > out 2>&1 < in; date >> log", "date ls"),
            ("( cd /; find . ) & wait", "find"),
            ("# comment; mkfs\ntrue # rm\n", ""),
            ("'quoted name' x; \"stat\" y", "stat"),
            ("echo `rm x` $(ls y)", "ls rm"),
            (
                "a=$(dirname \"$(readlink -f $0)\"); b=\"`uname` $((1 + $(wc -l)))\"",
                "dirname readlink uname wc",
            ),
            ("x=${y:-$(id -u)}; ${PAGER:-less} f; \"${AWK=awk}\" g; ${A-b}c; ${A+d}", "awk id less"),
            (
                "exec env -u A FOO=1 xargs -n 1 -I % sort; exec -a q date; nohup timeout 5s tail",
                "date env nohup sort tail timeout xargs",
            ),
            (
                "find . -type f -exec chown x {} + -o -name y; find / -name sh -execdir sed p \\;\ndate",
                "chown date find sed",
            ),
            (
                "gosu postgres \"$0\" \"$@\"; exec gosu \"$USER\" initdb -D x; su-exec a:b ls",
                "gosu initdb ls su-exec",
            ),
            ("exec tini -g -- redis-server; stdbuf -oL sed s", "redis-server sed stdbuf tini"),
            ("f() { ls; }; x=$(f)", "ls"),
            ("! grep -q x || time sleep 1", "grep sleep"),
            ("a\\\nb c", "ab"),
            ("$($($(ls", "ls"),
            ("diff <(sort a) <(uniq b)", "diff sort uniq"),
            ("ls 'unclosed", "ls"),
            ("[ -x /bin/a ] && /bin/a", "/bin/a"),
            ("sh -c \"exec app --port $PORT\"; bash -eu -o pipefail -c 'a | b \"$1\"' x", "a app b bash sh"),
            (
                "exec gosu x /bin/sh -lc 'bash -c \"one; `two`\"'; sh run.sh -c y",
                "/bin/sh bash gosu one sh two",
            ),
            ("sh -c \"${RUN:-serve}\"; sh -c \"$RUN\"; sh -c", "serve sh"),
        ] {
            let found = command_words(script.as_bytes());
            let found: Vec<_> = found.iter().map(|word| str::from_utf8(word).unwrap()).collect();
            assert_eq!(found.join(" "), words, "{script}");
        }
    }

    #[test]
    fn words_of_a_command_start_what_they_say() {
        for (words, started) in [
            (&["/bin/sh", "-c", "sh -c \"exec app\" && ls"][..], "/bin/sh app ls sh"),
            (&["tini", "-g", "--", "gosu", "x", "sh", "-c", "serve $X"], "gosu serve sh tini"),
            (&["/usr/bin/env", "A=1", "python3", "-c", "import x"], "/usr/bin/env python3"),
            (&["app", "sh", "-c", "x"], "app"),
            (&["time", "x"], ""),
            (&["/bin/bash", "-eo", "pipefail", "-c", "a | b"], "/bin/bash a b"),
            (&["sh", "-e", "/start.sh", "x.sh"], "sh < /start.sh"),
            (&["tini", "--", "bash", "--rcfile", "/rc", "-xo", "pipefail", "--", "run"], "bash tini < run"),
            (&["/bin/sh", "-c", "dash one; exec sh $X; sh two"], "/bin/sh dash sh < one two"),
            (&["bash", "-s", "one"], "bash"),
            (&["python3", "/x.py"], "python3"),
            (&["sh", "-c"], "sh"),
            (&[], ""),
        ] {
            let Started { programs, scripts } = super::started(words);
            let mut found: Vec<_> = programs.iter().map(|word| str::from_utf8(word).unwrap()).collect();
            found.push("<");
            found.extend(scripts.iter().map(|word| str::from_utf8(word).unwrap()));
            assert_eq!(found.join(" ").trim_matches([' ', '<']), started, "{words:?}");
        }
    }
}
