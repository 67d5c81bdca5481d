//! Work that no caller waits for: the interval timer, leading for futures, syncing what was sealed, making room ahead.
//!
//! Two threads of the log do it: one syncs, the other makes room, so that a long sync does not hold up the writers that
//! run into the end of a window. With `Background::Manual` the caller does both through `step()`.

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

/// What a background thread does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duty {
    /// The interval timer, leading for futures, syncing what was sealed.
    Sync,
    /// The next segment and the next window.
    Space,
}

/// A background thread: works until told to stop.
pub(crate) fn run_background(core: &Core, duty: Duty) {
    let ended = catch_unwind(AssertUnwindSafe(|| work_until_stopped(core, duty)));
    if ended.is_err() {
        core.latch.close(Error::closed(ClosedReason::Panicked));
        core.train.wake_all();
    }
}

fn work_until_stopped(core: &Core, duty: Duty) {
    let signals = core.signals_of(duty);
    loop {
        let wakeup = signals.wait(|| next_timer(core, duty));
        if wakeup == Wakeup::Stop {
            return;
        }
        // Errors are latched where they happen, and told to whoever calls next.
        while matches!(work(core, duty), Ok(true)) {}
    }
}

/// How long until a timer is due; `None` without one.
fn next_timer(core: &Core, duty: Duty) -> Option<Duration> {
    if core.latch.check().is_err() {
        return None;
    }
    let due = match duty {
        Duty::Sync => core.timer.due(),
        Duty::Space => core.space.retry_at(),
    };
    Some(due?.saturating_sub(core.options.clock.monotonic()))
}

/// One unit of background work, the most urgent first.
pub(crate) fn step(core: &Core) -> Result<bool> {
    if work(core, Duty::Sync)? {
        return Ok(true);
    }
    work(core, Duty::Space)
}

/// One unit of a duty; false when there was none.
fn work(core: &Core, duty: Duty) -> Result<bool> {
    let done = core.latch.check().and_then(|()| match duty {
        Duty::Sync => sync_what_is_due(core),
        Duty::Space => make_room(core),
    });
    if core.latch.check().is_err() {
        // Whoever closed the latch may not have been a leader, and futures wait for this thread to lead them.
        core.train.wake_all();
    }
    done
}

fn sync_what_is_due(core: &Core) -> Result<bool> {
    let due = core.timer.due().is_some_and(|due| due <= core.options.clock.monotonic());
    if due {
        // Before the look at what is published: a commit that comes later finds the timer disarmed and arms it again.
        core.timer.disarm();
    }
    let (published, sealed) = {
        let mut appender = lock(&core.appender);
        let sealed = appender.unsynced().last_sealed().map_or(0, |(segment, _)| segment.last_seq());
        (appender.published(), sealed.min(appender.published()))
    };
    let durable = core.train.durable();
    if published > durable && (due || core.train.needs_leader() || core.checkpoint_is_due()) {
        core.ride(published, Some(Durability::Always))?;
        return Ok(true);
    }
    if sealed > durable {
        core.sync_sealed(sealed)?;
        return Ok(true);
    }
    Ok(false)
}

/// Makes the next segment and the next window ready.
fn make_room(core: &Core) -> Result<bool> {
    let (segment, wishes, log_bytes) = {
        let appender = lock(&core.appender);
        (Arc::clone(appender.segment()), appender.wishes(&core.space), appender.log_bytes())
    };
    if let Some((from, to)) = wishes.prefault {
        segment.tail().prefault(u64::from(from), u64::from(to - from));
        segment.prefaulted.store(to, Ordering::Relaxed);
    }
    let room = if let Some(end) = wishes.window_end {
        core.space.reserve(&core.latch, &segment, end)
    } else if wishes.segment {
        core.space.prepare(&core.latch, 0, log_bytes)
    } else {
        return Ok(wishes.prefault.is_some());
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
