//! A request and its open source -> the closure of its roots, by the packages of the source and the rules.

use super::boxed;
use crate::explain::Explain;
use crate::packages;
use crate::resolve::{self, Inputs, Resolution};
use crate::rootfs::Rootfs;
use crate::rules::Catalogue;
use crate::spec::BuildSpec;

/// Returns everything that an image of `spec` holds, taken from `rootfs`.
pub(super) fn of(spec: &BuildSpec, rootfs: &dyn Rootfs) -> Result<Resolution, Box<dyn Explain>> {
    let rules = Catalogue::with(&spec.rules).map_err(boxed)?;
    let packages = packages::open(rootfs).map_err(boxed)?;
    let inputs = Inputs {
        rootfs,
        packages: packages.as_deref(),
        roots: &spec.roots,
        search: &spec.search,
        selection: &spec.selection,
        rules: &rules,
        user: spec.config.user.as_ref(),
    };
    let mut resolution = resolve::closure(&inputs).map_err(boxed)?;
    if packages.is_none()
        && let Some(kind) = packages::foreign(rootfs).map_err(boxed)?
    {
        let warning = format!("the source has a database of {kind}, which is not read: no package data");
        resolution.warnings.push(warning);
    }
    Ok(resolution)
}
