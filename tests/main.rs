//! Integration tests, in one binary.

#[cfg(feature = "registry")]
mod registry;
