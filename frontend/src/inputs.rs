//! What the client passes in by name -> what messages call it, and which operations are not of this build file.

use std::collections::{HashMap, HashSet};

use minimage::oci::Digest;
use prost::{DecodeError, Message};

use crate::proto::{self, Definition, Input, Operation, Pair};

/// Definitions that stand for directories and images. They may be of build files of their own, as where one target of
/// `docker buildx bake` builds on another.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// As they came.
    pub(crate) definitions: Vec<Pair>,
    names: HashMap<Input, String>,
    operations: HashSet<String>,
}

impl Inputs {
    /// Reads `definitions` by their names.
    pub(crate) fn read(definitions: Vec<Pair>) -> Result<Self, DecodeError> {
        let mut inputs = Self::default();
        for pair in &definitions {
            let definition = Definition::decode(pair.bytes())?;
            if let Some(terminal) = definition.operations.last()
                && let Some(head) = Operation::decode(terminal.as_slice())?.inputs.into_iter().next()
            {
                let name = pair.key.strip_prefix("context:").unwrap_or(&pair.key);
                inputs.names.insert(head, name.to_owned());
            }
            inputs.operations.extend(definition.operations.iter().map(|bytes| Digest::of(bytes).to_string()));
        }
        inputs.definitions = definitions;
        Ok(inputs)
    }

    /// Returns the definition that is called `name`.
    pub(crate) fn definition(&self, name: &str) -> Option<&[u8]> {
        proto::value(&self.definitions, name)
    }

    /// Returns what the client calls the tree at `head`.
    pub(crate) fn name(&self, head: &Input) -> Option<&str> {
        self.names.get(head).map(String::as_str)
    }

    /// Returns whether the operation `digest` is of something that was passed in.
    pub(crate) fn has(&self, digest: &str) -> bool {
        self.operations.contains(digest)
    }
}
