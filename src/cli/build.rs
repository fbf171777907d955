//! `minimage build`: programs -> an image, at its destinations.

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

use super::args::{BuildArguments, Format};
use super::output::OutputSpec;
use super::report::Report;
use super::{Outcome, boxed, cache, reports, size};
use crate::destination::{Archive, ArchiveKind, Destination, LayoutDirectory, Published, Registry};
use crate::explain::{Explain, Explanation, Failure};
use crate::image;
use crate::layer::{self, Cache};
use crate::observer::Ignore;
use crate::oci::{Layout, LayoutError, Reference};
use crate::packages;
use crate::path::show;
use crate::registry::{Client, Options};
use crate::report::{EntryRecord, Report as ClosureReport};
use crate::resolve::{self, Resolution};
use crate::rootfs::{HostRootfs, Kind};
use crate::roots::Keep;
use crate::spec::{
    Algorithm, BuildSpec, Compression, ConfigEdits, Epoch, Hints, LayerOptions, LevelError, Search, Source,
};

/// What is wrong with a request before anything is read.
#[derive(Debug, Error)]
enum UsageError {
    #[error("`--push` does not say where to")]
    PushWhere,
    #[error("SOURCE_DATE_EPOCH is not text")]
    EpochNotText,
    #[error("`{name}` has a digest, which only the finished image has")]
    DigestInName { name: Reference },
}

impl Explain for UsageError {
    fn explain(&self) -> Vec<Explanation> {
        let fix = match self {
            Self::PushWhere => "write `--push REGISTRY/NAME[:TAG]`, or name the image with `-t`",
            Self::EpochNotText => "set it to a Unix time, or unset it",
            Self::DigestInName { .. } => "name the image with a tag, or with nothing",
        };
        vec![Explanation::new("usage", self.to_string()).fix(fix)]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// The machine refuses what a registry client needs.
#[derive(Debug, Error)]
#[error("cannot start the part that speaks to registries")]
struct RuntimeError {
    source: io::Error,
}

impl Explain for RuntimeError {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("no-runtime", self.to_string())
                .because_of(self)
                .fix("raise the limits of this process"),
        ]
    }
}

/// Makes the runtime of the registry client; it starts no thread.
fn runtime() -> Result<Runtime, Box<dyn Explain>> {
    Builder::new_current_thread().enable_all().build().map_err(|source| boxed(RuntimeError { source }))
}

/// Where an image goes, and the file to name in the summary.
struct Target<'a> {
    destination: Box<dyn Destination + 'a>,
    place: String,
    /// The directory, if it is a layout.
    layout: Option<PathBuf>,
}

/// Where an image is put together.
struct Workplace {
    layout: Layout,
    /// Vanishes with the value.
    _scratch: Option<tempfile::TempDir>,
}

impl Workplace {
    /// Chooses the place from which the fewest bytes must be copied: the layout that the image goes to, else the one
    /// in the cache. Layers that are not compressed are not kept there.
    fn choose(
        targets: &[Target],
        cache: Option<&Cache>,
        options: &LayerOptions,
    ) -> Result<Self, Box<dyn Explain>> {
        if let Some(path) = targets.iter().find_map(|target| target.layout.as_deref()) {
            return Ok(Self { layout: Layout::create(path).map_err(boxed)?, _scratch: None });
        }
        if let Some(cache) = cache.filter(|_| options.compression.algorithm() != Algorithm::None) {
            return Ok(Self { layout: cache.layout().clone(), _scratch: None });
        }
        let scratch = scratch_directory()?;
        let layout = Layout::create_temporary(scratch.path()).map_err(boxed)?;
        Ok(Self { layout, _scratch: Some(scratch) })
    }
}

