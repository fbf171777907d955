//! Flags, project file or frontend options -> [`BuildSpec`]: everything that a build depends on, as values.

mod config;
mod platforms;
mod selection;

use std::ffi::OsStr;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use thiserror::Error;

use crate::explain::{Explain, Explanation, Failure};
use crate::formats::dlopen_note::Priority;
use crate::oci::{MediaType, Reference, ReferenceError};
use crate::path::RawPath;
use crate::roots::Root;

pub use config::{ConfigEdits, EditError};
pub use platforms::{PlatformsError, SourceFor, SourceWord, sources};
pub use selection::{
    Generated, PackageData, RunAs, RunAsError, Selection, SensitiveFiles, Suggested, Unowned, With,
};

/// The directories of an image's PATH, in the order that Docker and most distributions have.
pub const STANDARD_PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Everything that the bytes of an image depend on.
#[derive(Debug, Clone)]
pub struct BuildSpec {
    /// Where the files come from.
    pub source: Source,
    /// What to keep.
    pub roots: Vec<Root>,
    /// How names are looked up.
    pub search: Search,
    /// What is taken besides what the roots need to load.
    pub selection: Selection,
    /// Rules of the user: pairs of a name for messages and a text.
    pub rules: Vec<(String, String)>,
    /// What the image config says beyond what follows from the roots.
    pub config: ConfigEdits,
    /// The time that every file and document of the image carries.
    pub epoch: Epoch,
    /// How layers are cut and compressed.
    pub layers: LayerOptions,
}

/// Where the files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path of the host: a directory, which is a root filesystem or an OCI layout, or an archive of images. `/` is the
    /// machine itself.
    Path(PathBuf),
    /// An OCI layout in a directory of the host.
    Layout(Stored),
    /// An OCI archive or docker archive.
    Archive(Stored),
    /// An image in a registry.
    Registry(Reference),
}

/// An image in a file or directory of the host that may hold several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The file or directory.
    pub path: PathBuf,
    /// The tag or name of the image there; needed only if there are several.
    pub name: Option<String>,
}

/// A word that names no source.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceError {
    /// Its transport is one of skopeo's that is not read here, or of nobody.
    #[error("`{transport}:` is not a place that images are read from")]
    Transport {
        /// What is before the colon.
        transport: String,
    },
    /// The path after the transport is missing.
    #[error("`{word}` names no path")]
    NoPath {
        /// What was given.
        word: String,
    },
    /// It is no name of an image.
    #[error("`{word}` is neither a path, which starts with `/` or `.`, nor an image")]
    Reference {
        /// What was given.
        word: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
}

impl Source {
    /// Returns the source that `word` names: a path starts with `/` or `.`, `transport:` is as skopeo has it, everything
    /// else is in a registry.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn parse(word: &OsStr) -> Result<Self, SourceError> {
        if matches!(word.as_bytes().first(), Some(b'/' | b'.')) {
            return Ok(Self::Path(word.into()));
        }
        let bytes = word.as_bytes();
        let stored = |rest: &[u8]| {
            // The path ends at the first colon: skopeo knows no other way either.
            let end = rest.iter().position(|byte| *byte == b':').unwrap_or(rest.len());
            let name = rest.get(end..).unwrap_or_default().strip_prefix(b":").map(crate::path::show);
            let path = PathBuf::from(OsStr::from_bytes(rest.get(..end).unwrap_or_default()));
            if path.as_os_str().is_empty() {
                return Err(SourceError::NoPath { word: crate::path::show(bytes) });
            }
            Ok(Stored { path, name: name.filter(|name| !name.is_empty()) })
        };
        let reference = |text: &str| {
            let word = || crate::path::show(bytes);
            text.parse().map(Self::Registry).map_err(|source| SourceError::Reference { word: word(), source })
        };
        for transport in ["oci-archive:", "docker-archive:"] {
            if let Some(rest) = bytes.strip_prefix(transport.as_bytes()) {
                return stored(rest).map(Self::Archive);
            }
        }
        if let Some(rest) = bytes.strip_prefix(b"oci:") {
            return stored(rest).map(Self::Layout);
        }
        let text = crate::path::show(bytes);
        for transport in ["dir", "docker-daemon", "containers-storage", "ostree", "sif", "tarball"] {
            if text.split(':').next() == Some(transport) && text.contains(':') {
                return Err(SourceError::Transport { transport: transport.to_owned() });
            }
        }
        reference(text.strip_prefix("docker://").unwrap_or(&text))
    }
}

