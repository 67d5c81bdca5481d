//! A value that readers borrow under a pin, without a lock or a shared count, and that a writer may take away.
//!
//! # Concurrency
//! [`EpochCell::get`] is one load. A value that was replaced stays valid for every pin that was held then, and is dropped
//! after the last of them.
//!
//! Unsafe code: a pointer of crossbeam-epoch is followed. Under loom and shuttle a lock and a count take its place.
#![cfg_attr(
    not(any(loom, shuttle)),
    allow(unsafe_code, reason = "the named file for it; see above")
)]

#[cfg(not(any(loom, shuttle)))]
mod imp {
    use crossbeam_epoch::{Atomic, Owned, Shared, unprotected};
    use std::sync::atomic::Ordering;

    use crate::reclaim::Guard;

    /// A place for one value at a time.
    ///
    /// ```
    /// use cortenkv_index::{EpochCell, pin};
    ///
    /// let cell = EpochCell::empty();
    /// cell.set(Some("first".to_owned()));
    /// let guard = pin();
    /// let first = cell.get(&guard).expect("it was set");
    /// cell.set(None);
    /// assert_eq!(first, "first", "valid as long as the pin");
    /// assert!(cell.get(&guard).is_none());
    /// ```
    pub struct EpochCell<T: Send + Sync + 'static> {
        value: Atomic<T>,
    }

    impl<T: Send + Sync + 'static> EpochCell<T> {
        /// A cell without a value.
        pub fn empty() -> Self {
            EpochCell { value: Atomic::null() }
        }

        /// The present value, if there is one.
        #[inline]
        pub fn get<'g>(&self, guard: &'g Guard) -> Option<&'g T> {
            // ORDERING: Acquire, pairs with the swap in `set`, which publishes the value.
            let value = self.value.load(Ordering::Acquire, guard.epoch());
            // SAFETY: it is null or a value that `set` put there. Whoever took it away since deferred its drop until
            // this pin is gone, and the reference lives no longer than the pin.
            unsafe { value.as_ref() }
        }

        /// Puts another value in the place of the present one.
        pub fn set(&self, value: Option<T>) {
            let guard = crate::reclaim::pin();
            let new =
                value.map_or(Shared::null(), |value| Owned::new(value).into_shared(guard.epoch()));
            // ORDERING: AcqRel: publishes the new value, and takes the old one as whoever set it left it.
            let old = self.value.swap(new, Ordering::AcqRel, guard.epoch());
            if !old.is_null() {
                // SAFETY: the swap made this call the only one that has it from the cell, and every reader that still
                // may is pinned: it is dropped after them.
                unsafe { guard.epoch().defer_destroy(old) };
                guard.epoch().flush();
            }
        }
    }

    impl<T: Send + Sync + 'static> Drop for EpochCell<T> {
        fn drop(&mut self) {
            // SAFETY: nobody else has the cell any more, so nobody can read it; values that were replaced are not in it.
            unsafe {
                let value = self.value.load(Ordering::Relaxed, unprotected());
                if !value.is_null() {
                    drop(value.into_owned());
                }
            }
        }
    }
}

#[cfg(any(loom, shuttle))]
mod imp {
    use crate::reclaim::Guard;
    use crate::sync::{Mutex, lock};

    /// A place for one value at a time.
    pub struct EpochCell<T: Send + Sync + 'static> {
        value: Mutex<Option<&'static T>>,
    }

    impl<T: Send + Sync + 'static> EpochCell<T> {
        /// A cell without a value.
        pub fn empty() -> Self {
            EpochCell { value: Mutex::new(None) }
        }

        /// The present value, if there is one.
        pub fn get<'g>(&self, _guard: &'g Guard) -> Option<&'g T> {
            *lock(&self.value)
        }

        /// Puts another value in the place of the present one. A model leaks the old one: it is short.
        pub fn set(&self, value: Option<T>) {
            *lock(&self.value) = value.map(|value| &*Box::leak(Box::new(value)));
        }
    }
}

pub use imp::EpochCell;

impl<T: Send + Sync + 'static> std::fmt::Debug for EpochCell<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EpochCell")
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::reclaim::{Grace, pin};

    /// Counts how often it is dropped, and knows whether it was.
    struct Counted(Arc<AtomicUsize>, u64);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1 = u64::MAX;
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn values_live_as_long_as_the_pins_that_saw_them_and_are_dropped_once() {
        let drops = Arc::new(AtomicUsize::new(0));
        let cell: EpochCell<Counted> = EpochCell::empty();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let guard = pin();
                        if let Some(value) = cell.get(&guard) {
                            std::thread::yield_now();
                            assert_ne!(value.1, u64::MAX, "dropped under a reader");
                        }
                    }
                });
            }
            for n in 0..2_000 {
                cell.set((n % 3 != 0).then(|| Counted(Arc::clone(&drops), n)));
            }
        });
        drop(cell);
        let made = (0..2_000).filter(|n| n % 3 != 0).count();
        // What is deferred runs when somebody helps the epoch on.
        let all = (0..1_000_000).any(|_| {
            Grace::begin().is_over();
            drops.load(Ordering::Relaxed) == made
        });
        assert!(all, "{} of {made} dropped", drops.load(Ordering::Relaxed));
    }
}
