//! The paths of all packages -> who has a path.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::{PackageDb, PackageError, PackageId};
use crate::path::RootPath;

/// An [`Index`] that is made when somebody asks: it takes the list of every package.
#[derive(Default)]
pub(super) struct LazyIndex(OnceCell<Index>);

impl LazyIndex {
    /// Returns the packages of `db` that have `path`, in the order of the database; `db` is the same each time.
    pub(super) fn owners(&self, db: &dyn PackageDb, path: &RootPath) -> Result<Vec<PackageId>, PackageError> {
        if let Some(index) = self.0.get() {
            return Ok(index.owners(path));
        }
        let index = Index::new(db)?;
        Ok(self.0.get_or_init(|| index).owners(path))
    }
}

/// Real paths, and the packages that have them.
struct Index {
    first: HashMap<RootPath, PackageId>,
    /// What more than one package has: directories, mostly.
    others: HashMap<RootPath, Vec<PackageId>>,
}

impl Index {
    /// Returns the index of all packages of `db`.
    fn new(db: &dyn PackageDb) -> Result<Self, PackageError> {
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

    fn owners(&self, path: &RootPath) -> Vec<PackageId> {
        let mut owners: Vec<PackageId> = self.first.get(path).copied().into_iter().collect();
        owners.extend(self.others.get(path).into_iter().flatten());
        owners.dedup();
        owners
    }
}
