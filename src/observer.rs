//! What moves, as typed events -> whoever shows progress: the command line draws them, the frontend names vertices.

use std::time::Duration;

use crate::oci::{Descriptor, Reference};

/// Which way a blob goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From a layout to a registry.
    Push,
    /// From a registry to a layout.
    Pull,
}

/// How a name came to mean an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameOutcome {
    /// The image is new in the repository.
    Pushed,
    /// The image was there; the name is new, or meant another image before.
    Retagged,
    /// The name meant this image before.
    AlreadyThere,
}

/// What went wrong with a request that is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hitch {
    /// The answer has this HTTP status.
    Status(u16),
    /// No connection came about.
    Unreachable,
    /// The connection broke.
    Broken,
    /// Nothing came in time.
    Silence,
}

/// One step of a transfer.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The first byte of a blob is about to move.
    Started {
        /// The blob.
        blob: &'a Descriptor,
        /// Which way it goes.
        direction: Direction,
    },
    /// More of a blob has moved. After a broken connection the count can be lower than before.
    Advanced {
        /// The blob.
        blob: &'a Descriptor,
        /// How many of its bytes have moved by now.
        bytes: u64,
    },
    /// A blob has arrived, and its digest is right.
    Finished {
        /// The blob.
        blob: &'a Descriptor,
    },
    /// A blob need not move.
    AlreadyThere {
        /// The blob.
        blob: &'a Descriptor,
    },
    /// The registry took a blob over from another of its repositories.
    Mounted {
        /// The blob.
        blob: &'a Descriptor,
        /// That repository.
        from: &'a str,
    },
    /// A name means the image now.
    Named {
        /// The name.
        reference: &'a Reference,
        /// How that came.
        outcome: NameOutcome,
    },
    /// A request failed in a way that can pass, and is made again after a pause.
    Waiting {
        /// Who is asked, as `host` or `host:port`.
        host: &'a str,
        /// How it failed.
        hitch: Hitch,
        /// How long the pause is.
        pause: Duration,
    },
}

/// Receives events. Called from the thread that runs the transfer, so an implementation must not block.
pub trait Observer: Send + Sync {
    /// Notes one event; the default ignores it.
    fn event(&self, event: Event<'_>) {
        let _ = event;
    }
}

/// Ignores every event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ignore;

impl Observer for Ignore {}
