//! Closure -> which path is in which layer, in the order of writing. Pure: no bytes, no clock, no I/O.

use std::collections::BTreeMap;

use crate::closure::{Closure, Content};
use crate::path::RootPath;
use crate::rootfs::{FileId, Kind, Node};
use crate::spec::Layering;

/// Which path goes into which layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerPlan {
    /// The layers, the lowest first.
    pub layers: Vec<PlannedLayer>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedLayer {
    /// What it holds, as the image's history says it.
    pub name: String,
    /// The entries in the order of a depth-first walk; parents first.
    pub entries: Vec<PlannedEntry>,
}

/// One entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEntry {
    /// Where it goes.
    pub path: RootPath,
    /// What it is.
    pub node: Node,
    /// Where its bytes come from.
    pub content: Content,
    /// The earlier entry that is the same file, if there is one.
    pub hard_link_to: Option<RootPath>,
}

/// Returns the plan of `closure`.
pub fn plan(closure: &Closure, layering: Layering) -> LayerPlan {
    match layering {
        Layering::Single => {
            let name = "everything".to_owned();
            LayerPlan { layers: vec![PlannedLayer { name, entries: entries(closure) }] }
        }
    }
}

fn entries(closure: &Closure) -> Vec<PlannedEntry> {
    let mut first_paths: BTreeMap<FileId, RootPath> = BTreeMap::new();
    let planned = closure.entries().map(|(path, entry)| {
        let is_shared = entry.node.kind == Kind::File && entry.node.links > 1;
        let first = is_shared.then(|| first_paths.entry(entry.node.id).or_insert_with(|| path.clone()));
        PlannedEntry {
            path: path.clone(),
            node: entry.node.clone(),
            content: entry.content.clone(),
            hard_link_to: first.filter(|first| *first != path).cloned(),
        }
    });
    planned.collect()
}
