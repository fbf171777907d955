//! The environment and Docker's own settings -> where Docker listens, as its own client finds it.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::destination::{DaemonCheck, DockerAddress, DockerTls};
use crate::explain::{Explain, Explanation, Failure};
use crate::oci::Digest;

/// The socket of a Docker that is installed as usual.
const SOCKET: &str = "/var/run/docker.sock";
/// The ports that a daemon has by convention, in plain http and in https.
const PORT: u16 = 2375;
const SECURE_PORT: u16 = 2376;
/// The context that means: as if there were none.
const NO_CONTEXT: &str = "default";

/// Why it is not known where Docker listens.
#[derive(Debug, Error)]
pub(super) enum DockerError {
    #[error("{origin} is `{address}`, which is neither `unix://PATH` nor `tcp://HOST:PORT`")]
    Unknown { origin: String, address: String },
    #[error("{origin} is `{address}`, and ssh is not spoken")]
    Ssh { origin: String, address: String },
    #[error("there is no Docker context `{name}`")]
    NoContext { name: String, path: PathBuf },
    #[error("cannot read `{}`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{}` is not of the form that Docker writes", path.display())]
    Format { path: PathBuf, source: serde_json::Error },
}

impl Explain for DockerError {
    fn explain(&self) -> Vec<Explanation> {
        let explanation = Explanation::new("usage", self.to_string()).because_of(self);
        vec![match self {
            Self::Unknown { .. } => explanation
                .fix("write a file with `-o type=docker,dest=FILE`, and load it there with `docker load`"),
            Self::Ssh { address, .. } => explanation
                .fix(format!(
                    "forward its socket: `ssh -nNT -L /tmp/docker.sock:{SOCKET} {address}`, and set \
                     DOCKER_HOST=unix:///tmp/docker.sock"
                ))
                .fix("or write a file with `-o type=docker,dest=FILE`, and load it there with `docker load`"),
            Self::NoContext { path, .. } => explanation
                .why(format!("there is no `{}`", path.display()))
                .fix("`docker context ls` lists them; `docker context use default` uses none"),
            Self::Unreadable { .. } | Self::Format { .. } => {
                explanation.fix("mend the file, or set DOCKER_HOST")
            }
        }]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// Returns where Docker listens: what `DOCKER_HOST` says, else its context, else a socket that is there.
pub(super) fn address(
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<DockerAddress>, DockerError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let word = |name: &str| set(name).map(|value| value.to_string_lossy().into_owned());
    let home = set("DOCKER_CONFIG").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(set("HOME")?).join(".docker")));
    if let Some(address) = word("DOCKER_HOST") {
        let directory = set("DOCKER_CERT_PATH").map(PathBuf::from).or(home);
        let tls = set("DOCKER_TLS_VERIFY").map(|_| DockerTls::of(directory, DaemonCheck::Verify));
        return parse("DOCKER_HOST", &address, tls).map(Some);
    }
    if let Some(home) = home {
        let name = match word("DOCKER_CONTEXT") {
            Some(name) => Some(name),
            None => current_context(&home.join("config.json"))?,
        };
        if let Some(name) = name.filter(|name| name != NO_CONTEXT) {
            return of_context(&home.join("contexts"), name).map(Some);
        }
    }
    // Where Docker listens that runs without root.
    let own = set("XDG_RUNTIME_DIR").map(|directory| Path::new(&directory).join("docker.sock"));
    let found = own.into_iter().chain([usual_socket()]).find(|path| path.exists());
    Ok(found.map(DockerAddress::Socket))
}

/// Returns where Docker listens by default, whether it is there or not.
pub(super) fn usual_socket() -> PathBuf {
    PathBuf::from(SOCKET)
}

fn current_context(path: &Path) -> Result<Option<String>, DockerError> {
    #[derive(Deserialize)]
    struct Settings {
        #[serde(rename = "currentContext")]
        context: Option<String>,
    }
    let settings: Option<Settings> = read(path)?;
    Ok(settings.and_then(|settings| settings.context).filter(|name| !name.is_empty()))
}

