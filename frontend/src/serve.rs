//! A build as the daemon asks for it -> its result: the stock frontend's, with our step on top.

use std::fs;
use std::io;

use minimage::explain::Explain;
use minimage::oci::Reference as ImageReference;
use minimage::spec::{Epoch, EpochError};
use prost::Message;
use thiserror::Error;

use crate::config::{self, ConfigError, ImageConfig};
use crate::gateway::{Gateway, GatewayError, base64};
use crate::llb::{Graph, Keys, LlbError, PartKind, Reuse, Step};
use crate::options::Options;
use crate::proto::{
    Any, Definition, Input, Pair, PingResponse, Platform, Position, Range, Reference, References,
    SolveRequest, SolveResult, SourceInfo, Status, WarnRequest, put, value,
};
use crate::request::{
    Asked, BASE, Copied, Finding, META, OUTCOME, OUTPUT, Outcome, Request, STAGES, Stage, StageKind, TARGET,
    What,
};
use crate::settings::{self, Mode, Settings, Wrong};

/// The frontend that knows Dockerfiles.
const STOCK: &str = "dockerfile.v0";
/// Where the daemon puts the definition of our own image.
const OWN_DEFINITION: &str = "/run/config/buildkit/metadata/frontend.bin";
/// The first part of the key of an image config in a result.
const CONFIG: &str = "containerimage.config";
/// What a daemon must be able to do.
const NEEDED: [&str; 4] = ["return", "proto.refarray", "reference.output", "readfile"];
/// `INVALID_ARGUMENT` of gRPC: asking again will not help.
const INVALID_ARGUMENT: i32 = 3;
/// `UNIMPLEMENTED` of gRPC.
const UNIMPLEMENTED: i32 = 12;
/// `INTERNAL` of gRPC.
const INTERNAL: i32 = 13;

/// Why a build has no result.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ServeError {
    /// The daemon, or what it runs for us, fails.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// The definition makes no sense.
    #[error(transparent)]
    Llb(#[from] LlbError),
    /// The stock frontend's config makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The epoch is none.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The daemon is too old.
    #[error("this BuildKit lacks `{capability}`, which minimage needs; update it")]
    Capability {
        /// What it would have to be able to do.
        capability: &'static str,
    },
    /// We do not know our own image.
    #[error("cannot find out which image this frontend is from")]
    OwnImage,
    /// The definition of our own image cannot be read.
    #[error("cannot read `{OWN_DEFINITION}`")]
    OwnDefinition {
        /// What the system says.
        source: io::Error,
    },
    /// The definition of our own image is none.
    #[error("`{OWN_DEFINITION}` is broken")]
    OwnDefinitionBroken {
        /// What is wrong.
        source: prost::DecodeError,
    },
    /// The step and we do not understand each other.
    #[error("the step inside the build and the frontend are of different versions")]
    Outcome {
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The files have problems.
    #[error("{}", .0.message)]
    Findings(Box<Status>),
}

impl ServeError {
    /// Returns the error as the daemon takes it.
    pub(crate) fn into_status(self) -> Status {
        match self {
            // With the details, from which clients show the lines of the build file.
            Self::Gateway(GatewayError::Status(status)) => status,
            Self::Findings(status) => *status,
            error => {
                let code = match error {
                    Self::Capability { .. } => UNIMPLEMENTED,
                    Self::Epoch(_) => INVALID_ARGUMENT,
                    _ => INTERNAL,
                };
                let mut message = format!("minimage: {error}");
                let mut cause = std::error::Error::source(&error);
                while let Some(error) = cause {
                    message += &format!(": {error}");
                    cause = error.source();
                }
                Status { code, message, details: Vec::new() }
            }
        }
    }
}

/// Builds what `options` ask for.
pub(crate) fn build(gateway: &Gateway, options: &Options) -> Result<SolveResult, ServeError> {
    let daemon = gateway.ping()?;
    for capability in NEEDED {
        if !has_frontend_cap(&daemon, capability) {
            return Err(ServeError::Capability { capability });
        }
    }
    let inputs = gateway.inputs()?.definitions;
    let stock = gateway.solve(SolveRequest {
        frontend: STOCK.to_owned(),
        options: options.forwarded(),
        cache_imports: options.cache_imports(),
        inputs,
        ..SolveRequest::default()
    })?;
    if options.value("requestid").is_some() {
        return Ok(stock);
    }
    Build { gateway, options, daemon }.minimised(stock)
}

fn has_frontend_cap(daemon: &PingResponse, id: &str) -> bool {
    daemon.frontend_caps.iter().any(|cap| cap.id == id && cap.enabled)
}

fn has_llb_cap(daemon: &PingResponse, id: &str) -> bool {
    daemon.llb_caps.iter().any(|cap| cap.id == id && cap.enabled)
}

/// Returns the error that says what is wrong with settings.
fn wrong_settings(wrong: Vec<Wrong>, file: Option<&SourceInfo>) -> ServeError {
    let instructions = config::Instructions::of(file);
    let finding = |wrong: &Wrong| {
        let texts: Vec<String> = wrong.error.explain().iter().map(ToString::to_string).collect();
        Finding { lines: instructions.line_with(&wrong.given.spelled), text: texts.join("\n") }
    };
    let findings: Vec<Finding> = wrong.iter().map(finding).collect();
    ServeError::Findings(Box::new(status(&findings, file)))
}

/// One image as the stock frontend has it.
struct StockImage {
    /// The name of the platform in the result; empty if there is only one.
    platform: String,
    config_key: String,
    config: ImageConfig,
    epoch: Epoch,
    graph: Graph,
    settings: Settings,
}

struct Build<'a> {
    gateway: &'a Gateway,
    options: &'a Options,
    daemon: PingResponse,
}

