//! The groups of a layer -> its blob, on all cores.
//!
//! One thread reads and hashes the tar, some compress, one hashes and writes the blob. The writer takes the members in
//! the order of the tar, whoever finishes first, so the bytes do not depend on the number of threads.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::cache::{GroupTable, Key, LayerKey, Member, Members};
use super::compress::Encoder;
use super::groups;
use super::plan::PlannedLayer;
use super::read::Reader;
use super::write::LayerError;
use crate::oci::{BlobWriter, Digest, Hasher};
use crate::rootfs::Rootfs;
use crate::spec::{Algorithm, Compression, Epoch, LayerOptions};

/// How many groups may be on their way, for each thread that compresses.
const QUEUE: usize = 4;

/// A layer that is to be written, and what is known of it.
pub(super) struct Task<'a> {
    pub(super) layer: &'a PlannedLayer,
    pub(super) rootfs: &'a dyn Rootfs,
    pub(super) epoch: Epoch,
    pub(super) options: &'a LayerOptions,
    pub(super) known: Option<Known<'a>>,
}

/// What a cache knows of a layer.
pub(super) struct Known<'a> {
    /// What the groups held when they were read last.
    pub(super) groups: GroupTable,
    /// The members that need not be made again.
    pub(super) members: &'a Members<'a>,
    /// As [`Reader`] has it.
    pub(super) settled: i128,
}

/// A tar that has been written into a blob.
pub(super) struct Written {
    /// The blob, not visible yet.
    pub(super) blob: BlobWriter,
    /// The digest of the tar, unless that is the blob.
    pub(super) tar: Option<Digest>,
    /// What a cache can remember; empty without one.
    pub(super) notes: Notes,
}

/// What has been seen of a layer while it was written.
pub(super) struct Notes {
    pub(super) key: LayerKey,
    pub(super) groups: Vec<(Key, Key)>,
    pub(super) members: Vec<Member>,
}

/// Buffers that have been used, so that the kernel need not clear new ones.
#[derive(Default)]
struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    fn take(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

/// A group to compress, and whom to send the member.
struct Job {
    group: Vec<u8>,
    key: Option<Key>,
    reply: SyncSender<io::Result<Done>>,
}

/// A group that is on its way.
struct Pending {
    identity: Option<Key>,
    done: Receiver<io::Result<Done>>,
}

/// A group that has been compressed.
struct Done {
    member: Vec<u8>,
    /// The keys of the group and of the member, if there is somebody to remember them.
    keys: Option<(Key, Key)>,
}

/// Writes the tar of a layer into `blob`.
pub(super) fn run(task: &Task<'_>, blob: BlobWriter) -> Result<Written, LayerError> {
    let threads = task.options.threads.get();
    let compression = task.options.compression;
    let (jobs, waiting) = sync_channel::<Job>(threads);
    let (order, pending) = sync_channel(QUEUE * threads);
    let waiting = Mutex::new(waiting);
    let pool = &Pool::default();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| compress(&waiting, compression, task.known.as_ref(), pool));
        }
        let writer = scope.spawn(move || write(&pending, compression, blob, pool));
        let tar = read(task, &jobs, &order, pool);
        drop((jobs, order));
        // The writer knows better than the reader why nobody wants more groups.
        let (blob, notes) = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(Written { blob, tar: tar?, notes })
    })
}

/// Reads the groups, queues them, and returns the digest of the tar.
fn read(
    task: &Task<'_>,
    jobs: &SyncSender<Job>,
    order: &SyncSender<Pending>,
    pool: &Pool,
) -> Result<Option<Digest>, LayerError> {
    let known = task.known.as_ref();
    let mut reader = Reader::new(task.rootfs, known.map(|known| known.settled));
    let is_compressed = task.options.compression.algorithm() != Algorithm::None;
    let mut hasher = is_compressed.then(Hasher::default);
    groups::cut(task.layer, task.epoch, |group| {
        let mut bytes = pool.take();
        let identity = reader.read(&group, &mut bytes)?;
        if let Some(hasher) = &mut hasher {
            hasher.update(&bytes);
        }
        let key = known.and_then(|known| known.groups.get(&identity?).copied());
        let (reply, done) = sync_channel(1);
        let is_wanted = order.send(Pending { identity, done }).is_ok()
            && jobs.send(Job { group: bytes, key, reply }).is_ok();
        if is_wanted { Ok(()) } else { Err(LayerError::Stopped) }
    })?;
    Ok(hasher.map(Hasher::finish))
}

/// Compresses groups until there are no more.
fn compress(jobs: &Mutex<Receiver<Job>>, compression: Compression, known: Option<&Known<'_>>, pool: &Pool) {
    let mut encoder = Encoder::new(compression);
    loop {
        // Held while waiting: the next one waits for the lock instead, which is the same.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { mut group, key, reply }) = job else { break };
        let mut member = pool.take();
        let done = match known {
            None => encoder.encode(&mut group, &mut member).map(|()| Done { member, keys: None }),
            Some(known) => remembered(&mut encoder, &mut group, member, key, known.members),
        };
        pool.give(group);
        // If nobody wants the member, the writer has failed and the reader will notice.
        let _ = reply.send(done);
    }
}

/// Returns the member of `group`, from the cache if it is there.
fn remembered(
    encoder: &mut Encoder,
    group: &mut Vec<u8>,
    mut member: Vec<u8>,
    key: Option<Key>,
    members: &Members<'_>,
) -> io::Result<Done> {
    let key = key.unwrap_or_else(|| Key::of(group));
    if let Some(member_key) = members.find(key, &mut member) {
        return Ok(Done { member, keys: Some((key, member_key)) });
    }
    let is_compressed = !matches!(encoder, Encoder::None);
    encoder.encode(group, &mut member)?;
    let member_key = if is_compressed { Key::of(&member) } else { key };
    Ok(Done { member, keys: Some((key, member_key)) })
}

/// Appends the members to `blob`.
fn write(
    pending: &Receiver<Pending>,
    compression: Compression,
    mut blob: BlobWriter,
    pool: &Pool,
) -> Result<(BlobWriter, Notes), LayerError> {
    let mut notes = Notes { key: LayerKey::new(compression), groups: Vec::new(), members: Vec::new() };
    let mut offset = 0;
    for Pending { identity, done } in pending {
        let done = done.recv().map_err(|_| LayerError::Stopped)?;
        let Done { member, keys } = done.map_err(|source| LayerError::Compress { source })?;
        if let Some((group, key)) = keys {
            notes.key.push(group);
            notes.groups.extend(identity.map(|identity| (identity, group)));
            if compression.algorithm() != Algorithm::None {
                notes.members.push(Member { group, key, offset, len: member.len() as u32 });
            }
        }
        offset += member.len() as u64;
        blob.append(&member)?;
        pool.give(member);
    }
    Ok((blob, notes))
}
