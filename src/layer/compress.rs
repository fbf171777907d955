//! A group of the tar -> one member of the blob.
//!
//! Each member is compressed whole and by itself, so its bytes depend on nothing but the group, the level and the
//! version of the library, which `Cargo.toml` pins.

use std::io;

use libdeflater::{CompressionLvl, Compressor, Crc};

use crate::spec::{Algorithm, Compression};

/// No name, no time, no flags, operating system unknown (RFC 1952).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
const GZIP_TRAILER: usize = 8;
/// The version of libdeflate in `Cargo.toml`.
const LIBDEFLATE: &str = "1.26";

/// Compresses groups.
pub(super) enum Encoder {
    /// With room for whatever becomes of a group.
    Gzip(Compressor, Vec<u8>),
    Zstd(i32),
    None,
}

impl Encoder {
    pub(super) fn new(compression: Compression) -> Self {
        let level = i32::from(compression.level());
        match compression.algorithm() {
            // `Compression` holds no level that libdeflate lacks.
            Algorithm::Gzip => {
                Self::Gzip(Compressor::new(CompressionLvl::new(level).unwrap_or_default()), Vec::new())
            }
            Algorithm::Zstd => Self::Zstd(level),
            Algorithm::None => Self::None,
        }
    }

    /// Puts the member that holds `group` in place of what `member` held. What is left in `group` is of no use.
    pub(super) fn encode(&mut self, group: &mut Vec<u8>, member: &mut Vec<u8>) -> io::Result<()> {
        member.clear();
        match self {
            Self::Gzip(compressor, room) => gzip(compressor, group, room, member)?,
            Self::Zstd(level) => {
                member.reserve(zstd::zstd_safe::compress_bound(group.len()));
                // A new context each time: what libzstd promises of a used one is less than we promise.
                zstd::bulk::Compressor::new(*level)?.compress_to_buffer(group, member)?;
            }
            Self::None => std::mem::swap(group, member),
        }
        Ok(())
    }
}

/// Returns what the bytes of a member depend on apart from the group: library, version, level.
pub(super) fn compressor_id(compression: Compression) -> String {
    let level = compression.level();
    match compression.algorithm() {
        Algorithm::Gzip => format!("libdeflate/{LIBDEFLATE}/{level}"),
        Algorithm::Zstd => format!("libzstd/{}/{level}", zstd::zstd_safe::version_string()),
        Algorithm::None => "none".to_owned(),
    }
}

fn gzip(
    compressor: &mut Compressor,
    group: &[u8],
    room: &mut Vec<u8>,
    member: &mut Vec<u8>,
) -> io::Result<()> {
    let bound = compressor.deflate_compress_bound(group.len());
    if room.len() < bound {
        room.resize(bound, 0);
    }
    let deflated = compressor.deflate_compress(group, &mut room[..bound]).map_err(io::Error::other)?;
    member.reserve(GZIP_HEADER.len() + deflated + GZIP_TRAILER);
    member.extend(GZIP_HEADER);
    member.extend_from_slice(&room[..deflated]);
    let mut crc = Crc::new();
    crc.update(group);
    member.extend(crc.sum().to_le_bytes());
    // RFC 1952 wants the length modulo 2^32; a group is far shorter.
    member.extend((group.len() as u32).to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::MultiGzDecoder;

    use super::*;

    fn noise(len: u32) -> Vec<u8> {
        (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 27) as u8).collect()
    }

    fn member(encoder: &mut Encoder, group: &[u8]) -> Vec<u8> {
        let mut member = b"of an earlier group".to_vec();
        encoder.encode(&mut group.to_vec(), &mut member).unwrap();
        member
    }

    #[test]
    fn others_read_a_row_of_members() {
        let (one, other) = (noise(100_000), noise(77));
        let members = |algorithm: Algorithm| {
            let mut encoder = Encoder::new(algorithm.into());
            [member(&mut encoder, &one), member(&mut encoder, &other)].concat()
        };
        let tar = [one.as_slice(), &other].concat();
        let mut read = Vec::new();
        MultiGzDecoder::new(members(Algorithm::Gzip).as_slice()).read_to_end(&mut read).unwrap();
        assert!(read == tar);
        assert!(zstd::stream::decode_all(members(Algorithm::Zstd).as_slice()).unwrap() == tar);
        assert!(members(Algorithm::None) == tar);
    }

    #[test]
    fn a_used_encoder_gives_what_a_new_one_gives() {
        for algorithm in [Algorithm::Gzip, Algorithm::Zstd, Algorithm::None] {
            for level in algorithm.levels() {
                let compression = Compression::at_level(algorithm, level).unwrap();
                let mut used = Encoder::new(compression);
                member(&mut used, &noise(20_000));
                let group = noise(30_000);
                let new = member(&mut Encoder::new(compression), &group);
                assert!(member(&mut used, &group) == new, "{}", compressor_id(compression));
            }
        }
    }
}
