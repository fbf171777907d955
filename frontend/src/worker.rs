//! The step inside the build: mounted root filesystems + the request -> the files of the image, and what to say.
//!
//! What is wrong with the files is an outcome, which BuildKit may keep like any other; only what is wrong with the
//! machine fails the step.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use minimage::closure::Content;
use minimage::explain::Spelling;
use minimage::image::{self, ImageError};
use minimage::layer::{self, DirectoryError, LayerPlan};
use minimage::path::RootPath;
use minimage::report::Report;
use minimage::resolve::TreeName;
use minimage::rootfs::{CachedRootfs, HostRootfs, Kind, Node, Rootfs, RootfsError, read_file};
use minimage::roots::Root;
use minimage::rules::{Catalogue, RuleFileError};
use minimage::spec::{Epoch, EpochError, Layering};
use minimage::summary::sensitive;
use thiserror::Error;

use crate::blame::{self, Said};
use crate::closure::{ClosureError, Wants, Within, closure};
use crate::minimise::{self, MinimiseError, Minimised};
use crate::project::Project;
use crate::request::{
    self, Asked, BASE, CONFIG, Finding, META, OUTCOME, OUTPUT, Outcome, ProjectRequest, REPORT, Request,
    STAGES, StageKind, TARGET,
};
use crate::settings::Base;
use crate::summary::{self, Count};

/// The largest file that is compared with one that minimage makes, in bytes.
const GENERATED_MAX: u64 = 64 << 20;

