//! One merge: sealed partitions, runs, or both, become one run without the dead keys.
//!
//! # Invariants
//! Who makes a merge of sealed partitions has waited: they are frozen, and all pins that were held then are gone. So
//! the state that the owner answers for a key in them is of a time after the change that its insert announced.
//!
//! A key that is only in runs needs no wait: who revives it inserts it into a delta first, whatever the runs hold.

use std::sync::Arc;

use super::super::Direction;
use super::super::batch::KeyBatch;
use super::super::owner::{KeyOwner, KeyState};
use super::super::range::KeyRange;
use super::delta::Delta;
use super::level::{Level, LevelBuilder};
use super::options::RunsOptions;
use super::sources::Sources;
use super::state::OrderState;
use crate::error::{Error, ErrorKind, Result};

/// A merge under way.
pub(super) struct Merge {
    inputs: Vec<Arc<Level>>,
    sources: Sources,
    out: LevelBuilder,
    /// Keys that the owner has not answered for.
    batch: KeyBatch,
    states: Vec<KeyState>,
    merged: u64,
    dropped: u64,
}

/// What a merge came to.
pub(super) struct Merged {
    /// The runs that went in.
    pub(super) inputs: Vec<Arc<Level>>,
    /// The run that came out, unless every key was dead.
    pub(super) out: Option<Arc<Level>>,
    pub(super) merged: u64,
    pub(super) dropped: u64,
}

impl std::fmt::Debug for Merge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merge").field("merged", &self.merged).finish_non_exhaustive()
    }
}

impl Merge {
    /// Begins a merge.
    ///
    /// # Errors
    /// `Corruption` if a run is damaged.
    pub(super) fn new(sealed: Option<Arc<Delta>>, inputs: Vec<Arc<Level>>) -> Result<Merge> {
        let parts = OrderState { delta: Arc::default(), sealed, levels: inputs.clone() };
        Ok(Merge {
            inputs,
            sources: Sources::open(&parts, KeyRange::all(), Direction::Forward)?,
            out: LevelBuilder::new(),
            batch: KeyBatch::new(),
            states: Vec::new(),
            merged: 0,
            dropped: 0,
        })
    }

    pub(super) fn inputs(&self) -> &[Arc<Level>] {
        &self.inputs
    }

    /// Memory beside that of the inputs.
    pub(super) fn bytes(&self) -> usize {
        self.out.bytes() + self.batch.bytes()
    }

    /// Merges one chunk; true if that was the last. After an error of the owner it can go on, after another it cannot.
    ///
    /// # Errors
    /// Those of the owner and the store, and `Corruption` of a run.
    pub(super) fn step(
        &mut self,
        keyspace: u32,
        owner: &dyn KeyOwner,
        options: &RunsOptions,
    ) -> Result<bool, Failure> {
        if self.batch.is_empty() {
            let keys_max = options.chunk_keys.max(1);
            self.sources.fill(keys_max, &mut self.batch, |_| {}).map_err(Failure::Merge)?;
        }
        if self.batch.is_empty() {
            return Ok(true);
        }
        owner.states(keyspace, &self.batch, &mut self.states).map_err(Failure::Owner)?;
        if self.states.len() != self.batch.len() {
            let (keys, states) = (self.batch.len(), self.states.len());
            let context = format!("the owner answered {states} states for {keys} keys");
            return Err(Failure::Owner(Error::new(ErrorKind::InvalidArgument, context)));
        }
        for (key, state) in self.batch.iter().zip(&self.states) {
            match state {
                KeyState::Live(hint) => {
                    self.out.push(key, *hint, options).map_err(Failure::Merge)?;
                    self.merged += 1;
                }
                KeyState::Dead => self.dropped += 1,
            }
        }
        self.batch.clear();
        Ok(self.sources.is_at_end())
    }

    /// Stores the rest.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn finish(self, options: &RunsOptions) -> Result<Merged> {
        let Merge { inputs, out, merged, dropped, .. } = self;
        Ok(Merged { inputs, out: out.finish(options)?, merged, dropped })
    }
}

/// Why a merge does not go on.
#[derive(Debug)]
pub(super) enum Failure {
    /// The owner gave no answer; ask again later.
    Owner(Error),
    /// The merge is of no use any more.
    Merge(Error),
}
