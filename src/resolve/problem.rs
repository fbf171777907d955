//! What keeps a program from starting, in a form that says how to go on.

use std::fmt;
use std::rc::Rc;

use thiserror::Error;

use super::list::{Fatal, FoundBy, Missing};
use super::meant::nearest_program;
use super::tree_name::TreeName;
use crate::closure::{Cause, Demand};
use crate::explain::{Choice, Explain, Explanation, Failure, Fix};
use crate::formats::elf::ElfError;
use crate::glob::GlobError;
use crate::nearest::nearest;
use crate::packages::PackageError;
use crate::path::{RawPath, RootPath, show};
use crate::rootfs::{Absence, Rootfs, RootfsError};
use crate::roots::{Keep, Origin, Root};
use crate::rules::{RuleError, RuleFileError};
use crate::spec::Search;

/// Why there is no closure.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Something that a root needs is missing or broken: everything that was found, not only the first.
    #[error("{} of what the programs need is missing or broken", count(problems.len()))]
    Incomplete {
        /// What is wrong, in the order in which it was met.
        problems: Vec<Problem>,
    },
    /// The source cannot be read.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The database of packages cannot be read.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// The user asks for rules in a way that makes no sense.
    #[error("{} of the rules that are asked for cannot be followed", count(errors.len()))]
    Rules {
        /// What is wrong with each.
        errors: Vec<RuleError>,
    },
    /// The list of what counts as package data is broken.
    #[error(transparent)]
    RuleFile(#[from] RuleFileError),
    /// A pattern of a rule is none with the places of this closure in it.
    #[error(transparent)]
    Pattern(#[from] GlobError),
}

fn count(problems: usize) -> String {
    if problems == 1 { "one thing".to_owned() } else { format!("{problems} things") }
}

impl Explain for ResolveError {
    fn explain(&self) -> Vec<Explanation> {
        match self {
            Self::Incomplete { problems } => problems.iter().map(Problem::explain).collect(),
            Self::Rootfs(error) => error.explain(),
            Self::Packages(error) => error.explain(),
            Self::Rules { errors } => errors.iter().flat_map(RuleError::explain).collect(),
            Self::RuleFile(error) => error.explain(),
            Self::Pattern(error) => error.explain(),
        }
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Rules { .. } => Failure::Usage,
            _ => Failure::NoImage,
        }
    }
}

