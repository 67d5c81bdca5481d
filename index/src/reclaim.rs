//! Epochs: pins of readers and writers, and grace periods that wait for them.
//!
//! # Invariants
//! - A grace period is over only when every [`Guard`] that existed when it began was dropped. It may take longer, as
//!   long as any pin is held without a break.
//!
//! # Concurrency
//! [`pin`] costs a store and a fence and never waits. Nothing here blocks.
//!
//! # Layout
//! Production runs on crossbeam-epoch. Under loom and shuttle a plain set of pins takes its place.

#[cfg(not(any(loom, shuttle)))]
mod imp {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::bugs::{Bug, planted};

    /// A pin of the calling thread: what it read from an index stays valid, and no [`Grace`] that begins from now on
    /// is over, until it is dropped. Pins nest. Hold one briefly: it keeps memory and merges back.
    pub struct Guard {
        epoch: crossbeam_epoch::Guard,
    }

    impl Guard {
        #[inline]
        pub(crate) fn epoch(&self) -> &crossbeam_epoch::Guard {
            &self.epoch
        }

        /// Drops `garbage` once every pin that is held now is gone; what it was a part of must not lead to it any more.
        pub(crate) fn retire<T: Send + 'static>(&self, garbage: Box<T>) {
            if planted(Bug::RetiredAtOnce) {
                return drop(garbage);
            }
            self.epoch.defer(move || drop(garbage));
            // What is retired is large and rare: it must not wait for a bag of 64 to fill.
            self.epoch.flush();
        }
    }

    /// Pins the calling thread.
    pub fn pin() -> Guard {
        Guard { epoch: crossbeam_epoch::pin() }
    }

    /// A wait for all pins that are held when it begins.
    #[derive(Debug)]
    pub struct Grace {
        over: Arc<AtomicBool>,
    }

    impl Grace {
        /// Starts to wait for every pin that is held now.
        pub fn begin() -> Grace {
            let over = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&over);
            let guard = crossbeam_epoch::pin();
            // ORDERING: Release, paired with the Acquire in `is_over`. What a pinned thread did happens before its
            // unpinning, that before the epoch moves on, and that before this runs.
            guard.defer(move || flag.store(true, Ordering::Release));
            guard.flush();
            Grace { over }
        }

        /// True once all those pins are gone; what was done under them is visible then. Each call helps the epoch on,
        /// so ask again now and then. Never true for a caller that has held a pin since before it began.
        pub fn is_over(&self) -> bool {
            // ORDERING: Acquire, see `begin`.
            if !self.over.load(Ordering::Acquire) {
                crossbeam_epoch::pin().flush();
            }
            self.over.load(Ordering::Acquire)
        }
    }
}

#[cfg(any(loom, shuttle))]
mod imp {
    use crate::bugs::{Bug, planted};
    use crate::sync::{Mutex, lazy_static, lock};
    use std::collections::BTreeSet;

    #[derive(Default)]
    struct Pins {
        made: u64,
        held: BTreeSet<u64>,
        garbage: Vec<Box<dyn std::any::Any + Send>>,
    }

    lazy_static! {
        static ref PINS: Mutex<Pins> = Mutex::new(Pins::default());
    }

    /// A pin.
    pub struct Guard {
        number: u64,
    }

    /// Pins the calling thread.
    pub fn pin() -> Guard {
        let mut pins = lock(&PINS);
        pins.made += 1;
        let number = pins.made;
        pins.held.insert(number);
        Guard { number }
    }

    impl Guard {
        /// Drops `garbage` once no pin is left.
        pub(crate) fn retire<T: Send + 'static>(&self, garbage: Box<T>) {
            if planted(Bug::RetiredAtOnce) {
                return drop(garbage);
            }
            lock(&PINS).garbage.push(garbage);
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            let mut pins = lock(&PINS);
            pins.held.remove(&self.number);
            let garbage = match pins.held.is_empty() {
                true => std::mem::take(&mut pins.garbage),
                false => Vec::new(),
            };
            drop(pins);
            drop(garbage);
        }
    }

    /// A wait for all pins that are held when it begins.
    #[derive(Debug)]
    pub struct Grace {
        last: u64,
    }

    impl Grace {
        /// Starts to wait for every pin that is held now.
        pub fn begin() -> Grace {
            Grace { last: lock(&PINS).made }
        }

        /// True once all those pins are gone.
        pub fn is_over(&self) -> bool {
            lock(&PINS).held.first().is_none_or(|&oldest| oldest > self.last)
        }
    }
}

pub use imp::{Grace, Guard, pin};

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn a_grace_period_waits_for_the_pins_of_its_beginning_and_no_others() {
        let before = std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let (free, freed) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let guard = pin();
                tell.send(()).expect("the test listens");
                freed.recv().expect("the test lets go");
                drop(guard);
            });
            told.recv().expect("pinned");
            let grace = Grace::begin();
            assert!((0..1_000).all(|_| !grace.is_over()), "a pin was passed over");
            free.send(()).expect("the thread listens");
            grace
        });
        // The pins of other tests count too, and their threads may not run at the moment.
        let ends = (0..10_000_000).any(|_| {
            std::thread::yield_now();
            before.is_over()
        });
        assert!(ends, "a grace period without an end");
    }
}
