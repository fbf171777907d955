//! Layers + config -> a sealed manifest in a layout.

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::explain::{Explain, Explanation};
use crate::formats::elf::{ByteOrder, Class};
use crate::layer::Layer;
use crate::oci::{
    Arch, Config, ConfigBuilder, Descriptor, HistoryBuilder, Layout, LayoutError, Manifest, ManifestBuilder,
    MediaType, Os, PlatformBuilder, RootFsBuilder, RuntimeConfigBuilder, Sealed, index_of,
};
use crate::path::{RawPath, RootPath};
use crate::resolve::{Object, Program, Resolution};
use crate::spec::{ConfigEdits, Epoch, STANDARD_PATH};

/// What machine an image is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// GOARCH.
    pub architecture: Arch,
    /// The variant of it, where one is needed.
    pub variant: Option<String>,
}

/// Why an image cannot be assembled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImageError {
    /// No image platform has this kind of program.
    #[error("`{path}` is for a machine that images have no name for (e_machine {machine})")]
    UnknownMachine {
        /// The program, inside the source.
        path: RootPath,
        /// Its `e_machine`.
        machine: u16,
    },
    /// Two root programs are for different machines.
    #[error("`{one}` is for {one_machine} and `{other}` for {other_machine}")]
    MixedMachines {
        /// The first program.
        one: RootPath,
        /// What it is for.
        one_machine: String,
        /// Another program.
        other: RootPath,
        /// What that is for.
        other_machine: String,
    },
    /// The root programs are for another platform than the user says.
    #[error("the image is for linux/{found}, not {asked}")]
    OtherPlatform {
        /// What the user says.
        asked: String,
        /// What the programs are for.
        found: String,
    },
    /// The config can only hold text.
    #[error("`{path}` has a name that is not UTF-8, which an image config cannot hold")]
    NotText {
        /// The path.
        path: RawPath,
    },
    /// Arguments belong to one program.
    #[error("there are arguments after `--`, but {count} programs")]
    WhoseArguments {
        /// How many programs there are.
        count: usize,
    },
    /// A document cannot be written as JSON.
    #[error("cannot write the document as JSON")]
    Json {
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The layout refuses.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Explain for ImageError {
    fn explain(&self) -> Vec<Explanation> {
        let explanation = |code| Explanation::new(code, self.to_string()).because_of(self);
        vec![match self {
            Self::Layout(error) => return error.explain(),
            Self::MixedMachines { .. } => {
                explanation("mixed-machines").fix("build one image for each platform")
            }
            Self::OtherPlatform { .. } => explanation("other-platform")
                .fix("take the programs from a source for that platform, or leave `--platform` away"),
            Self::UnknownMachine { .. } => explanation("unknown-machine").fix("name a program for Linux"),
            Self::NotText { .. } => explanation("name-not-text").fix("rename it in the source"),
            Self::WhoseArguments { .. } => explanation("arguments-for-several").fix(
                "name one program, or leave the words after `--` away and give them when the image is run",
            ),
            Self::Json { .. } => explanation("bad-document"),
        }]
    }

    fn failure(&self) -> crate::explain::Failure {
        match self {
            Self::WhoseArguments { .. } => crate::explain::Failure::Usage,
            _ => crate::explain::Failure::NoImage,
        }
    }
}

/// Returns the config of an image of `resolution`, without its layers.
///
/// # Errors
/// [`ImageError::MixedMachines`], [`ImageError::UnknownMachine`], [`ImageError::NotText`],
/// [`ImageError::WhoseArguments`], [`ImageError::OtherPlatform`].
pub fn config(resolution: &Resolution, edits: &ConfigEdits, epoch: Epoch) -> Result<Config, ImageError> {
    let programs = resolution.programs.as_slice();
    let mut env = vec![("PATH".to_owned(), path(programs)?)];
    // A rule gives a variable only where nobody else does.
    let given = resolution.env.iter().filter(|(key, _)| !edits.env.contains_key(*key));
    for (key, value) in given.chain(&edits.env) {
        match env.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => known.clone_from(value),
            None => env.push((key.clone(), value.clone())),
        }
    }
    let env: Vec<_> = env.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut runtime = RuntimeConfigBuilder::default().env(env).working_dir("/");
    let entrypoint = match (&edits.entrypoint, programs) {
        (Some(words), _) => Some(words.clone()),
        (None, [program]) => Some(vec![text(&program.path)?]),
        _ => None,
    };
    if entrypoint.is_none() && !edits.arguments.is_empty() {
        return Err(ImageError::WhoseArguments { count: programs.len() });
    }
    if let Some(words) = entrypoint {
        runtime = runtime.entrypoint(words);
    }
    if !edits.command().is_empty() {
        runtime = runtime.cmd(edits.command().to_vec());
    }
    if let Some(user) = &edits.user {
        runtime = runtime.user(user.to_string());
    }
    if !edits.labels.is_empty() {
        let labels: HashMap<_, _> = edits.labels.clone().into_iter().collect();
        runtime = runtime.labels(labels);
    }
    let machine = match (machine_of_all(programs)?, &edits.platform) {
        (Some(machine), Some(asked)) if !machine.is(asked) => {
            return Err(ImageError::OtherPlatform { asked: asked.clone(), found: machine.to_string() });
        }
        (Some(machine), _) => machine,
        // Nothing in it is made for one machine only.
        (None, Some(asked)) => Machine::named(asked),
        (None, None) => host(),
    };
    let mut config = ConfigBuilder::default()
        .created(epoch.to_rfc3339())
        .architecture(machine.architecture)
        .os(Os::Linux)
        .config(complete(runtime.build()))
        .rootfs(complete(RootFsBuilder::default().diff_ids(Vec::<String>::new()).build()));
    if let Some(variant) = machine.variant {
        config = config.variant(variant);
    }
    Ok(complete(config.build()))
}

