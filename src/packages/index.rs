//! The paths of all packages -> who has a path.

use std::collections::HashMap;

use super::{PackageDb, PackageError, PackageId};
use crate::path::RootPath;

/// Real paths, and the packages that have them.
pub(super) struct Index {
    first: HashMap<RootPath, PackageId>,
    /// What more than one package has: directories, mostly.
    others: HashMap<RootPath, Vec<PackageId>>,
}

impl Index {
    /// Returns the index of all packages of `db`.
    pub(super) fn new(db: &dyn PackageDb) -> Result<Self, PackageError> {
        let mut index = Self { first: HashMap::new(), others: HashMap::new() };
        for id in (0..db.packages().len()).map(PackageId) {
            for file in db.files(id)? {
                match index.first.get(&file.path) {
                    None => drop(index.first.insert(file.path, id)),
                    Some(first) if *first == id => {}
                    Some(_) => index.others.entry(file.path).or_default().push(id),
                }
            }
        }
        Ok(index)
    }

    /// Returns the packages that have `path`, in the order of the database.
    pub(super) fn owners(&self, path: &RootPath) -> Vec<PackageId> {
        let mut owners: Vec<PackageId> = self.first.get(path).copied().into_iter().collect();
        owners.extend(self.others.get(path).into_iter().flatten());
        owners.dedup();
        owners
    }
}
