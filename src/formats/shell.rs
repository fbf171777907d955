//! A shell script -> the literal words in command position: the programs it would run, as far as a reader sees.
//!
//! No shell is imitated: variables, command substitutions inside words, functions and `eval` stay unknown. What is
//! found is looked up later, and what is not found is only a warning.

use std::collections::BTreeSet;

/// How much of a script is read, in bytes.
pub const SCRIPT_MAX: u64 = 1 << 20;
/// The most words that one script yields.
const WORDS_MAX: usize = 10_000;

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
const MORE_BUILTINS: [&str; 4] = ["unalias", "unset", "wait", "suspend"];
/// Words after which a command begins.
const OPENERS: [&str; 12] =
    ["!", "do", "elif", "else", "exec", "if", "nohup", "then", "time", "until", "while", "{"];
const CLOSERS: [&str; 3] = ["done", "fi", "}"];

/// Returns the literal command words of `script`, each once, sorted. Names of functions that it defines are left out.
pub fn command_words(script: &[u8]) -> Vec<Vec<u8>> {
    let mut words = BTreeSet::new();
    let mut functions = BTreeSet::new();
    let mut scanner = Scanner { rest: script, heredocs: Vec::new() };
    let mut is_command = true;
    let mut is_case_pattern = false;
    let mut previous: Option<Vec<u8>> = None;
    while let Some(token) = scanner.next() {
        match token {
            Token::Separator => is_command = true,
            Token::CaseEnd => {
                is_command = false;
                is_case_pattern = true;
            }
            Token::Close => {
                // `name()` defines a function; `pattern)` begins the commands of a case.
                is_command = true;
                is_case_pattern = false;
            }
            Token::Function => {
                functions.extend(previous.take());
                is_command = true;
            }
            Token::Redirection => {
                scanner.skip_word();
            }
            Token::Word(word) => {
                let text = word.literal.as_deref().and_then(|literal| str::from_utf8(literal).ok());
                if is_case_pattern {
                    is_case_pattern = text != Some("esac");
                    continue;
                }
                if !is_command {
                    if text == Some("in") && previous.as_deref() == Some(b"case") {
                        is_case_pattern = true;
                        previous = None;
                    }
                    continue;
                }
                match text {
                    Some(text) if OPENERS.contains(&text) => {}
                    Some(text) if CLOSERS.contains(&text) => is_command = false,
                    Some(text) if is_assignment(text) => {}
                    Some("function") => {
                        functions.extend(scanner.next_literal());
                    }
                    Some("case") => {
                        is_command = false;
                        previous = Some(b"case".to_vec());
                        continue;
                    }
                    Some(text) if BUILTINS.contains(&text) || MORE_BUILTINS.contains(&text) => {
                        is_command = false
                    }
                    Some(text) => {
                        is_command = false;
                        if words.len() < WORDS_MAX && is_program_name(text) {
                            words.insert(text.as_bytes().to_vec());
                        }
                    }
                    None => is_command = false,
                }
                previous = word.literal;
            }
        }
    }
    words.into_iter().filter(|word| !functions.contains(word)).collect()
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
    /// The word, unless something in it is known only at run time.
    literal: Option<Vec<u8>>,
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
    heredocs: Vec<(Vec<u8>, bool)>,
}

impl Scanner<'_> {
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
                let word = self.word();
                self.heredocs.extend(word.literal.map(|end| (end, strips_tabs)));
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
            Some(Token::Word(word)) => word.literal,
            _ => None,
        }
    }

    fn skip_word(&mut self) {
        self.skip_blanks();
        if !matches!(self.peek(), None | Some(b'\n')) {
            self.word();
        }
    }

    /// Reads one word. What `$` and backquotes stand for is not known; their text is passed over.
    fn word(&mut self) -> Word {
        let mut literal = Some(Vec::new());
        let push = |literal: &mut Option<Vec<u8>>, byte| {
            if let Some(text) = literal {
                text.push(byte);
            }
        };
        let mut quote = None;
        while let Some(byte) = self.peek() {
            match (byte, quote) {
                (b'\'', Some(b'\'')) | (b'"', Some(b'"')) => quote = None,
                (byte, Some(b'\'')) => push(&mut literal, byte),
                (b'\\', _) => {
                    self.skip(1);
                    match self.peek() {
                        Some(b'\n') | None => {}
                        Some(escaped) => push(&mut literal, escaped),
                    }
                }
                (b'$', _) => {
                    literal = None;
                    self.skip_expansion();
                    continue;
                }
                (b'`', _) => {
                    literal = None;
                    self.skip(1);
                    let end = self.rest.iter().position(|byte| *byte == b'`').unwrap_or(self.rest.len());
                    self.skip(end);
                }
                (byte, Some(_)) => push(&mut literal, byte),
                (b'\'' | b'"', None) => quote = Some(byte),
                (b' ' | b'\t' | b'\r' | b'\n' | b';' | b'|' | b'&' | b'(' | b')' | b'<' | b'>', None) => {
                    break;
                }
                (byte, None) => push(&mut literal, byte),
            }
            self.skip(1);
        }
        // A digit before `<` or `>` is the number of a file, not a word.
        if matches!(self.peek(), Some(b'<' | b'>'))
            && literal.as_ref().is_some_and(|text| text.iter().all(u8::is_ascii_digit))
        {
            literal = None;
        }
        Word { literal }
    }

    /// Passes over `$name`, `${…}`, `$(…)` and `$((…))`.
    fn skip_expansion(&mut self) {
        self.skip(1);
        let (open, close) = match self.peek() {
            Some(b'(') => (b'(', b')'),
            Some(b'{') => (b'{', b'}'),
            _ => {
                let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                let name = self.rest.iter().take_while(|byte| is_name(byte)).count();
                self.skip(name.max(usize::from(self.peek().is_some_and(|byte| b"@*#?!$-".contains(&byte)))));
                return;
            }
        };
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
                    return;
                }
            }
        }
    }

    /// Passes over the here-documents that the line before has opened.
    fn skip_heredocs(&mut self) {
        for (end, strips_tabs) in std::mem::take(&mut self.heredocs) {
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
        }
    }
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
            ("helper() { tar x; }\nfunction other { gzip; }\nhelper; other", "gzip tar"),
            ("case $1 in\n  start|stop) systemctl x ;;\n  *) usage ;;\nesac\nid", "id systemctl usage"),
            ("cat <<EOF\nrm -rf /\nEOF\nuname", "cat uname"),
            ("cat <<-'END' >/dev/null\n\tdd if=x\n\tEND\nuname", "cat uname"),
            ("ls > out 2>&1 < in; date >> log", "date ls"),
            ("( cd /; find . ) & wait", "find"),
            ("# comment; mkfs\ntrue # rm\n", ""),
            ("'quoted name' x; \"stat\" y", "stat"),
            ("echo `rm x` $(rm y)", ""),
            ("! grep -q x || time sleep 1", "grep sleep"),
            ("a\\\nb c", "ab"),
            ("diff <(sort a) <(uniq b)", "diff sort uniq"),
            ("ls 'unclosed", "ls"),
            ("[ -x /bin/a ] && /bin/a", "/bin/a"),
        ] {
            let found = command_words(script.as_bytes());
            let found: Vec<_> = found.iter().map(|word| str::from_utf8(word).unwrap()).collect();
            assert_eq!(found.join(" "), words, "{script}");
        }
    }
}