/// One thing that keeps a program from starting. Paths are inside the source.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Problem {
    /// No such program.
    ProgramNotFound {
        /// The root that asks for it.
        root: Root,
        /// The directories it was looked up in; empty if it was given by path.
        searched: Vec<RawPath>,
        /// What the source is called.
        rootfs: String,
        /// A program that is there and may be meant, as the user would name it.
        nearest: Option<RawPath>,
    },
    /// A path that something names leads nowhere.
    Absent {
        /// The path and who names it.
        demand: Demand,
        /// Why nothing is there.
        absence: Absence,
    },
    /// A path that was asked for without a demand leads nowhere.
    Unreachable {
        /// The path.
        path: RawPath,
        /// Why nothing is there.
        absence: Absence,
    },
    /// The file is no program.
    NotAProgram {
        /// The file.
        path: RootPath,
        /// What it is.
        what: &'static str,
    },
    /// Nobody may execute the file.
    NotExecutable {
        /// The file.
        path: RootPath,
        /// Its permission bits.
        mode: u32,
    },
    /// The file claims to be ELF and is broken.
    BrokenElf {
        /// The file.
        path: RootPath,
        /// What is wrong with it.
        error: Rc<ElfError>,
    },
    /// The loader that the program names is not there.
    InterpMissing {
        /// The program.
        by: RootPath,
        /// PT_INTERP.
        interp: RawPath,
    },
    /// A library names no loader, and the root filesystem has none for its machine.
    NoLoader {
        /// The library.
        by: RootPath,
    },
    /// A library is in none of the places where the loader looks.
    LibraryMissing {
        /// The program that cannot start without it.
        program: RootPath,
        /// The object that asks for it.
        by: RootPath,
        /// The request.
        missing: Missing,
    },
    /// The loader gives up at a file that it would have to map.
    Unloadable {
        /// The program.
        program: RootPath,
        /// The file and what is wrong with it.
        fatal: Fatal,
    },
    /// A library lacks a symbol version that somebody requires of it.
    VersionMissing {
        /// The program that cannot start.
        program: RootPath,
        /// The object that requires the version.
        by: RootPath,
        /// The library that would have to define it.
        library: RootPath,
        /// The version.
        version: Vec<u8>,
    },
    /// What was planned does not load what the source loads.
    PlanDiffers {
        /// The program.
        program: RootPath,
        /// The name that is answered differently.
        soname: Vec<u8>,
        /// The answer in the source.
        expected: RootPath,
        /// The answer in the image, if there is one.
        found: Option<RootPath>,
    },
    /// The line that names a script's interpreter ends as on Windows.
    CarriageReturn {
        /// The script.
        path: RootPath,
        /// The interpreter with the carriage return in its name.
        interp: Vec<u8>,
    },
    /// Something that the user names, or a rule that must bring something, leads to nothing.
    NothingMatches {
        /// The path, pattern or rule.
        what: String,
        /// Who names it.
        by: Cause,
    },
    /// There is no library of a name service that the user asks for.
    UnknownService {
        /// The service, as nsswitch.conf calls it.
        name: String,
        /// The services that there are.
        there: Vec<String>,
        /// Who asks for it.
        by: Cause,
    },
    /// A rule that must bring something finds nothing in the source.
    RuleWithoutFiles {
        /// The rule.
        id: String,
        /// What to do, if that is known.
        remedy: Option<Remedy>,
        /// What there is to choose from, where the user names one of several.
        there: Vec<String>,
        /// Who asks for it: the user, or what triggered it.
        cause: Cause,
    },
    /// The user names an account that the source does not have.
    UnknownAccount {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
        /// A name of the source that is much like it.
        nearest: Option<String>,
        /// The option that has it, if one does.
        choice: Option<Choice>,
    },
    /// A path is no place for a file.
    NoPlace {
        /// The path.
        path: RawPath,
    },
    /// Something is to land at a path that does not start at the top.
    RelativeDestination {
        /// The root that says so.
        root: Root,
        /// The path.
        to: RawPath,
    },
    /// Two things were to be at one path.
    Conflict {
        /// The path.
        path: RootPath,
        /// Each of them in words, and who asks for it.
        claims: [(String, String); 2],
    },
    /// A file that is needed or named is one that no image should hold by accident.
    Sensitive {
        /// The file.
        path: RootPath,
        /// Why.
        what: String,
        /// Who asks for it.
        by: String,
        /// How many more there are of which the same can be said.
        more: usize,
    },
    /// The user excludes what something else cannot do without.
    Excluded {
        /// What is excluded.
        path: RootPath,
        /// Who asks for it.
        by: String,
    },
    /// `env` in the first line of a script does not find its command.
    CommandNotFound {
        /// The script.
        script: RootPath,
        /// The command.
        command: RawPath,
        /// The directories it was looked up in.
        searched: Vec<RawPath>,
    },
}

/// How a tree comes to have what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// A package is to be installed.
    Install(String),
    /// Something is to be made there, as this clause says.
    Make(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what(TreeName::Source))
    }
}

impl Problem {
    /// Returns that `rootfs` does not have the program of `root`, looked up as `search` says.
    ///
    /// # Errors
    /// [`RootfsError::Read`] if what is there instead cannot be read.
    pub fn program_not_found(root: Root, search: &Search, rootfs: &dyn Rootfs) -> Result<Self, RootfsError> {
        let (searched, nearest) = match &root.keep {
            Keep::Program { name, .. } => {
                let is_path = name.as_bytes().contains(&b'/');
                let searched = if is_path { Vec::new() } else { search.path.clone() };
                (searched, nearest_program(name, search, rootfs)?)
            }
            Keep::Tree(_)
            | Keep::Matching(_)
            | Keep::File(_)
            | Keep::Script(_)
            | Keep::Member(_)
            | Keep::Moved { .. }
            | Keep::Login(_) => (Vec::new(), None),
        };
        Ok(Self::ProgramNotFound { root, searched, rootfs: rootfs.name().to_owned(), nearest })
    }

    /// Returns the loader that is missing, if that is the problem.
    pub fn missing_interp(&self) -> Option<&RawPath> {
        match self {
            Self::InterpMissing { interp, .. } => Some(interp),
            _ => None,
        }
    }

    /// Returns the name that is missing and who asks for it, if that is the problem.
    pub fn missing(&self) -> Option<(String, String)> {
        match self {
            Self::LibraryMissing { by, missing, .. } => {
                Some((show(&missing.soname), format!("`{by}` needs")))
            }
            Self::Absent { demand, .. } => Some((demand.path.to_string(), format!("is {}", demand.cause))),
            Self::NothingMatches { what, by } => Some((what.clone(), format!("is {by}"))),
            Self::UnknownService { name, by, .. } => Some((library_of_service(name), format!("is {by}"))),
            _ => None,
        }
    }

