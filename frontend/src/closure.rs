//! Roots + the tree they are in -> their closure, or what is wrong, at the lines of the build file that are to blame.

use std::collections::BTreeSet;
use std::slice;

use minimage::explain::{Choice, Explain, Explanation};
use minimage::glob;
use minimage::options::Choices;
use minimage::packages::{self, PackageDb, PackageError};
use minimage::path::RootPath;
use minimage::resolve::{self, Inputs, Problem, Resolution, ResolveError, TreeName};
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

/// What messages call what asks for a root, and the lines that do.
pub(crate) type Asker = (String, (i32, i32));

/// A problem, and who runs into it.
#[derive(Debug, Clone)]
pub(crate) struct Blamed {
    /// The problem, unless it is one of the options themselves.
    pub(crate) problem: Option<Problem>,
    pub(crate) explanation: Explanation,
    /// What asks for the roots that run into it.
    pub(crate) roots: Vec<Asker>,
}

impl Blamed {
    /// Returns what to say of it, once at the lines of each root.
    pub(crate) fn findings(self, said: &Said<'_>) -> Vec<Finding> {
        let Self { problem, mut explanation, roots } = self;
        // The origin of a program is part of what is said of it.
        if !matches!(problem, Some(Problem::ProgramNotFound { .. })) {
            for (root, _) in &roots {
                if !explanation.places.iter().any(|place| place.contains(root)) {
                    explanation.places.push(root.clone());
                }
            }
        }
        let mut lines: Vec<(i32, i32)> = roots.into_iter().map(|(_, lines)| lines).collect();
        lines.dedup();
        if lines.is_empty() {
            lines.push((0, 0));
        }
        let mut findings: Vec<Finding> =
            lines.into_iter().map(|lines| said.finding(explanation.clone(), lines)).collect();
        findings.dedup();
        findings
    }
}

/// A tree, and what explanations of its problems call it.
pub(crate) struct Within<'a> {
    pub(crate) rootfs: &'a dyn Rootfs,
    pub(crate) name: TreeName<'a>,
}

/// Returns the closure of `roots`, or all that is wrong, each with the roots that run into it.
pub(crate) fn closure(
    within: &Within<'_>,
    roots: &[(&Asked, Root)],
    wants: &Wants<'_>,
    user: Option<&RunAs>,
) -> Result<Result<Resolution, Vec<Blamed>>, ClosureError> {
    let packages = packages::open(within.rootfs)?;
    let selection = &wants.choices.selection;
    let attempt = Attempt { within, packages: packages.as_deref(), wants, selection, user };
    match attempt.resolution(&all(roots))? {
        Ok(resolution) => Ok(Ok(resolution)),
        Err(wrong) => attempt.blamed(roots, wrong).map(Err),
    }
}

/// A closure in one of several trees.
pub(crate) struct Part {
    pub(crate) resolution: Resolution,
    /// The libraries that the tree lacks.
    pub(crate) lacking: Vec<Blamed>,
    /// What to say of that which options ask for and the tree lacks.
    pub(crate) absent: Vec<Explanation>,
}

