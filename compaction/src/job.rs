//! One job of compaction: a state machine whose every step is bounded and can be taken again.
//!
//! ```text
//!            by victim            by record      by output                    by record
//!   Read ─────────► Sort ─────────► Write ─────────► Seal ─────► Publish ─────► Relocate ─────► Retire ─► Done
//!   read, fate      by key          append           sync        one edit:       index:          files go
//!    ▲ error: the    (memory)        ▲ error in Write or Seal:   outputs in,     copy or none
//!      piece again                     new outputs               victims out     ▲ error: the same call again
//! ```
//!
//! # Layout
//! `records`: what was read. `report`: what was done.
//!
//! # Invariants
//! - Up to `Publish` the store is as it was: a job may be dropped at any time, and leaves nothing.
//! - From `Publish` on, the job must be finished ([`Job::is_published`]), else the index points at retired segments until
//!   a recovery puts that right; what is left then is bounded work in memory, and syncing the log.
//! - A victim is retired only after everything that must be kept is in a sealed, published output, and the index
//!   points there.
//!
//! # Failure
//! An error leaves the job where it was: [`Job::step`] again retries. Drop the job to give up, while it is not published.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::pacer::Pacer;
use crate::stats::{SegmentId, SegmentStats};
use crate::store::{Fate, SegmentStore, Stream};
use crate::strategy::{Limits, Reason};

mod records;
mod report;

use records::Records;
pub use report::{Progress, Report, Stage};

// LIMIT: bytes that one step reads or writes.
const STEP_BYTES: u64 = 256 << 10;
// LIMIT: index entries that one step moves.
const STEP_RECORDS: usize = 1_024;

/// A compaction of some segments together.
pub struct Job<S: SegmentStore> {
    store: Arc<S>,
    pacer: Arc<dyn Pacer>,
    limits: Limits,
    victims: Vec<SegmentStats>,
    victim_ids: Vec<SegmentId>,
    stage: Stage,
    /// Where the stage is: the victim, the record or the output that comes next.
    next: usize,
    /// Where in that victim.
    cursor: u64,
    records: Records,
    /// The last one of each stream is the one that is written.
    outputs: Vec<S::Output>,
    /// The stream of each output, and its bytes so far.
    written: Vec<(Stream, u64)>,
    report: Report,
}

impl<S: SegmentStore> Job<S> {
    /// A job that has done nothing yet. No segment may be in two jobs at a time, neither as a victim nor as an output; a
    /// [`Scheduler`](crate::Scheduler) sees to that.
    ///
    /// # Panics
    /// If a victim is not sealed, or named twice.
    pub fn new(
        store: Arc<S>,
        victims: Vec<SegmentStats>,
        reason: Reason,
        limits: Limits,
        pacer: Arc<dyn Pacer>,
    ) -> Self {
        let mut report = Report::new(reason);
        let mut victim_ids: Vec<SegmentId> = Vec::with_capacity(victims.len());
        for victim in &victims {
            assert!(victim.sealed, "segment {} was picked but is still written", victim.id);
            assert!(!victim_ids.contains(&victim.id), "segment {} was picked twice", victim.id);
            victim_ids.push(victim.id);
            report.input_bytes += victim.total_bytes;
        }
        Job {
            store,
            pacer,
            limits,
            victims,
            victim_ids,
            stage: Stage::Read,
            next: 0,
            cursor: 0,
            records: Records::default(),
            outputs: Vec::new(),
            written: Vec::new(),
            report,
        }
    }

    /// What the next step will work on.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// The segments that it compacts.
    pub fn victims(&self) -> &[SegmentId] {
        &self.victim_ids
    }

    /// The segments that it has written. From publishing until the job is done nobody else may compact them: the index does
    /// not point at them yet, so all they hold would look dead.
    pub fn outputs(&self) -> impl Iterator<Item = SegmentId> {
        self.outputs.iter().map(|output| self.store.id(output))
    }

    /// True once dropping the job would leave work undone: from the first attempt to publish until it is done.
    pub fn is_published(&self) -> bool {
        match self.stage {
            Stage::Publish => self.next > 0,
            Stage::Relocate | Stage::Retire => true,
            _ => false,
        }
    }

    /// Does one piece of work: about 256 KiB of reading or writing, or 1,024 index entries, or one sync. Only sorting is as
    /// large as the job, and all in memory. Waits for nothing but the store.
    ///
    /// # Errors
    /// What the store reports; the same piece of work comes again with the next call.
    pub fn step(&mut self) -> Result<Progress, S::Error> {
        if matches!(self.stage, Stage::Read | Stage::Write) {
            let wait = self.pacer.wait();
            if !wait.is_zero() {
                return Ok(Progress::Wait(wait));
            }
        }
        let stage = self.stage;
        let bytes = match stage {
            Stage::Read => self.read()?,
            Stage::Sort => self.sort(),
            Stage::Write => self.write().inspect_err(|_| self.begin_writing())?,
            Stage::Seal => self.seal().inspect_err(|_| self.begin_writing())?,
            Stage::Publish => self.publish()?,
            Stage::Relocate => self.relocate()?,
            Stage::Retire => self.retire()?,
            Stage::Done => return Ok(Progress::Done(self.report.clone())),
        };
        self.pacer.charge(bytes);
        if self.stage == Stage::Done {
            return Ok(Progress::Done(self.report.clone()));
        }
        Ok(Progress::Worked { stage, bytes })
    }

