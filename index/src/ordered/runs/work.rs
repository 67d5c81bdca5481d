//! The background work of one keyspace, in bounded units.
//!
//! # Layout
//! Two jobs go on side by side, a unit of each by turns, so that a long one does not let the delta grow meanwhile:
//! - the flush: shape the partitions; seal the delta when it is due; wait for the pins of that moment; merge it into a
//!   new run;
//! - the compaction: merge runs when there are too many, or rewrite one whose keys are mostly dead.
//!
//! # Invariants
//! - No run is an input of both jobs.
//! - A job that fails leaves the state as it is, and begins again at the next unit. One that the owner gave no answer
//!   asks again.

use std::sync::Arc;

use super::super::owner::KeyOwner;
use super::delta::{Delta, Parts};
use super::entropy::{SPREAD_MIN, coldest_pair, hottest, spread};
use super::level::Level;
use super::merge::{Failure, Merge, Merged};
use super::options::RunsOptions;
use super::state::{Keyspace, OrderState};
use crate::error::Result;
use crate::reclaim::Grace;
use crate::sync::atomic::Ordering;
use crate::sync::{lock, try_lock};

/// The jobs of a keyspace.
#[derive(Debug, Default)]
pub(super) struct Work {
    flush: Flush,
    compaction: Option<Box<Merge>>,
    /// Whose turn it is.
    compaction_first: bool,
}

#[derive(Debug, Default)]
enum Flush {
    /// Nothing is sealed.
    #[default]
    Idle,
    /// A delta is sealed and frozen; some pins may be of before.
    Waiting(Grace),
    /// Those pins are gone.
    Due,
    Merging(Box<Merge>),
}

/// Who asks for units: the keyspace's number, the owner of its records, and the knobs.
pub(super) struct Task<'a> {
    pub(super) number: u32,
    pub(super) owner: &'a dyn KeyOwner,
    pub(super) options: &'a RunsOptions,
    /// Says whether a wait is over; tests break it.
    pub(super) is_over: &'a dyn Fn(&Grace) -> bool,
}

impl Keyspace {
    /// One unit; false if there is nothing to do, or somebody else is at it.
    pub(super) fn unit(&self, task: &Task<'_>) -> Result<bool> {
        let Some(mut work) = try_lock(&self.work) else { return Ok(false) };
        work.compaction_first = !work.compaction_first;
        let mut did = work.compaction_first && work.compact(self, task)?;
        did = did || work.flush(self, task)?;
        did = did || (!work.compaction_first && work.compact(self, task)?);
        let flush = if let Flush::Merging(merge) = &work.flush { merge.bytes() } else { 0 };
        let compaction = work.compaction.as_ref().map_or(0, |merge| merge.bytes());
        self.figures.work_bytes.store(flush + compaction, Ordering::Relaxed);
        Ok(did)
    }

    /// Replaces all runs by what `make` returns, while no background work goes on in this keyspace.
    pub(super) fn replace_runs(
        &self,
        make: impl FnOnce() -> Result<Vec<Arc<Level>>>,
    ) -> Result<()> {
        let mut work = lock(&self.work);
        let levels = make()?;
        work.compaction = None;
        if let Flush::Merging(_) = work.flush {
            work.flush = Flush::Due;
        }
        let state = (*self.state.get()).clone();
        self.state.set(OrderState { levels, ..state });
        Ok(())
    }
}

