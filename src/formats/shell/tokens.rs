//! The text of a shell script -> words, and what stands between them.

/// A word of a command.
pub(super) struct Word {
    /// What the command gets, with what is known only at run time as it is written.
    pub(super) text: Vec<u8>,
    /// How many bytes of it come before the first that is known only at run time.
    known: usize,
}

impl Word {
    /// Returns a word of which everything is known.
    pub(super) fn new(text: Vec<u8>) -> Self {
        Self { known: text.len(), text }
    }

    /// Returns the word if it is a text, unless something in it is known only at run time.
    pub(super) fn known(&self) -> Option<&str> {
        Some(self.beginning()).filter(|text| text.len() == self.text.len())
    }

    /// Returns the text that it begins with, up to what is known only at run time.
    pub(super) fn beginning(&self) -> &str {
        let known = self.text.get(..self.known).unwrap_or_default();
        known.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default()
    }

    /// Returns the word, unless something in it is known only at run time.
    pub(super) fn into_literal(self) -> Option<Vec<u8>> {
        (self.known == self.text.len()).then_some(self.text)
    }
}

/// What a script is made of.
pub(super) enum Token {
    Word(Word),
    /// What ends a command: newline, `;`, `|`, `&`, `(`.
    Separator,
    /// `;;` and its kin: a pattern follows.
    CaseEnd,
    /// `)`.
    Close,
    /// `()` after a word: that was the name of a function.
    Function,
}

/// What stands between the number of a file and what it becomes, the longer ones first.
const REDIRECTIONS: [&[u8]; 12] =
    [b"&>>", b"&>", b"<<<", HEREDOC_BEHIND_TABS, HEREDOC, b"<>", b"<&", b"<", b">>", b">&", b">|", b">"];
const HEREDOC: &[u8] = b"<<";
const HEREDOC_BEHIND_TABS: &[u8] = b"<<-";
/// The most here-documents that one line opens, as in bash.
const HEREDOCS_MAX: usize = 16;

