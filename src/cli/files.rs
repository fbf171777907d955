//! `-o type=local`, `-o type=tar`: the files of an image alone, in a directory or a tar.

use std::fs::{self, Permissions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::boxed;
use super::scratch::Scratch;
use crate::closure::Closure;
use crate::explain::{Explain, Explanation};
use crate::layer;
use crate::oci::{Digest, OutputFile};
use crate::rootfs::Rootfs;
use crate::spec::{Algorithm, Epoch, LayerOptions, Layering};

/// Where files go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum FilesOutput {
    /// Into a directory that is empty, or not there yet.
    Directory(PathBuf),
    /// Into a tar.
    Tar(PathBuf),
}

/// Files cannot be put where they should go.
#[derive(Debug, Error)]
enum FilesError {
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("`{}` is not empty", path.display())]
    NotEmpty { path: PathBuf },
}

impl Explain for FilesError {
    fn explain(&self) -> Vec<Explanation> {
        let explanation = Explanation::new("unwritable-output", self.to_string()).because_of(self);
        vec![match self {
            Self::Io { .. } => explanation.fix("check the path, its permissions and the space left there"),
            Self::NotEmpty { .. } => explanation.fix("name a directory that is empty or not there"),
        }]
    }
}

impl FilesOutput {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Directory(path) | Self::Tar(path) => path,
        }
    }

    /// Puts what is in `closure`, all of it or nothing, and returns the digest of the tar, if it is one: the diff_id of
    /// an image with a single layer.
    pub(super) fn write(
        &self,
        closure: &Closure,
        rootfs: &dyn Rootfs,
        epoch: Epoch,
    ) -> Result<Option<Digest>, Box<dyn Explain>> {
        match self {
            Self::Directory(path) => directory(path, closure, rootfs, epoch).map(|()| None),
            Self::Tar(path) => tar(path, closure, rootfs, epoch).map(Some),
        }
    }
}

fn directory(
    path: &Path,
    closure: &Closure,
    rootfs: &dyn Rootfs,
    epoch: Epoch,
) -> Result<(), Box<dyn Explain>> {
    let error = |action| move |source| boxed(FilesError::Io { action, path: path.to_owned(), source });
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(error("create"))?;
    match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(boxed(FilesError::NotEmpty { path: path.to_owned() })),
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error("read")(source)),
        _ => {}
    }
    let scratch = Scratch::create_in(parent).map_err(error("create"))?;
    let work = scratch.path().join("files");
    fs::create_dir(&work).map_err(error("create"))?;
    fs::set_permissions(&work, Permissions::from_mode(0o755)).map_err(error("create"))?;
    let plan = layer::plan(closure, Layering::Single);
    layer::write_dir(&plan, rootfs, epoch, &work).map_err(boxed)?;
    // It takes the place of an empty directory, too.
    fs::rename(&work, path).map_err(error("write"))
}

fn tar(
    path: &Path,
    closure: &Closure,
    rootfs: &dyn Rootfs,
    epoch: Epoch,
) -> Result<Digest, Box<dyn Explain>> {
    let error = |action| move |source| boxed(FilesError::Io { action, path: path.to_owned(), source });
    let work = Scratch::create()?;
    let layout = work.layout()?;
    let options = LayerOptions {
        layering: Layering::Single,
        compression: Algorithm::None.into(),
        threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
    };
    let plan = layer::plan(closure, Layering::Single);
    let layers = layer::write(&plan, rootfs, epoch, &options, &layout, None).map_err(boxed)?;
    let tar = OutputFile::create(path).map_err(error("create"))?;
    let mut digest = Digest::of(b"");
    for layer in &layers {
        let mut blob = layout.open(&layer.descriptor).map_err(boxed)?;
        io::copy(&mut blob, &mut tar.file()).map_err(error("write"))?;
        digest = layer.diff_id.0;
    }
    tar.publish().map_err(error("write"))?;
    Ok(digest)
}
