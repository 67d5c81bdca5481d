//! What the leader of a train does: gather, write and sync everything published, install it, count it.

use std::time::Duration;

use crate::appender::Snapshot;
use crate::bugs::{Bug, planted};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::install::install_range;
use crate::record::SeqNo;
use crate::segment::Segment;
use crate::sync::lock;
use crate::train::Track;

/// How much a leader makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything published.
    All,
    /// Segments that were filled and left: nobody waits, so the pages of the one being written are left alone.
    Sealed,
}

/// The log as the train sees it, with the gathering of the commit that leads.
pub(crate) struct Line<'a> {
    core: &'a Core,
    gather: Option<(Duration, u32)>,
    scope: Scope,
}

impl<'a> Line<'a> {
    pub(crate) fn new(core: &'a Core, gather: Option<(Duration, u32)>) -> Self {
        Line { core, gather, scope: Scope::All }
    }

    /// A sync of the segments that were filled and left.
    pub(crate) fn of_sealed(core: &'a Core) -> Self {
        Line { core, gather: None, scope: Scope::Sealed }
    }
}

impl Track for Line<'_> {
    fn sync(&self) -> Result<SeqNo> {
        let core = self.core;
        let started = core.options.clock.monotonic();
        if self.scope == Scope::All {
            core.timer.disarm();
        }
        let snapshot = lock(&core.appender).snapshot(self.scope);
        let before = core.train.durable();
        if snapshot.segments.is_empty() && snapshot.install_from.is_none() {
            return Ok(snapshot.seq.max(before));
        }
        #[cfg(feature = "tracing")]
        let _span = tracing::trace_span!(
            "wal.sync",
            seq = snapshot.seq,
            segments = snapshot.segments.len()
        )
        .entered();
        core.sync_snapshot(&snapshot)?;
        {
            let mut appender = lock(&core.appender);
            appender.unsynced().note_synced(&snapshot.segments);
            appender.note_installed();
        }
        let took = core.options.clock.monotonic().saturating_sub(started);
        let commits = snapshot.seq.saturating_sub(before);
        if commits > 0 {
            core.counters.observe_group(commits, took, core.options.clock.wall_ms());
        }
        if self.scope == Scope::All {
            core.gather.observe(commits, took);
        }
        Ok(snapshot.seq)
    }

    fn request_leader(&self) {
        self.core.sync_signals.notify();
    }

    fn gather(&self, riders: &dyn Fn() -> usize) {
        if cfg!(any(loom, shuttle)) {
            // A checker tries who comes on board by itself, and its clock stands still.
            return;
        }
        let Some((max_wait, max_batch)) = self.gather else { return };
        let Some((wanted, wait)) = self.core.gather.plan(max_wait, max_batch) else { return };
        let clock = &self.core.options.clock;
        let until = clock.monotonic() + wait;
        // Giving the core away lets the riders of the last train, who were just woken, come back on board. A timed
        // wait would take longer than the sync: timers here fire 50 microseconds late.
        while riders() < wanted && clock.monotonic() < until {
            crate::sync::thread::yield_now();
        }
    }
}

impl Core {
    /// Makes a snapshot durable and installs it; the caller leads.
    fn sync_snapshot(&self, snapshot: &Snapshot) -> Result<()> {
        // Every segment in order: the watermark never passes into one whose predecessor is not on the disk.
        for (i, (segment, end)) in snapshot.segments.iter().enumerate() {
            self.flush_segment(segment, *end)?;
            if planted(Bug::HoleBetweenSegments) && i + 1 < snapshot.segments.len() {
                continue;
            }
            self.sync_segment(segment)?;
        }
        install_range(snapshot, self.handler.as_ref()).map_err(|e| self.latch.poison(e))
    }

    fn sync_segment(&self, segment: &Segment) -> Result<()> {
        // DURABILITY: the commits of the group. A failed sync is never tried again.
        let mut synced = segment.file.sync_data();
        if synced.is_err() && planted(Bug::SyncRetried) {
            synced = segment.file.sync_data();
        }
        self.counters.syncs.add(1);
        match synced {
            Err(_) if planted(Bug::SyncErrorIgnored) => Ok(()),
            Err(e) => Err(self.latch.poison(Error::sync_failed(&segment.path, e))),
            Ok(()) => Ok(()),
        }
    }
}
