//! The one shared state behind all handles of a database.
//!
//! # Layout
//! `write.rs` and `read.rs` hold the two paths through it, `install.rs` the way from the log into the index.
//!
//! # Concurrency
//! Reads take no lock. Whoever changes the index shares the gate meanwhile: with the gate alone nobody does.
//!
//! # Failure
//! One latch: the first failure that leaves memory and disk apart refuses every later write. Reads go on.

use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{OnceLock, RwLock};

use crate::address::{Address, Location};
use crate::background::Background;
use crate::catalog::Catalog;
use crate::error::{ClosedReason, Error, ErrorKind, Result};
use crate::in_flight::InFlight;
use crate::log::Log;
use crate::options::Options;
use crate::parts::{self, Clock, Compaction, Holds, Images, Index};
use crate::pinned::Source;
use crate::record::{Footprint, Rank, RecordRef, SeqNo};
use crate::slots::{Mounted, SlotTable};
use crate::snapshot::Snapshots;
use crate::stats::{Counters, OpenReport};

/// A database.
pub(crate) struct Core {
    pub(crate) log: Log,
    pub(crate) index: Index,
    pub(crate) background: Background,
    pub(crate) compaction: Compaction,
    pub(crate) images: Images,
    /// Files that stay or go.
    #[allow(dead_code, reason = "a build without a log on disk has no files")]
    pub(crate) holds: Holds,
    pub(crate) slots: SlotTable,
    /// The last commit that the leader of a sync has installed; it has the gate meanwhile.
    pub(crate) led_seq: AtomicU64,
    /// Batches that are on their way into the index.
    pub(crate) in_flight: InFlight,
    pub(crate) snapshots: Snapshots,
    pub(crate) catalog: Catalog,
    pub(crate) options: Options,
    pub(crate) counters: Counters,
    pub(crate) report: OnceLock<OpenReport>,
    /// Shared by whoever changes the index of a database on disk: by commits that install themselves, from the append until
    /// they have, by the leader of a sync for the time of a call, by compaction for a record. A commit that waits for its sync
    /// does not have it.
    pub(crate) gate: RwLock<()>,
    closed: AtomicBool,
    pub(crate) latch: OnceLock<Error>,
    /// True once a record could not be read while its successor was installed: it may stand beside it in the index.
    pub(crate) met_unreadable: AtomicBool,
}

/// What the index is told about a record that it has an address of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// It belongs to the key in question.
    Same(Rank),
    /// It belongs to another key, or cannot be read.
    Other,
    /// The record is no more: the index is looked at again.
    Gone,
}

/// What became of a record that was offered to the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installed {
    /// The key is new.
    Inserted,
    /// It took the place of an older record.
    Replaced { old: Address, was: Footprint },
    /// A newer record is there; the offered one is dead.
    Stale,
    /// It was there already.
    Present,
}

impl Core {
    pub(crate) fn new(
        log: Log,
        index: Index,
        catalog: Catalog,
        compaction: Compaction,
        images: Images,
        options: Options,
    ) -> Self {
        Core {
            log,
            index,
            background: Background::default(),
            compaction,
            images,
            holds: Holds::default(),
            slots: SlotTable::new(),
            led_seq: AtomicU64::new(0),
            in_flight: InFlight::new(),
            snapshots: Snapshots::new(),
            catalog,
            options,
            counters: Counters::default(),
            report: OnceLock::new(),
            gate: RwLock::default(),
            closed: AtomicBool::new(false),
            latch: OnceLock::new(),
            met_unreadable: AtomicBool::new(false),
        }
    }

