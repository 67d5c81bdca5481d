//! Places where a test can stop a thread: between the steps of an operation that claims to hold up nobody.
//!
//! Outside of tests a stop is nothing at all.

/// A place between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(
    clippy::enum_variant_names,
    reason = "each names the moment before a step; a stop is nothing else"
)]
pub enum Stop {
    /// The hook of an install has run, the slot is not changed yet.
    BeforeInstall,
    /// An entry was inserted and is not counted yet.
    BeforeCount,
    /// The entry to be removed or swapped was found.
    BeforeChange,
    /// A next table was made and is not published yet.
    BeforeBegin,
    /// A group is about to be frozen.
    BeforeFreeze,
    /// A group is frozen, its copy not stored yet.
    BeforeFill,
    /// All groups are whole, the shard still calls the old table current.
    BeforeFinish,
}

#[cfg(all(feature = "test-util", not(any(loom, shuttle))))]
mod imp {
    use std::cell::RefCell;

    use super::Stop;

    type Hook = Box<dyn FnMut(Stop)>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Calls `hook` at every stop of this thread from now on; for tests.
    pub fn set_stop_hook(hook: impl FnMut(Stop) + 'static) {
        HOOK.set(Some(Box::new(hook)));
    }

    pub(crate) fn stop(at: Stop) {
        // The hook is away while it runs, so it may use the index itself.
        if let Some(mut hook) = HOOK.take() {
            hook(at);
            HOOK.with_borrow_mut(|place| {
                place.get_or_insert(hook);
            });
        }
    }
}

#[cfg(any(not(feature = "test-util"), loom, shuttle))]
mod imp {
    use super::Stop;

    #[inline(always)]
    pub(crate) fn stop(_at: Stop) {}
}

#[cfg(all(feature = "test-util", not(any(loom, shuttle))))]
pub use imp::set_stop_hook;
pub(crate) use imp::stop;
