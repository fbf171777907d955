//! A build as the daemon asks for it -> its result: the stock frontend's, with our step on top.

use minimage::explain::{Explanation, Spelling};
use minimage::nearest::nearest;
use minimage::spec::Epoch;

use crate::blame::{self, Said, lines, range};
use crate::build::{Build, Minimised, STOCK, ServeError, StockImage, Task, words};
use crate::config::ImageConfig;
use crate::context::{self, Context};
use crate::gateway::Gateway;
use crate::instructions::{Instructions, Known};
use crate::llb::{Graph, PartKind};
use crate::options::Options;
use crate::project;
use crate::proto::{Copy, Input, Reference, SolveRequest, SolveResult, SourceInfo};
use crate::request::{Asked, BASE, Copied, Finding, Request, STAGES, Stage, StageKind, TARGET, What};
use crate::settings::{self, Base, Given, LABEL, Mode, Settings, Wrong};

/// Builds what `options` ask for.
pub(crate) fn build(gateway: &Gateway, options: &Options) -> Result<SolveResult, ServeError> {
    let build = Build::new(gateway, options)?;
    let is_request = options.value("requestid").is_some();
    if let Some(name) = options.project_file().filter(|_| !is_request) {
        return project::build(&build, name);
    }
    let stock = gateway.solve(SolveRequest {
        frontend: STOCK.to_owned(),
        options: options.forwarded(),
        cache_imports: options.cache_imports(),
        inputs: build.inputs.definitions.clone(),
        ..SolveRequest::default()
    });
    match stock {
        Ok(stock) if is_request => Ok(stock),
        Ok(stock) => build.minimised(stock),
        Err(error) => Err(build.no_target().unwrap_or_else(|| error.into())),
    }
}

/// Returns what to say if `file` has no stage `target`, at the stages that it has.
fn no_stage(target: &str, file: &SourceInfo) -> Option<Vec<Finding>> {
    let instructions = Instructions::of(Some(file), None);
    let stages = instructions.stage_names();
    // Without any, something else is wrong.
    if stages.is_empty() || instructions.has_stage(target) {
        return None;
    }
    let names: Vec<&str> = stages.iter().map(|(name, _)| name.as_str()).collect();
    let listed: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let what = format!("{} has no stage called `{target}`", file.filename);
    let explanation = Explanation::new("unknown-stage", what).at(format!("`--target {target}`"));
    let explanation = match nearest(target, names) {
        Some(name) => explanation.fix(format!("did you mean `{name}`?")),
        None => explanation,
    };
    let text = explanation.fix(format!("there are {}", listed.join(", "))).to_string();
    Some(stages.into_iter().map(|(_, lines)| Finding { lines, text: text.clone() }).collect())
}

/// Returns the error that says what is `wrong` with what is `given`.
fn wrong_settings(wrong: Vec<Wrong>, given: Vec<Given>, file: Option<&SourceInfo>) -> ServeError {
    let said = Said { given, spelling: Spelling::Labels, file: file_name(file) };
    let findings =
        wrong.into_iter().map(|Wrong { given, explanation }| said.finding_about(explanation, &given));
    let findings: Vec<Finding> = findings.collect();
    ServeError::Findings(Box::new(blame::status(&findings, file)))
}

/// Returns the warnings about labels that count for nothing, as `instructions` have them in stages of which the target
/// has only copies.
fn labels_elsewhere(instructions: &Instructions<'_>) -> Vec<Finding> {
    let elsewhere = instructions.labels_elsewhere(LABEL).into_iter();
    let finding = |(lines, stage): ((i32, i32), String)| {
        let text = instructions.text(lines).unwrap_or_default();
        let text = format!(
            "`{text}` counts for nothing: from stage {stage} the target only copies; write it in the target, or in what \
            that is built on"
        );
        Finding { lines, text }
    };
    elsewhere.map(finding).collect()
}

/// Returns what messages call the build file.
fn file_name(file: Option<&SourceInfo>) -> &str {
    file.map_or("Dockerfile", |file| &file.filename)
}

