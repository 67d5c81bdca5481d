//! Group commit as a sync train: one leader syncs, everybody whose commit it covers rides along.
//!
//! 1. A committer whose sequence is durable is done. Otherwise, when nobody leads, it becomes the leader; else it waits
//!    at its own parking place.
//! 2. The leader may gather: wait a moment for as many riders as last time.
//! 3. It syncs as late as possible: whatever was published before the sync starts rides along ([`Track::sync`]).
//! 4. It hands leadership to the first waiter that is not covered, wakes it first so that the next sync starts at once,
//!    and only then wakes the covered ones, each at its own place.
//!
//! # Invariants
//! - `durable` moves only after a sync that started after the commits below it were published returned `Ok`.
//! - There is at most one leader. Leadership is handed to a parked thread or given up; futures never lead (polling must
//!   not block), so when only futures wait, [`Track::request_leader`] asks the background thread to ride, too.
//! - A leader that fails or panics closes the latch before it lets go, and wakes everybody.
//!
//! # Concurrency
//! Modelled by loom (`loom_models`) and shuttle (`tests/shuttle_wal.rs`).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;
use std::time::Duration;

use crate::error::{ClosedReason, Error, Result};
use crate::latch::Latch;
use crate::moved::Moved;
use crate::record::SeqNo;
use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use crate::sync::{Arc, Mutex, lock, thread};

/// What the train runs on.
pub(crate) trait Track {
    /// Makes everything published so far durable, installs it, and returns the last sequence covered.
    fn sync(&self) -> Result<SeqNo>;

    /// Asks somebody who may block to [`Train::ride`] soon.
    fn request_leader(&self);

    /// Waits a moment for more riders; `riders` counts those on board. Does nothing by default.
    fn gather(&self, _riders: &dyn Fn() -> usize) {}
}

/// The waiting room and the durable watermark.
#[derive(Debug)]
pub(crate) struct Train {
    durable: AtomicU64,
    room: Mutex<Room>,
    /// For those who follow the log and lead nothing.
    moved: Moved,
}

#[derive(Debug, Default)]
struct Room {
    leading: bool,
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    seq: SeqNo,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Thread(Arc<Parking>),
    Task { ticket: u64, waker: Waker },
}

/// Where one thread waits.
#[derive(Debug)]
struct Parking {
    signal: AtomicU8,
    thread: thread::Thread,
}

const WAIT: u8 = 0;
const DONE: u8 = 1;
const LEAD: u8 = 2;

impl Parking {
    fn here() -> Arc<Parking> {
        Arc::new(Parking { signal: AtomicU8::new(WAIT), thread: thread::current() })
    }

    fn wait(&self) -> u8 {
        loop {
            // ORDERING: Acquire, pairs with the Release in `wake`: the waker's changes are seen.
            let signal = self.signal.load(Ordering::Acquire);
            if signal != WAIT {
                return signal;
            }
            thread::park();
        }
    }

    fn wake(&self, signal: u8) {
        // ORDERING: Release, pairs with the Acquire in `wait`.
        self.signal.store(signal, Ordering::Release);
        self.thread.unpark();
    }
}

impl Train {
    pub(crate) fn new(durable: SeqNo) -> Self {
        let durable = AtomicU64::new(durable);
        Train { durable, room: Mutex::new(Room::default()), moved: Moved::default() }
    }

    /// Every commit up to here survives a power cut.
    pub(crate) fn durable(&self) -> SeqNo {
        // ORDERING: Acquire, pairs with the Release in `run`: whoever sees a commit durable sees it installed.
        self.durable.load(Ordering::Acquire)
    }

    /// Blocks until something above `seq` is durable, or `timeout` is over. Makes nobody sync.
    pub(crate) fn wait_above(&self, seq: SeqNo, timeout: Duration) {
        self.moved.wait_while(timeout, || self.durable() <= seq);
    }