impl Build<'_> {
    /// Returns the result whose images, one for each platform, are what is left of those of `stock`.
    fn minimised(&self, stock: SolveResult) -> Result<SolveResult, ServeError> {
        let images = self.images(&stock)?;
        if images.iter().any(|image| image.settings.mode == Mode::Off) {
            return Ok(stock);
        }
        let mut result = SolveResult {
            metadata: stock
                .metadata
                .iter()
                .filter(|pair| pair.key == "refs.platforms" || pair.key.starts_with("source.date.epoch"))
                .cloned()
                .collect(),
            ..SolveResult::default()
        };
        let mut minimised = References::default();
        let is_list = stock.references.is_some();
        for image in images {
            let key = image.config_key.clone();
            let platform = image.platform.clone();
            let (reference, config) = self.image(image)?;
            put(&mut result.metadata, &key, config.to_bytes()?);
            match is_list {
                true => minimised.references.push(Pair::new(platform, reference.encode_to_vec())),
                false => result.reference = Some(reference),
            }
        }
        result.references = is_list.then_some(minimised);
        Ok(result)
    }

    /// Returns the images in `stock`, each with what the user wants of it.
    fn images(&self, stock: &SolveResult) -> Result<Vec<StockImage>, ServeError> {
        let mut references = Vec::new();
        match &stock.references {
            Some(list) => {
                for pair in &list.references {
                    let reference =
                        Reference::decode(pair.bytes()).map_err(|source| LlbError::Operation { source })?;
                    references.push((pair.key.clone(), reference));
                }
            }
            None => references.push((String::new(), stock.reference.clone().unwrap_or_default())),
        }
        references
            .into_iter()
            .map(|(platform, reference)| {
                let key = |prefix: &str| match platform.as_str() {
                    "" => prefix.to_owned(),
                    platform => format!("{prefix}/{platform}"),
                };
                let config_key = key(CONFIG);
                let config = value(&stock.metadata, &config_key).unwrap_or_default();
                let mut config = ImageConfig::parse(config)?;
                let epoch = match value(&stock.metadata, &key("source.date.epoch")) {
                    Some(text) => Some(Epoch::parse(&String::from_utf8_lossy(text))?),
                    None => self.options.epoch()?,
                };
                let graph = Graph::read(reference.definition.clone().unwrap_or_default())?;
                let given = settings::given(self.options, config.take_settings());
                let settings =
                    Settings::of(given).map_err(|wrong| wrong_settings(wrong, graph.build_file()))?;
                let epoch = epoch.unwrap_or_default();
                Ok(StockImage { platform, config_key, config, epoch, graph, settings })
            })
            .collect()
    }

    /// Returns what is left of one image.
    fn image(&self, image: StockImage) -> Result<(Reference, ImageConfig), ServeError> {
        let StockImage { mut config, epoch, graph, settings, .. } = image;
        let output = match graph.head().cloned() {
            Some(head) => Some(self.step(graph, &head, &config, epoch, settings)?),
            None => None,
        };
        config.replace_layers(epoch, usize::from(output.is_some()));
        Ok((output.unwrap_or_default(), config))
    }

    /// Adds the step for the tree at `head` and runs it. Returns the tree with what is left.
    fn step(
        &self,
        mut graph: Graph,
        head: &Input,
        config: &ImageConfig,
        epoch: Epoch,
        settings: Settings,
    ) -> Result<Reference, ServeError> {
        let Planned { request, stages, base } = plan(&graph, head, config, epoch, settings)?;
        let file = graph.build_file().cloned();
        let lines: Vec<Range> = request.roots.iter().filter_map(|asked| range(asked.lines)).collect();
        let count = request.roots.len();
        let roots = if count == 1 { "1 root".to_owned() } else { format!("{count} roots") };
        let name = format!("[minimage] resolve {roots} of {}", request.target);
        let image = self.own_image(&mut graph)?;
        let program = std::env::current_exe().unwrap_or_else(|_| "/minimage-frontend".into());
        let mut arguments = vec![program.to_string_lossy().into_owned(), "step".to_owned()];
        arguments.extend(request.to_arguments().map_err(|source| ServeError::Outcome { source })?);
        let mut mounts = vec![(head.clone(), TARGET.to_owned())];
        mounts.extend(base.map(|base| (base, BASE.to_owned())));
        for (index, stage) in stages.into_iter().enumerate() {
            mounts.push((stage, format!("{STAGES}/{index}")));
        }
        let has_keys = has_llb_cap(&self.daemon, "exec.mount.cache.content");
        let step = graph.add_step(Step {
            image,
            arguments,
            mounts,
            outputs: vec![OUTPUT.to_owned(), META.to_owned()],
            platform: self.platform(),
            name,
            reuse: if self.options.forbids_reuse() { Reuse::Forbidden } else { Reuse::Allowed },
            keys: if has_keys { Keys::Definitions } else { Keys::Contents },
            ranges: lines,
        });
        let meta = self.solve(graph.definition_of(&Input { index: 1, ..step.clone() }))?;
        let outcome = self.gateway.read_file(&meta.id, &format!("/{OUTCOME}"))?;
        let outcome: Outcome =
            serde_json::from_slice(&outcome).map_err(|source| ServeError::Outcome { source })?;
        if !outcome.problems.is_empty() {
            return Err(ServeError::Findings(Box::new(status(&outcome.problems, file.as_ref()))));
        }
        let mut warnings = outcome.warnings;
        if self.options.withheld().is_some() {
            let text = "no SBOM is attached: the scanner would describe what is not in the image".to_owned();
            warnings.push(Finding { lines: (0, 0), text });
        }
        self.warn(&warnings, file.as_ref())?;
        self.solve(graph.definition_of(&step))
    }

    fn solve(&self, definition: Definition) -> Result<Reference, ServeError> {
        let result = self.gateway.solve(SolveRequest {
            definition: Some(definition),
            cache_imports: self.options.cache_imports(),
            ..SolveRequest::default()
        })?;
        Ok(result.reference.unwrap_or_default())
    }

    /// Returns the machine that builds.
    fn platform(&self) -> Platform {
        let first = self.daemon.workers.first().and_then(|worker| worker.platforms.first());
        first.cloned().unwrap_or_else(|| Platform {
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            ..Platform::default()
        })
    }

    /// Adds the image that we are from to `graph`.
    fn own_image(&self, graph: &mut Graph) -> Result<Input, ServeError> {
        match fs::read(OWN_DEFINITION) {
            Ok(bytes) => {
                let own = Definition::decode(bytes.as_slice())
                    .map_err(|source| ServeError::OwnDefinitionBroken { source })?;
                let own = Graph::read(own)?;
                let head = own.head().cloned().ok_or(ServeError::OwnImage)?;
                graph.join(own);
                Ok(head)
            }
            // BuildKit of 2020 and before tells the name only.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name = self.options.value("source").ok_or(ServeError::OwnImage)?;
                let name = name.parse::<ImageReference>().map_err(|_| ServeError::OwnImage)?;
                Ok(graph.add_image(&name.to_string(), self.platform()))
            }
            Err(source) => Err(ServeError::OwnDefinition { source }),
        }
    }

    /// Shows `warnings` beside the loading of the build file, if the daemon can.
    fn warn(&self, warnings: &[Finding], file: Option<&SourceInfo>) -> Result<(), ServeError> {
        if !has_frontend_cap(&self.daemon, "gateway.warnings") {
            return Ok(());
        }
        let vertex = file.and_then(|file| file.definition.as_deref());
        let vertex = vertex.and_then(|bytes| Graph::read(Definition::decode(bytes).ok()?).ok());
        let Some(vertex) = vertex.and_then(|graph| graph.head().cloned()) else { return Ok(()) };
        for warning in warnings {
            self.gateway.warn(&WarnRequest {
                digest: vertex.digest.clone(),
                level: 1,
                short: warning.text.clone().into_bytes(),
                info: file.cloned(),
                ranges: range(warning.lines).into_iter().collect(),
                ..WarnRequest::default()
            })?;
        }
        Ok(())
    }
}

