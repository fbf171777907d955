//! The definition of a build -> what its target copied, added and made, and the same definition with our step on top.

mod extend;

use std::collections::HashMap;
use std::rc::Rc;

use minimage::oci::Digest;
use prost::Message;
use thiserror::Error;

use crate::inputs::Inputs;
use crate::proto::{
    Copy, Definition, Exec, FileAction, Input, Location, Locations, Operation, OperationMetadata, Range,
    SourceInfo, SourceOperation, value,
};
use crate::request::{META, OUTPUT};

pub(crate) use extend::{Keys, Over, Reuse, Step};

/// How many operations lie on the way from a target to its base at most: more than any build file has lines.
const DEPTH_MAX: usize = 100_000;

/// Why a definition cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum LlbError {
    /// An operation is no operation.
    #[error("an operation of the build's definition cannot be read")]
    Operation {
        /// What is wrong.
        source: prost::DecodeError,
    },
    /// Something that an operation refers to is not there.
    #[error("the build's definition refers to `{reference}`, which it does not have")]
    Dangling {
        /// What it refers to.
        reference: String,
    },
}

/// The operations of a definition by their digests.
#[derive(Default)]
pub(crate) struct Graph {
    definition: Definition,
    operations: HashMap<String, Operation>,
    /// What the definition is for; `None` for an empty root filesystem.
    head: Option<Input>,
    /// What the client passed in, of which parts of the definition are.
    inputs: Rc<Inputs>,
    /// The place of the build file among the files that operations come from.
    build_file: Option<i32>,
}

/// What one target is made of, above its base.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// What was copied, added and made, the oldest first.
    pub(crate) parts: Vec<Part>,
    /// The image at the bottom, if there is one.
    pub(crate) base: Option<Input>,
    /// Whether a command was run on the way.
    pub(crate) was_run: bool,
}

/// One thing that was copied, added or made.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The operation that did it.
    pub(crate) digest: String,
    pub(crate) kind: PartKind,
}

#[derive(Debug, Clone)]
pub(crate) enum PartKind {
    /// A copy from another tree.
    Copied { from: Input, copy: Copy },
    /// A file, directory or link at this path.
    Made(String),
}

impl Graph {
    /// Returns the graph of `definition`, whose last operation only points at what is wanted.
    pub(crate) fn read(definition: Definition) -> Result<Self, LlbError> {
        Self::with_inputs(definition, Rc::default())
    }

    /// Returns the graph of `definition`, parts of which are of `inputs`.
    pub(crate) fn with_inputs(mut definition: Definition, inputs: Rc<Inputs>) -> Result<Self, LlbError> {
        let decode = |bytes: &[u8]| Operation::decode(bytes).map_err(|source| LlbError::Operation { source });
        let head = match definition.operations.pop() {
            Some(terminal) => decode(&terminal)?.inputs.into_iter().next(),
            None => None,
        };
        let mut operations = HashMap::new();
        let mut build_file = None;
        for bytes in &definition.operations {
            let digest = Digest::of(bytes).to_string();
            // Inputs have lines of their own build files.
            if build_file.is_none() && !inputs.has(&digest) {
                build_file = locations(&definition, &digest).first().map(|location| location.source);
            }
            operations.insert(digest, decode(bytes)?);
        }
        Ok(Self { definition, operations, head, inputs, build_file })
    }

    /// Returns what the definition is for.
    pub(crate) fn head(&self) -> Option<&Input> {
        self.head.as_ref()
    }

    fn operation(&self, digest: &str) -> Result<&Operation, LlbError> {
        self.operations.get(digest).ok_or_else(|| LlbError::Dangling { reference: digest.to_owned() })
    }

