//! `--push`: the image in a registry.

use tokio::runtime::Runtime;

use super::{Destination, PublishError, Published};
use crate::observer::Observer;
use crate::oci::{Descriptor, Layout, Reference};
use crate::registry::Client;

/// How sure a push makes that everything is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushMode {
    /// Each blob is asked for.
    Always,
    /// A registry that has the manifest is believed to have the rest.
    IfChanged,
}

/// The registries that the names of an image say.
pub struct Registry<'a> {
    /// Who speaks to them.
    pub client: Client,
    /// Where its waiting is done; made by the binary, as only it knows what else has to run. Not a handle: one of a
    /// runtime without threads would wait for ever.
    pub runtime: &'a Runtime,
    /// Who is told of what moves.
    pub observer: &'a dyn Observer,
    /// What is asked of a registry that has the image.
    pub mode: PushMode,
}

impl Destination for Registry<'_> {
    fn publish(
        &self,
        layout: &Layout,
        image: &Descriptor,
        names: &[Reference],
    ) -> Result<Published, PublishError> {
        let Self { client, runtime, observer, mode } = self;
        let pushed = match mode {
            PushMode::Always => runtime.block_on(client.push(layout, image, names, *observer)),
            PushMode::IfChanged => runtime.block_on(client.push_if_changed(layout, image, names, *observer)),
        }?;
        let names = pushed.names.into_iter().map(|name| name.reference).collect();
        Ok(Published { digest: pushed.digest, names })
    }
}
