//! `minimage why` and `why-not`: a path -> the chain of demands that brings it, or what keeps it out.

use std::fmt;

use serde::Serialize;
use thiserror::Error;

use super::args::{Format, WhyArguments};
use super::connection::{Connection, runtime};
use super::console::Console;
use super::progress::Progress;
use super::selection::SelectionArguments;
use super::source::{self, Means, Opened};
use super::{Outcome, boxed, reports, resolution};
use crate::explain::{Explain, Explanation, Failure, Spelling};
use crate::layer;
use crate::path::RawPath;
use crate::report::{DemandRecord, LeftOutRecord, PackageRecord, Report as ClosureReport};
use crate::rootfs::chase;
use crate::spec::{BuildSpec, ConfigEdits, Epoch, LayerOptions, Layering, Selection, Source};

/// The path is not where the question puts it.
#[derive(Debug, Error)]
#[error("`{path}` is not in the image")]
struct NotInImage {
    path: String,
}

impl Explain for NotInImage {
    fn explain(&self) -> Vec<Explanation> {
        let fix = format!("ask `minimage why-not {}`", self.path);
        vec![Explanation::new("not-in-image", self.to_string()).fix(fix)]
    }

    fn failure(&self) -> Failure {
        Failure::Found
    }
}

/// A source alone makes no image to think of.
#[derive(Debug, Error)]
#[error("`--from` says where the files are, but no program says which")]
struct FromWithoutPrograms;

impl Explain for FromWithoutPrograms {
    fn explain(&self) -> Vec<Explanation> {
        vec![Explanation::new("usage", self.to_string()).fix("name the programs of the image after the path")]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// What `--format json` prints: each step of the way to the path, and why it is there.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    path: &'a str,
    steps: Vec<Step<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why_not: Option<KeptOut<'a>>,
}

/// What keeps a path out of an image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum KeptOut<'a> {
    NotInSource,
    NotAskedFor,
    LeftOut(&'a LeftOutRecord),
}

impl fmt::Display for KeptOut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInSource => f.write_str("it is not in the source"),
            Self::NotAskedFor => f.write_str("it is in the source, but nothing in the image asks for it"),
            Self::LeftOut(LeftOutRecord { text, how, .. }) => {
                write!(f, "it was left out: {text}; to take it: {how}")
            }
        }
    }
}

/// Which of the two questions was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Why,
    WhyNot,
}

#[derive(Debug, Serialize)]
struct Step<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    package: Option<&'a PackageRecord>,
    why: Vec<&'a DemandRecord>,
}

pub(super) fn why(arguments: &WhyArguments, console: &mut Console) -> Outcome {
    let closure = closure_report(arguments, console)?;
    let steps = steps(&closure, arguments);
    if steps.is_empty() {
        return Err(boxed(NotInImage { path: arguments.path.clone() }));
    }
    print(&Answer { path: &arguments.path, steps, why_not: None }, Asked::Why, arguments.format, console)
}

pub(super) fn why_not(arguments: &WhyArguments, console: &mut Console) -> Outcome {
    let closure = closure_report(arguments, console)?;
    let steps = steps(&closure, arguments);
    let why_not = match steps.is_empty() {
        false => None,
        true => Some(kept_out(&closure, arguments, console)?),
    };
    print(&Answer { path: &arguments.path, steps, why_not }, Asked::WhyNot, arguments.format, console)
}

