//! A graph + what a build has besides -> the same graph with more operations, encoded as BuildKit does.

use minimage::oci::Digest;
use prost::Message;

use super::Graph;
use crate::proto::{
    Copy, Definition, Exec, ExecMeta, FileAction, FileOperation, Flag, Input, Location, Locations, MakeFile,
    Merge, MergeInput, Mount, OperationHead, OperationKind, OperationMetadata, Pair, Platform, Range,
    SourceInfo, SourceOperation, value,
};

/// The step that we add to a build.
pub(crate) struct Step {
    /// Our own image.
    pub(crate) image: Input,
    /// The command line, program first.
    pub(crate) arguments: Vec<String>,
    /// What is mounted read-only, and where.
    pub(crate) mounts: Vec<(Input, String)>,
    /// Where results are written; the place in this list is the number of the output.
    pub(crate) outputs: Vec<String>,
    /// The machine that runs it, whatever the image is for.
    pub(crate) platform: Platform,
    /// What people read while it runs.
    pub(crate) name: String,
    /// Whether results of earlier builds count.
    pub(crate) reuse: Reuse,
    /// Whether mounts are known by the definitions that make them, not by their contents, which takes reading them.
    pub(crate) keys: Keys,
    /// The lines of the build file to show if it fails.
    pub(crate) ranges: Vec<Range>,
}

/// How a tree is put over another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// By putting their layers together; not known to BuildKit before 0.10.
    Merge,
    Copy,
}

/// Whether results of earlier builds count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    Allowed,
    Forbidden,
}

/// What a step's mounts are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Definitions,
    Contents,
}

impl Graph {
    /// Adds all of `other` but what it is for.
    pub(crate) fn join(&mut self, other: Graph) {
        for bytes in other.definition.operations {
            let digest = Digest::of(&bytes).to_string();
            if self.operations.contains_key(&digest) {
                continue;
            }
            if let Some(operation) = other.operations.get(&digest) {
                self.operations.insert(digest.clone(), operation.clone());
            }
            if let Some(metadata) = value(&other.definition.metadata, &digest) {
                self.definition.metadata.push(Pair::new(digest, metadata));
            }
            self.definition.operations.push(bytes);
        }
    }

    /// Adds an image as the daemon knows it by name, and returns it.
    pub(crate) fn add_image(&mut self, name: &str, platform: Platform) -> Input {
        let head = OperationHead { inputs: Vec::new(), platform: Some(platform) };
        let source = SourceOperation { identifier: format!("docker-image://{name}"), attributes: Vec::new() };
        let kind = OperationKind { source: Some(source), ..OperationKind::default() };
        let description = format!("[minimage] load {name}");
        self.push(&head, &kind, &metadata(&description, Reuse::Allowed, &["source.image"]), None)
    }

    /// Adds the files at `paths` of what the client of `session` calls `name`, and returns the tree that has them. Without
    /// a session, a build that runs at the same time could get the files of another client.
    pub(crate) fn add_local(&mut self, name: &str, paths: &[String], session: Option<&str>) -> Input {
        let mut attributes = vec![
            Pair::new("local.followpaths", serde_json::json!(paths).to_string()),
            Pair::new("local.sharedkeyhint", name),
        ];
        attributes.extend(session.map(|session| Pair::new("local.session", session)));
        attributes.sort_by(|one, other| one.key.cmp(&other.key));
        let source = SourceOperation { identifier: format!("local://{name}"), attributes };
        let kind = OperationKind { source: Some(source), ..OperationKind::default() };
        let mut caps = vec!["source.local", "source.local.followpaths", "source.local.sharedkeyhint"];
        caps.extend(session.map(|_| "source.local.sessionid"));
        let description = format!("[minimage] load {}", paths.join(", "));
        let metadata = metadata(&description, Reuse::Allowed, &caps);
        self.push(&OperationHead::default(), &kind, &metadata, None)
    }

    /// Adds a file and returns the tree that has nothing else.
    pub(crate) fn add_file(&mut self, path: &str, data: &[u8]) -> Input {
        let file = MakeFile { path: path.to_owned(), mode: 0o644, data: data.to_vec(), timestamp: -1 };
        let action =
            FileAction { input: -1, secondary_input: -1, make_file: Some(file), ..FileAction::default() };
        let file = FileOperation { actions: vec![action] };
        let kind = OperationKind { file: Some(file), ..OperationKind::default() };
        let metadata = metadata("[minimage] write the build file", Reuse::Allowed, &["file.base"]);
        self.push(&OperationHead::default(), &kind, &metadata, None)
    }

    /// Adds the tree at `lower` with the files at `upper` over its own, and returns it. The layers of `lower` stay what they
    /// are; there is one more.
    pub(crate) fn add_over(&mut self, lower: &Input, upper: &Input, how: Over) -> Input {
        let inputs = vec![lower.clone(), upper.clone()];
        let head = OperationHead { inputs, platform: None };
        let (kind, cap) = match how {
            Over::Merge => {
                let inputs = vec![MergeInput { input: 0 }, MergeInput { input: 1 }];
                let merge = Some(Merge { inputs });
                (OperationKind { merge, ..OperationKind::default() }, "mergeop")
            }
            Over::Copy => {
                let how = Copy { src: "/".to_owned(), dir_copy_contents: true, ..Copy::default() };
                (copy(0, 1, how), "file.base")
            }
        };
        let metadata = metadata("[minimage] put what was missing on top", Reuse::Allowed, &[cap]);
        self.push(&head, &kind, &metadata, None)
    }

