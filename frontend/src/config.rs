//! The image config that the stock frontend made -> the roots in it, and the config of what is left.

use minimage::formats::shell::{self, Login, Started};
use minimage::spec::{Epoch, STANDARD_PATH, Search};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::exec_form;
use crate::instructions::Instructions;
use crate::proto::Platform;
use crate::request::{Asked, Finding, What};
use crate::settings::{Given, LABEL, Written};
use crate::variables::Variables;

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

    /// Returns the platform that the image is for: its operating system, architecture and variant.
    pub(crate) fn platform(&self) -> Platform {
        let text = |key: &str| self.0.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (os, architecture, variant) = (text("os"), text("architecture"), text("variant"));
        Platform { os, architecture, variant, ..Platform::default() }
    }

    /// Returns the same in one word, as `OS/ARCHITECTURE[/VARIANT]`.
    pub(crate) fn platform_name(&self) -> String {
        let Platform { os, architecture, variant, .. } = self.platform();
        let parts = [os, architecture, variant];
        parts.iter().filter(|part| !part.is_empty()).map(String::as_str).collect::<Vec<_>>().join("/")
    }

    /// Takes the labels that are for us, whatever letters their prefix is in, in the order of their names.
    pub(crate) fn take_settings(&mut self) -> Vec<(String, String)> {
        let Some(Value::Object(config)) = self.0.get_mut("config") else { return Vec::new() };
        let Some(Value::Object(labels)) = config.get_mut("Labels") else { return Vec::new() };
        let is_ours =
            |name: &str| name.get(..LABEL.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(LABEL));
        let (ours, theirs) =
            std::mem::take(labels).into_iter().partition::<Vec<_>, _>(|(name, _)| is_ours(name));
        if theirs.is_empty() {
            config.remove("Labels");
        } else {
            labels.extend(theirs);
        }
        let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
        ours.into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    /// Returns who the image runs as, if that is not root, and where `instructions` say so.
    pub(crate) fn user(&self, instructions: &Instructions<'_>) -> Option<Given> {
        let value = self.runtime("User").and_then(Value::as_str).filter(|user| !user.is_empty())?.to_owned();
        let lines = instructions.last("USER");
        let text = instructions.text(lines).unwrap_or_else(|| format!("USER {value}"));
        Some(Given { name: "user".to_owned(), value, place: Written::File, text, lines })
    }

    /// Returns the working directory.
    pub(crate) fn workdir(&self) -> &str {
        self.runtime("WorkingDir")
            .and_then(Value::as_str)
            .filter(|directory| !directory.is_empty())
            .unwrap_or("/")
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
        self.environment().into_iter().map(|(name, _)| name).collect()
    }

    /// Returns the variables of the environment, with their values.
    pub(crate) fn environment(&self) -> Variables {
        let pair = |variable: &String| {
            let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
            (name.to_owned(), value.to_owned())
        };
        self.words("Env").iter().map(pair).collect()
    }

    /// Returns the variables of the environment by which loaders find libraries.
    pub(crate) fn loader_variables(&self) -> Variables {
        let mut variables = self.environment();
        variables.retain(|(name, _)| Search::VARIABLES.contains(&name.as_str()));
        variables
    }

    /// Returns where the program `word` is looked for: a relative path counts from the working directory.
    fn in_workdir(&self, word: &str) -> String {
        match word.contains('/') && !word.starts_with('/') {
            true => format!("{}/{}", self.workdir().trim_end_matches('/'), word.trim_start_matches("./")),
            false => word.to_owned(),
        }
    }

    /// Returns where the file `word` is: a name without a slash counts from the working directory, too.
    fn file_in_workdir(&self, word: &str) -> String {
        if word.starts_with('/') { word.to_owned() } else { self.in_workdir(&format!("./{word}")) }
    }

    /// Returns what a command with `words` starts besides its own program.
    fn started(&self, words: &[impl AsRef<str>]) -> Vec<What> {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        let Started { programs, scripts, logins } = shell::started(&words);
        let text = |word: Vec<u8>| String::from_utf8(word).ok();
        let programs = programs.into_iter().filter_map(text);
        let programs = programs.filter(|word| words.first() != Some(&word.as_str()));
        let programs = programs.map(|word| What::Command(self.in_workdir(&word)));
        // A shell looks for a script in its directory, whether or not the name has a slash.
        let script = |word: String| What::Script(self.file_in_workdir(&word));
        let scripts = scripts.into_iter().filter_map(text).map(script);
        let login = |login: Login| {
            let program = self.in_workdir(&text(login.program)?);
            Some(What::Login { program, user: login.user.and_then(text) })
        };
        let logins = logins.into_iter().filter_map(login);
        programs.chain(scripts).chain(logins).collect()
    }

    /// Returns the files that the arguments `words` of a program may name: `/etc/x.conf`, `--config=/etc/x.conf`, `app.py`.
    fn arguments(&self, words: &[impl AsRef<str>]) -> Vec<What> {
        let path = |word: &str| match word.split_once('=') {
            // A shell's command, not a path.
            _ if word.contains(char::is_whitespace) => None,
            Some((_, path)) if path.starts_with('/') => Some(path.to_owned()),
            None if !word.starts_with('-') => Some(self.file_in_workdir(word)),
            _ => None,
        };
        words.iter().filter_map(|word| path(word.as_ref())).map(What::Argument).collect()
    }

    /// Returns how the image is asked whether it is well.
    fn health(&self) -> Vec<&str> {
        let health = self.runtime("Healthcheck").and_then(|check| check.get("Test"));
        health.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Returns what to say of commands that `instructions` of `file` have in brackets and that are no lists.
    pub(crate) fn slips(&self, instructions: &Instructions<'_>, file: &str) -> Vec<Finding> {
        let (entrypoint, cmd) = (self.words("Entrypoint"), self.words("Cmd"));
        let commands = [
            ("ENTRYPOINT", "ENTRYPOINT", entrypoint.iter().map(String::as_str).collect()),
            ("CMD", "CMD", cmd.iter().map(String::as_str).collect()),
            ("HEALTHCHECK", "HEALTHCHECK CMD", self.health()),
        ];
        let slip = |(keyword, start, words): (&str, &str, Vec<&str>)| {
            let written = instructions.last_body(keyword)?;
            exec_form::not_json(start, &words, &written, instructions.last(keyword), file)
        };
        commands.into_iter().filter_map(slip).collect()
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
        let health = self.health();
        let mut apart = Vec::new();
        for (index, (keyword, words)) in
            [("ENTRYPOINT", entrypoint.as_slice()), ("CMD", cmd.as_slice())].into_iter().enumerate()
        {
            let Some(first) = words.first() else { continue };
            let program = self.in_workdir(first);
            // After an entrypoint, the command is its arguments; often it runs them.
            let is_program = index == 0 || entrypoint.is_empty();
            push(keyword, if is_program { What::Program(program) } else { What::Word(program) });
            let started = self.started(words);
            for what in &started {
                push(keyword, what.clone());
            }
            apart.extend(started);
            for argument in self.arguments(words.get(usize::from(is_program)..).unwrap_or_default()) {
                push(keyword, argument);
            }
        }
        // The process has both: what the one ends with may be about what the other begins with, as `-c`.
        let together = self.started(&[entrypoint, cmd].concat());
        for what in together.into_iter().filter(|what| !apart.contains(what)) {
            push("CMD", what);
        }
        let mut check = |words: &[&str]| {
            let Some(first) = words.first() else { return };
            push("HEALTHCHECK", What::Program(self.in_workdir(first)));
            for what in self.started(words) {
                push("HEALTHCHECK", what);
            }
        };
        match health.as_slice() {
            ["CMD", words @ ..] => check(words),
            ["CMD-SHELL", command] => check(&["/bin/sh", "-c", *command]),
            _ => {}
        }
        if self.workdir() != "/" {
            push("WORKDIR", What::Path(self.workdir().to_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::SourceInfo;

    fn config(config: Value) -> ImageConfig {
        ImageConfig::parse(json!({ "config": config }).to_string().as_bytes()).unwrap()
    }

    fn file(text: &str) -> SourceInfo {
        SourceInfo { data: text.as_bytes().to_vec(), ..SourceInfo::default() }
    }

    #[test]
    fn labels_of_ours_are_taken_out() {
        let mut config =
            config(json!({ "Labels": { "minimage.mode": "off", "a": "b", "Minimage.with": "tzdata" } }));
        let settings = config.take_settings();
        assert_eq!(
            settings,
            [("Minimage.with", "tzdata"), ("minimage.mode", "off")]
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        assert_eq!(config.runtime("Labels"), Some(&json!({ "a": "b" })));
        assert!(config.take_settings().is_empty());
    }

    #[test]
    fn what_an_image_runs_is_a_root_at_its_line() {
        let file = file(
            "FROM x\nCMD [\"old\"]\nentrypoint [\"/run.sh\", \\\n  \"-x\", \"--c=/c\", \"a b\"]\nCMD [\"bin/serve\"]\n",
        );
        let instructions = Instructions::of(Some(&file), None);
        let config = config(json!({
            "Entrypoint": ["/run.sh", "-x", "--c=/c", "a b"],
            "Cmd": ["bin/serve", "/d"],
            "Healthcheck": { "Test": ["CMD-SHELL", "curl -f localhost || exit 1"] },
            "WorkingDir": "/srv",
        }));
        let roots: Vec<_> =
            config.roots(&instructions).into_iter().map(|root| (root.what, root.lines, root.text)).collect();
        let expected = [
            (What::Program("/run.sh".into()), (3, 4), "entrypoint [\"/run.sh\","),
            (What::Argument("/c".into()), (3, 4), "entrypoint [\"/run.sh\","),
            (What::Word("/srv/bin/serve".into()), (5, 5), "CMD [\"bin/serve\"]"),
            (What::Argument("/srv/bin/serve".into()), (5, 5), "CMD [\"bin/serve\"]"),
            (What::Argument("/d".into()), (5, 5), "CMD [\"bin/serve\"]"),
            (What::Program("/bin/sh".into()), (0, 0), "HEALTHCHECK"),
            (What::Command("curl".into()), (0, 0), "HEALTHCHECK"),
            (What::Path("/srv".into()), (0, 0), "WORKDIR"),
        ];
        assert_eq!(roots, expected.map(|(what, lines, text)| (what, lines, text.to_owned())));
    }

    #[test]
    fn a_shell_form_runs_the_shell_and_its_words() {
        let config = config(json!({ "Cmd": ["/bin/sh", "-c", "sh -c 'redis-server --port 1' | tee /log"] }));
        let roots: Vec<_> =
            config.roots(&Instructions::of(None, None)).into_iter().map(|root| root.what).collect();
        assert_eq!(
            roots,
            [
                What::Program("/bin/sh".into()),
                What::Command("redis-server".into()),
                What::Command("sh".into()),
                What::Command("tee".into())
            ]
        );
    }

    #[test]
    fn commands_are_those_of_the_whole_process_in_its_directory() {
        let config = config(json!({
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["./run.sh | sed s/a/b/"],
            "WorkingDir": "/app",
            "Healthcheck": { "Test": ["CMD-SHELL", "bin/check"] },
        }));
        let roots = config.roots(&Instructions::of(None, None)).into_iter();
        let commands: Vec<_> = roots.filter(|root| matches!(root.what, What::Command(_))).collect();
        let commands: Vec<_> = commands.into_iter().map(|root| (root.what, root.text)).collect();
        let expected = [("/app/run.sh", "CMD"), ("sed", "CMD"), ("/app/bin/check", "HEALTHCHECK")];
        assert_eq!(commands, expected.map(|(word, text)| (What::Command(word.into()), text.to_owned())));
    }

    #[test]
    fn a_script_that_a_shell_is_to_read_is_one() {
        for (entrypoint, cmd, expected) in [
            (json!(["bash", "-e", "bin/run.sh", "x"]), json!(["y"]), Some("/srv/bin/run.sh")),
            (json!(["sh"]), json!(["run.sh"]), Some("/srv/run.sh")),
            (json!(null), json!(["/bin/sh", "-c", "exec dash /run.sh"]), Some("/run.sh")),
            (json!(["tini", "--"]), json!(["ash", "/run.sh"]), Some("/run.sh")),
            (json!(["python3", "/run.py"]), json!(null), None),
        ] {
            let config = config(json!({ "Entrypoint": entrypoint, "Cmd": cmd, "WorkingDir": "/srv" }));
            let roots = config.roots(&Instructions::of(None, None)).into_iter();
            let scripts: Vec<What> =
                roots.map(|root| root.what).filter(|what| matches!(what, What::Script(_))).collect();
            let expected: Vec<What> =
                expected.into_iter().map(|path| What::Script(path.to_owned())).collect();
            assert_eq!(scripts, expected, "{entrypoint} {cmd}");
        }
    }

    #[test]
    fn path_is_that_of_the_image() {
        assert_eq!(config(json!({ "Env": ["A=b", "PATH=/x:/y:z"] })).path(), ["/x", "/y"]);
        assert_eq!(config(json!({})).path(), STANDARD_PATH);
    }
}
