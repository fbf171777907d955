//! Roots + the tree they are in -> their closure, or what is wrong, at the lines of the build file that are to blame.

use std::collections::BTreeSet;

use minimage::explain::{Choice, Explanation};
use minimage::options::Choices;
use minimage::packages::{self, PackageError};
use minimage::resolve::{self, Inputs, Problem, Resolution, ResolveError};
use minimage::rootfs::{Rootfs, RootfsError};
use minimage::roots::Root;
use minimage::rules::Catalogue;
use minimage::spec::{RunAs, Selection};
use thiserror::Error;

use crate::blame::Said;
use crate::request::{Asked, Finding};

/// Why nobody knows what roots need.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ClosureError {
    /// A root filesystem cannot be read.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A database of packages cannot be read.
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// What every closure of this image is made with.
pub(crate) struct Wants<'a> {
    pub(crate) choices: Choices,
    pub(crate) rules: Catalogue,
    pub(crate) user: Option<RunAs>,
    pub(crate) said: Said<'a>,
}

/// A problem with what it says at the lines it is about.
pub(crate) type Blamed = (Option<Problem>, Finding);

/// Returns the closure of `roots`, or all that is wrong, each at the line of the option that it is about, or of the root
/// that runs into it.
pub(crate) fn closure(
    rootfs: &dyn Rootfs,
    roots: &[(&Asked, Root)],
    wants: &Wants<'_>,
    user: Option<&RunAs>,
) -> Result<Result<Resolution, Vec<Blamed>>, ClosureError> {
    selected(rootfs, roots, wants, &wants.choices.selection, user)
}

/// A closure in one of several trees.
pub(crate) struct Part {
    pub(crate) resolution: Resolution,
    /// The libraries that the tree lacks.
    pub(crate) lacking: Vec<Blamed>,
}

/// Does the same in one of several trees, which need not have all that options ask for, nor all libraries: whether they
/// are where the image looks for them, the closure over all of the trees tells.
pub(crate) fn closure_in_part(
    rootfs: &dyn Rootfs,
    roots: &[(&Asked, Root)],
    wants: &Wants<'_>,
) -> Result<Result<Part, Vec<Blamed>>, ClosureError> {
    let mut selection = wants.choices.selection.clone();
    let mut lacking: Vec<Blamed> = Vec::new();
    loop {
        let problems = match selected(rootfs, roots, wants, &selection, None)? {
            Ok(resolution) => return Ok(Ok(Part { resolution, lacking })),
            Err(problems) => problems,
        };
        let about = problems.iter().filter_map(|(problem, _)| problem.as_ref()?.explain().about);
        let left = about.filter(|choice| leave(&mut selection, choice)).count();
        let sonames: Vec<String> = problems.iter().filter_map(missing_library).collect();
        lacking.extend(problems);
        if left + sonames.len() == 0 {
            return Ok(Err(lacking));
        }
        lacking.retain(|problem| missing_library(problem).is_some());
        selection.allow_missing.extend(sonames);
    }
}

/// Returns the `problems` of the closure over all trees. Libraries that are missing are as the parts have them that lack
/// them: with where those were looked for, and for whom.
pub(crate) fn as_in_parts(problems: Vec<Blamed>, lacking: Vec<Blamed>) -> Vec<Blamed> {
    let missing: BTreeSet<String> = problems.iter().filter_map(missing_library).collect();
    let is_missing = |library: &Blamed| missing_library(library).is_some_and(|name| missing.contains(&name));
    let lacking: Vec<Blamed> = lacking.into_iter().filter(is_missing).collect();
    let told: BTreeSet<String> = lacking.iter().filter_map(missing_library).collect();
    let is_told = |problem: &Blamed| missing_library(problem).is_some_and(|name| told.contains(&name));
    let others = problems.into_iter().filter(|problem| !is_told(problem));
    lacking.into_iter().map(|(_, finding)| (None, finding)).chain(others).collect()
}

/// Returns the name of the library that is missing, if that is the problem.
fn missing_library((problem, _): &Blamed) -> Option<String> {
    match problem {
        Some(problem @ Problem::LibraryMissing { .. }) => problem.missing().map(|(name, _)| name),
        _ => None,
    }
}

/// Leaves `choice` out of `selection`, if it asks for something that a tree may have or not. Returns whether it did.
fn leave(selection: &mut Selection, choice: &Choice) -> bool {
    let Selection { with, users, nss, .. } = selection;
    let count = with.len() + users.len() + nss.len();
    with.retain(|with| Choice::new("with", with) != *choice);
    users.retain(|user| Choice::new("with-user", user) != *choice);
    nss.retain(|name| Choice::new("nss", name) != *choice);
    with.len() + users.len() + nss.len() < count
}

fn selected(
    rootfs: &dyn Rootfs,
    roots: &[(&Asked, Root)],
    wants: &Wants<'_>,
    selection: &Selection,
    user: Option<&RunAs>,
) -> Result<Result<Resolution, Vec<Blamed>>, ClosureError> {
    let packages = packages::open(rootfs)?;
    let resolved = |roots: &[Root]| {
        resolve::closure(&Inputs {
            rootfs,
            packages: packages.as_deref(),
            roots,
            search: &wants.choices.search,
            selection,
            rules: &wants.rules,
            user,
        })
    };
    let said = &wants.said;
    let unblamed = |error: &ResolveError| -> Vec<Blamed> {
        said.findings(error, (0, 0)).into_iter().map(|finding| (None, finding)).collect()
    };
    let all: Vec<Root> = roots.iter().map(|(_, root)| root.clone()).collect();
    let problems = match resolved(&all) {
        Ok(resolution) => return Ok(Ok(resolution)),
        Err(ResolveError::Incomplete { problems }) => problems,
        Err(ResolveError::Rootfs(error)) => return Err(error.into()),
        Err(error) => return Ok(Err(unblamed(&error))),
    };
    let mut blamed: Vec<Blamed> = Vec::new();
    let mut blame = |problem: &Problem, explanation: Explanation, lines| {
        let finding = said.finding(explanation, lines);
        if !blamed.iter().any(|(_, known)| *known == finding) {
            blamed.push((Some(problem.clone()), finding));
        }
    };
    // Options are the same for all roots.
    let explained = problems.into_iter().map(|problem| (problem.explain(), problem));
    let (of_options, mut left): (Vec<_>, Vec<_>) = explained.partition(|(it, _)| it.about.is_some());
    for (explanation, problem) in of_options {
        blame(&problem, explanation, (0, 0));
    }
    for (asked, root) in roots {
        match resolved(std::slice::from_ref(root)) {
            Ok(_) => {}
            Err(ResolveError::Incomplete { problems }) => {
                for problem in problems {
                    let explanation = problem.explain();
                    if explanation.about.is_some() {
                        continue;
                    }
                    left.retain(|(known, _)| *known != explanation);
                    // The origin of a program is part of what is said of it.
                    let explanation = match &problem {
                        Problem::ProgramNotFound { .. } => explanation,
                        _ => explanation.at(root.origin.to_string()),
                    };
                    blame(&problem, explanation, asked.lines);
                }
            }
            Err(ResolveError::Rootfs(error)) => return Err(error.into()),
            Err(error) => return Ok(Err(unblamed(&error))),
        }
    }
    // What only arises between roots.
    for (explanation, problem) in left {
        blame(&problem, explanation, (0, 0));
    }
    Ok(Err(blamed))
}
