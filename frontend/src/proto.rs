//! The messages of BuildKit's gateway and of LLB that we speak, as far as we look into them.
//!
//! A protobuf map is a repeated pair here, and its value always written: prost leaves an empty value out, and BuildKit
//! takes a pair without a value for a nil pointer and crashes. What passes through unchanged is bytes.

use prost::Message;

/// A pair of a protobuf map whose values are bytes or messages.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Pair {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(crate) value: Option<Vec<u8>>,
}

impl Pair {
    pub(crate) fn new(key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), value: Some(value.into()) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }
}

/// Returns the value of `key` in a map.
pub(crate) fn value<'a>(map: &'a [Pair], key: &str) -> Option<&'a [u8]> {
    map.iter().find(|pair| pair.key == key).map(Pair::bytes)
}

/// Puts `value` under `key` in a map, in place of what was there.
pub(crate) fn put(map: &mut Vec<Pair>, key: &str, value: impl Into<Vec<u8>>) {
    map.retain(|pair| pair.key != key);
    map.push(Pair::new(key, value));
}

// The gateway: moby.buildkit.v1.frontend.

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Empty {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct PingResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) frontend_caps: Vec<Capability>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) llb_caps: Vec<Capability>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) workers: Vec<Worker>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Capability {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(bool, tag = "2")]
    pub(crate) enabled: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Worker {
    #[prost(message, repeated, tag = "3")]
    pub(crate) platforms: Vec<Platform>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SolveRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) definition: Option<Definition>,
    #[prost(string, tag = "2")]
    pub(crate) frontend: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) options: Vec<Pair>,
    #[prost(bool, tag = "5")]
    pub(crate) allow_result_return: bool,
    #[prost(bool, tag = "6")]
    pub(crate) allow_result_array_ref: bool,
    #[prost(message, repeated, tag = "12")]
    pub(crate) cache_imports: Vec<CacheImport>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) inputs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CacheImport {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) attributes: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SolveResponse {
    #[prost(message, optional, tag = "3")]
    pub(crate) result: Option<SolveResult>,
}

/// One of `reference` and `references` is set: the oneof of the original, whose arms look the same on the wire.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SolveResult {
    #[prost(message, optional, tag = "3")]
    pub(crate) reference: Option<Reference>,
    #[prost(message, optional, tag = "4")]
    pub(crate) references: Option<References>,
    #[prost(message, repeated, tag = "10")]
    pub(crate) metadata: Vec<Pair>,
    #[prost(message, repeated, tag = "12")]
    pub(crate) attestations: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct References {
    #[prost(message, repeated, tag = "1")]
    pub(crate) references: Vec<Pair>,
}

/// What BuildKit calls a ref: the result of a solve. Without an id it is an empty root filesystem.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Reference {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) definition: Option<Definition>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReturnRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) result: Option<SolveResult>,
    /// `google.rpc.Status`.
    #[prost(message, optional, tag = "2")]
    pub(crate) error: Option<Status>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct InputsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) definitions: Vec<Pair>,
}

/// `ReadFileRequest`, `ReadDirRequest` and `StatFileRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PathRequest {
    #[prost(string, tag = "1")]
    pub(crate) reference: String,
    #[prost(string, tag = "2")]
    pub(crate) path: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadFileResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatFileResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) stat: Option<Stat>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ReadDirResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) entries: Vec<Stat>,
}

/// `fsutil.types.Stat`: what is asked of it.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Stat {
    /// When it changed last, in nanoseconds since 1970.
    #[prost(int64, tag = "6")]
    pub(crate) modified: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WarnRequest {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
    #[prost(int64, tag = "2")]
    pub(crate) level: i64,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) short: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) detail: Vec<Vec<u8>>,
    #[prost(message, optional, tag = "6")]
    pub(crate) info: Option<SourceInfo>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) ranges: Vec<Range>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) details: Vec<Any>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

// LLB: pb.

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Definition {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(crate) operations: Vec<Vec<u8>>,
    /// By digest of the operation.
    #[prost(message, repeated, tag = "2")]
    pub(crate) metadata: Vec<Pair>,
    #[prost(message, optional, tag = "3")]
    pub(crate) source: Option<Source>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Source {
    /// By digest of the operation; values are [`Locations`].
    #[prost(message, repeated, tag = "1")]
    pub(crate) locations: Vec<Pair>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) infos: Vec<SourceInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Locations {
    #[prost(message, repeated, tag = "1")]
    pub(crate) locations: Vec<Location>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Location {
    #[prost(int32, tag = "1")]
    pub(crate) source: i32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) ranges: Vec<Range>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SourceInfo {
    #[prost(string, tag = "1")]
    pub(crate) filename: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) data: Vec<u8>,
    /// A [`Definition`]: how the file was loaded.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) definition: Option<Vec<u8>>,
    #[prost(string, tag = "4")]
    pub(crate) language: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Range {
    #[prost(message, optional, tag = "1")]
    pub(crate) start: Option<Position>,
    #[prost(message, optional, tag = "2")]
    pub(crate) end: Option<Position>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Position {
    /// From 1.
    #[prost(int32, tag = "1")]
    pub(crate) line: i32,
    #[prost(int32, tag = "2")]
    pub(crate) character: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperationMetadata {
    #[prost(bool, tag = "1")]
    pub(crate) ignore_cache: bool,
    #[prost(message, repeated, tag = "2")]
    pub(crate) description: Vec<Pair>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) caps: Vec<Flag>,
}

/// A pair of a protobuf map whose values are bools.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Flag {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(bool, tag = "2")]
    pub(crate) value: bool,
}

/// An operation as we read it: at most one of the kinds is set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Operation {
    #[prost(message, repeated, tag = "1")]
    pub(crate) inputs: Vec<Input>,
    #[prost(message, optional, tag = "2")]
    pub(crate) exec: Option<Exec>,
    #[prost(message, optional, tag = "3")]
    pub(crate) source: Option<SourceOperation>,
    #[prost(message, optional, tag = "4")]
    pub(crate) file: Option<FileOperation>,
    #[prost(message, optional, tag = "6")]
    pub(crate) merge: Option<Merge>,
    #[prost(message, optional, tag = "7")]
    pub(crate) diff: Option<Diff>,
    #[prost(message, optional, tag = "10")]
    pub(crate) platform: Option<Platform>,
}

/// What comes before the kind of an operation where BuildKit encodes it, whatever the tags say; the digest of an
/// operation is that of BuildKit's encoding.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperationHead {
    #[prost(message, repeated, tag = "1")]
    pub(crate) inputs: Vec<Input>,
    #[prost(message, optional, tag = "10")]
    pub(crate) platform: Option<Platform>,
}

