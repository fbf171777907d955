//! One build that a daemon asks for: the images of the stock frontend, our step on top of each, and the result of all.

use std::fs;
use std::io;
use std::rc::Rc;

use minimage::oci::Reference as ImageReference;
use minimage::spec::{Epoch, EpochError};
use prost::Message;
use serde::Serialize;
use thiserror::Error;

use crate::blame::{self, range};
use crate::config::{ConfigError, ImageConfig};
use crate::gateway::{Gateway, GatewayError};
use crate::inputs::Inputs;
use crate::llb::{Graph, Keys, LlbError, Over, Reuse, Step};
use crate::options::Options;
use crate::proto::{
    Definition, Input, Pair, PingResponse, Platform, Range, Reference, References, SolveRequest, SolveResult,
    SourceInfo, Status, WarnRequest, put, value,
};
use crate::request::{self, Finding, META, OUTCOME, OUTPUT, Outcome};
use crate::variables::{Variables, of_platform};

/// What clients call the directory with the build file.
pub(crate) const LOCAL: &str = "dockerfile";
/// The frontend that knows Dockerfiles.
pub(crate) const STOCK: &str = "dockerfile.v0";
/// Where the daemon puts the definition of our own image.
const OWN_DEFINITION: &str = "/run/config/buildkit/metadata/frontend.bin";
/// The first part of the key of an image config in a result.
const CONFIG: &str = "containerimage.config";
/// What a daemon must be able to do.
const NEEDED: [&str; 6] = ["return", "proto.refarray", "reference.output", "readfile", "readdir", "statfile"];
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
    /// What the client passed in is nothing that can be built.
    #[error("what the client passes in by name cannot be read")]
    Input {
        /// What is wrong.
        source: prost::DecodeError,
    },
    /// The project file is far away.
    #[error(
        "this BuildKit reads a project file from a directory of the client only: check its repository out first"
    )]
    RemoteProject,
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
                    Self::Epoch(_) | Self::RemoteProject => INVALID_ARGUMENT,
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

/// One image as the stock frontend has it.
pub(crate) struct StockImage {
    /// The name of the platform in the result; empty if there is only one.
    pub(crate) platform: String,
    pub(crate) config_key: String,
    pub(crate) config: ImageConfig,
    pub(crate) epoch: Epoch,
    pub(crate) graph: Graph,
}

/// What is left of one image: its tree and its config.
pub(crate) type Minimised = (Reference, ImageConfig);

/// One build, as the daemon asks for it.
pub(crate) struct Build<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) options: &'a Options,
    pub(crate) inputs: Rc<Inputs>,
    daemon: PingResponse,
}

/// Something for the step to do.
pub(crate) struct Task {
    /// What people read while it is done.
    pub(crate) name: String,
    /// The first word for our own program, which says what to do, and what follows it.
    pub(crate) words: Vec<String>,
    /// What is mounted read-only, and where.
    pub(crate) mounts: Vec<(Input, String)>,
    /// The lines of the build file to show if it fails.
    pub(crate) ranges: Vec<Range>,
}

impl<'a> Build<'a> {
    /// Returns a build by the daemon behind `gateway`, if that is able to.
    pub(crate) fn new(gateway: &'a Gateway, options: &'a Options) -> Result<Self, ServeError> {
        let daemon = gateway.ping()?;
        for capability in NEEDED {
            if !has_frontend_cap(&daemon, capability) {
                return Err(ServeError::Capability { capability });
            }
        }
        let inputs = Inputs::read(gateway.inputs()?.definitions);
        let inputs = Rc::new(inputs.map_err(|source| ServeError::Input { source })?);
        Ok(Self { gateway, options, inputs, daemon })
    }

    /// Returns the result whose images are what `minimise` makes of `images`, those of `stock`.
    pub(crate) fn result(
        &self,
        stock: &SolveResult,
        images: Vec<StockImage>,
        mut minimise: impl FnMut(StockImage) -> Result<Minimised, ServeError>,
    ) -> Result<SolveResult, ServeError> {
        let is_kept =
            |pair: &&Pair| pair.key == "refs.platforms" || pair.key.starts_with("source.date.epoch");
        if self.options.withheld().is_some() {
            let text = "the SBOM is of the image that is left: no stages are scanned".to_owned();
            let file = images.first().and_then(|image| image.graph.build_file());
            self.warn(&[Finding { lines: (0, 0), text }], file)?;
        }
        let metadata = stock.metadata.iter().filter(is_kept).cloned().collect();
        let mut result = SolveResult { metadata, ..SolveResult::default() };
        let mut minimised = References::default();
        let is_list = stock.references.is_some();
        for image in images {
            let key = image.config_key.clone();
            let platform = image.platform.clone();
            let (reference, config) = minimise(image)?;
            put(&mut result.metadata, &key, config.to_bytes()?);
            match is_list {
                true => minimised.references.push(Pair::new(platform, reference.encode_to_vec())),
                false => result.reference = Some(reference),
            }
        }
        result.references = is_list.then_some(minimised);
        Ok(result)
    }