    /// Returns what the tree at `head` is made of.
    pub(crate) fn target(&self, head: &Input) -> Result<Target, LlbError> {
        let mut target = Target::default();
        let mut newest_first = Vec::new();
        let mut at = Some(head.clone());
        for _ in 0..DEPTH_MAX {
            let Some(input) = at else { break };
            let operation = self.operation(&input.digest)?;
            at = if let Some(file) = &operation.file {
                self.actions(&input, operation, &file.actions, &mut newest_first)?
            } else if let Some(exec) = operation.exec.as_ref().filter(|exec| !is_ours(exec)) {
                target.was_run = true;
                let mount = exec.mounts.iter().find(|mount| mount.output == input.index);
                mount.map_or(Ok(None), |mount| input_of(operation, mount.input))?
            } else if let Some(merge) = &operation.merge {
                let mut layers = merge.inputs.iter();
                let lowest = layers.next().map_or(Ok(None), |one| input_of(operation, one.input))?;
                for layer in layers.rev() {
                    if let Some(layer) = input_of(operation, layer.input)? {
                        let layer = self.target(&layer)?;
                        target.was_run |= layer.was_run;
                        newest_first.extend(layer.parts.into_iter().rev());
                    }
                }
                lowest
            } else if let Some(diff) = &operation.diff {
                diff.upper.as_ref().map_or(Ok(None), |upper| input_of(operation, upper.input))?
            } else {
                target.base = Some(input);
                None
            };
        }
        newest_first.reverse();
        target.parts = newest_first;
        Ok(target)
    }

    /// Adds what the actions up to the output `input` did, the newest first; returns what they started from.
    fn actions(
        &self,
        input: &Input,
        operation: &Operation,
        actions: &[FileAction],
        newest_first: &mut Vec<Part>,
    ) -> Result<Option<Input>, LlbError> {
        let count = operation.inputs.len();
        let mut at = actions.iter().position(|action| action.output == input.index);
        while let Some(action) = at.and_then(|index| actions.get(index)) {
            let kind = if let Some(copy) = &action.copy {
                match input_of_or_action(operation, action.secondary_input)? {
                    Some(from) => Some(PartKind::Copied { from, copy: copy.clone() }),
                    // From what another action of the same operation made.
                    None => Some(PartKind::Made(copy.dest.clone())),
                }
            } else if let Some(made) = &action.make_file {
                Some(PartKind::Made(made.path.clone()))
            } else if let Some(made) = &action.make_directory {
                Some(PartKind::Made(made.path.clone()))
            } else {
                action.symlink.as_ref().map(|link| PartKind::Made(link.new.clone()))
            };
            newest_first.extend(kind.map(|kind| Part { digest: input.digest.clone(), kind }));
            match usize::try_from(action.input) {
                Err(_) => return Ok(None),
                Ok(index) if index < count => return input_of(operation, action.input),
                // An action before this one; anything else would never end.
                Ok(index) => at = Some(index - count).filter(|earlier| Some(*earlier) < at),
            }
        }
        Ok(None)
    }

    /// Returns whether programs in the tree at `head` were made to run there: it has an image below it, or a command was
    /// run in it.
    pub(crate) fn is_rootfs(&self, head: &Input) -> Result<bool, LlbError> {
        let target = self.target(head)?;
        let Some(base) = &target.base else { return Ok(target.was_run) };
        let base = self.operation(&base.digest)?;
        let is_image = base.source.as_ref().is_some_and(|source| {
            source.identifier.starts_with("docker-image://") || source.identifier.starts_with("oci-layout://")
        });
        Ok(is_image || base.exec.is_some() || target.was_run)
    }

    /// Returns whether the tree at `head` is a directory of the client.
    fn is_sent(&self, head: &Input) -> bool {
        self.source(head).is_some_and(|source| source.identifier.starts_with("local://"))
    }

    /// Returns whether the tree at `head` is one file from the network, of whatever name.
    pub(crate) fn is_download(&self, head: &Input) -> bool {
        self.source(head).is_some_and(|source| {
            source.identifier.starts_with("http://") || source.identifier.starts_with("https://")
        })
    }

    fn source(&self, head: &Input) -> Option<&SourceOperation> {
        self.operations.get(&head.digest)?.source.as_ref()
    }

    /// Returns what people read about the operation `digest` while it runs.
    pub(crate) fn name(&self, digest: &str) -> Option<String> {
        let metadata = value(&self.definition.metadata, digest)?;
        let metadata = OperationMetadata::decode(metadata).ok()?;
        let name = value(&metadata.description, "llb.customname")?;
        String::from_utf8(name.to_vec()).ok()
    }

