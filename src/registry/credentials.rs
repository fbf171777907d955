//! The files that `docker login` and `podman login` write, and their helpers -> the credential for one repository.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use thiserror::Error;
use tracing::info;

use super::helper;

/// The largest credential file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// Docker Hub's key in Docker's file, older than the registry API.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What proves who we are. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user name and password.
    Password {
        /// The user name.
        user: String,
        /// The password.
        password: String,
    },
    /// A refresh token (OAuth 2), to be exchanged for access tokens.
    Identity {
        /// The token.
        token: String,
    },
    /// An access token that is sent as it is.
    Bearer {
        /// The token.
        token: String,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

impl Credential {
    fn user(&self) -> Option<String> {
        match self {
            Self::Password { user, .. } => Some(user.clone()),
            Self::Identity { .. } | Self::Bearer { .. } => None,
        }
    }

    /// Returns every text that must not be shown.
    pub(super) fn secrets(&self) -> Vec<String> {
        match self {
            Self::Password { user, password } => {
                vec![password.clone(), STANDARD.encode(format!("{user}:{password}"))]
            }
            Self::Identity { token } | Self::Bearer { token } => vec![token.clone()],
        }
    }

    /// Returns the value of a basic `Authorization` header, if this can be one.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Password { user, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            _ => None,
        }
    }
}

/// A credential, and where it comes from.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) credential: Credential,
    pub(super) origin: CredentialOrigin,
}

impl Found {
    /// Returns a credential that whoever uses this crate gave.
    pub(super) fn given(credential: Credential) -> Self {
        let user = credential.user();
        Self { credential, origin: CredentialOrigin { user, entry: None, helper: None } }
    }
}

/// Where a credential comes from; it says nothing that is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialOrigin {
    /// Whose it is, unless it is a token.
    pub user: Option<String>,
    /// The file, and the entry in it; without it, the program itself gave the credential.
    pub entry: Option<(PathBuf, String)>,
    /// The helper that the file names.
    pub helper: Option<String>,
}

impl fmt::Display for CredentialOrigin {
    /// Writes `` the password of `USER`, from the entry `HOST` in `FILE` ``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => write!(f, "the password of `{}`", crate::path::show(user.as_bytes()))?,
            None => f.write_str("a token")?,
        }
        match (&self.entry, &self.helper) {
            (Some((path, key)), Some(helper)) => {
                write!(f, ", from `{helper}` for `{key}`, which `{}` names", path.display())
            }
            (Some((path, key)), None) => write!(f, ", from the entry `{key}` in `{}`", path.display()),
            (None, _) => Ok(()),
        }
    }
}

/// Why the credentials cannot be found out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is no JSON of the known form. What is wrong is told by place only: the text is secret.
    #[error("`{}` is no credential file: line {line}, column {column}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong.
        line: usize,
        /// Where it goes wrong.
        column: usize,
    },
    /// An entry is not base64 of `user:password`.
    #[error("the entry `{key}` in `{}` is not base64 of `user:password`", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry.
        key: String,
    },
    /// A helper has a name that is no name of a program.
    #[error("`{}` names a credential helper that is no program name", path.display())]
    HelperName {
        /// The file.
        path: PathBuf,
    },
    /// A helper cannot be run.
    #[error("cannot run `{program}`")]
    HelperRun {
        /// The program.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// A helper failed. What it printed is not shown: it may be a secret.
    #[error("`{program} get` ended with {status}")]
    HelperFailed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// A helper takes too long.
    #[error("`{program} get` gave no answer in {} s", helper::LIMIT.as_secs())]
    HelperSlow {
        /// The program.
        program: String,
    },
    /// A helper printed something else than it should.
    #[error("`{program} get` printed no credential")]
    HelperAnswer {
        /// The program.
        program: String,
    },
}

/// The form of a credential file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// containers-auth.json(5): keys may have a path.
    Containers,
    /// Docker's `config.json`: it has `credsStore`, which goes before the entries.
    Docker,
    /// Docker's `.dockercfg`: the entries alone.
    Dockercfg,
}

/// Where credentials are looked for, in order.
#[derive(Debug, Clone)]
pub(super) struct Files {
    files: Vec<Place>,
}

/// One of those places.
#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    form: Form,
    presence: Presence,
}

/// Whether a file has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// The user named it.
    Required,
    Optional,
}

