//! Runs of keys in a build with key order and without files: they stay in memory.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use cortenkv_index::{RamRuns, RunStore};

use crate::parts::Platform;

/// Where the runs of a database are kept: in memory.
pub(crate) struct RunFiles(());

impl RunFiles {
    pub(crate) fn in_memory() -> Self {
        RunFiles(())
    }

    pub(crate) fn open(_: &Platform, _: &Path, _: &BTreeSet<u64>) -> Self {
        RunFiles(())
    }

    pub(crate) fn are_on_disk(&self) -> bool {
        false
    }

    pub(crate) fn store(&self) -> Arc<dyn RunStore> {
        Arc::new(RamRuns)
    }

    pub(crate) fn count(&self) -> u64 {
        0
    }

    pub(crate) fn failures(&self) -> u64 {
        0
    }
}
