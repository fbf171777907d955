//! The environment that the daemon gives us -> the options of the build.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use minimage::spec::{Epoch, EpochError};

use crate::proto::{CacheImport, Pair};

/// What the daemon puts in front of each option's number.
const PREFIX: &[u8] = b"BUILDKIT_FRONTEND_OPT_";
/// Where the daemon says whose build it is.
const SESSION: &str = "BUILDKIT_SESSION_ID";
/// Makes the stock frontend not look for a `# syntax` line, which would lead back to us.
const NO_SYNTAX: &str = "minimage";
/// Options of the client that are not for the stock frontend: it would scan a root filesystem that nobody gets.
const WITHHELD: [&str; 2] = ["attest:sbom", "build-arg:BUILDKIT_ATTEST_SBOM"];

/// Options that are about a Dockerfile and what it copies: not for the one that we write in the place of a project file.
pub(crate) const OF_DOCKERFILE: [&str; 6] =
    ["context", "contextkey", "contextsubdir", "dockerfilekey", "filename", "target"];

/// The options of one build, as the client gave them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    values: BTreeMap<String, String>,
    /// The client's session.
    session: Option<String>,
}

impl Options {
    /// Reads the options among the variables of an environment.
    pub(crate) fn read(environment: impl Iterator<Item = (OsString, OsString)>) -> Self {
        // gRPC takes text only, so nothing else can be passed on.
        let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_string_lossy().into_owned();
        let mut options = Self::default();
        for (name, value) in environment {
            let bytes = value.as_bytes();
            if name == SESSION {
                options.session = Some(text(bytes));
            }
            if let Some(equals) = bytes.iter().position(|byte| *byte == b'=')
                && name.as_bytes().starts_with(PREFIX)
            {
                let (key, value) = bytes.split_at(equals);
                options.values.insert(text(key), text(value.get(1..).unwrap_or_default()));
            }
        }
        options
    }

    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Returns the session of the client that has the directory `local`.
    pub(crate) fn session_of(&self, local: &str) -> Option<&str> {
        self.value(&format!("local-sessionid:{local}")).or(self.session.as_deref())
    }

