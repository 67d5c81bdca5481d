//! The reserve of a full disk: a file of nothing, `RESERVE`, that is given up when the disk is full, so that deletes, jobs of
//! compaction and edits of the manifest have room, and a full database can free itself.
//!
//! # Invariants
//! - Puts never draw on it: from when it is given up until it is made again they answer `StorageFull`.
//! - It holds no data: it may be missing, of any length, or go at any time. Nobody counts on it after a crash.
//!
//! # Concurrency
//! Whoever writes asks one flag. Giving up and making again are under a lock.
//!
//! # Failure
//! A file system that cannot reserve space has no reserve; puts then go on as long as the log finds room.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cortenkv_wal::Wal;
use cortenkv_wal::vfs::{OpenMode, Vfs};

use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::parts::Clock;
use crate::sync::lock;

const NAME: &str = "RESERVE";
/// What is reserved for a database however small.
const BYTES_MIN: u64 = 1 << 20;
/// It follows what lives in steps of this: else each new segment would change it.
const STEP_BYTES: u64 = 1 << 20;
/// How long a put waits before it asks a full disk again.
const RETRY: Duration = Duration::from_secs(1);

/// See above.
pub(crate) struct Reserve {
    vfs: Arc<dyn Vfs>,
    clock: Arc<dyn Clock>,
    path: PathBuf,
    /// Puts are refused.
    is_given_up: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// What the user asked for; `None` follows what lives.
    fixed_bytes: Option<u64>,
    /// What there should be.
    wanted_bytes: u64,
    /// What there is.
    held_bytes: u64,
    retry_at: Duration,
}

impl Reserve {
    /// Makes the reserve of a database whose log is open. Where there is no room for it, puts are refused until there is.
    pub(super) fn open(wal: &Wal, options: &Options) -> Self {
        let fixed_bytes = options.reserve_bytes;
        let wanted_bytes = if options.read_only { 0 } else { fixed_bytes.unwrap_or(BYTES_MIN) };
        let reserve = Reserve {
            vfs: Arc::clone(&options.platform.vfs),
            clock: Arc::clone(&options.clock),
            path: wal.dir().join(NAME),
            is_given_up: AtomicBool::new(false),
            state: Mutex::new(State {
                fixed_bytes,
                wanted_bytes,
                held_bytes: 0,
                retry_at: Duration::ZERO,
            }),
        };
        if wanted_bytes > 0 {
            reserve.make(wal, &mut lock(&reserve.state));
        } else if !options.read_only {
            // There may be none, or it stays: it is in nobody's way.
            let _ = reserve.vfs.remove_file(&reserve.path);
        }
        reserve
    }

    /// Refuses a put while the reserve is given up, and the disk still full.
    #[inline]
    pub(super) fn admit_put(&self, wal: &Wal) -> Result<()> {
        match self.is_given_up.load(Relaxed) {
            true => self.admit_late(wal),
            false => Ok(()),
        }
    }

    #[cold]
    fn admit_late(&self, wal: &Wal) -> Result<()> {
        {
            let mut state = lock(&self.state);
            let now = self.clock.monotonic();
            if now >= state.retry_at {
                state.retry_at = now.saturating_add(RETRY);
                self.make(wal, &mut state);
            }
        }
        match self.is_given_up.load(Relaxed) {
            true => Err(full()),
            false => Ok(()),
        }
    }

    /// Gives the reserve up: from now on there is room for what frees space, and puts are refused. False if there was none.
    pub(super) fn give_up(&self, wal: &Wal) -> bool {
        let mut state = lock(&self.state);
        if state.held_bytes == 0 {
            return false;
        }
        // Before there is room that a put could take.
        self.is_given_up.store(true, Relaxed);
        wal.set_frugal(true);
        state.retry_at = self.clock.monotonic().saturating_add(RETRY);
        // DURABILITY: none, the file holds nothing.
        if self.vfs.remove_file(&self.path).is_err() {
            return false;
        }
        state.held_bytes = 0;
        true
    }

    /// Makes the reserve as large as what lives asks for (`output_bytes` is the most that a job writes at a time). One that was
    /// given up is made again only if something was freed: else a job that finds too little room would take turns with it.
    pub(super) fn follow(&self, wal: &Wal, live_bytes: u64, output_bytes: u64, is_freed: bool) {
        let mut state = lock(&self.state);
        if state.wanted_bytes == 0 || self.is_given_up.load(Relaxed) && !is_freed {
            return;
        }
        let by_live = (live_bytes / 20).min(output_bytes).next_multiple_of(STEP_BYTES);
        state.wanted_bytes = state.fixed_bytes.unwrap_or(by_live.max(BYTES_MIN));
        if state.held_bytes < state.wanted_bytes {
            self.make(wal, &mut state);
        }
    }

    /// What jobs may write at the moment. While the reserve is given up: half of it, the rest is for the log.
    pub(super) fn room_bytes(&self) -> u64 {
        match self.is_given_up.load(Relaxed) {
            true => lock(&self.state).wanted_bytes / 2,
            false => u64::MAX,
        }
    }

    fn make(&self, wal: &Wal, state: &mut State) {
        match self.allocate(state.wanted_bytes) {
            Ok(()) => state.held_bytes = state.wanted_bytes,
            Err(e) if is_full(&e) => {
                if state.held_bytes == 0 {
                    // What of it was reserved is needed more by others.
                    let _ = self.vfs.remove_file(&self.path);
                    self.is_given_up.store(true, Relaxed);
                    wal.set_frugal(true);
                }
                return;
            }
            Err(_) => (state.held_bytes, state.wanted_bytes) = (0, 0),
        }
        if self.is_given_up.swap(false, Relaxed) {
            wal.set_frugal(false);
        }
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let file = match self.vfs.open(&self.path, OpenMode::CreateNew) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                self.vfs.open(&self.path, OpenMode::Write)?
            }
            opened => opened?,
        };
        if file.len()? > bytes {
            file.set_len(bytes)?;
        }
        file.allocate(0, bytes)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn full() -> Error {
    Error::new(
        ErrorKind::StorageFull,
        "the disk is full, and what is left of it is kept for what frees space; delete something or free some space, and \
         writes resume by themselves",
    )
}