impl fmt::Display for Source {
    /// Writes the word that [`Source::parse`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, stored) = match self {
            Self::Path(path) => return path.display().fmt(f),
            Self::Registry(reference) => return reference.fmt(f),
            Self::Layout(stored) => ("oci", stored),
            Self::Archive(stored) => ("oci-archive", stored),
        };
        write!(f, "{transport}:{}", stored.path.display())?;
        stored.name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
    }
}

impl Explain for SourceError {
    fn explain(&self) -> Vec<Explanation> {
        let fix = match self {
            Self::Transport { transport } if transport == "docker-daemon" => {
                "write it to a file with `docker save -o FILE IMAGE`, and name the file"
            }
            Self::Transport { .. } => "copy it with `skopeo copy` to `oci:DIRECTORY`, and name that",
            Self::NoPath { .. } => {
                "write `oci:DIRECTORY[:TAG]`, `oci-archive:FILE[:TAG]` or `docker-archive:FILE[:NAME]`"
            }
            Self::Reference { .. } => "write a path as `./PATH`, an image as `[REGISTRY/]NAME[:TAG]`",
        };
        vec![Explanation::new("usage", self.to_string()).because_of(self).fix(fix)]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// How names are looked up in the source, apart from what the source says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The directories in which a program given by name is looked up, in order.
    pub path: Vec<RawPath>,
    /// The directories in which the files of the image look programs up, in order. The PATH of whoever builds is not
    /// among them: everybody gets the same image.
    pub path_inside: Vec<RawPath>,
    /// The working directory of the image, where a program that is not found may be.
    pub workdir: Option<RawPath>,
    /// LD_LIBRARY_PATH of the process to come.
    pub library_path: Option<Vec<u8>>,
    /// LD_PRELOAD of the process to come.
    pub preload: Option<Vec<u8>>,
    /// Whether the file that lists preloads counts.
    pub preloads: Preloads,
    /// Which cache the glibc loader is taken to see.
    pub cache: CacheSource,
    /// For which CPUs libraries are chosen.
    pub hwcaps: Hwcaps,
    /// Which of the libraries that dlopen notes declare are taken.
    pub dlopen: DlopenLevel,
    /// Whether names in read-only data are looked up.
    pub hints: Hints,
    /// How much of the C library is taken.
    pub libc: LibcFiles,
}

/// Which `ld.so.cache` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSource {
    /// The file in the source, as the loader sees it; perhaps none.
    AsInSource,
    /// The one that ldconfig(8) would write.
    AssumeLdconfig,
}

/// For which CPUs libraries are chosen, where the source has several builds of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hwcaps {
    /// For a CPU with these `glibc-hwcaps` levels, best first. None of them means: what runs everywhere. Never those
    /// of the CPU at hand: the image must not depend on it.
    Levels(Vec<Vec<u8>>),
    /// For every CPU, each its own.
    All,
}

/// Whether strings in read-only data that look like sonames are looked up. It costs time, and only ever informs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hints {
    /// They are.
    Find,
    /// They are not.
    Skip,
}

/// Down to which priority dlopen notes are followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum DlopenLevel {
    /// Not at all.
    None,
    /// What the object cannot do without.
    Required,
    /// And what it is meant to have.
    #[default]
    Recommended,
    /// And what it can use.
    Suggested,
}

impl DlopenLevel {
    /// Returns whether libraries of `priority` are taken.
    pub fn takes(self, priority: Priority) -> bool {
        match self {
            Self::None => false,
            Self::Required => priority == Priority::Required,
            Self::Recommended => priority != Priority::Suggested,
            Self::Suggested => true,
        }
    }
}

/// Whether `/etc/ld.so.preload` of the source counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preloads {
    /// As for a process of the source.
    AsInSource,
    /// An image does not have the file.
    None,
}

impl Search {
    /// The variables of the environment that say how libraries are found (ld.so(8)).
    pub const VARIABLES: [&str; 2] = ["LD_LIBRARY_PATH", "LD_PRELOAD"];

    /// Returns the same for processes that have `variables`, names with values, in their environment.
    pub fn with_environment<'a>(mut self, variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        for (name, value) in variables {
            let value = Some(value.as_bytes().to_vec()).filter(|value| !value.is_empty());
            match name {
                "LD_LIBRARY_PATH" => self.library_path = value,
                "LD_PRELOAD" => self.preload = value,
                _ => {}
            }
        }
        self
    }

    /// Returns what `element` of LD_LIBRARY_PATH is, from the working directory of the image if it is relative.
    pub(crate) fn in_workdir(&self, element: &[u8]) -> Vec<u8> {
        match &self.workdir {
            Some(workdir) if !matches!(element.first(), Some(b'/' | b'$')) => {
                workdir.join(element).as_bytes().to_vec()
            }
            _ => element.to_vec(),
        }
    }

    /// Returns the look-up of a source that says nothing: the standard PATH.
    pub fn standard() -> Self {
        Self {
            path: STANDARD_PATH.map(RawPath::from).into(),
            path_inside: STANDARD_PATH.map(RawPath::from).into(),
            workdir: None,
            library_path: None,
            preload: None,
            preloads: Preloads::None,
            cache: CacheSource::AsInSource,
            hwcaps: Hwcaps::Levels(Vec::new()),
            dlopen: DlopenLevel::default(),
            hints: Hints::Skip,
            libc: LibcFiles::Needed,
        }
    }
}

