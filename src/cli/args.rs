//! The words of the command line -> typed options.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use thiserror::Error;

use super::connection::{Mirror, RegistryHost};
use super::load::EngineName;
use super::output::OutputSpec;
use super::results::ResultArguments;
use super::selection::{ConfigArguments, SelectionArguments};
use super::stored;
use crate::oci::{Platform, Reference, platform};
use crate::path::RawPath;
use crate::roots::{Keep, Origin, Root, split_destination};
use crate::spec::{Algorithm, CacheSource, DlopenLevel, Hwcaps, Layering, Search, Source, SourceWord};

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

impl Arguments {
    /// Reads words of which the first are those of a project file: a later flag then takes the place of an earlier one.
    pub(super) fn with_project(words: Vec<OsString>) -> Result<Self, clap::Error> {
        let command = Self::command().mut_subcommand("build", |build| build.args_override_self(true));
        Self::from_arg_matches(&command.try_get_matches_from(words)?)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an image of programs and everything they need
    Build(Box<BuildArguments>),
    /// Show what the loader would map for programs or libraries, and where it finds it
    Tree(TreeArguments),
    /// Say why a path is in the image
    Why(WhyArguments),
    /// Say why a path is not in the image
    WhyNot(WhyArguments),
    /// Push an image that is on this machine
    Push(PushArguments),
    /// Load an image that is on this machine into a container engine
    Load(LoadArguments),
    /// Show or shrink what is kept between builds
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Print the version
    Version(VersionArguments),
}

#[derive(Debug, Args)]
#[command(after_help = "Words after `--` are the arguments that the image runs its one program with.")]
pub(super) struct BuildArguments {
    /// Programs to put into the image: a path, or a name that is looked up in PATH; `PATH:DEST` puts it elsewhere.
    /// Without any, and nothing to add or include, `minimage.toml` says what to build
    #[arg(value_name = "PROGRAM")]
    pub(super) programs: Vec<String>,
    #[command(flatten)]
    pub(super) source: SourceArguments,
    #[command(flatten)]
    pub(super) selection: SelectionArguments,
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// Name the image; may be repeated
    #[arg(short, long = "tag", value_name = "REF")]
    pub(super) tags: Vec<Reference>,
    /// Where the image goes: `type=oci|docker|registry|local|tar[,dest=PATH][,tar=false][,docker=false]`; may be repeated
    #[arg(short, long = "output", value_name = "SPEC")]
    pub(super) outputs: Vec<OutputSpec>,
    /// Push the image to its registry; without -t, to REF
    #[arg(long, value_name = "REF", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub(super) push: Option<String>,
    /// Push as --push does, but believe a registry that it has what the image refers to; without -t, to REF
    #[arg(
        long,
        value_name = "REF",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        conflicts_with = "push"
    )]
    pub(super) push_if_changed: Option<String>,
    /// Load the image into a container engine of this machine; without a name, the first that is found
    #[arg(long, value_name = "ENGINE", num_args = 0..=1, require_equals = true)]
    pub(super) load: Option<Option<EngineName>>,
    /// Attach the closure report to the image in its registry, where `why --image` finds it
    #[arg(long)]
    pub(super) attach_report: bool,
    #[command(flatten)]
    pub(super) registry: RegistryArguments,
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
    /// How layers are compressed: gzip, unless the image is only loaded
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) compression: Option<CompressionName>,
    /// How hard: 1 to 12 for gzip, 1 to 22 for zstd
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=22))]
    pub(super) compression_level: Option<u8>,
    #[command(flatten)]
    pub(super) results: ResultArguments,
    #[command(flatten)]
    pub(super) cache: CacheArguments,
    /// Words for the program
    #[arg(last = true, value_name = "ARGS")]
    pub(super) arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct PushArguments {
    /// The image: an OCI layout or archive, or a docker archive; `oci:DIR:TAG` or `oci-archive:FILE:TAG` of several
    #[arg(value_name = "LAYOUT|ARCHIVE", value_parser = OsStringValueParser::new().try_map(|word| stored::parse(&word)))]
    pub(super) image: Source,
    /// The names to push it to
    #[arg(required = true, value_name = "REF")]
    pub(super) references: Vec<Reference>,
    /// Believe a registry that has the manifest that it has the rest
    #[arg(long)]
    pub(super) if_changed: bool,
    #[command(flatten)]
    pub(super) registry: RegistryArguments,
}

