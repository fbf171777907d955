//! What the step is told, and what it says: two JSON documents between the frontend and its own image.

use minimage::project::Setting;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::settings::{Given, Settings};

/// How long one argument of the step may be, in bytes; Linux takes no longer than 128 KiB.
const ARGUMENT_MAX: usize = 100 << 10;

/// Where the step finds and puts things. The target's root filesystem is at `TARGET`, that of the stage `n` at
/// `STAGES/n`.
pub(crate) const TARGET: &str = "/src";
/// The directory of the other stages.
pub(crate) const STAGES: &str = "/from";
/// Where the image is that the target was built on, if it has to be looked at.
pub(crate) const BASE: &str = "/base";
/// Where the files of the image go.
pub(crate) const OUTPUT: &str = "/out";
/// Where everything else goes that the step has to say.
pub(crate) const META: &str = "/meta";
/// The name of the [`Outcome`] there.
pub(crate) const OUTCOME: &str = "outcome.json";
/// The name of the image config there, if the step makes one.
pub(crate) const CONFIG: &str = "config.json";
/// The name of the closure report there.
pub(crate) const REPORT: &str = "report.json";

/// Everything that the step depends on, besides the root filesystems.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The time of everything in the image.
    pub(crate) epoch: u64,
    /// What the target is called.
    pub(crate) target: String,
    /// Whether programs can run in the target as it is.
    pub(crate) kind: StageKind,
    /// What the user wants of minimage.
    pub(crate) settings: Settings,
    /// The root filesystems that files were copied from.
    pub(crate) stages: Vec<Stage>,
    /// Whether the image that the target was built on is mounted.
    pub(crate) has_base: bool,
    /// Whether commands were run to make the target.
    pub(crate) was_run: bool,
    /// What to keep.
    pub(crate) roots: Vec<Asked>,
    /// What the image is for, as `OS/ARCHITECTURE[/VARIANT]`.
    pub(crate) platform: String,
    /// Who the image runs as, if that is not root, as its config says it.
    pub(crate) user: Option<Given>,
    /// The working directory of the image.
    pub(crate) workdir: String,
    /// PATH of the image.
    pub(crate) path: Vec<String>,
    /// The names of the variables that its environment has.
    pub(crate) variables: Vec<String>,
    /// Those of them by which loaders find libraries, with their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) loader_variables: Vec<(String, String)>,
    /// The build file's name, for messages.
    pub(crate) file: String,
}

/// A root filesystem, or a tree of files, that the target has files of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// What the build file calls it.
    pub(crate) name: String,
    /// Whether programs in it can run there.
    pub(crate) kind: StageKind,
    /// What was copied into it, if they cannot: where that came from they may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) copies: Vec<Copied>,
}

/// What a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StageKind {
    /// A root filesystem: what is copied from it was made to run in it.
    Rootfs,
    /// Files that belong nowhere: the build context, a download, a here-document.
    Files,
}

/// One thing to keep, and the lines that ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// What to keep.
    pub(crate) what: What,
    /// What the build file says.
    pub(crate) text: String,
    /// Where it says so: the first and the last line, from 1; 0 if that is not known.
    pub(crate) lines: (i32, i32),
}

impl Asked {
    /// Returns who asks for something that is found in another way.
    pub(crate) fn by(text: impl Into<String>, lines: (i32, i32)) -> Self {
        Self { what: What::Word(String::new()), text: text.into(), lines }
    }
}

/// What to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    /// What a COPY or ADD brought.
    Copied(Copied),
    /// Something that was made at this path.
    Made(String),
    /// A program by its path or name, which must be there.
    Program(String),
    /// A word that may be the name of a program.
    Word(String),
    /// The word of a shell's command that is the name of a program.
    Command(String),
    /// A file that a shell is told to read.
    Script(String),
    /// A program that is a login shell, or starts one.
    Login {
        /// Its path or name.
        program: String,
        /// The user whose shell it is, if the command names one.
        user: Option<String>,
    },
    /// An argument that may be the path of a file.
    Argument(String),
    /// A directory with what is in it, if it is there.
    Tree(String),
    /// A file or directory, if it is there.
    Path(String),
}

