//! What runs one job after the other: as work for a pool, stepped by hand, or to the end in the calling thread.

use std::fmt;
use std::sync::Arc;

use super::{ATTEMPTS_MAX, LeasedJob, Shared};
use crate::job::{Progress, Report, Stage};
use crate::pacer::Unpaced;
use crate::pool::{Step, Work, WorkError};
use crate::store::{SegmentStore, Verdict};
use crate::strategy::{Limits, Reason};

// LIMIT: jobs in a row that may be of no use. More of them mean that the store's numbers are wrong, and going on at full
// speed would wear out the disk for nothing.
const FRUITLESS_MAX: u32 = 4;

/// What a step counts for at least in [`Compactor::worked_bytes`], so that none is for nothing.
const STEP_BYTES_MIN: u64 = 4096;

/// The sums of some jobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Jobs that were finished.
    pub jobs: u64,
    /// Segments that were retired.
    pub segments_retired: u64,
    /// Segments that were written.
    pub segments_written: u64,
    /// Bytes of all records of the victims.
    pub input_bytes: u64,
    /// Bytes of the copies.
    pub copied_bytes: u64,
}

impl Summary {
    fn add(&mut self, report: &Report) {
        self.jobs += 1;
        self.segments_retired += report.victims.len() as u64;
        self.segments_written += report.outputs as u64;
        self.input_bytes += report.input_bytes;
        self.copied_bytes += report.copied_bytes;
    }

    /// The bytes that the store is smaller by.
    pub fn freed_bytes(&self) -> u64 {
        self.input_bytes.saturating_sub(self.copied_bytes)
    }
}

/// Runs jobs of one [`Scheduler`](super::Scheduler), one at a time.
///
/// Dropped, it gives up its job if that is not published, and else leaves it to the next compactor of the scheduler. Call
/// [`Work::stop`] before, which finishes it: a published job that nobody finishes is left as a crash would leave it.
pub struct Compactor<S: SegmentStore> {
    shared: Arc<Shared<S>>,
    /// Of the caller, who does not want to be paced; `None` in the background.
    limits: Option<Limits>,
    job: Option<LeasedJob<S>>,
    attempts: u32,
    /// Jobs in a row that were of no use.
    fruitless: u32,
    done: Summary,
    worked_bytes: u64,
}

impl<S: SegmentStore> fmt::Debug for Compactor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let victims = self.job.as_ref().map(|leased| leased.job.victims());
        f.debug_struct("Compactor").field("victims", &victims).finish_non_exhaustive()
    }
}

impl<S: SegmentStore> Compactor<S> {
    pub(super) fn new(shared: Arc<Shared<S>>, limits: Option<Limits>) -> Self {
        Compactor {
            shared,
            limits,
            job: None,
            attempts: 0,
            fruitless: 0,
            done: Summary::default(),
            worked_bytes: 0,
        }
    }

    pub(super) fn with_job(shared: Arc<Shared<S>>, job: LeasedJob<S>) -> Self {
        let mut compactor = Compactor::new(shared, None);
        compactor.job = Some(job);
        compactor
    }

    /// Does one piece of work: looks for a job, or takes one step of it. [`Step::Wait`] is an answer too: nothing is worth
    /// the work, or the pacer wants time to pass.
    ///
    /// # Errors
    /// What the store reports. The next call tries the step again, or gives the job up if it has failed too often.
    pub fn step(&mut self) -> Result<Step, S::Error> {
        if self.job.is_none() {
            self.job = match self.limits {
                None => {
                    let pacer = Arc::clone(&self.shared.options.pacer);
                    self.shared.next_job(&self.shared.limits(), pacer)?
                }
                Some(limits) => self.shared.next_job(&limits, Arc::new(Unpaced))?,
            };
            self.attempts = 0;
        }
        let Some(leased) = &mut self.job else {
            return Ok(Step::Wait(self.shared.options.poll_interval));
        };
        let clock = &self.shared.options.clock;
        let (stage, begun) = (leased.job.stage(), clock.monotonic());
        if stage == Stage::Publish {
            leased.lease.take(leased.job.outputs());
        }
        let progress = leased.job.step();
        self.worked_bytes += STEP_BYTES_MIN;
        self.shared.metrics.worked(stage, clock.monotonic().saturating_sub(begun));
        match progress {
            Ok(Progress::Worked { bytes, .. }) => {
                self.worked_bytes += bytes;
                self.attempts = 0;
                Ok(Step::Again)
            }
            Ok(Progress::Wait(wait)) => {
                self.shared.metrics.paced(wait);
                Ok(Step::Wait(wait))
            }
            Ok(Progress::Done(report)) => Ok(self.finish(&report)),
            Err(error) => self.fail(error),
        }
    }

