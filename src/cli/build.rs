//! `minimage build`: programs -> an image, at its destinations.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use thiserror::Error;
use tokio::runtime::Runtime;
use tracing::info;

use super::args::{BuildArguments, Format, SourceArguments};
use super::connection::{Connection, runtime};
use super::console::Console;
use super::load::{self, Engine};
use super::output::OutputSpec;
use super::progress::Progress;
use super::results::Finished;
use super::scratch::Scratch;
use super::source::{self, Means};
use super::{Outcome, arrived, boxed, cache, reports, resolution, summary};
use crate::closure::Closure;
use crate::destination::{Archive, ArchiveKind, Destination, LayoutDirectory, PushMode, Registry};
use crate::explain::{Explain, Explanation, Failure, Spelling};
use crate::image;
use crate::layer::{self, Cache, CacheError, LayerError, LayerPlan};
use crate::oci::{Config, Descriptor, Layout, Reference, platform};
use crate::path::RawPath;
use crate::report::{EntryRecord, MEDIA_TYPE, Report as ClosureReport};
use crate::rootfs::Rootfs;
use crate::spec::{
    Algorithm, BuildSpec, Compression, ConfigEdits, Epoch, Hints, LayerOptions, LevelError, Search, Source,
};

/// What is wrong with a request before anything is read.
#[derive(Debug, Error)]
enum UsageError {
    #[error("`--push` does not say where to")]
    PushWhere,
    #[error("`--attach-report` is for images that are pushed")]
    AttachWhere,
    #[error("SOURCE_DATE_EPOCH is not text")]
    EpochNotText,
    #[error("two outputs go to `{place}`")]
    SamePlace { place: String },
    #[error("`{name}` has a digest, which only the finished image has")]
    DigestInName { name: Reference },
    #[error("`--report` writes the report of one platform, and this image is for several")]
    ReportOfOne,
    #[error("`-o type=local` and `-o type=tar` are for one platform, and this image is for several")]
    FilesOfOne,
}

impl Explain for UsageError {
    fn explain(&self) -> Vec<Explanation> {
        let fix = match self {
            Self::PushWhere => "write `--push REGISTRY/NAME[:TAG]`, or name the image with `-t`",
            Self::AttachWhere => "add `--push`, or write the report to a file with `--report`",
            Self::EpochNotText => "set it to a Unix time, or unset it",
            Self::SamePlace { .. } => "give each `-o` a `dest` of its own",
            Self::DigestInName { .. } => "name the image with a tag, or with nothing",
            Self::FilesOfOne => "name one platform, or write an image with `-o type=oci`",
            Self::ReportOfOne => "push with `--attach-report`, and ask `why --image REF --platform PLATFORM`",
        };
        vec![Explanation::new("usage", self.to_string()).fix(fix)]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// Where an image goes, and the file to name in the summary.
struct Target<'a> {
    destination: Box<dyn Destination + 'a>,
    place: String,
    /// The directory, if it is a layout.
    layout: Option<PathBuf>,
    takes: Takes,
}

/// What of an image for several platforms goes somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Everything,
    /// An engine runs what this machine can run.
    OwnPlatform,
}

/// Where an image is put together.
struct Workplace {
    layout: Layout,
    /// Vanishes with the value.
    _scratch: Option<Scratch>,
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
        let scratch = Scratch::create()?;
        Ok(Self { layout: scratch.layout()?, _scratch: Some(scratch) })
    }
}

/// The image for one platform, before a byte of it is written.
struct Part {
    spec: BuildSpec,
    rootfs: Box<dyn Rootfs>,
    closure: Closure,
    plan: LayerPlan,
    config: Config,
    report: ClosureReport,
}

impl Part {
    /// Decides what is in the image that `spec` asks for.
    fn plan(
        arguments: &BuildArguments,
        source: &SourceArguments,
        mut spec: BuildSpec,
        means: &Means<'_>,
    ) -> Result<Self, Box<dyn Explain>> {
        let opened = source::open(source, means)?;
        spec.search = search(arguments, source, opened.path.as_deref(), &spec.config);
        info!(source = opened.rootfs.name(), "source opened");
        spec.selection.unowned = opened.unowned;
        let resolution = resolution::of(&spec, &*opened.rootfs)?;
        let config = image::config(&resolution, &spec.config, spec.epoch).map_err(boxed)?;
        info!(
            entries = resolution.closure.entries().len(),
            demands = resolution.closure.demands().len(),
            "closure complete"
        );
        let plan = layer::plan(&resolution.closure, spec.layers.layering);
        let report = ClosureReport::new(&opened.word, &resolution, &plan, Spelling::Flags);
        Ok(Self { spec, rootfs: opened.rootfs, closure: resolution.closure, plan, config, report })
    }

