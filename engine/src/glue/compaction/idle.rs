//! What is done for a database that nobody writes: more garbage is worth a rewrite, and the segment that was written last is
//! left for another if it holds much, so that space comes back without being asked for (U3).

use std::sync::{Arc, Weak};
use std::time::Duration;

use cortenkv_compaction::{Scheduler, Step, Work, WorkError};

use super::store::Store;
use crate::core::Core;
use crate::error::Result;
use crate::record::SeqNo;

/// How long nobody must have written.
const IDLE_AFTER: Duration = Duration::from_secs(1);

/// Watches one database.
pub(super) struct IdleWatch {
    core: Weak<Core>,
    store: Arc<Store>,
    scheduler: Scheduler<Store>,
    /// The newest commit when it was last seen to change, and when that was.
    seen: Option<(SeqNo, Duration)>,
    /// When the segment that was written last was looked at.
    looked_at: Option<Duration>,
}

impl IdleWatch {
    pub(super) fn new(core: &Arc<Core>, store: &Arc<Store>, scheduler: &Scheduler<Store>) -> Self {
        let (core, store) = (Arc::downgrade(core), Arc::clone(store));
        IdleWatch { core, store, scheduler: scheduler.clone(), seen: None, looked_at: None }
    }

    /// Looks; true if there is a new segment to compact.
    pub(super) fn look(&mut self) -> Result<bool> {
        let Some(core) = self.core.upgrade() else { return Ok(false) };
        let (last_seq, now) = (core.log.last_seq(), core.clock().monotonic());
        let (_, since) = *self.seen.get_or_insert((last_seq, now));
        if self.seen.is_some_and(|(seen, _)| seen != last_seq) {
            self.seen = Some((last_seq, now));
            self.scheduler.set_idle(false);
            return Ok(false);
        }
        if now.saturating_sub(since) < IDLE_AFTER {
            return Ok(false);
        }
        self.scheduler.set_idle(true);
        // Again and again: values expire though nobody writes. One that was left has an empty successor.
        if self.looked_at.is_some_and(|at| now.saturating_sub(at) < IDLE_AFTER) {
            return Ok(false);
        }
        self.looked_at = Some(now);
        self.store.leave_garbage()
    }
}

impl Work for IdleWatch {
    fn step(&mut self) -> std::result::Result<Step, WorkError> {
        self.look()?;
        Ok(Step::Wait(IDLE_AFTER))
    }
}
