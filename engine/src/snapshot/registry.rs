//! The snapshots that are open: what each keeps, and what nobody may forget because of them.
//!
//! # Invariants
//! - A version goes to the snapshot that is the newest when it is replaced. A reader at a snapshot finds all that it needs
//!   there or in newer ones; older ones it does not ask.
//! - A snapshot that goes leaves what older ones need to the next older one, before it is out of the list.
//! - What is history to [`Horizon`] is history to every snapshot, also to those that will be opened.
//!
//! # Concurrency
//! The list is locked for a few instructions at a time: by writers that replace a version, by readers at a snapshot that
//! ask for one, by who opens or closes. Nothing else is called under it but the clock.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use super::versions::Versions;
use super::word::{NewestWord, PENDING};
use crate::address::Address;
use crate::parts::Clock;
use crate::parts::bugs::{Bug, planted};
use crate::record::SeqNo;
use crate::sync::{read, write};

/// One snapshot, as everybody but its owner sees it.
#[derive(Debug)]
pub(super) struct View {
    /// Snapshots are numbered in the order in which they are opened.
    pub(super) serial: u64,
    /// `PENDING` until it is chosen.
    seq: AtomicU64,
    /// Every commit up to this number was installed before the snapshot was announced.
    #[allow(dead_code, reason = "only compaction and key order ask what may be forgotten")]
    floor: SeqNo,
    /// The moment at which lives are judged.
    pub(super) now_ms: u64,
    pub(super) opened_at: Duration,
    pub(super) versions: Versions,
    /// What it keeps is on its way to the next older one: it takes nothing more.
    is_leaving: AtomicBool,
    /// Its owner has it still, and it shows nothing any more.
    is_given_up: AtomicBool,
}

/// What is history to all snapshots, open ones and those to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "only compaction and key order ask what may be forgotten")]
pub(crate) struct Horizon {
    /// A tombstone up to this number hides nothing that a snapshot is to show.
    pub(crate) seq: SeqNo,
    /// What has ended by then has ended for everybody.
    pub(crate) now_ms: u64,
}

/// The snapshots of a database.
#[derive(Debug)]
pub(crate) struct Snapshots {
    newest: NewestWord,
    /// In the order of their opening.
    open: RwLock<Vec<Arc<View>>>,
    /// Held while one is opened.
    pub(super) opening: Mutex<()>,
    /// Held while one goes.
    pub(super) leaving: Mutex<()>,
    serials: AtomicU64,
    /// Every commit up to this number is installed: the number of the last snapshot.
    settled: AtomicU64,
    /// Bytes of segments and records that are there for snapshots only.
    retained_bytes: AtomicU64,
    pub(super) given_up: AtomicU64,
}

impl View {
    pub(super) fn seq(&self) -> SeqNo {
        self.seq.load(Acquire)
    }

    pub(super) fn is_given_up(&self) -> bool {
        // ORDERING: Acquire, pairs with the store in `give_up`, which comes before anything is released: who misses a version
        // for that reason has seen it in a lock, in the index or in a slot, and sees this.
        self.is_given_up.load(Acquire)
    }

    /// Marks it as given up; false if it was already.
    pub(super) fn give_up(&self) -> bool {
        !self.is_given_up.swap(true, Release)
    }
}

impl Snapshots {
    pub(crate) fn new() -> Self {
        Snapshots {
            newest: NewestWord::new(),
            open: RwLock::default(),
            opening: Mutex::default(),
            leaving: Mutex::default(),
            serials: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            retained_bytes: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        }
    }

    /// True if a version of this number, which is about to be replaced, has to be kept.
    #[inline]
    pub(crate) fn covers(&self, seq: SeqNo) -> bool {
        self.newest.covers(seq)
    }

    /// True while a snapshot is open or being opened. What was seen before the call to be dead is so to every snapshot that
    /// is not open then.
    ///
    /// The writer that made it dead was through with its commit, or was in the gate before who opens the snapshot, so the
    /// number of the snapshot is not below that of the commit. Or it came after, and saw "pending", and so does who sees
    /// what it wrote. The fence orders the clock, by which the caller may have judged, before the load.
    #[inline]
    pub(crate) fn are_open(&self) -> bool {
        fence(SeqCst);
        self.newest.is_set()
    }

    /// Keeps a version that is about to be replaced, or that came too late to be installed.
    #[cold]
    pub(crate) fn keep(&self, hash: u64, seq: SeqNo, address: Address) {
        let open = read(&self.open);
        // The one that it was meant for may be gone.
        if let Some(newest) = newest_of(&open)
            && seq <= newest.seq()
        {
            newest.versions.keep(hash, address);
        }
    }

    /// Keeps a record of a database in memory that was replaced; false if nobody needs it.
    pub(crate) fn keep_record(&self, address: Address, bytes: u64) -> bool {
        if !self.newest.is_set() {
            return false;
        }
        // Before it is kept: who releases it takes away what was added.
        self.retain(bytes);
        let is_kept = self.with_newest(|newest| newest.keep_record(address));
        if !is_kept {
            self.release(bytes);
        }
        is_kept
    }

