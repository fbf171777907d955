//! The flags that say what goes into an image, and how it runs -> values.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::Args;
use thiserror::Error;

use super::args::SourceArguments;
use super::boxed;
use crate::explain::{Explain, Explanation, Failure};
use crate::glob::Glob;
use crate::path::RawPath;
use crate::roots::{Keep, Origin, Root, Tree};
use crate::spec::{
    ConfigEdits, PackageData, RunAs, STANDARD_PATH, Selection, SensitiveFiles, Suggested, With,
};

/// What goes into the image besides programs and what they load.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Content")]
pub(super) struct SelectionArguments {
    /// Add a file or directory of the source: `SRC[:DEST][,owner=USER:GROUP][,mode=OCTAL]`; may be repeated
    #[arg(long, value_name = "SRC[:DEST]")]
    pub(super) add: Vec<String>,
    /// Take what this pattern matches, at its own path; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(super) include: Vec<String>,
    /// Leave out what this pattern matches, whoever asks for it; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(super) exclude: Vec<String>,
    /// Take a rule or bundle, such as tzdata, shell or locale=de_DE.UTF-8; may be repeated
    #[arg(long, value_name = "ID[=VALUE]")]
    pub(super) with: Vec<String>,
    /// Leave out a rule, or metadata, base-layout, user-db; may be repeated
    #[arg(long, value_name = "ID")]
    pub(super) without: Vec<String>,
    /// Take everything that is only suggested
    #[arg(long)]
    pub(super) with_suggested: bool,
    /// Leave the data files of the programs' packages
    #[arg(long)]
    pub(super) no_package_data: bool,
    /// Read more rules from this file; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) rules: Vec<PathBuf>,
    /// Go on without this library or path; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) allow_missing: Vec<String>,
    /// Let files into the image that not everybody may read, where they are named
    #[arg(long)]
    pub(super) allow_sensitive: bool,
    /// Take this user along; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) with_user: Vec<String>,
    /// Take this name service along besides files and dns; may be repeated
    #[arg(long, value_name = "SERVICE")]
    pub(super) nss: Vec<String>,
}

/// How the image runs.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Config")]
pub(super) struct ConfigArguments {
    /// What is started: one word, or a JSON array
    #[arg(long, value_name = "COMMAND")]
    pub(super) entrypoint: Option<String>,
    /// The default arguments: one word, or a JSON array
    #[arg(long, value_name = "COMMAND", conflicts_with = "arguments")]
    pub(super) cmd: Option<String>,
    /// Set a variable of the environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) env: Vec<String>,
    /// Set a label; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) label: Vec<String>,
    /// Set an annotation of the manifest; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) annotation: Vec<String>,
    /// Run as this user
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<String>,
}

/// A file that a flag names cannot be read.
#[derive(Debug, Error)]
#[error("cannot read `{}`", path.display())]
struct Unreadable {
    path: PathBuf,
    source: std::io::Error,
}

impl Explain for Unreadable {
    fn explain(&self) -> Vec<Explanation> {
        vec![Explanation::new("usage", self.to_string()).because_of(self).fix("check the path")]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

impl SelectionArguments {
    /// Returns the roots that these flags ask for.
    pub(super) fn roots(&self, source: &SourceArguments) -> Result<Vec<Root>, Box<dyn Explain>> {
        let mut roots = Vec::new();
        for text in &self.add {
            let tree: Tree = text.parse().map_err(boxed)?;
            let path = source.program(&String::from_utf8_lossy(tree.path.as_bytes()));
            // A name without a slash is a file here too, not a program.
            let path = if path.as_bytes().contains(&b'/') { path } else { source.file(&path) };
            let origin = Origin::Argument(format!("--add {text}"));
            roots.push(Root { keep: Keep::Tree(Tree { path, ..tree }), origin });
        }
        for text in &self.include {
            let glob = Glob::parse(text.as_str()).map_err(boxed)?;
            roots.push(Root {
                keep: Keep::Matching(glob),
                origin: Origin::Argument(format!("--include {text}")),
            });
        }
        Ok(roots)
    }

    /// Returns what is taken and what is left.
    pub(super) fn selection(&self, source: &SourceArguments) -> Result<Selection, Box<dyn Explain>> {
        let exclude = self.exclude.iter().map(|text| Glob::parse(text.as_str()).map_err(boxed));
        Ok(Selection {
            with: self.with.iter().map(|text| With::from(text.as_str())).collect(),
            without: self.without.clone(),
            suggested: if self.with_suggested { Suggested::Take } else { Suggested::List },
            package_data: if self.no_package_data { PackageData::Leave } else { PackageData::Take },
            exclude: exclude.collect::<Result<_, _>>()?,
            allow_missing: self.allow_missing.clone(),
            sensitive: if self.allow_sensitive { SensitiveFiles::Allow } else { SensitiveFiles::Refuse },
            users: self.with_user.clone(),
            nss: self.nss.clone(),
            own_directories: if source.from.is_empty() { own_directories() } else { Vec::new() },
            ..Selection::default()
        })
    }

    /// Returns the texts of the user's rules, with names for messages.
    pub(super) fn rule_texts(&self) -> Result<Vec<(String, String)>, Box<dyn Explain>> {
        let read = |path: &PathBuf| match std::fs::read_to_string(path) {
            Ok(text) => Ok((path.display().to_string(), text)),
            Err(source) => Err(boxed(Unreadable { path: path.clone(), source })),
        };
        self.rules.iter().map(read).collect()
    }
}

impl ConfigArguments {
    /// Returns what is said of the config, with `arguments` after the one program.
    pub(super) fn edits(&self, arguments: &[String]) -> Result<ConfigEdits, Box<dyn Explain>> {
        let run_as: Option<RunAs> =
            self.user.as_deref().map(|text| text.parse().map_err(boxed)).transpose()?;
        let words = |name, text: &Option<String>| {
            text.as_deref().map(|text| ConfigEdits::words(name, text)).transpose().map_err(boxed)
        };
        let pairs = |name, texts: &[String]| ConfigEdits::pairs(name, texts).map_err(boxed);
        Ok(ConfigEdits {
            arguments: arguments.to_vec(),
            entrypoint: words("--entrypoint", &self.entrypoint)?,
            cmd: words("--cmd", &self.cmd)?,
            env: pairs("--env", &self.env)?,
            labels: pairs("--label", &self.label)?,
            annotations: pairs("--annotation", &self.annotation)?,
            user: run_as,
            platform: None,
        })
    }
}

/// Returns the directories of this machine in which programs lie that nobody installed. One that has the system's own
/// programs in it says nothing.
fn own_directories() -> Vec<RawPath> {
    let here = std::env::current_dir().ok().map(PathBuf::into_os_string);
    let places = [here, std::env::var_os("HOME"), Some("/tmp".into()), Some("/root".into())];
    let paths = places.into_iter().flatten().map(|place| RawPath::new(place.as_bytes()));
    let is_systems = |path: &RawPath| {
        let inside = path.join(b"");
        STANDARD_PATH
            .iter()
            .any(|directory| format!("{directory}/").as_bytes().starts_with(inside.as_bytes()))
    };
    paths.filter(|path| path.is_absolute() && !is_systems(path)).collect()
}
