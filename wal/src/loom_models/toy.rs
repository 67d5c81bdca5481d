//! A log of numbers: to append is to count, to sync is to copy the count to the disk. The train, the latch and the
//! signals are the real ones.

use std::sync::Arc as StdArc;
use std::task::{Context, Wake, Waker};

use crate::background::{Signals, Wakeup};
use crate::error::{Error, Result};
use crate::latch::Latch;
use crate::record::SeqNo;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Mutex, lock, wait};
use crate::train::{Track, Train};

/// What is wrong with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defect {
    None,
    /// The leader says that its sync covered what was published while it ran.
    LateSnapshot,
    /// The waiters are woken before `durable` moves.
    EarlyWake,
    /// A failed sync is taken for a good one.
    FailureSwallowed,
    /// A sync fails, and the next is tried.
    LatchLeftOpen,
    /// Nobody leads for futures.
    NoLeaderForTickets,
    /// Two tickets share an identity.
    TicketsMixedUp,
}

pub(super) struct Toy {
    pub(super) train: Train,
    pub(super) latch: Latch,
    pub(super) signals: Signals,
    published: Mutex<SeqNo>,
    /// What a sync covered that started after the commit was published. Relaxed: only the train gives it an order, so a
    /// rider that sees too little was told too early.
    disk: AtomicU64,
    syncs: AtomicU64,
    /// The number of the sync that fails.
    failing: Option<u64>,
    /// That sync panics instead.
    pub(super) panics: bool,
    defect: Defect,
}

impl Toy {
    pub(super) fn new(failing: Option<u64>, defect: Defect) -> Self {
        Toy {
            train: Train::new(0),
            latch: Latch::new(),
            signals: Signals::default(),
            published: Mutex::new(0),
            disk: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            failing,
            panics: false,
            defect,
        }
    }

    pub(super) fn append(&self) -> SeqNo {
        let mut published = lock(&self.published);
        *published += 1;
        *published
    }

    /// Appends and rides; what is acknowledged is on the disk.
    pub(super) fn commit(&self) -> Result<SeqNo> {
        let seq = self.append();
        self.train.ride(seq, &self.latch, self)?;
        self.assert_covered(seq);
        Ok(seq)
    }

    pub(super) fn assert_covered(&self, seq: SeqNo) {
        let disk = self.disk.load(Ordering::Relaxed);
        assert!(disk >= seq, "commit {seq} was acknowledged, but the disk has {disk} commits");
    }

    /// Nobody is left behind: no leader is wanted, since nobody waits.
    pub(super) fn assert_idle(&self) {
        assert!(!self.train.needs_leader(), "somebody still waits");
    }

    /// A ticket for a new commit.
    pub(super) fn ticket(toy: &Arc<Toy>) -> Ticket {
        let seq = toy.append();
        let id = if toy.defect == Defect::TicketsMixedUp { 0 } else { seq };
        Ticket { toy: Arc::clone(toy), seq, id }
    }

    /// What the background thread does for futures, until told to stop.
    pub(super) fn serve(&self) {
        while self.signals.wait(|| None) == Wakeup::Work {
            if self.train.needs_leader() {
                let published = *lock(&self.published);
                if self.train.ride(published, &self.latch, self).is_err() {
                    self.train.wake_all();
                }
            }
        }
    }
}

impl Track for Toy {
    fn sync(&self) -> Result<SeqNo> {
        let covered = *lock(&self.published);
        if self.defect == Defect::EarlyWake {
            self.train.wake_all();
        }
        if self.failing == Some(self.syncs.fetch_add(1, Ordering::Relaxed)) {
            if self.panics {
                // Unlike `panic!`, it does not print a message in each of thousands of interleavings.
                std::panic::resume_unwind(Box::new("a planted panic"));
            }
            let error = Error::sync_failed("disk".as_ref(), std::io::ErrorKind::Other.into());
            return match self.defect {
                Defect::FailureSwallowed => Ok(covered),
                Defect::LatchLeftOpen => Err(error),
                _ => Err(self.latch.poison(error)),
            };
        }
        self.disk.fetch_max(covered, Ordering::Relaxed);
        if self.defect == Defect::LateSnapshot {
            return Ok(*lock(&self.published));
        }
        Ok(covered)
    }

    fn request_leader(&self) {
        if self.defect != Defect::NoLeaderForTickets {
            self.signals.notify();
        }
    }
}

/// As the real ticket, on the toy.
pub(super) struct Ticket {
    toy: Arc<Toy>,
    seq: SeqNo,
    id: u64,
}

impl Ticket {
    pub(super) fn poll(&self, waker: &Waker) -> Option<Result<SeqNo>> {
        let toy = self.toy.as_ref();
        match toy.train.poll(self.seq, self.id, waker, &toy.latch, toy) {
            Ok(true) => {
                toy.assert_covered(self.seq);
                Some(Ok(self.seq))
            }
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Polls until it is resolved, asleep in between.
    pub(super) fn block_on(self) -> Result<SeqNo> {
        block_on(|context| self.poll(context.waker()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.toy.train.forget(self.id);
    }
}

/// Not a flag and `park`: loom lets a read-modify-write miss a store that happened before it.
#[derive(Default)]
struct Sleeper {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Sleeper {
    fn wake(self: StdArc<Self>) {
        *lock(&self.woken) = true;
        self.changed.notify_all();
    }
}

/// The smallest executor: one future, one thread.
pub(super) fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Option<T>) -> T {
    let sleeper = StdArc::new(Sleeper::default());
    let waker = Waker::from(StdArc::clone(&sleeper));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Some(value) = poll(&mut context) {
            return value;
        }
        let mut woken = lock(&sleeper.woken);
        while !*woken {
            woken = wait(&sleeper.changed, woken);
        }
        *woken = false;
    }
}

/// A waker for somebody who does not wait to be woken.
pub(super) fn deaf_waker() -> Waker {
    Waker::noop().clone()
}