/// Returns the address of a context; where its files lie is told by the digest of its name.
fn of_context(directory: &Path, name: String) -> Result<DockerAddress, DockerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Context {
        endpoints: Endpoints,
    }
    #[derive(Deserialize)]
    struct Endpoints {
        docker: Endpoint,
    }
    #[derive(Deserialize)]
    struct Endpoint {
        #[serde(rename = "Host")]
        host: String,
        #[serde(rename = "SkipTLSVerify", default)]
        skip: bool,
    }
    let id = Digest::of(name.as_bytes()).hex();
    let path = directory.join("meta").join(&id).join("meta.json");
    let Some(context) = read::<Context>(&path)? else { return Err(DockerError::NoContext { name, path }) };
    let Endpoint { host, skip } = context.endpoints.docker;
    let files = directory.join("tls").join(id).join("docker");
    let check = if skip { DaemonCheck::Skip } else { DaemonCheck::Verify };
    let tls = (skip || files.is_dir()).then(|| DockerTls::of(Some(files), check));
    parse(&format!("the Docker context `{name}`"), &host, tls)
}

fn parse(origin: &str, address: &str, tls: Option<DockerTls>) -> Result<DockerAddress, DockerError> {
    let (origin, shown) = (origin.to_owned(), || address.to_owned());
    if let Some(path) = address.strip_prefix("unix://") {
        return Ok(DockerAddress::Socket(path.into()));
    }
    if address.starts_with("ssh://") {
        return Err(DockerError::Ssh { origin, address: shown() });
    }
    let Some(host) = address.strip_prefix("tcp://") else {
        return Err(DockerError::Unknown { origin, address: shown() });
    };
    let host = host.trim_end_matches('/');
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'));
    let is_url = reqwest::Url::parse(&format!("http://{host}/")).is_ok();
    if !is_url || host.contains(['/', '@', '?', '#']) {
        return Err(DockerError::Unknown { origin, address: shown() });
    }
    let host = match (has_port, &tls) {
        (true, _) => host.to_owned(),
        (false, Some(_)) => format!("{host}:{SECURE_PORT}"),
        (false, None) => format!("{host}:{PORT}"),
    };
    Ok(match tls {
        Some(tls) => DockerAddress::Secure { host, tls },
        None => DockerAddress::Host(host),
    })
}

