//! `--from SOURCE` -> an open root filesystem, fetched first if it is far away.

use std::error::Error;
use std::fmt;
use std::path::Path;

use thiserror::Error;
use tokio::runtime::Runtime;

use super::args::{CacheArguments, SourceArguments};
use super::boxed;
use super::connection::Connection;
use super::console::Console;
use super::scratch::Scratch;
use crate::archive::Archive;
use crate::explain::{Explain, Explanation, Failure};
use crate::layer::Cache;
use crate::oci::{Descriptor, Layout, Platform, Reference, Wanted, find, platform};
use crate::path::RawPath;
use crate::registry::RegistryError;
use crate::rootfs::{HostRootfs, ImageRootfs, Rootfs, Tars};
use crate::spec::{Source, Stored, Unowned};

/// The image is for another platform than the one that was asked for.
#[derive(Debug, Error)]
#[error("the image `{image}` is for {own}, not for {wanted}")]
struct OtherPlatform {
    image: String,
    own: String,
    wanted: String,
}

impl Explain for OtherPlatform {
    fn explain(&self) -> Vec<Explanation> {
        vec![
            Explanation::new("no-platform", self.to_string())
                .fix("leave `--platform` out, or name an image that is there for it"),
        ]
    }
}

/// An image was not found whose name is that of a path here.
#[derive(Debug)]
struct PathMeant {
    error: Box<dyn Explain>,
    path: String,
}

impl fmt::Display for PathMeant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for PathMeant {}

impl Explain for PathMeant {
    fn explain(&self) -> Vec<Explanation> {
        let mut explanations = self.error.explain();
        if let Some(first) = explanations.first_mut() {
            first.fixes.insert(0, format!("for the path `{0}` here, write `./{0}`", self.path).into());
        }
        explanations
    }

    fn failure(&self) -> Failure {
        self.error.failure()
    }
}

/// Returns the path in the working directory that a word may have meant, which was read as an image of Docker Hub.
fn path_meant(reference: &Reference) -> Option<String> {
    let is_bare = reference.registry() == "docker.io" && reference.tag() == Some("latest");
    let name = reference.repository().trim_start_matches("library/");
    (is_bare && Path::new(name).exists()).then(|| name.to_owned())
}

/// A source, ready to be looked at.
pub(super) struct Opened {
    pub(super) rootfs: Box<dyn Rootfs>,
    /// A word that opens the same source again, wherever it is read: a path is absolute, an image has its digest.
    pub(super) word: String,
    /// The PATH that the source itself has.
    pub(super) path: Option<Vec<RawPath>>,
    /// Whose its files are that belong to no package.
    pub(super) unowned: Unowned,
}

/// What is needed to open a source that is an image.
pub(super) struct Means<'a> {
    pub(super) cache: Option<&'a Cache>,
    pub(super) connection: &'a Connection<'a>,
    pub(super) runtime: &'a Runtime,
}

/// Opens the cache if the source can make use of it.
pub(super) fn cache(
    source: &SourceArguments,
    arguments: &CacheArguments,
    console: &mut Console,
) -> Option<Cache> {
    match source.source() {
        None => None,
        Some(Source::Path(path)) if path.is_dir() && !Layout::is_at(path) => None,
        Some(_) => super::cache::open(arguments, console),
    }
}

/// Opens the one source that the arguments name.
pub(super) fn open(arguments: &SourceArguments, means: &Means<'_>) -> Result<Opened, Box<dyn Explain>> {
    let (machine, arguments) = (Source::Path("/".into()), arguments.only().map_err(boxed)?);
    open_source(arguments.source().unwrap_or(&machine), arguments.platform(), means)
}

/// Opens `source`, for `platform` if it is an image for several.
pub(super) fn open_source(
    source: &Source,
    platform: Option<&Platform>,
    means: &Means<'_>,
) -> Result<Opened, Box<dyn Explain>> {
    match source {
        Source::Path(path) if path.is_file() => {
            let stored = Stored { path: path.clone(), name: None };
            open_archive(&stored, platform, means)
        }
        Source::Path(path) if Layout::is_at(path) => {
            open_layout(&Stored { path: path.clone(), name: None }, platform, means)
        }
        Source::Path(path) => {
            let rootfs = HostRootfs::open_directory(path).map_err(boxed)?;
            let unowned = Unowned::Plain;
            Ok(Opened { rootfs: Box::new(rootfs), word: absolute(path), path: None, unowned })
        }
        Source::Layout(stored) => open_layout(stored, platform, means),
        Source::Archive(stored) => open_archive(stored, platform, means),
        Source::Registry(reference) => {
            open_remote(reference, platform, means).map_err(|error| match path_meant(reference) {
                Some(path) => boxed(PathMeant { error, path }),
                None => error,
            })
        }
    }
}