    /// Returns what is wrong, in one clause about the tree that is called `tree`.
    fn what(&self, tree: TreeName<'_>) -> String {
        let rootfs = tree.rootfs();
        match self {
            Self::ProgramNotFound { root: Root { keep, origin }, rootfs, .. } => match (keep, origin) {
                // As the shell of a shell form.
                (Keep::Program { name, .. }, Origin::Line { text, .. })
                    if !text.contains(&name.to_string()) =>
                {
                    format!("`{name}`, which {origin} runs, is not in {rootfs}")
                }
                _ => format!("{origin} is not in {rootfs}"),
            },
            Self::Absent { demand: Demand { path, .. }, absence } | Self::Unreachable { path, absence } => {
                match absence {
                    Absence::NotFound | Absence::NotADirectory => format!("`{path}` is not in {rootfs}"),
                    Absence::TooManyLinks | Absence::NameTooLong => format!("`{path}` leads nowhere"),
                    Absence::Denied => format!("may not look at `{path}`"),
                }
            }
            Self::NotAProgram { path, what } => format!("`{path}` is no program: it is {what}"),
            Self::NotExecutable { path, mode } => format!("`{path}` is not executable (mode {mode:04o})"),
            Self::BrokenElf { path, .. } => format!("`{path}` is a broken ELF file"),
            Self::InterpMissing { interp, .. } => format!("the loader `{interp}` is not in {rootfs}"),
            Self::NoLoader { by } => format!("{rootfs} has no loader for `{by}`"),
            Self::LibraryMissing { missing, .. } => {
                format!("`{}` is not in {rootfs}", show(&missing.soname))
            }
            Self::Unloadable { fatal, .. } => {
                format!("the loader stops at `{}`: {}", fatal.path, fatal.obstacle)
            }
            Self::VersionMissing { library, version, .. } => {
                format!("`{library}` does not define version `{}`", show(version))
            }
            Self::PlanDiffers { program, soname, .. } => {
                format!("in the image `{program}` would not load the same `{}`", show(soname))
            }
            Self::CarriageReturn { path, .. } => {
                format!("the first line of `{path}` ends in a carriage return")
            }
            Self::NothingMatches { what, .. } => format!("`{what}` leads to nothing in {rootfs}"),
            Self::UnknownService { name, .. } => format!("{rootfs} has no name service `{name}`"),
            Self::RuleWithoutFiles { id, .. } => {
                format!("{rootfs} has nothing of what `{id}` stands for")
            }
            Self::UnknownAccount { kind, name, .. } => {
                format!("{rootfs} has no {kind} called `{name}`")
            }
            Self::NoPlace { path } => format!("`{path}` is no place for a file"),
            Self::RelativeDestination { to, .. } => {
                format!("the destination `{to}` does not start with a slash")
            }
            Self::Conflict { path, .. } => format!("two things would be at `{path}`"),
            Self::Sensitive { path, what, more: 0, .. } => format!("`{path}` is not taken: {what}"),
            Self::Sensitive { path, what, more, .. } => {
                format!("`{path}` and {more} more files are not taken: {what}")
            }
            Self::Excluded { path, .. } => format!("`{path}` is excluded, but needed"),
            Self::CommandNotFound { command, .. } => format!("`{command}` is not in the search path"),
        }
    }

    /// Returns what a person reads about it.
    pub fn explain(&self) -> Explanation {
        self.explain_in(TreeName::Source)
    }

