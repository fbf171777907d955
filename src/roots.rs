//! What the user wants kept, and where they said so.

use std::fmt;

use crate::path::RawPath;

/// One thing to keep, from which the closure starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// What to keep.
    pub keep: Keep,
    /// Where the user said so.
    pub origin: Origin,
}

/// What a root keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// A program: its path, or its name, which is looked up in the search path of the source.
    Program(RawPath),
}

/// Where the user asked for a root.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An argument of the command line, as typed.
    Argument(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(text) => write!(f, "`{text}`"),
        }
    }
}