    /// The present moment by the clock of the database.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock().wall_ms()
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        self.options.clock.as_ref()
    }

    /// Refuses calls after `close`.
    pub(crate) fn check_open(&self) -> Result<()> {
        // ORDERING: pairs with the swap in `close`; publishes nothing but the flag.
        match self.closed.load(Acquire) {
            true => Err(Error::closed(ClosedReason::Clean)),
            false => Ok(()),
        }
    }

    /// Refuses writes after `close` and after a latched failure.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        match self.latch.get() {
            Some(cause) => Err(cause.clone()),
            None => Ok(()),
        }
    }

    /// Latches what the log answered, unless it is a refusal that changes nothing.
    pub(crate) fn note_failure(&self, error: &Error) {
        match error.kind() {
            ErrorKind::Closed(ClosedReason::Clean) => {}
            ErrorKind::Io | ErrorKind::Closed(_) => self.poison(error),
            _ => {}
        }
    }

    /// Latches a failure that a reopen has to look into.
    pub(crate) fn poison(&self, cause: &Error) {
        let error = Error::with_source(
            ErrorKind::Closed(ClosedReason::Poisoned),
            Error::closed(ClosedReason::Poisoned).context(),
            cause.clone(),
        );
        // The first failure is the one to report.
        let _ = self.latch.set(error);
    }

    /// Refuses writes from now on because a thread of the database panicked.
    pub(crate) fn latch_panic(&self) {
        let _ = self.latch.set(Error::closed(ClosedReason::Panicked));
    }

    /// Refuses writes from now on because the database was opened to be looked at.
    pub(crate) fn refuse_writes(&self) {
        let _ = self.latch.set(Error::unsupported(
            "the database was opened read-only; open it without `read_only` to write",
        ));
    }

    /// Makes everything appended so far durable and visible.
    pub(crate) fn sync(&self) -> Result<SeqNo> {
        self.check_writable()?;
        self.log.sync().inspect_err(|error| self.note_failure(error))
    }

    /// Ends the database; the second call and later ones do nothing.
    pub(crate) fn close(&self) -> Result<()> {
        // ORDERING: pairs with the load in `check_open`; exactly one caller goes on to close the log.
        if self.closed.swap(true, AcqRel) {
            return Ok(());
        }
        self.compaction.stop();
        self.background.stop();
        self.images.write_last(self);
        self.log.close()?;
        // The log is whole; but after a failure outside it (of the manifest, say) nobody is told that all went well.
        match self.latch.get() {
            Some(cause) if !self.options.read_only => Err(cause.clone()),
            _ => Ok(()),
        }
    }

    /// The address of a record, for the index.
    #[inline]
    pub(crate) fn address_of(&self, location: Location) -> Result<Address> {
        self.slots.address(location, |id, slot| self.mount(id, slot), |_| {})
    }

    /// As [`Core::address_of`], for a record that is new: it is counted as live.
    #[inline]
    pub(crate) fn enter(&self, record: &RecordRef<'_>) -> Result<Address> {
        let count = |mounted: &Mounted| mounted.liveness.add(record.footprint());
        self.slots.address(record.location, |id, slot| self.mount(id, slot), count)
    }

    pub(crate) fn mount(&self, id: u64, slot: u16) -> Result<Mounted> {
        // What is known of the segment that stood there before.
        self.index.begin_slot(slot);
        self.images.note_segment();
        self.compaction.notify();
        let liveness = self.compaction.liveness(id);
        self.log.segment(id).map(|segment| Mounted { segment, liveness })
    }

    /// Asks for the first bytes of a record.
    #[inline]
    pub(crate) fn prefetch_record(&self, address: Address) {
        self.slots.with(address, |mounted| {
            if let Some(bytes) = mounted.segment.prefetchable(address.offset()) {
                parts::prefetch(bytes);
            }
        });
    }

    /// Shows the record at an address; `None` when there is none any more.
    #[inline]
    pub(crate) fn read_at<R>(
        &self,
        address: Address,
        show: impl FnOnce(&RecordRef<'_>, Source<'_>) -> R,
    ) -> Result<Option<R>> {
        let read = |mounted: &Mounted| self.log.read_with(&mounted.segment, address.offset(), show);
        self.slots.with(address, read).unwrap_or(Ok(None))
    }

    /// True when a key may have several entries in the index.
    #[inline]
    pub(crate) fn met_unreadable(&self) -> bool {
        // ORDERING: Acquire, pairs with the store of the index. Whoever starts after the successor was installed sees it;
        // whoever runs beside that may answer either record.
        self.met_unreadable.load(Acquire)
    }
}
