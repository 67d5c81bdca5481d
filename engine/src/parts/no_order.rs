//! A build with the point index and without key order: keys cannot be walked, and everything else costs nothing.

use crate::error::{Error, Result};
use crate::range::{Direction, KeyRange, KeySource};
use crate::record::KeyspaceId;

/// Keeps nothing.
#[derive(Default)]
pub(crate) struct KeyOrder(());

impl KeyOrder {
    pub(crate) fn insert(&self, _: KeyspaceId, _: &[u8]) {}

    pub(crate) fn remove(&self, _: KeyspaceId, _: &[u8]) {}

    pub(crate) fn keys(
        &self,
        _: KeyspaceId,
        _: KeyRange,
        _: Direction,
    ) -> Result<Box<dyn KeySource>> {
        Err(Error::unsupported("this build keeps no key order; enable the feature `ordered`"))
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        0
    }
}
