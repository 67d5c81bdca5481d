//! Where the bytes of a run are kept: the seam between runs and files.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;

/// The bytes of one stored run. They never change; whoever holds them keeps them alive, and the store may free or
/// unlink them when the last holder lets go.
pub trait RunBytes: Send + Sync {
    /// All bytes, the same at each call. Damage is found by checksums, but bytes that change after they were verified
    /// may show wrong keys; they never cause a panic.
    fn bytes(&self) -> &[u8];

    /// True if the bytes are a mapped file, which the system can drop from memory and read again.
    fn is_mapped(&self) -> bool;

    /// The name by which the store finds these bytes again, in a later process too; `None` if they go with this one.
    fn number(&self) -> Option<u64> {
        None
    }
}

/// Keeps the bytes of runs.
///
/// Runs are derived data: nothing needs to be synced, and what an earlier process left behind can be deleted, unless an owner
/// noted it ([`RunsOrdered::save`](crate::RunsOrdered::save)).
pub trait RunStore: Send + Sync {
    /// Stores one run.
    ///
    /// # Errors
    /// Whatever kept the store from it. The keys of the run then stay where they were.
    fn store(&self, bytes: Vec<u8>) -> Result<Arc<dyn RunBytes>>;
}

/// Keeps runs in memory.
///
/// # Example
/// ```
/// use cortenkv_index::{RamRuns, RunStore};
///
/// let stored = RamRuns.store(vec![1, 2, 3])?;
/// assert_eq!(stored.bytes(), [1, 2, 3]);
/// assert!(!stored.is_mapped());
/// # Ok::<(), cortenkv_index::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RamRuns;

impl RunStore for RamRuns {
    fn store(&self, bytes: Vec<u8>) -> Result<Arc<dyn RunBytes>> {
        Ok(Arc::new(RamBytes(bytes.into_boxed_slice())))
    }
}

struct RamBytes(Box<[u8]>);

impl RunBytes for RamBytes {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn is_mapped(&self) -> bool {
        false
    }
}

impl fmt::Debug for dyn RunBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.is_mapped() { "mapped" } else { "in memory" };
        write!(f, "RunBytes({} bytes {place})", self.bytes().len())
    }
}