impl Work {
    fn flush(&mut self, keyspace: &Keyspace, task: &Task<'_>) -> Result<bool> {
        let state = keyspace.state.get();
        match &mut self.flush {
            Flush::Idle => {
                if self.shape(keyspace, &state, task.options) {
                    return Ok(true);
                }
                if !is_due(keyspace, &state, task.options) {
                    return Ok(false);
                }
                seal(keyspace, &state, task.options);
                self.flush = Flush::Waiting(Grace::begin());
            }
            Flush::Waiting(grace) if !(task.is_over)(grace) => return Ok(false),
            Flush::Waiting(_) => self.flush = Flush::Due,
            Flush::Due => {
                let inputs = self.small_runs(&state);
                let merge = Merge::new(state.sealed.clone(), inputs)?;
                self.flush = Flush::Merging(Box::new(merge));
            }
            Flush::Merging(merge) => match merge.step(task.number, task.owner, task.options) {
                Ok(false) => {}
                Ok(true) => {
                    let Flush::Merging(merge) = std::mem::replace(&mut self.flush, Flush::Due)
                    else {
                        return Ok(true);
                    };
                    let merged = merge.finish(task.options)?;
                    self.flush = Flush::Idle;
                    self.publish(keyspace, merged, true);
                }
                Err(Failure::Owner(error)) => return Err(error),
                Err(Failure::Merge(error)) => {
                    self.flush = Flush::Due;
                    return Err(error);
                }
            },
        }
        Ok(true)
    }