impl Files {
    /// Returns the one file that the user named.
    pub(super) fn named(path: &Path) -> Self {
        let form =
            if path.file_name() == Some(OsStr::new("config.json")) { Form::Docker } else { Form::Containers };
        Self { files: vec![Place { path: path.to_owned(), form, presence: Presence::Required }] }
    }

    /// Returns the usual files, as the environment places them.
    pub(super) fn usual(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let directory = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = directory("HOME");
        let in_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let runtime = directory("XDG_RUNTIME_DIR").or_else(|| {
            Some(PathBuf::from(format!("/run/containers/{}", rustix::process::getuid().as_raw())))
        });
        let containers = |directory: Option<PathBuf>| directory.map(|path| path.join("containers/auth.json"));
        let named = directory("REGISTRY_AUTH_FILE");
        let named = named.map(|path| Place { path, form: Form::Containers, presence: Presence::Required });
        let usual = [
            (
                match directory("XDG_RUNTIME_DIR") {
                    Some(_) => containers(runtime),
                    None => runtime.map(|path| path.join("auth.json")),
                },
                Form::Containers,
            ),
            (containers(directory("XDG_CONFIG_HOME").or_else(|| in_home(".config"))), Form::Containers),
            (
                directory("DOCKER_CONFIG")
                    .or_else(|| in_home(".docker"))
                    .map(|path| path.join("config.json")),
                Form::Docker,
            ),
            (in_home(".dockercfg"), Form::Dockercfg),
        ];
        let usual = usual
            .into_iter()
            .filter_map(|(path, form)| Some(Place { path: path?, form, presence: Presence::Optional }));
        Self { files: named.into_iter().chain(usual).collect() }
    }

    /// Returns where credentials are looked for.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|place| place.path.clone()).collect()
    }

    /// Returns the credential for a repository, or `None` if it is to be used without one.
    ///
    /// # Errors
    /// [`CredentialError`] if a file or helper that should know is broken.
    pub(super) async fn credential(
        &self,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Found>, CredentialError> {
        for place in &self.files {
            let Some(bytes) = place.read()? else { continue };
            let file = CredentialFile::parse(&place.path, &bytes, place.form)?;
            if let Some(found) = file.credential(registry, repository).await? {
                info!(file = %place.path.display(), registry, "credential found");
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Place {
    fn read(&self) -> Result<Option<Vec<u8>>, CredentialError> {
        let io = |source| CredentialError::File { path: self.path.clone(), source };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if self.presence == Presence::Optional && is_absent(&error) => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_MAX).read_to_end(&mut bytes).map_err(io)?;
        Ok(Some(bytes))
    }
}

/// A directory of another user (`sudo` keeps some variables) is as good as none.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
    )
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

struct CredentialFile<'a> {
    path: &'a Path,
    form: Form,
    document: Document,
}

impl<'a> CredentialFile<'a> {
    fn parse(path: &'a Path, bytes: &[u8], form: Form) -> Result<Self, CredentialError> {
        let document = match form {
            _ if bytes.trim_ascii().is_empty() => Ok(Document::default()),
            Form::Dockercfg => {
                serde_json::from_slice(bytes).map(|auths| Document { auths, ..Document::default() })
            }
            Form::Containers | Form::Docker => serde_json::from_slice(bytes),
        };
        let document = document.map_err(|error: serde_json::Error| CredentialError::Format {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })?;
        Ok(Self { path, form, document })
    }

    async fn credential(&self, registry: &str, repository: &str) -> Result<Option<Found>, CredentialError> {
        let keys = self.keys(registry, repository);
        let server = if registry == "docker.io" { HUB_KEY } else { registry };
        let find_helper = |key| find(&self.document.helpers, key, self.form);
        if let Some((key, (_, helper))) = keys.iter().find_map(|key| Some((key, find_helper(key)?))) {
            let server = if self.form == Form::Docker { server } else { key };
            if let Some(found) = self.ask(helper, server).await? {
                return Ok(Some(found));
            }
        }
        if let (Form::Docker, Some(store)) = (self.form, &self.document.store)
            && !store.is_empty()
            && let Some(found) = self.ask(store, server).await?
        {
            return Ok(Some(found));
        }
        for (key, entry) in keys.iter().filter_map(|key| find(&self.document.auths, key, self.form)) {
            if let Some(credential) = self.entry(key, entry)? {
                return Ok(Some(self.found(credential, key, None)));
            }
        }
        Ok(None)
    }

    fn found(&self, credential: Credential, key: &str, helper: Option<String>) -> Found {
        let (user, entry) = (credential.user(), Some((self.path.to_owned(), key.to_owned())));
        Found { credential, origin: CredentialOrigin { user, entry, helper } }
    }

    /// Returns what entries may be called, the most special first.
    fn keys(&self, registry: &str, repository: &str) -> Vec<String> {
        let mut keys = Vec::new();
        if self.form == Form::Containers {
            let mut path = format!("{registry}/{repository}");
            while path.len() > registry.len() {
                keys.push(path.clone());
                path.truncate(path.rfind('/').unwrap_or(0));
            }
        }
        keys.push(registry.to_owned());
        keys
    }

    fn entry(&self, key: &str, entry: &Entry) -> Result<Option<Credential>, CredentialError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&entry.registrytoken) {
            return Ok(Some(Credential::Bearer { token }));
        }
        if let Some(token) = given(&entry.identitytoken) {
            return Ok(Some(Credential::Identity { token }));
        }
        if let Some(auth) = given(&entry.auth) {
            let error = || CredentialError::Entry { path: self.path.to_owned(), key: key.to_owned() };
            let bytes = STANDARD.decode(auth.trim()).map_err(|_| error())?;
            let text = String::from_utf8(bytes).map_err(|_| error())?;
            let (user, password) = text.split_once(':').ok_or_else(error)?;
            // Docker pads some passwords with zeros (cli/config/configfile, decodeAuth).
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Some(Credential::Password { user: user.to_owned(), password }));
        }
        match (given(&entry.username), given(&entry.password)) {
            (Some(user), Some(password)) => Ok(Some(Credential::Password { user, password })),
            _ => Ok(None),
        }
    }

    async fn ask(&self, helper: &str, server: &str) -> Result<Option<Found>, CredentialError> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if helper.is_empty() || !helper.bytes().all(is_name) {
            return Err(CredentialError::HelperName { path: self.path.to_owned() });
        }
        let program = format!("docker-credential-{helper}");
        let credential = helper::credential(&program, server).await?;
        Ok(credential.map(|credential| self.found(credential, server, Some(program))))
    }
}

