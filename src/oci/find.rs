//! The entries of an index + a name + a platform -> the manifest of one image.

use thiserror::Error;

use super::layout::{ANNOTATION_NAME, ANNOTATION_TAG};
use super::{Descriptor, Index, Layout, LayoutError, MediaType, Platform, Reference, platform};
use crate::explain::{Explain, Explanation};

/// How deep indexes may lie in indexes.
const NESTING_MAX: usize = 3;

/// Why no image was chosen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FindError {
    /// There is nothing at all, or nothing of that name.
    #[error("there is no image {} in `{place}`", wanted.as_ref().map_or(String::new(), |name| format!("`{name}`")))]
    Missing {
        /// Where it was looked for.
        place: String,
        /// Its name, if one was given.
        wanted: Option<String>,
        /// The names that there are.
        available: Vec<String>,
    },
    /// There are several, and nothing says which one is meant.
    #[error("there are several images in `{place}`")]
    Several {
        /// Where.
        place: String,
        /// Their names.
        available: Vec<String>,
    },
    /// The image is there, but not for this platform.
    #[error("the image in `{place}` is not there for {wanted}")]
    NoPlatform {
        /// Where.
        place: String,
        /// The platform that was asked for.
        wanted: String,
        /// Those that it is there for.
        available: Vec<String>,
    },
    /// Its index cannot be read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

impl Explain for FindError {
    fn explain(&self) -> Vec<Explanation> {
        let (code, available, fix) = match self {
            Self::Layout(error) => return error.explain(),
            Self::Missing { available, .. } => {
                ("image-not-found", available, "name one of those that are there")
            }
            Self::Several { available, .. } => {
                ("image-not-found", available, "say which with `oci:DIRECTORY:TAG` or `oci-archive:FILE:TAG`")
            }
            Self::NoPlatform { available, .. } => {
                ("no-platform", available, "choose one of the platforms it has with `--platform`")
            }
        };
        let mut explanation = Explanation::new(code, self.to_string());
        if !available.is_empty() {
            explanation = explanation.why(format!("there are: {}", available.join(", ")));
        }
        vec![explanation.fix(fix)]
    }
}

/// Which images are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The tag, full name or digest; without one there must be one image only.
    pub name: Option<&'a str>,
    /// The platform, of several that the image is there for.
    pub platform: &'a Platform,
}

/// Returns the manifest of the image that is `wanted` among `entries`, which are those of `layout` or of an archive
/// that was brought there. `place` is what messages call it.
///
/// # Errors
/// [`FindError`].
pub fn find(
    layout: &Layout,
    entries: &[Descriptor],
    wanted: &Wanted<'_>,
    place: &str,
) -> Result<Descriptor, FindError> {
    let named = named(entries, wanted.name, place)?;
    let mut candidates: Vec<Descriptor> = named.into_iter().cloned().collect();
    for _ in 0..=NESTING_MAX {
        let chosen = match candidates.as_slice() {
            [one] => one,
            several => platform::choice(several, wanted.platform)
                .ok_or_else(|| no_platform(several, wanted, place))?,
        };
        if !is_index(chosen) {
            return Ok(chosen.clone());
        }
        let bytes = layout.read(chosen)?;
        let index: Index = serde_json::from_slice(&bytes).map_err(|source| LayoutError::Document {
            path: layout.path().join(chosen.digest().to_string()),
            source,
        })?;
        // What is attached to an image in BuildKit's way has no platform that anything runs on.
        candidates = index.manifests().iter().filter(|it| !is_attachment(it)).cloned().collect();
        if candidates.is_empty() {
            return Err(no_platform(&candidates, wanted, place));
        }
    }
    Err(no_platform(&candidates, wanted, place))
}

/// Returns the entry that `name` means among `entries`, whatever it is, an index too; each digest once.
///
/// # Errors
/// [`FindError::Missing`], [`FindError::Several`].
pub fn named<'a>(
    entries: &'a [Descriptor],
    name: Option<&str>,
    place: &str,
) -> Result<Vec<&'a Descriptor>, FindError> {
    let mut found: Vec<&Descriptor> = Vec::new();
    for entry in entries.iter().filter(|entry| name.is_none_or(|name| is_called(entry, name))) {
        if !found.iter().any(|known| known.digest() == entry.digest()) {
            found.push(entry);
        }
    }
    let available = || entries.iter().map(shown).collect();
    match found.as_slice() {
        [] => {
            let wanted = name.map(str::to_owned);
            Err(FindError::Missing { place: place.to_owned(), wanted, available: available() })
        }
        [_] => Ok(found),
        several if several.iter().all(|entry| entry.platform().is_some()) => Ok(found),
        _ => Err(FindError::Several { place: place.to_owned(), available: available() }),
    }
}

fn no_platform(candidates: &[Descriptor], wanted: &Wanted<'_>, place: &str) -> FindError {
    FindError::NoPlatform {
        place: place.to_owned(),
        wanted: platform::shown(wanted.platform),
        available: candidates.iter().filter_map(|it| it.platform().as_ref()).map(platform::shown).collect(),
    }
}

fn is_index(entry: &Descriptor) -> bool {
    let is_docker =
        entry.media_type().to_string() == "application/vnd.docker.distribution.manifest.list.v2+json";
    *entry.media_type() == MediaType::ImageIndex || is_docker
}

fn is_attachment(entry: &Descriptor) -> bool {
    entry.platform().as_ref().is_some_and(|platform| platform.os().to_string() == "unknown")
}

fn is_called(entry: &Descriptor, name: &str) -> bool {
    let annotation = |key: &str| entry.annotations().as_ref().and_then(|annotations| annotations.get(key));
    let full = name.parse::<Reference>().map(|name| name.to_string());
    entry.digest().as_ref() == name
        || annotation(ANNOTATION_TAG).is_some_and(|tag| tag == name)
        || annotation(ANNOTATION_NAME)
            .is_some_and(|known| known == name || full.is_ok_and(|full| *known == full))
}

/// Returns what people call an entry.
fn shown(entry: &Descriptor) -> String {
    let annotations = entry.annotations().as_ref();
    let name = annotations.and_then(|it| it.get(ANNOTATION_NAME).or_else(|| it.get(ANNOTATION_TAG)));
    name.map_or_else(|| entry.digest().to_string(), |name| crate::path::show(name.as_bytes()))
}
