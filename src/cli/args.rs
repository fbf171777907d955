//! The words of the command line -> typed options.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::output::OutputSpec;
use crate::oci::Reference;

/// Makes the smallest OCI image that still works, with no Docker and no daemon.
#[derive(Debug, Parser)]
#[command(name = "minimage", version, disable_version_flag = true, subcommand_required = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
    /// Say more on standard error; twice for every decision, three times for every look-up
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(super) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an image of programs and everything they need
    Build(BuildArguments),
    /// Show what the loader would map for programs or libraries, and where it finds it
    Tree(TreeArguments),
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
#[command(after_help = "Words after `--` are the arguments that the image runs its one program with.")]
pub(super) struct BuildArguments {
    /// Programs to put into the image: a path, or a name that is looked up in PATH
    #[arg(required = true, value_name = "PROGRAM")]
    pub(super) programs: Vec<String>,
    /// Take the files from this directory instead of this machine
    #[arg(long, value_name = "SOURCE")]
    pub(super) from: Option<PathBuf>,
    /// Name the image; may be repeated
    #[arg(short, long = "tag", value_name = "REF")]
    pub(super) tags: Vec<Reference>,
    /// Where the image goes: `type=oci|docker|registry[,dest=PATH][,tar=false][,docker=false]`; may be repeated
    #[arg(short, long = "output", value_name = "SPEC")]
    pub(super) outputs: Vec<OutputSpec>,
    /// Push the image to its registry; without -t, to REF
    #[arg(long, value_name = "REF", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(super) push: Option<String>,
    /// Words for the program
    #[arg(last = true, value_name = "ARGS")]
    pub(super) arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct TreeArguments {
    /// Programs or libraries: a path, or a name that is looked up in PATH
    #[arg(required = true, value_name = "PROGRAM")]
    pub(super) programs: Vec<String>,
    /// Look at this directory instead of this machine
    #[arg(long, value_name = "SOURCE")]
    pub(super) from: Option<PathBuf>,
    /// How to print: for people, or one JSON object a line
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    /// LD_LIBRARY_PATH of the program
    #[arg(long, value_name = "PATH")]
    pub(super) library_path: Option<String>,
    /// LD_PRELOAD of the program
    #[arg(long, value_name = "LIST")]
    pub(super) preload: Option<String>,
    /// The glibc-hwcaps levels of the CPU, best first, such as x86-64-v3,x86-64-v2
    #[arg(long, value_name = "LEVELS", value_delimiter = ',')]
    pub(super) hwcaps: Vec<String>,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Attaches the word after `--push` to it, unless a tag says where to push: `--push REF` and `-t REF --push` are both
/// meant, and clap cannot tell the first from a program's name.
pub(super) fn normalized(words: Vec<OsString>) -> Vec<OsString> {
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let is_tag = |word: &OsString| {
        let text = word.to_string_lossy();
        text == "--tag" || text.starts_with("--tag=") || text.starts_with("-t")
    };
    if words[..end].iter().any(is_tag) {
        return words;
    }
    let mut normalized = Vec::with_capacity(words.len());
    let mut words = words.into_iter().enumerate().peekable();
    while let Some((index, mut word)) = words.next() {
        if index < end && word == "--push" {
            let is_value =
                |next: &(usize, OsString)| next.0 < end && !next.1.to_string_lossy().starts_with('-');
            if let Some((_, value)) = words.next_if(is_value) {
                word.push("=");
                word.push(value);
            }
        }
        normalized.push(word);
    }
    normalized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_after_push_is_its_value_unless_there_is_a_tag() {
        for (line, expected) in [
            ("m build --push r/x bash", "m build --push=r/x bash"),
            ("m build bash --push r/x", "m build bash --push=r/x"),
            ("m build -t r/x --push bash", "m build -t r/x --push bash"),
            ("m build --tag=r/x --push bash", "m build --tag=r/x --push bash"),
            ("m build bash --push", "m build bash --push"),
            ("m build bash --push -o type=oci", "m build bash --push -o type=oci"),
            ("m build bash --push -- -t x", "m build bash --push -- -t x"),
            ("m build bash -- --push x", "m build bash -- --push x"),
        ] {
            let words = line.split(' ').map(OsString::from).collect();
            let found: Vec<_> =
                normalized(words).into_iter().map(|word| word.into_string().unwrap()).collect();
            assert_eq!(found.join(" "), expected);
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
