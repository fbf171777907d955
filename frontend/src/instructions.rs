//! The text of a build file -> where its instructions are, and what some of them say.
//!
//! What they mean is for the stock frontend; this is for messages, and for what it does not pass on.

use std::ops::Range;

use crate::proto::SourceInfo;
use crate::variables::{Unset, Variables, expanded};

/// The instructions of a build file, so far as messages need them: where each starts and ends, and in which stage.
pub(crate) struct Instructions<'a> {
    lines: Vec<&'a str>,
    /// What goes on in the next line at the end of one.
    escape: char,
    instructions: Vec<Instruction<'a>>,
    /// The stages, the first one first.
    all_stages: Vec<Stage>,
    /// The stage that the image is of, and those that it is built on, by the places of their instructions.
    stages: Vec<Range<usize>>,
    build: Known<'a>,
}

/// The variables that a build knows from elsewhere.
#[derive(Clone, Copy, Default)]
pub(crate) struct Known<'a> {
    /// What the client says of arguments, and what the stock frontend says of platforms.
    pub(crate) given: &'a [(String, String)],
    /// The environment of the image.
    pub(crate) environment: &'a [(String, String)],
}

/// The variables that an instruction sees; of several of one name the first counts.
struct Seen {
    environment: Variables,
    arguments: Variables,
}

impl Seen {
    /// Returns all of them.
    fn all(&self) -> Variables {
        [self.environment.as_slice(), &self.arguments].concat()
    }
}

