//! Two demands for one path -> what each of them wants there.

use super::{Content, DemandId, Entry, Reason, Role};
use crate::rootfs::Kind;

/// Two things that were to be at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What came first.
    pub first: Claim,
    /// What came later and is not there.
    pub second: Claim,
}

/// Something that was to be at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who asked for it.
    pub demand: DemandId,
    /// What it is.
    pub kind: Kind,
    /// Where its bytes come from.
    pub content: Content,
}

impl Conflict {
    /// Returns that `new` was to be where `known` is, because of `reason`.
    pub(super) fn new(known: &Entry, new: &Entry, reason: Reason) -> Self {
        let asked = known.reasons.iter().find(|reason| reason.role == Role::Target);
        let asked = asked.or(known.reasons.first()).unwrap_or(&reason);
        let claim = |entry: &Entry, reason: &Reason| Claim {
            demand: reason.demand,
            kind: entry.node.kind.clone(),
            content: entry.content.clone(),
        };
        Self { first: claim(known, asked), second: claim(new, &reason) }
    }
}

impl Entry {
    /// Returns whether `other` is the same thing, whoever may do what with it.
    pub(super) fn is_like(&self, other: &Entry) -> bool {
        self.node.kind == other.node.kind && self.content == other.content
    }
}