    /// Blocks until `seq`, which must be published, is durable.
    pub(crate) fn ride(&self, seq: SeqNo, latch: &Latch, track: &impl Track) -> Result<()> {
        if self.durable() >= seq {
            return Ok(());
        }
        let parking = {
            let mut room = lock(&self.room);
            if self.durable() >= seq {
                return Ok(());
            }
            latch.check()?;
            if room.leading {
                let parking = Parking::here();
                room.waiters.push_back(Waiter { seq, place: Place::Thread(Arc::clone(&parking)) });
                Some(parking)
            } else {
                room.leading = true;
                None
            }
        };
        if parking.is_none_or(|parking| parking.wait() == LEAD) {
            self.run(latch, track)?;
        }
        // The sync that ended the wait started after `seq` was published, so it covers it or it failed.
        if self.durable() >= seq {
            return Ok(());
        }
        latch.check()?;
        unreachable!("a train ended without covering its rider and without closing the latch")
    }

    /// Leads one sync that starts after the call, whether or not a commit waits for it.
    pub(crate) fn lead_once(&self, latch: &Latch, track: &impl Track) -> Result<()> {
        let parking = {
            let mut room = lock(&self.room);
            latch.check()?;
            let parking = room.leading.then(Parking::here);
            if let Some(parking) = &parking {
                // No sync covers this rider, so leadership comes to it.
                let place = Place::Thread(Arc::clone(parking));
                room.waiters.push_back(Waiter { seq: SeqNo::MAX, place });
            }
            room.leading = true;
            parking
        };
        match parking.is_none_or(|parking| parking.wait() == LEAD) {
            true => self.run(latch, track),
            false => latch.check(),
        }
    }

    /// For a future: `Ok(true)` when `seq` is durable, else the waker is kept and will be woken.
    pub(crate) fn poll(
        &self,
        seq: SeqNo,
        ticket: u64,
        waker: &Waker,
        latch: &Latch,
        track: &impl Track,
    ) -> Result<bool> {
        if self.durable() >= seq {
            return Ok(true);
        }
        // A waker that is replaced may own the last reference to a task with another ticket, so it goes outside the lock.
        let (idle, replaced) = {
            let mut room = lock(&self.room);
            if self.durable() >= seq {
                return Ok(true);
            }
            latch.check()?;
            let known = room.waiters.iter_mut().find_map(|waiter| match &mut waiter.place {
                Place::Task { ticket: known, waker } if *known == ticket => Some(waker),
                _ => None,
            });
            let replaced = match known {
                Some(known) => Some(std::mem::replace(known, waker.clone())),
                None => {
                    let place = Place::Task { ticket, waker: waker.clone() };
                    room.waiters.push_back(Waiter { seq, place });
                    None
                }
            };
            (!room.leading, replaced)
        };
        drop(replaced);
        if idle {
            track.request_leader();
        }
        Ok(false)
    }

    /// A future was dropped: nobody waits for it any more.
    pub(crate) fn forget(&self, ticket: u64) {
        let mut room = lock(&self.room);
        let known = room.waiters.iter().position(
            |waiter| matches!(waiter.place, Place::Task { ticket: known, .. } if known == ticket),
        );
        let gone = known.and_then(|at| room.waiters.remove(at));
        // As in `poll`, a waker is dropped outside the lock.
        drop(room);
        drop(gone);
    }

    /// True when futures wait and nobody leads.
    pub(crate) fn needs_leader(&self) -> bool {
        let room = lock(&self.room);
        !room.leading && !room.waiters.is_empty()
    }

    /// Wakes everybody after the latch was closed from outside.
    pub(crate) fn wake_all(&self) {
        let waiters = std::mem::take(&mut lock(&self.room).waiters);
        wake(waiters);
    }

