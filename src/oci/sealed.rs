//! A document -> the document with the bytes it was hashed from.

use serde::Serialize;

use super::{Descriptor, Digest, MediaType, descriptor};

/// A JSON document with its bytes: written once, so that what is hashed is what is stored and sent.
#[derive(Debug, Clone)]
pub struct Sealed<T> {
    value: T,
    bytes: Vec<u8>,
    digest: Digest,
}

impl<T: Serialize> Sealed<T> {
    /// Seals `value` as canonical JSON.
    ///
    /// # Errors
    /// If `value` cannot be expressed in JSON.
    pub fn new(value: T) -> Result<Self, serde_json::Error> {
        let bytes = canonical_json(&value)?;
        Ok(Self { digest: Digest::of(&bytes), value, bytes })
    }
}

impl<T> Sealed<T> {
    /// Returns the document.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Returns the bytes that were hashed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the descriptor of the bytes as a blob of `media_type`.
    pub fn descriptor(&self, media_type: MediaType) -> Descriptor {
        descriptor(media_type, self.digest, self.bytes.len() as u64)
    }
}

/// Returns `value` as compact JSON with sorted keys. The types of `oci-spec` hold hash maps, whose order changes from
/// run to run; a [`serde_json::Value`] sorts them, as long as its feature `preserve_order` stays off.
///
/// # Errors
/// If `value` cannot be expressed in JSON.
pub fn canonical_json<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&serde_json::to_value(value)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let labels: HashMap<String, String> = (0..64).map(|i| (format!("k{i:02}"), String::new())).collect();
        let bytes = canonical_json(&HashMap::from([("b", labels.clone()), ("a", labels)])).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let half = (0..64).map(|i| format!("\"k{i:02}\":\"\"")).collect::<Vec<_>>().join(",");
        assert_eq!(text, format!("{{\"a\":{{{half}}},\"b\":{{{half}}}}}"));
    }
}
