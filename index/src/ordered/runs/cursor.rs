//! The cursor of the `runs` kind.
//!
//! # Invariants
//! It keeps the state of the moment when it was made. Every key that was inserted before is in that state, and no part
//! of a state ever loses a key, so the walk misses none, whatever is sealed and merged meanwhile.

use std::sync::Arc;

use super::super::batch::KeyBatch;
use super::super::range::KeyRange;
use super::super::{Direction, KeyCursor};
use super::level::{LevelCursor, Place};
use super::sources::{DeltaCursor, Source, Sources, is_past_end, is_past_start};
use super::state::{Keyspace, OrderState};
use crate::error::{Error, Result};
use crate::sync::atomic::Ordering;

/// A walk over the keys of one keyspace.
pub(super) struct RunsCursor {
    keyspace: Arc<Keyspace>,
    state: Arc<OrderState>,
    range: KeyRange,
    direction: Direction,
    progress: Progress,
    /// The number of each key of the last batch with one of its places, in order.
    places: Vec<(u32, Option<(u32, Place)>)>,
}

enum Progress {
    Begin,
    Under(Sources),
    End,
    Failed(Error),
}

impl RunsCursor {
    pub(super) fn new(keyspace: Arc<Keyspace>, range: KeyRange, direction: Direction) -> Self {
        let state = keyspace.state.get();
        let progress = if range.is_empty() { Progress::End } else { Progress::Begin };
        RunsCursor { keyspace, state, range, direction, progress, places: Vec::new() }
    }

    fn fill(&mut self, keys_max: usize, batch: &mut KeyBatch) -> Result<()> {
        if let Progress::Begin = self.progress {
            let sources = open(&self.state, &self.range, self.direction)?;
            self.progress = Progress::Under(Sources::new(sources, self.direction));
        }
        let Progress::Under(sources) = &mut self.progress else { return Ok(()) };
        while batch.len() < keys_max.max(1) && batch.bytes() < KeyBatch::BYTES_MAX {
            let Some(key) = sources.key() else {
                self.progress = Progress::End;
                break;
            };
            let is_past = match self.direction {
                Direction::Forward => is_past_end(key, &self.range),
                Direction::Reverse => is_past_start(key, &self.range),
            };
            if is_past {
                self.progress = Progress::End;
                break;
            }
            let n = batch.len() as u32;
            batch.push_with_hint(key, sources.hint());
            self.places.extend(sources.places().map(|place| (n, place)));
            sources.step()?;
        }
        Ok(())
    }
}

/// The parts of a state as sources, newest first.
pub(super) fn open(
    state: &OrderState,
    range: &KeyRange,
    direction: Direction,
) -> Result<Vec<Source>> {
    let mut sources = Vec::with_capacity(2 + state.levels.len());
    for delta in [Some(&state.delta), state.sealed.as_ref()].into_iter().flatten() {
        if delta.len() > 0 {
            let cursor = DeltaCursor::new(Arc::clone(delta), range.clone(), direction);
            sources.push(Source::Delta(cursor));
        }
    }
    for (n, level) in state.levels.iter().enumerate() {
        let cursor = LevelCursor::new(Arc::clone(level), range, direction)?;
        sources.push(Source::Level(n as u32, cursor));
    }
    Ok(sources)
}

impl KeyCursor for RunsCursor {
    fn next_batch(&mut self, keys_max: usize, batch: &mut KeyBatch) -> Result<usize> {
        batch.clear();
        self.places.clear();
        if let Progress::Failed(error) = &self.progress {
            return Err(error.clone());
        }
        if let Err(error) = self.fill(keys_max, batch) {
            batch.clear();
            self.places.clear();
            self.progress = Progress::Failed(error.clone());
            return Err(error);
        }
        Ok(batch.len())
    }

    fn note_dead(&mut self, n: usize) {
        let from = self.places.partition_point(|(key, _)| (*key as usize) < n);
        for (_, place) in self.places[from..].iter().take_while(|(key, _)| *key as usize == n) {
            match place {
                // Only runs: a run of this state was made of keys that were inserted before the key was found dead,
                // and a later insert goes to a delta. A delta may hold that later insert already.
                Some((level, place)) => self.state.levels[*level as usize].skip(*place),
                None => {
                    self.keyspace.dead_notes.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}
