//! One round of compaction, on one screen.
//!
//! # Failure
//! An error before the install drops the output, and the store is as it was. One after it leaves inputs without live
//! records, which the next round retires.

use crate::stats::SegmentId;
use crate::store::{Installed, LiveRecord, SegmentOutput, SegmentStore};
use crate::strategy::{Choice, Limits, Strategy};

/// What one round did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The segments that were retired.
    pub segments: Vec<SegmentId>,
    /// The bytes of all their records.
    pub input_bytes: u64,
    /// The bytes of keys and bodies that were copied.
    pub copied_bytes: u64,
    /// What became of the copies.
    pub installed: Installed,
}

struct Copy {
    keyspace: u32,
    key: Box<[u8]>,
    token: u64,
    body: Box<[u8]>,
}

/// Picks victims, copies what is live in them, sorted by key, installs the copy, and retires the victims. `None` if the
/// strategy found nothing worth the work.
///
/// At most one round may run on a segment at a time. The live records of the victims are in memory meanwhile, which
/// [`Limits::live_bytes_max`] bounds.
///
/// # Errors
/// What the store reports.
///
/// # Panics
/// If the strategy picks a segment that it was not offered, or one that is not sealed.
pub fn compact_once<S: SegmentStore + ?Sized>(
    store: &S,
    strategy: &dyn Strategy,
    limits: &Limits,
) -> Result<Option<Report>, S::Error> {
    let segments = store.segments()?;
    let Choice::Compact(victims) = strategy.pick(&segments, limits) else { return Ok(None) };
    let mut report = Report::default();
    let mut copies = Vec::new();
    for &victim in &victims {
        let stats = segments.iter().find(|segment| segment.id == victim && segment.sealed);
        let stats =
            stats.unwrap_or_else(|| panic!("segment {victim} was picked but is not on offer"));
        report.input_bytes += stats.total_bytes;
        store.read_live(victim, &mut |record| copies.push(Copy::of(record)))?;
    }
    if !copies.is_empty() {
        copies.sort_by(|a, b| (a.keyspace, &a.key, a.token).cmp(&(b.keyspace, &b.key, b.token)));
        let mut output = store.output()?;
        for copy in &copies {
            report.copied_bytes += (copy.key.len() + copy.body.len()) as u64;
            output.append(copy.record())?;
        }
        report.installed = output.install()?;
    }
    store.retire(&victims)?;
    report.segments = victims;
    Ok(Some(report))
}

impl Copy {
    fn of(record: LiveRecord<'_>) -> Self {
        let LiveRecord { keyspace, key, token, body } = record;
        Copy { keyspace, key: key.into(), token, body: body.into() }
    }

    fn record(&self) -> LiveRecord<'_> {
        LiveRecord { keyspace: self.keyspace, key: &self.key, token: self.token, body: &self.body }
    }
}