/// How layers are cut and compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerOptions {
    /// What goes into which layer.
    pub layering: Layering,
    /// How blobs are compressed.
    pub compression: Compression,
    /// How many threads compress. The bytes do not depend on it.
    pub threads: NonZeroUsize,
}

impl Default for LayerOptions {
    /// Returns the choice of who does not choose, on one thread.
    fn default() -> Self {
        Self {
            layering: Layering::default(),
            compression: Compression::default(),
            threads: NonZeroUsize::MIN,
        }
    }
}

/// What goes into which layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layering {
    /// Everything into one.
    Single,
    /// By how often it changes: the C library, other packages, the user's own files, what minimage makes itself.
    #[default]
    Auto,
    /// As [`Layering::Auto`], with a layer for each package.
    PerPackage,
    /// At most so many layers.
    AtMost(NonZeroUsize),
}

/// How many layers an image has at most: engines stop at 125, and others may add some.
pub const LAYERS_MAX: usize = 100;

/// A word that is no layering.
#[derive(Debug, Error)]
#[error("`{word}` is no way to cut layers")]
pub struct LayeringError {
    word: String,
}

impl Explain for LayeringError {
    fn explain(&self) -> Vec<Explanation> {
        let fix = format!("write `single`, `auto`, `package` or a number from 1 to {LAYERS_MAX}");
        vec![Explanation::new("bad-layering", self.to_string()).fix(fix)]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

impl FromStr for Layering {
    type Err = LayeringError;

    fn from_str(word: &str) -> Result<Self, LayeringError> {
        let number = || word.parse().ok().filter(|number: &NonZeroUsize| number.get() <= LAYERS_MAX);
        match word {
            "single" => Ok(Self::Single),
            "auto" => Ok(Self::Auto),
            "package" => Ok(Self::PerPackage),
            _ => number().map(Self::AtMost).ok_or_else(|| LayeringError { word: word.to_owned() }),
        }
    }
}

impl Layering {
    /// Returns how much of the C library an image takes: one that has a layer for it shares the layer with others.
    pub fn libc_files(self) -> LibcFiles {
        match self {
            Self::Auto | Self::PerPackage => LibcFiles::Shared,
            Self::AtMost(number) if number.get() > 2 => LibcFiles::Shared,
            Self::Single | Self::AtMost(_) => LibcFiles::Needed,
        }
    }
}

/// How much of the C library an image takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LibcFiles {
    /// What its programs need.
    #[default]
    Needed,
    /// And the files of it that most programs need, so that every image has the same ones.
    Shared,
}

/// A format of compressed blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// gzip, which everybody reads.
    #[default]
    Gzip,
    /// Zstandard, which is smaller and much faster to read; umoci and engines of before 2020 do not know it.
    Zstd,
    /// Not at all.
    None,
}

/// A format of compressed blobs, with a level that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    algorithm: Algorithm,
    level: u8,
}

/// A level that the format does not have.
#[derive(Debug, Error)]
#[error("{algorithm} has no compression level {level}")]
pub struct LevelError {
    algorithm: Algorithm,
    level: u8,
}

impl Compression {
    /// Returns `algorithm` at `level`.
    ///
    /// # Errors
    /// [`LevelError`] if `algorithm` has no such level.
    pub fn at_level(algorithm: Algorithm, level: u8) -> Result<Self, LevelError> {
        if algorithm.levels().contains(&level) {
            Ok(Self { algorithm, level })
        } else {
            Err(LevelError { algorithm, level })
        }
    }

    /// Returns the format.
    pub fn algorithm(self) -> Algorithm {
        self.algorithm
    }

    /// Returns the level; 0 where there is none.
    pub fn level(self) -> u8 {
        self.level
    }

    /// Returns the media type of a layer compressed like this.
    pub fn media_type(self) -> MediaType {
        match self.algorithm {
            Algorithm::Gzip => MediaType::ImageLayerGzip,
            Algorithm::Zstd => MediaType::ImageLayerZstd,
            Algorithm::None => MediaType::ImageLayer,
        }
    }
}

