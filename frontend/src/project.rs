//! A project file as the build file -> the image that it is from, and what the step is to take of that.

use minimage::explain::{Choice, Explain, Spelling};
use minimage::glob::Glob;
use minimage::oci::{Platform, platform};
use minimage::options::{self, Choices, OptionError};
use minimage::path::RawPath;
use minimage::project::{self, ARGUMENTS, Flag, PROGRAM, Setting, Takes};
use minimage::roots::{Keep, Origin, Root, Tree, split_destination};
use minimage::rules::Catalogue;
use minimage::spec::{
    self, ConfigEdits, STANDARD_PATH, Search, Selection, SensitiveFiles, Source, SourceWord, Unowned,
};

use crate::blame::{self, Said, range};
use crate::build::{Build, Minimised, ServeError, StockImage, Task, words};
use crate::config::ImageConfig;
use crate::context::{self, Context};
use crate::gateway::GatewayError;
use crate::instructions::Instructions;
use crate::options::OF_DOCKERFILE;
use crate::proto::{Reference, SolveResult, SourceInfo, put};
use crate::request::{Asked, CONFIG, Finding, ProjectRequest, TARGET, Told};
use crate::settings::{self, Given, Written};

/// The key for files of rules.
const RULES: &str = "rules";

/// Builds what the project file `name` says.
pub(crate) fn build(build: &Build<'_>, name: &str) -> Result<SolveResult, ServeError> {
    let context = Context::of(build)?;
    let file = context::build_file(build, &context, name, "TOML")?;
    let findings =
        |problems: Vec<Finding>| ServeError::Findings(Box::new(blame::status(&problems, Some(&file))));
    let settings = settings(build, &file).map_err(findings)?;
    let asked = build.options.value("platform").filter(|platforms| !platforms.is_empty());
    let place = place(&settings, asked, name).map_err(findings)?;
    let lines = place.lines;
    Project::read(&settings, name).map_err(findings)?;

    let rules = rules(build, &context, &file, &settings)?;
    let mut options = build.options.forwarded_without(&OF_DOCKERFILE);
    if asked.is_none() && !place.platforms.is_empty() {
        let platforms: Vec<String> = place.platforms.iter().map(platform::shown).collect();
        put(&mut options, "platform", platforms.join(","));
    }
    let stock = build.dockerfile(&place.dockerfile(), options);
    let stock = stock.map_err(|error| at(lines, &file, error.into()))?;
    let images = build.images(&stock)?;
    let file_name = name.to_owned();
    let request = ProjectRequest {
        epoch: 0,
        from: String::new(),
        settings,
        rules,
        path: Vec::new(),
        platform: None,
        file: file_name,
    };
    build.result(&stock, images, |mut stock| {
        stock.graph.show_instead(&file, range(lines));
        let platform = place.platform(&stock.platform, asked);
        let from = place.image(platform.as_ref()).unwrap_or_default().to_owned();
        let platform = platform.as_ref().map(platform::shown);
        minimised(build, stock, ProjectRequest { from, platform, ..request.clone() })
    })
}

/// Returns what is taken of one image, as `request` says.
fn minimised(build: &Build<'_>, stock: StockImage, request: ProjectRequest) -> Result<Minimised, ServeError> {
    let StockImage { config, epoch, mut graph, .. } = stock;
    let Some(head) = graph.head().cloned() else { return Ok((Reference::default(), config)) };
    let request = ProjectRequest { epoch: epoch.seconds(), path: config.path(), ..request };
    let name = format!("[minimage] resolve what {} takes of {}", request.file, request.from);
    let task = Task {
        name,
        words: words("project", &request)?,
        mounts: vec![(head, TARGET.to_owned())],
        ranges: request.settings.iter().filter_map(|told| range(told.given.lines)).collect(),
    };
    let tree = build.add(&mut graph, task)?;
    let meta = build.hear(&graph, &tree)?;
    let config = build.gateway.read_file(&meta.id, &format!("/{CONFIG}"))?;
    let mut config = ImageConfig::parse(&config)?;
    config.replace_layers(epoch, 1);
    Ok((build.solve(graph.definition_of(&tree))?, config))
}

