//! A build without images of the index: every open replays all segments.
#![allow(
    dead_code,
    reason = "which of these somebody calls depends on the other parts of the build"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use crate::address::Address;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::install::Installer;
use crate::options::{IndexOptions, Options};
use crate::parts::{Index, Manifest, RunFiles};
use crate::record::{Footprint, KeyspaceId};

/// The images of a database; there are none.
pub(crate) struct Images(());

/// An image that was loaded.
pub(crate) enum Loaded {}

/// The images of a directory, which nobody looks for.
#[derive(Default)]
pub(crate) struct OnDisk(());

impl OnDisk {
    pub(crate) fn find<V: ?Sized>(_: &V, _: &Path, _: &mut Manifest, _: &Options) -> Self {
        OnDisk(())
    }

    pub(crate) fn run_files(&self) -> BTreeSet<u64> {
        BTreeSet::new()
    }

    pub(crate) fn has_image(&self) -> bool {
        false
    }

    pub(crate) fn hold_runs(&self, _: &RunFiles) {}

    pub(crate) fn known<T>(&self) -> Vec<T> {
        Vec::new()
    }

    pub(crate) fn load<W>(&mut self, _: &W, _: &mut Manifest, _: &Options) -> Option<Loaded> {
        None
    }

    pub(crate) fn into_images<M, L>(self, _: &Options, _: &M, _: &L) -> Images {
        Images(())
    }
}

/// What an option answers that this build cannot honour.
pub(crate) fn check_images(options: &Options) -> Result<()> {
    match (options.index_images, options.image_log_bytes_min) {
        (None | Some(false), None) => Ok(()),
        _ => Err(Error::unsupported(
            "this build keeps no images of the index; enable the features `ordered`, `compaction` and `wal`",
        )),
    }
}

/// Removes images that are named nowhere; another build may know them.
pub(crate) fn remove_unnamed<V: ?Sized, S>(_: &V, _: &Path, _: &S) {}

impl Images {
    pub(crate) fn none() -> Self {
        Images(())
    }

    pub(crate) fn is_copying(&self) -> bool {
        false
    }

    pub(crate) fn begin_moving(&self, _: &[u64], _: impl Iterator<Item = u64>) {}

    pub(crate) fn end_moving(&self, _: &[u64]) {}

    pub(crate) fn are_kept(&self) -> bool {
        false
    }

    #[inline]
    pub(crate) fn note_dead(&self, _: Address, _: Footprint) {}

    pub(crate) fn note_segment(&self) {}

    pub(crate) fn wants_work(&self) -> bool {
        false
    }

    pub(crate) fn step(&self, _: &Core) -> bool {
        false
    }

    pub(crate) fn write_last(&self, _: &Core) {}
}

impl Loaded {
    pub(crate) fn bytes(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn index(&mut self, _: u64, _: &IndexOptions, _: RunFiles) -> Index {
        match *self {}
    }

    pub(crate) fn keys(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn fill(
        &self,
        core: &Arc<Core>,
        installer: &Installer,
    ) -> Result<(u64, Option<KeyspaceId>)> {
        let unknown = installer.replay_tail(core, || match *self {})?;
        Ok((0, unknown))
    }
}