impl Default for Compression {
    fn default() -> Self {
        Algorithm::default().into()
    }
}

impl From<Algorithm> for Compression {
    /// Returns `algorithm` at its default level, chosen by the table that `cargo bench --bench layers` prints.
    fn from(algorithm: Algorithm) -> Self {
        let level = match algorithm {
            Algorithm::Gzip => 5,
            Algorithm::Zstd => 3,
            Algorithm::None => 0,
        };
        Self { algorithm, level }
    }
}

impl Algorithm {
    /// Returns the levels that it has: those of libdeflate and libzstd.
    pub fn levels(self) -> RangeInclusive<u8> {
        match self {
            Self::Gzip => 1..=12,
            Self::Zstd => 1..=22,
            Self::None => 0..=0,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::None => "none",
        })
    }
}

impl Explain for LevelError {
    fn explain(&self) -> Vec<Explanation> {
        let levels = self.algorithm.levels();
        let fix = match self.algorithm {
            Algorithm::None => "leave `--compression-level` away".to_owned(),
            _ => format!("give a level from {} to {}", levels.start(), levels.end()),
        };
        vec![Explanation::new("bad-level", self.to_string()).fix(fix)]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// A point in time, in whole seconds since 1970-01-01 UTC, that stands for "now" in everything minimage writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Epoch(u32);

/// A text that is no usable `SOURCE_DATE_EPOCH`.
#[derive(Debug, Error)]
#[error("SOURCE_DATE_EPOCH is `{text}`, not a number of seconds from 0 to {}", u32::MAX)]
pub struct EpochError {
    text: String,
}

impl Explain for EpochError {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("bad-epoch", self.to_string())
                .fix("set it to a Unix time such as `$(git log -1 --format=%ct)`, or unset it"),
        ]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

impl Epoch {
    /// Returns the time that `text` gives in decimal digits, as reproducible-builds.org defines SOURCE_DATE_EPOCH.
    ///
    /// # Errors
    /// [`EpochError`] for anything but digits, and for times that tar headers and JSON documents cannot both hold.
    pub fn parse(text: &str) -> Result<Self, EpochError> {
        let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = if is_decimal { text.parse().ok() } else { None };
        seconds.map(Self).ok_or_else(|| EpochError { text: crate::path::show(text.as_bytes()) })
    }

    /// Returns the seconds since 1970-01-01 UTC.
    pub fn seconds(self) -> u64 {
        self.0.into()
    }

    /// Returns the time as RFC 3339 has it, in UTC.
    pub fn to_rfc3339(self) -> String {
        Timestamp::from_second(self.0.into()).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layering_is_a_word_or_a_small_number() {
        let number = |number| Layering::AtMost(NonZeroUsize::new(number).unwrap());
        for (word, expected) in [
            ("single", Some(Layering::Single)),
            ("auto", Some(Layering::Auto)),
            ("package", Some(Layering::PerPackage)),
            ("1", Some(number(1))),
            ("100", Some(number(100))),
            ("0", None),
            ("101", None),
            ("-1", None),
            ("", None),
            ("Auto", None),
        ] {
            assert_eq!(word.parse::<Layering>().ok(), expected, "{word}");
        }
    }

    #[test]
    fn a_source_is_a_path_a_transport_or_an_image() {
        for (word, shown) in [
            ("/", "/"),
            ("./rootfs", "./rootfs"),
            ("../a:b", "../a:b"),
            ("oci:dir", "oci:dir"),
            ("oci:/dir:v1", "oci:/dir:v1"),
            ("oci-archive:a.tar", "oci-archive:a.tar"),
            ("docker-archive:a.tar:host:5000/x:t", "oci-archive:a.tar:host:5000/x:t"),
            ("debian", "docker.io/library/debian:latest"),
            ("docker://ghcr.io/a/b:1", "ghcr.io/a/b:1"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("oci/thing:1", "docker.io/oci/thing:1"),
        ] {
            assert_eq!(Source::parse(OsStr::new(word)).unwrap().to_string(), shown, "{word}");
        }
        for bad in ["", "oci:", "oci-archive::x", "dir:/x", "docker-daemon:x", "Upper", "a b"] {
            assert!(Source::parse(OsStr::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_epoch_is_digits() {
        assert_eq!(Epoch::parse("0").unwrap().to_rfc3339(), "1970-01-01T00:00:00Z");
        assert_eq!(Epoch::parse("1700000000").unwrap().to_rfc3339(), "2023-11-14T22:13:20Z");
        for bad in ["", "-1", "+1", "1.5", "now", "99999999999"] {
            assert!(Epoch::parse(bad).is_err(), "{bad}");
        }
    }
}
