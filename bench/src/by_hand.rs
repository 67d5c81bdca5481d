//! Logs by hand: what a file, a lock and a sync give to somebody who writes forty lines instead of using a log.
//!
//! They have a length and a checksum per record and nothing else: no segments, no batches, no recovery of a torn tail,
//! no answer to a full disk. They are the price of a system call and of a sync, not rivals.
//!
//! # Concurrency
//! One mutex orders the writes. In synced variants one waiter leads: it syncs for everybody whose write is in the file,
//! and wakes all of them through one condition variable.

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard};

use crate::error::{Context, Error, Result};
use crate::fsync_rate::create_prewritten;
use crate::log_store::{Class, DiskCounts, LogKind, LogStore, LogWriter, Promise, Replayed};

const FILE_NAME: &str = "by-hand.log";
const FRAME_HEADER_BYTES: usize = 8;
/// LIMIT: a longer record is damage, not a reason to allocate.
const RECORD_BYTES_MAX: usize = 32 << 20;

/// What is done with each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByHand {
    /// Copied to a buffer, which is written when it holds this many bytes.
    Buffered {
        /// Size of the buffer.
        buffer_bytes: usize,
    },
    /// One write each, to a file that grows.
    Written,
    /// One write each to a file that grows, and a sync that waiters share.
    SyncedGrowing,
    /// One write each to blocks that are written ahead and used in a ring, and a sync that waiters share.
    SyncedPrewritten {
        /// Size of the ring.
        ring_bytes: u64,
    },
}

impl ByHand {
    fn is_synced(self) -> bool {
        matches!(self, ByHand::SyncedGrowing | ByHand::SyncedPrewritten { .. })
    }
}

impl LogKind for ByHand {
    fn name(&self) -> String {
        match self {
            ByHand::Buffered { .. } => "by-hand-buffered",
            ByHand::Written => "by-hand-written",
            ByHand::SyncedGrowing => "by-hand-growing",
            ByHand::SyncedPrewritten { .. } => "by-hand-prewritten",
        }
        .into()
    }

    fn settings(&self) -> String {
        match self {
            ByHand::Buffered { buffer_bytes } => {
                format!("growing file, buffer of {buffer_bytes} bytes")
            }
            ByHand::Written => "growing file, one pwrite per record".into(),
            ByHand::SyncedGrowing => "growing file, one pwrite per record, shared fdatasync".into(),
            ByHand::SyncedPrewritten { ring_bytes } => {
                format!(
                    "ring of {ring_bytes} written-ahead bytes, one pwrite per record, shared fdatasync"
                )
            }
        }
    }

    fn promise(&self) -> Promise {
        match self {
            ByHand::Buffered { .. } => {
                Promise::new(Class::Memory, "copied to a buffer of the process")
            }
            ByHand::Written => Promise::new(Class::Kernel, "write returned; never synced"),
            ByHand::SyncedGrowing | ByHand::SyncedPrewritten { .. } => {
                Promise::new(Class::Synced, "an fdatasync begun after the write returned")
            }
        }
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn LogStore>> {
        let path = dir.join(FILE_NAME);
        let file = match self {
            ByHand::SyncedPrewritten { ring_bytes } => create_prewritten(&path, *ring_bytes),
            _ => OpenOptions::new().read(true).write(true).create_new(true).open(&path),
        };
        let file = file.context(|| format!("cannot create {}", path.display()))?;
        Ok(Box::new(ByHandLog {
            kind: *self,
            file,
            state: Mutex::new(State::default()),
            synced: Condvar::new(),
        }))
    }

    fn replay(&self, dir: &Path) -> Result<(Replayed, Box<dyn Any>)> {
        Ok((replay_file(&dir.join(FILE_NAME))?, Box::new(())))
    }
}

/// Appends length, checksum and record to a buffer.
pub(crate) fn encode_frame(frame: &mut Vec<u8>, record: &[u8]) {
    frame.extend_from_slice(&(record.len() as u32).to_le_bytes());
    frame.extend_from_slice(&crc32c::crc32c(record).to_le_bytes());
    frame.extend_from_slice(record);
}

/// Reads all frames of a file; a length of zero ends it.
pub(crate) fn replay_file(path: &Path) -> Result<Replayed> {
    let context = || format!("cannot read {}", path.display());
    let mut file = File::open(path).context(context)?;
    let mut replayed = Replayed::default();
    let (mut buffer, mut filled) = (vec![0u8; 1 << 20], 0);
    loop {
        let read = file.read(&mut buffer[filled..]).context(context)?;
        filled += read;
        let (used, wanted) = replay_frames(&buffer[..filled], &mut replayed, path)?;
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if read == 0 || wanted == 0 {
            return Ok(replayed);
        }
        if wanted > buffer.len() {
            buffer.resize(wanted, 0);
        }
    }
}

/// Reads whole frames; returns the bytes used, and the size of the frame that is cut (0 = the log ended).
fn replay_frames(bytes: &[u8], replayed: &mut Replayed, path: &Path) -> Result<(usize, usize)> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let mut at = 0;
    while at + FRAME_HEADER_BYTES <= bytes.len() {
        let length = word(at) as usize;
        if length == 0 {
            return Ok((at, 0));
        }
        if length > RECORD_BYTES_MAX {
            return Err(Error::new(format!(
                "{} claims a record of {length} bytes",
                path.display()
            )));
        }
        let end = at + FRAME_HEADER_BYTES + length;
        if end > bytes.len() {
            return Ok((at, end - at));
        }
        let record = &bytes[at + FRAME_HEADER_BYTES..end];
        if crc32c::crc32c(record) != word(at + 4) {
            let number = replayed.records;
            return Err(Error::new(format!(
                "{}: wrong checksum of record {number}",
                path.display()
            )));
        }
        replayed.records += 1;
        replayed.payload_bytes += length as u64;
        at = end;
    }
    Ok((at, FRAME_HEADER_BYTES))
}

