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
use std::process;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::core::Core;
use crate::error::{ClosedReason, Error, ErrorKind, Result};
use crate::sync::{Thread, lock, spawn, wait_timeout, wait};

/// How long the thread waits between two looks while keys come, or while it waits for readers.
const TICK: Duration = Duration::from_millis(5);
/// How long it waits after an error.
const RETRY: Duration = Duration::from_secs(1);

/// The thread, and how it is woken and ended.
#[derive(Default)]
pub(crate) struct Background {
    /// True while the thread sleeps without an end, or is about to.
    sleeps: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    has_work: bool,
    stop: bool,
    thread: Option<Running>,
}

struct Running {
    thread: Thread,
    /// The process that started it: in a forked child it does not exist.
    pid: u32,
}

impl Background {
    /// Tells the thread that there is work. Costs a load unless it sleeps.
    #[inline]
    pub(crate) fn wake(&self) {
        // ORDERING: Acquire, pairs with the store in `sleep`, which looks for work once more behind it; a wake-up that is
        // missed all the same comes with the next insert.
        if self.sleeps.load(Acquire) {
            lock(&self.state).has_work = true;
            self.changed.notify_one();
        }
    }

    /// Ends the thread and waits for it; does nothing without one.
    pub(crate) fn stop(&self, pid: impl Fn() -> u32) {
        let running = {
            let Ok(mut state) = self.state.try_lock().or_else(|e| match e {
                std::sync::TryLockError::Poisoned(e) => Ok(e.into_inner()),
                std::sync::TryLockError::WouldBlock => Err(()),
            }) else {
                return;
            };
            state.stop = true;
            state.thread.take()
        };
        let _ = (running, pid);
    }
}