    /// Keeps a tombstone of a database in memory; false if it hides nothing.
    pub(crate) fn keep_tombstone(&self, address: Address) -> bool {
        self.newest.is_set() && self.with_newest(|newest| newest.keep_tombstone(address))
    }

    fn with_newest(&self, keep: impl FnOnce(&Versions)) -> bool {
        let open = read(&self.open);
        newest_of(&open).map(|newest| keep(&newest.versions)).is_some()
    }

    /// The versions of a hash that were replaced since a snapshot was opened.
    pub(super) fn versions_since(&self, serial: u64, hash: u64) -> Vec<Address> {
        let mut found = Vec::new();
        let open = read(&self.open);
        for view in open.iter().rev().take_while(|view| view.serial >= serial) {
            view.versions.find(hash, &mut found);
        }
        found
    }

    /// What may be forgotten; of what was found before the call. Later snapshots see all of it as gone, for the reason that
    /// [`are_open`](Self::are_open) gives, and because the clock is read under the lock.
    #[allow(dead_code, reason = "only compaction and key order ask what may be forgotten")]
    pub(crate) fn horizon(&self, clock: &dyn Clock) -> Horizon {
        let open = read(&self.open);
        let seq = open.iter().map(|view| view.floor).min();
        let now_ms = open.iter().map(|view| view.now_ms).min();
        Horizon {
            seq: seq.unwrap_or(SeqNo::MAX),
            now_ms: now_ms.unwrap_or(u64::MAX).min(clock.wall_ms()),
        }
    }

    /// Announces a snapshot: from now on every version that is replaced is kept for it.
    pub(super) fn announce(&self, clock: &dyn Clock) -> Arc<View> {
        let mut open = write(&self.open);
        self.newest.set(PENDING);
        let view = Arc::new(View {
            serial: self.serials.fetch_add(1, Relaxed) + 1,
            seq: AtomicU64::new(PENDING),
            floor: self.settled.load(Relaxed),
            now_ms: clock.wall_ms(),
            opened_at: clock.monotonic(),
            versions: Versions::default(),
            is_leaving: AtomicBool::new(false),
            is_given_up: AtomicBool::new(false),
        });
        open.push(Arc::clone(&view));
        view
    }

    /// The number of a snapshot is chosen.
    pub(super) fn fix(&self, view: &View, seq: SeqNo) {
        let open = write(&self.open);
        view.seq.store(seq, Release);
        self.settled.store(seq, Relaxed);
        self.newest.set(newest_seq(&open));
    }

    /// A snapshot begins to go: it takes no version any more. Returns the next older one, which is to have what it needs;
    /// without one it is out of the list.
    pub(super) fn begin_to_leave(&self, view: &View) -> Option<Arc<View>> {
        let mut open = write(&self.open);
        let place = open.iter().position(|other| other.serial == view.serial)?;
        view.is_leaving.store(true, Relaxed);
        let heir = place.checked_sub(1).map(|older| Arc::clone(&open[older]));
        if heir.is_none() || planted(Bug::SnapshotVersionsFreedEarly) {
            open.remove(place);
        }
        self.newest.set(newest_seq(&open));
        heir
    }

    /// The older one has what it needs.
    pub(super) fn end_to_leave(&self, view: &View) {
        write(&self.open).retain(|other| other.serial != view.serial);
    }

    pub(super) fn oldest(&self) -> Option<Arc<View>> {
        read(&self.open).first().cloned()
    }

    /// The serial of the oldest snapshot that is open.
    #[allow(dead_code, reason = "a build without compaction retires no segment")]
    pub(crate) fn oldest_serial(&self) -> Option<u64> {
        read(&self.open).first().map(|view| view.serial)
    }

    /// The serial of the newest snapshot that is open or being opened.
    #[allow(dead_code, reason = "a build without compaction retires no segment")]
    pub(crate) fn newest_serial(&self) -> Option<u64> {
        read(&self.open).last().map(|view| view.serial)
    }

    /// Bytes stay on disk or in memory for snapshots only.
    pub(crate) fn retain(&self, bytes: u64) {
        self.retained_bytes.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn release(&self, bytes: u64) {
        self.retained_bytes.fetch_sub(bytes, Relaxed);
    }

    pub(super) fn retained_bytes(&self) -> u64 {
        self.retained_bytes.load(Relaxed)
    }

    /// Open ones, versions, and the memory of the latter in bytes.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        let open: Vec<Arc<View>> = read(&self.open).clone();
        let versions: usize = open.iter().map(|view| view.versions.len()).sum();
        let bytes: usize = open.iter().map(|view| view.versions.memory_bytes()).sum();
        (open.len() as u64, versions as u64, bytes as u64)
    }
}

/// The newest that takes versions.
fn newest_of(open: &[Arc<View>]) -> Option<&Arc<View>> {
    open.iter().rev().find(|view| !view.is_leaving.load(Relaxed))
}

fn newest_seq(open: &[Arc<View>]) -> SeqNo {
    newest_of(open).map_or(0, |view| view.seq())
}