impl Build<'_> {
    /// Returns the result whose images, one for each platform, are what is left of those of `stock`.
    fn minimised(&self, stock: SolveResult) -> Result<SolveResult, ServeError> {
        let mut images = self.images(&stock)?;
        if images.iter().any(|image| image.graph.build_file().is_none())
            && let Some(file) = self.build_file()
        {
            let without = images.iter_mut().filter(|image| image.graph.build_file().is_none());
            without.for_each(|image| image.graph.show(file.clone()));
        }
        let mut all = Vec::new();
        let mut warnings: Vec<Finding> = Vec::new();
        for image in &mut images {
            let file = image.graph.build_file();
            let given = self.variables(&image.config.platform());
            let environment = image.config.environment();
            let known = Known { given: &given, environment: &environment };
            let instructions = Instructions::of_build(file, self.options.value("target"), known);
            let given = settings::given(self.options, image.config.take_settings(), &instructions);
            let settings = Settings::of(given.clone());
            let settings = settings.map_err(|wrong| wrong_settings(wrong, given, file))?;
            let slips = image.config.slips(&instructions, file_name(file));
            if settings.mode == Mode::On && !slips.is_empty() {
                return Err(ServeError::Findings(Box::new(blame::status(&slips, file))));
            }
            all.push(settings);
            warnings.extend(labels_elsewhere(&instructions));
        }
        if all.iter().any(|settings| settings.mode == Mode::Off) {
            return Ok(stock);
        }
        warnings.sort();
        warnings.dedup();
        self.warn(&warnings, images.first().and_then(|image| image.graph.build_file()))?;
        let mut all = all.into_iter();
        self.result(&stock, images, |image| self.image(image, all.next().unwrap_or_default()))
    }

    /// Returns the build file of which no operation is: a target that is only an image that the client passes in, say. It
    /// is for messages, so it need not be where we look.
    fn build_file(&self) -> Option<SourceInfo> {
        let name = self.options.value("filename").unwrap_or("Dockerfile");
        let context = Context::of(self).ok()?;
        context::build_file(self, &context, name, "Dockerfile").ok()
    }

    /// Returns the error that says that the build file has no stage of the name that the client builds, if that is so. The
    /// stock frontend says it without a line, for which daemons show the first.
    fn no_target(&self) -> Option<ServeError> {
        let target = self.options.value("target").filter(|target| !target.is_empty())?;
        let file = self.build_file()?;
        let findings = no_stage(target, &file)?;
        Some(ServeError::Findings(Box::new(blame::status(&findings, Some(&file)))))
    }

    /// Returns what is left of one image.
    fn image(&self, image: StockImage, settings: Settings) -> Result<Minimised, ServeError> {
        let StockImage { mut config, epoch, graph, .. } = image;
        let base = settings.base;
        let tree = match graph.head().cloned() {
            Some(head) => Some(self.step(graph, &head, &config, epoch, settings)?),
            None => None,
        };
        match base {
            Base::Keep if tree.is_some() => config.add_layer(epoch),
            Base::Keep | Base::Minimise => config.replace_layers(epoch, usize::from(tree.is_some())),
        }
        Ok((tree.unwrap_or_default(), config))
    }

    /// Has the step make a tree of what is left of the one at `head`.
    fn step(
        &self,
        mut graph: Graph,
        head: &Input,
        config: &ImageConfig,
        epoch: Epoch,
        settings: Settings,
    ) -> Result<Reference, ServeError> {
        let base_is = settings.base;
        let Planned { request, stages, base } = self.plan(&graph, head, config, epoch, settings)?;
        let count = request.roots.iter().filter(|root| !matches!(root.what, What::Argument(_))).count();
        let roots = if count == 1 { "1 root".to_owned() } else { format!("{count} roots") };
        let mut mounts = vec![(head.clone(), TARGET.to_owned())];
        mounts.extend(base.map(|base| (base, BASE.to_owned())));
        for (index, stage) in stages.into_iter().enumerate() {
            mounts.push((stage, format!("{STAGES}/{index}")));
        }
        let task = Task {
            name: format!("[minimage] resolve {roots} of {}", request.target),
            words: words("step", &request)?,
            mounts,
            ranges: request.roots.iter().filter_map(|asked| range(asked.lines)).collect(),
        };
        let made = self.add(&mut graph, task)?;
        match base_is {
            Base::Keep => {
                self.hear(&graph, &made)?;
                let tree = graph.add_over(head, &made, self.over());
                self.solve(graph.definition_of(&tree))
            }
            Base::Minimise => self.hear_unless_elsewhere(&graph, &made, epoch),
        }
    }

    /// Returns what the step needs for the tree at `head`.
    fn plan(
        &self,
        graph: &Graph,
        head: &Input,
        config: &ImageConfig,
        epoch: Epoch,
        settings: Settings,
    ) -> Result<Planned, ServeError> {
        let target = graph.target(head)?;
        let mut stages = Stages::default();
        let mut roots = Vec::new();
        let file = graph.build_file();
        let given = self.variables(&config.platform());
        let known = Known { given: &given, environment: &[] };
        let instructions = Instructions::of_build(file, self.options.value("target"), known);
        for part in target.parts {
            let lines = lines(&graph.ranges(&part.digest));
            let text =
                instructions.text(lines).unwrap_or_else(|| graph.name(&part.digest).unwrap_or_default());
            let what = match part.kind {
                PartKind::Made(path) => What::Made(path),
                PartKind::Copied { from, copy } => What::Copied(stages.copied(graph, &from, copy)?),
            };
            roots.push(Asked { what, text, lines });
        }
        roots.extend(config.roots(&instructions));
        let (inputs, stages) = stages.0.into_iter().unzip();
        let unpacks = |asked: &Asked| matches!(&asked.what, What::Copied(copied) if copied.unpacks);
        let base = target.base.filter(|_| target.was_run || roots.iter().any(unpacks));
        let request = Request {
            settings,
            has_base: base.is_some(),
            was_run: target.was_run,
            epoch: epoch.seconds(),
            target: graph.target_name(head),
            kind: kind(graph, head)?,
            stages,
            roots,
            platform: config.platform_name(),
            user: config.user(&instructions),
            workdir: config.workdir().to_owned(),
            path: config.path(),
            variables: config.variables(),
            loader_variables: config.loader_variables(),
            file: file_name(file).to_owned(),
        };
        Ok(Planned { request, stages: inputs, base })
    }
}

