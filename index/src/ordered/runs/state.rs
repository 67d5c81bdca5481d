//! What a keyspace consists of at one moment, and how it changes.
//!
//! # Invariants
//! - A state is never changed, only replaced by another, and only by who holds `work`. What it names may still change:
//!   partitions take inserts until they are frozen, runs take skip bits.
//! - A state holds every key that was inserted and not dropped since: a key leaves one state for the next only
//!   together with all its places, or because it was dead when nobody was about to revive it.
//! - A delta is out of the present state before it is frozen, so an insert that finds it frozen finds a newer state.

use std::sync::Arc;

use super::delta::Delta;
use super::level::Level;
use super::work::Work;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, Published};

/// The parts of a keyspace.
#[derive(Debug, Default, Clone)]
pub(super) struct OrderState {
    /// Takes inserts.
    pub(super) delta: Arc<Delta>,
    /// Sealed: frozen, or about to be, and not merged yet.
    pub(super) sealed: Option<Arc<Delta>>,
    /// Sorted runs, newest first.
    pub(super) levels: Vec<Arc<Level>>,
}

impl OrderState {
    /// Keys in runs, skipped ones included.
    pub(super) fn run_keys(&self) -> usize {
        self.levels.iter().map(|level| level.len()).sum()
    }

    pub(super) fn skipped_keys(&self) -> usize {
        self.levels.iter().map(|level| level.skipped()).sum()
    }

    pub(super) fn sealed_keys(&self) -> usize {
        self.sealed.as_ref().map_or(0, |sealed| sealed.len())
    }

    pub(super) fn ram_bytes(&self) -> usize {
        let sealed = self.sealed.as_ref().map_or(0, |sealed| sealed.bytes());
        let levels: usize = self.levels.iter().map(|level| level.ram_bytes()).sum();
        self.delta.bytes() + sealed + levels
    }

    pub(super) fn mapped_bytes(&self) -> usize {
        self.levels.iter().map(|level| level.mapped_bytes()).sum()
    }
}

/// One keyspace.
#[derive(Debug, Default)]
pub(super) struct Keyspace {
    pub(super) state: Published<OrderState>,
    /// What walks met in partitions since the last sealing and found to be dead.
    pub(super) dead_notes: AtomicUsize,
    /// The background work; whoever holds it may replace the state.
    pub(super) work: Mutex<Work>,
    pub(super) figures: Figures,
}

/// What background work says of itself.
#[derive(Debug)]
pub(super) struct Figures {
    /// Memory of merges that are under way.
    pub(super) work_bytes: AtomicUsize,
    pub(super) merged_keys: AtomicU64,
    pub(super) dropped_keys: AtomicU64,
    /// The bits of the last spread of inserts, a floating-point number.
    pub(super) entropy_bits: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        Figures {
            work_bytes: AtomicUsize::new(0),
            merged_keys: AtomicU64::new(0),
            dropped_keys: AtomicU64::new(0),
            entropy_bits: AtomicU64::new(1f64.to_bits()),
        }
    }
}

impl Keyspace {
    /// Puts a key into the present delta.
    #[inline]
    pub(super) fn insert(&self, key: &[u8]) {
        // A frozen partition is behind the present state, so this comes to an end unless states come faster than
        // this thread can look at them.
        while !self.state.with(|state| state.delta.insert(key)) {}
    }

    /// The number of candidates.
    pub(super) fn len(&self) -> usize {
        let state = self.state.get();
        let run_keys = state.run_keys().saturating_sub(state.skipped_keys());
        state.delta.len() + state.sealed_keys() + run_keys
    }

    pub(super) fn ram_bytes(&self) -> usize {
        let work = self.figures.work_bytes.load(Ordering::Relaxed);
        size_of::<Keyspace>() + self.state.get().ram_bytes() + work
    }
}
