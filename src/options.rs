//! Options by name -> how names are looked up, and what is taken: what the flags of the command line, labels and build arguments share.

use thiserror::Error;

use crate::explain::{Explain, Explanation, Failure};
use crate::glob::Glob;
use crate::nearest::nearest;
use crate::project::{Flag, Takes};
use crate::spec::{CacheSource, DlopenLevel, Hwcaps, PackageData, Search, Selection, Suggested, With};

/// An option of every build, under the name of the flag.
struct Known {
    name: &'static str,
    takes: Takes,
    /// Sets it; what is wrong with the value is said as what it should be.
    set: fn(&mut Choices, &str) -> Result<(), &'static str>,
}

/// What options change.
#[derive(Debug, Clone)]
pub struct Choices {
    /// How names are looked up.
    pub search: Search,
    /// What is taken besides what programs need to load.
    pub selection: Selection,
}

const KNOWN: [Known; 11] = [
    Known { name: "allow-missing", takes: Takes::Many, set: allow_missing },
    Known { name: "assume-ldconfig", takes: Takes::Nothing, set: assume_ldconfig },
    Known { name: "dlopen", takes: Takes::One, set: dlopen },
    Known { name: "exclude", takes: Takes::Many, set: exclude },
    Known { name: "hwcaps", takes: Takes::Many, set: hwcaps },
    Known { name: "no-package-data", takes: Takes::Nothing, set: no_package_data },
    Known { name: "nss", takes: Takes::Many, set: nss },
    Known { name: "with", takes: Takes::Many, set: with },
    Known { name: "with-suggested", takes: Takes::Nothing, set: with_suggested },
    Known { name: "with-user", takes: Takes::Many, set: with_user },
    Known { name: "without", takes: Takes::Many, set: without },
];

/// What patterns can be.
const PATTERNS: &str = "patterns for paths from the top, such as `/etc/nginx/**,/srv/{a,b}`";

/// Why an option cannot be set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OptionError {
    /// There is none of this name.
    #[error("there is no option `{name}`")]
    Unknown {
        /// The name.
        name: String,
        /// A name that is much like it.
        nearest: Option<String>,
        /// All the names there are.
        known: Vec<String>,
    },
    /// It does not take this value.
    #[error("`{name}` cannot be `{value}`")]
    Value {
        /// The name.
        name: String,
        /// The value.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
}

impl Explain for OptionError {
    fn explain(&self) -> Vec<Explanation> {
        let explanation = |code| Explanation::new(code, self.to_string());
        vec![match self {
            Self::Unknown { nearest: Some(nearest), .. } => {
                explanation("unknown-option").fix(format!("did you mean `{nearest}`?"))
            }
            Self::Unknown { nearest: None, known, .. } => {
                let known: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                explanation("unknown-option").fix(format!("there are {}", known.join(", ")))
            }
            Self::Value { expected, .. } => explanation("bad-option").fix(format!("write {expected}")),
        }]
    }

    fn failure(&self) -> Failure {
        Failure::Usage
    }
}

/// Returns the options that every build has, however it is started.
pub fn flags() -> impl Iterator<Item = Flag> {
    KNOWN.iter().map(|known| Flag { name: known.name.to_owned(), takes: known.takes })
}

/// Sets the option `name` to `value`. An option that takes many values gains one.
///
/// # Errors
/// [`OptionError`] if there is none of this name, or if it does not take this value.
pub fn set(choices: &mut Choices, name: &str, value: &str) -> Result<(), OptionError> {
    let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
        return Err(unknown(name, flags()));
    };
    (known.set)(choices, value).map_err(|expected| OptionError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        expected,
    })
}

/// Returns that there is no option `name` among `flags`, and which of them may be meant.
pub fn unknown(name: &str, flags: impl Iterator<Item = Flag>) -> OptionError {
    let mut known: Vec<String> = flags.map(|flag| flag.name).collect();
    known.sort_unstable();
    // All of them are in small letters.
    let nearest = nearest(&name.to_ascii_lowercase(), known.iter().map(String::as_str)).map(str::to_owned);
    OptionError::Unknown { name: name.to_owned(), nearest, known }
}

/// Returns whether a switch that is set to `value` is on; to nothing means on.
///
/// # Errors
/// What it can be.
pub fn switch(value: &str) -> Result<bool, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "" | "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("`true` or `false`"),
    }
}

/// Returns the patterns in `value`, one a line, or separated by commas that are not inside of braces.
///
/// # Errors
/// What they can be.
pub fn patterns(value: &str) -> Result<Vec<Glob>, &'static str> {
    let mut depth = 0_u32;
    let parts = value.split(|letter| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == '\n' || letter == ',' && depth == 0
    });
    let parts = parts.map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| Glob::parse(part).map_err(|_| PATTERNS)).collect()
}

/// Returns the items of a list: one a line, or separated by commas.
fn items(value: &str) -> impl Iterator<Item = String> {
    value.split(['\n', ',']).map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned)
}

fn allow_missing(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    choices.selection.allow_missing.extend(items(value));
    Ok(())
}

