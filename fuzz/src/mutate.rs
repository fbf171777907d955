//! Bytes + a random number generator -> other bytes, mostly like them.

/// A small generator (xorshift64*), so that a seed gives the same run everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Returns a number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Numbers at which lengths, counts and offsets go wrong.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 8,
    u64::MAX,
];
/// The longest input, in bytes.
const INPUT_MAX: usize = 1 << 16;

/// Changes `bytes` in one to eight ways; some take from `other`.
pub(crate) fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(8) {
        once(bytes, other, random);
    }
    bytes.truncate(INPUT_MAX);
}

fn once(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if bytes.is_empty() {
        bytes.extend(other.iter().take(64));
        bytes.push(random.next() as u8);
        return;
    }
    let at = random.below(bytes.len());
    let len = 1 + random.below(16.min(bytes.len() - at));
    match random.below(10) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 | 3 => {
            let width = [1, 2, 4, 8][random.below(4)];
            let edge = EDGES[random.below(EDGES.len())];
            let edge = if random.below(4) == 0 { edge.swap_bytes() >> (64 - 8 * width) } else { edge };
            put(bytes, at, &edge.to_le_bytes()[..width]);
        }
        4 => {
            // A field moves by a little: off by one is where checks fail.
            let width = [1, 2, 4, 8][random.below(4)];
            let mut field = [0; 8];
            let held = bytes[at..].len().min(width);
            field[..held].copy_from_slice(&bytes[at..at + held]);
            let moved = u64::from_le_bytes(field).wrapping_add(random.below(33) as u64).wrapping_sub(16);
            put(bytes, at, &moved.to_le_bytes()[..width]);
        }
        5 => bytes.truncate(at),
        6 => {
            let chunk = bytes[at..at + len].to_vec();
            bytes.splice(at..at, chunk);
        }
        7 => {
            bytes.drain(at..at + len);
        }
        8 if !other.is_empty() => {
            let from = random.below(other.len());
            let chunk = &other[from..other.len().min(from + 1 + random.below(256))];
            match random.below(2) {
                0 => put(bytes, at, chunk),
                _ => {
                    bytes.splice(at..at, chunk.iter().copied());
                }
            }
        }
        _ => {
            let fill = [0, b'/', b'.', b'$', b'"', b'\n', b' ', 0xff][random.below(8)];
            bytes[at..at + len].fill(fill);
        }
    }
}

/// Puts as much of `chunk` over `bytes` from `at` on as fits.
fn put(bytes: &mut [u8], at: usize, chunk: &[u8]) {
    for (to, from) in bytes[at..].iter_mut().zip(chunk) {
        *to = *from;
    }
}