    /// Returns the images in `stock`.
    pub(crate) fn images(&self, stock: &SolveResult) -> Result<Vec<StockImage>, ServeError> {
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
                let config = ImageConfig::parse(config)?;
                let epoch = match value(&stock.metadata, &key("source.date.epoch")) {
                    Some(text) => Some(Epoch::parse(&String::from_utf8_lossy(text))?),
                    None => self.options.epoch()?,
                };
                let definition = reference.definition.clone().unwrap_or_default();
                let graph = Graph::with_inputs(definition, Rc::clone(&self.inputs))?;
                let epoch = epoch.unwrap_or_default();
                Ok(StockImage { platform, config_key, config, epoch, graph })
            })
            .collect()
    }

    /// Adds a step that does `task` to `graph`. Returns the tree with the files of the image.
    pub(crate) fn add(&self, graph: &mut Graph, task: Task) -> Result<Input, ServeError> {
        let image = self.own_image(graph)?;
        let program = std::env::current_exe().unwrap_or_else(|_| "/minimage-frontend".into());
        let program = program.to_string_lossy().into_owned();
        let has_keys = has_llb_cap(&self.daemon, "exec.mount.cache.content");
        Ok(graph.add_step(Step {
            image,
            arguments: std::iter::once(program).chain(task.words).collect(),
            mounts: task.mounts,
            outputs: vec![OUTPUT.to_owned(), META.to_owned()],
            platform: self.platform(),
            name: task.name,
            reuse: if self.options.forbids_reuse() { Reuse::Forbidden } else { Reuse::Allowed },
            keys: if has_keys { Keys::Definitions } else { Keys::Contents },
            ranges: task.ranges,
        }))
    }

    /// Has the step that makes `tree` run, and returns what else it says. Its problems are the build's.
    pub(crate) fn hear(&self, graph: &Graph, tree: &Input) -> Result<Reference, ServeError> {
        let file = graph.build_file();
        let meta = self.solve(graph.definition_of(&Input { index: 1, ..tree.clone() }))?;
        let outcome = self.gateway.read_file(&meta.id, &format!("/{OUTCOME}"))?;
        let outcome: Outcome =
            serde_json::from_slice(&outcome).map_err(|source| ServeError::Outcome { source })?;
        if !outcome.problems.is_empty() {
            return Err(ServeError::Findings(Box::new(blame::status(&outcome.problems, file))));
        }
        self.warn(&outcome.warnings, file)?;
        Ok(meta)
    }

    /// Has the step run that makes `tree`, unless another builder ran it and left its files in a cache: what it said is not
    /// among them, and to hear it again would take the root filesystems. A step with problems makes no files.
    pub(crate) fn hear_unless_elsewhere(
        &self,
        graph: &Graph,
        tree: &Input,
        epoch: Epoch,
    ) -> Result<Reference, ServeError> {
        let made = self.solve(graph.definition_of(tree))?;
        let top = self.gateway.stat_file(&made.id, ".")?;
        // What is unpacked from a cache has the time of that.
        let is_of_here =
            top.modified == i64::try_from(epoch.seconds()).unwrap_or(0).saturating_mul(1_000_000_000);
        if is_of_here || self.gateway.read_dir(&made.id, "/")?.is_empty() {
            self.hear(graph, tree)?;
        }
        Ok(made)
    }

    /// Has the stock frontend build `dockerfile`, a text, as `options` say; nothing is run yet.
    pub(crate) fn dockerfile(
        &self,
        dockerfile: &str,
        options: Vec<Pair>,
    ) -> Result<SolveResult, GatewayError> {
        let mut instead = Graph::default();
        let file = instead.add_file("/Dockerfile", dockerfile.as_bytes());
        let mut inputs = self.inputs.definitions.clone();
        put(&mut inputs, LOCAL, instead.definition_of(&file).encode_to_vec());
        self.gateway.solve(SolveRequest {
            frontend: STOCK.to_owned(),
            options,
            cache_imports: self.options.cache_imports(),
            inputs,
            ..SolveRequest::default()
        })
    }

    /// Returns whether the stock frontend of this daemon knows named contexts; they are as old as `mergeop`.
    pub(crate) fn knows_contexts(&self) -> bool {
        has_llb_cap(&self.daemon, "mergeop")
    }

    /// Returns how this daemon can put a tree over another one.
    pub(crate) fn over(&self) -> Over {
        if has_llb_cap(&self.daemon, "mergeop") { Over::Merge } else { Over::Copy }
    }

    pub(crate) fn solve(&self, definition: Definition) -> Result<Reference, ServeError> {
        let result = self.gateway.solve(SolveRequest {
            definition: Some(definition),
            cache_imports: self.options.cache_imports(),
            ..SolveRequest::default()
        })?;
        Ok(result.reference.unwrap_or_default())
    }

    /// Returns the variables that the build file can name for an image for `target`: the client's arguments, and what the
    /// stock frontend says of platforms.
    pub(crate) fn variables(&self, target: &Platform) -> Variables {
        let client = self.options.with_prefix("build-arg:");
        let mut variables: Variables =
            client.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        variables.extend(of_platform("TARGET", target));
        variables.extend(of_platform("BUILD", &self.platform()));
        variables
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
    pub(crate) fn warn(&self, warnings: &[Finding], file: Option<&SourceInfo>) -> Result<(), ServeError> {
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

/// Returns the words that make our own program do `what` as `request` says.
pub(crate) fn words(what: &str, request: &impl Serialize) -> Result<Vec<String>, ServeError> {
    let arguments = request::to_arguments(request).map_err(|source| ServeError::Outcome { source })?;
    Ok(std::iter::once(what.to_owned()).chain(arguments).collect())
}

fn has_frontend_cap(daemon: &PingResponse, id: &str) -> bool {
    daemon.frontend_caps.iter().any(|cap| cap.id == id && cap.enabled)
}

fn has_llb_cap(daemon: &PingResponse, id: &str) -> bool {
    daemon.llb_caps.iter().any(|cap| cap.id == id && cap.enabled)
}
