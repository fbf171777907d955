//! `--push`: the image in a registry.

use std::sync::{Mutex, PoisonError};

use tokio::runtime::Runtime;

use super::{Destination, Partly, PublishError, Published};
use crate::observer::{Event, Observer};
use crate::oci::{Descriptor, Layout, Reference};
use crate::registry::{Client, Pushed};

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
        let list = List { observer: *observer, names: Mutex::default() };
        let pushed = match mode {
            PushMode::Always => runtime.block_on(client.push(layout, image, names, &list)),
            PushMode::IfChanged => runtime.block_on(client.push_if_changed(layout, image, names, &list)),
        };
        let source = match pushed {
            Ok(Pushed { digest, names, .. }) => {
                let names = names.into_iter().map(|name| name.reference).collect();
                return Ok(Published { digest, names });
            }
            Err(error) => error,
        };
        let names = list.names.into_inner().unwrap_or_else(PoisonError::into_inner);
        if names.is_empty() {
            return Err(source.into());
        }
        let published = Published { digest: layout.digest_of(image)?, names };
        Err(Box::new(Partly { published, source }).into())
    }
}

/// Lists the names that mean the image, and passes everything on.
struct List<'a> {
    observer: &'a dyn Observer,
    names: Mutex<Vec<Reference>>,
}

impl Observer for List<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Named { reference, .. } = event {
            self.names.lock().unwrap_or_else(PoisonError::into_inner).push(reference.clone());
        }
        self.observer.event(event);
    }
}