/// Reads a script token by token, but for redirections.
pub(super) struct Scanner<'a> {
    rest: &'a [u8],
    heredocs: Vec<HereDocument>,
    /// What was passed over and may hold commands.
    pub(super) parts: Vec<Part<'a>>,
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
pub(super) enum Part<'a> {
    /// Commands.
    Script(&'a [u8]),
    /// Something else, in which there may be command substitutions.
    Text(&'a [u8]),
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { rest: text, heredocs: Vec::new(), parts: Vec::new() }
    }

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

    pub(super) fn next(&mut self) -> Option<Token> {
        self.skip_blanks();
        while self.skip_redirection() {
            self.skip_blanks();
        }
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
            // `((i < 3))`, or a subshell that begins with another one.
            [b'(', b'(', ..] => {
                let inside = self.skip_enclosed(b'(', b')');
                self.parts.push(if inside.ends_with(b")") {
                    Part::Text(inside)
                } else {
                    Part::Script(inside)
                });
                Token::Separator
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
            [b';' | b'|' | b'&', ..] => {
                self.skip(1);
                Token::Separator
            }
            _ => {
                let word = self.word();
                if word.text.ends_with(b"=") && self.peek() == Some(b'(') {
                    self.skip_list();
                }
                Token::Word(word)
            }
        };
        Some(token)
    }

    /// Passes over the `(a b)` that an array is given.
    fn skip_list(&mut self) {
        self.skip(1);
        while let Some(byte) = self.peek()
            && byte != b')'
        {
            let before = self.rest.len();
            self.skip_blanks();
            self.word();
            // What ends a word elsewhere ends nothing here.
            self.skip(usize::from(self.rest.len() == before));
        }
        self.skip(1);
    }

    /// Passes over the rest of a `[[` condition, in which `(`, `|` and `&` do not end a command.
    pub(super) fn skip_condition(&mut self) {
        let is_end = |token: &Token| matches!(token, Token::Word(word) if word.known() == Some("]]"));
        while self.next().is_some_and(|token| !is_end(&token)) {}
    }

    pub(super) fn next_literal(&mut self) -> Option<Vec<u8>> {
        match self.next() {
            Some(Token::Word(word)) => word.into_literal(),
            _ => None,
        }
    }

    /// Passes over the redirection that is next, if there is one, with the number before it and the word after it.
    fn skip_redirection(&mut self) -> bool {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let rest = self.rest.get(digits..).unwrap_or_default();
        let Some(operator) = REDIRECTIONS.iter().find(|operator| rest.starts_with(operator)) else {
            return false;
        };
        if matches!(rest, [b'<' | b'>', b'(', ..]) || digits > 0 && operator.starts_with(b"&") {
            return false;
        }
        self.skip(digits.saturating_add(operator.len()));
        self.skip_blanks();
        let before = self.rest;
        let word = self.word();
        let strips_tabs = *operator == HEREDOC_BEHIND_TABS;
        if (strips_tabs || *operator == HEREDOC) && self.heredocs.len() < HEREDOCS_MAX {
            let spelled = before.get(..before.len().saturating_sub(self.rest.len())).unwrap_or_default();
            let is_plain = spelled.iter().any(|byte| b"'\"\\".contains(byte));
            let document = |end| HereDocument { end, strips_tabs, is_plain };
            self.heredocs.extend(word.into_literal().map(document));
        }
        true
    }

    /// Reads one word. What `$`, backquotes and `<(command)` stand for is not known, but for a default: `${PAGER-less}`
    /// may well be `less`.
    fn word(&mut self) -> Word {
        let mut text = Vec::new();
        // The length of `text` when something unknown was first and last added, and what that is by default.
        let (mut known, mut written, mut default) = (None, 0, None);
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
                (b'<' | b'>', None) if self.rest.get(1) != Some(&b'(') => break,
                (b'$' | b'`', _) | (b'<' | b'>', None) => {
                    let before = self.rest;
                    default = if byte == b'`' { self.skip_backquoted() } else { self.skip_expansion() };
                    // With anything around it, it is a part of something else.
                    default = default.filter(|_| text.is_empty());
                    known = known.or(Some(text.len()));
                    let len = before.len().saturating_sub(self.rest.len());
                    text.extend(before.get(..len).unwrap_or_default());
                    written = text.len();
                    continue;
                }
                (byte, Some(_)) => text.push(byte),
                (b'\'' | b'"', None) => quote = Some(byte),
                (b' ' | b'\t' | b'\r' | b'\n' | b';' | b'|' | b'&' | b'(' | b')', None) => break,
                (byte, None) => text.push(byte),
            }
            self.skip(1);
        }
        match default.filter(|_| text.len() == written) {
            Some(default) => Word::new(default.to_vec()),
            None => Word { known: known.unwrap_or(text.len()), text },
        }
    }

    /// Passes over `$name`, `${…}`, `$(…)`, `$((…))`, `<(…)` and `>(…)`; returns the value that it has by default.
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
        let inside = self.skip_enclosed(open, close);
        let is_script = open == b'(' && !inside.starts_with(b"(");
        self.parts.push(if is_script { Part::Script(inside) } else { Part::Text(inside) });
        if open == b'{' { default_of(inside) } else { None }
    }

    /// Passes over everything from `open`, which is next, to the `close` that belongs to it; returns what is between.
    fn skip_enclosed(&mut self, open: u8, close: u8) -> &'a [u8] {
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
        text.get(1..len.saturating_sub(usize::from(is_closed))).unwrap_or_default()
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
    pub(super) fn skip_text(&mut self) {
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

/// Returns the default in `NAME-default`, `NAME=default`, and the same with a colon.
pub(super) fn default_of(expansion: &[u8]) -> Option<&[u8]> {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let name = expansion.iter().take_while(|byte| is_name(byte)).count();
    let rest = expansion.get(name..)?;
    let rest = rest.strip_prefix(b":").unwrap_or(rest);
    rest.strip_prefix(b"-").or(rest.strip_prefix(b"="))
}
