//! The text of a build file -> where its instructions are, and what some of them say.
//!
//! What they mean is for the stock frontend; this is for messages, and for what it does not pass on.

use std::ops::Range;

use crate::proto::SourceInfo;

/// The instructions of a build file, so far as messages need them: where each starts and ends, and in which stage.
pub(crate) struct Instructions<'a> {
    lines: Vec<&'a str>,
    /// What goes on in the next line at the end of one.
    escape: char,
    instructions: Vec<Instruction<'a>>,
    /// The stage that the image is of, and those that it is built on, by the places of their instructions.
    stages: Vec<Range<usize>>,
}

/// One instruction: its words, and its first and last line from 0.
struct Instruction<'a> {
    words: Vec<&'a str>,
    lines: (usize, usize),
}

impl Instruction<'_> {
    fn is(&self, keyword: &str) -> bool {
        self.words.first().is_some_and(|word| word.eq_ignore_ascii_case(keyword))
    }
}

impl<'a> Instructions<'a> {
    /// Returns the instructions of `file`, of which the stage `target` is built; the last one, if there is none.
    pub(crate) fn of(file: Option<&'a SourceInfo>, target: Option<&str>) -> Self {
        let text = file.and_then(|file| std::str::from_utf8(&file.data).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let escape = escape(&lines);
        let instructions = instructions(&lines, escape);
        let stages = chain(&instructions, target.filter(|target| !target.is_empty()));
        Self { lines, escape, instructions, stages }
    }

    /// Returns the lines of the instruction `keyword` that counts; zeros if there is none, as with one of the base image.
    pub(crate) fn last(&self, keyword: &str) -> (i32, i32) {
        let of_stage = |stage: &Range<usize>| {
            self.instructions.get(stage.clone())?.iter().rfind(|instruction| instruction.is(keyword))
        };
        let Some(instruction) = self.stages.iter().find_map(of_stage) else { return (0, 0) };
        (number(instruction.lines.0), number(instruction.lines.1))
    }

    /// Returns the line of the target's last label `name`; zeros if there is none, as with one of the base image.
    pub(crate) fn label(&self, name: &str) -> (i32, i32) {
        self.stages.iter().find_map(|stage| self.line_in(stage, "LABEL", name)).unwrap_or_default()
    }

    /// Returns the line that declares the build argument `name` for the target or for all stages; zeros if there is none.
    pub(crate) fn argument(&self, name: &str) -> (i32, i32) {
        self.scopes().find_map(|scope| self.line_in(&scope, "ARG", name)).unwrap_or_default()
    }

    /// Returns the `# syntax` line, if `text` is in it; else zeros.
    pub(crate) fn syntax(&self, text: &str) -> (i32, i32) {
        let mut comments = self.lines.iter().take_while(|line| line.starts_with('#'));
        let is_meant = |line: &&str| {
            let directive = line.trim_start_matches('#').trim_start();
            directive.starts_with("syntax") && directive.contains(text)
        };
        comments.position(is_meant).map(|index| (number(index), number(index))).unwrap_or_default()
    }

    /// Returns the build arguments that the target or all stages have a default for, with that: the one that counts.
    pub(crate) fn defaults(&self) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = Vec::new();
        for scope in self.scopes() {
            let instructions = self.instructions.get(scope).into_iter().flatten().rev();
            for instruction in instructions.filter(|instruction| instruction.is("ARG")) {
                for word in split(&self.body(instruction)).iter().rev() {
                    if let Some((name, value)) = word.split_once('=')
                        && !found.iter().any(|(known, _)| known == name)
                    {
                        found.push((name.to_owned(), value.to_owned()));
                    }
                }
            }
        }
        found
    }

    /// Returns where arguments of the target are declared, what counts most first: its stages, and before all of them.
    fn scopes(&self) -> impl Iterator<Item = Range<usize>> {
        let first = self.instructions.iter().position(|instruction| instruction.is("FROM"));
        self.stages.iter().cloned().chain(std::iter::once(0..first.unwrap_or(0)))
    }

