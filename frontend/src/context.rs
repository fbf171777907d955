//! The options and inputs of a build -> the directory that its project file is in, and files from there.

use prost::Message;

use crate::build::{Build, LOCAL, ServeError};
use crate::llb::{Graph, LlbError, PartKind};
use crate::options::OF_DOCKERFILE;
use crate::proto::{Definition, SourceInfo, put};

/// What we call a place that is far away, and how all of it is copied, which is never done.
const REMOTE: (&str, &str) = ("context:project", "FROM scratch\nCOPY --from=project / /\n");

/// Where a project file and what it names are.
pub(crate) enum Context<'a> {
    /// A directory of the client, by its name; of that only what is read is sent.
    Local(&'a str),
    /// What the client passed in, or a place that is far away.
    Made(Definition),
}

impl<'a> Context<'a> {
    /// Returns where the build file of `build` is, which the stock frontend would find there too.
    pub(crate) fn of(build: &Build<'a>) -> Result<Self, ServeError> {
        let options = build.options;
        let remote = options.value(options.value("contextkey").unwrap_or("context"));
        match (options.value("dockerfilekey"), remote, build.inputs.definition(LOCAL)) {
            (Some(key), ..) => Ok(Self::Local(key)),
            (None, Some(place), _) => remote_tree(build, place).map(Self::Made),
            (None, None, Some(bytes)) => {
                Definition::decode(bytes).map(Self::Made).map_err(|source| ServeError::Input { source })
            }
            (None, None, None) => Ok(Self::Local(LOCAL)),
        }
    }

    /// Returns the contents of the files at `paths`, and the definition that loads them.
    pub(crate) fn read(
        &self,
        build: &Build<'_>,
        paths: &[String],
    ) -> Result<(Definition, Vec<Vec<u8>>), ServeError> {
        let definition = match self {
            Self::Made(definition) => definition.clone(),
            Self::Local(name) => {
                let mut graph = Graph::default();
                let local = graph.add_local(name, paths, build.options.session_of(name));
                graph.definition_of(&local)
            }
        };
        let loaded = build.solve(definition.clone())?;
        let read = |path: &String| {
            let path = format!("/{}", path.trim_start_matches('/'));
            build.gateway.read_file(&loaded.id, &path).map_err(ServeError::from)
        };
        let contents = paths.iter().map(read).collect::<Result<_, _>>()?;
        Ok((definition, contents))
    }
}

/// Returns the build file `name` of `build`, in `language`, and how it is loaded.
pub(crate) fn build_file(
    build: &Build<'_>,
    context: &Context<'_>,
    name: &str,
    language: &str,
) -> Result<SourceInfo, ServeError> {
    let (definition, contents) = context.read(build, &[name.to_owned()])?;
    Ok(SourceInfo {
        filename: name.to_owned(),
        data: contents.into_iter().next().unwrap_or_default(),
        definition: Some(definition.encode_to_vec()),
        language: language.to_owned(),
    })
}

/// Returns the definition of the tree at `place`, a repository or an archive: the stock frontend knows all their spellings.
fn remote_tree(build: &Build<'_>, place: &str) -> Result<Definition, ServeError> {
    if !build.knows_contexts() {
        return Err(ServeError::RemoteProject);
    }
    let (key, dockerfile) = REMOTE;
    let mut options = build.options.forwarded_without(&OF_DOCKERFILE);
    put(&mut options, key, place);
    options.retain(|option| option.key != "platform");
    let stock = build.dockerfile(dockerfile, options)?;
    let missing = || LlbError::Dangling { reference: place.to_owned() };
    let mut graph = build.images(&stock)?.into_iter().next().ok_or_else(missing)?.graph;
    let parts = graph.target(graph.head().ok_or_else(missing)?)?.parts;
    let Some(PartKind::Copied { from, .. }) = parts.into_iter().next().map(|part| part.kind) else {
        return Err(missing().into());
    };
    let tree = if graph.is_download(&from) { graph.add_unpacked(&from) } else { from };
    Ok(graph.definition_of(&tree))
}
