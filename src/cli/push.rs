//! `minimage push`: an image on this machine -> registries.

use super::args::PushArguments;
use super::connection::{Connection, runtime};
use super::console::Console;
use super::progress::Progress;
use super::{Outcome, arrived, boxed, stored};
use crate::destination::{Destination, PushMode, Registry};

pub(super) fn run(arguments: &PushArguments, console: &mut Console) -> Outcome {
    let stored = stored::open(&arguments.image)?;
    let runtime = runtime()?;
    let progress = Progress::new(arguments.registry.progress);
    let connection = Connection { arguments: &arguments.registry, observer: &progress };
    let mode = if arguments.if_changed { PushMode::IfChanged } else { PushMode::Always };
    let registry = Registry { client: connection.client(), runtime: &runtime, observer: &progress, mode };
    let outcome = registry.publish(&stored.layout, &stored.image, &arguments.references);
    for line in arrived(&outcome) {
        console.line(&line)?;
    }
    outcome.map(drop).map_err(boxed)
}