/// Returns the entry for `key`: of the same text, or of a URL form that means the same registry.
fn find<'a, T>(entries: &'a BTreeMap<String, T>, key: &str, form: Form) -> Option<(&'a str, &'a T)> {
    let exact = entries.get_key_value(key);
    let same = || entries.iter().find(|(entry, _)| bare(entry, form) == key);
    exact.or_else(same).map(|(key, entry)| (key.as_str(), entry))
}

/// Returns an entry's key without scheme and, unless the file's keys may have one, without path.
fn bare(key: &str, form: Form) -> String {
    let stripped = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let key = match (form, stripped) {
        (Form::Containers, None) => key.trim_end_matches('/'),
        (_, stripped) => stripped.unwrap_or(key).split('/').next().unwrap_or_default(),
    };
    let (host, path) = key.split_once('/').map_or((key, None), |(host, path)| (host, Some(path)));
    let host = match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    };
    path.map_or_else(|| host.to_owned(), |path| format!("{host}/{path}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(document: &Value, form: Form, registry: &str, repository: &str) -> String {
        let bytes = document.to_string();
        let file = CredentialFile::parse(Path::new("f"), bytes.as_bytes(), form);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = file.and_then(|file| runtime.block_on(file.credential(registry, repository)));
        match outcome.map(|found| found.map(|found| found.credential)) {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(Credential::Password { user, password })) => format!("{user}:{password}"),
            Ok(Some(Credential::Identity { token })) => format!("identity {token}"),
            Ok(Some(Credential::Bearer { token })) => format!("bearer {token}"),
            Err(error) => error.to_string(),
        }
    }

    fn entry(name: &str) -> Value {
        json!({ "auth": STANDARD.encode(format!("{name}:pw")) })
    }

    #[test]
    fn entries_are_found_by_every_form_of_their_name() {
        use Form::{Containers, Docker, Dockercfg};
        let hub = json!({ "auths": { "https://index.docker.io/v1/": entry("hub") } });
        let paths = json!({ "auths": {
            "r.example": entry("host"), "r.example/a": entry("a"), "r.example/a/b/": entry("ab"),
            "r.example:5000": entry("port"), "https://s.example/v2/": entry("url"),
            "docker.io/library": entry("official"),
        } });
        for (document, form, registry, repository, want) in [
            (&hub, Docker, "docker.io", "library/x", "hub:pw"),
            (&hub, Containers, "docker.io", "library/x", "hub:pw"),
            (&hub, Docker, "index.docker.example", "x", "nothing"),
            (&hub["auths"], Dockercfg, "docker.io", "x/y", "hub:pw"),
            (&paths, Containers, "r.example", "a/b/c", "ab:pw"),
            (&paths, Containers, "r.example", "a/bc", "a:pw"),
            (&paths, Containers, "r.example", "ab", "host:pw"),
            (&paths, Containers, "r.example:5000", "a/b", "port:pw"),
            (&paths, Containers, "r.example:5001", "a/b", "nothing"),
            (&paths, Containers, "s.example", "x", "url:pw"),
            (&paths, Containers, "docker.io", "library/x", "official:pw"),
            (&paths, Containers, "docker.io", "team/x", "nothing"),
            (&paths, Docker, "r.example", "z", "host:pw"),
            (&json!({}), Docker, "r.example", "a", "nothing"),
            (&json!({ "auths": { "r": {} }, "credsStore": "", "other": [1] }), Docker, "r", "a", "nothing"),
        ] {
            assert_eq!(found(document, form, registry, repository), want, "{form:?} {registry}/{repository}");
        }
    }

    #[test]
    fn entries_have_several_forms() {
        for (entry, want) in [
            (json!({ "auth": STANDARD.encode("u:p:q\0\0") }), "u:p:q"),
            (json!({ "username": "u", "password": "p" }), "u:p"),
            (json!({ "auth": "", "username": "u" }), "nothing"),
            (json!({ "auth": STANDARD.encode("<token>:x"), "identitytoken": "t" }), "identity t"),
            (json!({ "registrytoken": "t", "identitytoken": "u" }), "bearer t"),
            (json!({ "auth": "!" }), "the entry `r` in `f` is not base64 of `user:password`"),
            (
                json!({ "auth": STANDARD.encode("secret") }),
                "the entry `r` in `f` is not base64 of `user:password`",
            ),
            (json!({ "auth": ["secret"] }), "`f` is no credential file: line 1, column 22"),
        ] {
            assert_eq!(found(&json!({ "auths": { "r": entry } }), Form::Docker, "r", "a"), want, "{entry}");
        }
    }

    #[test]
    fn the_environment_places_the_files() {
        let files = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            };
            let paths = Files::usual(&variable).paths().into_iter().map(|path| path.display().to_string());
            paths.filter(|path| !path.starts_with("/run/containers/")).collect::<Vec<_>>()
        };
        assert_eq!(
            files(&[("HOME", "/h")]),
            ["/h/.config/containers/auth.json", "/h/.docker/config.json", "/h/.dockercfg"]
        );
        assert_eq!(
            files(&[
                ("REGISTRY_AUTH_FILE", "/f"),
                ("XDG_RUNTIME_DIR", "/r"),
                ("XDG_CONFIG_HOME", "/c"),
                ("DOCKER_CONFIG", "/d"),
            ]),
            ["/f", "/r/containers/auth.json", "/c/containers/auth.json", "/d/config.json"]
        );
        assert!(files(&[("HOME", "")]).is_empty());
    }

    #[test]
    fn a_helper_is_a_name() {
        let bad = json!({ "credHelpers": { "r": "../../evil" } });
        assert_eq!(
            found(&bad, Form::Docker, "r", "a"),
            "`f` names a credential helper that is no program name"
        );
    }

    #[test]
    fn a_file_that_the_user_names_must_be_there() {
        let home = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = |named: Option<&str>| {
            let files = Files::usual(&|name| match name {
                "REGISTRY_AUTH_FILE" => named.map(|name| home.path().join(name).into_os_string()),
                _ => Some(home.path().as_os_str().to_owned()),
            });
            let found = runtime.block_on(files.credential("r.example", "a"));
            found.map_or_else(|error| error.to_string(), |found| found.is_some().to_string())
        };
        assert_eq!(found(None), "false");
        let path = home.path().join("auth.json");
        assert_eq!(found(Some("auth.json")), format!("cannot read `{}`", path.display()));
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(found(Some("auth.json")), "false");
    }
}
