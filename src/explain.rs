//! Errors -> what a person reads: what is wrong, where, why, and how to go on.

use std::error::Error;
use std::fmt;

/// What a person reads about one problem. The command line prints it; the frontend adds the line of the build file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// A stable, greppable name of the kind of problem, such as `missing-library`.
    pub code: &'static str,
    /// One clause that names the problem.
    pub what: String,
    /// Who ran into it.
    pub places: Vec<String>,
    /// The facts behind it.
    pub reasons: Vec<String>,
    /// What to do next, the most likely first.
    pub fixes: Vec<String>,
}

impl Explanation {
    /// Returns an explanation that says only what is wrong.
    pub fn new(code: &'static str, what: impl Into<String>) -> Self {
        Self { code, what: what.into(), places: Vec::new(), reasons: Vec::new(), fixes: Vec::new() }
    }

    /// Adds where it happened.
    pub fn at(mut self, place: impl Into<String>) -> Self {
        self.places.push(place.into());
        self
    }

    /// Adds a fact that explains it.
    pub fn why(mut self, reason: impl Into<String>) -> Self {
        self.reasons.push(reason.into());
        self
    }

    /// Adds every cause behind `error`, outermost first.
    pub fn because_of(mut self, error: &dyn Error) -> Self {
        let mut cause = error.source();
        while let Some(error) = cause {
            self.reasons.push(error.to_string());
            cause = error.source();
        }
        self
    }

    /// Adds something the reader can do.
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fixes.push(fix.into());
        self
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.code, self.what)?;
        for (label, lines) in [("where", &self.places), ("  why", &self.reasons), ("  fix", &self.fixes)] {
            for line in lines {
                write!(f, "\n  {label}: {line}")?;
            }
        }
        Ok(())
    }
}

/// How a run ended, as the exit code says it (DESIGN.md section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// This input gives no image, or the output cannot be written.
    NoImage = 1,
    /// The request itself is wrong.
    Usage = 2,
    /// `check`, `diff`, `verify` or `--locked` found something.
    Found = 3,
    /// A registry, a daemon or something else outside failed.
    Outside = 5,
}

/// An error that can say how to go on.
pub trait Explain: Error {
    /// Returns one explanation for each problem; never empty.
    fn explain(&self) -> Vec<Explanation>;

    /// Returns which exit code this error deserves.
    fn failure(&self) -> Failure {
        Failure::NoImage
    }
}