/// Returns the rules in the files that `settings` of the project file `file` name, which lie beside it, with names for
/// messages.
fn rules(
    build: &Build<'_>,
    context: &Context<'_>,
    file: &SourceInfo,
    settings: &[Told],
) -> Result<Vec<(String, String)>, ServeError> {
    let beside = |name: &String| match file.filename.rsplit_once('/') {
        Some((directory, _)) => format!("{directory}/{name}"),
        None => name.clone(),
    };
    let mut rules = Vec::new();
    for told in settings.iter().filter(|told| told.setting.name == RULES) {
        let Told { setting, given } = told;
        let paths: Vec<String> = setting.values.iter().map(beside).collect();
        let contents = context.read(build, &paths);
        let (_, contents) = contents.map_err(|error| at(given.lines, file, error))?;
        let texts = contents.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        rules.extend(setting.values.iter().cloned().zip(texts));
        if let Err(error) = Catalogue::with(&rules) {
            let problems = findings(&error, given, &file.filename);
            return Err(ServeError::Findings(Box::new(blame::status(&problems, Some(file)))));
        }
    }
    Ok(rules)
}

/// Returns `error` with the lines `lines` of `file` shown.
fn at(lines: (i32, i32), file: &SourceInfo, error: ServeError) -> ServeError {
    match error {
        ServeError::Gateway(GatewayError::Status(status)) => {
            ServeError::Gateway(GatewayError::Status(blame::moved(status, lines, file)))
        }
        error => error,
    }
}

/// Returns what the file says, and what the `# syntax` line and the build arguments say of this build, which win: they
/// come last.
fn settings(build: &Build<'_>, file: &SourceInfo) -> Result<Vec<Told>, Vec<Finding>> {
    let flags = project::flags();
    let mut settings = in_the_file(file, &flags)?;
    let mut wrong = Vec::new();
    for given in settings::given(build.options, Vec::new(), &Instructions::of(Some(file), None)) {
        match setting(&given, &flags) {
            Ok(_) if given.is_empty_argument() => settings.retain(|told| told.setting.name != given.name),
            Ok(setting) => settings.extend(setting.map(|setting| Told { setting, given })),
            Err(error) => wrong.extend(findings(&error, &given, &file.filename)),
        }
    }
    if wrong.is_empty() { Ok(settings) } else { Err(wrong) }
}

/// Returns what `file` says of `flags`.
fn in_the_file(file: &SourceInfo, flags: &[Flag]) -> Result<Vec<Told>, Vec<Finding>> {
    let text = String::from_utf8_lossy(&file.data);
    let settings = project::parse(&text, &file.filename, flags).map_err(|error| {
        let explanations = error.explain().into_iter().zip(error.lines());
        let finding = |(explanation, line): (minimage::explain::Explanation, usize)| {
            let line = i32::try_from(line).unwrap_or(0);
            Finding { lines: (line, line), text: explanation.spelled(Spelling::Keys) }
        };
        explanations.map(finding).collect::<Vec<_>>()
    })?;
    Ok(settings.into_iter().map(told).collect())
}

/// Returns `setting` of the project file with what messages call it.
fn told(setting: Setting) -> Told {
    let Setting { name, values, line } = &setting;
    let text = Spelling::Keys.of(&Choice { name: name.clone(), values: values.clone() });
    let line = i32::try_from(*line).unwrap_or(0);
    let value = values.join("\n");
    let given = Given { name: name.clone(), value, place: Written::File, text, lines: (line, line) };
    Told { setting, given }
}

/// Returns the setting that `given` is; none for a switch that is set to off.
fn setting(given: &Given, flags: &[Flag]) -> Result<Option<Setting>, OptionError> {
    let Given { name, value, .. } = given;
    let is_meant = |flag: &&Flag| flag.name == *name && !project::is_of_command(name);
    let Some(flag) = flags.iter().find(is_meant) else {
        return Err(options::unknown(name, flags.iter().cloned()));
    };
    let values = match flag.takes {
        Takes::Nothing => match options::switch(value) {
            Ok(true) => Vec::new(),
            Ok(false) => return Ok(None),
            Err(expected) => {
                let (name, value) = (name.clone(), value.clone());
                return Err(OptionError::Value { name, value, expected });
            }
        },
        Takes::Many | Takes::Pairs => value.lines().map(str::to_owned).collect(),
        Takes::One | Takes::Number | Takes::OneOrNothing | Takes::Words => vec![value.clone()],
    };
    Ok(Some(Setting { name: name.clone(), values, line: usize::try_from(given.lines.0).unwrap_or(0) }))
}

