//! Runs that outlive the process: what an owner needs to note of them, and the way back.
//!
//! # Invariants
//! What is saved holds every key that was inserted before, unless it was dropped as dead.
//!
//! # Failure
//! Header and index section of a run are verified when it comes back, its blocks when they are touched.

use std::fmt;
use std::sync::Arc;

use super::super::batch::KeyBatch;
use super::super::range::KeyRange;
use super::super::run::{RamRuns, Run, RunBytes};
use super::super::{Direction, KeyCursor};
use super::RunsOrdered;
use super::cursor::RunsCursor;
use super::level::{Level, LevelBuilder};
use super::options::RunsOptions;
use super::state::{Keyspace, OrderState};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::Published;

/// Keys that are copied at a time.
const CHUNK_KEYS: usize = 256;

/// A piece of a run.
#[derive(Clone)]
pub struct SavedPiece {
    /// Its first key.
    pub first: Box<[u8]>,
    /// All of it; [`RunBytes::number`] says whether the store has it.
    pub bytes: Arc<dyn RunBytes>,
}

/// A run in its pieces, in the order of their keys.
pub type SavedRun = Vec<SavedPiece>;

impl fmt::Debug for SavedPiece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedPiece").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl RunsOrdered {
    /// The keyspaces that are there, in order.
    pub fn keyspaces(&self) -> Vec<u32> {
        self.keyspaces.get().keys().copied().collect()
    }

    /// The runs of a keyspace, the newest first. Keys that are in no run yet come as one more, in memory.
    ///
    /// Inserts go on; what comes meanwhile may be in it or not.
    ///
    /// # Errors
    /// `LimitExceeded` for a run that cannot be, as a merge would answer.
    pub fn save(&self, keyspace: u32) -> Result<Vec<SavedRun>> {
        let Some(keyspace) = self.find(keyspace) else { return Ok(Vec::new()) };
        let state = keyspace.state.get();
        let fresh = OrderState { levels: Vec::new(), ..(*state).clone() };
        let fresh = run_of(fresh, &self.options)?;
        Ok(fresh.iter().chain(&state.levels).map(|level| level.save()).collect())
    }

    /// Puts runs that were saved in the place of all runs of a keyspace; what is not in a run stays. A hint counts only if
    /// `stands` says that its segment stands in its slot.
    ///
    /// # Errors
    /// `Corruption` for runs that were never saved so, or are damaged. Then nothing has changed.
    pub fn restore(
        &self,
        keyspace: u32,
        runs: Vec<SavedRun>,
        stands: &mut dyn FnMut(u64, u16) -> bool,
    ) -> Result<()> {
        let mut levels = Vec::with_capacity(runs.len());
        for run in runs {
            levels.push(Arc::new(Level::restore(run, stands)?));
        }
        self.find_or_add(keyspace).replace_runs(|| Ok(levels))
    }
}

/// One run of all keys of a state; `None` if there is none.
fn run_of(state: OrderState, options: &RunsOptions) -> Result<Option<Arc<Level>>> {
    let options = RunsOptions { store: Arc::new(RamRuns), ..options.clone() };
    let keyspace = Keyspace { state: Published::new(state), ..Keyspace::default() };
    let mut cursor = RunsCursor::new(Arc::new(keyspace), KeyRange::all(), Direction::Forward);
    let (mut out, mut batch) = (LevelBuilder::new(), KeyBatch::new());
    while cursor.next_batch(CHUNK_KEYS, &mut batch)? > 0 {
        for n in 0..batch.len() {
            out.push(batch.get(n).unwrap_or_default(), None, &options)?;
        }
    }
    out.finish(&options)
}

/// A piece with its run, as a level has it.
pub(super) type Opened = (Box<[u8]>, Arc<Run>);

/// Opens the pieces of a run.
pub(super) fn open_pieces(
    run: SavedRun,
    stands: &mut dyn FnMut(u64, u16) -> bool,
) -> Result<Vec<Opened>> {
    let mut pieces: Vec<Opened> = Vec::with_capacity(run.len());
    for SavedPiece { first, bytes } in run {
        let mut run = Run::open(bytes)?;
        run.forget_segments(stands);
        let is_behind = pieces.last().is_none_or(|(before, _)| *before < first);
        if !is_behind || run.len() == 0 {
            let context = "the pieces of a run do not follow each other";
            return Err(Error::new(ErrorKind::Corruption, context));
        }
        pieces.push((first, Arc::new(run)));
    }
    Ok(pieces)
}
