//! What the build file asks for + the trees that it is about -> the roots in them: one for each file that was copied.

use std::collections::{BTreeMap, BTreeSet};

use minimage::formats::ReadAt;
use minimage::formats::elf::Elf;
use minimage::formats::shell::Login;
use minimage::path::{RawPath, RootPath};
use minimage::rootfs::{Kind, Rootfs, RootfsError, chase};
use minimage::roots::Keep;

use crate::application;
use crate::expand::{self, Contents, Place, Told, itself};
use crate::request::{Asked, Outcome, Request, Stage, StageKind, What};

/// One root of the image.
pub(crate) struct Found<'a> {
    pub(crate) asked: &'a Asked,
    /// What to keep of the target.
    pub(crate) keep: Keep,
    /// The stage that it was copied from, and what to keep of that.
    pub(crate) origin: Option<(usize, Keep)>,
}

impl Found<'_> {
    /// Returns where it is in the target, and the stage that it was copied from, if it was.
    pub(crate) fn copy(&self) -> Option<(RootPath, usize)> {
        let (stage, _) = self.origin.as_ref()?;
        Some((RootPath::from_normal(self.keep.path()?.as_bytes())?, *stage))
    }
}

/// What roots are found in.
pub(crate) struct Trees<'a> {
    target: &'a dyn Rootfs,
    base: Option<&'a dyn Rootfs>,
    stages: &'a [&'a dyn Rootfs],
    kinds: Vec<StageKind>,
    /// For each stage, where its files were copied from, if programs do not run in it.
    sources: Vec<Sources>,
    /// The files of the target that a shell is told to read.
    scripts: BTreeSet<RootPath>,
}

/// For paths of one stage, the place of another one in the request, and the path there.
type Sources = BTreeMap<RootPath, (usize, RootPath)>;

/// Returns where the files of each stage of `request` were copied from.
fn sources(request: &Request, stages: &[&dyn Rootfs]) -> Result<Vec<Sources>, RootfsError> {
    let of_stage = |(asked, stage): (&Stage, &&dyn Rootfs)| {
        let mut sources = Sources::new();
        for copied in &asked.copies {
            let Some(from) = stages.get(copied.stage) else { continue };
            let pairs = expand::pairs(copied, *from, *stage)?;
            sources.extend(pairs.into_iter().map(|pair| (pair.to, (copied.stage, pair.from))));
        }
        Ok(sources)
    };
    request.stages.iter().zip(stages).map(of_stage).collect()
}

/// Returns the files of `target` that a shell is told to read.
fn scripts(request: &Request, target: &dyn Rootfs) -> Result<BTreeSet<RootPath>, RootfsError> {
    let mut scripts = BTreeSet::new();
    for asked in &request.roots {
        if let What::Script(path) = &asked.what {
            scripts.extend(chase(target, &RawPath::from(path.as_str()))?.target());
        }
    }
    Ok(scripts)
}

impl<'a> Trees<'a> {
    /// Returns the trees of `request`: `target`, the one that was built on, and `stages`.
    pub(crate) fn new(
        request: &Request,
        target: &'a dyn Rootfs,
        base: Option<&'a dyn Rootfs>,
        stages: &'a [&'a dyn Rootfs],
    ) -> Result<Self, RootfsError> {
        let kinds = request.stages.iter().map(|stage| stage.kind).collect();
        let (sources, scripts) = (sources(request, stages)?, scripts(request, target)?);
        Ok(Self { target, base, stages, kinds, sources, scripts })
    }

    /// Returns the stage that the file `path` of `stage` was first copied from, and its path there.
    fn first(&self, stage: usize, path: RootPath) -> (usize, RootPath) {
        let mut first = (stage, path);
        for _ in &self.sources {
            match self.sources.get(first.0).and_then(|sources| sources.get(&first.1)) {
                Some(source) => first = source.clone(),
                None => break,
            }
        }
        first
    }
}

