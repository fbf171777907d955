//! Integration tests, in one binary: no root, no daemon, no network beyond loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at its first surprise")]

#[cfg(feature = "registry")]
mod registry;