    /// Returns what messages call the tree at `head`, which a build is for: its stage, if that has a name.
    pub(crate) fn target_name(&self, head: &Input) -> String {
        let is_made_here =
            self.operations.get(&head.digest).is_some_and(|operation| operation.source.is_none())
                && !self.inputs.has(&head.digest);
        match self.stage_of(&head.digest).filter(|stage| is_made_here && !stage.is_empty()) {
            Some(stage) => format!("stage {stage}"),
            None => "the target".to_owned(),
        }
    }

    /// Returns the name of the stage that the operation `digest` belongs to, which may be empty. It is part of what
    /// people read: `[build 2/4] RUN make`, `[2/4] RUN make`, but `[internal] load build context`.
    fn stage_of(&self, digest: &str) -> Option<String> {
        let name = self.name(digest)?;
        let (bracket, _) = name.strip_prefix('[')?.split_once(']')?;
        let (stage, position) = bracket.rsplit_once(' ').unwrap_or(("", bracket));
        // With several platforms, theirs comes first.
        let stage = stage.rsplit(' ').next().unwrap_or(stage);
        position.contains('/').then(|| stage.to_owned())
    }

    /// Returns what the build file calls the tree at `head`: what was passed in by its name, the stage that its operations
    /// are named after, else the image or context that it is.
    pub(crate) fn stage_name(&self, head: &Input) -> String {
        let mut at = Some(head.clone());
        for _ in 0..DEPTH_MAX {
            let Some(input) = at else { break };
            let Some(operation) = self.operations.get(&input.digest) else { break };
            if let Some(name) = self.inputs.name(&input) {
                return name.to_owned();
            }
            if let Some(stage) = self.stage_of(&input.digest).filter(|stage| !stage.is_empty()) {
                return stage;
            }
            if let Some(source) = &operation.source {
                return match source.identifier.split_once("://") {
                    Some(("docker-image", image)) => image.split('@').next().unwrap_or(image).to_owned(),
                    Some(("local", "context")) => "context".to_owned(),
                    _ => source.identifier.clone(),
                };
            }
            at = operation.inputs.first().cloned();
        }
        "scratch".to_owned()
    }

    /// Returns the build file, which the definition carries for error messages.
    pub(crate) fn build_file(&self) -> Option<&SourceInfo> {
        self.definition.source.as_ref()?.infos.get(usize::try_from(self.build_file?).ok()?)
    }

    /// Returns the lines of the build file that the operation `digest` comes from.
    pub(crate) fn ranges(&self, digest: &str) -> Vec<Range> {
        let locations = locations(&self.definition, digest).into_iter();
        let of_build_file = locations.filter(|location| Some(location.source) == self.build_file);
        of_build_file.flat_map(|location| location.ranges).collect()
    }
}

/// Returns the lines, of whichever files, that the operation `digest` comes from.
fn locations(definition: &Definition, digest: &str) -> Vec<Location> {
    let bytes = definition.source.as_ref().and_then(|source| value(&source.locations, digest));
    bytes.and_then(|bytes| Locations::decode(bytes).ok()).unwrap_or_default().locations
}

/// Returns whether `exec` is the step of a build with minimage: what it makes is an image as any other, of whose making
/// nothing is known.
fn is_ours(exec: &Exec) -> bool {
    [OUTPUT, META].iter().all(|path| exec.mounts.iter().any(|mount| mount.dest == *path && mount.input == -1))
}

/// Returns the input with this index; `None` stands for an empty tree.
fn input_of(operation: &Operation, index: i64) -> Result<Option<Input>, LlbError> {
    let Ok(index) = usize::try_from(index) else { return Ok(None) };
    let dangling = || LlbError::Dangling { reference: format!("input {index}") };
    operation.inputs.get(index).cloned().map(Some).ok_or_else(dangling)
}

/// Returns the input with this index, or `None` if it is the output of an action.
fn input_of_or_action(operation: &Operation, index: i64) -> Result<Option<Input>, LlbError> {
    match usize::try_from(index) {
        Ok(at) if at >= operation.inputs.len() => Ok(None),
        _ => input_of(operation, index),
    }
}

