//! `--push`: the image in a registry.

use tokio::runtime::Runtime;

use super::{Destination, PublishError, Published};
use crate::observer::Observer;
use crate::oci::{Descriptor, Layout, Reference};
use crate::registry::Client;

/// The registries that the names of an image say.
pub struct Registry<'a> {
    /// Who speaks to them.
    pub client: Client,
    /// Where its waiting is done; made by the binary, as only it knows what else has to run. Not a handle: one of a
    /// runtime without threads would wait for ever.
    pub runtime: &'a Runtime,
    /// Who is told of what moves.
    pub observer: &'a dyn Observer,
}

impl Destination for Registry<'_> {
    fn publish(
        &self,
        layout: &Layout,
        image: &Descriptor,
        names: &[Reference],
    ) -> Result<Published, PublishError> {
        let pushed = self.runtime.block_on(self.client.push(layout, image, names, self.observer))?;
        let names = pushed.names.into_iter().map(|name| name.reference).collect();
        Ok(Published { digest: pushed.digest, names })
    }
}