    /// Returns the keys with `prefix` and what follows it, and their values.
    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.values.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }

    /// Returns the name of the build file if it is a project file.
    pub(crate) fn project_file(&self) -> Option<&str> {
        self.value("filename").filter(|name| name.ends_with(".toml"))
    }

    /// Returns the options for the stock frontend.
    pub(crate) fn forwarded(&self) -> Vec<Pair> {
        self.forwarded_without(&[])
    }

    /// Returns the same without those with these `keys`.
    pub(crate) fn forwarded_without(&self, keys: &[&str]) -> Vec<Pair> {
        let mut options = self.values.clone();
        for key in WITHHELD.iter().chain(keys) {
            options.remove(*key);
        }
        options.entry("cmdline".to_owned()).or_insert_with(|| NO_SYNTAX.to_owned());
        options.into_iter().map(|(key, value)| Pair::new(key, value)).collect()
    }

    /// Returns which of the client's wishes are not passed on, as the user spells them.
    pub(crate) fn withheld(&self) -> Option<&'static str> {
        WITHHELD.into_iter().find(|key| self.values.contains_key(*key)).map(|_| "sbom")
    }

    /// Returns whether the client wants no results of earlier builds.
    pub(crate) fn forbids_reuse(&self) -> bool {
        self.value("no-cache") == Some("")
    }

    /// Returns the caches that results may come from.
    pub(crate) fn cache_imports(&self) -> Vec<CacheImport> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Import {
            r#type: String,
            #[serde(default)]
            attrs: BTreeMap<String, String>,
        }
        // The stock frontend reads the same texts, and complains about what is wrong with them.
        let imports: Vec<Import> =
            self.value("cache-imports").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let imports = imports.into_iter().map(|import| CacheImport {
            kind: import.r#type,
            attributes: import.attrs.into_iter().map(|(key, value)| Pair::new(key, value)).collect(),
        });
        let references = self.value("cache-from").unwrap_or_default().split(',');
        let from = references.filter(|reference| !reference.is_empty()).map(|reference| CacheImport {
            kind: "registry".to_owned(),
            attributes: vec![Pair::new("ref", reference)],
        });
        imports.chain(from).collect()
    }

    /// Returns the time that the client sets for everything, if it is a number; a name is for the stock frontend.
    pub(crate) fn epoch(&self) -> Result<Option<Epoch>, EpochError> {
        match self.value("build-arg:SOURCE_DATE_EPOCH") {
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() => {
                Epoch::parse(text).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Returns the words after the image in the `# syntax` line.
    pub(crate) fn syntax_words(&self) -> &str {
        let line = self.value("cmdline").unwrap_or_default();
        line.split_once(char::is_whitespace).map_or("", |(_, words)| words.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(values: &[&str]) -> Options {
        let name = |index| OsString::from(format!("BUILDKIT_FRONTEND_OPT_{index}"));
        let variables = values.iter().enumerate().map(|(index, value)| (name(index), OsString::from(value)));
        Options::read(variables.chain([("PATH".into(), "/bin=x".into()), (SESSION.into(), "s=1".into())]))
    }

    #[test]
    fn options_are_split_at_the_first_equals_sign() {
        let of_local = options(&["local-sessionid:dockerfile=other"]);
        assert_eq!(of_local.session_of("dockerfile"), Some("other"));
        let options = options(&["build-arg:A=1=2\n3", "target=", "broken"]);
        assert_eq!(options.value("build-arg:A"), Some("1=2\n3"));
        assert_eq!(options.value("target"), Some(""));
        assert_eq!(options.session_of("dockerfile"), Some("s=1"));
        assert_eq!(options.with_prefix("").count(), 2);
        assert_eq!(options.with_prefix("build-arg:").collect::<Vec<_>>(), [("A", "1=2\n3")]);
    }

    #[test]
    fn the_stock_frontend_gets_all_but_what_would_lead_astray() {
        let given = options(&["attest:sbom=", "attest:provenance=mode=max", "target=x"]);
        assert_eq!(given.withheld(), Some("sbom"));
        let forwarded: Vec<String> = given.forwarded().into_iter().map(|pair| pair.key).collect();
        assert_eq!(forwarded, ["attest:provenance", "cmdline", "target"]);
        let given = options(&["filename=a/x.toml", "target=x"]);
        assert_eq!(given.project_file(), Some("a/x.toml"));
        assert_eq!(given.forwarded_without(&["filename"]), options(&["target=x"]).forwarded());
        assert_eq!(options(&["filename=Dockerfile"]).project_file(), None);
        let given = options(&["cmdline=minimage --strict"]);
        assert_eq!(given.forwarded(), [Pair::new("cmdline", "minimage --strict")]);
        assert_eq!(given.syntax_words(), "--strict");
    }

    #[test]
    fn caches_come_in_two_spellings() {
        let given = options(&[
            r#"cache-imports=[{"Type":"registry","Attrs":{"ref":"r/a"}},{"Type":"gha"}]"#,
            "cache-from=r/b,,r/c",
        ]);
        let found: Vec<(String, Vec<Pair>)> =
            given.cache_imports().into_iter().map(|import| (import.kind, import.attributes)).collect();
        let registry = |name: &str| ("registry".to_owned(), vec![Pair::new("ref", name)]);
        assert_eq!(found, [registry("r/a"), ("gha".to_owned(), vec![]), registry("r/b"), registry("r/c")]);
        assert!(options(&["cache-from=", "cache-imports=nonsense"]).cache_imports().is_empty());
    }

    #[test]
    fn an_epoch_may_be_a_name_for_the_stock_frontend() {
        let epoch = |text: &str| options(&[&format!("build-arg:SOURCE_DATE_EPOCH={text}")]).epoch();
        assert_eq!(epoch("1700000000").unwrap().unwrap().seconds(), 1_700_000_000);
        assert_eq!(epoch("context").unwrap(), None);
        assert_eq!(epoch("").unwrap(), None);
        assert!(epoch("99999999999").is_err());
    }
}
