//! Scans without copies: a closure is shown every entry where it lies.

use std::ops::ControlFlow;

use super::walk::Walk;
use crate::core::Core;
use crate::error::Result;
use crate::parts;
use crate::range::{Direction, KeyRange};
use crate::read::Found;
use crate::record::KeyspaceId;

impl Core {
    /// Shows the entries of a range until `f` breaks.
    pub(crate) fn scan_with<B>(
        &self,
        keyspace: KeyspaceId,
        range: &KeyRange,
        direction: Direction,
        mut f: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        let mut walk = Walk::new(direction);
        while walk.advance(self, keyspace, range, None)? {
            // One pin for some entries; each look at the index would take one.
            let _pin = parts::pin();
            loop {
                let show = |key: &[u8], found: Found<'_>| f(key, found.record.value);
                let shown = walk.confirm(self, keyspace, None, show)?;
                if let Some(ControlFlow::Break(answer)) = shown {
                    return Ok(ControlFlow::Break(answer));
                }
                if walk.is_at_pause() || !walk.advance(self, keyspace, range, None)? {
                    break;
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
