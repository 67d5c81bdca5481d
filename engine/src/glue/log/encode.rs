//! A commit in the form that the log takes, and what is done with it once it is there.

use std::cell::RefCell;

use crate::error::Result;
use crate::install::Installing;
use crate::parts::segment::ours;
use crate::record::{Change, Write};

/// LIMIT: what a thread keeps of the buffer that it encodes commits in.
const KEPT_BATCH_BYTES_MAX: usize = 1 << 20;

thread_local! {
    /// Commits are encoded here, outside any lock.
    static BATCH: RefCell<cortenkv_wal::Batch> = RefCell::default();
}

/// Installs a commit that was appended. An append that was refused may be made again; it has installed nothing.
#[inline]
pub(super) fn install_once(
    installing: &mut Option<Installing<'_>>,
    records: &[cortenkv_wal::RecordRef<'_>],
) {
    if let Some(installing) = installing.take() {
        installing.apply(records.iter().map(ours));
    }
}

/// Encodes a commit in the buffer of the thread and hands it on, with whether it has puts.
#[inline]
pub(super) fn with_encoded<R>(
    writes: &[Write<'_>],
    hand_on: impl FnOnce(&cortenkv_wal::Batch, bool) -> Result<R>,
) -> Result<R> {
    BATCH.with_borrow_mut(|batch| {
        if batch.bytes() > KEPT_BATCH_BYTES_MAX {
            *batch = cortenkv_wal::Batch::new();
        }
        batch.clear();
        let mut puts = false;
        for write in writes {
            puts |= matches!(write.change, Change::Put { .. });
            match write.change {
                Change::Put { value, expires_at_ms: None } => {
                    batch.put(write.keyspace, write.key, value)?;
                }
                Change::Put { value, expires_at_ms: Some(at_ms) } => {
                    batch.put_expiring(write.keyspace, write.key, value, at_ms)?;
                }
                Change::Delete => batch.delete(write.keyspace, write.key)?,
            }
        }
        if !puts {
            // What frees space must not fail for lack of it.
            batch.draw_on_reserve();
        }
        hand_on(batch, puts)
    })
}