#[derive(Default)]
struct State {
    /// Where the next write goes.
    offset: u64,
    /// Appends whose write returned, and those of them that a sync covers.
    written: u64,
    durable: u64,
    syncing: bool,
    failed: bool,
    counts: DiskCounts,
    buffer: Vec<u8>,
}

struct ByHandLog {
    kind: ByHand,
    file: File,
    state: Mutex<State>,
    synced: Condvar,
}

impl ByHandLog {
    fn lock(&self) -> Result<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| Error::new("a writer of the log by hand panicked"))
    }

    fn write(&self, state: &mut State, bytes: &[u8]) -> Result<()> {
        if let ByHand::SyncedPrewritten { ring_bytes } = self.kind
            && state.offset + bytes.len() as u64 > ring_bytes
        {
            state.offset = 0;
        }
        self.file
            .write_all_at(bytes, state.offset)
            .context(|| format!("a write at {} failed", state.offset))?;
        state.offset += bytes.len() as u64;
        state.counts.writes += 1;
        state.counts.written_bytes += bytes.len() as u64;
        Ok(())
    }

    fn write_buffer(&self, state: &mut State) -> Result<()> {
        let mut buffer = std::mem::take(&mut state.buffer);
        let result = self.write(state, &buffer);
        buffer.clear();
        state.buffer = buffer;
        result
    }

    /// Waits until a sync covers the first `mine` appends, leading one when nobody does.
    fn wait_durable<'a>(&'a self, mut state: MutexGuard<'a, State>, mine: u64) -> Result<()> {
        while state.durable < mine {
            if state.failed {
                return Err(Error::new(
                    "a sync of the log by hand failed; what it covered may be lost",
                ));
            }
            if state.syncing {
                state = self.synced.wait(state).map_err(|_| Error::new("the leader panicked"))?;
                continue;
            }
            state.syncing = true;
            let covered = state.written;
            drop(state);
            // DURABILITY: one sync for every write that returned before it.
            let result = self.file.sync_data();
            state = self.lock()?;
            state.syncing = false;
            state.counts.fsyncs += 1;
            match result {
                Ok(()) => state.durable = covered,
                Err(_) => state.failed = true,
            }
            self.synced.notify_all();
        }
        Ok(())
    }
}

impl LogStore for ByHandLog {
    fn writer(&self) -> Result<Box<dyn LogWriter + '_>> {
        Ok(Box::new(ByHandWriter { log: self, frame: Vec::new() }))
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.lock()?;
        if !state.buffer.is_empty() {
            self.write_buffer(&mut state)?;
        }
        let written = state.written;
        self.wait_durable(state, written)
    }

    fn disk_counts(&self) -> Option<DiskCounts> {
        self.state.lock().ok().map(|state| state.counts)
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.sync()
    }
}

struct ByHandWriter<'a> {
    log: &'a ByHandLog,
    frame: Vec<u8>,
}

impl LogWriter for ByHandWriter<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let log = self.log;
        self.frame.clear();
        encode_frame(&mut self.frame, record);
        let mut state = log.lock()?;
        state.written += 1;
        if let ByHand::Buffered { buffer_bytes } = log.kind {
            state.buffer.extend_from_slice(&self.frame);
            if state.buffer.len() < buffer_bytes {
                return Ok(());
            }
            return log.write_buffer(&mut state);
        }
        log.write(&mut state, &self.frame)?;
        if !log.kind.is_synced() {
            return Ok(());
        }
        let mine = state.written;
        log.wait_durable(state, mine)
    }
}
