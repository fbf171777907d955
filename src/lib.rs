//! minimage makes the smallest OCI image that still works.
//!
//! The modules, in the order in which data flows; each uses only the ones above it.
#![cfg_attr(test, allow(clippy::indexing_slicing))]

pub mod explain;
pub mod nearest;
pub mod path;
pub mod glob;
pub mod oci;
pub mod observer;
pub mod formats;
pub mod roots;
pub mod rules;
pub mod spec;
pub mod project;
pub mod options;
pub mod rootfs;
pub mod archive;
pub mod closure;
pub mod packages;
pub mod resolve;
pub mod layer;
pub mod report;
pub mod summary;
pub mod image;
#[cfg(feature = "registry")]
pub mod registry;
pub mod destination;
#[cfg(feature = "cli")]
pub mod cli;
