//! What an opening replays beside the log, and which files it removes.

use std::ops::ControlFlow;

use cortenkv_wal::Wal;

use super::salvage::{Salvage, salvage};
use crate::error::{Error, Result};
use crate::install::Installer;
use crate::parts::manifest::Manifest;
use crate::parts::manifest::edit::CompactedInfo;
use crate::parts::segment::ours;

/// Offers every record of the log, where an image was to spare it and does not fit.
pub(super) fn replay_log(wal: &Wal, installer: &Installer) -> Result<u64> {
    let mut records = 0;
    for segment in wal.segments() {
        let Some(reader) = wal.segment(segment.id) else { continue };
        reader.for_each_record(&mut |record| {
            records += 1;
            installer.apply(std::iter::once(ours(&record)));
            ControlFlow::Continue(())
        })?;
    }
    Ok(records)
}

/// What was read of compacted segments.
#[derive(Default)]
pub(super) struct Compacted {
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Of damaged ones.
    pub(super) salvages: Vec<Salvage>,
}

/// Offers every record of every compacted segment that counts, in any order: the numbers of the records decide. Where damage is
/// to be salvaged, what is intact of a damaged one is offered from the segment that is to take its place.
pub(super) fn replay_compacted(
    wal: &Wal,
    manifest: &mut Manifest,
    installer: &Installer,
    is_salvage: bool,
) -> Result<Compacted> {
    let mut compacted = Compacted::default();
    let segments: Vec<CompactedInfo> = manifest.state().compacted.values().copied().collect();
    for info in segments {
        let mut id = info.id;
        // Nothing of it is offered before it is known to be whole.
        if is_salvage && is_damaged(wal, id)? {
            let salvage = salvage(wal, manifest, info)?;
            let replacement = salvage.replacement;
            compacted.salvages.push(salvage);
            let Some(replacement) = replacement else { continue };
            id = replacement.id;
        }
        let reader = wal.open_compacted(id)?;
        let read = wal.replay_compacted(&reader, &mut |record| {
            installer.apply(std::iter::once(ours(&record)));
        })?;
        compacted.records += read.records;
        compacted.bytes += u64::from(read.bytes);
    }
    Ok(compacted)
}

fn is_damaged(wal: &Wal, id: u64) -> Result<bool> {
    let read = wal.open_compacted(id).and_then(|it| wal.replay_compacted(&it, &mut |_| {}));
    match read.map_err(Error::from) {
        Ok(_) => Ok(false),
        Err(error) if error.is_corruption() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Removes compacted segments that the manifest does not name: a job had not come to its end, or they were retired.
pub(super) fn remove_unnamed(wal: &Wal, manifest: &Manifest) -> Result<()> {
    let state = manifest.state();
    let files = wal.list_compacted()?;
    let unnamed = files.iter().filter(|file| !state.compacted.contains_key(&file.id));
    let unnamed: Vec<u64> = unnamed.map(|file| file.id).collect();
    Ok(wal.remove_compacted(&unnamed)?)
}