#[cfg(test)]
mod tests {
    use super::extend::metadata;
    use super::*;
    use crate::proto::{
        FileOperation, MakePath, Merge, MergeInput, Mount, OperationHead, OperationKind, Pair, Platform,
        Source,
    };

    /// A definition in the making.
    #[derive(Default)]
    struct Sketch {
        definition: Definition,
    }

    impl Sketch {
        fn add(&mut self, name: &str, operation: Operation) -> Input {
            let bytes = operation.encode_to_vec();
            let digest = Digest::of(&bytes).to_string();
            self.definition.operations.push(bytes);
            let metadata = metadata(name, Reuse::Allowed, &[]);
            self.definition.metadata.push(Pair::new(digest.as_str(), metadata.encode_to_vec()));
            Input { digest, index: 0 }
        }

        fn image(&mut self, name: &str) -> Input {
            let source = SourceOperation { identifier: name.to_owned(), attributes: Vec::new() };
            self.add("", Operation { source: Some(source), ..Operation::default() })
        }

        fn run(&mut self, name: &str, on: &Input) -> Input {
            let mounts = vec![Mount { dest: "/".to_owned(), ..Mount::default() }];
            let exec = Exec { mounts, ..Exec::default() };
            let inputs = vec![on.clone()];
            self.add(name, Operation { inputs, exec: Some(exec), ..Operation::default() })
        }

        /// Copies each of `paths` of `from` to itself, one action after the other.
        fn copy(&mut self, name: &str, on: Option<&Input>, from: &Input, paths: &[&str]) -> Input {
            let mut inputs: Vec<Input> = on.cloned().into_iter().collect();
            inputs.push(from.clone());
            let count = inputs.len() as i64;
            let last = paths.len() - 1;
            let action = |(index, path): (usize, &&str)| FileAction {
                input: match (index, on) {
                    (0, None) => -1,
                    (0, Some(_)) => 0,
                    _ => count + index as i64 - 1,
                },
                secondary_input: count - 1,
                output: if index == last { 0 } else { -1 },
                copy: Some(Copy { src: (*path).to_owned(), dest: (*path).to_owned(), ..Copy::default() }),
                ..FileAction::default()
            };
            let file = FileOperation { actions: paths.iter().enumerate().map(action).collect() };
            self.add(name, Operation { inputs, file: Some(file), ..Operation::default() })
        }

        fn make_directory(&mut self, on: &Input, path: &str) -> Input {
            let make_directory = Some(MakePath { path: path.to_owned() });
            let action = FileAction { secondary_input: -1, make_directory, ..FileAction::default() };
            let file = FileOperation { actions: vec![action] };
            let inputs = vec![on.clone()];
            self.add("", Operation { inputs, file: Some(file), ..Operation::default() })
        }

        fn merge(&mut self, inputs: &[Input]) -> Input {
            let merge =
                Merge { inputs: (0..inputs.len() as i64).map(|input| MergeInput { input }).collect() };
            let inputs = inputs.to_vec();
            self.add("", Operation { inputs, merge: Some(merge), ..Operation::default() })
        }

        fn graph(mut self, head: &Input) -> Graph {
            let terminal = OperationHead { inputs: vec![head.clone()], platform: None };
            self.definition.operations.push(terminal.encode_to_vec());
            Graph::read(self.definition).unwrap()
        }
    }

    /// Returns the parts of the head of `graph` as text.
    fn parts(graph: &Graph) -> Vec<String> {
        let shown = |part: &Part| match &part.kind {
            PartKind::Copied { from, copy } => format!("{} from {}", copy.src, graph.stage_name(from)),
            PartKind::Made(path) => format!("{path} made"),
        };
        graph.target(graph.head().unwrap()).unwrap().parts.iter().map(shown).collect()
    }

