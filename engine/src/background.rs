//! Background work of the engine: key order is sealed, merged and rebuilt, resizes of the hash table are finished.
//!
//! # Concurrency
//! One thread for each database, unless it was built with [`Builder::manual`](crate::Builder::manual): then
//! [`Db::step`](crate::Db::step) does a unit at a time. The thread sleeps until enough keys were inserted; as long as
//! keys come, it looks every few milliseconds. It ends with [`Db::close`](crate::Db::close).
//!
//! # Failure
//! A panic closes the database to writes (`Panicked`), as one of a thread of the log does. A damaged part of key order
//! is told to whoever scans, and rebuilt; any other error of this work is tried again a second later. Neither loses
//! anything: the index is derived from the log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{self, Thread, lock};

/// How long the thread waits between two looks while keys come, or while it waits for readers.
const TICK: Duration = Duration::from_millis(5);
/// How long it waits between two looks at open snapshots.
const SNAPSHOT_TICK: Duration = Duration::from_secs(1);
/// How long it waits after an error.
const RETRY: Duration = Duration::from_secs(1);

/// The thread, and how it is woken and ended.
#[derive(Default)]
pub(crate) struct Background {
    /// True while the thread sleeps until it is woken.
    sleeps: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    /// The process that started the thread: in a forked child it does not exist.
    pid: OnceLock<u32>,
}

#[derive(Default)]
struct State {
    has_work: bool,
    stop: bool,
    thread: Option<Thread>,
}

impl Background {
    /// Tells the thread that there is work; a load unless it sleeps.
    #[inline]
    pub(crate) fn wake(&self) {
        // ORDERING: SeqCst here and in `wait`: of a count of inserts that is raised before this load, and read after that
        // store, one side sees the other's.
        if self.sleeps.load(SeqCst) {
            lock(&self.state).has_work = true;
            self.changed.notify_one();
        }
    }

    /// Ends the thread and waits until it is gone; nothing where there is none.
    pub(crate) fn stop(&self) {
        if self.pid.get() != Some(&std::process::id()) {
            // Also in a forked child, where the lock may be held by nobody for ever.
            return;
        }
        let thread = {
            let mut state = lock(&self.state);
            state.stop = true;
            state.thread.take()
        };
        self.changed.notify_all();
        if let Some(thread) = thread {
            // A panic of it was latched where it happened.
            let _ = thread.join();
        }
    }

    /// Sleeps, for at most `timeout` if there is one, and unless there is work; false when the thread is to end.
    fn wait(&self, timeout: Option<Duration>, has_work: impl Fn() -> bool) -> bool {
        let mut state = lock(&self.state);
        self.sleeps.store(timeout.is_none(), SeqCst);
        while !(state.stop || state.has_work || timeout.is_none() && has_work()) {
            let (next, is_over) = sync::wait_for(&self.changed, state, timeout);
            state = next;
            if is_over {
                break;
            }
        }
        self.sleeps.store(false, SeqCst);
        state.has_work = false;
        !state.stop
    }

    fn is_stopped(&self) -> bool {
        lock(&self.state).stop
    }
}

/// Starts the thread of a database.
///
/// # Errors
/// `Io` when the system has no thread to give.
pub(crate) fn start(core: &Arc<Core>) -> Result<()> {
    let background = &core.background;
    let shared = Arc::clone(core);
    let thread = sync::spawn("corten-index", move || run(&shared))
        .map_err(|e| Error::with_source(ErrorKind::Io, "cannot start a thread for the index", e))?;
    lock(&background.state).thread = Some(thread);
    background.pid.get_or_init(std::process::id);
    Ok(())
}

fn run(core: &Core) {
    if catch_unwind(AssertUnwindSafe(|| work_until_stopped(core))).is_err() {
        core.latch_panic();
    }
}

fn work_until_stopped(core: &Core) {
    let mut timeout = None;
    while core.background.wait(timeout, || core.index.wants_work() || core.images.wants_work()) {
        let inserts = core.index.take_inserts();
        timeout = loop {
            core.give_up_snapshots();
            match core.maintain() {
                // Not to be waited for by a close.
                Ok(true) if core.background.is_stopped() => return,
                Ok(true) => {}
                Ok(false) if inserts > 0 || core.index.is_waiting() => break Some(TICK),
                // They are to be given up when they have become too old.
                Ok(false) if core.snapshots.are_open() => break Some(SNAPSHOT_TICK),
                Ok(false) => break None,
                Err(_) => break Some(RETRY),
            }
        };
    }
}

impl Core {
    /// One bounded unit of background work on the index; true if there is more to do now. The caller holds no pin.
    ///
    /// # Errors
    /// `Corruption` of key order, which is rebuilt by the next units.
    pub(crate) fn maintain(&self) -> Result<bool> {
        let ordered = self.index.maintain_order(self)?;
        let has_moved = self.index.maintain();
        Ok(self.images.step(self) || has_moved || ordered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_before_and_without_a_start_does_nothing() {
        let background = Background::default();
        background.wake();
        background.stop();
        assert!(!background.is_stopped());
    }
}
