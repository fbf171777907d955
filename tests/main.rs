//! Integration tests, in one binary: no root, no daemon, no network beyond loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at its first surprise")]
#![allow(unreachable_pub, reason = "`pub` here means: for other test modules")]

mod elf_writer;
mod cache_writer;
mod elf_text;
mod rpm_writer;
mod tree_text;
mod golden;
mod answer;
mod require;
mod oracle;
mod image_text;
mod command;

mod rules;
mod selection;
mod differential;
mod tidy;
mod images;
mod packages;
mod repeat;
mod cli;
mod project;
mod kernel;
mod programs;
mod sources;
mod properties;
mod layers;
#[cfg(feature = "registry")]
mod registry;