    #[test]
    fn what_a_stage_copied_is_found_below_what_it_ran() {
        let mut sketch = Sketch::default();
        let debian = sketch.image("docker-image://docker.io/library/debian:12@sha256:00");
        let build = sketch.run("[build 2/2] RUN make", &debian);
        let context = sketch.image("local://context");
        let copied = sketch.copy("[final 2/5] COPY --from=build", Some(&debian), &build, &["/a", "/b"]);
        let ran = sketch.run("[final 3/5] RUN x", &copied);
        let workdir = sketch.make_directory(&ran, "/work");
        let head = sketch.copy("[final 5/5] COPY c /", Some(&workdir), &context, &["/c"]);
        let graph = sketch.graph(&head);
        assert_eq!(parts(&graph), ["/a from build", "/b from build", "/work made", "/c from context"]);
        let target = graph.target(&head).unwrap();
        assert_eq!((target.base, target.was_run), (Some(debian.clone()), true));
        assert!(graph.is_rootfs(&build).unwrap() && graph.is_rootfs(&debian).unwrap());
        assert!(!graph.is_rootfs(&context).unwrap());
        assert_eq!(graph.stage_name(&debian), "docker.io/library/debian:12");
        assert_eq!(graph.stage_name(&head), "final");
    }

    #[test]
    fn linked_copies_are_layers_of_a_merge() {
        let mut sketch = Sketch::default();
        let base = sketch.image("docker-image://base");
        let build = sketch.image("docker-image://build");
        let one = sketch.copy("", None, &build, &["/1", "/2"]);
        let two = sketch.copy("", None, &build, &["/3"]);
        let head = sketch.merge(&[base.clone(), one, two]);
        let graph = sketch.graph(&head);
        assert_eq!(parts(&graph), ["/1 from build", "/2 from build", "/3 from build"]);
        assert_eq!(graph.target(&head).unwrap().base, Some(base));
    }

    #[test]
    fn inputs_have_names_and_lines_of_their_own() {
        let at = |source| Locations { locations: vec![Location { source, ranges: vec![Range::default()] }] };
        let mut sketch = Sketch::default();
        let passed = sketch.run("[build 2/2] RUN make", &Input::default());
        let mut passed_in = sketch.definition.clone();
        let terminal = OperationHead { inputs: vec![passed.clone()], platform: None };
        passed_in.operations.push(terminal.encode_to_vec());
        let inputs = Inputs::read(vec![Pair::new("context:base", passed_in.encode_to_vec())]).unwrap();

        let own = sketch.copy("[stage-0 1/1] COPY", None, &passed, &["/a"]);
        let infos = ["Theirs", "Dockerfile"]
            .map(|name| SourceInfo { filename: name.to_owned(), ..SourceInfo::default() });
        let locations = [(&passed, 0), (&own, 1)]
            .map(|(input, source)| Pair::new(input.digest.as_str(), at(source).encode_to_vec()));
        sketch.definition.source = Some(Source { locations: locations.into(), infos: infos.into() });
        let definition = sketch.graph(&own).definition_of(&own);
        let mut graph = Graph::with_inputs(definition, Rc::new(inputs)).unwrap();
        assert_eq!(graph.build_file().unwrap().filename, "Dockerfile");
        assert_eq!((graph.ranges(&own.digest).len(), graph.ranges(&passed.digest).len()), (1, 0));
        assert_eq!((&*graph.stage_name(&passed), &*graph.target_name(&passed)), ("base", "the target"));
        assert_eq!((&*graph.stage_name(&own), &*graph.target_name(&own)), ("stage-0", "stage stage-0"));
        let pushed = graph.push(
            &OperationHead::default(),
            &OperationKind::default(),
            &metadata("", Reuse::Allowed, &[]),
            Some(vec![Range::default()]),
        );
        assert_eq!(super::locations(&graph.definition, &pushed.digest), at(1).locations);
    }

    #[test]
    fn what_minimage_made_is_an_image() {
        let mut sketch = Sketch::default();
        let debian = sketch.image("docker-image://debian");
        let mount =
            |dest: &str, input, output| Mount { dest: dest.to_owned(), input, output, ..Mount::default() };
        let mounts = vec![mount("/", 0, -1), mount("/src", 0, -1), mount(OUTPUT, -1, 0), mount(META, -1, 1)];
        let exec = Some(Exec { mounts, ..Exec::default() });
        let made = sketch.add("", Operation { inputs: vec![debian.clone()], exec, ..Operation::default() });
        let ran = sketch.run("[2/2] RUN x", &made);
        let graph = sketch.graph(&ran);
        for (head, was_run) in [(&made, false), (&ran, true)] {
            let target = graph.target(head).unwrap();
            assert_eq!((target.base, target.was_run), (Some(made.clone()), was_run));
            assert!(graph.is_rootfs(head).unwrap());
        }
    }