    fn enter(&mut self, stage: Stage) {
        (self.stage, self.next) = (stage, 0);
    }

    /// Throws away what was written, and starts over with it.
    fn begin_writing(&mut self) {
        self.outputs.clear();
        self.written.clear();
        self.report.copied_bytes = 0;
        self.enter(Stage::Write);
    }

    fn read(&mut self) -> Result<u64, S::Error> {
        let Some(victim) = self.victims.get(self.next) else {
            self.enter(Stage::Sort);
            return Ok(0);
        };
        let mark = self.records.mark();
        let (mut bytes, mut failed) = (0, None);
        let (store, records, victims) = (&*self.store, &mut self.records, &self.victim_ids);
        let (class, large_bytes_min) = (victim.class.survived(), self.limits.large_bytes_min);
        let read = store.read(victim.id, self.cursor, STEP_BYTES, &mut |record| {
            bytes += record.bytes;
            match store.fate(&record, victims) {
                Ok(Fate::Drop) => {}
                Ok(fate) => {
                    let large = fate == Fate::Keep && record.bytes >= large_bytes_min;
                    records.push(record, fate, Stream { class, large });
                }
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        let next = failed.map_or(read, Err).inspect_err(|_| self.records.cut(mark))?;
        match next {
            Some(cursor) => self.cursor = cursor,
            None => (self.next, self.cursor) = (self.next + 1, 0),
        }
        Ok(bytes)
    }

    fn sort(&mut self) -> u64 {
        self.records.sort();
        self.begin_writing();
        0
    }

    fn write(&mut self) -> Result<u64, S::Error> {
        let mut bytes = 0;
        while bytes < STEP_BYTES {
            if self.next == self.records.len() {
                self.enter(Stage::Seal);
                break;
            }
            let (record, fate, stream) = self.records.get(self.next);
            if fate != Fate::Forget {
                let output = self.output(stream, record.bytes)?;
                let (record, ..) = self.records.get(self.next);
                let placed = self.store.append(&mut self.outputs[output], &record, fate)?;
                self.written[output].1 += placed.bytes;
                bytes += placed.bytes;
                self.report.copied_bytes += placed.bytes;
                self.records.place(self.next, placed);
            }
            self.next += 1;
        }
        Ok(bytes)
    }

    /// The output of a stream that has room, begun if there is none.
    fn output(&mut self, stream: Stream, bytes: u64) -> Result<usize, S::Error> {
        let last = self.written.iter().rposition(|(of, _)| *of == stream);
        let has_room = |at: &usize| self.written[*at].1 + bytes <= self.limits.segment_bytes;
        if let Some(at) = last.filter(has_room) {
            return Ok(at);
        }
        let of_stream =
            self.victims.iter().filter(|victim| victim.class.survived() == stream.class);
        let created = of_stream.map(|victim| victim.created).max().unwrap_or(0);
        let output = self.store.create(stream, created)?;
        self.outputs.push(output);
        self.written.push((stream, 0));
        Ok(self.outputs.len() - 1)
    }

    fn seal(&mut self) -> Result<u64, S::Error> {
        match self.outputs.get_mut(self.next) {
            Some(output) => {
                self.store.seal(output)?;
                self.next += 1;
            }
            None => self.enter(Stage::Publish),
        }
        Ok(0)
    }

    fn publish(&mut self) -> Result<u64, S::Error> {
        // From here on nobody can tell whether it is published.
        self.next = 1;
        self.store.publish(&mut self.outputs, &self.victim_ids)?;
        self.report.outputs = self.outputs.len();
        self.enter(Stage::Relocate);
        Ok(0)
    }

    fn relocate(&mut self) -> Result<u64, S::Error> {
        let end = self.records.len().min(self.next + STEP_RECORDS);
        while self.next < end {
            let (record, ..) = self.records.get(self.next);
            match self.records.placed(self.next) {
                Some(placed) if self.store.relocate(&record, placed)? => {
                    self.report.records_moved += 1;
                }
                Some(_) => self.report.records_not_moved += 1,
                None => {
                    self.store.forget(&record)?;
                    self.report.records_forgotten += 1;
                }
            }
            self.next += 1;
        }
        if self.next == self.records.len() {
            self.enter(Stage::Retire);
        }
        Ok(0)
    }

    fn retire(&mut self) -> Result<u64, S::Error> {
        self.store.retire(&self.victim_ids)?;
        self.report.victims = self.victim_ids.clone();
        self.records = Records::default();
        self.outputs.clear();
        self.enter(Stage::Done);
        Ok(0)
    }
}
