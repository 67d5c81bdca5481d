//! The cursor of the `runs` kind.
//!
//! # Invariants
//! It keeps the state of the moment when it was made. Every key that was inserted before is in that state, and no part
//! of a state ever loses a key, so the walk misses none, whatever is sealed and merged meanwhile.

use std::sync::Arc;

use super::super::batch::KeyBatch;
use super::super::range::KeyRange;
use super::super::{Direction, KeyCursor};
use super::sources::{Sources, Span};
use super::state::{Keyspace, OrderState};
use crate::error::{Error, Result};
use crate::sync::atomic::Ordering;

/// Keys that a batch gets room for at once, and spans: what a short walk needs, without growing step by step.
const RESERVED_KEYS: usize = 64;
const RESERVED_SPANS: usize = 32;

/// A walk over the keys of one keyspace.
pub(super) struct RunsCursor {
    keyspace: Arc<Keyspace>,
    state: Arc<OrderState>,
    direction: Direction,
    progress: Progress,
    /// Where the keys of the last batch came from, in their order.
    spans: Vec<Span>,
}

enum Progress {
    Begin(KeyRange),
    Under(Sources),
    End,
    Failed(Error),
}

impl RunsCursor {
    pub(super) fn new(keyspace: Arc<Keyspace>, range: KeyRange, direction: Direction) -> Self {
        let state = keyspace.state.get();
        let progress = if range.is_empty() { Progress::End } else { Progress::Begin(range) };
        RunsCursor { keyspace, state, direction, progress, spans: Vec::new() }
    }

    fn fill(&mut self, keys_max: usize, batch: &mut KeyBatch) -> Result<()> {
        if let Progress::Begin(range) = &mut self.progress {
            let range = std::mem::replace(range, KeyRange::all());
            let sources = Sources::open(&self.state, range, self.direction)?;
            self.progress = Progress::Under(sources);
        }
        let Progress::Under(sources) = &mut self.progress else { return Ok(()) };
        // LIMIT: more memory comes with the keys.
        batch.reserve(RESERVED_KEYS, RESERVED_KEYS * 32);
        self.spans.reserve(RESERVED_SPANS);
        sources.fill(keys_max.max(1), batch, |span| self.spans.push(span))?;
        if sources.is_at_end() {
            self.progress = Progress::End;
        }
        Ok(())
    }
}

impl KeyCursor for RunsCursor {
    fn next_batch(&mut self, keys_max: usize, batch: &mut KeyBatch) -> Result<usize> {
        batch.clear();
        self.spans.clear();
        if let Progress::Failed(error) = &self.progress {
            return Err(error.clone());
        }
        if let Err(error) = self.fill(keys_max, batch) {
            batch.clear();
            self.spans.clear();
            self.progress = Progress::Failed(error.clone());
            return Err(error);
        }
        Ok(batch.len())
    }

    fn note_dead(&mut self, n: usize) {
        let from = self.spans.partition_point(|span| span.end() <= n);
        for span in self.spans[from..].iter().take_while(|span| span.first() <= n) {
            match span.level() {
                // Only runs: a run of this state was made of keys that were inserted before the key was found dead,
                // and a later insert goes to a delta. A delta may hold that later insert already.
                Some((level, places)) => {
                    let nth = (n - span.first()) as u32;
                    self.state.levels[level as usize].skip(places, nth, self.direction);
                }
                None => {
                    self.keyspace.dead_notes.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}
