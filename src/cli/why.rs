//! `minimage why` and `why-not`: a path -> the chain of demands that brings it, or what keeps it out.

use serde::Serialize;
use thiserror::Error;

use super::args::{Format, WhyArguments};
use super::connection::{Connection, runtime};
use super::progress::Progress;
use super::report::Report;
use super::selection::SelectionArguments;
use super::source::{self, Means, Opened};
use super::{Outcome, boxed, reports, resolution};
use crate::explain::{Explain, Explanation, Failure};
use crate::layer;
use crate::path::RawPath;
use crate::report::{DemandRecord, PackageRecord, Report as ClosureReport};
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
    why_not: Option<&'static str>,
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

pub(super) fn why(arguments: &WhyArguments, report: &mut Report) -> Outcome {
    let closure = closure_report(arguments, report)?;
    let steps = steps(&closure, arguments)?;
    if steps.is_empty() {
        return Err(boxed(NotInImage { path: arguments.path.clone() }));
    }
    print(&Answer { path: &arguments.path, steps, why_not: None }, Asked::Why, arguments.format, report)
}

pub(super) fn why_not(arguments: &WhyArguments, report: &mut Report) -> Outcome {
    let closure = closure_report(arguments, report)?;
    let steps = steps(&closure, arguments)?;
    let why_not = match steps.is_empty() {
        false => None,
        true => Some(reason_against(&closure, arguments, report)?),
    };
    print(&Answer { path: &arguments.path, steps, why_not }, Asked::WhyNot, arguments.format, report)
}

/// Returns the report that the question is about: that of the programs named, of a file, or of the last image.
fn closure_report(arguments: &WhyArguments, report: &mut Report) -> Result<ClosureReport, Box<dyn Explain>> {
    if arguments.programs.is_empty() && arguments.source.from.is_some() {
        return Err(boxed(FromWithoutPrograms));
    }
    if let Some(image) = &arguments.image {
        let runtime = runtime()?;
        let progress = Progress::new(arguments.registry.progress);
        let connection = Connection { arguments: &arguments.registry, observer: &progress };
        return reports::of_image(image, &connection, &runtime);
    }
    if arguments.programs.is_empty() {
        return reports::read(arguments.report.as_deref());
    }
    let source = with_means(arguments, report, |means| source::open(&arguments.source, means))?;
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
    Ok(ClosureReport::new(&source.word, &resolution, &plan))
}

/// Calls `open` with what it takes to open an image.
fn with_means(
    arguments: &WhyArguments,
    report: &mut Report,
    open: impl FnOnce(&Means<'_>) -> Result<Opened, Box<dyn Explain>>,
) -> Result<Opened, Box<dyn Explain>> {
    let runtime = runtime()?;
    let progress = Progress::new(arguments.registry.progress);
    let connection = Connection { arguments: &arguments.registry, observer: &progress };
    let cache = source::cache(&arguments.source, &arguments.cache, report);
    open(&Means { cache: cache.as_ref(), connection: &connection, runtime: &runtime })
}

fn steps<'a>(
    closure: &'a ClosureReport,
    arguments: &WhyArguments,
) -> Result<Vec<Step<'a>>, Box<dyn Explain>> {
    let way = closure.way(&RawPath::from(arguments.path.as_str())).map_err(boxed)?;
    let step = |path: String| {
        let package = closure.entry(&path).and_then(|entry| entry.package.as_ref());
        Step { package, why: closure.why(&path), path }
    };
    Ok(way.into_iter().map(step).collect())
}

/// Returns what keeps a path out: the source does not have it, or nobody asked.
fn reason_against(
    closure: &ClosureReport,
    arguments: &WhyArguments,
    report: &mut Report,
) -> Result<&'static str, Box<dyn Explain>> {
    let word = Source::parse(closure.source.as_ref()).map_err(boxed)?;
    let source = with_means(arguments, report, |means| source::open_source(&word, None, means))?;
    let chased = chase(&*source.rootfs, &RawPath::from(arguments.path.as_str())).map_err(boxed)?;
    Ok(match chased.end {
        Ok(_) => "it is in the source, but nothing in the image asks for it",
        Err(_) => "it is not in the source",
    })
}

fn print(answer: &Answer<'_>, asked: Asked, format: Format, report: &mut Report) -> Outcome {
    if format == Format::Json {
        // Strings and lists of strings: nothing in it can fail to be JSON.
        return report.line(&serde_json::to_string(answer).unwrap_or_default());
    }
    let is_refuted = asked == Asked::WhyNot && answer.why_not.is_none();
    if let Some(reason) = answer.why_not {
        return report.line(&format!("{}: {reason}", answer.path));
    }
    if is_refuted {
        report.line(&format!("{}: it is in the image", answer.path))?;
    }
    for step in &answer.steps {
        let package =
            step.package.map(|PackageRecord { name, version, .. }| format!(" (package {name} {version})"));
        report.line(&format!("{}{}", step.path, package.unwrap_or_default()))?;
        for demand in &step.why {
            report.line(&format!("  {}", demand.text))?;
        }
    }
    Ok(())
}