/// One stage.
struct Stage {
    /// Its instructions, by their places.
    instructions: Range<usize>,
    name: Option<String>,
    /// The number of the stage that it is built on, if that is one.
    base: Option<usize>,
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
        Self::of_build(file, target, Known::default())
    }

    /// Returns the same for a `build`, whose arguments count more than what the file has for them.
    pub(crate) fn of_build(file: Option<&'a SourceInfo>, target: Option<&str>, build: Known<'a>) -> Self {
        let text = file.and_then(|file| std::str::from_utf8(&file.data).ok()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let escape = escape(&lines);
        let instructions = instructions(&lines, escape);
        let (all_stages, stages) = (Vec::new(), Vec::new());
        let mut read = Self { lines, escape, instructions, all_stages, stages, build };
        read.all_stages = read.stages(&read.variables());
        let target = target.filter(|target| !target.is_empty());
        let target = match target {
            Some(target) => read.stage(target, read.all_stages.len()),
            None => read.all_stages.len().checked_sub(1),
        };
        let base = |stage: &usize| read.all_stages.get(*stage)?.base;
        let chain = std::iter::successors(target, base);
        read.stages = chain.filter_map(|at| Some(read.all_stages.get(at)?.instructions.clone())).collect();
        read
    }

    /// Returns the variables that `FROM` knows: those of the client, as far as they are declared before all stages, and what
    /// the file has for the others.
    fn variables(&self) -> Variables {
        // Those of the platform need no declaration.
        let is_of_platform = |(name, _): &&(String, String)| {
            name.starts_with("TARGET") || name.starts_with("BUILD") && !name.starts_with("BUILDKIT_")
        };
        let mut known: Variables = self.build.given.iter().filter(is_of_platform).cloned().collect();
        let before = self.instructions.iter().take_while(|instruction| !instruction.is("FROM"));
        for instruction in before.filter(|instruction| instruction.is("ARG")) {
            for word in pieces(&self.body(instruction)) {
                let (name, default) = match word.split_once('=') {
                    Some((name, default)) => (name, expanded(default, &known, Unset::Empty)),
                    None => (word, None),
                };
                if let Some(value) = self.given(name).or(default) {
                    known.insert(0, (name.to_owned(), value));
                }
            }
        }
        known
    }

    /// Returns the value that the client gives the build argument `name`.
    fn given(&self, name: &str) -> Option<String> {
        self.build.given.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// Returns the stages, whose bases are named with `variables`.
    fn stages(&self, variables: &[(String, String)]) -> Vec<Stage> {
        let starts = (0..self.instructions.len()).filter(|at| self.instructions[*at].is("FROM"));
        let starts: Vec<usize> = starts.collect();
        let mut stages: Vec<Stage> = Vec::new();
        for (number, start) in starts.iter().enumerate() {
            let words = self.instructions[*start].words.iter().skip(1);
            let mut words = words.filter(|word| !word.starts_with("--"));
            let base = words.next().and_then(|word| expanded(word, variables, Unset::Empty));
            let name = words.nth(1).map(|name| (*name).to_owned());
            let end = starts.get(number + 1).copied().unwrap_or(self.instructions.len());
            let base = base.and_then(|base| named(&stages, &base));
            stages.push(Stage { instructions: *start..end, name, base });
        }
        stages
    }

    /// Returns the number of the stage before number `before` that is called `name`, or has this number.
    fn stage(&self, name: &str, before: usize) -> Option<usize> {
        let before = self.all_stages.get(..before)?;
        named(before, name).or(name.parse().ok().filter(|number| *number < before.len()))
    }

    /// Returns whether there is a stage `name`, or one of this number.
    pub(crate) fn has_stage(&self, name: &str) -> bool {
        self.stage(name, self.all_stages.len()).is_some()
    }

    /// Returns what each stage is called, or its number if it has no name, and where it begins.
    pub(crate) fn stage_names(&self) -> Vec<(String, (i32, i32))> {
        let name = |(at, stage): (usize, &Stage)| {
            let lines = self.instructions.get(stage.instructions.start).map(|from| from.lines);
            let lines = lines.map_or((0, 0), |(first, last)| (number(first), number(last)));
            (stage.name.clone().unwrap_or_else(|| at.to_string()), lines)
        };
        self.all_stages.iter().enumerate().map(name).collect()
    }

    /// Returns the labels whose names begin with `prefix` of stages that things are only copied from: where each is, and
    /// what its stage is called.
    pub(crate) fn labels_elsewhere(&self, prefix: &str) -> Vec<((i32, i32), String)> {
        let is_of_target = |stage: &Stage| self.stages.contains(&stage.instructions);
        let mut open: Vec<usize> = (0..self.all_stages.len()).collect();
        open.retain(|at| is_of_target(&self.all_stages[*at]));
        let mut reached: Vec<usize> = Vec::new();
        while let Some(at) = open.pop() {
            if reached.contains(&at) {
                continue;
            }
            reached.push(at);
            let stage = &self.all_stages[at];
            open.extend(stage.base);
            let instructions = self.instructions[stage.instructions.clone()].iter();
            let options = instructions.flat_map(|instruction| {
                instruction.words.iter().skip(1).take_while(|word| word.starts_with("--"))
            });
            let options = options.flat_map(|word| word.split(','));
            let names = options.filter_map(|option| option.trim_start_matches('-').strip_prefix("from="));
            open.extend(names.filter_map(|name| self.stage(name, at)));
        }
        reached.sort_unstable();
        let mut found = Vec::new();
        for at in reached {
            let stage = &self.all_stages[at];
            if is_of_target(stage) {
                continue;
            }
            let name = stage.name.clone().unwrap_or_else(|| format!("stage-{at}"));
            let instructions = self.instructions[stage.instructions.clone()].iter();
            for instruction in instructions.filter(|instruction| instruction.is("LABEL")) {
                let words = split(&self.body(instruction));
                for label in words.iter().filter(|word| word.starts_with(prefix)) {
                    let label = label.split('=').next().unwrap_or_default();
                    let lines = self.line_of(instruction, label);
                    found.extend(lines.map(|lines| (lines, name.clone())));
                }
            }
        }
        found
    }

    /// Returns the lines of the instruction `keyword` that counts; zeros if there is none, as with one of the base image.
    pub(crate) fn last(&self, keyword: &str) -> (i32, i32) {
        let Some(instruction) = self.last_instruction(keyword) else { return (0, 0) };
        (number(instruction.lines.0), number(instruction.lines.1))
    }

    /// Returns what the instruction `keyword` that counts says, as one line; `None` if there is none.
    pub(crate) fn last_body(&self, keyword: &str) -> Option<String> {
        self.last_instruction(keyword).map(|instruction| self.body(instruction))
    }

    fn last_instruction(&self, keyword: &str) -> Option<&Instruction<'a>> {
        let of_stage = |stage: &Range<usize>| {
            self.instructions.get(stage.clone())?.iter().rfind(|instruction| instruction.is(keyword))
        };
        self.stages.iter().find_map(of_stage)
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

    /// Returns the build arguments that the target or all stages have a default for, with that: the one that counts, with
    /// the variables in it, unless one is unknown.
    pub(crate) fn defaults(&self) -> Vec<(String, String)> {
        let of_all = self.variables();
        let mut seen = Seen { environment: self.inherited(), arguments: Variables::new() };
        let mut found = Variables::new();
        let scopes: Vec<Range<usize>> = self.scopes().collect();
        for (index, scope) in scopes.into_iter().rev().enumerate() {
            for instruction in self.instructions.get(scope).into_iter().flatten() {
                if instruction.is("ENV") {
                    self.set(instruction, &mut seen);
                } else if instruction.is("ARG") {
                    found.extend(self.declare(instruction, &of_all, &mut seen));
                }
            }
            if index == 0 {
                // A stage knows those before all stages only if it declares them.
                seen.arguments.clear();
            }
        }
        found.reverse();
        let mut named: Vec<(String, String)> = Vec::new();
        for (name, value) in found {
            if !named.iter().any(|(known, _)| *known == name) {
                named.push((name, value));
            }
        }
        named
    }

    /// Returns the environment of the image as far as it is of the one that the target is built on, whatever that is.
    fn inherited(&self) -> Variables {
        let of_target = self.stages.iter().flat_map(|stage| &self.instructions[stage.clone()]);
        let set = of_target.filter(|instruction| instruction.is("ENV"));
        let set: Variables = set.flat_map(|instruction| self.environment(instruction)).collect();
        let is_of_file = |name: &str| set.iter().any(|(known, _)| known == name);
        self.build.environment.iter().filter(|(name, _)| !is_of_file(name)).cloned().collect()
    }

    /// Adds to `seen` what the ENV `instruction` sets.
    fn set(&self, instruction: &Instruction<'_>, seen: &mut Seen) {
        // What one instruction sets, it does not know yet.
        let known = seen.all();
        for (name, value) in self.environment(instruction) {
            seen.environment.retain(|(known, _)| *known != name);
            let value = expanded(&value, &known, Unset::Empty);
            seen.environment.extend(value.map(|value| (name, value)));
        }
    }

    /// Adds to `seen` what the ARG `instruction` declares, which may be known from `of_all` stages. Returns the defaults in it.
    fn declare(&self, instruction: &Instruction<'_>, of_all: &Variables, seen: &mut Seen) -> Variables {
        let mut defaults = Variables::new();
        for word in pieces(&self.body(instruction)) {
            let (name, value) = match word.split_once('=') {
                Some((name, default)) => {
                    let value = expanded(default, &seen.all(), Unset::Forgotten);
                    defaults.push((name.to_owned(), value.clone().unwrap_or_else(|| default.to_owned())));
                    (name, value)
                }
                None => {
                    let of_all = of_all.iter().find(|(known, _)| known == word);
                    (word, of_all.map(|(_, value)| value.clone()))
                }
            };
            if let Some(value) = self.given(name).or(value) {
                seen.arguments.insert(0, (name.to_owned(), value));
            }
        }
        defaults
    }

    /// Returns what the ENV `instruction` sets, with quotes and variables.
    fn environment(&self, instruction: &Instruction<'_>) -> Variables {
        let body = self.body(instruction);
        let words = pieces(&body);
        let pair =
            |word: &&str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        match words.first() {
            // `ENV NAME VALUE`, as it was once.
            Some(name) if !name.contains('=') => {
                let value = body.trim_start().strip_prefix(name).unwrap_or_default().trim();
                vec![((*name).to_owned(), value.to_owned())]
            }
            _ => words.iter().filter_map(pair).collect(),
        }
    }

    /// Returns where arguments of the target are declared, what counts most first: its stages, and before all of them.
    fn scopes(&self) -> impl Iterator<Item = Range<usize>> {
        let first = self.instructions.iter().position(|instruction| instruction.is("FROM"));
        self.stages.iter().cloned().chain(std::iter::once(0..first.unwrap_or(0)))
    }

    /// Returns the last line of an instruction `keyword` among `range` that has the whole word `name`.
    fn line_in(&self, range: &Range<usize>, keyword: &str, name: &str) -> Option<(i32, i32)> {
        let instructions = self.instructions.get(range.clone()).into_iter().flatten().rev();
        let mut instructions = instructions.filter(|instruction| instruction.is(keyword));
        instructions.find_map(|instruction| self.line_of(instruction, name))
    }

    /// Returns the last line of `instruction` that has the whole word `name`.
    fn line_of(&self, instruction: &Instruction<'_>, name: &str) -> Option<(i32, i32)> {
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        let has_name = |line: &str| {
            line.match_indices(name).any(|(at, _)| {
                let (before, after) = (&line[..at], &line[at + name.len()..]);
                !before.ends_with(is_of_name) && !after.starts_with(is_of_name)
            })
        };
        let (first, last) = instruction.lines;
        let index =
            (first..=last).rev().find(|index| self.lines.get(*index).is_some_and(|it| has_name(it)))?;
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

/// Returns the number of the last one of `stages` that is called `name`.
fn named(stages: &[Stage], name: &str) -> Option<usize> {
    let is_named = |stage: &Stage| stage.name.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(name));
    stages.iter().rposition(is_named)
}

/// Splits at blanks outside of quotes, which are taken away.
pub(crate) fn split(text: &str) -> Vec<String> {
    pieces(text).into_iter().map(unquoted).collect()
}

/// Splits at blanks outside of quotes.
fn pieces(text: &str) -> Vec<&str> {
    let mut quote = None;
    let is_between = |letter: char| {
        match quote {
            Some(open) if letter == open => quote = None,
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            _ => {}
        }
        quote.is_none() && letter.is_whitespace()
    };
    text.split(is_between).filter(|piece| !piece.is_empty()).collect()
}

/// Returns `piece` without its quotes.
fn unquoted(piece: &str) -> String {
    let mut quote = None;
    let is_part = |letter: &char| match quote {
        Some(open) if *letter == open => {
            quote = None;
            false
        }
        None if *letter == '"' || *letter == '\'' => {
            quote = Some(*letter);
            false
        }
        _ => true,
    };
    piece.chars().filter(is_part).collect()
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
    fn a_stage_is_built_on_what_variables_name() {
        let file = file(
            "ARG BASE=one\nARG DEEP=${BASE}\nFROM x AS one\nUSER 1\nARG MINIMAGE_NSS=1\nFROM x AS two-arm64\nUSER 2\n\
            FROM ${DEEP:-none} AS a\nFROM \"two-$TARGETARCH\" AS b\nFROM $UNKNOWN\n",
        );
        let variables = |pairs: &[(&str, &str)]| -> Variables {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        for (target, given, line) in [
            ("a", variables(&[]), 4),
            ("a", variables(&[("BASE", "two-arm64")]), 7),
            ("b", variables(&[("TARGETARCH", "arm64")]), 7),
            ("b", variables(&[("TARGETARCH", "amd64")]), 0),
            ("4", variables(&[("UNKNOWN", "one")]), 0),
        ] {
            let known = Known { given: &given, environment: &[] };
            let instructions = Instructions::of_build(Some(&file), Some(target), known);
            assert_eq!(instructions.last("USER").0, line, "{target} {given:?}");
        }
        let defaults = Instructions::of(Some(&file), Some("a")).defaults();
        assert!(defaults.contains(&("MINIMAGE_NSS".to_owned(), "1".to_owned())), "{defaults:?}");
    }

    #[test]
    fn defaults_have_the_variables_that_are_known() {
        let file = file(
            "ARG GLOBAL=g\nARG MINIMAGE_WITH=$GLOBAL-all\nARG HIDDEN=h\nFROM x AS other\nENV IMAGE=other\nFROM x AS base\nARG OF_BASE=b TWO=2\n\
            ENV ENV=\"e $OF_BASE\" OF_BASE=env\nARG GLOBAL\nARG MINIMAGE_A=\"${GLOBAL}, $ENV\"\nFROM base\n\
            ARG PLAIN=1 UNSET\nARG MINIMAGE_B=$OF_BASE$TWO$PLAIN MINIMAGE_C='$PLAIN' MINIMAGE_D=$UNSET \\\n  \
            MINIMAGE_E=${UNSET:-d} MINIMAGE_F=$HIDDEN MINIMAGE_G=${LATE-} MINIMAGE_H=$IMAGE MINIMAGE_I=$TARGETARCH\n\
            ENV LATE late\nARG TARGETARCH\nARG MINIMAGE_J=${TARGETARCH}:$LATE\n\
            ENV LATE=later OLD=$LATE\nARG MINIMAGE_K=$OLD,$LATE\n",
        );
        let pairs = |pairs: &[(&str, &str)]| -> Variables {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let (given, environment) =
            (pairs(&[("PLAIN", "p"), ("TARGETARCH", "arm64")]), pairs(&[("IMAGE", "i"), ("LATE", "image")]));
        let known = Known { given: &given, environment: &environment };
        let defaults = Instructions::of_build(Some(&file), None, known).defaults();
        let found: Vec<(&str, &str)> = defaults
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("MINIMAGE_")?, value.as_str())))
            .collect();
        let expected = [
            ("K", "late,later"),
            ("J", "arm64:late"),
            ("I", "$TARGETARCH"),
            ("H", "i"),
            ("G", ""),
            ("F", "$HIDDEN"),
            ("E", "d"),
            ("D", "$UNSET"),
            ("C", "$PLAIN"),
            ("B", "env2p"),
            ("A", "g, e b"),
            ("WITH", "g-all"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn labels_of_stages_that_are_only_copied_from_are_found() {
        let file = file(
            "FROM x AS own\nLABEL minimage.with=1\nFROM x AS deep\nLABEL a=b \\\n  minimage.with=2\nFROM deep\n\
            LABEL minimage.nss 3\nFROM x AS mounted\nLABEL \"minimage.mode\"=on\nFROM x AS other\n\
            LABEL minimage.with=4\nFROM own\nCOPY --from=2 /a /b\n\
            RUN --mount=type=bind,from=mounted,target=/m true\nLABEL minimage.with=5\n",
        );
        let found = Instructions::of(Some(&file), None).labels_elsewhere("minimage.");
        let expected = [(5, "deep"), (7, "stage-2"), (9, "mounted")];
        assert_eq!(found, expected.map(|(line, name)| ((line, line), name.to_owned())));
        assert!(Instructions::of(Some(&file), Some("mounted")).labels_elsewhere("minimage.").is_empty());
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