pub(super) fn run(arguments: &BuildArguments, report: &mut Report) -> Outcome {
    let spec = spec(arguments)?;
    let names = names(arguments)?;
    let runtime = runtime()?;
    let targets = targets(arguments, &spec, &names, &runtime)?;

    let Source::Directory(directory) = &spec.source;
    let rootfs = HostRootfs::open_directory(directory).map_err(boxed)?;
    let mut resolution = resolve::closure(&rootfs, &spec.roots, &spec.search).map_err(boxed)?;
    attribute(&mut resolution, &rootfs)?;
    let config = image::config(&resolution.programs, &spec.config, spec.epoch).map_err(boxed)?;
    let plan = layer::plan(&resolution.closure, spec.layers.layering);
    let closure_report = ClosureReport::new(&arguments.source.name(), &resolution, &plan);
    if let Some(file) = &arguments.report {
        reports::write(&closure_report, file)?;
    }
    if arguments.dry_run {
        return print(&closure_report, arguments.format, report);
    }

    let cache = cache::open(&arguments.cache, report);
    let workplace = Workplace::choose(&targets, cache.as_ref(), &spec.layers)?;
    let layout = &workplace.layout;
    let layers =
        layer::write(&plan, &rootfs, spec.epoch, &spec.layers, layout, cache.as_ref()).map_err(boxed)?;
    let image = image::assemble(&layers, config, spec.epoch, layout).map_err(boxed)?;

    summary(&resolution, &layers, report);
    for target in targets {
        let published = target.destination.publish(layout, &image, &names).map_err(boxed)?;
        report.say(&format!("  to {}", target.place));
        for line in lines(&published) {
            report.line(&line)?;
        }
        reports::remember(&closure_report, published.digest);
    }
    if let Some(cache) = &cache {
        cache::trim(cache);
    }
    Ok(())
}

/// Sets the owner of each entry, as far as the source knows of packages.
pub(super) fn attribute(resolution: &mut Resolution, rootfs: &HostRootfs) -> Result<(), Box<dyn Explain>> {
    match packages::open(rootfs).map_err(boxed)? {
        Some(db) => packages::attribute(&mut resolution.closure, &*db).map_err(boxed),
        None => Ok(()),
    }
}

/// Prints what would be in the image.
fn print(closure_report: &ClosureReport, format: Format, report: &mut Report) -> Outcome {
    if format == Format::Json {
        return report.line(&closure_report.to_json());
    }
    for entry in &closure_report.entries {
        let target = entry.target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
        let why = closure_report.why(&entry.path);
        let why = why.first().map(|demand| demand.text.as_str()).unwrap_or_default();
        let EntryRecord { path, mode, uid, gid, size, .. } = entry;
        report.line(&format!("{mode} {uid}:{gid} {size:>10} {path}{target}  # {why}"))?;
    }
    Ok(())
}

/// Returns everything that the bytes of the image depend on.
fn spec(arguments: &BuildArguments) -> Result<BuildSpec, Box<dyn Explain>> {
    let roots = arguments.programs.iter().map(|program| arguments.source.root(program));
    let source = Source::Directory(arguments.source.directory().to_owned());
    let libc = arguments.layers.libc_files();
    let search = Search { hints: Hints::Find, libc, ..arguments.source.search() };
    let epoch = match std::env::var_os("SOURCE_DATE_EPOCH") {
        None => Epoch::default(),
        Some(value) => match value.to_str() {
            Some(text) => Epoch::parse(text).map_err(boxed)?,
            None => return Err(boxed(UsageError::EpochNotText)),
        },
    };
    let config = ConfigEdits { arguments: arguments.arguments.clone() };
    let layers = layer_options(arguments).map_err(boxed)?;
    Ok(BuildSpec { source, roots: roots.collect(), search, config, epoch, layers })
}

fn layer_options(arguments: &BuildArguments) -> Result<LayerOptions, LevelError> {
    let algorithm = Algorithm::from(arguments.compression);
    let compression = match arguments.compression_level {
        Some(level) => Compression::at_level(algorithm, level)?,
        None => algorithm.into(),
    };
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Ok(LayerOptions { layering: arguments.layers, compression, threads })
}

/// Returns the names of the image: the tags, and the value of `--push`.
fn names(arguments: &BuildArguments) -> Result<Vec<Reference>, Box<dyn Explain>> {
    let mut names = arguments.tags.clone();
    if let Some(reference) = arguments.push.as_deref().filter(|reference| !reference.is_empty()) {
        names.push(reference.parse::<Reference>().map_err(boxed)?);
    }
    let pushes = arguments.push.is_some() || arguments.outputs.contains(&OutputSpec::Registry);
    if let Some(name) = names.iter().find(|name| name.digest().is_some()) {
        return Err(boxed(UsageError::DigestInName { name: name.clone() }));
    }
    if pushes && names.is_empty() {
        return Err(boxed(UsageError::PushWhere));
    }
    Ok(names)
}

