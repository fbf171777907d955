//! What is wrong with the target + the other stages -> what to say of it that takes a look at all of them.

use minimage::explain::{Choice, Explanation, Fix};
use minimage::formats::accounts::{self, ACCOUNTS_MAX};
use minimage::path::{RawPath, RootPath};
use minimage::resolve::{Problem, Resolver, TreeName};
use minimage::rootfs::{CompletedRootfs, Kind, Rootfs, RootfsError, chase, read_file};
use minimage::roots::{Keep, Origin, Root};
use minimage::spec::Search;

use crate::closure::Blamed;
use crate::exec_form;
use crate::place::Difference;
use crate::request::{Request, Stage, StageKind};

/// How the shell is called that a command without brackets is run by.
const SHELLS: [&str; 2] = ["/bin/sh", "sh"];

/// What there is to look at for advice.
pub(crate) struct Advice<'a> {
    pub(crate) request: &'a Request,
    pub(crate) search: &'a Search,
    pub(crate) stages: &'a [&'a dyn Rootfs],
    /// The target with what came from stages.
    pub(crate) completed: &'a CompletedRootfs<'a>,
    /// The files that the build file copies: where they are in the target, and the places of their stages.
    pub(crate) copies: &'a [(RootPath, usize)],
    /// Files that are others in two trees.
    pub(crate) differences: &'a [Difference],
    /// What to say of that which options ask for, and which is not in one of the stages.
    pub(crate) absent: &'a [Explanation],
}

