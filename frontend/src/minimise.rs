//! The request + the trees that it is about -> what is to be in the image, or all that is wrong with it.

use minimage::explain::Spelling;
use minimage::glob::{self, Glob};
use minimage::image;
use minimage::options::{Choices, OptionError};
use minimage::packages::{self, PackageError};
use minimage::path::{RawPath, RootPath};
use minimage::resolve::{Resolution, Resolver, TreeName};
use minimage::rootfs::{CompletedRootfs, Rootfs, RootfsError, chase};
use minimage::roots::{Keep, Origin, Root};
use minimage::rules::{Catalogue, RuleFileError};
use minimage::spec::{Generated, PackageData, RunAs, RunAsError, Search, Selection, SensitiveFiles, Unowned};
use thiserror::Error;

use crate::advice::Advice;
use crate::application::{self, ApplicationError};
use crate::blame::Said;
use crate::closure::{Blamed, ClosureError, Part, Wants, Within, as_in_parts, closure, closure_in_part};
use crate::expand::{self, Told};
use crate::named::{Found, Trees, roots};
use crate::place;
use crate::request::{Asked, Finding, Outcome, Request, StageKind, What};
use crate::settings::{Base, Given};

/// What messages call the reason for what every image has.
pub(crate) const EVERY_IMAGE: &str = "every image";

/// Why nobody knows what is to be in the image.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum MinimiseError {
    /// An option cannot be set.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A root filesystem cannot be read.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// Nobody knows what roots need.
    #[error(transparent)]
    Closure(#[from] ClosureError),
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
}

/// What is to be in an image, and the trees that it is taken from.
pub(crate) struct Minimised<'a> {
    /// The target with what it lacked, from the other stages.
    pub(crate) completed: CompletedRootfs<'a>,
    pub(crate) resolution: Resolution,
}