    /// Adds what is in the archive that is all of `download`, and returns it; of anything else, the same.
    pub(crate) fn add_unpacked(&mut self, download: &Input) -> Input {
        let head = OperationHead { inputs: vec![download.clone()], platform: None };
        let how =
            Copy { src: "/*".to_owned(), allow_wildcard: true, attempt_unpack: true, ..Copy::default() };
        let kind = copy(-1, 0, how);
        let metadata = metadata("[minimage] unpack the context", Reuse::Allowed, &["file.base"]);
        self.push(&head, &kind, &metadata, None)
    }

    /// Makes `file` the build file that errors and warnings show where there is none, as no operation is its own.
    pub(crate) fn show(&mut self, file: SourceInfo) {
        let infos = &mut self.definition.source.get_or_insert_default().infos;
        self.build_file = i32::try_from(infos.len()).ok();
        infos.push(file);
    }

    /// Makes `file` the build file that errors and warnings show, and its lines `lines` those of every operation.
    pub(crate) fn show_instead(&mut self, file: &SourceInfo, lines: Option<Range>) {
        let Some(source) = &mut self.definition.source else { return };
        source.infos = vec![file.clone()];
        self.build_file = Some(0);
        let locations = Locations {
            locations: lines.into_iter().map(|range| Location { source: 0, ranges: vec![range] }).collect(),
        };
        for pair in &mut source.locations {
            pair.value = Some(locations.encode_to_vec());
        }
    }

    /// Adds `step`, and returns its first output.
    pub(crate) fn add_step(&mut self, step: Step) -> Input {
        let mut inputs = vec![step.image];
        let root = Mount { dest: "/".to_owned(), output: -1, readonly: true, ..Mount::default() };
        let mut mounts = vec![root];
        for (input, dest) in step.mounts {
            // What a client sends is defined anew in each build, though the files may be the same.
            let content_cache = match step.keys {
                Keys::Definitions if !self.is_sent(&input) => 2,
                Keys::Definitions | Keys::Contents => 0,
            };
            let at = inputs.iter().position(|known| *known == input).unwrap_or_else(|| {
                inputs.push(input);
                inputs.len() - 1
            });
            let at = i64::try_from(at).unwrap_or(i64::MAX);
            mounts.push(Mount {
                input: at,
                dest,
                output: -1,
                readonly: true,
                content_cache,
                ..Mount::default()
            });
        }
        for (output, dest) in (0..).zip(step.outputs) {
            mounts.push(Mount { input: -1, dest, output, ..Mount::default() });
        }
        let meta = ExecMeta { args: step.arguments, env: Vec::new(), cwd: "/".to_owned() };
        let exec = Exec { meta: Some(meta), mounts, network: 2 };
        let head = OperationHead { inputs, platform: Some(step.platform) };
        let kind = OperationKind { exec: Some(exec), ..OperationKind::default() };
        let mut caps = vec!["exec.meta.base", "exec.meta.network", "exec.mount.bind"];
        if step.keys == Keys::Definitions {
            caps.push("exec.mount.cache.content");
        }
        self.push(&head, &kind, &metadata(&step.name, step.reuse, &caps), Some(step.ranges))
    }

    pub(super) fn push(
        &mut self,
        head: &OperationHead,
        kind: &OperationKind,
        metadata: &OperationMetadata,
        ranges: Option<Vec<Range>>,
    ) -> Input {
        let bytes = [head.encode_to_vec(), kind.encode_to_vec()].concat();
        let digest = Digest::of(&bytes).to_string();
        self.definition.operations.push(bytes);
        self.definition.metadata.push(Pair::new(digest.as_str(), metadata.encode_to_vec()));
        if let (Some(file), Some(ranges)) = (self.build_file, ranges)
            && let Some(source) = &mut self.definition.source
            && !ranges.is_empty()
        {
            let locations = Locations { locations: vec![Location { source: file, ranges }] };
            source.locations.push(Pair::new(digest.as_str(), locations.encode_to_vec()));
        }
        Input { digest, index: 0 }
    }

    /// Returns the definition of `head`.
    pub(crate) fn definition_of(&self, head: &Input) -> Definition {
        let mut definition = self.definition.clone();
        let terminal = OperationHead { inputs: vec![head.clone()], platform: None };
        definition.operations.push(terminal.encode_to_vec());
        definition
    }
}

/// Returns the copy, in the way `how`, of what the input `from` has to the top of the input `to`.
fn copy(to: i64, from: i64, how: Copy) -> OperationKind {
    let copy = Copy { dest: "/".to_owned(), mode: -1, create_dest_path: true, timestamp: -1, ..how };
    let action = FileAction { input: to, secondary_input: from, copy: Some(copy), ..FileAction::default() };
    let file = Some(FileOperation { actions: vec![action] });
    OperationKind { file, ..OperationKind::default() }
}

pub(super) fn metadata(name: &str, reuse: Reuse, caps: &[&str]) -> OperationMetadata {
    let mut caps: Vec<&str> = caps.to_vec();
    caps.push("meta.description");
    if reuse == Reuse::Forbidden {
        caps.push("meta.ignorecache");
    }
    caps.sort_unstable();
    OperationMetadata {
        ignore_cache: reuse == Reuse::Forbidden,
        description: vec![Pair::new("llb.customname", name)],
        caps: caps.into_iter().map(|cap| Flag { key: cap.to_owned(), value: true }).collect(),
    }
}
