//! The words of the command line -> typed options.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use thiserror::Error;

use super::output::OutputSpec;
use crate::oci::Reference;
use crate::path::RawPath;
use crate::roots::{Keep, Origin, Root};
use crate::spec::{Algorithm, CacheSource, DlopenLevel, Hwcaps, Layering, Search};

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
    /// Say why a path is in the image
    Why(WhyArguments),
    /// Say why a path is not in the image
    WhyNot(WhyArguments),
    /// Show or shrink what is kept between builds
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Print the version
    Version(VersionArguments),
}

#[derive(Debug, Args)]
#[command(after_help = "Words after `--` are the arguments that the image runs its one program with.")]
pub(super) struct BuildArguments {
    /// Programs to put into the image: a path, or a name that is looked up in PATH
    #[arg(required = true, value_name = "PROGRAM")]
    pub(super) programs: Vec<String>,
    #[command(flatten)]
    pub(super) source: SourceArguments,
    /// Name the image; may be repeated
    #[arg(short, long = "tag", value_name = "REF")]
    pub(super) tags: Vec<Reference>,
    /// Where the image goes: `type=oci|docker|registry[,dest=PATH][,tar=false][,docker=false]`; may be repeated
    #[arg(short, long = "output", value_name = "SPEC")]
    pub(super) outputs: Vec<OutputSpec>,
    /// Push the image to its registry; without -t, to REF
    #[arg(long, value_name = "REF", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(super) push: Option<String>,
    /// Speak plain http to this registry, or https without checking who it is; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub(super) insecure_registries: Vec<String>,
    /// Only say what would be in the image, and why
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How --dry-run prints: for people, or one JSON document
    #[arg(long, value_enum, default_value_t, requires = "dry_run")]
    pub(super) format: Format,
    /// Write the closure report, which says why each path is in the image, to this file
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// What goes into which layer: `single`, `auto` (the C library, other packages, your own files, what minimage
    /// makes), `package`, or how many layers there may be
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(super) layers: Layering,
    /// How layers are compressed
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) compression: CompressionName,
    /// How hard: 1 to 12 for gzip, 1 to 22 for zstd
    #[arg(long, value_name = "LEVEL")]
    pub(super) compression_level: Option<u8>,
    #[command(flatten)]
    pub(super) cache: CacheArguments,
    /// Words for the program
    #[arg(last = true, value_name = "ARGS")]
    pub(super) arguments: Vec<String>,
}

/// What is kept between builds.
#[derive(Debug, Args)]
pub(super) struct CacheArguments {
    /// Keep what can be used again in this directory, instead of $XDG_CACHE_HOME/minimage
    #[arg(long, value_name = "DIR")]
    pub(super) cache_dir: Option<PathBuf>,
    /// Use nothing from earlier builds, and keep nothing
    #[arg(long, conflicts_with = "cache_dir")]
    pub(super) no_cache: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum CacheCommand {
    /// Print where the cache is, and how much is in it
    Du(CacheDuArguments),
    /// Remove what was of use longest ago
    Prune(CachePruneArguments),
}

#[derive(Debug, Args)]
pub(super) struct CacheDuArguments {
    /// The cache, instead of $XDG_CACHE_HOME/minimage
    #[arg(long, value_name = "DIR")]
    pub(super) cache_dir: Option<PathBuf>,
    /// How to print: for people, or one JSON object
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct CachePruneArguments {
    #[command(flatten)]
    pub(super) du: CacheDuArguments,
    /// Leave at most so many bytes; K, M and G mean powers of 1024
    #[arg(long, value_name = "SIZE", default_value = "0")]
    pub(super) keep: ByteSize,
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSize(pub(super) u64);

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let shift = match text[number.len()..].to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "K" | "KB" | "KIB" => 10,
            "M" | "MB" | "MIB" => 20,
            "G" | "GB" | "GIB" => 30,
            _ => return Err(ByteSizeError),
        };
        let number: u64 = number.parse().map_err(|_| ByteSizeError)?;
        number.checked_mul(1 << shift).map(Self).ok_or(ByteSizeError)
    }
}

/// A text that is no size.
#[derive(Debug, Error)]
#[error("not a size such as 500M or 2G")]
pub(super) struct ByteSizeError;

#[derive(Debug, Args)]
pub(super) struct VersionArguments {
    /// How to print: for people, or one JSON object
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
}

/// How layers are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum CompressionName {
    /// Read by everything.
    #[default]
    Gzip,
    /// Smaller, and faster to read.
    Zstd,
    /// Not compressed.
    None,
}