/// Returns what is to be in the image that `request` asks for; `None` if something is wrong, of which `outcome` tells.
pub(crate) fn minimised<'a>(
    request: &Request,
    target: &'a dyn Rootfs,
    base: Option<&dyn Rootfs>,
    stages: &[&'a dyn Rootfs],
    outcome: &mut Outcome,
) -> Result<Option<Minimised<'a>>, MinimiseError> {
    let path: Vec<_> = request.path.iter().map(|directory| RawPath::from(directory.as_str())).collect();
    let workdir = Some(RawPath::from(request.workdir.as_str()));
    let search = Search { path_inside: path.clone(), path, workdir, ..Search::standard() };
    let variables = request.loader_variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let search = search.with_environment(variables);
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
    let user = match &request.user {
        Some(user) => Some(user.value.parse::<RunAs>()?),
        None => None,
    };
    let wants = Wants { choices, rules: Catalogue::with(&[])?, user, said: said(request) };
    let (mut found, mut told) = (Vec::new(), Told::nothing(request.settings.base));
    let trees = Trees::new(request, target, base, stages)?;
    for asked in &request.roots {
        found.extend(roots(asked, &trees, &mut told, outcome)?);
    }
    let included: Vec<(Glob, Asked)> = request.settings.included()?.into_iter().map(as_asked).collect();
    for (pattern, asked) in &included {
        let matching = expand::everything(target, pattern)?;
        if matching.paths.is_empty() && matching.special.is_empty() {
            let text = format!("nothing matches `{pattern}` in {}", request.target);
            outcome.warnings.push(Finding { lines: asked.lines, text });
        }
        let keep = |path: &RootPath| Keep::Member(path.to_raw());
        found.extend(matching.paths.iter().map(|path| Found { asked, keep: keep(path), origin: None }));
        outcome.warnings.extend(told.warning(matching.special, asked.lines));
    }
    let exclude = &wants.choices.selection.exclude;
    let is_excluded = |path: &RawPath| {
        RootPath::from_normal(path.as_bytes()).is_some_and(|path| glob::covers(exclude, &path))
    };
    // The program that the image is to start is missed.
    let is_program = |found: &Found<'_>| matches!(found.asked.what, What::Program(_));
    found.retain(|found| is_program(found) || !found.keep.path().is_some_and(is_excluded));
    let mut completed = CompletedRootfs::new(target);
    let (mut differences, mut absent) = (Vec::new(), Vec::new());
    let mut lacking: Vec<Blamed> = Vec::new();
    let along = Asked::by(EVERY_IMAGE, (0, 0));
    let mut brought: Vec<(&Asked, Root)> = Vec::new();
    for (index, stage) in stages.iter().copied().enumerate() {
        if request.stages.get(index).is_none_or(|stage| stage.kind == StageKind::Files) {
            continue;
        }
        let of_stage = found.iter().filter_map(|found| match &found.origin {
            Some((from, keep)) if *from == index => Some((found, keep)),
            _ => None,
        });
        let of_stage: Vec<(&Found<'_>, &Keep)> = of_stage.collect();
        let wanted = of_stage.iter().map(|(found, keep)| (found.asked, root(found.asked, keep, request)));
        let wanted: Vec<(&Asked, Root)> = wanted.collect();
        // The image's own user is the target's business.
        let within = Within { rootfs: stage, name: TreeName::System(stage.name()) };
        match closure_in_part(&within, &wanted, &wants)? {
            Ok(Part { resolution, lacking: libraries, absent: of_options }) => {
                lacking.extend(libraries);
                absent.extend(of_options);
                let copies = of_stage
                    .iter()
                    .filter_map(|(found, keep)| Some((keep.path()?.clone(), found.keep.path()?.clone())));
                let copies: Vec<(RawPath, RawPath)> = copies.collect();
                let completion = place::complete(&mut completed, &resolution, stage, index, &copies)?;
                differences.extend(completion.differences);
                let keep = |(path, origin): (RawPath, Option<Origin>)| {
                    let came_with = wanted.iter().find(|(_, root)| Some(&root.origin) == origin.as_ref());
                    let asked = came_with.map_or(&along, |(asked, _)| *asked);
                    let Root { keep, origin: own } = root(asked, &Keep::Member(path), request);
                    (asked, Root { keep, origin: origin.unwrap_or(own) })
                };
                brought.extend(completion.brought.into_iter().map(keep));
            }
            Err(problems) => {
                let findings = problems.into_iter().flat_map(|wrong| wrong.findings(&wants.said));
                outcome.problems.extend(findings);
            }
        }
    }
    if !outcome.problems.is_empty() {
        outcome.problems.extend(lacking.into_iter().flat_map(|wrong| wrong.findings(&wants.said)));
        return Ok(None);
    }
    let mut all: Vec<(&Asked, Root)> =
        found.iter().map(|found| (found.asked, root(found.asked, &found.keep, request))).collect();
    let resolver = Resolver::new(&completed, &wants.choices.search);
    for asked in &request.roots {
        let (What::Word(word) | What::Command(word) | What::Script(word)) = &asked.what else { continue };
        let path = RawPath::from(word.as_str());
        let keep = match &asked.what {
            What::Script(_) => chase(&completed, &path)?.target().map(|_| Keep::Script(path)),
            what => match resolver.program_path(&path)? {
                // It may as well be the name of a file, for the program whose argument it is.
                Some(path) if matches!(what, What::Word(_)) && !chase(&completed, &path)?.is_executable() => {
                    None
                }
                path => path.map(|name| Keep::Program { name, to: None }),
            },
        };
        if let Some(keep) = keep {
            all.push((asked, root(asked, &keep, request)));
        } else if !matches!(asked.what, What::Word(_)) {
            let text = format!("`{word}`, which `{}` runs, is not in {}", asked.text, request.target);
            outcome.warnings.push(Finding { lines: asked.lines, text });
        }
    }
    // After what the user names, which it may be a part of.
    all.extend(brought);
    let ran = Asked::by("RUN", (0, 0));
    // What commands made on a base that stays, stays with it.
    if request.was_run && request.settings.base == Base::Minimise {
        let packages = packages::open(target)?;
        let made = application::files(target, base, packages.as_deref(), &wants.rules)?;
        for path in made.paths.iter().filter(|path| !glob::covers(exclude, path)) {
            all.push((&ran, root(&ran, &Keep::Member(path.to_raw()), request)));
        }
        outcome.warnings.extend(told.warning(made.special, (0, 0)));
    }
    let name = match request.kind {
        StageKind::Rootfs => TreeName::System(&request.target),
        StageKind::Files => TreeName::Collection(&request.target),
    };
    let within = Within { rootfs: &completed, name };
    let resolution = match closure(&within, &all, &wants, wants.user.as_ref())? {
        Ok(resolution) => resolution,
        Err(problems) => {
            let copies: Vec<(RootPath, usize)> = found.iter().filter_map(Found::copy).collect();
            let search = &wants.choices.search;
            let (differences, absent) = (&differences, &absent);
            let advice = Advice {
                request,
                search,
                stages,
                completed: &completed,
                copies: &copies,
                differences,
                absent,
            };
            for wrong in as_in_parts(problems, lacking) {
                outcome.problems.extend(advice.of(wrong)?.findings(&wants.said));
            }
            return Ok(None);
        }
    };
    for asked in &request.roots {
        let What::Program(name) = &asked.what else { continue };
        let path = resolver.program_path(&RawPath::from(name.as_str()))?;
        let program = resolution.programs.iter().find(|program| Some(&program.path) == path.as_ref());
        if let Some(found) = program.and_then(|program| image::foreign(&program.object, &request.platform)) {
            let text = format!("`{name}` is for {found}, but the image for {}", request.platform);
            outcome.warnings.push(Finding { lines: asked.lines, text });
        }
    }
    // The config is the build file's. It is not changed here, as a cache keeps files only.
    for (name, value) in resolution.env.iter().filter(|(name, _)| !request.variables.contains(name)) {
        let text = format!("what is kept needs a variable of the environment; write `ENV {name}={value}`");
        outcome.warnings.push(Finding { lines: (0, 0), text });
    }
    Ok(Some(Minimised { completed, resolution }))
}

