//! The bytes of a tar -> the bytes of a blob.
//!
//! A gzip blob is a row of members, cut by length alone, so that its bytes depend on nothing but the tar. libdeflate
//! takes each member whole: how the bytes arrive cannot matter.

use libdeflater::{CompressionLvl, Compressor, Crc};

use crate::oci::MediaType;

/// How much of the tar one gzip member holds, in bytes. Splitting there costs 0.14 % (FORMATS.md 6.1).
const MEMBER: usize = 1 << 20;
/// The level of libdeflate, from 0 to 12.
const LEVEL: i32 = 6;
/// No name, no time, no flags, operating system unknown.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// How layers are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// gzip, which everybody reads.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

impl Compression {
    /// Returns the media type of a layer compressed like this.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::None => MediaType::ImageLayer,
        }
    }
}

/// Compresses piece by piece: bytes go in, finished parts of the blob come out.
pub(super) struct Encoder {
    compression: Compression,
    compressor: Compressor,
    pending: Vec<u8>,
}

impl Encoder {
    pub(super) fn new(compression: Compression) -> Self {
        let level = CompressionLvl::new(LEVEL).unwrap_or_default();
        Self { compression, compressor: Compressor::new(level), pending: Vec::new() }
    }

    /// Takes `bytes`, and passes what of the blob is finished to `sink`.
    pub(super) fn push<E>(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.compression == Compression::None {
            return sink(bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let take = (MEMBER - self.pending.len()).min(rest.len());
            let (now, later) = rest.split_at(take);
            self.pending.extend_from_slice(now);
            rest = later;
            if self.pending.len() == MEMBER {
                self.flush(sink)?;
            }
        }
        Ok(())
    }

    /// Passes the rest of the blob to `sink`.
    pub(super) fn finish<E>(mut self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        if self.pending.is_empty() { Ok(()) } else { self.flush(sink) }
    }

    fn flush<E>(&mut self, sink: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let raw = std::mem::take(&mut self.pending);
        let result = sink(&member(&mut self.compressor, &raw));
        self.pending = raw;
        self.pending.clear();
        result
    }
}

/// Returns one gzip member that holds `raw` (RFC 1952).
fn member(compressor: &mut Compressor, raw: &[u8]) -> Vec<u8> {
    let bound = compressor.deflate_compress_bound(raw.len());
    let mut bytes = HEADER.to_vec();
    bytes.resize(HEADER.len() + bound, 0);
    // The bound is what makes the only possible error, too little room, impossible.
    #[expect(clippy::expect_used)]
    let len = compressor
        .deflate_compress(raw, &mut bytes[HEADER.len()..])
        .expect("the output has the room it needs");
    bytes.truncate(HEADER.len() + len);
    let mut crc = Crc::new();
    crc.update(raw);
    bytes.extend(crc.sum().to_le_bytes());
    bytes.extend((raw.len() as u32).to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    fn compressed(raw: &[u8], piece: usize) -> Vec<u8> {
        let mut blob = Vec::new();
        let mut sink = |bytes: &[u8]| {
            blob.extend_from_slice(bytes);
            Ok::<_, ()>(())
        };
        let mut encoder = Encoder::new(Compression::Gzip);
        for piece in raw.chunks(piece) {
            encoder.push(piece, &mut sink).unwrap();
        }
        encoder.finish(&mut sink).unwrap();
        blob
    }

    #[test]
    fn pieces_do_not_matter_and_others_read_it() {
        let raw: Vec<u8> =
            (0..MEMBER as u32 * 2 + 12_345).map(|i| (i.wrapping_mul(2_654_435_761) >> 27) as u8).collect();
        let blob = compressed(&raw, raw.len());
        assert_eq!(blob, compressed(&raw, 1000));
        assert_eq!(blob, compressed(&raw, MEMBER));
        let mut read = Vec::new();
        MultiGzDecoder::new(blob.as_slice()).read_to_end(&mut read).unwrap();
        assert!(read == raw);
    }
}
