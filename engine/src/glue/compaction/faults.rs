//! What goes wrong with jobs: what is done about it, and what is told of it.
//!
//! # Failure
//! | what | what is done |
//! |---|---|
//! | a full disk | the reserve is given up, and with its room a job is picked; if there is none, that is tried again later |
//! | damage in a victim | it is left alone until the database is opened again; its file and the offset are in the figures |
//! | an output cannot be written or synced | the database takes no more writes (`Io` is latched): a sync that failed proves nothing |
//! | an edit of the manifest fails | the same |
//! | a file cannot be removed | it is left to the next opening, and counted |
//! | a compaction filter panics | the entry stays, and it is counted; nothing else changes |
//! | anything else | tried again, given up after some attempts |

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use cortenkv_compaction::{SegmentId, Verdict};

use crate::core::Core;
use crate::error::{Error, ErrorKind};
use crate::stats::{CompactionStats, DamagedSegment};
use crate::sync::lock;

/// See above.
#[derive(Default)]
pub(super) struct Faults {
    damaged: Mutex<BTreeMap<SegmentId, DamagedSegment>>,
    last_error: Mutex<Option<String>>,
    files_not_removed: AtomicU64,
    filter_panics: AtomicU64,
}

impl Faults {
    /// Takes note of an error of a job with these victims, and says what to do about it.
    pub(super) fn judge(&self, core: &Core, error: &Error, victims: &[SegmentId]) -> Verdict {
        *lock(&self.last_error) = Some(error.to_string());
        match error.kind() {
            ErrorKind::StorageFull => match core.log.durable() {
                Some(log) if log.give_up_reserve() => Verdict::PickAnew,
                _ => Verdict::GiveUp,
            },
            ErrorKind::Corruption { file, offset, .. } => {
                let is_it = |id: &&SegmentId| core.log.file_of(**id).as_ref() == Some(file);
                let Some(&id) = victims.iter().find(is_it) else { return Verdict::Later };
                let (file, offset, what) = (file.clone(), *offset, error.to_string());
                lock(&self.damaged).insert(id, DamagedSegment { id, file, offset, what });
                Verdict::LeaveAlone(id)
            }
            _ => Verdict::Later,
        }
    }

    /// Files of retired segments are still there.
    pub(super) fn note_not_removed(&self, error: &Error) {
        self.files_not_removed.fetch_add(1, Relaxed);
        *lock(&self.last_error) = Some(error.to_string());
    }

    /// A compaction filter has panicked.
    pub(super) fn note_filter_panic(&self) {
        self.filter_panics.fetch_add(1, Relaxed);
    }

    /// Tells what there was.
    pub(super) fn describe(&self, stats: &mut CompactionStats) {
        stats.damaged_segments = lock(&self.damaged).values().cloned().collect();
        stats.last_error = lock(&self.last_error).clone();
        stats.files_not_removed = self.files_not_removed.load(Relaxed);
        stats.filter_panics = self.filter_panics.load(Relaxed);
    }
}
