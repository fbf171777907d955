//! minimage against the real thing: a registry, engines, runtimes and other image tools. `cargo e2e` runs it.
//!
//! Everything with a life or a mount of its own runs inside a [`sandbox`], so nothing stays behind and nothing
//! of the user's is touched. What is missing on this machine is skipped with a reason ([`requirement`]).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at its first surprise")]

mod outcome;
mod requirement;
mod sandbox;
mod daemons;
mod registry;
mod proxy;
mod tokens;
mod engines;
mod layout;
mod minimage;
mod certificates;
mod frontend;
mod buildkit;

mod by_hand;
mod cached;
mod clients;
mod dockerfiles;
mod errors;
mod features;
mod hostile;
mod images;
mod inputs;
mod load;
mod loader_cache;
mod own_image;
mod owners;
mod project;
mod push;
mod real;
mod repeat;
mod scanners;
mod trouble;
mod unpack;
