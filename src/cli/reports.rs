//! Closure reports on the host: written where the user says, and kept in the cache for `why`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::runtime::Runtime;
use tracing::debug;

use super::connection::Connection;
use super::scratch::Scratch;
use super::{Outcome, boxed, cache};
use crate::explain::{Explain, Explanation, Failure};
use crate::oci::{Digest, NewFile, OutputFile, Platform, Reference, platform};
use crate::report::{MEDIA_TYPE, Report};

/// The name of the report of the newest image in the cache.
const LAST: &str = "last.json";

/// Why there is no report.
#[derive(Debug, Error)]
enum ReportFileError {
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("no image was built yet")]
    NoImage { source: io::Error },
    #[error("nothing is known of the image `{image}`")]
    NotAttached { image: Reference },
    #[error("there is no home directory, and so no report of the last image")]
    NoHome,
}

impl Explain for ReportFileError {
    fn explain(&self) -> Vec<Explanation> {
        let explanation = |code| Explanation::new(code, self.to_string()).because_of(self);
        vec![match self {
            Self::Write { .. } => {
                explanation("unwritable-output").fix("check the path and the space left there")
            }
            Self::Read { .. } => {
                explanation("unreadable-file").fix("name a file written by `build --report`")
            }
            Self::NotAttached { .. } => explanation("no-report")
                .why("its report is not in the cache, and none is attached to it in the registry")
                .fix("push it with `build --push --attach-report`"),
            Self::NoImage { .. } | Self::NoHome => {
                explanation("no-report").fix("name the programs after the path, or a report with `--report`")
            }
        }]
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Write { .. } => Failure::NoImage,
            _ => Failure::Usage,
        }
    }
}

/// Writes `report` to `path`, whole or not at all.
pub(super) fn write(report: &Report, path: &Path) -> Outcome {
    let saved = OutputFile::create(path).and_then(|output| {
        report.write_json(output.file())?;
        output.publish()
    });
    saved.map_err(|source| boxed(ReportFileError::Write { path: path.to_owned(), source }))
}

/// Keeps `report` of the image `digest` in the cache. An image without it is as good: failing is not an error.
pub(super) fn remember(report: &Report, digest: Digest) {
    let Some(directory) = directory() else { return };
    // Without waiting for the disk: nothing is lost with them.
    let keep = |name: &str| {
        let mut file = NewFile::create_in(&directory)?;
        report.write_json(&mut file)?;
        file.persist(&directory.join(name)).map(drop)
    };
    let kept = fs::create_dir_all(&directory)
        .and_then(|()| keep(&format!("{}.json", digest.hex())))
        .and_then(|()| keep(LAST));
    if let Err(error) = kept {
        debug!(%error, directory = %directory.display(), "the closure report is not kept");
    }
}

/// Returns the report in the file `path`, or that of the newest image.
pub(super) fn read(path: Option<&Path>) -> Result<Report, Box<dyn Explain>> {
    let last = match path {
        Some(_) => None,
        None => Some(directory().ok_or_else(|| boxed(ReportFileError::NoHome))?.join(LAST)),
    };
    let file = path.or(last.as_deref()).unwrap_or(Path::new(LAST));
    let bytes = fs::read(file).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if path.is_none() => boxed(ReportFileError::NoImage { source }),
        _ => boxed(ReportFileError::Read { path: file.to_owned(), source }),
    })?;
    Report::parse(&bytes, &file.display().to_string()).map_err(boxed)
}

/// Returns the report of an image in a registry: from the cache, or attached to the image. Of an image for several
/// platforms, it is that of `platform`; without one, of this machine's.
pub(super) fn of_image(
    image: &Reference,
    platform: Option<&Platform>,
    connection: &Connection<'_>,
    runtime: &Runtime,
) -> Result<Report, Box<dyn Explain>> {
    let (client, observer) = (connection.client(), connection.observer);
    let host = platform::host();
    let resolved = client.resolve(image, platform.unwrap_or(&host), observer);
    let digest = runtime.block_on(resolved).map_err(boxed)?;
    let kept = directory().map(|directory| directory.join(format!("{}.json", digest.hex())));
    if let Some(kept) = kept.filter(|kept| kept.is_file()) {
        return read(Some(&kept));
    }
    let attached = client.referrers(image, digest, Some(MEDIA_TYPE), observer);
    let attached = runtime.block_on(attached).map_err(boxed)?;
    let scratch = Scratch::create()?;
    let layout = scratch.layout()?;
    // The one attached last comes last.
    let Some(newest) = attached.last() else {
        return Err(boxed(ReportFileError::NotAttached { image: image.clone() }));
    };
    let reference = image.with_digest(layout.digest_of(newest).map_err(boxed)?);
    let artifact = runtime.block_on(client.pull(&reference, None, &layout, observer)).map_err(boxed)?;
    let blobs = layout.blobs_of(&artifact).map_err(boxed)?;
    let document = blobs.iter().find(|blob| blob.media_type().to_string() == MEDIA_TYPE);
    let document = document.ok_or_else(|| boxed(ReportFileError::NotAttached { image: image.clone() }))?;
    let bytes = layout.read(document).map_err(boxed)?;
    Report::parse(&bytes, &reference.to_string()).map_err(boxed)
}

/// Returns the directory that keeps reports, if the user has one.
fn directory() -> Option<PathBuf> {
    Some(cache::directory()?.join("v1").join("reports"))
}