/// Where everything comes from.
struct Place {
    /// The platforms that have an image of their own, and the image, as a Dockerfile names it.
    images: Vec<(Option<Platform>, String)>,
    /// What the image is made for, as far as that is for us to know.
    platforms: Vec<Platform>,
    /// The lines that say so.
    lines: (i32, i32),
}

impl Place {
    /// Returns the Dockerfile that is the image of each platform.
    fn dockerfile(&self) -> String {
        if let [(_, image)] = self.images.as_slice() {
            return format!("FROM {image}\n");
        }
        let stage = |(platform, image): &(Option<Platform>, String)| {
            let platform = platform.as_ref().map(platform::shown).unwrap_or_default();
            let mut parts = platform.split('/');
            let mut part = || parts.next().unwrap_or_default();
            format!("FROM {image} AS {}-{}{}\n", part(), part(), part())
        };
        let stages: String = self.images.iter().map(stage).collect();
        // Without the first line there is a warning, as without a platform nothing is named.
        format!("# check=skip=InvalidDefaultArgInFrom\n{stages}FROM $TARGETOS-$TARGETARCH$TARGETVARIANT\n")
    }

    /// Returns what an image is made for that the stock frontend calls `name`, which is empty for the only one, where the
    /// client asks for `asked`; `None` if nobody says so.
    fn platform(&self, name: &str, asked: Option<&str>) -> Option<Platform> {
        let own = || self.platforms.first().cloned();
        platform::parse(name).or_else(own).or_else(|| platform::parse(asked?))
    }

    /// Returns the image of `platform`, if there is one.
    fn image(&self, platform: Option<&Platform>) -> Option<&str> {
        let is_for = |of: &Option<Platform>| of.is_none() || of.as_ref() == platform;
        self.images.iter().find(|(of, _)| is_for(of)).map(|(_, image)| image.as_str())
    }
}

/// Returns where everything comes from if the client asks for the platforms `asked`, if for any: inside of BuildKit that
/// is an image, or one for each platform.
fn place(settings: &[Told], asked: Option<&str>, file: &str) -> Result<Place, Vec<Finding>> {
    let last = |name: &str| settings.iter().rev().find(|told| told.setting.name == name);
    let problem = |lines, what: String| {
        let explanation = minimage::explain::Explanation::new("project-from", what);
        let text = explanation.fix("write for example `from = \"debian:bookworm\"`").to_string();
        vec![Finding { lines, text }]
    };
    let Some(from) = last("from") else {
        let what = "the file does not say which image everything is from, and BuildKit has no other place";
        return Err(problem((1, 1), what.to_owned()));
    };
    let said = from.given.lines;
    let mut images = Vec::new();
    let mut words = Vec::new();
    for text in &from.setting.values {
        let word = SourceWord::parse(text.as_ref()).map_err(|error| findings(&error, &from.given, file))?;
        if !matches!(word.source, Source::Registry(_)) {
            let source = word.source;
            return Err(problem(said, format!("`{source}` is no image, and BuildKit sees nothing else")));
        }
        let image = word.platform.as_ref().and_then(|_| text.split_once('=')).map_or(&**text, |(_, it)| it);
        images.push((word.platform.clone(), image.strip_prefix("docker://").unwrap_or(image).to_owned()));
        words.push(word);
    }
    let parsed = |texts: &str, lines| -> Result<Vec<Platform>, Vec<Finding>> {
        let parse = |text: &str| {
            platform::parse(text).ok_or_else(|| problem(lines, format!("`{text}` is no platform")))
        };
        texts.split(',').map(|text| parse(text.trim())).collect()
    };
    let listed = match last("platform") {
        Some(told) => parsed(&told.setting.values.join(","), told.given.lines)?,
        None => Vec::new(),
    };
    let sources = spec::sources(&words, &listed).map_err(|error| findings(&error, &from.given, file))?;
    let is_for_each = words.iter().any(|word| word.platform.is_some());
    let platforms = match asked {
        Some(asked) if is_for_each => parsed(asked, said)?,
        // The stock frontend knows what is meant.
        Some(_) => Vec::new(),
        None => sources.into_iter().filter_map(|(_, platform)| platform).collect(),
    };
    let place = Place { images, platforms, lines: said };
    match place.platforms.iter().find(|platform| place.image(Some(platform)).is_none()) {
        Some(platform) => {
            Err(problem(said, format!("there is no image for `{}`", platform::shown(platform))))
        }
        None => Ok(place),
    }
}

