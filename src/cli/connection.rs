//! Flags about registries -> a client for them.

use std::str::FromStr;

use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

use super::args::RegistryArguments;
use super::boxed;
use crate::explain::{Explain, Explanation};
use crate::observer::Observer;
use crate::oci::Reference;
use crate::registry::{Client, Options};

/// The machine refuses what a registry client needs.
#[derive(Debug, Error)]
#[error("cannot start the part that speaks to registries")]
struct RuntimeError {
    source: std::io::Error,
}

impl Explain for RuntimeError {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("no-runtime", self.to_string())
                .because_of(self)
                .fix("raise the limits of this process"),
        ]
    }
}

/// Makes the runtime of the registry client; it starts no thread.
pub(super) fn runtime() -> Result<Runtime, Box<dyn Explain>> {
    Builder::new_current_thread().enable_all().build().map_err(|source| boxed(RuntimeError { source }))
}

/// How registries are spoken to, and who is told of it.
pub(super) struct Connection<'a> {
    pub(super) arguments: &'a RegistryArguments,
    pub(super) observer: &'a dyn Observer,
}

impl Connection<'_> {
    /// Returns a new client.
    pub(super) fn client(&self) -> Client {
        let mut options = Options {
            insecure_hosts: self.arguments.insecure_registries.iter().map(|host| host.0.clone()).collect(),
            auth_file: self.arguments.authfile.clone(),
            mount_from: self.arguments.mount_from.clone(),
            ..Options::default()
        };
        options.certificates.extend(self.arguments.cert_dir.clone());
        for mirror in &self.arguments.mirrors {
            options.mirrors.entry(mirror.registry.0.clone()).or_default().push(mirror.host.0.clone());
        }
        Client::new(options)
    }
}

/// The `HOST` or `HOST:PORT` of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RegistryHost(pub(super) String);

/// A text that is no registry.
#[derive(Debug, Error)]
#[error("not a `HOST` or `HOST:PORT`")]
pub(super) struct RegistryHostError;

impl FromStr for RegistryHost {
    type Err = RegistryHostError;

    fn from_str(text: &str) -> Result<Self, RegistryHostError> {
        if Reference::is_registry(text) { Ok(Self(text.to_owned())) } else { Err(RegistryHostError) }
    }
}

/// A place to pull from before a registry itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) registry: RegistryHost,
    pub(super) host: RegistryHost,
}

/// A text that is no mirror.
#[derive(Debug, Error)]
#[error("not of the form `REGISTRY=HOST[:PORT]`")]
pub(super) struct MirrorError;

impl FromStr for Mirror {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Self, MirrorError> {
        let (registry, host) = text.split_once('=').ok_or(MirrorError)?;
        let parse = |text: &str| text.parse().map_err(|_| MirrorError);
        Ok(Self { registry: parse(registry)?, host: parse(host)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_mirrors() {
        for good in ["localhost", "localhost:5000", "ghcr.io", "[::1]:5000", "127.0.0.1"] {
            assert_eq!(good.parse::<RegistryHost>().unwrap().0, good);
        }
        for bad in ["", "ht tp", "http://x", "x/y", "x:", "x:y", "-x", "user@host"] {
            assert!(bad.parse::<RegistryHost>().is_err(), "{bad}");
        }
        let mirror: Mirror = "docker.io=mirror.example:443".parse().unwrap();
        assert_eq!((mirror.registry.0.as_str(), mirror.host.0.as_str()), ("docker.io", "mirror.example:443"));
        for bad in ["docker.io", "docker.io=", "=x", "a=b=c"] {
            assert!(bad.parse::<Mirror>().is_err(), "{bad}");
        }
    }
}
