//! Which copy of a database this is, and the manifest of a new copy.

use std::path::Path;
use std::sync::Arc;

use cortenkv_wal::vfs::Vfs;

use super::current::io_error;
use super::edit::Lineage;
use super::{Identity, Manifest, ManifestState, write_manifest};
use crate::error::Result;

impl Manifest {
    /// Tells this database from its copies, which share its uuid.
    pub(crate) fn lineage(&self) -> [u8; 16] {
        self.state.lineage.map_or(self.header.identity.uuid, |lineage| lineage.id)
    }

    /// Draws a new lineage for a copy that is about to be written to; the next renewal notes it.
    pub(crate) fn begin_lineage(&mut self) -> Result<()> {
        if self.state.lineage.is_some_and(|lineage| lineage.is_copy) {
            let mut id = [0; 16];
            let drawn = self.vfs.fill_random(&mut id);
            drawn.map_err(|e| io_error(&self.dir, "find random bytes for", e))?;
            self.state.lineage = Some(Lineage { id, is_copy: false });
        }
        Ok(())
    }

    /// What the manifest of a copy says: nobody holds anything of a copy, and its images are made anew.
    pub(crate) fn state_of_copy(&self) -> ManifestState {
        let mut state = self.state.clone();
        state.holds.clear();
        state.broken.clear();
        state.images.clear();
        state.lineage = Some(Lineage { id: self.lineage(), is_copy: true });
        state
    }
}

/// Makes a directory that has all files of a copy a database: `CURRENT` comes last.
pub(crate) fn write_copy(
    dir: &Path,
    vfs: &Arc<dyn Vfs>,
    identity: &Identity,
    state: &ManifestState,
) -> Result<()> {
    write_manifest(dir, vfs, identity, state, state.features(), 1).map(drop)
}