    /// A step of the job has failed.
    fn fail(&mut self, error: S::Error) -> Result<Step, S::Error> {
        self.shared.metrics.failed();
        self.attempts += 1;
        let Some(leased) = &self.job else { return Err(error) };
        let is_hopeless = self.attempts >= ATTEMPTS_MAX;
        match self.shared.store.judge(&error, leased.job.victims()) {
            _ if leased.job.is_published() => {}
            Verdict::PickAnew => {
                self.give_up();
                return Ok(Step::Again);
            }
            Verdict::LeaveAlone(segment) => {
                self.shared.leave_alone(segment);
                self.give_up();
            }
            Verdict::GiveUp => self.give_up(),
            Verdict::Later if is_hopeless => {
                self.shared.shun(&leased.lease.segments);
                self.give_up();
            }
            Verdict::Later => {}
        }
        Err(error)
    }

    /// How much was done so far: bytes read and written, and 4 KiB for each step. For whoever works in proportion to something.
    pub fn worked_bytes(&self) -> u64 {
        self.worked_bytes
    }

    /// True while it has a job in hand.
    pub fn has_job(&self) -> bool {
        self.job.is_some()
    }

    fn finish(&mut self, report: &Report) -> Step {
        self.shared.metrics.done(report);
        self.done.add(report);
        self.job = None;
        let is_fruitless =
            report.is_fruitless() && !matches!(report.reason, Reason::Manual | Reason::Repack);
        self.fruitless = if is_fruitless { self.fruitless + 1 } else { 0 };
        if self.fruitless < FRUITLESS_MAX {
            return Step::Again;
        }
        self.fruitless = 0;
        Step::Wait(self.shared.options.poll_interval)
    }

    /// Gives the job up, or leaves it to whoever looks for work next if it is published.
    fn give_up(&mut self) {
        match self.job.take() {
            Some(leased) if leased.job.is_published() => self.shared.unfinished().push(leased),
            Some(_) => self.shared.metrics.given_up(),
            None => {}
        }
    }

    /// Steps until nothing is worth the work.
    pub(super) fn run(mut self) -> Result<Summary, S::Error> {
        while self.step()? == Step::Again {}
        Ok(self.done)
    }

    /// Steps until its job is done, or given up to be picked anew: then the sum has no job.
    pub(super) fn run_job(mut self) -> Result<Summary, S::Error> {
        while self.job.is_some() {
            self.step()?;
        }
        Ok(self.done)
    }
}

impl<S: SegmentStore> Work for Compactor<S> {
    fn step(&mut self) -> Result<Step, WorkError> {
        Compactor::step(self).map_err(|error| Box::new(error) as WorkError)
    }

    /// Gives up a job that is not published. Finishes one that is: work in memory, and one sync of the log.
    fn stop(&mut self) {
        let is_published = |this: &Self| this.job.as_ref().is_some_and(|it| it.job.is_published());
        while is_published(self) && Compactor::step(self).is_ok() {}
        self.give_up();
    }
}

impl<S: SegmentStore> Drop for Compactor<S> {
    fn drop(&mut self) {
        self.give_up();
    }
}