/// Returns what `request` says of options.
pub(crate) fn said(request: &Request) -> Said<'_> {
    let given = request.settings.given.iter().chain(&request.user).cloned().collect();
    Said { given, spelling: Spelling::Labels, file: &request.file }
}

fn root(asked: &Asked, keep: &Keep, request: &Request) -> Root {
    let origin = match u32::try_from(asked.lines.0) {
        Ok(line) if line > 0 => Origin::Line { file: request.file.clone(), line, text: asked.text.clone() },
        _ => Origin::Argument(asked.text.clone()),
    };
    Root { keep: keep.clone(), origin }
}

/// Returns the pattern of an option with the line that asks for it.
fn as_asked((pattern, Given { text, lines, .. }): (Glob, &Given)) -> (Glob, Asked) {
    (pattern, Asked::by(text, *lines))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use minimage::rootfs::{Kind, MemoryRootfs};

    use super::*;
    use crate::request::{Copied, Stage};
    use crate::settings::{self, Settings};
    use crate::tree_text::Tree;

    /// The loader of every tree, where the one of Debian is.
    pub(crate) const LOADER: &str = "/lib -> usr/lib
/lib64 -> usr/lib64
/usr/lib64/ld-linux-x86-64.so.2 -> /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2
/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 loader glibc=2.36
  dirs=/lib/x86_64-linux-gnu/:/usr/lib/x86_64-linux-gnu/:/lib/:/usr/lib/
";

    pub(crate) fn tree(name: &str, text: &str) -> MemoryRootfs {
        Tree::parse(name, text).to_memory()
    }

    pub(crate) fn copied(stage: usize, from: &str, to: &str) -> What {
        let (from, to) = (from.to_owned(), to.to_owned());
        let (includes, excludes) = (Vec::new(), Vec::new());
        What::Copied(Copied { stage, from, to, is_pattern: true, unpacks: false, includes, excludes })
    }

    /// A label at `line`.
    pub(crate) fn label(name: &str, value: &str, line: i32) -> Given {
        let text = format!("LABEL minimage.{name}={value}");
        let (name, value) = (name.to_owned(), value.to_owned());
        Given { name, value, place: settings::Written::Label, text, lines: (line, line) }
    }

    /// A request for a target with files of `stages`, of which those called `context` are no root filesystems.
    pub(crate) fn request(stages: &[&str], roots: Vec<What>) -> Request {
        let stage = |name: &&str| Stage {
            name: (*name).to_owned(),
            kind: if *name == "context" { StageKind::Files } else { StageKind::Rootfs },
            copies: Vec::new(),
        };
        let asked = |(line, what)| Asked { what, text: format!("line {line}"), lines: (line, line) };
        Request {
            epoch: 0,
            target: "the target".to_owned(),
            kind: StageKind::Rootfs,
            settings: Settings::default(),
            stages: stages.iter().map(stage).collect(),
            has_base: false,
            was_run: false,
            roots: (1..).zip(roots).map(asked).collect(),
            platform: "linux/amd64".to_owned(),
            user: None,
            workdir: "/".to_owned(),
            path: vec!["/usr/bin".to_owned()],
            variables: Vec::new(),
            loader_variables: Vec::new(),
            file: "Dockerfile".to_owned(),
        }
    }

    /// Returns the files and links of the image, and what is said besides, one a line.
    pub(crate) fn image(request: &Request, target: &MemoryRootfs, stages: &[&MemoryRootfs]) -> String {
        let stages: Vec<&dyn Rootfs> = stages.iter().map(|stage| *stage as &dyn Rootfs).collect();
        let mut outcome = Outcome::default();
        let minimised = minimised(request, target, None, &stages, &mut outcome).unwrap();
        let mut lines = Vec::new();
        if let Some(Minimised { resolution, .. }) = minimised {
            let is_shown = |path: &RootPath| {
                let generated = ["/etc/group", "/etc/nsswitch.conf", "/etc/passwd"];
                !path.to_string().contains("/ld-linux") && !generated.contains(&path.to_string().as_str())
            };
            let entries = resolution.closure.entries();
            let entries = entries.filter(|(_, entry)| entry.node.kind != Kind::Directory);
            let paths: BTreeSet<_> = entries.map(|(path, _)| path).filter(|path| is_shown(path)).collect();
            lines.extend(paths.iter().map(ToString::to_string));
            lines.extend(resolution.warnings.iter().map(|warning| format!("warning: {warning}")));
        }
        let line = |finding: &Finding| match finding.lines {
            (0, _) => String::new(),
            (line, _) => format!("{line}: "),
        };
        let warnings = outcome.warnings.iter();
        lines.extend(warnings.map(|finding| format!("{}warning: {}", line(finding), finding.text)));
        lines.extend(outcome.problems.iter().map(|finding| format!("{}: {}", finding.lines.0, finding.text)));
        lines.join("\n")
    }

    #[test]
    fn what_options_ask_for_comes_from_the_stage_that_has_it() {
        let zone = "/usr/share/zoneinfo/Europe/Paris";
        let one = tree("one", &format!("{LOADER}/bin/a elf\n{zone} text x\n"));
        let two = tree("two", &format!("{LOADER}/bin/b elf\n"));
        let target = tree("target", "/bin/a elf\n/bin/b elf\n");
        let roots = vec![copied(0, "/bin/a", "/bin/a"), copied(1, "/bin/b", "/bin/b")];
        let with = |id: &str| Request {
            settings: Settings::of(vec![label("with", id, 3)]).unwrap(),
            ..request(&["one", "two"], roots.clone())
        };
        let found = image(&with("tzdata"), &target, &[&one, &two]);
        assert_eq!(found.lines().collect::<Vec<_>>(), ["/bin/a", "/bin/b", "/lib64", zone]);
        let found = image(&with("character-sets"), &target, &[&one, &two]);
        assert!(found.starts_with("3: error[empty-rule]") && !found.contains("\n3: "), "{found}");
    }

    #[test]
    fn what_the_image_starts_must_start_however_it_came() {
        let stage = tree("stage", &format!("{LOADER}/o/app elf needed=libx.so.1\n"));
        let target = tree("target", "/app elf needed=libx.so.1\n");
        let app = What::Program("/app".to_owned());
        for from in ["/o/app", "/o/"] {
            let roots = vec![copied(0, from, "/"), app.clone()];
            let found = image(&request(&["build"], roots), &target, &[&stage]);
            assert!(found.contains(": error[missing-library]: `libx.so.1` is not in "), "{found}");
        }
        for (machine, expected) in [
            ("x86_64", "/app"),
            ("i386", "/app"),
            ("aarch64", "/app\n1: warning: `/app` is for linux/arm64, but the image for linux/amd64"),
        ] {
            let target = tree("target", &format!("/app elf static machine={machine}\n"));
            assert_eq!(image(&request(&[], vec![app.clone()]), &target, &[]), expected);
        }
    }

    #[test]
    fn what_lies_beside_something_that_moves_moves_along() {
        let program = "elf needed=libx.so.1 runpath=$ORIGIN/../lib";
        let plugin = "elf needed=libz.so runpath=$ORIGIN/deps";
        let stage = tree(
            "stage",
            &format!(
                "{LOADER}/opt/app/bin/x {program}\n/opt/app/bin/y {program}\n\
                /opt/app/lib/libx.so.1 elf needed=libw.so.1\n/usr/lib/x86_64-linux-gnu/libw.so.1 elf\n\
                /opt/plugins/plug.so {plugin}\n/opt/plugins/deps/libz.so elf\n"
            ),
        );
        let copy = |from: &str, to: &str| request(&["build"], vec![copied(0, from, to)]);
        for (from, to, placed, along) in [
            ("/opt/app/bin/x", "/usr/local/bin/x", "/usr/local/bin/x", "/usr/local/lib/libx.so.1"),
            ("/opt/app/bin/x", "/x", "/x", "/usr/lib/libx.so.1"),
            ("/opt/app/bin", "/srv/bin", "/srv/bin/y", "/srv/lib/libx.so.1"),
            ("/opt/app/bin/x", "/opt/app/bin/a", "/opt/app/bin/a", "/opt/app/lib/libx.so.1"),
        ] {
            let target = tree("target", &format!("{placed} {program}\n"));
            let expected = format!("/lib\n/lib64\n{placed}\n{along}\n/usr/lib/x86_64-linux-gnu/libw.so.1");
            let found = image(&copy(from, to), &target, &[&stage]);
            assert_eq!(found.lines().collect::<BTreeSet<_>>(), expected.lines().collect(), "{from} {to}");
        }
        let target = tree("target", &format!("{LOADER}/modules/plug.so {plugin}\n"));
        let found = image(&copy("/opt/plugins/plug.so", "/modules/"), &target, &[&stage]);
        assert_eq!(found, "/lib64\n/modules/deps/libz.so\n/modules/plug.so");
    }

    #[test]
    fn the_cache_of_the_loader_knows_what_comes_from_stages() {
        let stage = |name: &str| {
            tree(
                name,
                &format!(
                    "{LOADER}/etc/ld.so.cache cache lib{name}.so=/opt/lib{name}.so\n/opt/lib{name}.so elf\n\
                    /opt/{name} elf needed=lib{name}.so\n"
                ),
            )
        };
        let (a, b) = (stage("a"), stage("b"));
        let own =
            "/etc/ld.so.cache cache libc.so=/own/libc.so\n/own/libc.so elf\n/opt/c elf needed=libc.so\n";
        let base = format!("{LOADER}/opt/a elf needed=liba.so\n/opt/b elf needed=libb.so\n");
        let copies = || vec![copied(0, "/opt/a", "/opt/a"), copied(1, "/opt/b", "/opt/b")];
        let of_stages = "/etc/ld.so.cache\n/lib64\n/opt/a\n/opt/b\n/opt/liba.so\n/opt/libb.so";
        let found = image(&request(&["a", "b"], copies()), &tree("target", &base), &[&a, &b]);
        assert_eq!(found, of_stages);
        let all = [copies(), vec![What::Program("/opt/c".to_owned())]].concat();
        let target = tree("target", &format!("{base}{own}"));
        let found = image(&request(&["a", "b"], all), &target, &[&a, &b]);
        let expected = of_stages.replace("/opt/b\n", "/opt/b\n/opt/c\n") + "\n/own/libc.so";
        assert_eq!(found, expected);
    }

    #[test]
    fn what_came_through_stages_without_a_loader_is_of_the_first_one() {
        let program = "elf interp=/lib64/ld-linux-x86-64.so.2 needed=libq.so runpath=$ORIGIN/lib";
        let stage = tree("stage", &format!("{LOADER}/opt/app/x {program}\n/opt/app/lib/libq.so elf\n"));
        let middle = tree("middle", &format!("/app/x {program}\n"));
        let last = tree("last", &format!("/out/bin/x {program}\n"));
        let target = tree("target", &format!("/usr/bin/x {program}\n"));
        let copies = |stage, from, to| match copied(stage, from, to) {
            What::Copied(copied) => vec![copied],
            _ => Vec::new(),
        };
        let mut request =
            request(&["build", "context", "context"], vec![copied(2, "/out/bin/", "/usr/bin/")]);
        request.stages[1].copies = copies(0, "/opt/app/x", "/app/");
        request.stages[2].copies = copies(1, "/app", "/out/bin");
        let found = image(&request, &target, &[&stage, &middle, &last]);
        assert_eq!(found, "/lib64\n/usr/bin/lib/libq.so\n/usr/bin/x");
    }

    #[test]
    fn scripts_that_are_named_run_what_they_say() {
        let target = tree(
            "target",
            &format!(
                "{LOADER}/usr/bin/sh elf\n/usr/bin/one elf\n/usr/bin/two elf\n\
                /hooks/10.sh file \"#!/usr/bin/sh\\none; none\" mode=0755\n\
                /data/x.sh file \"#!/usr/bin/sh\\ntwo\" mode=0755\n"
            ),
        );
        let context = tree("context", "/10.sh file \"\"\n/data/x.sh file \"\"\n");
        let roots = vec![copied(0, "/10.sh", "/hooks/"), copied(0, "/data", "/data")];
        let found = image(&request(&["context"], roots), &target, &[&context]);
        let expected = "/data/x.sh\n/hooks/10.sh\n/lib64\n/usr/bin/one\n/usr/bin/sh\n\
            warning: the script `/hooks/10.sh` runs `none`: not found";
        assert_eq!(found, expected);
    }

    #[test]
    fn a_script_that_a_shell_is_told_to_read_runs_what_it_says() {
        let script = "file \"one; [ -f x ] && two\"";
        let stage =
            tree("stage", &format!("{LOADER}/usr/bin/one elf\n/usr/bin/two elf\n/opt/x.sh {script}\n"));
        let target = tree(
            "target",
            &format!("{LOADER}/usr/bin/sh elf\n/usr/bin/one elf\n/srv/x.sh {script}\n/srv/y.sh {script}\n"),
        );
        let roots = |from: &[&str]| -> Vec<What> {
            let copies = from.iter().map(|path| copied(0, "/opt/x.sh", path));
            let path = |path: &&str| What::Script((*path).to_owned());
            copies.chain(from.iter().map(path)).chain([What::Script("/none.sh".to_owned())]).collect()
        };
        let found = image(&request(&["stage"], roots(&["/srv/x.sh"])), &target, &[&stage]);
        assert_eq!(
            found,
            "/lib64\n/srv/x.sh\n/usr/bin/one\n/usr/bin/two\n3: warning: `/none.sh`, which `line 3` runs, is not in the target"
        );
        let found = image(&request(&[], vec![What::Script("/srv/y.sh".to_owned())]), &target, &[]);
        assert_eq!(
            found,
            "/lib64\n/srv/y.sh\n/usr/bin/one\nwarning: the script `/srv/y.sh` runs `two`: not found"
        );
        let stage =
            tree("context", "/lib.sh script \"one\"\n/lib.txt script \"two\"\n/bin/x script \"two\"\n");
        let target = tree(
            "target",
            &format!(
                "{LOADER}/usr/bin/one elf\n/usr/bin/two elf\n/srv/lib.sh script \"one\"\n/srv/lib.txt script \"two\"\n"
            ),
        );
        let found = image(&request(&["context"], vec![copied(0, "/lib.*", "/srv/")]), &target, &[&stage]);
        assert_eq!(found, "/lib64\n/srv/lib.sh\n/srv/lib.txt\n/usr/bin/one");
        // What a program is given may be a file, or a program.
        let words = ["/srv/y.sh", "/usr/bin", "/usr/bin/one"].map(|word| What::Word(word.to_owned()));
        assert_eq!(image(&request(&[], words.into()), &target, &[]), "/lib64\n/usr/bin/one");
    }

    #[test]
    fn login_shells_find_what_they_read() {
        let target = tree(
            "target",
            &format!(
                "{LOADER}/usr/bin/bash elf\n/usr/bin/id elf\n/usr/bin/tr elf\n/usr/bin/su elf\n\
                /etc/profile script \"[ `id -u` = 0 ]; none\"\n/etc/profile.d/a.sh script \"tr x\"\n/etc/profile.d/b.csh text x\n\
                /etc/profile.d/c.sh text x mode=0600\n/home/x/.bash_profile text x\n/home/x/.bashrc text x\n\
                /root/.profile text x\n/etc/passwd text root:x:0:0::/root:/bin/sh x:x:7:7::/home/x:/bin/bash\n\
                /srv/a.sh script \"exec bash -l\"\n/srv/b.sh script \"exec su - x\"\n/srv/c.sh script \"bash x\"\n"
            ),
        );
        let found = |roots: Vec<What>, user: Option<&str>| {
            let user = user.map(|user| label("user", user, 9));
            image(&Request { user, ..request(&[], roots) }, &target, &[])
        };
        let bash = What::Program("bash".to_owned());
        let login = What::Login { program: "bash".to_owned(), user: None };
        let everybody = "/etc/profile\n/etc/profile.d/a.sh\n/lib64\n";
        let own = "/usr/bin/bash\n/usr/bin/id\n/usr/bin/tr";
        assert_eq!(found(vec![bash.clone()], None), "/lib64\n/usr/bin/bash");
        let as_root = found(vec![bash.clone(), login.clone()], None);
        assert_eq!(as_root, format!("{everybody}/root/.profile\n{own}"));
        let expected = format!("/etc/profile\n/etc/profile.d/a.sh\n/home/x/.bash_profile\n/lib64\n{own}");
        assert_eq!(found(vec![bash, login], Some("x")), expected);
        let script = |path: &str| found(vec![What::Script(path.to_owned())], None);
        assert_eq!(script("/srv/a.sh"), format!("{everybody}/root/.profile\n/srv/a.sh\n{own}"));
        let of_su = "/usr/bin/id\n/usr/bin/su\n/usr/bin/tr";
        assert_eq!(
            script("/srv/b.sh"),
            format!("/etc/profile\n/etc/profile.d/a.sh\n/home/x/.bash_profile\n/lib64\n/srv/b.sh\n{of_su}")
        );
        assert_eq!(script("/srv/c.sh"), "/lib64\n/srv/c.sh\n/usr/bin/bash");
    }

    #[test]
    fn files_that_arguments_name_are_kept() {
        let target = tree(
            "target",
            "/bin/app elf static\n/etc/app.conf text x mode=0600\n/etc/passwd text root:x:0:0::/:/bin/sh\n\
            /srv/x.py -> y.py\n/srv/y.py text x\n/srv/z text x\n",
        );
        let words = ["/etc/app.conf", "/etc/passwd", "/srv/x.py", "/srv", "/none"];
        let roots = words.map(|word| What::Argument(word.to_owned()));
        let found = image(&request(&[], roots.into()), &target, &[]);
        assert_eq!(found, "/etc/app.conf\n/srv/x.py\n/srv/y.py");
    }

    #[test]
    fn what_is_excluded_is_not_kept_whoever_made_it() {
        let target = tree("target", "/a/x file \"\"\n/a/y file \"\"\n/b/x file \"\"\n/b/y file \"\"\n");
        let context = tree("context", "/x file \"\"\n/y file \"\"\n");
        let mut request = request(&["context"], vec![copied(0, "/?", "/a/")]);
        request.was_run = true;
        request.settings.given = vec![label("exclude", "/*/x", 7)];
        assert_eq!(image(&request, &target, &[&context]), "/a/y\n/b/y");
    }

    #[test]
    fn what_no_image_has_is_named_once() {
        let found = |fifos: &str| {
            let text: String = fifos.split(' ').map(|path| format!("{path} fifo\n")).collect();
            let target = tree("target", &format!("/opt/x text x\n/run/of-no-interest fifo\n{text}"));
            image(&Request { was_run: true, ..request(&[], Vec::new()) }, &target, &[])
        };
        assert_eq!(
            found("/opt/b /opt/a"),
            "/opt/x\nwarning: `/opt/a` is a FIFO, `/opt/b` is a FIFO: left out"
        );
        let many = "/opt/x\nwarning: `/opt/a` is a FIFO, `/opt/b` is a FIFO, `/opt/c` is a FIFO, \
            and 2 more: left out";
        assert_eq!(found("/opt/e /opt/d /opt/c /opt/b /opt/a"), many);
        let target = tree(
            "target",
            "/a/z fifo\n/a/x text x\n/a/y fifo\n/b/x text x\n/b/y fifo\n/c/y fifo\n/c/x text x\n/d/y fifo\n/e fifo",
        );
        let stage = tree("stage", "/a.tar text x\n/x text x\n/y fifo\n");
        let mut archive = copied(0, "/a.tar", "/a/");
        let What::Copied(copied) = &mut archive else { unreachable!() };
        copied.unpacks = true;
        let roots = vec![archive, self::copied(0, "/", "/b"), What::Tree("/c".to_owned())];
        let settings = Settings::of(vec![label("include", "/[ad]/*", 4)]).unwrap();
        let request = Request { settings, was_run: true, ..request(&["context"], roots) };
        assert_eq!(
            image(&request, &target, &[&stage]),
            "/a/x\n/b/x\n/c/x\n1: warning: `/a/y` is a FIFO, `/a/z` is a FIFO: left out\n\
                2: warning: `/b/y` is a FIFO: left out\n3: warning: `/c/y` is a FIFO: left out\n\
                4: warning: `/d/y` is a FIFO: left out\nwarning: `/e` is a FIFO: left out"
        );
        // A target that is kept has them.
        let settings = Settings { base: Base::Keep, ..request.settings };
        assert_eq!(image(&Request { settings, ..request }, &target, &[&stage]), "/a/x\n/b/x\n/c/x");
    }

    #[test]
    fn what_is_excluded_is_left_out_whoever_asks_for_it() {
        let stage = tree(
            "stage",
            &format!(
                "{LOADER}/usr/bin/app elf needed=liba.so\n/usr/lib/liba.so elf\n\
                /usr/share/app/x text x\n/usr/share/app/y text y\n/src/main elf needed=libb.so\n\
                /usr/lib/libb.so elf\n/var/lib/dpkg/status text \"Package: app\" \"Status: install ok installed\" \
                \"Architecture: amd64\" \"Version: 1\"\n/var/lib/dpkg/info/app.list text /usr/bin/app \
                /usr/lib/liba.so /usr/share/app/x /usr/share/app/y\n"
            ),
        );
        let target = tree(
            "target",
            "/usr/bin/app elf needed=liba.so\n/opt/main elf needed=libb.so\n/src/own text x\n",
        );
        let found = |exclude: &str| {
            let copies = vec![copied(0, "/usr/bin/app", "/usr/bin/"), copied(0, "/src/main", "/opt/")];
            let mut request = request(&["build"], copies);
            request.was_run = true;
            request.settings.given = vec![label("exclude", exclude, 7)];
            image(&request, &target, &[&stage])
        };
        // What a package brings, what is written, what commands made; but not what is only called so in the stage.
        let left =
            "/lib\n/lib64\n/opt/main\n/usr/bin/app\n/usr/lib/liba.so\n/usr/lib/libb.so\n/usr/share/app/x";
        let excluded = found("/usr/share/app/y,/var/lib/{apt,dpkg},/src/**");
        assert_eq!(excluded.lines().collect::<BTreeSet<_>>(), left.lines().collect());
        let needed = "1: error[excluded]: `/usr/lib/liba.so` is excluded, but needed\n  \
            where: `/usr/bin/app` needs `liba.so`\n  where: `line 1` (Dockerfile:1)\n    \
            fix: narrow `minimage.exclude`";
        assert_eq!(found("/usr/lib/liba.so"), needed);
        let mut request = request(&[], vec![What::Program("/usr/bin/app".to_owned())]);
        request.settings.given = vec![label("exclude", "/usr/bin", 7)];
        let found = image(&request, &stage, &[]);
        assert!(found.starts_with("1: error[excluded]: `/usr/bin` is excluded, but needed"), "{found}");
    }

    #[test]
    fn what_options_get_wrong_is_at_their_lines() {
        let target = tree(
            "target",
            &format!("{LOADER}/usr/bin/app elf\n/etc/group file \"root:x:0:\\nnogroup:x:65534:\\n\"\n"),
        );
        let app = || vec![What::Program("/usr/bin/app".to_owned()), What::Program("/usr/bin/app".to_owned())];
        let found = |given: Vec<Given>, user: Option<&str>| {
            let mut request = request(&[], app());
            request.settings.given = given;
            request.user = user.map(|user| Given { text: format!("USER {user}"), ..label("user", user, 9) });
            image(&request, &target, &[])
        };
        for (settings, user, expected) in [
            (
                vec![label("with", "tzdtaa", 5)],
                None,
                "5: error[unknown-rule]: there is no rule called `tzdtaa`\n  \
                    where: `LABEL minimage.with=tzdtaa` (Dockerfile:5)\n    fix: did you mean `tzdata`?",
            ),
            (
                vec![label("with", "tzdata", 5), label("with", "locale", 6)],
                None,
                "6: error[usage]: the rule `locale` does not say which\n  \
                    where: `LABEL minimage.with=locale` (Dockerfile:6)\n    \
                    fix: write `LABEL minimage.with=locale=NAME`",
            ),
            (
                vec![label("nss", "gone", 5)],
                None,
                "5: error[unknown-service]: the target has no name service `gone`\n  \
                    where: `LABEL minimage.nss=gone` (Dockerfile:5)\n    why: no loader finds `libnss_gone.so.2`\n    \
                    fix: install the package that has `libnss_gone.so.2` in the target",
            ),
            (
                vec![],
                Some("root:nogrp"),
                "9: error[unknown-group]: the target has no group called `nogrp`\n  \
                    where: `USER root:nogrp` (Dockerfile:9)\n    why: looked in `/etc/group` of the target\n    \
                    fix: did you mean `nogroup`?\n    fix: add the group there, or give a number",
            ),
            (
                vec![label("include", "/none/*, /nothing", 5)],
                None,
                "/lib64\n/usr/bin/app\n5: warning: nothing matches `/none/*` in the target\n\
                    5: warning: nothing matches `/nothing` in the target",
            ),
        ] {
            assert_eq!(found(settings, user), expected);
        }
    }

    #[test]
    fn loaders_find_what_the_environment_of_the_image_says() {
        let program = "elf needed=libq.so";
        let stage = tree(
            "stage",
            &format!(
                "{LOADER}/build/x {program}\n/build/out/libq.so elf needed=libr.so\n/opt/libr.so elf\n/usr/lib/libp.so elf\n"
            ),
        );
        let target = tree("target", &format!("/usr/bin/x {program}\n/app/lib/libq.so elf needed=libr.so\n"));
        let roots = || {
            vec![
                copied(0, "/build/x", "/usr/bin/"),
                copied(0, "/build/out/", "/app/lib/"),
                What::Program("/usr/bin/x".to_owned()),
            ]
        };
        let found = |variables: &[(&str, &str)]| {
            let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let loader_variables = variables.iter().map(pair).collect();
            let request =
                Request { loader_variables, workdir: "/app".to_owned(), ..request(&["build"], roots()) };
            image(&request, &target, &[&stage])
        };
        let expected = "/app/lib/libq.so\n/lib64\n/opt/libr.so\n/usr/bin/x";
        assert_eq!(found(&[("LD_LIBRARY_PATH", "/app/lib:/opt")]), expected);
        // Relative ones and the empty one count from the working directory.
        let preloaded = found(&[("LD_LIBRARY_PATH", "/opt:lib:"), ("LD_PRELOAD", "libp.so")]);
        let expected = expected.replace("/lib64\n", "/lib\n/lib64\n") + "\n/usr/lib/libp.so";
        assert_eq!(preloaded.lines().collect::<BTreeSet<_>>(), expected.lines().collect());
        // What it lacks is told of the stage that it came from.
        let lacks = "1: error[missing-library]: `libq.so` is not in stage\n  where: `/build/x` needs it\n  \
            where: `line 1` (Dockerfile:1)\n    why: looked in `/opt` (LD_LIBRARY_PATH), `/lib/x86_64-linux-gnu`, \
            `/usr/lib/x86_64-linux-gnu`, `/lib`, `/usr/lib`\n    \
            fix: install the package that has it in stage\n    \
            fix: or accept the gap with `LABEL minimage.allow-missing=libq.so`";
        assert_eq!(found(&[("LD_LIBRARY_PATH", "/opt")]), lacks);
    }

    #[test]
    fn libraries_that_were_copied_by_hand_serve() {
        let libc = "elf interp=/lib64/ld-linux-x86-64.so.2 soname=libc.so.6 mode=0755";
        let app = "elf needed=libc.so.6,libm.so.6";
        let stage = tree(
            "stage",
            &format!(
                "{LOADER}/usr/bin/app {app}\n/usr/lib/x86_64-linux-gnu/libc.so.6 {libc}\n\
                /usr/lib/x86_64-linux-gnu/libm.so.6 elf\n/usr/lib/x86_64-linux-gnu/gconv/gconv-modules file \"x\"\n\
                /var/lib/dpkg/status text \"Package: libc6\" \"Status: install ok installed\" \"Architecture: amd64\" \
                \"Version: 2.36\"\n/var/lib/dpkg/info/libc6:amd64.list text /usr/lib/x86_64-linux-gnu/libc.so.6 \
                /usr/lib/x86_64-linux-gnu/libm.so.6 /usr/lib/x86_64-linux-gnu/gconv/gconv-modules\n"
            ),
        );
        let loader = LOADER.lines().rev().take(2).collect::<Vec<_>>();
        // Of the loader's own directories, any will do.
        for directory in ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"] {
            let target = tree(
                "target",
                &format!(
                    "/usr/bin/app {app}\n{directory}/libc.so.6 {libc}\n/lib64/ld-linux-x86-64.so.2{}\n{}\n",
                    loader[1].trim_start_matches("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
                    loader[0],
                ),
            );
            let roots = vec![
                copied(0, "/usr/bin/app", "/usr/bin/"),
                copied(0, "/lib/x86_64-linux-gnu/libc.so.6", &format!("{directory}/")),
                copied(0, "/lib64/ld-linux-x86-64.so.2", "/lib64/"),
            ];
            let found = image(&request(&["build"], roots), &target, &[&stage]);
            let mut expected = vec![
                format!("{directory}/libc.so.6"),
                "/usr/bin/app".to_owned(),
                "/var/lib/dpkg/status.d/libc6".to_owned(),
                "/var/lib/dpkg/status.d/libc6.md5sums".to_owned(),
            ];
            // What was not copied goes where the stage has it, below the directory or link that the target has.
            match directory.starts_with("/lib") {
                true => expected.push("/lib/x86_64-linux-gnu/libm.so.6".to_owned()),
                false => expected.extend(["/lib", "/usr/lib/x86_64-linux-gnu/libm.so.6"].map(str::to_owned)),
            }
            expected.sort();
            assert_eq!(found.lines().collect::<BTreeSet<_>>(), expected.iter().map(String::as_str).collect());
        }
    }
}
