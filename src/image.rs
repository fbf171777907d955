//! Layers + config -> a sealed manifest in a layout.

use thiserror::Error;

use crate::explain::{Explain, Explanation};
use crate::formats::elf::{ByteOrder, Class};
use crate::layer::Layer;
use crate::oci::{
    Arch, Config, ConfigBuilder, Descriptor, HistoryBuilder, Layout, LayoutError, Manifest, ManifestBuilder,
    MediaType, Os, RootFsBuilder, RuntimeConfigBuilder, Sealed,
};
use crate::path::{RawPath, RootPath};
use crate::resolve::{Object, Program};
use crate::spec::{ConfigEdits, Epoch, STANDARD_PATH};

/// What machine an image is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// GOARCH.
    pub architecture: Arch,
    /// The variant of it, where one is needed.
    pub variant: Option<&'static str>,
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

/// Returns the config of an image of `programs`, without its layers.
///
/// # Errors
/// [`ImageError::MixedMachines`], [`ImageError::UnknownMachine`], [`ImageError::NotText`],
/// [`ImageError::WhoseArguments`].
pub fn config(programs: &[Program], edits: &ConfigEdits, epoch: Epoch) -> Result<Config, ImageError> {
    let mut runtime =
        RuntimeConfigBuilder::default().env(vec![format!("PATH={}", path(programs)?)]).working_dir("/");
    match programs {
        [program] => {
            runtime = runtime.entrypoint(vec![text(&program.path)?]);
            if !edits.arguments.is_empty() {
                runtime = runtime.cmd(edits.arguments.clone());
            }
        }
        several if !edits.arguments.is_empty() => {
            return Err(ImageError::WhoseArguments { count: several.len() });
        }
        _ => {}
    }
    let machine = machine_of_all(programs)?;
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

/// Stores `config`, with `layers` entered into it, and the manifest of both. Returns the manifest's descriptor.
///
/// # Errors
/// [`ImageError::Json`], [`ImageError::Layout`].
pub fn assemble(
    layers: &[Layer],
    mut config: Config,
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
    let manifest: Manifest = complete(
        ManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(config)
            .layers(layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>())
            .build(),
    );
    let manifest = Sealed::new(manifest).map_err(json)?;
    Ok(layout.put(&manifest, MediaType::ImageManifest)?)
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

fn machine_of_all(programs: &[Program]) -> Result<Machine, ImageError> {
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
    Ok(first.map_or_else(host, |(_, machine)| machine))
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.architecture)?;
        if let Some(variant) = self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
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
    Ok(Machine { architecture, variant })
}
