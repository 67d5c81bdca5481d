//! A build with the point index and without key order: keys cannot be walked, and everything else costs nothing.

use super::index::Before;
use crate::address::Address;
use crate::core::Core;
use crate::error::{Error, Result};
use crate::options::IndexOptions;
use crate::parts::RunFiles;
use crate::range::{Direction, KeyRange};
use crate::record::KeyspaceId;
use crate::stats::IndexStats;

/// Keeps nothing.
pub(crate) struct KeyOrder(());

/// A walk over keys, which this build cannot have.
pub(crate) enum KeyWalk {}

impl KeyOrder {
    pub(crate) fn new(_: &IndexOptions, _: RunFiles) -> Self {
        KeyOrder(())
    }

    pub(crate) fn announce(&self, _: KeyspaceId, _: &[u8], _: Before) {}

    pub(crate) fn begin_slot(&self, _: u16) {}

    pub(crate) fn mark_dead(&self, _: Address) {}

    pub(crate) fn knows_dead(&self) -> bool {
        false
    }

    pub(crate) fn may_be_dead(&self, _: Address) -> bool {
        true
    }

    pub(crate) fn keys(&self, _: KeyspaceId, _: &KeyRange, _: Direction) -> Result<KeyWalk> {
        Err(Error::unsupported("this build keeps no key order; enable the feature `ordered`"))
    }

    pub(crate) fn load<'k>(
        &self,
        _: KeyspaceId,
        _: impl Iterator<Item = (&'k [u8], Option<(u64, Address)>)>,
    ) -> Result<()> {
        Ok(())
    }

    pub(crate) fn note_damage(&self, _: KeyspaceId) {}

    pub(crate) fn is_kept(&self) -> bool {
        false
    }

    pub(crate) fn wants_work(&self) -> bool {
        false
    }

    pub(crate) fn take_inserts(&self) -> u64 {
        0
    }

    pub(crate) fn is_waiting(&self) -> bool {
        false
    }

    pub(crate) fn maintain(&self, _: &Core) -> Result<bool> {
        Ok(false)
    }

    pub(crate) fn stats(&self) -> IndexStats {
        IndexStats::default()
    }
}

impl KeyWalk {
    pub(crate) fn next_batch(&mut self, _: usize) -> Result<usize> {
        match *self {}
    }

    pub(crate) fn key(&self, _: usize) -> &[u8] {
        match *self {}
    }

    pub(crate) fn hint(&self, _: usize) -> Option<(u64, Address)> {
        match *self {}
    }

    pub(crate) fn note_dead(&mut self, _: usize) {
        match *self {}
    }
}
