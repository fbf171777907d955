//! `minimage tree`: programs -> what their loader would map, and why.

use std::collections::HashSet;
use std::rc::Rc;

use serde::Serialize;

use super::args::{Format, TreeArguments};
use super::connection::{Connection, runtime};
use super::console::Console;
use super::progress::Progress;
use super::source::{self, Means};
use super::{Outcome, boxed};
use crate::explain::Explain;
use crate::formats::elf::ElfError;
use crate::path::{RawPath, show};
use crate::resolve::{
    Circumstances, Linkage, Object, ObjectList, Privilege, Problem, ResolveError, Resolver, Script,
};
use crate::rootfs::{CachedRootfs, Kind, Rootfs, chase};
use crate::roots::Keep;
use crate::spec::{Hints, Hwcaps, Preloads, Search};

/// What `--format json` prints of one program: one line each.
#[derive(Debug, Default, Serialize)]
struct Tree {
    path: String,
    interp: Option<String>,
    libs: Vec<Library>,
    missing: Vec<String>,
    hints: Vec<HintedLibrary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Library {
    soname: String,
    path: String,
    found_by: String,
    asked_by: String,
}

/// A library that is not mapped at start, but named in the data of an object that can load it.
#[derive(Debug, Serialize)]
struct HintedLibrary {
    soname: String,
    path: String,
    named_by: String,
}

pub(super) fn run(arguments: &TreeArguments, console: &mut Console) -> Outcome {
    let runtime = runtime()?;
    let progress = Progress::new(arguments.registry.progress);
    let connection = Connection { arguments: &arguments.registry, observer: &progress };
    let cache = source::cache(&arguments.source, &arguments.cache, console);
    let means = Means { cache: cache.as_ref(), connection: &connection, runtime: &runtime };
    let source = source::open(&arguments.source, &means)?;
    let rootfs = CachedRootfs::new(&*source.rootfs);
    let bytes =
        |text: &Option<String>| text.as_ref().filter(|text| !text.is_empty()).map(|text| text.clone().into());
    let search = Search {
        library_path: bytes(&arguments.library_path),
        preload: bytes(&arguments.preload),
        preloads: Preloads::AsInSource,
        hints: if arguments.format == Format::Json { Hints::Find } else { Hints::Skip },
        ..arguments.source.search(source.path.as_deref())
    };
    let resolver = Resolver::new(&rootfs, &search);
    let mut problems = Vec::new();
    for name in &arguments.programs {
        let root = arguments.source.root(name);
        let Keep::Program { name: path, .. } = &root.keep else { continue };
        let Some(path) = resolver.program_path(path).map_err(boxed)? else {
            problems.push(Problem::program_not_found(root, &search, &rootfs).map_err(boxed)?);
            continue;
        };
        // A script is followed by what interprets it, each in its turn.
        let mut todo = vec![path];
        let mut seen = HashSet::new();
        while let Some(path) = todo.pop().filter(|path| seen.insert(path.clone())) {
            match started(&resolver, &rootfs, &path)? {
                Ok(Started::Object(object)) => show_tree(&resolver, &path, &object, arguments, console)?,
                Ok(Started::Script(script)) => {
                    show_script(&path, &script, arguments.format, console)?;
                    todo.extend(script.command.into_iter().chain([script.interp]));
                }
                Err(problem) => problems.push(problem),
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(boxed(ResolveError::Incomplete { problems })) }
}

/// What the kernel starts.
enum Started {
    Object(Rc<Object>),
    Script(Script),
}

/// Returns what `path` leads to; the inner error says why it cannot be started.
fn started(
    resolver: &Resolver<'_>,
    rootfs: &dyn Rootfs,
    path: &RawPath,
) -> Result<Result<Started, Problem>, Box<dyn Explain>> {
    let (real, node) = match chase(rootfs, path).map_err(boxed)?.end {
        Ok(found) => found,
        Err(absence) => return Ok(Err(Problem::Unreachable { path: path.clone(), absence })),
    };
    if node.kind != Kind::File {
        return Ok(Err(Problem::NotAProgram { path: real, what: "not a regular file" }));
    }
    match resolver.object(&real, &node).map_err(boxed)? {
        Ok(object) => Ok(Ok(Started::Object(object))),
        Err(error) if matches!(*error, ElfError::NotElf) => {
            Ok(resolver.script(&real).map_err(boxed)?.map(Started::Script))
        }
        Err(error) => Ok(Err(Problem::BrokenElf { path: real, error })),
    }
}

fn show_script(path: &RawPath, script: &Script, format: Format, console: &mut Console) -> Outcome {
    if format == Format::Json {
        let (path, interp) = (path.to_string(), Some(script.interp.to_string()));
        return console.line(&Tree { path, interp, ..Tree::default() }.to_json());
    }
    console.line(&path.to_string())?;
    console.line(&format!("  {} (shebang)", script.interp))
}

impl Tree {
    fn to_json(&self) -> String {
        // Strings and lists of strings: nothing in it can fail to be JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

fn show_tree(
    resolver: &Resolver<'_>,
    path: &RawPath,
    object: &Rc<Object>,
    arguments: &TreeArguments,
    console: &mut Console,
) -> Outcome {
    let privilege = if object.node.is_privileged() { Privilege::Secure } else { Privilege::Plain };
    // One process runs on one CPU: of all, the plainest.
    let hwcaps = match &arguments.source.search(None).hwcaps {
        Hwcaps::Levels(levels) => levels.clone(),
        Hwcaps::All => Vec::new(),
    };
    let linkage = match resolver.linkage(object, &Circumstances { privilege, hwcaps, loads: Vec::new() }) {
        Ok(linkage) => Ok(linkage),
        Err(ResolveError::Incomplete { problems }) => Err(problems),
        Err(error) => return Err(boxed(error)),
    };
    match arguments.format {
        Format::Json => console.line(&json(path, object, &linkage)),
        // At once: a write for each line costs more than finding what it says.
        Format::Text => console.line(&text(path, &linkage).join("\n")),
    }
}

type Linked = Result<Linkage, Vec<Problem>>;

fn json(path: &RawPath, object: &Object, linkage: &Linked) -> String {
    let mut tree =
        Tree { path: path.to_string(), interp: object.elf.interp.as_deref().map(show), ..Tree::default() };
    match linkage {
        Ok(Linkage::Static) => {}
        Ok(Linkage::Dynamic { list, .. }) => {
            tree.libs = libraries(path, list).collect();
            tree.hints = hints(path, list).collect();
            tree.missing = list.missing.iter().map(|missing| show(&missing.soname)).collect();
            tree.warnings = list.warnings.iter().map(ToString::to_string).collect();
        }
        Err(problems) => {
            tree.error = Some(problems.iter().map(sentence).collect::<Vec<_>>().join("; "));
            tree.missing =
                problems.iter().filter_map(Problem::missing_interp).map(ToString::to_string).collect();
        }
    }
    tree.to_json()
}

/// Returns what is wrong in one line.
fn sentence(problem: &Problem) -> String {
    match problem {
        Problem::BrokenElf { error, .. } => format!("{problem}: {error}"),
        problem => problem.to_string(),
    }
}

fn libraries<'a>(path: &'a RawPath, list: &'a ObjectList) -> impl Iterator<Item = Library> + 'a {
    list.libraries().map(move |(_, loaded)| Library {
        soname: show(&loaded.asked_as),
        path: loaded.name.to_string(),
        found_by: loaded.found_by.to_string(),
        asked_by: name_in(path, list, loaded.asker.unwrap_or(0)),
    })
}

fn hints<'a>(path: &'a RawPath, list: &'a ObjectList) -> impl Iterator<Item = HintedLibrary> + 'a {
    list.hints.iter().map(|hint| HintedLibrary {
        soname: show(&hint.soname),
        path: hint.path.to_string(),
        named_by: name_in(path, list, hint.by),
    })
}

/// Returns what an object of the list of the program `path` is called.
fn name_in(path: &RawPath, list: &ObjectList, index: usize) -> String {
    match list.objects[index].name.as_bytes() {
        b"" => path.to_string(),
        name => show(name),
    }
}

/// Returns the lines for people: each library below the one that asked for it first.
fn text(path: &RawPath, linkage: &Linked) -> Vec<String> {
    let mut lines = vec![path.to_string()];
    match linkage {
        Ok(Linkage::Static) => lines.push("  static: needs nothing".to_owned()),
        Ok(Linkage::Dynamic { interp, list, .. }) => {
            lines.push(format!("  {interp} (interp)"));
            branch(list, 0, 1, &mut lines);
            lines.extend(list.warnings.iter().map(|warning| format!("  warning: {warning}")));
        }
        Err(problems) => lines.extend(problems.iter().map(|problem| format!("  {}", sentence(problem)))),
    }
    lines
}

fn branch(list: &ObjectList, by: usize, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    for (index, loaded) in list.libraries().filter(|(_, loaded)| loaded.asker == Some(by)) {
        let name = show(&loaded.asked_as);
        lines.push(format!("{indent}{name} => {} ({})", loaded.name, loaded.found_by));
        branch(list, index, depth + 1, lines);
    }
    for missing in list.missing.iter().filter(|missing| missing.by == by) {
        lines.push(format!("{indent}{} => not found", show(&missing.soname)));
    }
}