/// Returns what to say of `error`, which is about what is `given`; `file` is the project file's name.
fn findings(error: &dyn Explain, given: &Given, file: &str) -> Vec<Finding> {
    let said = Said { given: vec![given.clone()], spelling: Spelling::Keys, file };
    error.explain().into_iter().map(|explanation| said.finding_about(explanation, given)).collect()
}

/// What a project file says, as values.
pub(crate) struct Project {
    pub(crate) roots: Vec<(Asked, Root)>,
    pub(crate) choices: Choices,
    pub(crate) edits: ConfigEdits,
    /// What is for somebody else.
    pub(crate) warnings: Vec<Finding>,
}

impl Project {
    /// Returns what `settings` of the file called `file` say, or all that is wrong with them.
    pub(crate) fn read(settings: &[Told], file: &str) -> Result<Self, Vec<Finding>> {
        let selection = Selection { unowned: Unowned::AsInSource, ..Selection::default() };
        let mut project = Self {
            roots: Vec::new(),
            choices: Choices { search: Search::standard(), selection },
            edits: ConfigEdits::default(),
            warnings: Vec::new(),
        };
        let mut wrong = Vec::new();
        for told in settings {
            if let Err(error) = project.set(told, file) {
                wrong.extend(findings(&*error, &told.given, file));
            }
        }
        let environment = project.edits.env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        project.choices.search = project.choices.search.with_environment(environment);
        let plain: Vec<Setting> = settings.iter().map(|told| told.setting.clone()).collect();
        let roots: Vec<Root> = project.roots.iter().map(|(_, root)| root.clone()).collect();
        let of_command = project.edits.roots_of_command(&roots).into_iter();
        project.roots.extend(of_command.map(|root| (Asked::by(root.origin.to_string(), (0, 0)), root)));
        if wrong.is_empty()
            && let Some(explanation) = project::without_program(&plain, file)
        {
            wrong.push(Finding { lines: (0, 0), text: explanation.to_string() });
        }
        if wrong.is_empty() { Ok(project) } else { Err(wrong) }
    }

    /// Returns the same with programs looked up in `path`, and after it where they always are.
    pub(crate) fn with_path(mut self, path: &[String]) -> Self {
        let standard = STANDARD_PATH.iter().map(|directory| (*directory).to_owned());
        let mut directories: Vec<RawPath> = Vec::new();
        for directory in path.iter().cloned().chain(standard) {
            let directory = RawPath::from(directory.as_str());
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        self.choices.search.path_inside = directories.clone();
        self.choices.search.path = directories;
        self
    }

    fn set(&mut self, told: &Told, file: &str) -> Result<(), Box<dyn Explain>> {
        let Setting { name, values, .. } = &told.setting;
        let first = || values.first().cloned().unwrap_or_default();
        let globs = || values.iter().map(|text| Glob::parse(text.as_str()).map_err(boxed));
        let (selection, edits) = (&mut self.choices.selection, &mut self.edits);
        match name.as_str() {
            // Where everything comes from is known, and the files have been read.
            "from" | "platform" | RULES | "verbose" => {}
            PROGRAM => {
                for text in values {
                    let (path, to) = split_destination(text);
                    let keep = Keep::Program { name: path.into(), to: to.map(RawPath::from) };
                    self.roots.push(root(keep, told, text, file));
                }
            }
            "add" => {
                for text in values {
                    let tree: Tree = text.parse().map_err(boxed)?;
                    let path = match tree.path.is_absolute() {
                        true => tree.path.clone(),
                        false => RawPath::from("/").join(tree.path.as_bytes()),
                    };
                    self.roots.push(root(Keep::Tree(Tree { path, ..tree }), told, text, file));
                }
            }
            "include" => {
                for (glob, text) in globs().zip(values) {
                    self.roots.push(root(Keep::Matching(glob?), told, text, file));
                }
            }
            "exclude" => selection.exclude.extend(globs().collect::<Result<Vec<_>, _>>()?),
            "allow-sensitive" => selection.sensitive = SensitiveFiles::Allow,
            ARGUMENTS => edits.arguments.clone_from(values),
            "entrypoint" => edits.entrypoint = Some(ConfigEdits::words(name, &first()).map_err(boxed)?),
            "cmd" => edits.cmd = Some(ConfigEdits::words(name, &first()).map_err(boxed)?),
            "env" => edits.env.extend(ConfigEdits::pairs(name, values).map_err(boxed)?),
            "label" => edits.labels.extend(ConfigEdits::pairs(name, values).map_err(boxed)?),
            "user" => edits.user = Some(first().parse().map_err(boxed)?),
            name if project::is_of_command(name) => {
                let text =
                    format!("`{name}` is for `minimage build`; here it is BuildKit's client that says so");
                self.warnings.push(Finding { lines: told.given.lines, text });
            }
            name if values.is_empty() => options::set(&mut self.choices, name, "").map_err(boxed)?,
            name => {
                for value in values {
                    options::set(&mut self.choices, name, value).map_err(boxed)?;
                }
            }
        }
        Ok(())
    }
}

fn boxed<E: Explain + 'static>(error: E) -> Box<dyn Explain> {
    Box::new(error)
}

