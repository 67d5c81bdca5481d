//! Work that no caller waits for: the interval timer, leading for futures, syncing what was sealed, making room ahead.
//!
//! One thread of the log does it, or the caller through `step()`; both run the same units in the same order.

use std::time::Duration;

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