/// Returns the roots that `asked` stands for, and adds to `outcome` what it asks for that no image has.
pub(crate) fn roots<'a>(
    asked: &'a Asked,
    trees: &Trees<'_>,
    told: &mut Told,
    outcome: &mut Outcome,
) -> Result<Vec<Found<'a>>, RootfsError> {
    let Trees { target, base, stages, .. } = *trees;
    let keep = |keep| Found { asked, keep, origin: None };
    let mut left = Vec::new();
    let found = match &asked.what {
        What::Copied(copied) => {
            let Some(stage) = stages.get(copied.stage) else { return Ok(Vec::new()) };
            let mut found = Vec::new();
            let pairs = expand::pairs(copied, *stage, target)?;
            if pairs.is_empty() && copied.unpacks {
                // An archive: not there itself, but what was in it.
                let top = itself(target, &RawPath::from(copied.to.as_str()))?;
                let unpacked = expand::tree(target, top.unwrap_or_else(RootPath::root))?;
                for path in unpacked.paths {
                    if !application::is_same(base, target, &path)? {
                        found.push(keep(Keep::Member(path.to_raw())));
                    }
                }
                for (path, what) in unpacked.special {
                    if !application::is_same(base, target, &path)? {
                        left.push((path, what));
                    }
                }
            }
            for pair in pairs.into_iter().filter(|pair| !pair.to.is_root()) {
                if let Some(Kind::Special(what)) = target.lookup(&pair.to)?.map(|node| node.kind) {
                    left.push((pair.to, what));
                    continue;
                }
                let wrapped = |path: RawPath| match pair.place {
                    Place::Named => Keep::File(path),
                    Place::Below => Keep::Member(path),
                };
                let (first, from) = trees.first(copied.stage, pair.from);
                let Some(stage) = stages.get(first) else { continue };
                let path = from.to_raw();
                let to = match finds_by_place(*stage, &from, &pair.to)? {
                    true => Some(pair.to.to_raw()),
                    false => None,
                };
                let origin = match (pair.place == Place::Named && is_program(*stage, &from)?, to) {
                    // With what its package brings.
                    (true, to) => Keep::Program { name: path, to },
                    (false, Some(to)) => Keep::Moved { path, to },
                    // With the programs that it runs.
                    (false, None) if trees.scripts.contains(&pair.to) => Keep::Script(path),
                    (false, None) => wrapped(path),
                };
                // A script of the user's own that the build file names is one that something will run.
                let is_own = trees.kinds.get(first) == Some(&StageKind::Files);
                let keep = match script(target, &pair.to)?.filter(|_| pair.place == Place::Named && is_own) {
                    Some(Script::Started) => Keep::Program { name: pair.to.to_raw(), to: None },
                    Some(Script::Read) => Keep::Script(pair.to.to_raw()),
                    None => wrapped(pair.to.to_raw()),
                };
                found.push(Found { asked, keep, origin: Some((first, origin)) });
            }
            found
        }
        What::Made(path) | What::Path(path) => {
            let real = itself(target, &RawPath::from(path.as_str()))?.filter(|real| !real.is_root());
            real.map(|real| keep(Keep::File(real.to_raw()))).into_iter().collect()
        }
        What::Tree(path) => match itself(target, &RawPath::from(path.as_str()))? {
            Some(top) => {
                let Contents { paths, special } = expand::tree(target, top)?;
                left = special;
                paths.iter().map(|path| keep(Keep::Member(path.to_raw()))).collect()
            }
            None => Vec::new(),
        },
        What::Program(path) => vec![keep(Keep::Program { name: RawPath::from(path.as_str()), to: None })],
        What::Argument(path) => {
            let path = RawPath::from(path.as_str());
            let is_file = chase(target, &path)?.end.is_ok_and(|(_, node)| node.kind == Kind::File);
            is_file.then(|| keep(Keep::Member(path))).into_iter().collect()
        }
        What::Login { program, user } => {
            let user = user.as_ref().map(|user| user.as_bytes().to_vec());
            vec![keep(Keep::Login(Login { program: program.as_bytes().to_vec(), user }))]
        }
        What::Word(_) | What::Command(_) | What::Script(_) => Vec::new(),
    };
    outcome.warnings.extend(told.warning(left, asked.lines));
    Ok(found)
}

/// Returns whether the file at `path` is one to start. Some libraries can be started too, and say what they are, but that
/// is not what they are there for.
fn is_program(rootfs: &dyn Rootfs, path: &RootPath) -> Result<bool, RootfsError> {
    Ok(executable(rootfs, path)?.is_some_and(|file| {
        let is_elf = Elf::parse(&*file)
            .is_ok_and(|elf| (elf.interp.is_some() || elf.is_static()) && elf.soname.is_none());
        is_elf || has_shebang(&*file)
    }))
}

/// Who runs a script.
enum Script {
    /// The kernel, by an interpreter.
    Started,
    /// A shell that another script tells to.
    Read,
}

/// Returns who runs the file at `path`, which somebody may execute; `None` if it is no script.
fn script(rootfs: &dyn Rootfs, path: &RootPath) -> Result<Option<Script>, RootfsError> {
    let file = executable(rootfs, path)?;
    Ok(file.and_then(|file| match has_shebang(&*file) {
        true => Some(Script::Started),
        false => path.file_name().ends_with(b".sh").then_some(Script::Read),
    }))
}

/// Opens the file at `path` if somebody may execute it.
fn executable<'a>(
    rootfs: &'a dyn Rootfs,
    path: &RootPath,
) -> Result<Option<Box<dyn ReadAt + 'a>>, RootfsError> {
    match rootfs.lookup(path)? {
        Some(node) if node.is_executable() => rootfs.open(path).map(Some),
        _ => Ok(None),
    }
}

fn has_shebang(file: &dyn ReadAt) -> bool {
    let mut head = [0; 2];
    matches!(file.read_at(0, &mut head), Ok(2)) && head == *b"#!"
}

/// Returns whether the file at `from`, which is at `to` in the target, is in another directory there, and has libraries
/// looked for beside itself.
fn finds_by_place(stage: &dyn Rootfs, from: &RootPath, to: &RootPath) -> Result<bool, RootfsError> {
    let is_file = matches!(stage.lookup(from)?, Some(node) if node.kind == Kind::File);
    if from.parent() == to.parent() || !is_file {
        return Ok(false);
    }
    let file = stage.open(from)?;
    let Ok(elf) = Elf::parse(&*file) else { return Ok(false) };
    let needs = elf.needs.iter().map(|need| need.name.as_slice());
    let mut texts = [elf.runpath.as_deref(), elf.rpath.as_deref()].into_iter().flatten().chain(needs);
    Ok(texts.any(|text| text.windows(6).any(|word| word == b"ORIGIN")))
}