/// What the step is told, and the trees that it needs for that.
struct Planned {
    request: Request,
    stages: Vec<Input>,
    base: Option<Input>,
}

fn kind(graph: &Graph, tree: &Input) -> Result<StageKind, ServeError> {
    Ok(if graph.is_rootfs(tree)? { StageKind::Rootfs } else { StageKind::Files })
}

/// The trees that files of the target come from.
#[derive(Default)]
struct Stages(Vec<(Input, Stage)>);

impl Stages {
    /// Returns what `copy` brought from the tree at `from`.
    fn copied(&mut self, graph: &Graph, from: &Input, copy: Copy) -> Result<Copied, ServeError> {
        Ok(Copied {
            stage: self.place(graph, from)?,
            from: copy.src,
            to: copy.dest,
            is_pattern: copy.allow_wildcard,
            unpacks: copy.attempt_unpack,
            includes: copy.include_patterns,
            excludes: copy.exclude_patterns,
        })
    }

    /// Returns the place in the list of the tree at `input`, and adds it if it is not there yet, with those that its
    /// files come from unless programs run in it.
    fn place(&mut self, graph: &Graph, input: &Input) -> Result<usize, ServeError> {
        if let Some(known) = self.0.iter().position(|(known, _)| known == input) {
            return Ok(known);
        }
        let place = self.0.len();
        let kind = kind(graph, input)?;
        self.0.push((input.clone(), Stage { name: graph.stage_name(input), kind, copies: Vec::new() }));
        if kind == StageKind::Files {
            let mut copies = Vec::new();
            for part in graph.target(input)?.parts {
                if let PartKind::Copied { from, copy } = part.kind {
                    copies.push(self.copied(graph, &from, copy)?);
                }
            }
            self.0[place].1.copies = copies;
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Written;

    #[test]
    fn a_target_that_is_no_stage_is_told_with_those_that_there_are() {
        let text = "FROM x AS build\nFROM build\nFROM x \\\n  AS Tests\n";
        let (filename, data) = ("Dockerfile".to_owned(), text.as_bytes().to_vec());
        let file = SourceInfo { filename, data, ..SourceInfo::default() };
        let said = |target: &str| no_stage(target, &file);
        let all = [(1, 1), (2, 2), (3, 4)];
        for (target, meant) in [("bulid", "did you mean `build`?"), ("nope", "")] {
            let found = said(target).unwrap();
            assert_eq!(found.iter().map(|finding| finding.lines).collect::<Vec<_>>(), all);
            let meant = if meant.is_empty() { String::new() } else { format!("    fix: {meant}\n") };
            let expected = format!(
                "error[unknown-stage]: Dockerfile has no stage called `{target}`\n  where: `--target {target}`\n{meant}    \
                    fix: there are `build`, `1`, `Tests`"
            );
            assert!(found.iter().all(|finding| finding.text == expected), "{found:?}");
        }
        for target in ["build", "TESTS", "2"] {
            assert_eq!(said(target), None, "{target}");
        }
        assert!(said("3").is_some());
        assert_eq!(no_stage("x", &SourceInfo { data: b"RUN x\n".to_vec(), ..file.clone() }), None);
    }

    #[test]
    fn a_setting_that_is_not_in_the_file_is_named() {
        let given = Given {
            name: "mod".to_owned(),
            value: "off".to_owned(),
            place: Written::Argument,
            text: "--build-arg MINIMAGE_MOD=off".to_owned(),
            lines: (0, 0),
        };
        let wrong = Settings::of(vec![given.clone()]).unwrap_err();
        let message = wrong_settings(wrong, vec![given], None).to_string();
        let expected = "error[unknown-option]: there is no option `mod`\n  where: `--build-arg MINIMAGE_MOD=off`\n    \
            fix: did you mean `mode`?";
        assert_eq!(message, expected);
    }
}