    fn compact(&mut self, keyspace: &Keyspace, task: &Task<'_>) -> Result<bool> {
        let Some(merge) = &mut self.compaction else {
            let inputs = self.runs_to_merge(&keyspace.state.get().levels, task.options);
            if !inputs.is_empty() {
                self.compaction = Some(Box::new(Merge::new(None, inputs)?));
            }
            return Ok(self.compaction.is_some());
        };
        match merge.step(task.number, task.owner, task.options) {
            Ok(false) => {}
            Ok(true) => {
                if let Some(merge) = self.compaction.take() {
                    let merged = merge.finish(task.options)?;
                    self.publish(keyspace, merged, false);
                }
            }
            Err(Failure::Owner(error)) => return Err(error),
            Err(Failure::Merge(error)) => {
                self.compaction = None;
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Puts the output in the place of the inputs, the newest place for a flush.
    fn publish(&mut self, keyspace: &Keyspace, merged: Merged, is_flush: bool) {
        let mut state = (*keyspace.state.get()).clone();
        let is_input = |level: &Arc<Level>| merged.inputs.iter().any(|i| Arc::ptr_eq(i, level));
        let place = if is_flush { 0 } else { state.levels.iter().position(is_input).unwrap_or(0) };
        state.levels.retain(|level| !is_input(level));
        if let Some(out) = merged.out {
            state.levels.insert(place.min(state.levels.len()), out);
        }
        if is_flush {
            state.sealed = None;
        }
        keyspace.state.set(state);
        keyspace.figures.merged_keys.fetch_add(merged.merged, Ordering::Relaxed);
        keyspace.figures.dropped_keys.fetch_add(merged.dropped, Ordering::Relaxed);
    }

    /// The runs that a flush takes along: none, unless the compaction is busy with older ones and new ones pile up.
    /// Then it takes the newest as long as they are not much larger than all before them together.
    fn small_runs(&self, state: &OrderState) -> Vec<Arc<Level>> {
        const KEYS_MAX: usize = 1 << 20; // LIMIT: the time that a flush takes, during which the next delta grows.
        let Some(compaction) = &self.compaction else { return Vec::new() };
        let is_busy =
            |level: &Arc<Level>| compaction.inputs().iter().any(|i| Arc::ptr_eq(i, level));
        let free = state.levels.iter().take_while(|level| !is_busy(level));
        if free.clone().count() < 2 {
            return Vec::new();
        }
        let mut keys = state.sealed_keys();
        let small = free.take_while(|level| {
            let fits = level.len() < keys * 2 && keys + level.len() <= KEYS_MAX;
            keys += level.len();
            fits
        });
        small.cloned().collect()
    }

    /// One run of which more than half is skipped, or the newest ones when there are too many: as few as make a run of
    /// at most half the next older one.
    fn runs_to_merge(&self, levels: &[Arc<Level>], options: &RunsOptions) -> Vec<Arc<Level>> {
        if let Flush::Merging(merge) = &self.flush
            && !merge.inputs().is_empty()
        {
            return Vec::new();
        }
        if let Some(level) = levels.iter().find(|level| level.skipped() * 2 > level.len()) {
            return vec![Arc::clone(level)];
        }
        if levels.len() <= options.runs_max.max(1) {
            return Vec::new();
        }
        let mut keys = levels[0].len();
        let mut count = 1;
        while let Some(next) = levels.get(count)
            && (count == 1 || keys * 2 > next.len())
        {
            keys += next.len();
            count += 1;
        }
        levels[..count].to_vec()
    }

    /// Splits a partition that is too large; else looks at the spread of inserts from time to time. True if it did
    /// something.
    fn shape(&mut self, keyspace: &Keyspace, state: &OrderState, options: &RunsOptions) -> bool {
        let delta = &state.delta;
        let publish = |delta: Delta| {
            keyspace.state.set(OrderState { delta: Arc::new(delta), ..state.clone() });
        };
        let partitions = delta.partitions();
        let keys_max = options.partition_keys_max.max(1);
        if partitions.len() < options.partitions_max {
            let large = partitions.iter().position(|partition| partition.len() > keys_max);
            let parts = match partitions.len() {
                1 => Parts::Equal(options.partitions_start),
                _ => Parts::OfKeys(keys_max),
            };
            if large.is_some_and(|n| delta.split(n, parts, publish)) {
                return true;
            }
        }
        if partitions.len() < 2 || delta.inserts() < options.spread_inserts.max(1) {
            return false;
        }
        let counts: Vec<_> = partitions.iter().map(|partition| partition.take_inserts()).collect();
        let entropy = spread(&counts).unwrap_or(1.0);
        keyspace.figures.entropy_bits.store(entropy.to_bits(), Ordering::Relaxed);
        let Some(hot) = hottest(&counts).filter(|_| entropy < SPREAD_MIN) else { return false };
        if partitions.len() < options.partitions_max && !delta.split(hot, Parts::Equal(2), publish)
        {
            return false;
        }
        self.join_coldest(keyspace, &counts);
        true
    }

    fn join_coldest(&self, keyspace: &Keyspace, counts: &[usize]) {
        let Some(cold) = coldest_pair(counts) else { return };
        let state = keyspace.state.get();
        // The split of the hottest moved what is right of it.
        let moved = state.delta.partitions().len() - counts.len();
        let n = if hottest(counts).is_some_and(|hot| hot < cold) { cold + moved } else { cold };
        state.delta.join(n, |delta| {
            keyspace.state.set(OrderState { delta: Arc::new(delta), ..(*state).clone() });
        });
    }
}

fn is_due(keyspace: &Keyspace, state: &OrderState, options: &RunsOptions) -> bool {
    let keys = state.delta.len();
    let is_large = || keys > options.delta_keys(state.run_keys());
    let is_long = || state.delta.bytes() > options.delta_bytes_max;
    // By then walks have spent about as much on dead keys as a merge would.
    let dead_notes = keyspace.dead_notes.load(Ordering::Relaxed);
    let is_dead = || dead_notes >= keys.max(options.delta_dead_min);
    keys > 0 && (is_large() || is_long() || is_dead())
}

/// Puts an empty delta in the place of the present one, and freezes that.
fn seal(keyspace: &Keyspace, state: &OrderState, options: &RunsOptions) {
    keyspace.dead_notes.store(0, Ordering::Relaxed);
    keyspace.state.set(OrderState {
        delta: Arc::new(state.delta.emptied(options.partition_keys_max / 2)),
        sealed: Some(Arc::clone(&state.delta)),
        levels: state.levels.clone(),
    });
    // Only now: who finds a frozen partition finds the new state. And before the wait begins: who inserted into one of
    // these before holds a pin, or is through.
    state.delta.freeze();
}