/// What one source of a COPY or ADD brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copied {
    /// The place of the stage in the list.
    pub(crate) stage: usize,
    /// The path or pattern there.
    pub(crate) from: String,
    /// Where it went.
    pub(crate) to: String,
    /// Whether `from` is a pattern.
    pub(crate) is_pattern: bool,
    /// Whether archives were unpacked.
    pub(crate) unpacks: bool,
    /// What is copied of a directory; everything, if there is none.
    pub(crate) includes: Vec<String>,
    /// What is not.
    pub(crate) excludes: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Why there is no image; empty if there is one.
    pub(crate) problems: Vec<Finding>,
    /// What is worth knowing although there is.
    pub(crate) warnings: Vec<Finding>,
}

/// Something to show at a line of the build file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Finding {
    /// The line range, as in [`Asked`].
    pub(crate) lines: (i32, i32),
    /// What a person reads.
    pub(crate) text: String,
}

/// Everything that the step depends on for a project file, besides the root filesystem that it takes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProjectRequest {
    /// The time of everything in the image.
    pub(crate) epoch: u64,
    /// The image that the root filesystem is of.
    pub(crate) from: String,
    /// What the project file says, and what the user says of this build.
    pub(crate) settings: Vec<Told>,
    /// The files of rules that it names: what messages call them, and their texts.
    pub(crate) rules: Vec<(String, String)>,
    /// PATH of that image.
    pub(crate) path: Vec<String>,
    /// What the image is made for, if somebody says so.
    pub(crate) platform: Option<String>,
    /// The project file's name, for messages.
    pub(crate) file: String,
}

/// A setting of a project, and how somebody gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) setting: Setting,
    pub(crate) given: Given,
}

/// Returns a request as arguments of the step.
pub(crate) fn to_arguments(request: &impl Serialize) -> Result<Vec<String>, serde_json::Error> {
    let text = serde_json::to_string(request)?;
    let mut arguments = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let mut end = ARGUMENT_MAX.min(rest.len());
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (argument, after) = rest.split_at(end);
        arguments.push(argument.to_owned());
        rest = after;
    }
    Ok(arguments)
}

/// Returns the request in the arguments of the step.
pub(crate) fn from_arguments<R: DeserializeOwned>(arguments: &[String]) -> Result<R, serde_json::Error> {
    serde_json::from_str(&arguments.concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Written;

    #[test]
    fn a_long_request_survives_the_arguments() {
        let what = |index: i32| Asked {
            what: What::Made(format!("/ä/{index}")),
            text: "COPY <<EOF /ä".to_owned(),
            lines: (index, index),
        };
        let given = Given {
            name: "include".to_owned(),
            value: "/x".to_owned(),
            place: Written::Label,
            text: "LABEL minimage.include=/x".to_owned(),
            lines: (3, 3),
        };
        let request = Request {
            epoch: 7,
            target: "the target".to_owned(),
            kind: StageKind::Rootfs,
            settings: Settings { given: vec![given.clone()], ..Settings::default() },
            has_base: true,
            was_run: false,
            stages: vec![Stage { name: "build".to_owned(), kind: StageKind::Rootfs, copies: Vec::new() }],
            roots: (0..5000).map(what).collect(),
            platform: "linux/amd64".to_owned(),
            user: Some(given),
            workdir: "/".to_owned(),
            path: vec!["/bin".to_owned()],
            variables: vec!["PATH".to_owned()],
            loader_variables: vec![("LD_PRELOAD".to_owned(), "x.so".to_owned())],
            file: "Dockerfile".to_owned(),
        };
        let arguments = to_arguments(&request).unwrap();
        assert!(arguments.len() > 2 && arguments.iter().all(|argument| argument.len() <= ARGUMENT_MAX));
        assert_eq!(from_arguments::<Request>(&arguments).unwrap(), request);
    }
}