/// Why the step fails.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum StepError {
    /// Nobody should call it.
    #[error("the step is for the frontend to call")]
    Request {
        /// What is wrong with the arguments.
        source: serde_json::Error,
    },
    /// The epoch is none.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// Nobody knows what roots need.
    #[error(transparent)]
    Closure(#[from] ClosureError),
    /// Nobody knows what is to be in the image.
    #[error(transparent)]
    Minimise(#[from] MinimiseError),
    /// A root filesystem cannot be read.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The rules cannot be read.
    #[error(transparent)]
    Rules(#[from] RuleFileError),
    /// The image cannot be written.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A document cannot be written.
    #[error("cannot write `{path}`")]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Runs the step that `arguments` describe.
pub(crate) fn run(arguments: &[String]) -> Result<(), StepError> {
    let request: Request =
        request::from_arguments(arguments).map_err(|source| StepError::Request { source })?;
    let target = HostRootfs::open_directory(Path::new(TARGET))?.called(request.target.as_str());
    let mut counts = vec![Count::start(TARGET.into(), &request.target)];
    let mut stages = Vec::new();
    for (index, stage) in request.stages.iter().enumerate() {
        let directory = Path::new(STAGES).join(index.to_string());
        let name = format!("stage {}", stage.name);
        if stage.kind == StageKind::Rootfs {
            counts.push(Count::start(directory.clone(), &name));
        }
        stages.push(HostRootfs::open_directory(&directory)?.called(name));
    }
    let target = CachedRootfs::new(&target);
    let stages: Vec<CachedRootfs> = stages.iter().map(|stage| CachedRootfs::new(stage)).collect();
    let stages: Vec<&dyn Rootfs> = stages.iter().map(|stage| stage as &dyn Rootfs).collect();
    let base = match request.has_base {
        true => Some(HostRootfs::open_directory(Path::new(BASE))?.called("the base image")),
        false => None,
    };
    let base = base.as_ref().map(|base| base as &dyn Rootfs);
    let mut outcome = Outcome::default();
    if let Some(minimised) = minimise::minimised(&request, &target, base, &stages, &mut outcome)? {
        write_minimised(&request, &target, &minimised, counts, &mut outcome)?;
    }
    finish(&outcome)
}

/// Runs the step that `arguments` describe for a project file.
pub(crate) fn run_project(arguments: &[String]) -> Result<(), StepError> {
    let request = request::from_arguments(arguments).map_err(|source| StepError::Request { source })?;
    let ProjectRequest { epoch, from, settings, rules, path, platform, file } = request;
    let source = HostRootfs::open_directory(Path::new(TARGET))?.called(format!("`{from}`"));
    let source = CachedRootfs::new(&source);
    let counts = vec![Count::start(TARGET.into(), &format!("`{from}`"))];
    let Project { roots, choices, mut edits, warnings } = match Project::read(&settings, &file) {
        Ok(project) => project.with_path(&path),
        Err(problems) => return finish(&Outcome { problems, warnings: Vec::new() }),
    };
    edits.platform = platform;
    let mut outcome = Outcome { problems: Vec::new(), warnings };
    let said = Said {
        given: settings.into_iter().map(|told| told.given).collect(),
        spelling: Spelling::Keys,
        file: &file,
    };
    let wants = Wants { choices, rules: Catalogue::with(&rules)?, user: edits.user.clone(), said };
    let borrowed: Vec<(&Asked, Root)> = roots.iter().map(|(asked, root)| (asked, root.clone())).collect();
    let within = Within { rootfs: &source, name: TreeName::Source };
    let resolution = match closure(&within, &borrowed, &wants, wants.user.as_ref())? {
        Ok(resolution) => resolution,
        Err(problems) => {
            let findings = problems.into_iter().flat_map(|blamed| blamed.findings(&wants.said));
            outcome.problems = findings.collect();
            return finish(&outcome);
        }
    };
    let epoch = Epoch::parse(&epoch.to_string())?;
    match image::config(&resolution, &edits, epoch) {
        Ok(config) => {
            let json = serde_json::to_vec(&config).map_err(|source| StepError::Request { source })?;
            document(CONFIG, &json)?;
        }
        Err(error) => {
            // What an image is for is the business of where it is from.
            let from = wants.said.given.iter().rev().find(|given| given.name == "from");
            let lines = match error {
                ImageError::OtherPlatform { .. } => from.map_or((0, 0), |from| from.lines),
                _ => (0, 0),
            };
            outcome.problems = wants.said.findings(&error, lines);
            return finish(&outcome);
        }
    }
    let plan = layer::plan(&resolution.closure, Layering::Single);
    let report = Report::new(&from, &resolution, &plan, Spelling::Keys);
    write(&source, &report, &plan, epoch, Spelling::Keys, &mut outcome)?;
    say(&summary::lines(&file, &plan, &resolution.closure, &report, counts, &wants.said).join("\n"));
    finish(&outcome)
}

/// Says what came of the step: to the frontend, whose error problems become; warnings in the log, too, as old daemons
/// show them nowhere else.
fn finish(outcome: &Outcome) -> Result<(), StepError> {
    for text in blame::texts(&outcome.warnings) {
        say(text);
    }
    document(OUTCOME, &serde_json::to_vec(outcome).map_err(|source| StepError::Request { source })?)
}

/// Writes the files of the image, and why they are in it; adds what is worth knowing to `outcome`.
fn write(
    rootfs: &dyn Rootfs,
    report: &Report,
    plan: &LayerPlan,
    epoch: Epoch,
    spelling: Spelling,
    outcome: &mut Outcome,
) -> Result<(), StepError> {
    // Programs that miss what only they may read tend not to start.
    let warnings = report.warnings.iter().cloned().chain(sensitive(report, spelling));
    outcome.warnings.extend(warnings.map(|text| Finding { lines: (0, 0), text }));
    layer::write_dir(plan, rootfs, epoch, Path::new(OUTPUT))?;
    let path = Path::new(META).join(REPORT);
    let written = File::create(&path).and_then(|file| report.write_json(file));
    written.map_err(|source| StepError::Write { path, source })
}

/// Writes the image that `request` asks for, and says what is in it beside what was counted.
fn write_minimised(
    request: &Request,
    target: &dyn Rootfs,
    Minimised { completed, resolution }: &Minimised<'_>,
    counts: Vec<Count>,
    outcome: &mut Outcome,
) -> Result<(), StepError> {
    let epoch = Epoch::parse(&request.epoch.to_string())?;
    let mut plan = layer::plan(&resolution.closure, Layering::Single);
    if request.settings.base == Base::Keep {
        lacking(&mut plan, target, completed)?;
    }
    let report = Report::new(&request.target, resolution, &plan, Spelling::Labels);
    write(completed, &report, &plan, epoch, Spelling::Labels, outcome)?;
    let name = match request.settings.base {
        Base::Keep => format!("on top of {}", request.target),
        Base::Minimise => request.target.clone(),
    };
    let lines = summary::lines(&name, &plan, &resolution.closure, &report, counts, &minimise::said(request));
    say(&lines.join("\n"));
    Ok(())
}

/// Leaves of `plan` what `target` lacks or has otherwise, and the directories that this is in. What minimage would make
/// anew for the image alone is as `completed` has it: for all of the target.
fn lacking(plan: &mut LayerPlan, target: &dyn Rootfs, completed: &dyn Rootfs) -> Result<(), RootfsError> {
    for layer in &mut plan.layers {
        let mut wanted: BTreeSet<RootPath> = BTreeSet::new();
        for entry in &mut layer.entries {
            let there = target.lookup(&entry.path)?;
            let is_file = |node: &Option<Node>| node.as_ref().is_some_and(|node| node.kind == Kind::File);
            if let Content::Generated(bytes) = &mut entry.content
                && is_file(&completed.lookup(&entry.path)?)
            {
                *bytes = read_file(completed, &entry.path, GENERATED_MAX)?;
                entry.node.size = bytes.len() as u64;
            }
            let is_new = match &entry.content {
                Content::Generated(bytes) if is_file(&there) => {
                    read_file(target, &entry.path, GENERATED_MAX)? != *bytes
                }
                Content::Generated(_) => true,
                _ => there.is_none(),
            };
            if is_new {
                let above = std::iter::successors(entry.path.parent(), RootPath::parent);
                wanted.extend(above);
                wanted.insert(entry.path.clone());
            }
        }
        layer.entries.retain(|entry| wanted.contains(&entry.path));
        for entry in &mut layer.entries {
            entry.hard_link_to = entry.hard_link_to.take().filter(|first| wanted.contains(first));
        }
    }
    Ok(())
}

fn document(name: &str, bytes: &[u8]) -> Result<(), StepError> {
    let path = Path::new(META).join(name);
    fs::write(&path, bytes).map_err(|source| StepError::Write { path, source })
}

/// Says `text` in the log of the step.
fn say(text: &str) {
    // A log that nobody takes changes nothing.
    let _ = writeln!(io::stderr(), "{text}");
}