/// Returns the report that the question is about: that of the programs named, of a file, or of the last image.
fn closure_report(
    arguments: &WhyArguments,
    console: &mut Console,
) -> Result<ClosureReport, Box<dyn Explain>> {
    if arguments.programs.is_empty() && !arguments.source.from.is_empty() {
        return Err(boxed(FromWithoutPrograms));
    }
    if let Some(image) = &arguments.image {
        let runtime = runtime()?;
        let progress = Progress::new(arguments.registry.progress);
        let connection = Connection { arguments: &arguments.registry, observer: &progress };
        let source = arguments.source.only().map_err(boxed)?;
        return reports::of_image(image, source.platform(), &connection, &runtime);
    }
    if arguments.programs.is_empty() {
        return reports::read(arguments.report.as_deref());
    }
    let source = with_means(arguments, console, |means| source::open(&arguments.source, means))?;
    let selection = SelectionArguments::default().selection(&arguments.source)?;
    let spec = BuildSpec {
        source: Source::Path("/".into()),
        roots: arguments.programs.iter().map(|program| arguments.source.root(program)).collect(),
        search: arguments.source.search(source.path.as_deref()),
        selection: Selection { unowned: source.unowned, ..selection },
        rules: Vec::new(),
        config: ConfigEdits::default(),
        epoch: Epoch::default(),
        layers: LayerOptions::default(),
    };
    let resolution = resolution::of(&spec, &*source.rootfs)?;
    let plan = layer::plan(&resolution.closure, Layering::default());
    Ok(ClosureReport::new(&source.word, &resolution, &plan, Spelling::Flags))
}

/// Calls `open` with what it takes to open an image.
fn with_means(
    arguments: &WhyArguments,
    console: &mut Console,
    open: impl FnOnce(&Means<'_>) -> Result<Opened, Box<dyn Explain>>,
) -> Result<Opened, Box<dyn Explain>> {
    let runtime = runtime()?;
    let progress = Progress::new(arguments.registry.progress);
    let connection = Connection { arguments: &arguments.registry, observer: &progress };
    let cache = source::cache(&arguments.source, &arguments.cache, console);
    open(&Means { cache: cache.as_ref(), connection: &connection, runtime: &runtime })
}

fn steps<'a>(closure: &'a ClosureReport, arguments: &WhyArguments) -> Vec<Step<'a>> {
    let step = |path: String| {
        let package = closure.entry(&path).and_then(|entry| entry.package.as_ref());
        Step { package, why: closure.why(&path), path }
    };
    closure.way(&RawPath::from(arguments.path.as_str())).into_iter().map(step).collect()
}

/// Returns what keeps a path out: it was left out on purpose, the source does not have it, or nobody asked.
fn kept_out<'a>(
    closure: &'a ClosureReport,
    arguments: &WhyArguments,
    console: &mut Console,
) -> Result<KeptOut<'a>, Box<dyn Explain>> {
    if let Some(left) = closure.left_out.iter().find(|left| left.is(&arguments.path)) {
        return Ok(KeptOut::LeftOut(left));
    }
    let word = Source::parse(closure.source.as_ref()).map_err(boxed)?;
    let source = with_means(arguments, console, |means| source::open_source(&word, None, means))?;
    let chased = chase(&*source.rootfs, &RawPath::from(arguments.path.as_str())).map_err(boxed)?;
    Ok(match chased.end {
        Ok((real, _)) => {
            let real = real.to_string();
            let left = closure.left_out.iter().find(|left| left.is(&real));
            left.map_or(KeptOut::NotAskedFor, KeptOut::LeftOut)
        }
        Err(_) => KeptOut::NotInSource,
    })
}

fn print(answer: &Answer<'_>, asked: Asked, format: Format, console: &mut Console) -> Outcome {
    if format == Format::Json {
        // Strings and lists of strings: nothing in it can fail to be JSON.
        return console.line(&serde_json::to_string(answer).unwrap_or_default());
    }
    let is_refuted = asked == Asked::WhyNot && answer.why_not.is_none();
    if let Some(reason) = &answer.why_not {
        return console.line(&format!("{}: {reason}", answer.path));
    }
    if is_refuted {
        console.line(&format!("{}: it is in the image", answer.path))?;
    }
    for step in &answer.steps {
        let package =
            step.package.map(|PackageRecord { name, version, .. }| format!(" (package {name} {version})"));
        console.line(&format!("{}{}", step.path, package.unwrap_or_default()))?;
        for demand in &step.why {
            console.line(&format!("  {}", demand.text))?;
        }
    }
    Ok(())
}
