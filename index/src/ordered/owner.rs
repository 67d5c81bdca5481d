//! What the ordered index asks of the owner of the records, and what it remembers of the answers.

use super::batch::KeyBatch;
use crate::address::Address;
use crate::error::Result;

/// Where the live record of a key was when the owner was last asked.
///
/// It counts only if the segment still stands in the slot of the address and the record there is not known to be
/// dead; else the point index decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hint {
    /// The id of the segment: never given out again, unlike the slot.
    pub segment: u64,
    /// The place of the record.
    pub address: Address,
}

/// What the owner of the records knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Somebody may still see the key: its newest record says so, or a version that a snapshot holds on to. The hint
    /// is the place of the newest record, if it is worth remembering.
    Live(Option<Hint>),
    /// Nobody can see the key any more. A tombstone, an expired record, and no record at all count alike.
    Dead,
}

/// The owner of the records, asked by merges which keys are worth keeping.
pub trait KeyOwner: Send + Sync {
    /// Replaces what is in `states` by one state per key, in the order of the keys, each as of some moment during the
    /// call.
    ///
    /// # Errors
    /// Whatever keeps the owner from answering. The merge keeps its place and asks again at the next call.
    fn states(&self, keyspace: u32, keys: &KeyBatch, states: &mut Vec<KeyState>) -> Result<()>;
}
