//! What was to be where something else is -> problems, except where both are the same.

use super::collect::Collector;
use super::problem::{Problem, ResolveError};
use crate::closure::{Claim, Content};
use crate::formats::ReadAt;
use crate::path::RootPath;
use crate::rootfs::{Kind, RootfsError};

/// How many bytes of two files are compared at a time.
const CHUNK: usize = 64 << 10;

impl Collector<'_> {
    /// Notes each path at which two things were to be. Copies of one file are one thing.
    pub(super) fn check_conflicts(&mut self) -> Result<(), ResolveError> {
        let mut problems = Vec::new();
        for (path, conflict) in self.closure.conflicts() {
            // What the user excludes is in nobody's way.
            if self.closure.entry(path).is_none() || self.is_same(&conflict.first, &conflict.second)? {
                continue;
            }
            let claim = |claim: &Claim| {
                let by = self.closure.demand(claim.demand).cause.to_string();
                (in_words(claim), by)
            };
            let claims = [claim(&conflict.first), claim(&conflict.second)];
            problems.push(Problem::Conflict { path: path.clone(), claims });
        }
        self.problems.extend(problems);
        Ok(())
    }

    fn is_same(&self, one: &Claim, other: &Claim) -> Result<bool, ResolveError> {
        let (Content::Source(one), Content::Source(other)) = (&one.content, &other.content) else {
            return Ok(false);
        };
        let (first, second) = (self.rootfs().open(one)?, self.rootfs().open(other)?);
        if first.size() != second.size() {
            return Ok(false);
        }
        let (mut offset, mut chunks) = (0, [vec![0; CHUNK], vec![0; CHUNK]]);
        let [chunk, other_chunk] = &mut chunks;
        loop {
            let count = self.fill(&*first, one, offset, chunk)?;
            if count != self.fill(&*second, other, offset, other_chunk)? || chunk != other_chunk {
                return Ok(false);
            }
            if count < CHUNK {
                return Ok(true);
            }
            offset += CHUNK as u64;
        }
    }

    /// Reads as much of the file `path` into `chunk` as there is from `offset` on, and zeros after its end.
    fn fill(
        &self,
        file: &dyn ReadAt,
        path: &RootPath,
        offset: u64,
        chunk: &mut [u8],
    ) -> Result<usize, ResolveError> {
        let mut filled = 0;
        while filled < chunk.len() {
            let count = file.read_at(offset + filled as u64, &mut chunk[filled..]);
            match count.map_err(|source| RootfsError::read("read", path, self.rootfs().name(), source))? {
                0 => break,
                count => filled += count,
            }
        }
        chunk[filled..].fill(0);
        Ok(filled)
    }
}

/// Returns what was to be at a path: where it comes from, if it lies somewhere in the source.
fn in_words(claim: &Claim) -> String {
    match (&claim.kind, &claim.content) {
        (_, Content::Source(source)) => format!("the file `{source}`"),
        (Kind::Directory, _) => "a directory".to_owned(),
        (Kind::Link(target), _) => format!("a link to `{target}`"),
        _ => "a file".to_owned(),
    }
}
