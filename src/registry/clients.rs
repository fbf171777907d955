//! A URL -> the HTTP client for its host: proxies, certificate authorities, client certificates; and which addresses are near.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;

use super::Limits;
use super::certificates::{Certificates, Trust, Versions};
use super::error::{Refusal, RegistryError};

/// How near an address is. What a registry may point at depends on how near it is itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    Loopback,
    LinkLocal,
    Private,
    Public,
}

impl Zone {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, ..] = v4.octets();
                if v4.is_loopback() || v4.is_unspecified() {
                    Self::Loopback
                } else if v4.is_link_local() {
                    Self::LinkLocal
                } else if v4.is_private() || (a == 100 && b & 0xc0 == 64) {
                    Self::Private
                } else {
                    Self::Public
                }
            }
            IpAddr::V6(v6) if v6.is_loopback() || v6.is_unspecified() => Self::Loopback,
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Self::LinkLocal,
            IpAddr::V6(v6) if v6.is_unique_local() => Self::Private,
            IpAddr::V6(_) => Self::Public,
        }
    }

    /// Returns whether a registry in this zone may send us to an address in `target`.
    fn may_name(self, target: Self) -> bool {
        target == Self::Public || target == self || (self == Self::Loopback && target == Self::Private)
    }
}

/// Returns whether `url` names this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| Zone::of(address) == Zone::Loopback)
}

/// Returns `host`, or `host:port` if the port is not the scheme's own.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What one client serves: a scheme and host, some versions, and addresses that are not looked up again.
type Key = (String, Versions, Vec<SocketAddr>);

/// Makes HTTP clients, and keeps them: a client holds the open connections to its host.
#[derive(Debug)]
pub(super) struct Clients {
    insecure: Vec<String>,
    certificates: Vec<PathBuf>,
    connect: Duration,
    idle: Duration,
    made: Mutex<HashMap<Key, reqwest::Client>>,
}

impl Clients {
    pub(super) fn new(insecure: Vec<String>, certificates: Vec<PathBuf>, limits: &Limits) -> Self {
        let Limits { connect, idle, .. } = *limits;
        Self { insecure, certificates, connect, idle, made: Mutex::default() }
    }

    /// Returns whether the user accepts that this host cannot prove who it is.
    pub(super) fn is_insecure(&self, url: &Url) -> bool {
        let (host, authority) = (url.host_str().unwrap_or_default(), authority(url));
        self.insecure.iter().any(|entry| *entry == authority || entry == host)
    }

    /// Returns the client for the host of `url`. With `addresses`, its name is not looked up again.
    ///
    /// # Errors
    /// [`RegistryError::Certificates`], [`RegistryError::Tls`].
    pub(super) fn of(
        &self,
        url: &Url,
        versions: Versions,
        addresses: &[SocketAddr],
    ) -> Result<reqwest::Client, RegistryError> {
        let key = (format!("{}://{}", url.scheme(), authority(url)), versions, addresses.to_vec());
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&key) {
            return Ok(client.clone());
        }
        let client = self.client(url, versions, addresses)?;
        made.insert(key, client.clone());
        Ok(client)
    }

    fn client(
        &self,
        url: &Url,
        versions: Versions,
        addresses: &[SocketAddr],
    ) -> Result<reqwest::Client, RegistryError> {
        let host = authority(url);
        let tls =
            |source: reqwest::Error| RegistryError::Tls { host: host.clone(), source: source.without_url() };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("minimage/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(self.connect)
            .tcp_user_timeout(self.idle);
        if !addresses.is_empty() {
            builder = builder.resolve_to_addrs(url.host_str().unwrap_or_default(), addresses);
        }
        let plain = url.scheme() == "http";
        if is_loopback(url) {
            builder = builder.no_proxy();
        }
        if plain {
            // It must not fail for want of root certificates, which it does not need on this machine.
            let careless = is_loopback(url) || self.is_insecure(url);
            builder = builder.tls_danger_accept_invalid_certs(careless);
        } else {
            let trust = if self.is_insecure(url) { Trust::Anyone } else { Trust::WithSystem };
            builder = Certificates::of(&self.certificates, &host)?.enter(builder, trust, versions)?;
        }
        builder.build().map_err(tls)
    }

    /// Returns the addresses of `target`, or why `registry` may not send us there. Without a name service of our own (a
    /// proxy looks names up) there are none.
    pub(super) async fn admitted(&self, registry: &Url, target: &Url) -> Result<Vec<SocketAddr>, Refusal> {
        if registry.origin() == target.origin() {
            return Ok(Vec::new());
        }
        let addresses = addresses(target).await;
        let near =
            |addresses: &[SocketAddr]| addresses.iter().map(|it| Zone::of(it.ip())).collect::<Vec<_>>();
        let targets = near(&addresses);
        if targets.iter().any(|zone| *zone != Zone::Public) {
            let own = near(&self::addresses(registry).await);
            let fits = |target: &Zone| own.iter().any(|own| own.may_name(*target));
            if !targets.iter().all(fits) {
                return Err(Refusal::PrivateAddress);
            }
        }
        Ok(addresses)
    }
}