/// Returns a JSON file, or `None` if there is none.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DockerError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DockerError::Unreadable { path: path.to_owned(), source }),
    };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|source| DockerError::Format { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns where Docker is for a user whose home is `home`.
    fn told(home: &Path, variables: &[(&str, &str)]) -> String {
        let variable = |name: &str| match variables.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => Some(OsString::from(value)),
            None => (name == "HOME").then(|| home.into()),
        };
        let shown = |tls: DockerTls| {
            let files = [tls.authorities, tls.certificate, tls.key].into_iter().flatten();
            let files = files.map(|path| path.strip_prefix(home).unwrap_or(&path).display().to_string());
            format!("{:?} {}", tls.daemon, files.collect::<Vec<_>>().join(" "))
        };
        match address(&variable) {
            Ok(None) => "nowhere".to_owned(),
            Ok(Some(DockerAddress::Secure { host, tls })) => format!("https {host} {}", shown(tls)),
            Ok(Some(DockerAddress::Host(host))) => format!("http {host}"),
            Ok(Some(DockerAddress::Socket(path))) => {
                format!("socket {}", path.strip_prefix(home).unwrap_or(&path).display())
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_environment_says_where() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        fs::create_dir(home.join("certs")).unwrap();
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            fs::write(home.join("certs").join(file), "").unwrap();
        }
        let certificates = home.join("certs").display().to_string();
        for (variables, want) in [
            (vec![("DOCKER_HOST", "unix:///x/docker.sock")], "socket /x/docker.sock"),
            (vec![("DOCKER_HOST", "tcp://h:1/")], "http h:1"),
            (vec![("DOCKER_HOST", "tcp://h")], "http h:2375"),
            (vec![("DOCKER_HOST", "tcp://[::1]")], "http [::1]:2375"),
            (vec![("DOCKER_HOST", "tcp://h"), ("DOCKER_TLS_VERIFY", "1")], "https h:2376 Verify "),
            (
                vec![
                    ("DOCKER_HOST", "tcp://h:3"),
                    ("DOCKER_TLS_VERIFY", "1"),
                    ("DOCKER_CERT_PATH", certificates.as_str()),
                ],
                "https h:3 Verify certs/ca.pem certs/cert.pem certs/key.pem",
            ),
            (vec![("DOCKER_HOST", "ssh://u@h")], "DOCKER_HOST is `ssh://u@h`, and ssh is not spoken"),
            (
                vec![("DOCKER_HOST", "npipe:////./pipe/docker")],
                "DOCKER_HOST is `npipe:////./pipe/docker`, which is neither `unix://PATH` nor `tcp://HOST:PORT`",
            ),
            (
                vec![("DOCKER_HOST", "tcp://h:1:2")],
                "DOCKER_HOST is `tcp://h:1:2`, which is neither `unix://PATH` nor `tcp://HOST:PORT`",
            ),
            (
                vec![("DOCKER_HOST", "tcp://")],
                "DOCKER_HOST is `tcp://`, which is neither `unix://PATH` nor `tcp://HOST:PORT`",
            ),
            (vec![("DOCKER_CONTEXT", "none")], "there is no Docker context `none`"),
        ] {
            assert_eq!(told(home, &variables), want, "{variables:?}");
        }
        fs::write(home.join("docker.sock"), "").unwrap();
        let own = [("XDG_RUNTIME_DIR", home.to_str().unwrap())];
        assert_eq!(told(home, &own), "socket docker.sock");
    }

    #[test]
    fn contexts_are_found_by_the_digest_of_their_name() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let contexts = home.join(".docker/contexts");
        let make = |name: &str, endpoint: &str| {
            let directory = contexts.join("meta").join(Digest::of(name.as_bytes()).hex());
            fs::create_dir_all(&directory).unwrap();
            let text = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{endpoint}}}}}"#);
            fs::write(directory.join("meta.json"), text).unwrap();
        };
        make("desktop", r#"{"Host":"unix:///x/desktop.sock","SkipTLSVerify":false}"#);
        make("far", r#"{"Host":"tcp://far:2376","SkipTLSVerify":false}"#);
        make("lax", r#"{"Host":"tcp://lax:2376","SkipTLSVerify":true}"#);
        make("remote", r#"{"Host":"ssh://u@h"}"#);
        make("broken", "[]");
        let files = contexts.join("tls").join(Digest::of(b"far").hex()).join("docker");
        fs::create_dir_all(&files).unwrap();
        fs::write(files.join("ca.pem"), "").unwrap();
        let authority = files.join("ca.pem").strip_prefix(home).unwrap().display().to_string();
        for (name, want) in [
            ("desktop", "socket /x/desktop.sock".to_owned()),
            ("far", format!("https far:2376 Verify {authority}")),
            ("lax", "https lax:2376 Skip ".to_owned()),
            ("remote", "the Docker context `remote` is `ssh://u@h`, and ssh is not spoken".to_owned()),
        ] {
            assert_eq!(told(home, &[("DOCKER_CONTEXT", name)]), want);
        }
        assert!(told(home, &[("DOCKER_CONTEXT", "broken")]).ends_with("not of the form that Docker writes"));
        fs::write(home.join(".docker/config.json"), r#"{"auths":{},"currentContext":"desktop"}"#).unwrap();
        assert_eq!(told(home, &[]), "socket /x/desktop.sock");
        assert_eq!(told(home, &[("DOCKER_HOST", "tcp://h:1")]), "http h:1", "it goes before contexts");
        let own = [("DOCKER_CONTEXT", "default"), ("XDG_RUNTIME_DIR", home.to_str().unwrap())];
        fs::write(home.join("docker.sock"), "").unwrap();
        assert_eq!(told(home, &own), "socket docker.sock");
    }
}