/// Stores `config`, with `layers` entered into it, and the manifest of both, with `annotations`. Returns the manifest's descriptor.
///
/// # Errors
/// [`ImageError::Json`], [`ImageError::Layout`].
pub fn assemble(
    layers: &[Layer],
    mut config: Config,
    annotations: &BTreeMap<String, String>,
    epoch: Epoch,
    layout: &Layout,
) -> Result<Descriptor, ImageError> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    config.set_rootfs(complete(RootFsBuilder::default().diff_ids(diff_ids).build()));
    let history = layers.iter().map(|layer| {
        let comment = format!("minimage: {}", layer.name);
        complete(HistoryBuilder::default().created(epoch.to_rfc3339()).created_by(comment).build())
    });
    config.set_history(Some(history.collect()));
    let json = |source| ImageError::Json { source };
    let config = Sealed::new(config).map_err(json)?;
    let config = layout.put(&config, MediaType::ImageConfig)?;
    let mut manifest = ManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>());
    if !annotations.is_empty() {
        let annotations: HashMap<_, _> = annotations.clone().into_iter().collect();
        manifest = manifest.annotations(annotations);
    }
    let manifest: Manifest = complete(manifest.build());
    let manifest = Sealed::new(manifest).map_err(json)?;
    Ok(layout.put(&manifest, MediaType::ImageManifest)?)
}

/// Stores the index of `images`, each of which has a config of those beside it, and returns its descriptor.
///
/// # Errors
/// [`ImageError::Json`], [`ImageError::Layout`].
pub fn index(images: &[(Descriptor, Config)], layout: &Layout) -> Result<Descriptor, ImageError> {
    let entry = |(image, config): &(Descriptor, Config)| {
        let mut platform =
            PlatformBuilder::default().os(config.os().clone()).architecture(config.architecture().clone());
        if let Some(variant) = config.variant() {
            platform = platform.variant(variant.clone());
        }
        let mut entry = image.clone();
        entry.set_platform(Some(complete(platform.build())));
        entry
    };
    let index = Sealed::new(index_of(images.iter().map(entry).collect()));
    let index = index.map_err(|source| ImageError::Json { source })?;
    Ok(layout.put(&index, MediaType::ImageIndex)?)
}

/// Stores `document`, of the kind `artifact_type`, as something attached to the image `subject`, and returns the
/// descriptor of its manifest (image-spec, manifest.md, "Guidelines for Artifact Usage"). The image stays as it is.
///
/// # Errors
/// [`ImageError::Json`], [`ImageError::Layout`].
pub fn attach(
    document: &[u8],
    artifact_type: &str,
    subject: &Descriptor,
    layout: &Layout,
) -> Result<Descriptor, ImageError> {
    let blob = |bytes: &[u8], media_type| {
        let mut blob = layout.blob()?;
        blob.append(bytes)?;
        blob.commit(media_type)
    };
    let config = blob(b"{}", MediaType::EmptyJSON)?;
    let layer = blob(document, artifact_type.into())?;
    let bare =
        crate::oci::descriptor(subject.media_type().clone(), layout.digest_of(subject)?, subject.size());
    let manifest: Manifest = complete(
        ManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .artifact_type(artifact_type)
            .config(config)
            .layers(vec![layer])
            .subject(bare)
            .build(),
    );
    let manifest = Sealed::new(manifest).map_err(|source| ImageError::Json { source })?;
    Ok(layout.put(&manifest, MediaType::ImageManifest)?)
}

