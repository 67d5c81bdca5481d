//! From the segments to the index: every record is read, and none ranks above the one that the index has of its key.
//!
//! # Concurrency
//! A record whose key the index knows nothing of, or an older record, is right in a segment that a job has in hand: a victim
//! whose tombstones were forgotten, or an output whose copies are not installed yet. So such a record is a finding only if
//! its segment was in no job before the index was asked again, and was there and in no job after that.

use super::newest::newest;
use super::{FindingKind, Verifier};
use crate::log::Log;
use crate::record::RecordRef;
use crate::segments::{SegmentReport, SegmentState};
use crate::stats::Progress;
use crate::ttl;

impl Verifier<'_> {
    /// Reads all segments.
    pub(super) fn read_segments(
        &mut self,
        segments: &[SegmentReport],
        mut progress: impl FnMut(Progress),
    ) {
        let core = self.core;
        let bytes_total = segments.iter().map(|segment| segment.stored_bytes).sum();
        let mut bytes_done = 0;
        progress(Progress { bytes_done, bytes_total });
        match &core.log {
            Log::Memory(log) => log.for_each_record(&mut |record| self.judge(record)),
            Log::Durable(log) => {
                for segment in segments {
                    self.report.segments += 1;
                    let read = match segment.state {
                        // Nothing of it is in the index.
                        SegmentState::Held => log.check_held(segment.id),
                        _ => {
                            self.found.entry(segment.id).or_default();
                            log.for_each_record(segment.id, &mut |record| self.judge(record))
                        }
                    };
                    if let Err(error) = read
                        && self.is_there(segment.id)
                    {
                        self.note_error(&error);
                    }
                    bytes_done += segment.stored_bytes;
                    progress(Progress { bytes_done, bytes_total });
                }
            }
        }
    }

    fn judge(&mut self, record: &RecordRef<'_>) {
        let footprint = record.footprint();
        self.report.records += 1;
        self.report.record_bytes += u64::from(footprint.bytes);
        // What cannot be read at all is met in its own segment.
        let Ok(newest) = newest(self.core, record.keyspace, record.key) else { return };
        let is_live = newest.is_some_and(|newest| newest.location() == record.location);
        let figures = self.found.entry(record.location.segment).or_default();
        figures.records += 1;
        figures.record_bytes += u64::from(footprint.bytes);
        if is_live {
            figures.live_records += 1;
            figures.live_bytes += u64::from(footprint.bytes);
            figures.live_tombstones += u64::from(record.tombstone);
            self.count_live(record);
        } else if newest.is_none_or(|newest| newest.version() < (record.seq, record.tombstone))
            && record.seq <= self.seq_max
            && self.is_lost(record)
        {
            let what = match newest {
                None => "the index knows nothing of the key of this record".to_owned(),
                Some(newest) => format!(
                    "the index has commit {} of this key, and the record is of commit {}",
                    newest.rank.seq, record.seq
                ),
            };
            self.note_record(FindingKind::Index, record, what);
        }
    }

    fn count_live(&mut self, record: &RecordRef<'_>) {
        if record.tombstone {
            self.report.tombstones += 1;
            return;
        }
        self.report.keys += 1;
        self.is_expiring |= record.expires_at_ms.is_some();
        if !ttl::is_expired(record.expires_at_ms, self.core.now_ms()) {
            *self.live.entry(record.keyspace).or_default() += 1;
        }
    }

    /// Asks once more about a record that ranks above what the index has.
    fn is_lost(&self, record: &RecordRef<'_>) -> bool {
        let core = self.core;
        let is_missing = || {
            let newest = newest(core, record.keyspace, record.key);
            newest.is_ok_and(|newest| {
                newest.is_none_or(|newest| newest.version() < (record.seq, record.tombstone))
            })
        };
        match &core.log {
            // Nothing but a commit changes anything there.
            Log::Memory(log) => {
                let before = log.sync();
                let is_there = log.read_with(record.location, |_, _| ()).is_some();
                is_missing() && is_there && before.is_ok_and(|before| before == log.last_seq())
            }
            Log::Durable(_) => {
                let segment = record.location.segment;
                let is_at_rest = || !core.compaction.in_work().contains(&segment);
                is_at_rest() && is_missing() && is_at_rest() && self.is_there(segment)
            }
        }
    }

    /// True if a segment was not retired meanwhile.
    fn is_there(&self, segment: u64) -> bool {
        self.core.segments().iter().any(|known| known.id == segment)
    }
}