    /// Returns the last line of an instruction `keyword` among `range` that has the whole word `name`.
    fn line_in(&self, range: &Range<usize>, keyword: &str, name: &str) -> Option<(i32, i32)> {
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let has_name = |line: &str| {
            line.match_indices(name).any(|(at, _)| {
                let (before, after) = (&line[..at], &line[at + name.len()..]);
                !before.ends_with(is_of_name) && !after.starts_with(is_of_name)
            })
        };
        let instructions = self.instructions.get(range.clone()).into_iter().flatten().rev();
        let lines = instructions
            .filter(|instruction| instruction.is(keyword))
            .flat_map(|Instruction { lines: (first, last), .. }| (*first..=*last).rev());
        let index = lines.into_iter().find(|index| self.lines.get(*index).is_some_and(|it| has_name(it)))?;
        Some((number(index), number(index)))
    }

    /// Returns what follows the keyword of `instruction`.
    fn body(&self, instruction: &Instruction<'_>) -> String {
        let (first, last) = instruction.lines;
        let lines = self.lines.get(first..=last).into_iter().flatten().filter(|line| !is_skipped(line));
        let lines: Vec<&str> = lines.map(|line| line.trim_end().trim_end_matches(self.escape)).collect();
        let text = lines.join(" ");
        text.trim_start().split_once(char::is_whitespace).map_or("", |(_, body)| body).to_owned()
    }

    /// Returns the first of `lines` without the blanks around it.
    pub(crate) fn text(&self, lines: (i32, i32)) -> Option<String> {
        let index = usize::try_from(lines.0).ok()?.checked_sub(1)?;
        self.lines.get(index).map(|line| line.trim().trim_end_matches(self.escape).trim_end().to_owned())
    }
}

/// Returns the number, from 1, of the line at `index`.
fn number(index: usize) -> i32 {
    i32::try_from(index + 1).unwrap_or(0)
}

/// Returns whether `line` is empty or a comment.
fn is_skipped(line: &str) -> bool {
    line.trim().is_empty() || line.trim_start().starts_with('#')
}

/// Returns the instructions in `lines`; comments are none, and neither is what is in here-documents.
fn instructions<'a>(lines: &[&'a str], escape: char) -> Vec<Instruction<'a>> {
    let mut instructions = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let first = at;
        at += 1;
        if is_skipped(line) {
            continue;
        }
        let mut words: Vec<&str> = Vec::new();
        let mut last = first;
        let mut rest = Some(*line);
        while let Some(line) = rest {
            let line = line.trim_end();
            words.extend(line.trim_end_matches(escape).split_whitespace());
            rest = None;
            if line.ends_with(escape) {
                while lines.get(at).is_some_and(|line| is_skipped(line)) {
                    at += 1;
                }
                rest = lines.get(at).copied();
                last = at.min(lines.len().saturating_sub(1));
                at += 1;
            }
        }
        // Which file of the command it is for may stand before.
        let ends = words.iter().map(|word| word.trim_start_matches(|letter: char| letter.is_ascii_digit()));
        let ends = ends.filter_map(|word| word.strip_prefix("<<"));
        let ends: Vec<&str> = ends.map(|end| end.trim_matches(['-', '"', '\''])).collect();
        for end in ends.into_iter().filter(|end| !end.is_empty()) {
            let Some(len) = lines.get(at..).and_then(|rest| rest.iter().position(|line| line.trim() == end))
            else {
                continue;
            };
            at += len + 1;
            last = at - 1;
        }
        instructions.push(Instruction { words, lines: (first, last) });
    }
    instructions
}

/// Returns what goes on in the next line at the end of one: a backslash, or what a directive above all of `lines` says.
fn escape(lines: &[&str]) -> char {
    let directives = lines.iter().map_while(|line| line.trim().strip_prefix('#')?.split_once('='));
    let of_escape = |(name, value): (&str, &str)| match name.trim().eq_ignore_ascii_case("escape") {
        true => value.trim().chars().next(),
        false => None,
    };
    directives.filter_map(of_escape).next().unwrap_or('\\')
}