    /// Returns what a person reads about it who knows of several trees: it is about the one that is called `tree`.
    pub fn explain_in(&self, tree: TreeName<'_>) -> Explanation {
        let explanation = |code| Explanation::new(code, self.what(tree));
        let source = tree.source();
        match self {
            Self::ProgramNotFound { searched, nearest, .. } => {
                let explanation = explanation("program-not-found");
                let explanation = match searched.as_slice() {
                    [] => explanation,
                    searched => explanation.why(format!("looked in {}", listed(searched.iter()))),
                };
                meant(explanation, nearest.as_ref()).fix(match tree {
                    TreeName::Collection(_) => tree.gains("it", "it"),
                    _ => format!("install it in {source}, or give its path"),
                })
            }
            Self::Absent { demand, absence } => asked_by(explanation(code(*absence)), &demand.cause)
                .why(absence.to_string())
                .fix(match (absence, &demand.cause) {
                    (Absence::NotFound | Absence::NotADirectory, Cause::Shebang { .. }) => {
                        format!(
                            "{}, or correct the first line",
                            tree.gains("the interpreter", "the interpreter")
                        )
                    }
                    (Absence::NotFound | Absence::NotADirectory, _) => tree.gains("it", "what it belongs to"),
                    (Absence::TooManyLinks | Absence::NameTooLong, _) => {
                        format!("correct the links in {source}")
                    }
                    (Absence::Denied, _) => "run minimage as a user who may search the directory".to_owned(),
                }),
            Self::Unreachable { absence, .. } => {
                explanation(code(*absence)).why(absence.to_string()).fix("check the path")
            }
            Self::NotAProgram { .. } => {
                explanation("not-a-program").fix("name an ELF program or a script that starts with `#!`")
            }
            Self::NotExecutable { path, .. } => explanation("not-executable")
                .fix(format!("make it executable in {source}: `chmod +x {path}`")),
            Self::BrokenElf { error, .. } => explanation("broken-elf")
                .why(error.to_string())
                .because_of(&**error)
                .fix(tree.gains("the file again", "the file again")),
            Self::InterpMissing { by, .. } => explanation("missing-loader")
                .at(format!("`{by}` names it (PT_INTERP)"))
                .why("the kernel would say \"no such file or directory\", and mean the loader")
                .fix(tree.gains("the loader", "the C library that the program was built for")),
            Self::NoLoader { .. } => explanation("missing-loader")
                .fix(tree.gains("the loader", "the C library that the file was built for")),
            Self::LibraryMissing { program, by, missing } => {
                let needs = format!("`{by}` needs it");
                let place = if by == program { needs } else { format!("{needs}; `{program}` needs that") };
                let places = missing.searched.iter().filter(|(_, directories)| !directories.is_empty());
                let searched = places.map(|(rule, directories)| looked_in(rule, directories));
                let searched: Vec<_> = searched.collect();
                explanation("missing-library")
                    .at(place)
                    .why(match searched.is_empty() {
                        true => "there is nowhere to look".to_owned(),
                        false => format!("looked in {}", searched.join(", ")),
                    })
                    .fix(tree.gains("it", "the package that has it"))
                    .fix(accept(&show(&missing.soname)))
            }
            Self::Unloadable { program, fatal } => explanation("unloadable-library")
                .at(format!("`{program}` would load it for `{}`", show(&fatal.soname)))
                .why("it hides whatever comes after it in the search, at run time too")
                .fix(format!("remove or replace `{}` in {source}", fatal.path)),
            Self::VersionMissing { program, by, .. } => {
                let needs = format!("`{by}` requires it");
                let place = if by == program { needs } else { format!("{needs}; `{program}` needs that") };
                explanation("missing-version")
                    .at(place)
                    .why("the two were built for different releases; the loader would refuse the program")
                    .fix(format!("take both from the same release in {source}"))
            }
            Self::PlanDiffers { expected, found, .. } => explanation("plan-differs")
                .why(match found {
                    Some(found) => format!("{source} has `{expected}`, the image would have `{found}`"),
                    None => format!("{source} has `{expected}`, the image would have nothing"),
                })
                .fix("this should not happen: please report it with the output of `minimage tree`"),
            Self::CarriageReturn { interp, .. } => explanation("carriage-return")
                .why(format!("the kernel looks for an interpreter called `{}`", show(interp)))
                .fix("save the script with Unix line ends"),
            Self::NothingMatches { by, .. } => {
                asked_by(explanation("nothing-matches"), by).fix(format!("check the path in {source}"))
            }
            Self::UnknownService { name, there, by } => {
                let library = format!("`{}`", library_of_service(name));
                let explanation =
                    asked_by(explanation("unknown-service"), by).why(format!("no loader finds {library}"));
                let explanation = match there.as_slice() {
                    [] => explanation,
                    there => explanation.why(format!("{source} has {}", listed(there.iter()))),
                };
                meant(explanation, nearest(name, there.iter().map(String::as_str)).as_ref())
                    .fix(tree.gains(&library, &format!("the package that has {library}")))
            }
            Self::RuleWithoutFiles { id, remedy, there, cause } => {
                let fix = match remedy {
                    Some(Remedy::Install(package)) => {
                        let package = format!("`{package}`");
                        tree.gains(&package, &package)
                    }
                    Some(Remedy::Make(how)) => format!("in {source}, {how}"),
                    None => tree.gains("it", "what it belongs to"),
                };
                let explanation = asked_by(explanation("empty-rule"), cause).fix(fix);
                let explanation = match there.as_slice() {
                    [] => explanation,
                    there => explanation.why(format!("{source} has {}", listed(there.iter()))),
                };
                match cause {
                    Cause::Rule { .. } => {
                        explanation.fix(Fix::from("or go without it: ").choice(Choice::new("without", id)))
                    }
                    _ => explanation,
                }
            }
            Self::UnknownAccount { kind, nearest, choice, .. } => {
                let (code, file) = match *kind {
                    "group" => ("unknown-group", "/etc/group"),
                    _ => ("unknown-user", "/etc/passwd"),
                };
                let mut explanation = explanation(code).why(format!("looked in `{file}` of {source}"));
                explanation.about.clone_from(choice);
                meant(explanation, nearest.as_ref()).fix(format!("add the {kind} there, or give a number"))
            }
            Self::NoPlace { .. } => explanation("no-place")
                .why(format!("a file of {source} is in its way, or it ends above the root")),
            Self::RelativeDestination { root, to } => explanation("no-place")
                .at(root.origin.to_string())
                .fix(format!("write `:/{to}`: DEST is a path from the top of the image")),
            Self::Conflict { claims: [(one, by), (other, other_by)], .. } => explanation("conflict")
                .at(format!("{one}: {by}"))
                .at(format!("{other}: {other_by}"))
                .fix("put one of them elsewhere with `:DEST`, or leave it away"),
            Self::Sensitive { by, .. } => explanation("sensitive-file").at(by.clone()).fix(
                Fix::from("say ")
                    .choice(Choice::switch("allow-sensitive"))
                    .text(" if the image is to hold it, or ")
                    .name("exclude")
                    .text(" it"),
            ),
            Self::Excluded { by, .. } => {
                explanation("excluded").at(by.clone()).fix(Fix::from("narrow ").name("exclude"))
            }
            Self::CommandNotFound { script, searched, .. } => explanation("missing-interpreter")
                .at(format!("`env` in the first line of `{script}` looks for it"))
                .why(format!("looked in {}", listed(searched.iter())))
                .fix(tree.gains("the interpreter", "the interpreter")),
        }
    }
}