/// Returns the root `keep` that `value`, one of those that somebody told, asks for.
fn root(keep: Keep, told: &Told, value: &str, file: &str) -> (Asked, Root) {
    let Given { place, lines, text, .. } = &told.given;
    let (origin, text) = match (place, u32::try_from(told.setting.line)) {
        (Written::File, Ok(line)) if line > 0 => {
            let text = format!("{} = {value:?}", told.setting.name);
            (Origin::Line { file: file.to_owned(), line, text: text.clone() }, text)
        }
        _ => (Origin::Argument(text.clone()), text.clone()),
    };
    (Asked::by(text, *lines), Root { keep, origin })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "minimage.toml";

    fn read(text: &str) -> Result<Vec<Told>, Vec<Finding>> {
        let (filename, data) = (FILE.to_owned(), text.as_bytes().to_vec());
        in_the_file(&SourceInfo { filename, data, ..SourceInfo::default() }, &project::flags())
    }

    fn settings(text: &str) -> Vec<Told> {
        read(text).unwrap()
    }

    #[test]
    fn a_project_file_is_what_the_flags_are() {
        let text = "from = 'debian:12'\nprogram = ['/usr/bin/env', 'bash:/bin/sh']\nadd = 'etc/motd:/m,mode=600'\n\
            include = '/etc/x/**'\nexclude = ['/etc/x/y']\narguments = ['-c', 'true']\nentrypoint = ['a']\n\
            user = '7'\nallow-sensitive = true\nwith = 'tzdata'\ntag = 'a'\n[env]\nA = 'b=c'\nLD_PRELOAD = 'x.so'\n[label]\nl = 1\n";
        let settings = settings(text);
        let project = Project::read(&settings, FILE).unwrap().with_path(&["/opt/bin".to_owned()]);
        let origins: Vec<String> = project.roots.iter().map(|(_, root)| root.origin.to_string()).collect();
        assert_eq!(
            origins,
            [
                "`program = \"/usr/bin/env\"` (minimage.toml:2)",
                "`program = \"bash:/bin/sh\"` (minimage.toml:2)",
                "`add = \"etc/motd:/m,mode=600\"` (minimage.toml:3)",
                "`include = \"/etc/x/**\"` (minimage.toml:4)",
            ]
        );
        let tree = "/etc/motd:/m,mode=600".parse().unwrap();
        assert_eq!(project.roots[2].1.keep, Keep::Tree(tree));
        let path = &project.choices.search.path;
        assert_eq!((&path[0], path.len()), (&RawPath::from("/opt/bin"), STANDARD_PATH.len() + 1));
        assert_eq!(project.choices.search.preload.as_deref(), Some(&b"x.so"[..]));
        let selection = &project.choices.selection;
        assert_eq!((selection.with.len(), selection.exclude.len()), (1, 1));
        assert_eq!(selection.sensitive, SensitiveFiles::Allow);
        let edits = &project.edits;
        assert_eq!(edits.arguments, ["-c", "true"]);
        assert_eq!(edits.entrypoint, Some(vec!["a".to_owned()]));
        assert_eq!((edits.env["A"].as_str(), edits.labels["l"].as_str()), ("b=c", "1"));
        assert_eq!(edits.user.as_ref().unwrap().to_string(), "7");
        let warnings: Vec<_> =
            project.warnings.iter().map(|warning| (warning.lines.0, &*warning.text)).collect();
        let of_client = "`tag` is for `minimage build`; here it is BuildKit's client that says so";
        assert_eq!(warnings, [(11, of_client)]);
    }

    #[test]
    fn a_command_may_be_a_login_shell() {
        let logins = |text: &str| -> Vec<RawPath> {
            let roots = Project::read(&settings(text), FILE).ok().unwrap().roots.into_iter();
            let login = |(_, root): (Asked, Root)| match root.keep {
                Keep::Login(login) => Some(RawPath::new(login.program)),
                _ => None,
            };
            roots.filter_map(login).collect()
        };
        let bash = "from = 'x'\nprogram = '/bin/bash'\n";
        assert_eq!(logins(&format!("{bash}arguments = ['-lc', 'true']")), [RawPath::from("/bin/bash")]);
        assert_eq!(logins(&format!("{bash}entrypoint = ['ksh', '-l']")), [RawPath::from("ksh")]);
        assert!(logins(&format!("{bash}arguments = ['-c', 'true']")).is_empty());
    }

    #[test]
    fn all_that_is_wrong_is_told_at_its_line() {
        let settings = settings("include = 'etc'\n\nuser = ''\nenv = 'A'\ndlopen = 'x'\n");
        let problems = Project::read(&settings, FILE).err().unwrap();
        let lines: Vec<i32> = problems.iter().map(|problem| problem.lines.0).collect();
        assert_eq!(lines, [1, 3, 4, 5]);
        assert!(problems[2].text.starts_with("error[usage]: `env` takes KEY=VALUE, not `A`"));
    }

    #[test]
    fn wrong_types_and_unknown_keys_are_told_at_their_lines() {
        let problems =
            read("from = 'x'\nprogram = 3\n\nwith = [\n  'tzdata',\n  true,\n]\nusr = 7\n").unwrap_err();
        let found: Vec<(i32, &str)> =
            problems.iter().map(|problem| (problem.lines.0, problem.text.as_str())).collect();
        let expected = [
            (
                2,
                "error[project-type]: `program` takes a string or a list of strings, not a number\n  \
                    where: minimage.toml:2\n    fix: write `program = \"3\"`",
            ),
            (
                6,
                "error[project-type]: `with` takes a string or a list of strings, not a list with true or \
                    false in it\n  where: minimage.toml:6\n    fix: write `\"true\"`",
            ),
            (
                8,
                "error[project-key]: there is no option `usr`\n  where: minimage.toml:8\n    fix: did you mean `user`?",
            ),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_client_says_is_told_as_such() {
        let told = |name: &str, value: &str| {
            let text = format!("--build-arg MINIMAGE_{}={value}", name.to_uppercase());
            let (name, value) = (name.to_owned(), value.to_owned());
            let given = Given { name, value, place: Written::Argument, text, lines: (0, 0) };
            Told { setting: setting(&given, &project::flags()).unwrap().unwrap(), given }
        };
        let project = Project::read(&[told("include", "/x")], FILE).ok().unwrap();
        let (asked, root) = &project.roots[0];
        let argument = "--build-arg MINIMAGE_INCLUDE=/x";
        assert_eq!((asked.text.as_str(), root.origin.to_string()), (argument, format!("`{argument}`")));
        let problems = Project::read(&[told("dlopen", "all")], FILE).err().unwrap();
        let expected = "error[bad-option]: `dlopen` cannot be `all`\n  where: `--build-arg MINIMAGE_DLOPEN=all`\n    \
            fix: write `none`, `required`, `recommended` or `suggested`";
        assert_eq!(problems, [Finding { lines: (0, 0), text: expected.to_owned() }]);
        let problems = Project::read(&settings("\ndlopen = 'all'\n"), FILE).err().unwrap();
        let expected =
            expected.replace("--build-arg MINIMAGE_DLOPEN=all`", "dlopen = \"all\"` (minimage.toml:2)");
        assert_eq!(problems, [Finding { lines: (2, 2), text: expected }]);
    }

    #[test]
    fn an_image_of_nothing_is_not_meant() {
        let problems = Project::read(&settings("from = 'x'\nprogram = []\n"), FILE).err().unwrap();
        let texts: Vec<&str> = problems.iter().map(|problem| problem.text.as_str()).collect();
        let expected = "error[no-program]: no program is named, nor does `minimage.toml` name one\n    \
            fix: write `program = \"…\"`";
        assert_eq!(texts, [expected]);
    }

    #[test]
    fn everything_is_from_an_image() {
        let found = |text: &str, asked| {
            let place = place(&settings(text), asked, FILE).map_err(|problems| problems[0].clone());
            place.map(|place| {
                let platforms: Vec<String> = place.platforms.iter().map(platform::shown).collect();
                (place.dockerfile(), platforms.join(","), place.lines.0)
            })
        };
        let of =
            |dockerfile: &str, platforms: &str, line| (dockerfile.to_owned(), platforms.to_owned(), line);
        let several = "from = ['linux/amd64=a', 'linux/arm/v7=docker://r/b:1']";
        let stages = "# check=skip=InvalidDefaultArgInFrom\nFROM a AS linux-amd64\nFROM r/b:1 AS linux-armv7\n\
            FROM $TARGETOS-$TARGETARCH$TARGETVARIANT\n";
        for (text, asked, expected) in [
            ("\nfrom = 'docker://r/x:1'", None, of("FROM r/x:1\n", "", 2)),
            ("from = 'a'\nplatform = 'linux/arm64'", None, of("FROM a\n", "linux/arm64", 1)),
            ("from = 'a'\nplatform = 'linux/arm64'", Some("386"), of("FROM a\n", "", 1)),
            (several, None, of(stages, "linux/amd64,linux/arm/v7", 1)),
            (several, Some("linux/amd64"), of(stages, "linux/amd64", 1)),
            ("from = 'linux/arm64=a'", None, of("FROM a\n", "linux/arm64", 1)),
        ] {
            assert_eq!(found(text, asked).ok().unwrap(), expected, "{text}");
        }
        for (text, asked, name, expected) in [
            ("from = 'a'", None, "", None),
            ("from = 'a'", Some("linux/arm64"), "", Some("linux/arm64")),
            ("from = 'a'", Some("linux/arm64,linux/386"), "linux/386", Some("linux/386")),
            ("from = 'a'\nplatform = 'linux/arm64'", None, "", Some("linux/arm64")),
            ("from = 'linux/arm64=a'", None, "", Some("linux/arm64")),
            (several, None, "linux/arm/v7", Some("linux/arm/v7")),
        ] {
            let place = place(&settings(text), asked, FILE).unwrap();
            let platform = place.platform(name, asked).as_ref().map(platform::shown);
            assert_eq!(platform.as_deref(), expected, "{text}");
        }
        for (text, asked, line, what) in [
            (
                "program = 'a'",
                None,
                1,
                "the file does not say which image everything is from, and BuildKit has no other place",
            ),
            ("\nfrom = './root'", None, 2, "`./root` is no image, and BuildKit sees nothing else"),
            (
                "\nfrom = 'A b'",
                None,
                2,
                "`A b` is neither a path, which starts with `/` or `.`, nor an image",
            ),
            ("from = ['a', 'b']", None, 1, "one of several sources does not say which platform it is for"),
            ("from = 'a'\nplatform = 'x'", None, 2, "`x` is no platform"),
            (several, Some("linux/arm64"), 1, "there is no image for `linux/arm64`"),
            ("from = 'linux/arm64=a'", Some("linux/amd64"), 1, "there is no image for `linux/amd64`"),
        ] {
            let problem = found(text, asked).err().unwrap();
            assert_eq!(problem.lines, (line, line));
            let said = problem.text.lines().next().unwrap();
            assert!(said.ends_with(what), "{said}");
        }
    }

    #[test]
    fn what_is_said_of_one_build_is_a_setting() {
        let flags = project::flags();
        let given = |name: &str, value: &str| Given {
            name: name.to_owned(),
            value: value.to_owned(),
            place: Written::Argument,
            text: name.to_owned(),
            lines: (0, 0),
        };
        let values =
            |name: &str, value: &str| setting(&given(name, value), &flags).unwrap().map(|it| it.values);
        assert_eq!(values("with-suggested", "yes"), Some(vec![]));
        assert_eq!(values("with-suggested", "no"), None);
        assert_eq!(values("include", "/a\n/b"), Some(vec!["/a".to_owned(), "/b".to_owned()]));
        assert_eq!(values("user", "x"), Some(vec!["x".to_owned()]));
        for (name, value) in [("push", "r/x"), ("mode", "off"), ("with-suggested", "perhaps")] {
            assert!(setting(&given(name, value), &flags).is_err(), "{name}");
        }
    }
}
