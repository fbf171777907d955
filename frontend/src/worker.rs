//! The step inside the build: mounted root filesystems + the request -> the files of the image, and what to say.
//!
//! What is wrong with the files is an outcome, which BuildKit may keep like any other; only what is wrong with the
//! machine fails the step.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use minimage::closure::Content;
use minimage::explain::{Explain, Explanation};
use minimage::formats::elf::Elf;
use minimage::formats::read_all;
use minimage::image;
use minimage::layer::{self, DirectoryError, LayerPlan};
use minimage::options::{Choices, OptionError};
use minimage::packages::{self, PackageError};
use minimage::path::{RawPath, RootPath};
use minimage::report::Report;
use minimage::resolve::{self, Inputs, Problem, Resolution, ResolveError, Resolver};
use minimage::rootfs::{CachedRootfs, CompletedRootfs, HostRootfs, Kind, Rootfs, RootfsError, chase};
use minimage::roots::{Keep, Origin, Root};
use minimage::rules::{Catalogue, RuleFileError};
use minimage::spec::{
    Epoch, EpochError, Generated, Layering, PackageData, RunAs, RunAsError, Search, Selection,
    SensitiveFiles, Unowned,
};
use thiserror::Error;

use crate::application::{self, ApplicationError};
use crate::expand::{self, Place, itself};
use crate::place::{self, Difference};
use crate::project::Project;
use crate::request::{
    self, Asked, BASE, CONFIG, Finding, META, OUTCOME, OUTPUT, Outcome, ProjectRequest, REPORT, Request,
    STAGES, StageKind, TARGET, What,
};
use crate::settings::Base;

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
    /// An option cannot be set.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The epoch is none.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// A root filesystem cannot be read.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// What commands made cannot be found.
    #[error(transparent)]
    Application(#[from] ApplicationError),
    /// The user of the image is none.
    #[error(transparent)]
    User(#[from] RunAsError),
    /// The rules cannot be read.
    #[error(transparent)]
    Rules(#[from] RuleFileError),
    /// A database of packages cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
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

/// One root of the image.
struct Found<'a> {
    asked: &'a Asked,
    /// What to keep of the target.
    keep: Keep,
    /// The stage that it was copied from, and what to keep of that.
    origin: Option<(usize, Keep)>,
}

/// Runs the step that `arguments` describe.
pub(crate) fn run(arguments: &[String]) -> Result<(), StepError> {
    let request: Request =
        request::from_arguments(arguments).map_err(|source| StepError::Request { source })?;
    let target = HostRootfs::open_directory(Path::new(TARGET))?.called(request.target.as_str());
    let mut stages = Vec::new();
    for (index, stage) in request.stages.iter().enumerate() {
        let directory = Path::new(STAGES).join(index.to_string());
        stages.push(HostRootfs::open_directory(&directory)?.called(format!("stage {}", stage.name)));
    }
    let target = CachedRootfs::new(&target);
    let stages: Vec<CachedRootfs> = stages.iter().map(|stage| CachedRootfs::new(stage)).collect();
    let stages: Vec<&dyn Rootfs> = stages.iter().map(|stage| stage as &dyn Rootfs).collect();
    let base = match request.has_base {
        true => Some(HostRootfs::open_directory(Path::new(BASE))?.called("the base image")),
        false => None,
    };
    let base = base.as_ref().map(|base| base as &dyn Rootfs);
    finish(&minimised(&request, &target, base, &stages)?)
}

/// Runs the step that `arguments` describe for a project file.
pub(crate) fn run_project(arguments: &[String]) -> Result<(), StepError> {
    let request = request::from_arguments(arguments).map_err(|source| StepError::Request { source })?;
    let ProjectRequest { epoch, from, settings, path, file } = request;
    let source = HostRootfs::open_directory(Path::new(TARGET))?.called(format!("`{from}`"));
    let source = CachedRootfs::new(&source);
    let Project { roots, choices, edits, warnings } = match Project::read(&settings, &file) {
        Ok(project) => project.with_path(&path),
        Err(problems) => return finish(&Outcome { problems, warnings: Vec::new() }),
    };
    let mut outcome = Outcome { problems: Vec::new(), warnings };
    let wants = Wants { choices, rules: Catalogue::with(&[])?, user: edits.user.clone() };
    let borrowed: Vec<(&Asked, Root)> = roots.iter().map(|(asked, root)| (asked, root.clone())).collect();
    let resolution = match closure(&source, &borrowed, &wants, wants.user.as_ref())? {
        Ok(resolution) => resolution,
        Err(problems) => {
            outcome.problems = problems.into_iter().map(|(_, finding)| finding).collect();
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
            outcome.problems.push(finding(&error, (0, 0)));
            return finish(&outcome);
        }
    }
    let plan = layer::plan(&resolution.closure, Layering::Single);
    write(&source, &resolution, &plan, epoch, &from, &mut outcome)?;
    let asked: Vec<&Asked> = roots.iter().map(|(asked, _)| asked).collect();
    say(&summary(&from, &asked, &resolution));
    finish(&outcome)
}

/// Says what came of the step: to people in its log, and to the frontend.
fn finish(outcome: &Outcome) -> Result<(), StepError> {
    for finding in outcome.problems.iter().chain(&outcome.warnings) {
        say(&finding.text);
    }
    document(OUTCOME, &serde_json::to_vec(outcome).map_err(|source| StepError::Request { source })?)
}

/// Writes the files of the image, and why they are in it; adds what is worth knowing to `outcome`.
fn write(
    rootfs: &dyn Rootfs,
    resolution: &Resolution,
    plan: &LayerPlan,
    epoch: Epoch,
    source: &str,
    outcome: &mut Outcome,
) -> Result<(), StepError> {
    let warnings = resolution.warnings.iter();
    outcome.warnings.extend(warnings.map(|text| Finding { lines: (0, 0), text: text.clone() }));
    layer::write_dir(plan, rootfs, epoch, Path::new(OUTPUT))?;
    document(REPORT, Report::new(source, resolution, plan).to_json().as_bytes())
}

/// Writes the image that is asked for, unless something is wrong with it.
fn minimised(
    request: &Request,
    target: &dyn Rootfs,
    base: Option<&dyn Rootfs>,
    stages: &[&dyn Rootfs],
) -> Result<Outcome, StepError> {
    let path: Vec<_> = request.path.iter().map(|directory| RawPath::from(directory.as_str())).collect();
    let search = Search { path_inside: path.clone(), path, ..Search::standard() };
    // A build file names what it copies, and an image knows whose its files are.
    let mut selection =
        Selection { sensitive: SensitiveFiles::Allow, unowned: Unowned::AsInSource, ..Selection::default() };
    if request.settings.base == Base::Keep {
        // It has its users and its databases, and all that its packages brought.
        selection.generated = Generated::Layout;
        selection.package_data = PackageData::Leave;
        selection.without.push("metadata".to_owned());
    }
    let mut choices = Choices { search, selection };
    request.settings.apply(&mut choices)?;
    let user = match request.user.as_str() {
        "" => None,
        user => Some(user.parse::<RunAs>()?),
    };
    let wants = Wants { choices, rules: Catalogue::with(&[])?, user };
    let mut outcome = Outcome::default();
    let mut found = Vec::new();
    for asked in &request.roots {
        found.extend(roots(asked, target, base, stages, &mut outcome)?);
    }
    let included = Asked { what: What::Word(String::new()), text: "--include".to_owned(), lines: (0, 0) };
    for pattern in &request.settings.include {
        let paths = expand::everything(target, pattern)?;
        if paths.is_empty() {
            let text = format!("nothing matches `{pattern}` in {}", request.target);
            outcome.warnings.push(Finding { lines: (0, 0), text });
        }
        let keep = |path: &RootPath| Keep::Member(path.to_raw());
        found.extend(paths.iter().map(|path| Found { asked: &included, keep: keep(path), origin: None }));
    }
    let excludes = &request.settings.exclude;
    found.retain(|found| !expand::is_listed(excludes, path_of(&found.keep)));
    let mut completed = CompletedRootfs::new(target);
    let mut differences = Vec::new();
    let along = Asked { what: What::Word(String::new()), text: "COPY".to_owned(), lines: (0, 0) };
    let mut all: Vec<(&Asked, Root)> = Vec::new();
    for (index, stage) in stages.iter().copied().enumerate() {
        if request.stages.get(index).is_none_or(|stage| stage.kind == StageKind::Files) {
            continue;
        }
        let of_stage = found.iter().filter_map(|found| match &found.origin {
            Some((from, keep)) if *from == index => Some((found.asked, root(found.asked, keep, request))),
            _ => None,
        });
        let of_stage: Vec<(&Asked, Root)> = of_stage.collect();
        // The image's own user is the target's business.
        match closure(stage, &of_stage, &wants, None)? {
            Ok(resolution) => {
                let completion = place::complete(&mut completed, &resolution.closure, stage, index)?;
                differences.extend(completion.differences);
                let keep = |path: RawPath| (&along, root(&along, &Keep::Member(path), request));
                all.extend(completion.brought.into_iter().map(keep));
            }
            Err(problems) => outcome.problems.extend(problems.into_iter().map(|(_, finding)| finding)),
        }
    }
    if !outcome.problems.is_empty() {
        return Ok(outcome);
    }
    all.extend(found.iter().map(|found| (found.asked, root(found.asked, &found.keep, request))));
    let resolver = Resolver::new(&completed, &wants.choices.search);
    for asked in &request.roots {
        if let What::Word(word) = &asked.what
            && let Some(path) = resolver.program_path(&RawPath::from(word.as_str()))?
        {
            all.push((asked, root(asked, &Keep::Program { name: path, to: None }, request)));
        }
    }
    let ran = Asked { what: What::Word(String::new()), text: "RUN".to_owned(), lines: (0, 0) };
    // What commands made on a base that stays, stays with it.
    if request.was_run && request.settings.base == Base::Minimise {
        let packages = packages::open(target)?;
        for path in application::files(target, base, packages.as_deref(), &wants.rules)? {
            all.push((&ran, root(&ran, &Keep::Member(path.to_raw()), request)));
        }
    }
    let resolution = match closure(&completed, &all, &wants, wants.user.as_ref())? {
        Ok(resolution) => resolution,
        Err(problems) => {
            let conflict = |(problem, finding): (Option<Problem>, Finding)| match problem {
                Some(problem) if !differences.is_empty() => {
                    Finding { text: text(&problem, &differences, request), ..finding }
                }
                _ => finding,
            };
            outcome.problems.extend(problems.into_iter().map(conflict));
            return Ok(outcome);
        }
    };
    // The config is the build file's. It is not changed here, as a cache keeps files only.
    for (name, value) in resolution.env.iter().filter(|(name, _)| !request.variables.contains(name)) {
        let text = format!("what is kept needs a variable of the environment; write `ENV {name}={value}`");
        outcome.warnings.push(Finding { lines: (0, 0), text });
    }
    let epoch = Epoch::parse(&request.epoch.to_string())?;
    let mut plan = layer::plan(&resolution.closure, Layering::Single);
    if request.settings.base == Base::Keep {
        lacking(&mut plan, target)?;
    }
    write(&completed, &resolution, &plan, epoch, &request.target, &mut outcome)?;
    let asked: Vec<&Asked> = request.roots.iter().collect();
    say(&summary(&request.target, &asked, &resolution));
    Ok(outcome)
}

/// Leaves of `plan` what `target` lacks or has otherwise, and the directories that this is in.
fn lacking(plan: &mut LayerPlan, target: &dyn Rootfs) -> Result<(), RootfsError> {
    for layer in &mut plan.layers {
        let mut wanted: BTreeSet<RootPath> = BTreeSet::new();
        for entry in &layer.entries {
            let is_new = match (target.lookup(&entry.path)?, &entry.content) {
                (Some(there), Content::Generated(bytes)) => {
                    there.kind != Kind::File || !has_bytes(target, &entry.path, bytes)?
                }
                (there, _) => there.is_none(),
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

/// Returns whether the file at `path` is `bytes`.
fn has_bytes(rootfs: &dyn Rootfs, path: &RootPath, bytes: &[u8]) -> Result<bool, RootfsError> {
    let error = |source| RootfsError::Read {
        action: "read",
        path: path.clone(),
        rootfs: rootfs.name().to_owned(),
        source,
    };
    let limit = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let there = read_all(&*rootfs.open(path)?, limit).map_err(error)?;
    Ok(there.is_some_and(|there| there == bytes))
}

/// Returns the roots that `asked` stands for.
fn roots<'a>(
    asked: &'a Asked,
    target: &dyn Rootfs,
    base: Option<&dyn Rootfs>,
    stages: &[&dyn Rootfs],
    outcome: &mut Outcome,
) -> Result<Vec<Found<'a>>, RootfsError> {
    let keep = |keep| Found { asked, keep, origin: None };
    Ok(match &asked.what {
        What::Copied(copied) => {
            let Some(stage) = stages.get(copied.stage) else { return Ok(Vec::new()) };
            let mut found = Vec::new();
            let pairs = expand::pairs(copied, *stage, target)?;
            if pairs.is_empty() && copied.unpacks {
                // An archive: not there itself, but what was in it.
                let top = itself(target, &RawPath::from(copied.to.as_str()))?;
                for path in expand::tree(target, top.unwrap_or_else(RootPath::root))? {
                    if !application::is_same(base, target, &path)? {
                        found.push(keep(Keep::Member(path.to_raw())));
                    }
                }
            }
            for pair in pairs.into_iter().filter(|pair| !pair.to.is_root()) {
                if let Some(Kind::Special(what)) = target.lookup(&pair.to)?.map(|node| node.kind) {
                    let text = format!("`{}` is {what}: left out", pair.to);
                    outcome.warnings.push(Finding { lines: asked.lines, text });
                    continue;
                }
                let wrapped = |path: RawPath| match pair.place {
                    Place::Named => Keep::File(path),
                    Place::Below => Keep::Member(path),
                };
                // With what its package brings.
                let origin = match pair.place == Place::Named && is_program(*stage, &pair.from)? {
                    true => Keep::Program { name: pair.from.to_raw(), to: None },
                    false => wrapped(pair.from.to_raw()),
                };
                let keep = wrapped(pair.to.to_raw());
                found.push(Found { asked, keep, origin: Some((copied.stage, origin)) });
            }
            found
        }
        What::Made(path) | What::Path(path) => {
            let real = itself(target, &RawPath::from(path.as_str()))?.filter(|real| !real.is_root());
            real.map(|real| keep(Keep::File(real.to_raw()))).into_iter().collect()
        }
        What::Tree(path) => match itself(target, &RawPath::from(path.as_str()))? {
            Some(top) => {
                expand::tree(target, top)?.iter().map(|path| keep(Keep::Member(path.to_raw()))).collect()
            }
            None => Vec::new(),
        },
        What::Program(path) => vec![keep(Keep::Program { name: RawPath::from(path.as_str()), to: None })],
        What::Word(_) => Vec::new(),
    })
}

fn root(asked: &Asked, keep: &Keep, request: &Request) -> Root {
    let origin = match u32::try_from(asked.lines.0) {
        Ok(line) if line > 0 => Origin::Line { file: request.file.clone(), line, text: asked.text.clone() },
        _ => Origin::Argument(asked.text.clone()),
    };
    Root { keep: keep.clone(), origin }
}

/// What every closure of this image is made with.
struct Wants {
    choices: Choices,
    rules: Catalogue,
    user: Option<RunAs>,
}

/// Returns the path or name that is to be kept; a pattern has none.
fn path_of(keep: &Keep) -> &[u8] {
    match keep {
        Keep::Program { name: path, .. } | Keep::File(path) | Keep::Member(path) => path.as_bytes(),
        Keep::Tree(tree) => tree.path.as_bytes(),
        Keep::Matching(_) => b"",
    }
}

/// Returns whether the kernel would start the file at `path`.
fn is_program(rootfs: &dyn Rootfs, path: &RootPath) -> Result<bool, RootfsError> {
    match rootfs.lookup(path)? {
        Some(node) if node.kind == Kind::File && node.mode & 0o111 != 0 => {}
        _ => return Ok(false),
    }
    let file = rootfs.open(path)?;
    let is_elf_program = Elf::parse(&*file).is_ok_and(|elf| elf.interp.is_some() || elf.is_static());
    let mut head = [0; 2];
    let is_script = matches!(file.read_at(0, &mut head), Ok(2)) && head == *b"#!";
    Ok(is_elf_program || is_script)
}

/// A problem with what it says at the lines it is about.
type Blamed = (Option<Problem>, Finding);

/// Returns the closure of `roots`, or all that is wrong, each at the line of the root that runs into it.
fn closure(
    rootfs: &dyn Rootfs,
    roots: &[(&Asked, Root)],
    wants: &Wants,
    user: Option<&RunAs>,
) -> Result<Result<Resolution, Vec<Blamed>>, StepError> {
    let packages = packages::open(rootfs)?;
    let resolved = |roots: &[Root]| {
        resolve::closure(&Inputs {
            rootfs,
            packages: packages.as_deref(),
            roots,
            search: &wants.choices.search,
            selection: &wants.choices.selection,
            rules: &wants.rules,
            user,
        })
    };
    let all: Vec<Root> = roots.iter().map(|(_, root)| root.clone()).collect();
    match resolved(&all) {
        Ok(resolution) => return Ok(Ok(resolution)),
        Err(ResolveError::Incomplete { .. }) => {}
        Err(ResolveError::Rootfs(error)) => return Err(error.into()),
        Err(error) => return Ok(Err(vec![(None, finding(&error, (0, 0)))])),
    }
    let mut blamed: Vec<Blamed> = Vec::new();
    for (asked, root) in roots {
        match resolved(std::slice::from_ref(root)) {
            Ok(_) => {}
            Err(ResolveError::Incomplete { problems }) => {
                for problem in problems {
                    let explanation = match &problem {
                        // Its origin is part of what it says; a name much like it may be meant.
                        Problem::ProgramNotFound { .. } => suggested(rootfs, root, problem.explain())?,
                        problem => problem.explain().at(root.origin.to_string()),
                    };
                    let text = explanation.to_string();
                    let finding = Finding { lines: asked.lines, text };
                    if !blamed.iter().any(|(_, known)| *known == finding) {
                        blamed.push((Some(problem), finding));
                    }
                }
            }
            Err(ResolveError::Rootfs(error)) => return Err(error.into()),
            Err(error) => blamed.push((None, finding(&error, asked.lines))),
        }
    }
    Ok(Err(blamed))
}

/// Returns `explanation` with the one program in the same directory whose name has the same letters as the one that
/// `root` asks for: two of them are easily swapped.
fn suggested(
    rootfs: &dyn Rootfs,
    root: &Root,
    mut explanation: Explanation,
) -> Result<Explanation, RootfsError> {
    let path = RawPath::new(path_of(&root.keep));
    let (Some(directory), name) = (path.parent(), path.as_bytes()) else { return Ok(explanation) };
    let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let Ok((real, node)) = chase(rootfs, &directory)?.end else { return Ok(explanation) };
    if node.kind != Kind::Directory {
        return Ok(explanation);
    }
    let letters = |name: &[u8]| {
        let mut letters = name.to_vec();
        letters.sort_unstable();
        letters
    };
    let mut names = rootfs.read_dir(&real)?;
    names.retain(|other| letters(other) == letters(name));
    if let [other] = names.as_slice() {
        explanation.fixes.insert(0, format!("did you mean `{}`?", directory.join(other)));
    }
    Ok(explanation)
}

fn finding(error: &dyn Explain, lines: (i32, i32)) -> Finding {
    let texts: Vec<String> = error.explain().iter().map(ToString::to_string).collect();
    Finding { lines, text: texts.join("\n") }
}

/// Returns what to say of `problem`, which arose when the stages met in the target.
fn text(problem: &Problem, differences: &[Difference], request: &Request) -> String {
    let explanation = problem.explain();
    let Some(first) = differences.first() else { return explanation.to_string() };
    let name = |difference: &Difference| {
        request.stages.get(difference.stage).map_or("another", |stage| stage.name.as_str()).to_owned()
    };
    let (stage, target) = (name(first), &request.target);
    let clash = Explanation {
        code: "stages-conflict",
        ..explanation.fix(format!(
            "build both stages on the same release, or start the target with `FROM scratch` or `FROM {stage}`"
        ))
    };
    differences
        .iter()
        .fold(clash, |clash, difference| {
            clash.why(format!(
                "stage {} and {target} have different files at `{}`; those of the latter stay",
                name(difference),
                difference.path
            ))
        })
        .to_string()
}

/// Returns what the log of the step says of a build that worked.
fn summary(target: &str, roots: &[&Asked], resolution: &Resolution) -> String {
    let files = resolution.closure.entries().filter(|(_, entry)| entry.node.kind == Kind::File);
    let (count, bytes) = files.fold((0_u64, 0_u64), |(count, bytes), (_, entry)| {
        (count + 1, bytes.saturating_add(entry.node.size))
    });
    let tenths = bytes / 100_000;
    let mut lines = vec![format!("{target}: {count} files, {}.{} MB", tenths / 10, tenths % 10)];
    for asked in roots {
        lines.push(format!("  kept for `{}`", asked.text));
    }
    lines.dedup();
    lines.join("\n")
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
