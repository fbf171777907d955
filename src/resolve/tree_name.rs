//! What a root filesystem is -> the words that messages have for it.

/// What messages call the root filesystem that they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeName<'a> {
    /// It is the source, the only one that there is.
    Source,
    /// It is one of several: a system, in which things are installed.
    System(&'a str),
    /// It is one of several, and has nothing but what was copied into it.
    Collection(&'a str),
}

impl TreeName<'_> {
    /// Returns its name where a message says what it is.
    pub(super) fn rootfs(&self) -> &str {
        match self {
            Self::Source => "the rootfs",
            Self::System(name) | Self::Collection(name) => name,
        }
    }

    /// Returns its name where a message says what to do there.
    pub(super) fn source(&self) -> &str {
        match self {
            Self::Source => "the source",
            Self::System(name) | Self::Collection(name) => name,
        }
    }

    /// Returns how it comes to have `what`, which is a part of `package`.
    pub(super) fn gains(&self, what: &str, package: &str) -> String {
        match self {
            Self::Source | Self::System(_) => format!("install {package} in {}", self.source()),
            Self::Collection(name) => {
                format!("copy {what} to {name} from a stage that has it, or build that on an image that does")
            }
        }
    }
}