fn open_layout(
    stored: &Stored,
    platform: Option<&Platform>,
    means: &Means<'_>,
) -> Result<Opened, Box<dyn Explain>> {
    let layout = Layout::open_existing(&stored.path).map_err(boxed)?;
    let entries = layout.index().map_err(boxed)?.manifests().clone();
    open_stored("oci", &layout, &entries, stored, platform, means)
}

fn open_archive(
    stored: &Stored,
    platform: Option<&Platform>,
    means: &Means<'_>,
) -> Result<Opened, Box<dyn Explain>> {
    let archive = Archive::open(&stored.path).map_err(boxed)?;
    let place = Place::choose(means.cache)?;
    let entries = archive.bring(&place.layout).map_err(boxed)?;
    open_stored("oci-archive", &place.layout, &entries, stored, platform, means)
}

fn open_stored(
    transport: &str,
    layout: &Layout,
    entries: &[Descriptor],
    stored: &Stored,
    platform: Option<&Platform>,
    means: &Means<'_>,
) -> Result<Opened, Box<dyn Explain>> {
    let host = platform::host();
    let wanted = Wanted { name: stored.name.as_deref(), platform: platform.unwrap_or(&host) };
    let place = stored.path.display().to_string();
    let image = find(layout, entries, &wanted, &place).map_err(boxed)?;
    // By its tag, as the digest that was found may be inside an index, where no word leads.
    let name = stored.name.as_ref().map_or(String::new(), |name| format!(":{name}"));
    let word = format!("{transport}:{}{name}", absolute(&stored.path));
    opened(layout, &image, word, platform, means)
}

fn open_remote(
    reference: &Reference,
    platform: Option<&Platform>,
    means: &Means<'_>,
) -> Result<Opened, Box<dyn Explain>> {
    let place = Place::choose(means.cache)?;
    let client = means.connection.client();
    let pull = |platform: &Platform| {
        let pulled = client.pull(reference, Some(platform), &place.layout, means.connection.observer);
        means.runtime.block_on(pulled)
    };
    let image = match pull(platform.unwrap_or(&platform::host())) {
        // Nobody asked for this machine's platform: the only one there is will do.
        Err(RegistryError::NoPlatform { available, .. }) if platform.is_none() && available.len() == 1 => {
            let only = available.first().and_then(|text| platform::parse(text));
            pull(&only.unwrap_or_else(platform::host))
        }
        pulled => pulled,
    };
    let image = image.map_err(boxed)?;
    let word = format!("{}@{}", reference.without_version(), image.digest());
    opened(&place.layout, &image, word, platform, means)
}

fn opened(
    layout: &Layout,
    image: &Descriptor,
    word: String,
    wanted: Option<&Platform>,
    means: &Means<'_>,
) -> Result<Opened, Box<dyn Explain>> {
    let tars = means.cache.map_or(Tars::Passing, |cache| Tars::Kept(cache.tars()));
    let rootfs = ImageRootfs::open(layout, image, &tars, format!("`{word}`")).map_err(boxed)?;
    let facts = rootfs.facts();
    if let (Some(wanted), Some(own)) = (wanted, &facts.platform)
        && !platform::suits(wanted, own)
    {
        let (own, wanted) = (platform::shown(own), platform::shown(wanted));
        return Err(boxed(OtherPlatform { image: word, own, wanted }));
    }
    let path = facts.path().map(|path| {
        let directories = path.split(':').filter(|directory| directory.starts_with('/'));
        directories.map(RawPath::from).collect()
    });
    Ok(Opened { rootfs: Box::new(rootfs), word, path, unowned: Unowned::AsInSource })
}

/// Where an image is put while it is read.
struct Place {
    layout: Layout,
    /// Vanishes with the value.
    _scratch: Option<Scratch>,
}

impl Place {
    fn choose(cache: Option<&Cache>) -> Result<Self, Box<dyn Explain>> {
        if let Some(cache) = cache {
            return Ok(Self { layout: cache.layout().clone(), _scratch: None });
        }
        let scratch = Scratch::create()?;
        Ok(Self { layout: scratch.layout()?, _scratch: Some(scratch) })
    }
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
