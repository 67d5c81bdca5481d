//! Work that no caller waits for: the interval timer, leading for futures, syncing what was sealed, making room ahead.
//!
//! One thread of the log does it, or the caller through `step()`; both run the same units in the same order.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::core::Core;
use crate::error::{ClosedReason, Error, Result};
use crate::options::Durability;
use crate::space::full;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Condvar, Mutex, lock, wait};

/// How the others tell the background thread that there is work.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Set by `notify` and cleared by `wait`, so that a writer that has nothing new to say takes no lock.
    pending: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    work: bool,
    stop: bool,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wakeup {
    Work,
    Stop,
}

impl Signals {
    /// There is work.
    pub(crate) fn notify(&self) {
        // ORDERING: AcqRel, pairs with the swap in `wait`: whoever finds the flag set knows that the thread has yet to
        // look, and will see what was written before this call.
        if self.pending.swap(true, Ordering::AcqRel) {
            return;
        }
        lock(&self.state).work = true;
        self.changed.notify_all();
    }

    /// The thread is to end.
    pub(crate) fn stop(&self) {
        lock(&self.state).stop = true;
        self.changed.notify_all();
    }

    /// Waits for work, or until `timeout` says that a timer is due. Asks `timeout` again after each wake-up.
    pub(crate) fn wait(&self, timeout: impl Fn() -> Option<Duration>) -> Wakeup {
        let mut state = lock(&self.state);
        loop {
            if state.stop {
                return Wakeup::Stop;
            }
            if state.work {
                state.work = false;
                self.pending.swap(false, Ordering::AcqRel);
                return Wakeup::Work;
            }
            state = match timeout() {
                None => wait(&self.changed, state),
                Some(Duration::ZERO) => return Wakeup::Work,
                Some(timeout) => {
                    let waited = self.changed.wait_timeout(state, timeout);
                    waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
            };
        }
    }
}

/// The interval timer: armed by the first unsynced commit that asks for it, disarmed when a sync starts.
///
/// So the clock is read once an interval, not once a commit, and a commit is synced at most its interval after the
/// timer was armed.
#[derive(Debug)]
pub(crate) struct IntervalTimer {
    /// The interval that the timer was armed with, `u64::MAX` when it is not armed: changed under the lock only.
    armed_ns: AtomicU64,
    /// When the next sync is due.
    due: Mutex<Option<Duration>>,
}

impl IntervalTimer {
    pub(crate) fn new() -> Self {
        IntervalTimer { armed_ns: AtomicU64::new(u64::MAX), due: Mutex::new(None) }
    }

    /// Sees to a sync within `interval` from `now`; true when somebody must look at the timer again.
    ///
    /// Call it after the commit was published: a sync disarms the timer before it takes its snapshot, so either the
    /// snapshot has the commit or this call sees the timer disarmed.
    pub(crate) fn arm(&self, interval: Duration, now: impl FnOnce() -> Duration) -> bool {
        let interval_ns = interval.as_nanos() as u64;
        // ORDERING: Acquire, pairs with the Release in `disarm`; the append lock, taken between publishing and arming
        // here and between disarming and the snapshot there, orders the two sides as said above.
        if self.armed_ns.load(Ordering::Acquire) <= interval_ns {
            return false;
        }
        let mut due = lock(&self.due);
        if self.armed_ns.load(Ordering::Relaxed) <= interval_ns {
            return false;
        }
        let at = now().saturating_add(interval);
        *due = Some(due.map_or(at, |earlier| earlier.min(at)));
        self.armed_ns.store(interval_ns, Ordering::Release);
        true
    }

    pub(crate) fn disarm(&self) {
        let mut due = lock(&self.due);
        *due = None;
        // ORDERING: Release, pairs with the Acquire in `arm`.
        self.armed_ns.store(u64::MAX, Ordering::Release);
    }

    /// When the next sync is due.
    pub(crate) fn due(&self) -> Option<Duration> {
        *lock(&self.due)
    }
}

/// The background thread: steps until told to stop.
pub(crate) fn run_background(core: &Core) {
    let ended = catch_unwind(AssertUnwindSafe(|| step_until_stopped(core)));
    if ended.is_err() {
        core.latch.close(Error::closed(ClosedReason::Panicked));
        core.train.wake_all();
    }
}

fn step_until_stopped(core: &Core) {
    loop {
        let wakeup = core.signals.wait(|| next_timer(core));
        if wakeup == Wakeup::Stop {
            return;
        }
        // Errors are latched where they happen, and told to whoever calls next.
        while matches!(step(core), Ok(true)) {}
    }
}

/// How long until a timer is due; `None` without one.
fn next_timer(core: &Core) -> Option<Duration> {
    if core.latch.check().is_err() {
        return None;
    }
    let due = [core.timer.due(), core.space.retry_at()].into_iter().flatten().min()?;
    Some(due.saturating_sub(core.options.clock.monotonic()))
}

/// One unit of background work, the most urgent first.
pub(crate) fn step(core: &Core) -> Result<bool> {
    let done = sync_or_make_room(core);
    if core.latch.check().is_err() {
        // Whoever closed the latch may not have been a leader, and futures wait for this thread to lead them.
        core.train.wake_all();
    }
    done
}

fn sync_or_make_room(core: &Core) -> Result<bool> {
    core.latch.check()?;
    let due = core.timer.due().is_some_and(|due| due <= core.options.clock.monotonic());
    if due {
        // Before the look at what is published: a commit that comes later finds the timer disarmed and arms it again.
        core.timer.disarm();
    }
    let (published, sealed) = {
        let mut appender = lock(&core.appender);
        (appender.published(), appender.unsynced().has_seal())
    };
    let sync = due || sealed || core.train.needs_leader() || core.checkpoint_is_due();
    if sync && published > core.train.durable() {
        core.ride(published, Some(Durability::Always))?;
        return Ok(true);
    }
    make_room(core)
}

/// Makes the next segment and the next window ready.
fn make_room(core: &Core) -> Result<bool> {
    let (segment, wanted, log_bytes) = {
        let appender = lock(&core.appender);
        (
            Arc::clone(appender.segment()),
            appender.window_end_wanted(&core.space),
            appender.log_bytes(),
        )
    };
    let room = if let Some(end) = wanted {
        core.space.reserve(&core.latch, &segment, end)
    } else if !core.space.is_prepared() {
        core.space.prepare(&core.latch, 0, log_bytes)
    } else {
        return Ok(false);
    };
    match room {
        Ok(()) => Ok(true),
        Err(e) if e.is_storage_full() => Err(full().caused_by(&e)),
        Err(e) => Err(e),
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn the_timer_keeps_the_earliest_deadline_and_reads_the_clock_once() {
        let timer = IntervalTimer::new();
        let at = Duration::from_secs;
        assert!(timer.arm(at(10), || at(100)));
        assert!(!timer.arm(at(10), || unreachable!("armed already")));
        assert_eq!(timer.due(), Some(at(110)));
        assert!(timer.arm(at(2), || at(101)), "a shorter interval counts");
        assert_eq!(timer.due(), Some(at(103)));
        timer.disarm();
        assert_eq!(timer.due(), None);
    }
}
