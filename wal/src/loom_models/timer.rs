//! The interval timer: a relaxed commit is in the snapshot of the sync, or the timer is armed for it.

use std::time::Duration;

use super::canary;
use crate::background::{IntervalTimer, Signals, Wakeup};
use crate::record::SeqNo;
use crate::sync::{Arc, Condvar, Mutex, lock, thread, wait};

const INTERVALS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(1)];

struct Log {
    timer: IntervalTimer,
    signals: Signals,
    /// Stands for the append lock.
    published: Mutex<SeqNo>,
    synced: Mutex<SeqNo>,
    moved: Condvar,
    /// The timer is disarmed after the snapshot, not before.
    broken: bool,
}

impl Log {
    fn new(broken: bool) -> Self {
        Log {
            timer: IntervalTimer::new(),
            signals: Signals::default(),
            published: Mutex::new(0),
            synced: Mutex::new(0),
            moved: Condvar::new(),
            broken,
        }
    }

    fn commit(&self, interval: Duration) -> SeqNo {
        let seq = {
            let mut published = lock(&self.published);
            *published += 1;
            *published
        };
        if self.timer.arm(interval, || Duration::ZERO) {
            self.signals.notify();
        }
        seq
    }

    fn sync(&self) -> SeqNo {
        if !self.broken {
            self.timer.disarm();
        }
        let snapshot = *lock(&self.published);
        if self.broken {
            self.timer.disarm();
        }
        *lock(&self.synced) = snapshot;
        self.moved.notify_all();
        snapshot
    }
}

/// Two commits beside one sync.
fn commits_beside_a_sync(broken: bool) {
    loom::model(move || {
        let log = Arc::new(Log::new(broken));
        let writers = INTERVALS.map(|interval| {
            let log = Arc::clone(&log);
            thread::spawn(move || log.commit(interval))
        });
        let snapshot = log.sync();
        for writer in writers {
            let seq = writer.join().unwrap();
            assert!(
                seq <= snapshot || log.timer.due().is_some(),
                "commit {seq} is neither in the snapshot nor on the timer"
            );
        }
    });
}

/// One writer commits twice; a background thread syncs when the timer says so, until everything is synced.
fn background_syncs(broken: bool) {
    loom::model(move || {
        let log = Arc::new(Log::new(broken));
        let background = Arc::clone(&log);
        let background = thread::spawn(move || {
            // Time has always come: loom has no clock.
            while background.signals.wait(|| background.timer.due()) == Wakeup::Work {
                if background.timer.due().is_some() {
                    background.sync();
                }
            }
        });
        log.commit(INTERVALS[0]);
        let last = log.commit(INTERVALS[0]);
        let mut synced = lock(&log.synced);
        while *synced < last {
            synced = wait(&log.moved, synced);
        }
        drop(synced);
        log.signals.stop();
        background.join().unwrap();
    });
}

#[test]
fn a_commit_is_in_the_snapshot_or_on_the_timer() {
    commits_beside_a_sync(false);
}

#[test]
fn the_background_syncs_the_last_commit_too() {
    background_syncs(false);
}

#[test]
fn canary_a_timer_that_is_disarmed_after_the_snapshot() {
    canary(
        "timer::canary_a_timer_that_is_disarmed_after_the_snapshot",
        "neither in the snapshot nor on the timer",
        || commits_beside_a_sync(true),
    );
}

#[test]
fn canary_a_background_that_disarms_too_late_sleeps_for_ever() {
    canary("timer::canary_a_background_that_disarms_too_late_sleeps_for_ever", "deadlock", || {
        background_syncs(true)
    });
}