/// What the step is told, and the trees that it needs for that.
struct Planned {
    request: Request,
    stages: Vec<Input>,
    base: Option<Input>,
}

/// Returns what the step needs for the tree at `head`.
fn plan(
    graph: &Graph,
    head: &Input,
    config: &ImageConfig,
    epoch: Epoch,
    settings: Settings,
) -> Result<Planned, ServeError> {
    let target = graph.target(head)?;
    let mut stages: Vec<(Input, Stage)> = Vec::new();
    let mut roots = Vec::new();
    let file = graph.build_file();
    let instructions = config::Instructions::of(file);
    for part in target.parts {
        let lines = lines(&graph.ranges(&part.digest));
        let text = instructions.text(lines).unwrap_or_else(|| graph.name(&part.digest).unwrap_or_default());
        let what = match part.kind {
            PartKind::Made(path) => What::Made(path),
            PartKind::Copied { from, copy } => {
                let known = stages.iter().position(|(input, _)| *input == from);
                let stage = match known {
                    Some(stage) => stage,
                    None => {
                        let is_rootfs = graph.is_rootfs(&from)?;
                        let kind = if is_rootfs { StageKind::Rootfs } else { StageKind::Files };
                        stages.push((from.clone(), Stage { name: graph.stage_name(&from), kind }));
                        stages.len() - 1
                    }
                };
                What::Copied(Copied {
                    stage,
                    from: copy.src,
                    to: copy.dest,
                    is_pattern: copy.allow_wildcard,
                    unpacks: copy.attempt_unpack,
                    includes: copy.include_patterns,
                    excludes: copy.exclude_patterns,
                })
            }
        };
        roots.push(Asked { what, text, lines });
    }
    roots.extend(config.roots(&instructions));
    let (inputs, stages) = stages.into_iter().unzip();
    let unpacks = |asked: &Asked| matches!(&asked.what, What::Copied(copied) if copied.unpacks);
    let base = target.base.filter(|_| target.was_run || roots.iter().any(unpacks));
    let request = Request {
        settings,
        has_base: base.is_some(),
        was_run: target.was_run,
        epoch: epoch.seconds(),
        target: graph.target_name(head),
        stages,
        roots,
        user: config.user(),
        path: config.path(),
        file: file.map_or_else(|| "Dockerfile".to_owned(), |file| file.filename.clone()),
    };
    Ok(Planned { request, stages: inputs, base })
}