    /// Writes the image into `layout`, and says what is in it.
    fn write(
        &self,
        layout: &Layout,
        cache: Option<&Cache>,
        console: &mut Console,
    ) -> Result<Descriptor, Box<dyn Explain>> {
        let Self { spec, rootfs, closure: _, plan, config, report } = self;
        let is_in_cache = cache.is_some_and(|cache| cache.layout().path() == layout.path());
        let failed = |error| match error {
            // A place that the user did not name, and need not use.
            LayerError::Layout(error) if is_in_cache => boxed(CacheError::Layout(error)),
            error => boxed(error),
        };
        let layers =
            layer::write(plan, &**rootfs, spec.epoch, &spec.layers, layout, cache).map_err(failed)?;
        info!(layers = layers.len(), "layers written");
        let annotations = &spec.config.annotations;
        let image =
            image::assemble(&layers, config.clone(), annotations, spec.epoch, layout).map_err(boxed)?;
        summary::say(report, &layers, console);
        Ok(image)
    }
}

pub(super) fn run(arguments: &BuildArguments, console: &mut Console) -> Outcome {
    let sources = arguments.source.each().map_err(boxed)?;
    let specs = sources.iter().map(|source| spec(arguments, source));
    let specs = specs.collect::<Result<Vec<_>, _>>()?;
    let is_for_several = sources.len() > 1;
    if is_for_several && arguments.report.is_some() {
        return Err(boxed(UsageError::ReportOfOne));
    }
    if is_for_several && arguments.outputs.iter().any(|output| matches!(output, OutputSpec::Files(_))) {
        return Err(boxed(UsageError::FilesOfOne));
    }
    let names = names(arguments)?;
    if !arguments.dry_run {
        arguments.results.clear()?;
    }
    let runtime = runtime()?;
    let progress = Progress::new(arguments.registry.progress);
    let connection = Connection { arguments: &arguments.registry, observer: &progress };
    let targets = targets(arguments, &specs, &names, &runtime, &connection)?;
    let cache = cache::open(&arguments.cache, console);

    let means = Means { cache: cache.as_ref(), connection: &connection, runtime: &runtime };
    let heading = |source: &SourceArguments, console: &mut Console| {
        if let Some(platform) = source.platform().filter(|_| is_for_several) {
            console.say(&format!("{}:", platform::shown(platform)));
        }
    };
    let mut parts = Vec::new();
    for (source, spec) in sources.iter().zip(specs) {
        let part = Part::plan(arguments, source, spec, &means);
        parts.push(part.inspect_err(|_| heading(source, console))?);
    }
    if let ([part], Some(file)) = (parts.as_slice(), &arguments.report) {
        reports::write(&part.report, file)?;
    }
    if arguments.dry_run {
        return sources.iter().zip(&parts).try_for_each(|(source, part)| {
            heading(source, console);
            print(&part.report, arguments.format, console)
        });
    }

    for output in &arguments.outputs {
        let (OutputSpec::Files(files), [part]) = (output, parts.as_slice()) else { continue };
        let written = files.write(&part.closure, &*part.rootfs, part.spec.epoch)?;
        console.say(&format!("  to {}", files.path().display()));
        written.map_or(Ok(()), |digest| console.line(&digest.to_string()))?;
    }
    if targets.is_empty() {
        return Ok(());
    }
    let workplace = Workplace::choose(&targets, cache.as_ref(), &layer_options(arguments).map_err(boxed)?)?;
    let layout = &workplace.layout;
    let mut images = Vec::new();
    for (source, part) in sources.iter().zip(&parts) {
        heading(source, console);
        images.push((part.write(layout, cache.as_ref(), console)?, part.config.clone()));
    }
    let image = match images.as_slice() {
        [(image, _)] => image.clone(),
        several => image::index(several, layout).map_err(boxed)?,
    };

    let mut said = HashSet::new();
    for target in targets {
        let image = match target.takes {
            Takes::Everything => image.clone(),
            Takes::OwnPlatform => load::for_engine(layout, &image, &platform::host(), console)?,
        };
        let outcome = target.destination.publish(layout, &image, &names);
        if let Ok(published) = &outcome {
            info!(digest = %published.digest, place = %target.place, "image published");
            console.say(&format!("  to {}", target.place));
        }
        for line in arrived(&outcome) {
            if said.insert(line.clone()) {
                console.line(&line)?;
            }
        }
        outcome.map_err(boxed)?;
        // The one remembered last is the one that `why` speaks of: of several, the first.
        for (part, (image, _)) in parts.iter().zip(&images).rev() {
            reports::remember(&part.report, layout.digest_of(image).map_err(boxed)?);
        }
    }
    let finished = Finished { layout, image: &image, platforms: &images, names: &names };
    arguments.results.write(&finished)?;
    if arguments.attach_report {
        for (part, (image, _)) in parts.iter().zip(&images) {
            attach(&part.report, image, layout, &names, &connection, &runtime)?;
        }
    }
    if let Some(cache) = &cache {
        cache::trim(cache);
    }
    Ok(())
}

