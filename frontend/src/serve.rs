//! A build as the daemon asks for it -> its result: the stock frontend's, with our step on top.

use minimage::explain::Explain;
use minimage::spec::Epoch;

use crate::blame::{self, lines, range};
use crate::build::{Build, Minimised, STOCK, ServeError, StockImage, Task, words};
use crate::config::{self, ImageConfig};
use crate::gateway::Gateway;
use crate::llb::{Graph, PartKind};
use crate::options::Options;
use crate::project;
use crate::proto::{Input, Reference, SolveRequest, SolveResult, SourceInfo};
use crate::request::{Asked, BASE, Copied, Finding, Request, STAGES, Stage, StageKind, TARGET, What};
use crate::settings::{self, Base, Mode, Settings, Wrong};

/// Builds what `options` ask for.
pub(crate) fn build(gateway: &Gateway, options: &Options) -> Result<SolveResult, ServeError> {
    let build = Build::new(gateway, options)?;
    let inputs = gateway.inputs()?.definitions;
    let is_request = options.value("requestid").is_some();
    if let Some(name) = options.project_file().filter(|_| !is_request) {
        return project::build(&build, name, &inputs);
    }
    let stock = gateway.solve(SolveRequest {
        frontend: STOCK.to_owned(),
        options: options.forwarded(),
        cache_imports: options.cache_imports(),
        inputs,
        ..SolveRequest::default()
    })?;
    if is_request { Ok(stock) } else { build.minimised(stock) }
}

/// Returns the error that says what is wrong with settings.
fn wrong_settings(wrong: Vec<Wrong>, file: Option<&SourceInfo>) -> ServeError {
    let instructions = config::Instructions::of(file);
    let finding = |wrong: &Wrong| {
        let texts: Vec<String> = wrong.error.explain().iter().map(ToString::to_string).collect();
        Finding { lines: instructions.line_with(&wrong.given.spelled), text: texts.join("\n") }
    };
    let findings: Vec<Finding> = wrong.iter().map(finding).collect();
    ServeError::Findings(Box::new(blame::status(&findings, file)))
}

impl Build<'_> {
    /// Returns the result whose images, one for each platform, are what is left of those of `stock`.
    fn minimised(&self, stock: SolveResult) -> Result<SolveResult, ServeError> {
        let mut images = self.images(&stock)?;
        let mut all = Vec::new();
        for image in &mut images {
            let given = settings::given(self.options, image.config.take_settings());
            let file = image.graph.build_file();
            all.push(Settings::of(given).map_err(|wrong| wrong_settings(wrong, file))?);
        }
        if all.iter().any(|settings| settings.mode == Mode::Off) {
            return Ok(stock);
        }
        let mut all = all.into_iter();
        self.result(&stock, images, |image| self.image(image, all.next().unwrap_or_default()))
    }

    /// Returns what is left of one image.
    fn image(&self, image: StockImage, settings: Settings) -> Result<Minimised, ServeError> {
        let StockImage { mut config, epoch, graph, .. } = image;
        let base = settings.base;
        let tree = match graph.head().cloned() {
            Some(head) => Some(self.step(graph, &head, &config, epoch, settings)?),
            None => None,
        };
        match base {
            Base::Keep if tree.is_some() => config.add_layer(epoch),
            Base::Keep | Base::Minimise => config.replace_layers(epoch, usize::from(tree.is_some())),
        }
        Ok((tree.unwrap_or_default(), config))
    }

    /// Has the step make a tree of what is left of the one at `head`.
    fn step(
        &self,
        mut graph: Graph,
        head: &Input,
        config: &ImageConfig,
        epoch: Epoch,
        settings: Settings,
    ) -> Result<Reference, ServeError> {
        let base_is = settings.base;
        let Planned { request, stages, base } = plan(&graph, head, config, epoch, settings)?;
        let count = request.roots.len();
        let roots = if count == 1 { "1 root".to_owned() } else { format!("{count} roots") };
        let mut mounts = vec![(head.clone(), TARGET.to_owned())];
        mounts.extend(base.map(|base| (base, BASE.to_owned())));
        for (index, stage) in stages.into_iter().enumerate() {
            mounts.push((stage, format!("{STAGES}/{index}")));
        }
        let task = Task {
            name: format!("[minimage] resolve {roots} of {}", request.target),
            words: words("step", &request)?,
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
            let text = "the SBOM is of the image that is left: no stages are scanned".to_owned();
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
