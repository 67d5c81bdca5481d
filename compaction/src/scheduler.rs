//! Which job runs next on one store, and the compactors that run them.
//!
//! # Invariants
//! - No segment is in two jobs at a time: a job holds a lease on its victims from before the store's numbers are read until
//!   it is done or dropped.
//! - Outputs are leased before they are published: until the index points at them they look dead, and another job would
//!   drop what is in them.
//! - Segments in work count as if their garbage were gone already, so several compactors together do not overshoot.
//!
//! # Failure
//! A job that fails is tried again, step by step; one that fails [`ATTEMPTS_MAX`] times before it is published is given up
//! and its victims are left alone for [`SHUN`], so that one bad segment does not keep the others from being reclaimed. What the
//! store finds damaged is left alone for good, and its garbage is no debt ([`Verdict`](crate::Verdict)).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::job::Job;
use crate::metrics::{CompactionStats, Metrics};
use crate::pacer::{Pacer, Unpaced};
use crate::stats::{SegmentId, SegmentStats, debt_bytes};
use crate::store::SegmentStore;
use crate::strategy::{Chain, Choice, Limits, Reason, Strategy};

mod compactor;

pub use compactor::{Compactor, Summary};

/// How often a job that is not published may fail.
pub const ATTEMPTS_MAX: u32 = 5;

/// How long the victims of a job that was given up are left alone.
pub const SHUN: Duration = Duration::from_secs(600);

/// How a store is compacted.
pub struct SchedulerOptions {
    /// What picks the victims.
    pub strategy: Box<dyn Strategy>,
    /// How much garbage is good enough, and how large a job may be.
    pub limits: Limits,
    /// How fast jobs may be.
    pub pacer: Arc<dyn Pacer>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How long a compactor waits when nothing is worth the work, before it looks again by itself.
    pub poll_interval: Duration,
}

/// Everything by [`Chain::default`], not limited in rate, looking again each second.
impl Default for SchedulerOptions {
    fn default() -> Self {
        SchedulerOptions {
            strategy: Box::new(Chain::default()),
            limits: Limits::default(),
            pacer: Arc::new(Unpaced),
            clock: Arc::new(SystemClock),
            poll_interval: Duration::from_secs(1),
        }
    }
}

impl fmt::Debug for SchedulerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerOptions")
            .field("limits", &self.limits)
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}

/// Decides what is compacted next in one store. A cheap handle: clones share everything.
pub struct Scheduler<S: SegmentStore>(Arc<Shared<S>>);

struct Shared<S: SegmentStore> {
    store: Arc<S>,
    options: SchedulerOptions,
    idle: AtomicBool,
    /// Garbage in damaged segments, which nobody can reclaim.
    damaged_bytes: AtomicU64,
    leases: Mutex<Leases>,
    /// Published jobs whose compactor went after an error: whoever looks for work next finishes them first.
    unfinished: Mutex<Vec<LeasedJob<S>>>,
    metrics: Metrics,
}

#[derive(Default)]
struct Leases {
    /// In a job.
    taken: BTreeSet<SegmentId>,
    /// Left alone until then.
    shunned: BTreeMap<SegmentId, Duration>,
    /// Damaged: left alone.
    damaged: BTreeSet<SegmentId>,
}

/// The right to compact some segments, and that nobody compacts those that come of it; given back when dropped.
struct Lease<S: SegmentStore> {
    /// Weak, since an unfinished job and its lease are kept by what they point at.
    shared: Weak<Shared<S>>,
    segments: Vec<SegmentId>,
}

impl<S: SegmentStore> Drop for Lease<S> {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut leases = shared.leases();
        for segment in &self.segments {
            leases.taken.remove(segment);
        }
    }
}

impl<S: SegmentStore> Lease<S> {
    /// Takes segments that nobody else can have yet, or that are in the lease already.
    fn take(&mut self, segments: impl Iterator<Item = SegmentId>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut leases = shared.leases();
        for segment in segments {
            if leases.taken.insert(segment) {
                self.segments.push(segment);
            }
        }
    }
}

/// A job and the lease on its victims, dropped in this order.
struct LeasedJob<S: SegmentStore> {
    job: Job<S>,
    lease: Lease<S>,
}

impl<S: SegmentStore> Clone for Scheduler<S> {
    fn clone(&self) -> Self {
        Scheduler(Arc::clone(&self.0))
    }
}

impl<S: SegmentStore> fmt::Debug for Scheduler<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl<S: SegmentStore> Scheduler<S> {
    /// A scheduler for one store. It starts nothing: put [`compactor`](Self::compactor)s into a
    /// [`WorkerPool`](crate::WorkerPool), step them yourself, or call [`compact`](Self::compact).
    pub fn new(store: Arc<S>, options: SchedulerOptions) -> Self {
        Scheduler(Arc::new(Shared {
            store,
            idle: AtomicBool::new(options.limits.idle),
            options,
            damaged_bytes: AtomicU64::new(0),
            leases: Mutex::default(),
            unfinished: Mutex::default(),
            metrics: Metrics::default(),
        }))
    }

    /// Something that runs one job after the other, for ever. Several may run at a time.
    pub fn compactor(&self) -> Compactor<S> {
        Compactor::new(Arc::clone(&self.0), None)
    }

    /// Compacts in the calling thread, at full speed and down to the idle target, until nothing is worth the work; what
    /// compactors have in work meanwhile is left to them. This is also what a store without threads calls.
    ///
    /// # Errors
    /// What the store reports, at the first failure.
    pub fn compact(&self) -> Result<Summary, S::Error> {
        let limits = Limits { idle: true, ..self.0.options.limits };
        Compactor::new(Arc::clone(&self.0), Some(limits)).run()
    }

