//! A closure + a database of packages -> the owner of each entry.

use std::collections::HashMap;
use std::sync::Arc;

use super::{PackageDb, PackageError, PackageId};
use crate::closure::{Closure, Content, Owner};
use crate::path::RootPath;
use crate::rootfs::Kind;

/// Sets the owner of every entry of `closure` that came from a package. A directory that several packages share has
/// none.
///
/// # Errors
/// [`PackageError`] if the database cannot be read.
pub fn attribute(closure: &mut Closure, db: &dyn PackageDb) -> Result<(), PackageError> {
    let mut names: HashMap<PackageId, Arc<Owner>> = HashMap::new();
    let mut owned: Vec<(RootPath, Arc<Owner>)> = Vec::new();
    for (path, entry) in closure.entries() {
        let origin = match &entry.content {
            Content::Source(origin) => origin,
            Content::None => path,
            Content::Generated(_) => continue,
        };
        let owners = db.owners(origin)?;
        let owner = match owners.as_slice() {
            [] => continue,
            [_, _, ..] if entry.node.kind == Kind::Directory => continue,
            [owner, ..] => *owner,
        };
        let name = names.entry(owner).or_insert_with(|| Arc::new(db.package(owner).owner()));
        owned.push((path.clone(), name.clone()));
    }
    for (path, owner) in owned {
        closure.set_owner(&path, owner);
    }
    Ok(())
}