/// Unwraps what a builder of `oci-spec` made. It fails only for a required field that was not set, which is a mistake
/// in this file and seen by every test.
#[expect(clippy::expect_used)]
fn complete<T, E: std::fmt::Debug>(built: Result<T, E>) -> T {
    built.expect("every required field is set")
}

/// Returns PATH: the standard directories, then those of the programs.
fn path(programs: &[Program]) -> Result<String, ImageError> {
    let mut directories: Vec<String> = STANDARD_PATH.map(str::to_owned).into();
    for program in programs {
        let Some(directory) = program.path.parent() else { continue };
        let directory = text(&directory)?;
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    Ok(directories.join(":"))
}

fn text(path: &RawPath) -> Result<String, ImageError> {
    String::from_utf8(path.as_bytes().to_vec()).map_err(|_| ImageError::NotText { path: path.clone() })
}

/// Returns what all of `programs` are made for; `None` without any.
fn machine_of_all(programs: &[Program]) -> Result<Option<Machine>, ImageError> {
    let mut first: Option<(&Object, Machine)> = None;
    for program in programs {
        let object = &*program.object;
        let machine = machine(object)?;
        match &first {
            Some((one, known)) if *known != machine => {
                return Err(ImageError::MixedMachines {
                    one: one.path.clone(),
                    one_machine: known.to_string(),
                    other: object.path.clone(),
                    other_machine: machine.to_string(),
                });
            }
            Some(_) => {}
            None => first = Some((object, machine)),
        }
    }
    Ok(first.map(|(_, machine)| machine))
}

impl Machine {
    /// Returns the machine that `platform`, as `[linux/]ARCH[/VARIANT]`, names.
    fn named(platform: &str) -> Self {
        let platform = platform.strip_prefix("linux/").unwrap_or(platform);
        let (architecture, variant) = match platform.split_once('/') {
            Some((architecture, variant)) => (architecture, Some(variant.to_owned())),
            None => (platform, None),
        };
        Self { architecture: architecture.into(), variant }
    }

    /// Returns whether `platform`, as `[linux/]ARCH[/VARIANT]`, is this one; where one of the two has no variant, any will
    /// do.
    fn is(&self, platform: &str) -> bool {
        let Self { architecture, variant } = Self::named(platform);
        let is_variant = variant.is_none() || self.variant.is_none() || self.variant == variant;
        self.architecture == architecture && is_variant
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

/// Returns what `program` is for, if that is not `platform`, as `[linux/]ARCH[/VARIANT]`, nor anything that a machine of
/// that runs by itself; `None` also if nobody knows.
pub fn foreign(program: &Object, platform: &str) -> Option<String> {
    let found = machine(program).ok()?;
    let asked = Machine::named(platform);
    let is_run = match (&asked.architecture, &found.architecture) {
        (Arch::Amd64, Arch::i386) | (Arch::ARM64, Arch::ARM) => true,
        _ => found.is(platform),
    };
    (!is_run).then(|| format!("linux/{found}"))
}

/// Returns what this program itself was built for.
fn host() -> Machine {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => Arch::ARM64,
        "arm" => Arch::ARM,
        "riscv64" => Arch::RISCV64,
        "x86" => Arch::i386,
        _ => Arch::Amd64,
    };
    Machine { architecture, variant: None }
}

/// Returns the platform of an ELF object (platform variants: image-spec, image-index.md).
fn machine(object: &Object) -> Result<Machine, ImageError> {
    let elf = &object.elf;
    let is_little = elf.byte_order == ByteOrder::Little;
    let (architecture, variant) = match (elf.machine, elf.class, is_little) {
        (3, _, _) => (Arch::i386, None),
        // x32 programs run on the same machine.
        (62, _, _) => (Arch::Amd64, None),
        (183, _, true) => (Arch::ARM64, None),
        (40, _, true) => (Arch::ARM, Some("v7")),
        (243, Class::Elf64, _) => (Arch::RISCV64, None),
        (21, _, true) => (Arch::PowerPC64le, None),
        (21, _, false) => (Arch::PowerPC64, None),
        (22, Class::Elf64, _) => (Arch::s390x, None),
        (258, _, _) => (Arch::LoongArch64, None),
        (8, Class::Elf64, true) => (Arch::Mips64le, None),
        (8, Class::Elf64, false) => (Arch::Mips64, None),
        (8, Class::Elf32, true) => (Arch::Mipsle, None),
        (8, Class::Elf32, false) => (Arch::Mips, None),
        _ => return Err(ImageError::UnknownMachine { path: object.path.clone(), machine: elf.machine }),
    };
    Ok(Machine { architecture, variant: variant.map(str::to_owned) })
}
