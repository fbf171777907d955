//! `LAYOUT|ARCHIVE` on the command line -> an image in a layout, whatever it is: one manifest, or an index of several.

use std::ffi::OsStr;
use std::path::Path;

use thiserror::Error;

use super::boxed;
use super::scratch::Scratch;
use crate::archive::Archive;
use crate::explain::{Explain, Explanation};
use crate::oci::{Descriptor, FindError, Layout, named};
use crate::spec::{Source, SourceError, Stored};

/// An image that is stored on this machine.
pub(super) struct StoredImage {
    pub(super) layout: Layout,
    pub(super) image: Descriptor,
    /// The names that it goes by there.
    pub(super) names: Vec<crate::oci::Reference>,
    /// Vanishes with the value.
    _scratch: Option<Scratch>,
}

/// A word without a transport names no path, but would with one.
#[derive(Debug, Error)]
#[error("there is no `{word}`, but there is `{path}`")]
struct NoTransport {
    word: String,
    path: String,
    transport: &'static str,
}

impl Explain for NoTransport {
    fn explain(&self) -> Vec<Explanation> {
        let Self { word, transport, .. } = self;
        vec![
            Explanation::new("no-image", self.to_string())
                .why("a word without a transport is a path")
                .fix(format!("for an image by its name there, write `{transport}:{word}`")),
        ]
    }
}

/// Returns what `word` names: with a transport as skopeo has it, else a path.
pub(super) fn parse(word: &OsStr) -> Result<Source, SourceError> {
    let text = word.to_string_lossy();
    let has_transport = ["oci:", "oci-archive:", "docker-archive:"].iter().any(|it| text.starts_with(it));
    if has_transport { Source::parse(word) } else { Ok(Source::Path(word.into())) }
}

/// Opens the image that `source` names.
pub(super) fn open(source: &Source) -> Result<StoredImage, Box<dyn Explain>> {
    match source {
        Source::Layout(stored) => open_layout(stored),
        Source::Archive(stored) => open_archive(stored),
        Source::Path(path) if path.is_dir() => open_layout(&Stored { path: path.clone(), name: None }),
        Source::Path(path) if !path.exists() => match without_transport(path) {
            Some(error) => Err(boxed(error)),
            None => open_archive(&Stored { path: path.clone(), name: None }),
        },
        Source::Path(path) => open_archive(&Stored { path: path.clone(), name: None }),
        Source::Registry(reference) => {
            let path = Path::new(&reference.to_string()).to_owned();
            open_layout(&Stored { path, name: None })
        }
    }
}

/// Returns what is wrong with a path that is not there, if it is one with a name behind it.
fn without_transport(path: &Path) -> Option<NoTransport> {
    let word = path.to_str()?;
    let (before, _) = word.rsplit_once(':')?;
    let transport = match Path::new(before) {
        path if path.is_dir() => "oci",
        path if path.is_file() => "oci-archive",
        _ => return None,
    };
    Some(NoTransport { word: word.to_owned(), path: before.to_owned(), transport })
}

fn open_layout(stored: &Stored) -> Result<StoredImage, Box<dyn Explain>> {
    let layout = Layout::open_existing(&stored.path).map_err(boxed)?;
    let entries = layout.index().map_err(boxed)?.manifests().clone();
    chosen(layout, &entries, stored, None)
}

fn open_archive(stored: &Stored) -> Result<StoredImage, Box<dyn Explain>> {
    let archive = Archive::open(&stored.path).map_err(boxed)?;
    let scratch = Scratch::create()?;
    let layout = scratch.layout()?;
    let entries = archive.bring(&layout).map_err(boxed)?;
    chosen(layout, &entries, stored, Some(scratch))
}

fn chosen(
    layout: Layout,
    entries: &[Descriptor],
    stored: &Stored,
    scratch: Option<Scratch>,
) -> Result<StoredImage, Box<dyn Explain>> {
    let place = stored.path.display().to_string();
    let found = named(entries, stored.name.as_deref(), &place).map_err(boxed)?;
    let [image] = found.as_slice() else {
        let available = found.iter().map(|entry| entry.digest().to_string()).collect();
        return Err(boxed(FindError::Several { place, available }));
    };
    let image = (*image).clone();
    let names = crate::oci::names_of(entries, &image);
    Ok(StoredImage { layout, image, names, _scratch: scratch })
}