#[derive(Debug, Args)]
pub(super) struct LoadArguments {
    /// The image: an OCI layout or archive, or a docker archive; `oci:DIR:TAG` or `oci-archive:FILE:TAG` of several
    #[arg(value_name = "LAYOUT|ARCHIVE", value_parser = OsStringValueParser::new().try_map(|word| stored::parse(&word)))]
    pub(super) image: Source,
    /// Name the image there; may be repeated; without this, it keeps its names
    #[arg(short, long = "tag", value_name = "REF")]
    pub(super) tags: Vec<Reference>,
    /// The engine; without this, the first that is found
    #[arg(long, value_enum, value_name = "ENGINE")]
    pub(super) to: Option<EngineName>,
    /// Of an image for several platforms, load the one for OS/ARCH[/VARIANT]; without this, this machine's
    #[arg(long, value_name = "PLATFORM", value_parser = platform_of)]
    pub(super) platform: Option<Platform>,
}

impl BuildArguments {
    /// Returns whether the command line names nothing that an image could hold.
    pub(super) fn names_nothing(&self) -> bool {
        let selection = &self.selection;
        self.programs.is_empty()
            && selection.add.is_empty()
            && selection.include.is_empty()
            && selection.with.is_empty()
    }

    /// Returns the name that `--push` or `--push-if-changed` brings along.
    pub(super) fn pushed_to(&self) -> Option<&str> {
        self.push.as_deref().or(self.push_if_changed.as_deref()).filter(|name| !name.is_empty())
    }
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
    #[command(flatten)]
    pub(super) registry: RegistryArguments,
    #[command(flatten)]
    pub(super) cache: CacheArguments,
}

/// The CPU levels that glibc has names for, and the word for all of them.
const HWCAPS: [&str; 10] =
    ["all", "x86-64-v2", "x86-64-v3", "x86-64-v4", "power9", "power10", "z13", "z14", "z15", "z16"];

/// Where files come from, and how they are looked up there.
#[derive(Debug, Clone, Args)]
pub(super) struct SourceArguments {
    /// Look at this instead of this machine: a directory (`/…`, `./…`), an OCI layout or archive, a docker archive
    /// (also `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, `docker-archive:FILE[:NAME]`), or an image in a registry.
    /// `PLATFORM=SOURCE` once for each platform makes one image for all of them
    #[arg(long, value_name = "SOURCE", value_parser = OsStringValueParser::new().try_map(|word| SourceWord::parse(&word)), help_heading = "Source")]
    pub(super) from: Vec<SourceWord>,
    /// Of an image for several platforms, take the one for OS/ARCH[/VARIANT]; of several, separated by commas, each.
    /// Without this, this machine's
    #[arg(long = "platform", value_name = "PLATFORM", value_delimiter = ',', value_parser = platform_of, help_heading = "Source")]
    pub(super) platforms: Vec<Platform>,
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
    /// Returns the path or name that the word `program` means there: on this machine, a relative path counts from the
    /// working directory.
    pub(super) fn program(&self, program: &str) -> RawPath {
        let path = RawPath::from(program);
        let is_relative = program.contains('/') && !path.is_absolute();
        match std::env::current_dir() {
            Ok(here) if is_relative && self.from.is_empty() => {
                let below = program.trim_start_matches("./");
                RawPath::new(here.as_os_str().as_bytes()).join(below.as_bytes())
            }
            _ => path,
        }
    }

    /// Returns the root that the word `program` asks for.
    pub(super) fn root(&self, program: &str) -> Root {
        let (path, to) = split_destination(program);
        Root {
            keep: Keep::Program { name: self.program(path), to: to.map(RawPath::from) },
            origin: Origin::Argument(program.to_owned()),
        }
    }