/// The kinds that we make ourselves.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OperationKind {
    #[prost(message, optional, tag = "2")]
    pub(crate) exec: Option<Exec>,
    #[prost(message, optional, tag = "3")]
    pub(crate) source: Option<SourceOperation>,
    #[prost(message, optional, tag = "4")]
    pub(crate) file: Option<FileOperation>,
    #[prost(message, optional, tag = "6")]
    pub(crate) merge: Option<Merge>,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub(crate) struct Input {
    #[prost(string, tag = "1")]
    pub(crate) digest: String,
    #[prost(int64, tag = "2")]
    pub(crate) index: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Platform {
    #[prost(string, tag = "1")]
    pub(crate) architecture: String,
    #[prost(string, tag = "2")]
    pub(crate) os: String,
    #[prost(string, tag = "3")]
    pub(crate) variant: String,
    #[prost(string, tag = "4")]
    pub(crate) os_version: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) os_features: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SourceOperation {
    #[prost(string, tag = "1")]
    pub(crate) identifier: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) attributes: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Exec {
    #[prost(message, optional, tag = "1")]
    pub(crate) meta: Option<ExecMeta>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) mounts: Vec<Mount>,
    #[prost(int32, tag = "3")]
    pub(crate) network: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExecMeta {
    #[prost(string, repeated, tag = "1")]
    pub(crate) args: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(crate) env: Vec<String>,
    #[prost(string, tag = "3")]
    pub(crate) cwd: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Mount {
    #[prost(int64, tag = "1")]
    pub(crate) input: i64,
    #[prost(string, tag = "2")]
    pub(crate) selector: String,
    #[prost(string, tag = "3")]
    pub(crate) dest: String,
    #[prost(int64, tag = "4")]
    pub(crate) output: i64,
    #[prost(bool, tag = "5")]
    pub(crate) readonly: bool,
    #[prost(int32, tag = "6")]
    pub(crate) kind: i32,
    #[prost(int32, tag = "24")]
    pub(crate) content_cache: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileOperation {
    #[prost(message, repeated, tag = "2")]
    pub(crate) actions: Vec<FileAction>,
}

/// At most one of the kinds is set.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FileAction {
    #[prost(int64, tag = "1")]
    pub(crate) input: i64,
    #[prost(int64, tag = "2")]
    pub(crate) secondary_input: i64,
    #[prost(int64, tag = "3")]
    pub(crate) output: i64,
    #[prost(message, optional, tag = "4")]
    pub(crate) copy: Option<Copy>,
    #[prost(message, optional, tag = "5")]
    pub(crate) make_file: Option<MakeFile>,
    #[prost(message, optional, tag = "6")]
    pub(crate) make_directory: Option<MakePath>,
    #[prost(message, optional, tag = "8")]
    pub(crate) symlink: Option<Symlink>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Copy {
    #[prost(string, tag = "1")]
    pub(crate) src: String,
    #[prost(string, tag = "2")]
    pub(crate) dest: String,
    /// Permission bits; -1 for those of the source.
    #[prost(int32, tag = "4")]
    pub(crate) mode: i32,
    #[prost(bool, tag = "5")]
    pub(crate) follow_symlink: bool,
    #[prost(bool, tag = "6")]
    pub(crate) dir_copy_contents: bool,
    #[prost(bool, tag = "7")]
    pub(crate) attempt_unpack: bool,
    #[prost(bool, tag = "8")]
    pub(crate) create_dest_path: bool,
    #[prost(bool, tag = "9")]
    pub(crate) allow_wildcard: bool,
    /// In nanoseconds; -1 for that of the source.
    #[prost(int64, tag = "11")]
    pub(crate) timestamp: i64,
    #[prost(string, repeated, tag = "12")]
    pub(crate) include_patterns: Vec<String>,
    #[prost(string, repeated, tag = "13")]
    pub(crate) exclude_patterns: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct MakeFile {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    #[prost(int32, tag = "2")]
    pub(crate) mode: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) data: Vec<u8>,
    /// In nanoseconds; -1 for none.
    #[prost(int64, tag = "5")]
    pub(crate) timestamp: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct MakePath {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Symlink {
    #[prost(string, tag = "1")]
    pub(crate) old: String,
    #[prost(string, tag = "2")]
    pub(crate) new: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Merge {
    #[prost(message, repeated, tag = "1")]
    pub(crate) inputs: Vec<MergeInput>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct MergeInput {
    #[prost(int64, tag = "1")]
    pub(crate) input: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Diff {
    #[prost(message, optional, tag = "1")]
    pub(crate) lower: Option<MergeInput>,
    #[prost(message, optional, tag = "2")]
    pub(crate) upper: Option<MergeInput>,
}
