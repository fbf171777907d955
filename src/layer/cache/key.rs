//! Bytes -> the key that a cache knows them by.

/// The BLAKE3 hash of some bytes: as sure as a digest at a quarter of its cost, and never part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::layer) struct Key([u8; 32]);

impl Key {
    /// Returns the key of `bytes`.
    pub(in crate::layer) fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).into())
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Computes a [`Key`] piece by piece.
#[derive(Debug, Clone, Default)]
pub(in crate::layer) struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    /// Adds `bytes` to what is hashed.
    pub(in crate::layer) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the key of everything added.
    pub(in crate::layer) fn finish(&self) -> Key {
        Key(self.0.finalize().into())
    }
}