/// Attaches the report to the image in each of its repositories.
fn attach(
    closure_report: &ClosureReport,
    image: &Descriptor,
    layout: &Layout,
    names: &[Reference],
    connection: &Connection<'_>,
    runtime: &Runtime,
) -> Outcome {
    let document = closure_report.to_json();
    let artifact = image::attach(document.as_bytes(), MEDIA_TYPE, image, layout).map_err(boxed)?;
    let digest = layout.digest_of(&artifact).map_err(boxed)?;
    let places = names.iter().map(|name| name.with_digest(digest)).collect::<Vec<_>>();
    let client = connection.client();
    let pushed = client.push(layout, &artifact, &places, connection.observer);
    runtime.block_on(pushed).map(drop).map_err(boxed)
}

/// Prints what would be in the image.
fn print(closure_report: &ClosureReport, format: Format, console: &mut Console) -> Outcome {
    if format == Format::Json {
        return console.line(&closure_report.to_json());
    }
    for entry in &closure_report.entries {
        let target = entry.target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
        let why = closure_report.why(&entry.path);
        let why = why.first().map(|demand| demand.text.as_str()).unwrap_or_default();
        let EntryRecord { path, mode, uid, gid, size, .. } = entry;
        console.line(&format!("{mode} {uid}:{gid} {size:>10} {path}{target}  # {why}"))?;
    }
    Ok(())
}

/// Returns everything that the bytes of the image depend on.
fn spec(arguments: &BuildArguments, from: &SourceArguments) -> Result<BuildSpec, Box<dyn Explain>> {
    let mut seen = HashSet::new();
    let programs = arguments.programs.iter().filter(|program| seen.insert(*program));
    let programs = programs.map(|program| from.root(program));
    let mut roots: Vec<_> = programs.collect();
    roots.extend(arguments.selection.roots(from)?);
    let selection = arguments.selection.selection(from)?;
    let rules = arguments.selection.rule_texts()?;
    let source = from.source().cloned().unwrap_or_else(|| Source::Path("/".into()));
    let epoch = match std::env::var_os("SOURCE_DATE_EPOCH") {
        None => Epoch::default(),
        Some(value) => match value.to_str() {
            Some(text) => Epoch::parse(text).map_err(boxed)?,
            None => return Err(boxed(UsageError::EpochNotText)),
        },
    };
    let platform = from.platform().map(platform::shown);
    let config = ConfigEdits { platform, ..arguments.config.edits(&arguments.arguments)? };
    roots.extend(config.roots_of_command(&roots));
    let search = search(arguments, from, None, &config);
    let layers = layer_options(arguments).map_err(boxed)?;
    Ok(BuildSpec { source, roots, search, selection, rules, config, epoch, layers })
}

fn search(
    arguments: &BuildArguments,
    source: &SourceArguments,
    path: Option<&[RawPath]>,
    config: &ConfigEdits,
) -> Search {
    let libc = arguments.layers.libc_files();
    let environment = config.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    Search { hints: Hints::Find, libc, ..source.search(path) }.with_environment(environment)
}

fn layer_options(arguments: &BuildArguments) -> Result<LayerOptions, LevelError> {
    let algorithm = match arguments.compression {
        Some(name) => name.into(),
        // An engine unpacks layers as soon as it has them: compressing them first only takes time.
        None if is_only_loaded(arguments) => Algorithm::None,
        None => Algorithm::default(),
    };
    let compression = match arguments.compression_level {
        Some(level) => Compression::at_level(algorithm, level)?,
        None => algorithm.into(),
    };
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Ok(LayerOptions { layering: arguments.layers, compression, threads })
}