/// Does the same in one of several trees, which need not have all that options ask for, nor all libraries: whether they
/// are where the image looks for them, the closure over all of the trees tells.
pub(crate) fn closure_in_part(
    within: &Within<'_>,
    roots: &[(&Asked, Root)],
    wants: &Wants<'_>,
) -> Result<Result<Part, Vec<Blamed>>, ClosureError> {
    let mut selection = wants.choices.selection.clone();
    // Patterns are for paths of the image, where what is copied from here may be called otherwise.
    let path = |root: &Root| RootPath::from_normal(root.keep.path()?.as_bytes());
    selection.exclude.retain(|glob| {
        let mut copied = roots.iter().filter_map(|(_, root)| path(root));
        !copied.any(|path| glob::covers(slice::from_ref(glob), &path))
    });
    let packages = packages::open(within.rootfs)?;
    let (mut lacking, mut absent) = (Vec::new(), Vec::new());
    let all = all(roots);
    loop {
        let attempt =
            Attempt { within, packages: packages.as_deref(), wants, selection: &selection, user: None };
        let wrong = match attempt.resolution(&all)? {
            Ok(resolution) => return Ok(Ok(Part { resolution, lacking, absent })),
            Err(wrong) => wrong,
        };
        let mut fewer = selection.clone();
        let explanations = wrong.iter().map(|wrong| wrong.explanation.clone());
        let is_left = |it: &Explanation| it.about.as_ref().is_some_and(|choice| leave(&mut fewer, choice));
        let left: Vec<Explanation> = explanations.filter(is_left).collect();
        let sonames: Vec<String> = wrong.iter().filter_map(missing_library).collect();
        if left.is_empty() && sonames.is_empty() {
            lacking.extend(attempt.blamed(roots, wrong)?);
            return Ok(Err(lacking));
        }
        absent.extend(left);
        if !sonames.is_empty() {
            let blamed = attempt.blamed(roots, wrong)?.into_iter();
            lacking.extend(blamed.filter(|wrong| missing_library(wrong).is_some()));
        }
        fewer.allow_missing.extend(sonames);
        selection = fewer;
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
    lacking.into_iter().map(|library| Blamed { problem: None, ..library }).chain(others).collect()
}

/// Returns the name of the library that is missing, if that is the problem.
fn missing_library(wrong: &Blamed) -> Option<String> {
    match &wrong.problem {
        Some(problem @ Problem::LibraryMissing { .. }) => problem.missing().map(|(name, _)| name),
        _ => None,
    }
}

fn all(roots: &[(&Asked, Root)]) -> Vec<Root> {
    roots.iter().map(|(_, root)| root.clone()).collect()
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

/// One way to look for what roots need.
struct Attempt<'a> {
    within: &'a Within<'a>,
    /// The packages of that tree, read once for all attempts.
    packages: Option<&'a dyn PackageDb>,
    wants: &'a Wants<'a>,
    selection: &'a Selection,
    user: Option<&'a RunAs>,
}

impl Attempt<'_> {
    /// Returns the closure of `roots`, or what is wrong with it.
    fn resolution(&self, roots: &[Root]) -> Result<Result<Resolution, Vec<Blamed>>, ClosureError> {
        let Within { rootfs, name } = *self.within;
        let resolution = resolve::closure(&Inputs {
            rootfs,
            packages: self.packages,
            roots,
            search: &self.wants.choices.search,
            selection: self.selection,
            rules: &self.wants.rules,
            user: self.user,
        });
        let blamed = |problem, explanation| Blamed { problem, explanation, roots: Vec::new() };
        Ok(match resolution {
            Ok(resolution) => Ok(resolution),
            Err(ResolveError::Incomplete { problems }) => Err(problems
                .into_iter()
                .map(|problem| blamed(Some(problem.clone()), problem.explain_in(name)))
                .collect()),
            Err(ResolveError::Rootfs(error)) => return Err(error.into()),
            Err(error) => {
                Err(error.explain().into_iter().map(|explanation| blamed(None, explanation)).collect())
            }
        })
    }

    /// Returns what is `wrong` with all of `roots` together, and with those of each line that run into it by themselves.
    fn blamed(&self, roots: &[(&Asked, Root)], wrong: Vec<Blamed>) -> Result<Vec<Blamed>, ClosureError> {
        let mut blamed: Vec<Blamed> = Vec::new();
        for one in wrong {
            if !blamed.iter().any(|known| known.explanation == one.explanation) {
                blamed.push(one);
            }
        }
        // Options are the same for all roots.
        if blamed.iter().all(|one| one.explanation.about.is_some()) {
            return Ok(blamed);
        }
        // A line can stand for a thousand files: who is to blame is the line.
        let mut lines: Vec<(Asker, Vec<Root>)> = Vec::new();
        for (asked, root) in roots {
            let by = (root.origin.to_string(), asked.lines);
            match lines.iter_mut().find(|(known, _)| *known == by) {
                Some((_, of_line)) => of_line.push(root.clone()),
                None => lines.push((by, vec![root.clone()])),
            }
        }
        for (by, roots) in lines {
            let Err(wrong) = self.resolution(&roots)? else { continue };
            for one in wrong.into_iter().filter(|one| one.explanation.about.is_none()) {
                let known = blamed.iter().position(|known| known.explanation == one.explanation);
                let known = known.unwrap_or_else(|| {
                    blamed.push(one);
                    blamed.len() - 1
                });
                if let Some(known) = blamed.get_mut(known).filter(|known| !known.roots.contains(&by)) {
                    known.roots.push(by.clone());
                }
            }
        }
        Ok(blamed)
    }
}