    /// Compacts these segments together in the calling thread, whatever the strategy says; `None` if one of them is not
    /// there, not sealed, or in work.
    ///
    /// # Errors
    /// What the store reports, at the first failure.
    pub fn compact_segments(&self, ids: &[SegmentId]) -> Result<Option<Summary>, S::Error> {
        let limits = self.0.options.limits;
        let choose = |segments: &[SegmentStats]| {
            let ids: BTreeSet<SegmentId> = ids.iter().copied().collect();
            let there = segments.iter().filter(|s| s.sealed && ids.contains(&s.id)).count();
            let segments: Vec<SegmentId> = ids.into_iter().collect();
            if segments.is_empty() || there < segments.len() {
                return Choice::Nothing;
            }
            Choice::Compact { segments, reason: Reason::Manual }
        };
        loop {
            let Some(job) = self.0.lease(&limits, Arc::new(Unpaced), choose)? else {
                return Ok(None);
            };
            let done = Compactor::with_job(Arc::clone(&self.0), job).run_job()?;
            if done.jobs > 0 {
                return Ok(Some(done));
            }
        }
    }

    /// Tells whether anybody writes the store, which decides about the target.
    pub fn set_idle(&self, idle: bool) {
        self.0.idle.store(idle, Relaxed);
    }

    /// Computes [`CompactionStats::debt_bytes`] anew from the sums of the store, as looking for a job does: for a store that
    /// grows while a long job is under way.
    pub fn note_totals(&self, total_bytes: u64, live_bytes: u64) {
        let total_bytes = total_bytes.saturating_sub(self.0.damaged_bytes.load(Relaxed));
        let debt = debt_bytes(total_bytes, live_bytes, self.0.limits().target());
        self.0.metrics.set_debt(debt);
    }

    /// [`CompactionStats::debt_bytes`] alone: one load, for every write to ask.
    #[inline]
    pub fn debt_bytes(&self) -> u64 {
        self.0.metrics.debt_bytes()
    }

    /// The segments that are in a job at the moment, victims and outputs, in order; those of published jobs that are left
    /// over too.
    pub fn in_work(&self) -> Vec<SegmentId> {
        self.0.leases().taken.iter().copied().collect()
    }

    /// What was done so far.
    pub fn stats(&self) -> CompactionStats {
        self.0.metrics.snapshot()
    }
}

impl<S: SegmentStore> Shared<S> {
    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unfinished(&self) -> MutexGuard<'_, Vec<LeasedJob<S>>> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> Limits {
        Limits { idle: self.idle.load(Relaxed), ..self.options.limits }
    }

    /// A published job that is left over, else the job that the strategy wants now.
    fn next_job(
        self: &Arc<Self>,
        limits: &Limits,
        pacer: Arc<dyn Pacer>,
    ) -> Result<Option<LeasedJob<S>>, S::Error> {
        let left_over = self.unfinished().pop();
        if left_over.is_some() {
            return Ok(left_over);
        }
        let live_bytes_max = limits.live_bytes_max.min(self.store.room_bytes());
        let limits = &Limits { live_bytes_max, ..*limits };
        self.lease(limits, pacer, |segments| self.options.strategy.pick(segments, limits))
    }

    /// A job for what `choose` picks among the segments that are free.
    ///
    /// # Panics
    /// If it picks a segment that it was not offered.
    fn lease(
        self: &Arc<Self>,
        limits: &Limits,
        pacer: Arc<dyn Pacer>,
        choose: impl FnOnce(&[SegmentStats]) -> Choice,
    ) -> Result<Option<LeasedJob<S>>, S::Error> {
        // Before the numbers are read: what is retired after that is still leased, so it is not picked again.
        let mut leases = self.leases();
        let now = self.options.clock.monotonic();
        leases.shunned.retain(|_, until| *until > now);
        let mut segments = self.store.segments()?;
        let mut damaged_bytes = 0;
        for segment in &mut segments {
            if leases.damaged.contains(&segment.id) {
                damaged_bytes += segment.garbage_bytes();
            }
            if leases.taken.contains(&segment.id) || leases.damaged.contains(&segment.id) {
                *segment = segment.in_work();
            } else if leases.shunned.contains_key(&segment.id) {
                *segment = segment.active();
            }
        }
        self.damaged_bytes.store(damaged_bytes, Relaxed);
        let total_bytes = segments.iter().map(|segment| segment.total_bytes).sum();
        let live_bytes = segments.iter().map(|segment| segment.live_bytes).sum();
        self.metrics.set_debt(debt_bytes(total_bytes, live_bytes, limits.target()));
        let Choice::Compact { segments: ids, reason } = choose(&segments) else { return Ok(None) };
        let find = |id: &SegmentId| segments.iter().find(|segment| segment.id == *id).copied();
        let victims = ids.iter().map(|id| {
            find(id).unwrap_or_else(|| panic!("segment {id} was picked but is not on offer"))
        });
        let victims = victims.collect();
        let job = Job::new(Arc::clone(&self.store), victims, reason, *limits, pacer);
        leases.taken.extend(&ids);
        drop(leases);
        let lease = Lease { shared: Arc::downgrade(self), segments: ids };
        Ok(Some(LeasedJob { job, lease }))
    }

    /// Leaves these segments alone for a while.
    fn shun(&self, segments: &[SegmentId]) {
        let until = self.options.clock.monotonic().saturating_add(SHUN);
        self.leases().shunned.extend(segments.iter().map(|&segment| (segment, until)));
    }

    /// Never picks this segment again.
    fn leave_alone(&self, segment: SegmentId) {
        self.leases().damaged.insert(segment);
    }
}