fn exclude(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    choices.selection.exclude.extend(patterns(value)?);
    Ok(())
}

fn no_package_data(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    choices.selection.package_data = match switch(value)? {
        true => PackageData::Leave,
        false => PackageData::Take,
    };
    Ok(())
}

fn nss(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    choices.selection.nss.extend(items(value));
    Ok(())
}

fn with(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    choices.selection.with.extend(items(value).map(|item| With::from(item.as_str())));
    Ok(())
}

fn with_suggested(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    choices.selection.suggested = match switch(value)? {
        true => Suggested::Take,
        false => Suggested::List,
    };
    Ok(())
}

fn with_user(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    choices.selection.users.extend(items(value));
    Ok(())
}

fn without(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    choices.selection.without.extend(items(value));
    Ok(())
}

fn assume_ldconfig(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    choices.search.cache = match switch(value)? {
        true => CacheSource::AssumeLdconfig,
        false => CacheSource::AsInSource,
    };
    Ok(())
}

fn dlopen(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    choices.search.dlopen = match value {
        "none" => DlopenLevel::None,
        "required" => DlopenLevel::Required,
        "recommended" => DlopenLevel::Recommended,
        "suggested" => DlopenLevel::Suggested,
        _ => return Err("`none`, `required`, `recommended` or `suggested`"),
    };
    Ok(())
}

fn hwcaps(choices: &mut Choices, value: &str) -> Result<(), &'static str> {
    let mut levels = match std::mem::replace(&mut choices.search.hwcaps, Hwcaps::All) {
        Hwcaps::Levels(levels) => levels,
        Hwcaps::All => return Ok(()),
    };
    for level in value.split(',').map(str::trim) {
        match level {
            "all" => return Ok(()),
            "" => return Err("levels of glibc such as `x86-64-v3,x86-64-v2`, or `all`"),
            level => levels.push(level.as_bytes().to_vec()),
        }
    }
    choices.search.hwcaps = Hwcaps::Levels(levels);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices() -> Choices {
        Choices { search: Search::standard(), selection: Selection::default() }
    }

    #[test]
    fn options_are_set_by_name() {
        let mut choices = choices();
        for (name, value) in [
            ("assume-ldconfig", ""),
            ("dlopen", "none"),
            ("hwcaps", "x86-64-v3, x86-64-v2"),
            ("with", "tzdata\nlocale=de_DE.UTF-8"),
            ("without", "metadata"),
            ("with-user", "www-data,games"),
            ("allow-missing", "libq.so.1"),
            ("nss", "mymachines"),
            ("exclude", "/a/{b,c}/**, /d\n/e"),
            ("no-package-data", "true"),
            ("with-suggested", "no"),
        ] {
            set(&mut choices, name, value).unwrap();
        }
        let Choices { search, selection } = &choices;
        assert_eq!((search.cache, search.dlopen), (CacheSource::AssumeLdconfig, DlopenLevel::None));
        let levels = ["x86-64-v3", "x86-64-v2"].map(|level| level.as_bytes().to_vec());
        assert_eq!(search.hwcaps, Hwcaps::Levels(levels.into()));
        assert_eq!(selection.with, ["tzdata", "locale=de_DE.UTF-8"].map(With::from));
        assert_eq!(selection.users, ["www-data", "games"]);
        assert_eq!((selection.package_data, selection.suggested), (PackageData::Leave, Suggested::List));
        let excluded: Vec<String> = selection.exclude.iter().map(Glob::to_string).collect();
        assert_eq!(excluded, ["/a/{b,c}/**", "/d", "/e"]);
        let lists = [&selection.without, &selection.allow_missing, &selection.nss];
        assert_eq!(lists, [&["metadata"], &["libq.so.1"], &["mymachines"]]);

        set(&mut choices, "hwcaps", "all").unwrap();
        set(&mut choices, "hwcaps", "x86-64-v4").unwrap();
        set(&mut choices, "assume-ldconfig", "no").unwrap();
        assert_eq!((choices.search.cache, choices.search.hwcaps), (CacheSource::AsInSource, Hwcaps::All));
    }

    #[test]
    fn what_cannot_be_set_says_what_can() {
        for (name, value, fix) in [
            ("dlopne", "none", "did you mean `dlopen`?"),
            (
                "everything",
                "",
                "there are `allow-missing`, `assume-ldconfig`, `dlopen`, `exclude`, `hwcaps`, `no-package-data`, `nss`, \
                    `with`, `with-suggested`, `with-user`, `without`",
            ),
            ("dlopen", "all", "write `none`, `required`, `recommended` or `suggested`"),
            ("assume-ldconfig", "maybe", "write `true` or `false`"),
            (
                "exclude",
                "/a,!/a/b",
                "write patterns for paths from the top, such as `/etc/nginx/**,/srv/{a,b}`",
            ),
        ] {
            let error = set(&mut choices(), name, value).unwrap_err();
            assert_eq!(error.explain()[0].fixes, [fix.into()]);
        }
    }
}