#[cfg(test)]
mod tests {
    use minimage::explain::Spelling;
    use minimage::glob::Glob;
    use minimage::path::RawPath;
    use minimage::roots::{Keep, Origin};
    use minimage::spec::Search;

    use super::*;
    use crate::tree_text::Tree;

    #[test]
    fn who_asks_is_told_once() {
        let rootfs = Tree::parse("debian:bookworm", "/bin/x elf\n").to_memory();
        let within = Within { rootfs: &rootfs, name: TreeName::Source };
        let choices = Choices { search: Search::standard(), selection: Selection::bare() };
        let said = Said { given: Vec::new(), spelling: Spelling::Keys, file: "minimage.toml" };
        let wants = Wants { choices, rules: Catalogue::empty(), user: None, said };
        let found = |keeps: &[(&str, Keep)]| {
            let asked = |(line, (text, _)): (i32, &(&str, Keep))| Asked::by(*text, (line, line));
            let asked: Vec<Asked> = (1..).zip(keeps).map(asked).collect();
            let root = |(asked, (text, keep)): (&Asked, &(&str, Keep))| {
                let line = u32::try_from(asked.lines.0).unwrap();
                let (file, text) = ("minimage.toml".to_owned(), (*text).to_owned());
                Root { keep: keep.clone(), origin: Origin::Line { file, line, text } }
            };
            let roots: Vec<(&Asked, Root)> = asked.iter().zip(asked.iter().zip(keeps).map(root)).collect();
            let wrong = closure(&within, &roots, &wants, None).unwrap().unwrap_err();
            let findings = wrong.into_iter().flat_map(|wrong| wrong.findings(&wants.said));
            findings.map(|finding| format!("{}: {}", finding.lines.0, finding.text)).collect::<Vec<_>>()
        };
        let include = Keep::Matching(Glob::parse("/none/*").unwrap());
        let add = Keep::Tree("/gone:/srv".parse().unwrap());
        let expected = [
            "1: error[nothing-matches]: `/none/*` leads to nothing in the rootfs\n  \
                where: asked for by `include = \"/none/*\"` (minimage.toml:1)\n    fix: check the path in the source",
            "2: error[nothing-matches]: `/gone` leads to nothing in the rootfs\n  \
                where: asked for by `add = \"/gone:/srv\"` (minimage.toml:2)\n    fix: check the path in the source",
        ];
        assert_eq!(found(&[("include = \"/none/*\"", include), ("add = \"/gone:/srv\"", add)]), expected);
        let program = || Keep::Program { name: RawPath::from("/bin/x"), to: None };
        let expected = "error[missing-loader]: the loader `/lib64/ld-linux-x86-64.so.2` is not in the rootfs\n  \
            where: `/bin/x` names it (PT_INTERP)\n  where: `one` (minimage.toml:1)\n  \
            where: `two` (minimage.toml:2)\n    \
            why: the kernel would say \"no such file or directory\", and mean the loader\n    \
            fix: install the C library that the program was built for in the source";
        assert_eq!(
            found(&[("one", program()), ("two", program())]),
            [format!("1: {expected}"), format!("2: {expected}")]
        );
    }
}