/// Returns where the instructions of the stage `target` are, which is the last one if there is none, and those of the
/// stages that it is built on, the nearest first.
fn chain(instructions: &[Instruction<'_>], target: Option<&str>) -> Vec<Range<usize>> {
    let starts: Vec<usize> = (0..instructions.len()).filter(|at| instructions[*at].is("FROM")).collect();
    // What it is built on, and its name.
    let names = |stage: usize| {
        let words = instructions[starts[stage]].words.iter().skip(1);
        let mut words = words.filter(|word| !word.starts_with("--"));
        (words.next().copied(), words.nth(1).copied())
    };
    let named = |name: &str, before: usize| {
        let is_named = |stage: &usize| names(*stage).1.is_some_and(|known| known.eq_ignore_ascii_case(name));
        (0..before).rev().find(is_named)
    };
    let mut stage = match target {
        Some(target) => {
            named(target, starts.len()).or(target.parse().ok().filter(|stage| *stage < starts.len()))
        }
        None => starts.len().checked_sub(1),
    };
    let mut chain = Vec::new();
    while let Some(at) = stage {
        chain.push(starts[at]..starts.get(at + 1).copied().unwrap_or(instructions.len()));
        stage = names(at).0.and_then(|base| named(base, at));
    }
    chain
}

/// Splits at blanks outside of quotes.
pub(crate) fn split(text: &str) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> SourceInfo {
        SourceInfo { data: text.as_bytes().to_vec(), ..SourceInfo::default() }
    }

    #[test]
    fn an_instruction_is_one_of_its_stage() {
        let file = file(
            "# syntax=minimage\nARG X\nFROM x AS base\nCMD [\"1\"]\nFROM --platform=$P base AS Middle\nUSER a\n\
            HEALTHCHECK --interval=1s \\\n  # every second\n\n  CMD true\nRUN <<EOF\nCMD [\"2\"]\nUSER b\nEOF\n\
            FROM other\nCMD [\"3\"]\n",
        );
        for (target, keyword, lines) in [
            (Some("middle"), "CMD", (4, 4)),
            (Some("middle"), "USER", (6, 6)),
            (Some("middle"), "healthcheck", (7, 10)),
            (Some("middle"), "RUN", (11, 14)),
            (Some("1"), "CMD", (4, 4)),
            (None, "CMD", (16, 16)),
            (None, "USER", (0, 0)),
            (Some("none"), "CMD", (0, 0)),
        ] {
            assert_eq!(Instructions::of(Some(&file), target).last(keyword), lines, "{target:?} {keyword}");
        }
    }

    #[test]
    fn lines_go_on_as_the_file_says() {
        let file = file(
            "# syntax=x\n# Escape = `\nFROM x\nRUN 3<<A cat <&3 <<-'B'\nUSER a\nA\nUSER b\nB\nARG X=1 `\n  Y=c:\\\nUSER c\n",
        );
        let instructions = Instructions::of(Some(&file), None);
        assert_eq!((instructions.last("RUN"), instructions.last("USER")), ((4, 8), (11, 11)));
        assert_eq!((instructions.argument("X"), instructions.argument("Y")), ((9, 9), (10, 10)));
        assert_eq!(instructions.text((9, 9)).unwrap(), "ARG X=1");
        let defaults = [("Y", "c:\\"), ("X", "1")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(instructions.defaults(), defaults);
    }

    #[test]
    fn what_is_set_is_found_at_its_line() {
        let file = file(
            "# escape=\\\n# syntax=minimage --dlopen=none\nARG A=1\nARG MINIMAGE_DLOPEN=all MINIMAGE_WITH=\"a b\"\n\
            FROM x AS base\nLABEL minimage.with=x\nLABEL minimage.with-user=y \\\n  # with\n  \"minimage.with\"='z'\n\
            FROM y AS other\nLABEL minimage.with=w\nARG MINIMAGE_NSS=x\nFROM base\nARG MINIMAGE_DLOPEN\nARG A=2\n",
        );
        let instructions = Instructions::of(Some(&file), None);
        assert_eq!(instructions.label("minimage.with"), (9, 9));
        assert_eq!(instructions.label("minimage.with-user"), (7, 7));
        assert_eq!(instructions.label("minimage.without"), (0, 0));
        assert_eq!(instructions.argument("MINIMAGE_DLOPEN"), (14, 14));
        assert_eq!(instructions.argument("MINIMAGE_WITH"), (4, 4));
        assert_eq!(instructions.argument("MINIMAGE_NSS"), (0, 0));
        assert_eq!(instructions.syntax("dlopen"), (2, 2));
        assert_eq!(instructions.syntax("with"), (0, 0));
        let defaults = [("A", "2"), ("MINIMAGE_WITH", "a b"), ("MINIMAGE_DLOPEN", "all")];
        assert_eq!(
            instructions.defaults(),
            defaults.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