impl From<CompressionName> for Algorithm {
    fn from(name: CompressionName) -> Self {
        match name {
            CompressionName::Gzip => Self::Gzip,
            CompressionName::Zstd => Self::Zstd,
            CompressionName::None => Self::None,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct TreeArguments {
    /// Programs or libraries: a path, or a name that is looked up in PATH
    #[arg(required = true, value_name = "PROGRAM")]
    pub(super) programs: Vec<String>,
    #[command(flatten)]
    pub(super) source: SourceArguments,
    /// How to print: for people, or one JSON object a line
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    /// LD_LIBRARY_PATH of the program
    #[arg(long, value_name = "PATH")]
    pub(super) library_path: Option<String>,
    /// LD_PRELOAD of the program
    #[arg(long, value_name = "LIST")]
    pub(super) preload: Option<String>,
}

/// The CPU levels that glibc has names for, and the word for all of them.
const HWCAPS: [&str; 10] =
    ["all", "x86-64-v2", "x86-64-v3", "x86-64-v4", "power9", "power10", "z13", "z14", "z15", "z16"];

/// Where files come from, and how they are looked up there.
#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    /// Look at this directory instead of this machine
    #[arg(long, value_name = "SOURCE", help_heading = "Source")]
    pub(super) from: Option<PathBuf>,
    /// Take the libraries that ldconfig would find; for a source in which it has not run yet
    #[arg(long, help_heading = "Source")]
    pub(super) assume_ldconfig: bool,
    /// Follow dlopen notes of at least this priority
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t, help_heading = "Source")]
    pub(super) dlopen: DlopenLevel,
    /// Choose libraries for a CPU with these glibc-hwcaps levels, best first; `all` takes those for every CPU
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', value_parser = HWCAPS, help_heading = "Source")]
    pub(super) hwcaps: Vec<String>,
}

impl SourceArguments {
    /// Returns the directory of the host that the files come from.
    pub(super) fn directory(&self) -> &Path {
        self.from.as_deref().unwrap_or(Path::new("/"))
    }

    /// Returns what reports call the source: its absolute path, as they are read elsewhere.
    pub(super) fn name(&self) -> String {
        let directory = self.directory();
        std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned()).display().to_string()
    }

    /// Returns the path or name that the word `program` means there: on this machine, a relative path counts from the
    /// working directory.
    pub(super) fn program(&self, program: &str) -> RawPath {
        let path = RawPath::from(program);
        let is_relative = program.contains('/') && !path.is_absolute();
        match std::env::current_dir() {
            Ok(here) if is_relative && self.from.is_none() => {
                let below = program.trim_start_matches("./");
                RawPath::new(here.as_os_str().as_bytes()).join(below.as_bytes())
            }
            _ => path,
        }
    }

    /// Returns the root that the word `program` asks for.
    pub(super) fn root(&self, program: &str) -> Root {
        Root { keep: Keep::Program(self.program(program)), origin: Origin::Argument(program.to_owned()) }
    }

    /// Returns how names are looked up there.
    pub(super) fn search(&self) -> Search {
        let standard = Search::standard();
        Search {
            path: if self.from.is_none() { host_path(standard.path) } else { standard.path },
            cache: if self.assume_ldconfig { CacheSource::AssumeLdconfig } else { CacheSource::AsInSource },
            dlopen: self.dlopen,
            hwcaps: match self.hwcaps.as_slice() {
                levels if levels.iter().any(|level| level == "all") => Hwcaps::All,
                levels => Hwcaps::Levels(levels.iter().map(|level| level.as_bytes().to_vec()).collect()),
            },
            // What an image has by default.
            libc: Layering::default().libc_files(),
            ..standard
        }
    }
}

/// Returns the search path of the user, and after it the directories of `standard` that it lacks: an ordinary user's
/// has no `/usr/sbin`.
fn host_path(standard: Vec<RawPath>) -> Vec<RawPath> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let directories = own.as_bytes().split(|byte| *byte == b':').filter(|part| part.starts_with(b"/"));
    let mut path: Vec<RawPath> = directories.map(RawPath::new).collect();
    for directory in standard {
        if !path.contains(&directory) {
            path.push(directory);
        }
    }
    path
}

#[derive(Debug, Args)]
pub(super) struct WhyArguments {
    /// The path in the image, spelled in any way
    #[arg(value_name = "PATH")]
    pub(super) path: String,
    /// Programs of an image to think of; without any, the last image that was built
    #[arg(value_name = "PROGRAM")]
    pub(super) programs: Vec<String>,
    #[command(flatten)]
    pub(super) source: SourceArguments,
    /// Read this closure report instead
    #[arg(long, value_name = "FILE", conflicts_with = "programs")]
    pub(super) report: Option<PathBuf>,
    /// How to print: for people, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
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
