//! What the ordered index asks of the owner of the records, and what it remembers of the answers.

use super::batch::KeyBatch;
use super::hint::Hint;
use crate::error::Result;

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
