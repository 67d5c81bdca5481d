//! Compaction by the writers themselves, for a database without workers (C3): each does a piece of it before its commit.
//!
//! # Invariants
//! - A writer works in proportion to what it writes, the more the further behind compaction is. So garbage stays bounded
//!   whatever is written, and a write of no garbage costs nothing.
//! - The work is done before the commit takes any lock. One call does about 1 MiB of it, or its own share if that is more.
//!
//! # Concurrency
//! One writer works at a time. The others leave their share to it, unless that has become much: then they queue up.
//!
//! # Failure
//! An error is counted, and the work rests until the next segment is begun. A panic closes the database to writes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{MutexGuard, PoisonError, TryLockError};

use cortenkv_compaction::{Compactor, Step};

use super::idle::IdleWatch;
use super::store::Store;
use super::{Running, lock};

/// Bytes of work for a byte that is written, while compaction is hardly behind: what overwriting at random costs at the target.
const RATE_MIN: u64 = 4;
/// How much more that is when a quarter of what lives is too much.
const RATE_SLOPE: u64 = 16;
const RATE_MAX: u64 = 64;
/// Less is left to a later write.
const WORK_BYTES_MIN: u64 = 64 << 10;
/// LIMIT: the work of one call, unless its own share is more.
const WORK_BYTES_MAX: u64 = 1 << 20;
/// Beyond this writers wait for their turn to work.
const OWED_BYTES_MAX: u64 = 8 << 20;

/// What writers owe.
#[derive(Default)]
pub(super) struct Inline {
    owed_bytes: AtomicU64,
    /// A job is in hand.
    has_job: AtomicBool,
    /// Nothing can be done before the next segment is begun.
    rests: AtomicBool,
    worked_ns: AtomicU64,
}

impl Inline {
    /// True if a write has to work.
    #[inline]
    pub(super) fn is_due(&self, debt_bytes: u64) -> bool {
        (debt_bytes > 0 || self.has_job.load(Relaxed)) && !self.rests.load(Relaxed)
    }

    /// A segment was begun, so another may be worth a look.
    pub(super) fn look_again(&self) {
        self.rests.store(false, Relaxed);
    }

    /// How long writers have worked.
    pub(super) fn worked_us(&self) -> u64 {
        self.worked_ns.load(Relaxed) / 1_000
    }

    /// Works for a write. The caller holds no lock.
    #[cold]
    pub(super) fn work(&self, running: &Running, write_bytes: u64) {
        let share =
            write_bytes * rate(running.scheduler.debt_bytes(), running.pressure.live_bytes());
        let owed = self.owed_bytes.fetch_add(share, Relaxed) + share;
        if owed < WORK_BYTES_MIN {
            return;
        }
        let Some(mut by_hand) = self.turn(running, owed) else { return };
        let Ok(core) = running.store.core() else { return };
        let work_bytes = self.take(share.max(WORK_BYTES_MAX));
        let begun = core.clock().monotonic();
        let worked = catch_unwind(AssertUnwindSafe(|| {
            self.step(&mut by_hand.0, &running.store, work_bytes);
        }));
        if worked.is_err() {
            core.latch_panic();
        }
        self.has_job.store(by_hand.0.has_job(), Relaxed);
        let worked_ns = core.clock().monotonic().saturating_sub(begun).as_nanos() as u64;
        self.worked_ns.fetch_add(worked_ns, Relaxed);
    }

    /// The right to work, if nobody else has it or so much is owed that this is worth the wait.
    fn turn<'a>(
        &self,
        running: &'a Running,
        owed_bytes: u64,
    ) -> Option<MutexGuard<'a, (Compactor<Store>, IdleWatch)>> {
        match running.by_hand.try_lock() {
            Ok(by_hand) => Some(by_hand),
            Err(TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
            Err(TryLockError::WouldBlock) => {
                (owed_bytes > OWED_BYTES_MAX).then(|| lock(&running.by_hand))
            }
        }
    }

    /// Takes over what is owed, up to a bound.
    fn take(&self, bytes_max: u64) -> u64 {
        let mut taken = 0;
        let _ = self.owed_bytes.fetch_update(Relaxed, Relaxed, |owed| {
            taken = owed.min(bytes_max);
            Some(owed - taken)
        });
        taken
    }

    fn step(&self, compactor: &mut Compactor<Store>, store: &Store, work_bytes: u64) {
        let end = compactor.worked_bytes() + work_bytes;
        let mut has_synced = false;
        while compactor.worked_bytes() < end {
            match compactor.step() {
                Ok(Step::Again) => {}
                // Nobody may have made durable what is sealed, and only that can be rewritten.
                Ok(Step::Wait(_)) if !has_synced && store.sync_sealed().is_ok_and(|it| it) => {
                    has_synced = true;
                }
                Ok(_) | Err(_) => {
                    self.rests.store(true, Relaxed);
                    self.owed_bytes.store(0, Relaxed);
                    return;
                }
            }
        }
    }
}

/// Bytes of work for a byte that is written.
fn rate(debt_bytes: u64, live_bytes: u64) -> u64 {
    let too_much = live_bytes / 4 + (1 << 20);
    (RATE_MIN + debt_bytes.saturating_mul(RATE_SLOPE) / too_much).min(RATE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_grows_in_proportion_to_the_debt_and_is_bounded() {
        let live_bytes = 100 << 20;
        let too_much = live_bytes / 4 + (1 << 20);
        assert_eq!(rate(0, live_bytes), RATE_MIN);
        assert_eq!(rate(too_much / 2, live_bytes), RATE_MIN + RATE_SLOPE / 2);
        assert_eq!(rate(too_much, live_bytes), RATE_MIN + RATE_SLOPE);
        // The product stays at its largest; the quotient is far from the bound.
        assert_eq!(rate(u64::MAX, u64::MAX), RATE_MIN + 3);
        assert_eq!(rate(u64::MAX, 0), RATE_MAX);
    }
}