impl Advice<'_> {
    /// Returns what is wrong with the target, with all that there is to say of it.
    pub(crate) fn of(&self, wrong: Blamed) -> Result<Blamed, RootfsError> {
        let Some(problem) = &wrong.problem else { return Ok(wrong) };
        let explanation = match (self.difference(problem)?, problem) {
            (Some(difference), problem) => self.clash(problem, difference),
            (None, Problem::ProgramNotFound { root, .. }) => {
                match exec_form::slip(root, &self.request.variables) {
                    Some(slip) => slip,
                    None => self.with_fixes(wrong.explanation.clone(), self.program(root)?),
                }
            }
            (None, Problem::UnknownAccount { kind, name, choice, .. })
                if choice.as_ref().is_some_and(|choice| choice.name == "user") =>
            {
                self.with_fixes(wrong.explanation.clone(), self.account(kind, name)?.into_iter().collect())
            }
            (None, _) => wrong.explanation.clone(),
        };
        Ok(Blamed { explanation: self.with_absent(explanation), ..wrong })
    }

    /// Returns how to come by the program that `root` names: from which stage, or how to do without.
    fn program(&self, root: &Root) -> Result<Vec<Fix>, RootfsError> {
        let Keep::Program { name, .. } = &root.keep else { return Ok(Vec::new()) };
        let spelled = name.to_string();
        let mut fixes: Vec<Fix> = Vec::new();
        for (stage, rootfs) in self.systems() {
            let Some(path) = Resolver::new(rootfs, self.search).program_path(name)? else { continue };
            let take = format!("take that of {}: ", rootfs.name());
            fixes.push(match SHELLS.contains(&spelled.as_str()) {
                true => Fix::from(take).choice(Choice::new("with", "shell")),
                false => {
                    Fix::from(take).text(format!("`COPY --from={} {path} {path}`", from_word(&stage.name)))
                }
            });
            break;
        }
        let text = match &root.origin {
            Origin::Line { text, .. } | Origin::Argument(text) => text.as_str(),
            Origin::Choice(_) => "",
        };
        // A command without brackets, whose shell nobody named.
        if let Some((keyword, command)) = text.split_once(' ')
            && !command.contains('[')
            && !command.contains(&spelled)
        {
            let keyword = match keyword.to_ascii_uppercase().as_str() {
                "HEALTHCHECK" => "HEALTHCHECK CMD".to_owned(),
                keyword => keyword.to_owned(),
            };
            fixes.push(format!("write `{keyword} [\"PROGRAM\", \"ARGUMENT\"]`, which needs no shell").into());
        }
        Ok(fixes)
    }

    /// Returns how to come by the user or group called `name`, if a stage has it.
    fn account(&self, kind: &str, name: &str) -> Result<Option<Fix>, RootfsError> {
        for (_, rootfs) in self.systems() {
            let text = |path: &str| match chase(rootfs, &RawPath::from(path))?.end {
                Ok((real, node)) if node.kind == Kind::File => read_file(rootfs, &real, ACCOUNTS_MAX),
                _ => Ok(Vec::new()),
            };
            let fix = if kind == "group" {
                let groups = accounts::groups(&text("/etc/group")?);
                let group = groups.into_iter().find(|group| group.name == name.as_bytes());
                let has_it = |number| format!("{} has it: write its number, {number}", rootfs.name());
                group.map(|group| Fix::from(has_it(group.gid)))
            } else {
                let users = accounts::users(&text("/etc/passwd")?);
                let take = Fix::from(format!("take that of {}: ", rootfs.name()));
                let is_there = users.iter().any(|user| user.name == name.as_bytes());
                is_there.then(|| take.choice(Choice::new("with-user", name)))
            };
            if fix.is_some() {
                return Ok(fix);
            }
        }
        Ok(None)
    }

    /// Puts `fixes` before those of `explanation`, of which the last is to add to the target what it lacks.
    fn with_fixes(&self, mut explanation: Explanation, mut fixes: Vec<Fix>) -> Explanation {
        if !fixes.is_empty() && self.request.kind == StageKind::Files {
            explanation.fixes.pop();
        }
        fixes.append(&mut explanation.fixes);
        Explanation { fixes, ..explanation }
    }

    /// Adds to `explanation`, if it is of what an option asks for, why the stages do not have that either. What a target
    /// of copies has, they have.
    fn with_absent(&self, mut explanation: Explanation) -> Explanation {
        let is_same = |absent: &&Explanation| absent.about.is_some() && absent.about == explanation.about;
        let absent: Vec<&Explanation> = self.absent.iter().filter(is_same).collect();
        if !absent.is_empty() && self.request.kind == StageKind::Files {
            explanation.reasons.clear();
            explanation.fixes.clear();
        }
        for Explanation { reasons, fixes, .. } in absent {
            for reason in reasons {
                if !explanation.reasons.contains(reason) {
                    explanation.reasons.push(reason.clone());
                }
            }
            for fix in fixes {
                if !explanation.fixes.contains(fix) {
                    explanation.fixes.push(fix.clone());
                }
            }
        }
        explanation
    }

    /// Returns the file of two trees that `problem` is about, if it is about one.
    fn difference(&self, problem: &Problem) -> Result<Option<&Difference>, RootfsError> {
        let is_meant = |difference: &&Difference| -> Result<bool, RootfsError> {
            Ok(match problem {
                Problem::VersionMissing { library, .. } => *library == difference.path,
                Problem::Unloadable { fatal, .. } => {
                    chase(self.completed, &RawPath::new(fatal.path.as_bytes()))?.target().as_ref()
                        == Some(&difference.path)
                }
                // What is for another machine a loader passes over.
                Problem::LibraryMissing { missing, .. } => {
                    difference.path.file_name().starts_with(&missing.soname)
                }
                _ => false,
            })
        };
        for difference in self.differences {
            if is_meant(&difference)? {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    /// Returns what to say of `problem`, which arose because stages met in the target.
    fn clash(&self, problem: &Problem, difference: &Difference) -> Explanation {
        let Difference { path, stage } = difference;
        let Request { stages, target, kind, .. } = self.request;
        let newcomer = self.stages.get(*stage).map_or("another stage", |stage| stage.name());
        let holder = self.holder(path);
        let mut explanation = problem.explain_in(TreeName::System(holder));
        explanation.code = "stages-conflict";
        if !matches!(problem, Problem::Unloadable { .. }) {
            explanation.fixes.clear();
        }
        let mut fix = "build both on the same release".to_owned();
        if holder == target && *kind == StageKind::Rootfs {
            let stage = stages.get(*stage).map(|stage| stage.name.as_str());
            let named =
                stage.filter(|name| from_word(name) == *name).map(|name| format!(" or `FROM {name}`"));
            fix += &format!(", or start the target with `FROM scratch`{}", named.unwrap_or_default());
        }
        let why =
            format!("{newcomer} and {holder} have different files at `{path}`; that of the latter stays");
        explanation.why(why).fix(fix)
    }

    /// Returns what messages call the tree that the file at `path` of the target is from.
    fn holder(&self, path: &RootPath) -> &str {
        let copied =
            self.copies.iter().find(|(to, _)| to == path).and_then(|(_, stage)| self.stages.get(*stage));
        match self.completed.origin(path).or(copied.copied()) {
            Some(stage) => stage.name(),
            None => &self.request.target,
        }
    }

    /// Returns the stages that programs run in.
    fn systems(&self) -> impl Iterator<Item = (&Stage, &dyn Rootfs)> {
        let all = self.request.stages.iter().zip(self.stages.iter().copied());
        all.filter(|(stage, _)| stage.kind == StageKind::Rootfs)
    }
}

/// Returns what `COPY --from` calls the stage `name`, which messages do as BuildKit does: one without a name by its number.
fn from_word(name: &str) -> &str {
    let number =
        name.strip_prefix("stage-").filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    number.unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::minimise::tests::{LOADER, copied, image, label, request, tree};
    use crate::request::What;
    use crate::settings::{Given, Settings};

    /// Returns `request` for a target into which things are only copied, started as line 9 says.
    fn collection(stages: &[&str], roots: Vec<What>, line: &str, program: &str) -> Request {
        let mut request = request(stages, roots);
        request.kind = StageKind::Files;
        let what = What::Program(program.to_owned());
        request.roots.push(crate::request::Asked { what, text: line.to_owned(), lines: (9, 9) });
        request
    }

    #[test]
    fn a_shell_is_taken_from_the_stage_that_has_one() {
        let stage = format!("{LOADER}/usr/bin/app elf\n");
        let target = tree("the target", "/usr/bin/app elf\n");
        let copies = || vec![copied(0, "/usr/bin/app", "/usr/bin/app")];
        let request = collection(&["stage build"], copies(), "CMD app --serve", "/bin/sh");
        let said = |stage: &str| image(&request, &target, &[&tree("stage build", stage)]);
        let exec = "write `CMD [\"PROGRAM\", \"ARGUMENT\"]`, which needs no shell";
        let with_shell = format!("{stage}/bin -> usr/bin\n/usr/bin/sh elf\n");
        let expected = "9: error[program-not-found]: `/bin/sh`, which `CMD app --serve` (Dockerfile:9) runs, is not in \
            the target\n";
        assert_eq!(said(&stage), format!("{expected}    fix: {exec}"));
        let take = "    fix: take that of stage build: `LABEL minimage.with=shell`\n";
        assert_eq!(said(&with_shell), format!("{expected}{take}    fix: {exec}"));

        let settings = Settings::of(vec![label("with", "shell", 3)]).unwrap();
        let found =
            image(&Request { settings, ..request.clone() }, &target, &[&tree("stage build", &with_shell)]);
        assert_eq!(found, "/bin\n/lib64\n/usr/bin/app\n/usr/bin/sh");
    }

    #[test]
    fn a_program_is_copied_from_the_stage_that_has_it() {
        let stage = tree("stage stage-0", &format!("{LOADER}/usr/bin/app elf\n/usr/bin/curl elf\n"));
        let take = "    fix: take that of stage stage-0: `COPY --from=0 /usr/bin/curl /usr/bin/curl`";
        let meant = "\n    fix: did you mean `/opt/x/curl`?";
        let install = "\n    fix: install it in the target, or give its path";
        for (kind, more, fixes) in [
            (StageKind::Files, "", take.to_owned()),
            (StageKind::Files, "/opt/x/curl elf\n", format!("{take}{meant}")),
            (StageKind::Rootfs, "/opt/x/curl elf\n", format!("{take}{meant}{install}")),
        ] {
            let target = tree("the target", &format!("{LOADER}/usr/bin/app elf\n{more}"));
            let copies = vec![copied(0, "/usr/bin/app", "/usr/bin/app")];
            let mut request = collection(&["stage-0"], copies, "CMD [\"curl\"]", "curl");
            request.kind = kind;
            let expected = "9: error[program-not-found]: `CMD [\"curl\"]` (Dockerfile:9) is not in the target\n    \
                why: looked in `/usr/bin`\n";
            assert_eq!(image(&request, &target, &[&stage]), format!("{expected}{fixes}"));
        }
    }

    #[test]
    fn a_command_that_no_program_can_be_meant_by_is_told_as_that() {
        let stage = tree("stage build", &format!("{LOADER}/usr/bin/app elf\n/usr/bin/jq elf\n"));
        let target = tree("the target", &format!("{LOADER}/usr/bin/app elf\n/usr/bin/jq elf\n"));
        let said = |line: &str, program: &str| {
            let copies = vec![copied(0, "/usr/bin/app", "/usr/bin/app")];
            image(&collection(&["build"], copies, line, program), &target, &[&stage])
        };
        for (line, program, expected) in [
            (
                "ENTRYPOINT [\"jq -n 1\"]",
                "jq -n 1",
                "`jq -n 1` is the name of one program: in brackets, each word has quotes of its own\n  \
                    where: `ENTRYPOINT [\"jq -n 1\"]` (Dockerfile:9)\n    fix: write `ENTRYPOINT [\"jq\", \"-n\", \"1\"]`",
            ),
            (
                "CMD [\"\"]",
                "",
                "the name of the program is empty\n  where: `CMD [\"\"]` (Dockerfile:9)\n    \
                    fix: write `CMD [\"PROGRAM\", \"ARGUMENT\"]`, or `CMD []` for none",
            ),
        ] {
            assert_eq!(said(line, program), format!("9: error[exec-form]: {expected}"));
        }
    }

    #[test]
    fn accounts_are_taken_from_the_stage_that_has_them() {
        let stage = tree(
            "stage build",
            &format!(
                "{LOADER}/usr/bin/app elf\n/etc/passwd file \"www:x:33:44::/srv:/bin/sh\\n\"\n\
                /etc/group file \"web:x:44:\\n\"\n"
            ),
        );
        let other = tree("stage other", &format!("{LOADER}/usr/bin/b elf\n"));
        let target = tree("the target", "/usr/bin/app elf\n/usr/bin/b elf\n");
        let copies =
            || vec![copied(0, "/usr/bin/b", "/usr/bin/b"), copied(1, "/usr/bin/app", "/usr/bin/app")];
        let with = |user: &str, labels: Vec<Given>| {
            let mut request = collection(&["other", "build"], copies(), "CMD [\"app\"]", "app");
            request.user = Some(Given { text: format!("USER {user}"), ..label("user", user, 9) });
            request.settings = Settings::of(labels).unwrap();
            image(&request, &target, &[&other, &stage])
        };
        let expected = "9: error[unknown-user]: the target has no user called `www`\n  \
            where: `USER www` (Dockerfile:9)\n    why: looked in `/etc/passwd` of the target\n    \
            fix: take that of stage build: `LABEL minimage.with-user=www`";
        assert_eq!(with("www", vec![]), expected);
        let expected = "9: error[unknown-group]: the target has no group called `web`\n  \
            where: `USER 33:web` (Dockerfile:9)\n    why: looked in `/etc/group` of the target\n    \
            fix: stage build has it: write its number, 44";
        assert_eq!(with("33:web", vec![]), expected);
        let image = "/lib64\n/usr/bin/app\n/usr/bin/b";
        assert_eq!(with("www", vec![label("with-user", "www", 3)]), image);
        assert_eq!(with("33:44", vec![]), image);
    }

    #[test]
    fn what_no_tree_has_is_told_of_each() {
        let stage = |name: &str, service: &str| {
            tree(
                name,
                &format!(
                    "{LOADER}/usr/bin/{service} elf needed=libc.so\n/usr/lib/libc.so elf\n/usr/lib/libnss_{service}.so.2 elf\n"
                ),
            )
        };
        let (one, two) = (stage("stage one", "one"), stage("stage two", "two"));
        let programs = "/usr/bin/one elf needed=libc.so\n/usr/bin/two elf needed=libc.so\n";
        let copies =
            || vec![copied(0, "/usr/bin/one", "/usr/bin/one"), copied(1, "/usr/bin/two", "/usr/bin/two")];
        let settings = Settings::of(vec![label("nss", "tow", 3)]).unwrap();
        let request = request(&["one", "two"], copies());
        let said = |kind, target: &str| {
            let request = Request { kind, settings: settings.clone(), ..request.clone() };
            image(&request, &tree("the target", target), &[&one, &two])
        };
        let start = "3: error[unknown-service]: the target has no name service `tow`\n  \
            where: `LABEL minimage.nss=tow` (Dockerfile:3)\n    why: no loader finds `libnss_tow.so.2`\n";
        let install =
            |tree: &str| format!("\n    fix: install the package that has `libnss_tow.so.2` in {tree}");
        let why = "    why: stage one has `one`\n    why: stage two has `two`";
        let meant = "\n    fix: did you mean `two`?";
        let expected = format!("{start}{why}{}{meant}{}", install("stage one"), install("stage two"));
        assert_eq!(said(StageKind::Files, programs), expected);
        let own = format!("{LOADER}{programs}/usr/lib/libc.so elf\n/usr/lib/libnss_own.so.2 elf\n");
        let expected = format!(
            "{start}    why: the target has `own`\n{why}{}{}{meant}{}",
            install("the target"),
            install("stage one"),
            install("stage two")
        );
        assert_eq!(said(StageKind::Rootfs, &own), expected);
    }

    #[test]
    fn what_two_stages_have_otherwise_is_told_once_with_both() {
        let library = |name: &str, mode: &str| {
            tree(
                name,
                &format!(
                    "{LOADER}/opt/{mode} elf needed=libx.so.1 verneed=libx.so.1:V_{mode}\n\
                    /usr/lib/x86_64-linux-gnu/libx.so.1 elf soname=libx.so.1 verdef=V_{mode}\n"
                ),
            )
        };
        let (a, b) = (library("stage a", "a"), library("stage b", "b"));
        let target = "/opt/a elf needed=libx.so.1 verneed=libx.so.1:V_a\n/opt/b elf needed=libx.so.1 verneed=libx.so.1:V_b\n";
        let copies = || vec![copied(0, "/opt/a", "/opt/a"), copied(1, "/opt/b", "/opt/b")];
        let found = image(
            &collection(&["a", "b"], copies(), "CMD [\"/opt/b\"]", "/opt/b"),
            &tree("the target", target),
            &[&a, &b],
        );
        let expected = "error[stages-conflict]: `/usr/lib/x86_64-linux-gnu/libx.so.1` does not define version `V_b`\n  \
            where: `/opt/b` requires it\n  where: `line 2` (Dockerfile:2)\n  where: `CMD [\"/opt/b\"]` (Dockerfile:9)\n    \
            why: the two were built for different releases; the loader would refuse the program\n    \
            why: stage b and stage a have different files at `/usr/lib/x86_64-linux-gnu/libx.so.1`; that of the latter \
            stays\n    fix: build both on the same release";
        assert_eq!(found, format!("2: {expected}\n9: {expected}"));

        // On an image that has the library, and where it was copied by hand.
        let only_b = || vec![copied(1, "/opt/b", "/opt/b")];
        let with_library = tree(
            "the target",
            &format!("{LOADER}{target}/usr/lib/x86_64-linux-gnu/libx.so.1 elf soname=libx.so.1 verdef=V_a\n"),
        );
        let on_image = image(&request(&["a", "b"], only_b()), &with_library, &[&a, &b]);
        let told = |line: &str, holder: &str, fix: &str| {
            format!(
                "{line}: error[stages-conflict]: `/usr/lib/x86_64-linux-gnu/libx.so.1` does not define version `V_b`\n  \
                where: `/opt/b` requires it\n  where: `line {line}` (Dockerfile:{line})\n    \
                why: the two were built for different releases; the loader would refuse the program\n    \
                why: stage b and {holder} have different files at `/usr/lib/x86_64-linux-gnu/libx.so.1`; that of the \
                latter stays\n    fix: build both on the same release{fix}"
            )
        };
        let fix = ", or start the target with `FROM scratch` or `FROM b`";
        assert_eq!(on_image, told("1", "the target", fix));
        let library = "/usr/lib/x86_64-linux-gnu/libx.so.1";
        let by_hand = [vec![copied(0, library, library)], only_b()].concat();
        let by_hand = image(&request(&["a", "b"], by_hand), &with_library, &[&a, &b]);
        assert_eq!(by_hand, told("2", "stage a", ""));
    }
}