/// Returns the first and the last line of `ranges`; zeros if there are none.
fn lines(ranges: &[Range]) -> (i32, i32) {
    let line = |position: &Option<Position>| position.as_ref().map_or(0, |position| position.line);
    let first = ranges.iter().map(|range| line(&range.start)).min().unwrap_or(0);
    let last = ranges.iter().map(|range| line(&range.end)).max().unwrap_or(0);
    (first, last.max(first))
}

fn range((first, last): (i32, i32)) -> Option<Range> {
    let position = |line| Some(Position { line, character: 0 });
    (first > 0).then(|| Range { start: position(first), end: position(last) })
}

/// Returns the error that says all of `problems`, and shows the lines that they are about.
fn status(problems: &[Finding], file: Option<&SourceInfo>) -> Status {
    let mut texts: Vec<&str> = problems.iter().map(|problem| problem.text.as_str()).collect();
    texts.dedup();
    let mut lines: Vec<(i32, i32)> =
        problems.iter().map(|problem| problem.lines).filter(|lines| lines.0 > 0).collect();
    lines.sort_unstable();
    lines.dedup();
    let detail = file.filter(|_| !lines.is_empty()).map(|file| {
        let ranges: Vec<_> = lines
            .iter()
            .map(|(first, last)| serde_json::json!({"start": {"line": first}, "end": {"line": last}}))
            .collect();
        let info = serde_json::json!({
            "filename": file.filename,
            "data": base64(&file.data),
            "language": file.language,
        });
        let value = serde_json::json!({ "info": info, "ranges": ranges });
        Any {
            type_url: "github.com/moby/buildkit/errdefs.Source+json".to_owned(),
            value: value.to_string().into_bytes(),
        }
    });
    Status { code: INVALID_ARGUMENT, message: texts.join("\n"), details: detail.into_iter().collect() }
}