/// Returns whether the image goes into engines of this machine, and nowhere else.
fn is_only_loaded(arguments: &BuildArguments) -> bool {
    let pushes = arguments.push.is_some() || arguments.push_if_changed.is_some();
    let is_engine = |output: &OutputSpec| matches!(output, OutputSpec::Engine(_));
    let loads = arguments.load.is_some() || !arguments.outputs.is_empty();
    loads && !pushes && arguments.outputs.iter().all(is_engine)
}

/// Returns the names of the image: the tags, and the value of `--push`.
fn names(arguments: &BuildArguments) -> Result<Vec<Reference>, Box<dyn Explain>> {
    let mut names = arguments.tags.clone();
    if let Some(reference) = arguments.pushed_to() {
        names.push(reference.parse::<Reference>().map_err(boxed)?);
    }
    let is_pushed = arguments.push.is_some() || arguments.push_if_changed.is_some();
    let pushes = is_pushed || arguments.outputs.contains(&OutputSpec::Registry);
    if let Some(name) = names.iter().find(|name| name.digest().is_some()) {
        return Err(boxed(UsageError::DigestInName { name: name.clone() }));
    }
    if arguments.attach_report && !pushes {
        return Err(boxed(UsageError::AttachWhere));
    }
    if pushes && names.is_empty() {
        return Err(boxed(UsageError::PushWhere));
    }
    Ok(names)
}

/// Returns where the image goes: to a file in the working directory, if nothing is said.
fn targets<'a>(
    arguments: &BuildArguments,
    specs: &[BuildSpec],
    names: &[Reference],
    runtime: &'a Runtime,
    connection: &Connection<'a>,
) -> Result<Vec<Target<'a>>, Box<dyn Explain>> {
    let mut outputs = arguments.outputs.clone();
    if arguments.push.is_some() || arguments.push_if_changed.is_some() {
        outputs.push(OutputSpec::Registry);
    }
    if let Some(engine) = arguments.load {
        outputs.push(OutputSpec::Engine(engine));
    }
    if outputs.is_empty() {
        outputs.push(OutputSpec::Archive { path: None, kind: ArchiveKind::OciAndDocker });
    }
    let mut seen = HashSet::new();
    outputs.retain(|output| seen.insert(output.clone()));
    let takes = Takes::Everything;
    let archive_name = || PathBuf::from(format!("{}.oci.tar", image_name(specs, names)));
    let targets: Result<Vec<Target<'a>>, Box<dyn Explain>> = outputs
        .iter()
        .filter_map(|output| match output {
            OutputSpec::Archive { path, kind } => {
                let path = path.clone().unwrap_or_else(archive_name);
                let (place, kind) = (path.display().to_string(), *kind);
                let destination = Box::new(Archive { path, kind });
                Some(Ok(Target { destination, place, layout: None, takes }))
            }
            OutputSpec::Directory { path } => {
                let place = path.display().to_string();
                let destination = Box::new(LayoutDirectory { path: path.clone() });
                Some(Ok(Target { destination, place, layout: Some(path.clone()), takes }))
            }
            OutputSpec::Registry => {
                let (client, observer) = (connection.client(), connection.observer);
                let mode = match arguments.push_if_changed {
                    Some(_) => PushMode::IfChanged,
                    None => PushMode::Always,
                };
                let destination = Box::new(Registry { client, runtime, observer, mode });
                let place = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                Some(Ok(Target { destination, place, layout: None, takes }))
            }
            OutputSpec::Engine(name) => Some(load::engine(*name, runtime).map(|engine| {
                let Engine { destination, place } = engine;
                Target { destination, place, layout: None, takes: Takes::OwnPlatform }
            })),
            // No images.
            OutputSpec::Files(_) => None,
        })
        .collect();
    let targets = targets?;
    let files = outputs.iter().filter_map(|output| match output {
        OutputSpec::Files(files) => Some(files.path().display().to_string()),
        _ => None,
    });
    let mut places = HashSet::new();
    let all = targets.iter().map(|target| target.place.clone()).chain(files);
    match all.into_iter().find(|place| !places.insert(place.clone())) {
        Some(place) => Err(boxed(UsageError::SamePlace { place })),
        None => Ok(targets),
    }
}

/// Returns what the image is called on disk: the last part of its first name, else its first program.
fn image_name(specs: &[BuildSpec], names: &[Reference]) -> String {
    if let Some(name) = names.first() {
        return name.short_name().to_owned();
    }
    let program = specs.first().and_then(|spec| spec.roots.first()?.keep.path());
    match program.and_then(|path| path.as_bytes().rsplit(|byte| *byte == b'/').next()) {
        Some(name) if !name.is_empty() => crate::path::show(name).replace('/', "_"),
        _ => "image".to_owned(),
    }
}
