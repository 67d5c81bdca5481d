//! What an opening replays beside the log, and which files it removes.

use std::ops::ControlFlow;

use cortenkv_wal::Wal;

use crate::error::Result;
use crate::install::Installer;
use crate::parts::manifest::Manifest;
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
}

/// Offers every record of every compacted segment that counts, in any order: the numbers of the records decide.
pub(super) fn replay_compacted(
    wal: &Wal,
    manifest: &Manifest,
    installer: &Installer,
) -> Result<Compacted> {
    let mut compacted = Compacted::default();
    for id in manifest.state().compacted.keys() {
        let reader = wal.open_compacted(*id)?;
        let read = wal.replay_compacted(&reader, &mut |record| {
            installer.apply(std::iter::once(ours(&record)));
        })?;
        compacted.records += read.records;
        compacted.bytes += u64::from(read.bytes);
    }
    Ok(compacted)
}

/// Removes compacted segments that the manifest does not name: a job had not come to its end, or they were retired.
pub(super) fn remove_unnamed(wal: &Wal, manifest: &Manifest) -> Result<()> {
    let state = manifest.state();
    let files = wal.list_compacted()?;
    let unnamed = files.iter().filter(|file| !state.compacted.contains_key(&file.id));
    let unnamed: Vec<u64> = unnamed.map(|file| file.id).collect();
    Ok(wal.remove_compacted(&unnamed)?)
}