/// Returns where the image goes: to a file in the working directory, if nothing is said.
fn targets<'a>(
    arguments: &BuildArguments,
    spec: &BuildSpec,
    names: &[Reference],
    runtime: &'a Runtime,
) -> Result<Vec<Target<'a>>, Box<dyn Explain>> {
    let mut outputs = arguments.outputs.clone();
    if arguments.push.is_some() {
        outputs.push(OutputSpec::Registry);
    }
    if outputs.is_empty() {
        outputs.push(OutputSpec::Archive { path: None, kind: ArchiveKind::OciAndDocker });
    }
    outputs.dedup();
    let archive_name = || PathBuf::from(format!("{}.oci.tar", image_name(spec, names)));
    outputs
        .into_iter()
        .map(|output| match output {
            OutputSpec::Archive { path, kind } => {
                let path = path.unwrap_or_else(archive_name);
                let place = path.display().to_string();
                Ok(Target { destination: Box::new(Archive { path, kind }), place, layout: None })
            }
            OutputSpec::Directory { path } => {
                let place = path.display().to_string();
                let layout = Some(path.clone());
                Ok(Target { destination: Box::new(LayoutDirectory { path }), place, layout })
            }
            OutputSpec::Registry => {
                let options =
                    Options { insecure_hosts: arguments.insecure_registries.clone(), ..Options::default() };
                let destination = Registry { client: Client::new(options), runtime, observer: &Ignore };
                let place = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                Ok(Target { destination: Box::new(destination), place, layout: None })
            }
        })
        .collect()
}

/// Returns what the image is called on disk: the last part of its first name, else its first program.
fn image_name(spec: &BuildSpec, names: &[Reference]) -> String {
    if let Some(name) = names.first() {
        return name.short_name().to_owned();
    }
    let program = spec.roots.first().map(|root| match &root.keep {
        Keep::Program(path) => path.as_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default(),
    });
    match program {
        Some(name) if !name.is_empty() => crate::path::show(name).replace('/', "_"),
        _ => "image".to_owned(),
    }
}

/// Makes the directory that holds the image until it is where it goes; it vanishes with the value.
fn scratch_directory() -> Result<tempfile::TempDir, Box<dyn Explain>> {
    tempfile::Builder::new().prefix("minimage-").tempdir().map_err(|source| {
        boxed(LayoutError::Io { action: "create a directory in", path: std::env::temp_dir(), source })
    })
}

fn summary(resolution: &Resolution, layers: &[layer::Layer], report: &mut Report) {
    let files = resolution.closure.entries().filter(|(_, entry)| entry.node.kind == Kind::File);
    let (count, bytes) = files.fold((0_u64, 0_u64), |(count, bytes), (_, entry)| {
        (count + 1, bytes.saturating_add(entry.node.size))
    });
    let blobs: u64 = layers.iter().map(|layer| layer.descriptor.size()).sum();
    for warning in &resolution.warnings {
        report.say(&format!("warning: {warning}"));
    }
    for hint in &resolution.hints {
        let (by, path) = (&hint.by, &hint.path);
        report
            .say(&format!("hint: `{by}` names `{}` in its data; `{path}` is not taken", show(&hint.soname)));
    }
    let programs: Vec<_> = resolution.programs.iter().map(|program| program.path.to_string()).collect();
    report.say(&format!(
        "{}: {count} files, {}, compressed {}",
        programs.join(" "),
        size(bytes),
        size(blobs)
    ));
}

/// Returns the lines that scripts read: one for each name, or the bare digest.
fn lines(published: &Published) -> Vec<String> {
    if published.names.is_empty() {
        return vec![published.digest.to_string()];
    }
    published.names.iter().map(|name| format!("{name}@{}", published.digest)).collect()
}