async fn addresses(url: &Url) -> Vec<SocketAddr> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_zones() {
        for (address, zone) in [
            ("127.0.0.1", Zone::Loopback),
            ("127.9.9.9", Zone::Loopback),
            ("0.0.0.0", Zone::Loopback),
            ("::1", Zone::Loopback),
            ("::ffff:127.0.0.1", Zone::Loopback),
            ("169.254.169.254", Zone::LinkLocal),
            ("fe80::1", Zone::LinkLocal),
            ("10.1.2.3", Zone::Private),
            ("172.31.0.1", Zone::Private),
            ("192.168.0.1", Zone::Private),
            ("100.64.0.1", Zone::Private),
            ("fd00::1", Zone::Private),
            ("100.128.0.1", Zone::Public),
            ("172.32.0.1", Zone::Public),
            ("1.1.1.1", Zone::Public),
            ("2606:4700::1111", Zone::Public),
        ] {
            assert_eq!(Zone::of(address.parse().unwrap()), zone, "{address}");
        }
        assert!(!Zone::Public.may_name(Zone::Private) && !Zone::Private.may_name(Zone::Loopback));
        assert!(!Zone::Loopback.may_name(Zone::LinkLocal) && Zone::Loopback.may_name(Zone::Private));
        assert!(Zone::Private.may_name(Zone::Public));
    }

    #[test]
    fn a_public_registry_does_not_send_us_home() {
        let clients = Clients::new(Vec::new(), Vec::new(), &Limits::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (registry, target, want) in [
            ("https://1.1.1.1/", "https://2.2.2.2/token", true),
            ("https://1.1.1.1/", "https://127.0.0.1/token", false),
            ("https://1.1.1.1/", "https://[::ffff:10.0.0.1]/token", false),
            ("https://1.1.1.1/", "https://169.254.169.254/token", false),
            ("https://10.0.0.1/", "https://10.0.0.2/token", true),
            ("https://10.0.0.1/", "https://127.0.0.1/token", false),
            ("http://127.0.0.1/", "http://127.0.0.1:81/token", true),
            ("http://127.0.0.1/", "http://localhost:81/token", true),
        ] {
            let (registry, target) = (registry.parse().unwrap(), target.parse().unwrap());
            let got = runtime.block_on(clients.admitted(&registry, &target));
            assert_eq!(got.is_ok(), want, "{registry} -> {target}");
        }
    }

    #[test]
    fn loopback_hosts_by_name() {
        for (url, want) in [
            ("http://localhost:5000/", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]:5000/", true),
            ("http://localhost.example/", false),
            ("http://127.0.0.1.example/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), want, "{url}");
        }
    }
}