/// Returns the name of the library that the C library loads for the name service `name` (nsswitch.conf(5)).
pub(super) fn library_of_service(name: &str) -> String {
    format!("libnss_{name}.so.2")
}

/// Returns how to go on although `name` is missing.
fn accept(name: &str) -> Fix {
    Fix::from("or accept the gap with ").choice(Choice::new("allow-missing", name))
}

/// Returns `explanation` with what may have been meant.
fn meant(explanation: Explanation, nearest: Option<&impl fmt::Display>) -> Explanation {
    match nearest {
        Some(nearest) => explanation.fix(format!("did you mean `{nearest}`?")),
        None => explanation,
    }
}

/// Returns `explanation` with who asked: an option, or something else.
fn asked_by(explanation: Explanation, cause: &Cause) -> Explanation {
    match cause {
        Cause::Root(Origin::Choice(choice)) => explanation.about(choice.clone()),
        cause => explanation.at(cause.to_string()),
    }
}

/// Returns the code of the error that nothing is at a path.
fn code(absence: Absence) -> &'static str {
    match absence {
        Absence::NotFound | Absence::NotADirectory => "missing-file",
        Absence::TooManyLinks | Absence::NameTooLong => "bad-path",
        Absence::Denied => "unreadable-file",
    }
}

fn looked_in(rule: &FoundBy, directories: &[Vec<u8>]) -> String {
    let directories = listed(directories.iter().map(|directory| match directory.as_slice() {
        b"" => "the working directory".to_owned(),
        directory => show(directory.strip_suffix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(directory)),
    }));
    match rule {
        FoundBy::Default | FoundBy::Path => directories,
        rule => format!("{directories} ({rule})"),
    }
}

fn listed<T: fmt::Display>(items: impl Iterator<Item = T>) -> String {
    items.map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_has_its_name_in_the_message() {
        let said = |name: &str, text: &str| {
            let keep = Keep::Program { name: RawPath::from(name), to: None };
            let origin = Origin::Line { file: "Dockerfile".to_owned(), line: 3, text: text.to_owned() };
            let (searched, rootfs, nearest) = (Vec::new(), "the target".to_owned(), None);
            Problem::ProgramNotFound { root: Root { keep, origin }, searched, rootfs, nearest }.to_string()
        };
        assert_eq!(said("/x", "CMD [\"/x\"]"), "`CMD [\"/x\"]` (Dockerfile:3) is not in the target");
        assert_eq!(
            said("/bin/sh", "CMD x --version"),
            "`/bin/sh`, which `CMD x --version` (Dockerfile:3) runs, is not in the target"
        );
    }
}
