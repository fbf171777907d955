//! The image config that the stock frontend made -> the roots in it, and the config of what is left.

use std::ops::Range;

use minimage::spec::{Epoch, STANDARD_PATH};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::proto::SourceInfo;
use crate::request::{Asked, What};

/// What the labels begin with that are for us.
const LABEL: &str = "minimage.";

/// Why a config cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ConfigError {
    /// It is no JSON object.
    #[error("the image config of the build is no JSON object")]
    Json {
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// An image config. What we do not know in it stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImageConfig(Map<String, Value>);

impl ImageConfig {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        serde_json::from_slice(bytes).map(Self).map_err(|source| ConfigError::Json { source })
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, ConfigError> {
        serde_json::to_vec(&self.0).map_err(|source| ConfigError::Json { source })
    }

    fn runtime(&self, key: &str) -> Option<&Value> {
        self.0.get("config")?.get(key)
    }

    fn words(&self, key: &str) -> Vec<String> {
        let words = self.runtime(key).and_then(Value::as_array).into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Takes the labels that are for us, without their prefix, in the order of their names.
    pub(crate) fn take_settings(&mut self) -> Vec<(String, String)> {
        let Some(Value::Object(config)) = self.0.get_mut("config") else { return Vec::new() };
        let Some(Value::Object(labels)) = config.get_mut("Labels") else { return Vec::new() };
        let (ours, theirs) =
            std::mem::take(labels).into_iter().partition::<Vec<_>, _>(|(name, _)| name.starts_with(LABEL));
        if theirs.is_empty() {
            config.remove("Labels");
        } else {
            labels.extend(theirs);
        }
        let setting = |(name, value): (String, Value)| {
            (name[LABEL.len()..].to_owned(), value.as_str().unwrap_or_default().to_owned())
        };
        ours.into_iter().map(setting).collect()
    }

    /// Returns who the image runs as; empty for root.
    pub(crate) fn user(&self) -> String {
        self.runtime("User").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Returns the directories of PATH.
    pub(crate) fn path(&self) -> Vec<String> {
        let environment = self.words("Env");
        let path = environment.iter().find_map(|variable| variable.strip_prefix("PATH="));
        match path {
            Some(path) => path.split(':').filter(|part| part.starts_with('/')).map(str::to_owned).collect(),
            None => STANDARD_PATH.map(str::to_owned).into(),
        }
    }

    /// Returns the names of the variables of the environment.
    pub(crate) fn variables(&self) -> Vec<String> {
        let name = |variable: &String| variable.split('=').next().unwrap_or_default().to_owned();
        self.words("Env").iter().map(name).collect()
    }

    /// Returns where the program `word` is looked for: a relative path counts from the working directory.
    fn in_workdir(&self, word: &str) -> String {
        let directory = self.runtime("WorkingDir").and_then(Value::as_str).unwrap_or("/");
        match word.contains('/') && !word.starts_with('/') {
            true => format!("{}/{}", directory.trim_end_matches('/'), word.trim_start_matches("./")),
            false => word.to_owned(),
        }
    }

    /// Returns what the image needs to be run as it says.
    pub(crate) fn roots(&self, instructions: &Instructions<'_>) -> Vec<Asked> {
        let mut roots = Vec::new();
        let mut push = |keyword: &str, what: What| {
            let lines = instructions.last(keyword);
            let text = instructions.text(lines).unwrap_or_else(|| keyword.to_owned());
            roots.push(Asked { what, text, lines });
        };
        let (entrypoint, cmd) = (self.words("Entrypoint"), self.words("Cmd"));
        let health = self.runtime("Healthcheck").and_then(|check| check.get("Test"));
        let health: Vec<&str> =
            health.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        for (index, (keyword, words)) in
            [("ENTRYPOINT", entrypoint.as_slice()), ("CMD", cmd.as_slice())].into_iter().enumerate()
        {
            let Some((first, rest)) = words.split_first() else { continue };
            let program = self.in_workdir(first);
            // After an entrypoint, the command is its arguments; often it runs them.
            match index == 0 || entrypoint.is_empty() {
                true => push(keyword, What::Program(program)),
                false => push(keyword, What::Word(program)),
            }
            for word in shell_words(first, rest) {
                push(keyword, What::Command(word));
            }
        }
        match health.as_slice() {
            ["CMD", first, rest @ ..] => {
                push("HEALTHCHECK", What::Program(self.in_workdir(first)));
                let rest: Vec<String> = rest.iter().map(|word| (*word).to_owned()).collect();
                for word in shell_words(first, &rest) {
                    push("HEALTHCHECK", What::Command(word));
                }
            }
            ["CMD-SHELL", command] => {
                push("HEALTHCHECK", What::Program("/bin/sh".to_owned()));
                for word in command_words(command) {
                    push("HEALTHCHECK", What::Command(word));
                }
            }
            _ => {}
        }
        if let Some(directory) = self.runtime("WorkingDir").and_then(Value::as_str)
            && !directory.is_empty()
            && directory != "/"
        {
            push("WORKDIR", What::Path(directory.to_owned()));
        }
        if let Some(Value::Object(volumes)) = self.runtime("Volumes") {
            for volume in volumes.keys() {
                push("VOLUME", What::Tree(volume.clone()));
            }
        }
        roots
    }

    /// Makes it the config of the same image with one layer more, made at `epoch`.
    pub(crate) fn add_layer(&mut self, epoch: Epoch) {
        let layer = json!({ "created": epoch.to_rfc3339(), "created_by": "minimage: what was missing" });
        match self.0.get_mut("history") {
            Some(Value::Array(history)) => history.push(layer),
            _ => {
                self.0.insert("history".to_owned(), Value::Array(vec![layer]));
            }
        }
    }

    /// Makes it the config of an image with `count` layers of our own, made at `epoch`.
    pub(crate) fn replace_layers(&mut self, epoch: Epoch, count: usize) {
        let created = epoch.to_rfc3339();
        let layer = json!({ "created": created, "created_by": "minimage: everything" });
        self.0.insert("created".to_owned(), json!(created));
        self.0.insert("history".to_owned(), Value::Array(vec![layer; count]));
        self.0.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": [] }));
    }
}

/// Returns the programs that the words `program rest...` run besides the program, if that is a shell with a script.
fn shell_words(program: &str, rest: &[String]) -> Vec<String> {
    let name = program.rsplit('/').next().unwrap_or(program);
    let is_shell = ["sh", "bash", "dash", "ash", "ksh", "zsh"].contains(&name);
    let script = rest.windows(2).find(|words| words[0].starts_with('-') && words[0].ends_with('c'));
    match script {
        Some([_, script]) if is_shell => command_words(script),
        _ => Vec::new(),
    }
}

fn command_words(script: &str) -> Vec<String> {
    let words = minimage::formats::shell::command_words(script.as_bytes());
    words.into_iter().filter_map(|word| String::from_utf8(word).ok()).collect()
}

/// The instructions of a build file, so far as messages need them: where each starts and ends, and in which stage.
pub(crate) struct Instructions<'a> {
    lines: Vec<&'a str>,
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
        let instructions = instructions(&lines);
        let stages = chain(&instructions, target.filter(|target| !target.is_empty()));
        Self { lines, instructions, stages }
    }

    /// Returns the lines of the instruction `keyword` that counts; zeros if there is none, as with one of the base image.
    fn last(&self, keyword: &str) -> (i32, i32) {
        let of_stage = |stage: &Range<usize>| {
            self.instructions.get(stage.clone())?.iter().rfind(|instruction| instruction.is(keyword))
        };
        let Some(instruction) = self.stages.iter().find_map(of_stage) else { return (0, 0) };
        let number = |index: usize| i32::try_from(index + 1).unwrap_or(0);
        (number(instruction.lines.0), number(instruction.lines.1))
    }

    /// Returns the first line with `text` in it; zeros if there is none.
    pub(crate) fn line_with(&self, text: &str) -> (i32, i32) {
        let index = self.lines.iter().position(|line| line.contains(text));
        let number = index.and_then(|index| i32::try_from(index + 1).ok()).unwrap_or(0);
        (number, number)
    }

    /// Returns the first of `lines` without the blanks around it.
    pub(crate) fn text(&self, lines: (i32, i32)) -> Option<String> {
        let index = usize::try_from(lines.0).ok()?.checked_sub(1)?;
        self.lines.get(index).map(|line| line.trim().trim_end_matches('\\').trim_end().to_owned())
    }
}

/// Returns the instructions in `lines`; comments are none, and neither is what is in here-documents.
fn instructions<'a>(lines: &[&'a str]) -> Vec<Instruction<'a>> {
    let mut instructions = Vec::new();
    let mut at = 0;
    let is_skipped = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
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
            words.extend(line.trim_end_matches('\\').split_whitespace());
            rest = None;
            if line.ends_with('\\') {
                while lines.get(at).is_some_and(|line| is_skipped(line)) {
                    at += 1;
                }
                rest = lines.get(at).copied();
                last = at.min(lines.len().saturating_sub(1));
                at += 1;
            }
        }
        let ends = words.iter().filter_map(|word| word.strip_prefix("<<"));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn config(config: Value) -> ImageConfig {
        ImageConfig::parse(json!({ "config": config }).to_string().as_bytes()).unwrap()
    }

    fn file(text: &str) -> SourceInfo {
        SourceInfo { data: text.as_bytes().to_vec(), ..SourceInfo::default() }
    }

    #[test]
    fn labels_of_ours_are_taken_out() {
        let mut config =
            config(json!({ "Labels": { "minimage.mode": "off", "a": "b", "minimage.with": "tzdata" } }));
        let settings = config.take_settings();
        assert_eq!(
            settings,
            [("mode", "off"), ("with", "tzdata")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        assert_eq!(config.runtime("Labels"), Some(&json!({ "a": "b" })));
        assert!(config.take_settings().is_empty());
    }

    #[test]
    fn what_an_image_runs_is_a_root_at_its_line() {
        let file =
            file("FROM x\nCMD [\"old\"]\nentrypoint [\"/run.sh\", \\\n  \"-x\"]\nCMD [\"bin/serve\"]\n");
        let instructions = Instructions::of(Some(&file), None);
        let config = config(json!({
            "Entrypoint": ["/run.sh", "-x"],
            "Cmd": ["bin/serve"],
            "Healthcheck": { "Test": ["CMD-SHELL", "curl -f localhost || exit 1"] },
            "WorkingDir": "/srv",
        }));
        let roots: Vec<_> =
            config.roots(&instructions).into_iter().map(|root| (root.what, root.lines, root.text)).collect();
        let expected = [
            (What::Program("/run.sh".into()), (3, 4), "entrypoint [\"/run.sh\","),
            (What::Word("/srv/bin/serve".into()), (5, 5), "CMD [\"bin/serve\"]"),
            (What::Program("/bin/sh".into()), (0, 0), "HEALTHCHECK"),
            (What::Command("curl".into()), (0, 0), "HEALTHCHECK"),
            (What::Path("/srv".into()), (0, 0), "WORKDIR"),
        ];
        assert_eq!(roots, expected.map(|(what, lines, text)| (what, lines, text.to_owned())));
    }

    #[test]
    fn a_shell_form_runs_the_shell_and_its_words() {
        let config = config(json!({ "Cmd": ["/bin/sh", "-c", "redis-server --port 1 | tee /log"] }));
        let roots: Vec<_> =
            config.roots(&Instructions::of(None, None)).into_iter().map(|root| root.what).collect();
        assert_eq!(
            roots,
            [
                What::Program("/bin/sh".into()),
                What::Command("redis-server".into()),
                What::Command("tee".into())
            ]
        );
    }

    #[test]
    fn path_is_that_of_the_image() {
        assert_eq!(config(json!({ "Env": ["A=b", "PATH=/x:/y:z"] })).path(), ["/x", "/y"]);
        assert_eq!(config(json!({})).path(), STANDARD_PATH);
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
}