    /// Returns the path that the name `name` of a file means there.
    pub(super) fn file(&self, name: &RawPath) -> RawPath {
        match std::env::current_dir() {
            Ok(here) if self.from.is_empty() => {
                RawPath::new(here.as_os_str().as_bytes()).join(name.as_bytes())
            }
            _ => RawPath::new("/").join(name.as_bytes()),
        }
    }

    /// Returns how names are looked up there; `own` is the PATH that the source itself has.
    pub(super) fn search(&self, own: Option<&[RawPath]>) -> Search {
        let standard = Search::standard();
        let path_inside = match own {
            Some(own) => completed(own.to_vec(), standard.path),
            None => standard.path,
        };
        Search {
            path: if self.from.is_empty() {
                completed(user_path(), path_inside.clone())
            } else {
                path_inside.clone()
            },
            path_inside,
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

/// Returns the search path of the user.
fn user_path() -> Vec<RawPath> {
    let own = std::env::var_os("PATH").unwrap_or_default();
    let directories = own.as_bytes().split(|byte| *byte == b':').filter(|part| part.starts_with(b"/"));
    directories.map(RawPath::new).collect()
}

/// Returns `path`, and after it the directories of `standard` that it lacks: an ordinary user's has no `/usr/sbin`. Each
/// is in it once.
fn completed(path: Vec<RawPath>, standard: Vec<RawPath>) -> Vec<RawPath> {
    let mut seen = HashSet::new();
    path.into_iter().chain(standard).filter(|directory| seen.insert(directory.clone())).collect()
}

fn platform_of(text: &str) -> Result<Platform, PlatformError> {
    platform::parse(text).ok_or(PlatformError)
}

/// A text that is no platform.
#[derive(Debug, Error)]
#[error("not of the form OS/ARCH[/VARIANT], such as linux/arm64")]
struct PlatformError;

/// How registries are spoken to.
#[derive(Debug, Args)]
pub(super) struct RegistryArguments {
    /// Speak plain http to this registry, or https without checking who it is; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]", help_heading = "Registries")]
    pub(super) insecure_registries: Vec<RegistryHost>,
    /// Read credentials from this file only, instead of those of Podman and Docker
    #[arg(long, value_name = "FILE", help_heading = "Registries")]
    pub(super) authfile: Option<PathBuf>,
    /// Look for certificates in DIR/HOST:PORT too: `*.crt` of authorities, `*.cert` with `*.key` of our own
    #[arg(long, value_name = "DIR", help_heading = "Registries")]
    pub(super) cert_dir: Option<PathBuf>,
    /// Pull images of REGISTRY from HOST first; may be repeated
    #[arg(long = "registry-mirror", value_name = "REGISTRY=HOST[:PORT]", help_heading = "Registries")]
    pub(super) mirrors: Vec<Mirror>,
    /// Let the registry take over blobs that this image of it has too; may be repeated
    #[arg(long, value_name = "REF", help_heading = "Registries")]
    pub(super) mount_from: Vec<Reference>,
    /// How progress is shown: line by line, on one line that changes, or not at all
    #[arg(long, value_enum, default_value_t, value_name = "HOW", help_heading = "Registries")]
    pub(super) progress: ProgressName,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressName {
    /// `tty` if somebody is watching, `plain` otherwise.
    #[default]
    Auto,
    /// On one line that changes.
    Tty,
    /// Line by line.
    Plain,
    /// Not at all.
    #[value(alias = "none")]
    Quiet,
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
    /// Ask about this image: its report is in the cache, or attached to it in its registry
    #[arg(long, value_name = "REF", conflicts_with_all = ["programs", "report", "from"])]
    pub(super) image: Option<Reference>,
    /// How to print: for people, or one JSON document
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    #[command(flatten)]
    pub(super) registry: RegistryArguments,
    #[command(flatten)]
    pub(super) cache: CacheArguments,
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
        if index < end && (word == "--push" || word == "--push-if-changed") {
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
            ("m build bash --push-if-changed r/x", "m build bash --push-if-changed=r/x"),
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