    #[test]
    fn what_was_missing_goes_on_top() {
        let mut sketch = Sketch::default();
        let (debian, added) = (sketch.image("docker-image://debian"), sketch.image("docker-image://added"));
        let mut graph = sketch.graph(&debian);
        for how in [Over::Merge, Over::Copy] {
            let head = graph.add_over(&debian, &added, how);
            let graph = Graph::read(graph.definition_of(&head)).unwrap();
            let operation = graph.operation(&head.digest).unwrap();
            assert_eq!(operation.inputs, [debian.clone(), added.clone()]);
            assert_eq!(
                (operation.merge.is_some(), operation.file.is_some()),
                (how == Over::Merge, how == Over::Copy)
            );
            assert_eq!(graph.target(&head).unwrap().base, Some(debian.clone()));
        }
    }

    #[test]
    fn what_is_sent_is_known_by_its_contents() {
        let mut sketch = Sketch::default();
        let (debian, context) = (sketch.image("docker-image://debian"), sketch.image("local://context"));
        let copied = sketch.copy("", Some(&debian), &context, &["/c"]);
        let mut graph = sketch.graph(&copied);
        let mounts = [("/src", &copied), ("/from/0", &debian), ("/from/1", &context)];
        let step = graph.add_step(Step {
            image: debian.clone(),
            arguments: Vec::new(),
            mounts: mounts.map(|(at, input)| (input.clone(), at.to_owned())).into(),
            outputs: Vec::new(),
            platform: Platform::default(),
            name: String::new(),
            reuse: Reuse::Allowed,
            keys: Keys::Definitions,
            ranges: Vec::new(),
        });
        let definition = graph.definition_of(&step);
        let step = &definition.operations[definition.operations.len() - 2];
        let mounts = Operation::decode(step.as_slice()).unwrap().exec.unwrap().mounts;
        let caches: Vec<_> = mounts.iter().map(|mount| (&*mount.dest, mount.content_cache)).collect();
        assert_eq!(caches, [("/", 0), ("/src", 2), ("/from/0", 2), ("/from/1", 0)]);
    }

    #[test]
    fn the_step_is_encoded_as_buildkit_would() {
        let mut sketch = Sketch::default();
        let debian = sketch.image("docker-image://debian");
        let mut graph = sketch.graph(&debian);
        let platform =
            Platform { architecture: "amd64".to_owned(), os: "linux".to_owned(), ..Platform::default() };
        let image = graph.add_image("docker.io/library/minimage:latest", platform.clone());
        let step = graph.add_step(Step {
            image: image.clone(),
            arguments: vec!["/minimage-frontend".to_owned()],
            mounts: vec![(debian.clone(), "/src".to_owned()), (debian.clone(), "/from/0".to_owned())],
            outputs: vec!["/out".to_owned(), "/meta".to_owned()],
            platform,
            name: "[minimage] resolve".to_owned(),
            reuse: Reuse::Allowed,
            keys: Keys::Definitions,
            ranges: Vec::new(),
        });
        let definition = graph.definition_of(&step);
        let bytes = &definition.operations[definition.operations.len() - 2];
        assert_eq!(Digest::of(bytes).to_string(), step.digest);
        let operation = Operation::decode(bytes.as_slice()).unwrap();
        assert_eq!(operation.inputs, [image, debian]);
        // The kind of the operation comes last, although its tag is smaller than that of the platform.
        let kind = OperationKind { exec: operation.exec.clone(), ..OperationKind::default() }.encode_to_vec();
        assert!(bytes.ends_with(&kind));
        let mounts: Vec<_> = operation.exec.unwrap().mounts;
        let mounts: Vec<_> = mounts.iter().map(|mount| (&*mount.dest, mount.input, mount.output)).collect();
        assert_eq!(
            mounts,
            [("/", 0, -1), ("/src", 1, -1), ("/from/0", 1, -1), ("/out", -1, 0), ("/meta", -1, 1)]
        );
    }
}
