//! A package -> those of its files that its programs need when they run. What counts is in `rules/package-data.toml`.

use std::collections::HashSet;

use serde::Deserialize;

use super::{PackageDb, PackageError, PackageId, of_rootfs};
use crate::glob::Glob;
use crate::path::RootPath;
use crate::rootfs::{Kind, Node, Rootfs, RootfsError, chase};
use crate::rules::RuleFileError;

const RULES: &str = include_str!("../rules/package-data.toml");

/// The file, as it is spelled.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    programs: Directories,
    empty: Directories,
    services: Files,
    leave: Vec<Leave>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Directories {
    directories: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Leave {
    /// What these files are, for whoever reads the file.
    #[serde(rename = "what")]
    _what: String,
    files: Vec<String>,
}

/// Which files of packages programs need when they run.
#[derive(Debug, Default)]
pub struct RunTimeFiles {
    programs: Vec<Glob>,
    empty: Vec<Glob>,
    services: Vec<Glob>,
    leave: Vec<Glob>,
}

fn parse(text: &str) -> Result<RunTimeFiles, RuleFileError> {
    let name = || "package-data.toml".to_owned();
    let Document { programs, empty, services, leave } = toml::from_str(text)
        .map_err(|source| RuleFileError::Document { name: name(), source: Box::new(source) })?;
    let globs = |texts: Vec<String>| -> Result<Vec<Glob>, RuleFileError> {
        let globs = texts.into_iter().map(Glob::parse).collect::<Result<_, _>>();
        globs.map_err(|source| RuleFileError::Pattern { name: name(), source })
    };
    let leave = leave.into_iter().flat_map(|leave| leave.files).collect();
    Ok(RunTimeFiles {
        programs: globs(programs.directories)?,
        empty: globs(empty.directories)?,
        services: globs(services.files)?,
        leave: globs(leave)?,
    })
}

impl RunTimeFiles {
    /// Returns the choice that comes with minimage.
    ///
    /// # Errors
    /// [`RuleFileError`], if the text in this program is broken; a test of this module reads it.
    pub fn embedded() -> Result<Self, RuleFileError> {
        parse(RULES)
    }

    /// Returns the run-time files of `package` that are in `rootfs`, in the order of its database: files and links, and
    /// directories that are to be there although nothing in them is taken.
    ///
    /// # Errors
    /// [`PackageError`] if the source or its database cannot be read.
    pub fn of(
        &self,
        db: &dyn PackageDb,
        rootfs: &dyn Rootfs,
        package: PackageId,
    ) -> Result<Vec<RootPath>, PackageError> {
        let listed = db.files(package)?;
        // What is above something else of the package comes with that.
        let above: HashSet<RootPath> = listed.iter().filter_map(|file| file.path.parent()).collect();
        let mut files = Vec::new();
        for file in &listed {
            if is_match(&self.leave, &file.path) {
                continue;
            }
            let Some(node) = looked_up(rootfs, &file.path)? else { continue };
            let is_wanted = match node.kind {
                Kind::Directory => is_match(&self.empty, &file.path) && !above.contains(&file.path),
                Kind::File => node.mode & 0o111 == 0 || !self.is_in_path(&file.path),
                // What it lists as a directory may be a link, which is not its own.
                Kind::Link(_) if !db.owners(&file.path)?.contains(&package) => false,
                Kind::Link(_) => !self.is_in_path(&file.path) || !is_program(rootfs, &file.path)?,
                Kind::Special(_) => false,
            };
            if is_wanted {
                files.push(file.path.clone());
            }
        }
        Ok(files)
    }

    /// Returns the files of `package` that tell a service manager how to start its programs.
    ///
    /// # Errors
    /// [`PackageError`] if the source or its database cannot be read.
    pub fn services_of(
        &self,
        db: &dyn PackageDb,
        rootfs: &dyn Rootfs,
        package: PackageId,
    ) -> Result<Vec<RootPath>, PackageError> {
        let mut files = Vec::new();
        for file in db.files(package)?.into_iter().filter(|file| is_match(&self.services, &file.path)) {
            let node = looked_up(rootfs, &file.path)?;
            if node.is_some_and(|node| node.kind == Kind::File) {
                files.push(file.path);
            }
        }
        Ok(files)
    }

    fn is_in_path(&self, path: &RootPath) -> bool {
        path.parent().is_some_and(|directory| is_match(&self.programs, &directory))
    }
}

/// Returns what is at `path`, as far as everybody may know: what lies in a closed directory is not there for anybody, so
/// that the image does not depend on who builds it.
fn looked_up(rootfs: &dyn Rootfs, path: &RootPath) -> Result<Option<Node>, PackageError> {
    match rootfs.lookup(path) {
        Err(RootfsError::Denied { .. }) => Ok(None),
        looked_up => looked_up.map_err(of_rootfs(rootfs)),
    }
}

fn is_match(globs: &[Glob], path: &RootPath) -> bool {
    globs.iter().any(|glob| glob.matches(path))
}

/// Returns whether the link at `path` leads to an executable file.
fn is_program(rootfs: &dyn Rootfs, path: &RootPath) -> Result<bool, PackageError> {
    Ok(chase(rootfs, &path.to_raw()).map_err(of_rootfs(rootfs))?.is_executable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_well_formed() {
        let filter = parse(RULES).unwrap();
        let left = |path: &str| is_match(&filter.leave, &RootPath::from_normal(path.as_bytes()).unwrap());
        for path in [
            "/usr/share/doc/git/README",
            "/usr/share/man/man1/git.1.gz",
            "/usr/share/man/de/man1/git.1.gz",
            "/usr/share/locale/de/LC_MESSAGES/git.mo",
            "/usr/lib/x86_64-linux-gnu/libz.a",
            "/usr/lib/x86_64-linux-gnu/pkgconfig/zlib.pc",
            "/usr/share/pkgconfig/x.pc",
            "/usr/lib/systemd/system/nginx.service",
            "/lib/systemd/system/nginx.service",
            "/etc/cron.daily/man-db",
            "/etc/crontab",
            "/etc/init.d/nginx",
            "/etc/rc2.d/S01nginx",
            "/etc/default/nginx",
            "/usr/include/zlib.h",
        ] {
            assert!(left(path), "{path}");
        }
        for path in [
            "/etc/nginx/nginx.conf",
            "/usr/lib/git-core/git-remote-http",
            "/usr/share/git-core/templates/hooks/pre-commit.sample",
            "/usr/lib/python3.11/ssl.py",
            "/usr/share/nginx/html/index.html",
            "/usr/share/documents/x",
        ] {
            assert!(!left(path), "{path}");
        }
    }
}
