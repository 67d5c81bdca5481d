//! The naive arm: one lock, a sequence number taken under it, one write and one fdatasync per record.
//!
//! What a store does before anybody thinks about group commit; gains are measured against it (P1, D5). It gets blocks
//! that are written ahead, so that the gain shown is that of sharing syncs and nothing else.

use std::any::Any;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;

use crate::by_hand::{encode_frame, replay_file};
use crate::error::{Context, Error, Result};
use crate::fsync_rate::create_prewritten;
use crate::log_store::{Class, DiskCounts, LogKind, LogStore, LogWriter, Promise, Replayed};

const FILE_NAME: &str = "naive.log";

/// The naive log.
#[derive(Debug, Clone, Copy)]
pub struct Naive {
    /// Bytes written ahead; the log goes round in them.
    pub ring_bytes: u64,
}

impl LogKind for Naive {
    fn name(&self) -> String {
        "naive".into()
    }

    fn settings(&self) -> String {
        format!(
            "one lock, sequence under it, pwrite + fdatasync each; ring of {} written-ahead bytes",
            self.ring_bytes
        )
    }

    fn promise(&self) -> Promise {
        Promise::new(Class::Synced, "an fdatasync of its own returned")
    }

    fn open(&self, dir: &Path) -> Result<Box<dyn LogStore>> {
        let path = dir.join(FILE_NAME);
        let file = create_prewritten(&path, self.ring_bytes)
            .context(|| format!("cannot create {}", path.display()))?;
        let state = State { offset: 0, sequence: 0, fsyncs: 0, frame: Vec::new() };
        Ok(Box::new(NaiveLog { file, ring_bytes: self.ring_bytes, state: Mutex::new(state) }))
    }

    fn replay(&self, dir: &Path) -> Result<(Replayed, Box<dyn Any>)> {
        Ok((replay_file(&dir.join(FILE_NAME))?, Box::new(())))
    }
}

struct State {
    offset: u64,
    sequence: u64,
    fsyncs: u64,
    frame: Vec<u8>,
}

struct NaiveLog {
    file: File,
    ring_bytes: u64,
    state: Mutex<State>,
}

impl LogStore for NaiveLog {
    fn writer(&self) -> Result<Box<dyn LogWriter + '_>> {
        Ok(Box::new(NaiveWriter { log: self }))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn disk_counts(&self) -> Option<DiskCounts> {
        let state = self.state.lock().ok()?;
        Some(DiskCounts { fsyncs: state.fsyncs, writes: state.sequence, ..DiskCounts::default() })
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct NaiveWriter<'a> {
    log: &'a NaiveLog,
}

impl LogWriter for NaiveWriter<'_> {
    fn append(&mut self, record: &[u8]) -> Result<()> {
        let mut state = self.log.state.lock().map_err(|_| Error::new("a writer panicked"))?;
        let state = &mut *state;
        state.sequence += 1;
        state.frame.clear();
        encode_frame(&mut state.frame, record);
        let frame_bytes = state.frame.len() as u64;
        if state.offset + frame_bytes > self.log.ring_bytes {
            state.offset = 0;
        }
        let result = self
            .log
            .file
            .write_all_at(&state.frame, state.offset)
            // DURABILITY: the sync per record that group commit does away with.
            .and_then(|()| self.log.file.sync_data());
        result.context(|| format!("record {} of the naive log failed", state.sequence))?;
        state.offset += frame_bytes;
        state.fsyncs += 1;
        Ok(())
    }
}