    /// One sync as the leader, then hand over and wake.
    fn run(&self, latch: &Latch, track: &impl Track) -> Result<()> {
        track.gather(&|| lock(&self.room).waiters.len() + 1);
        let synced = catch_unwind(AssertUnwindSafe(|| track.sync()))
            .unwrap_or_else(|_| Err(latch.close(Error::closed(ClosedReason::Panicked))));
        match synced {
            Ok(covered) => {
                // ORDERING: Release, pairs with the Acquire in `durable`: publishes what the leader installed.
                self.durable.fetch_max(covered, Ordering::Release);
                self.moved.notify();
                self.hand_over(covered, track);
                Ok(())
            }
            Err(error) => {
                // The latch is closed before leadership is given up, so no second leader can start.
                debug_assert!(latch.check().is_err(), "a failed sync must close the latch");
                let waiters = {
                    let mut room = lock(&self.room);
                    room.leading = false;
                    std::mem::take(&mut room.waiters)
                };
                wake(waiters);
                Err(error)
            }
        }
    }

    fn hand_over(&self, covered: SeqNo, track: &impl Track) {
        let (next, done, tasks_wait) = {
            let mut room = lock(&self.room);
            let waiting = std::mem::take(&mut room.waiters);
            let (done, mut rest): (VecDeque<_>, VecDeque<_>) =
                waiting.into_iter().partition(|waiter| waiter.seq <= covered);
            let first = rest.iter().position(|waiter| matches!(waiter.place, Place::Thread(_)));
            let next = first.and_then(|at| rest.remove(at));
            room.leading = next.is_some();
            let tasks_wait = next.is_none() && !rest.is_empty();
            room.waiters = rest;
            (next, done, tasks_wait)
        };
        if let Some(Waiter { place: Place::Thread(parking), .. }) = next {
            parking.wake(LEAD);
        } else if tasks_wait {
            track.request_leader();
        }
        wake(done);
    }
}

fn wake(waiters: VecDeque<Waiter>) {
    for waiter in waiters {
        match waiter.place {
            Place::Thread(parking) => parking.wake(DONE),
            Place::Task { waker, .. } => waker.wake(),
        }
    }
}

/// How long a leader waits for riders.
///
/// It waits for as many as last time, never longer than `max_wait` or an eighth of the usual sync (past that, the wait
/// costs more than the rider saves), ends at `max_batch`, and does not wait after a sync that had one rider only.
#[derive(Debug, Default)]
pub(crate) struct GatherGauge {
    riders_last: AtomicU64,
    sync_ns: AtomicU64,
}

impl GatherGauge {
    pub(crate) fn observe(&self, riders: u64, sync: Duration) {
        let sync_ns = u64::try_from(sync.as_nanos()).unwrap_or(u64::MAX >> 3);
        let old = self.sync_ns.load(Ordering::Relaxed);
        let new = if old == 0 { sync_ns } else { old - old / 8 + sync_ns / 8 };
        self.sync_ns.store(new, Ordering::Relaxed);
        self.riders_last.store(riders, Ordering::Relaxed);
    }

    /// Riders to wait for, and how long at most; `None` to leave at once.
    pub(crate) fn plan(&self, max_wait: Duration, max_batch: u32) -> Option<(usize, Duration)> {
        let riders = self.riders_last.load(Ordering::Relaxed).min(u64::from(max_batch));
        let wait = max_wait.min(Duration::from_nanos(self.sync_ns.load(Ordering::Relaxed) / 8));
        (riders > 1 && !wait.is_zero()).then_some((riders as usize, wait))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_lone_writer_never_waits_and_a_group_waits_at_most_an_eighth_of_a_sync() {
        let gauge = GatherGauge::default();
        let ms = Duration::from_millis(1);
        assert_eq!(gauge.plan(ms, 100), None);
        gauge.observe(1, Duration::from_micros(800));
        assert_eq!(gauge.plan(ms, 100), None);
        gauge.observe(8, Duration::from_micros(800));
        assert_eq!(gauge.plan(ms, 100), Some((8, Duration::from_micros(100))));
        assert_eq!(
            gauge.plan(ms, 4),
            Some((4, Duration::from_micros(100))),
            "max_batch ends the wait"
        );
        assert_eq!(gauge.plan(Duration::ZERO, 100), None, "Always is Group without a wait");
    }
}
