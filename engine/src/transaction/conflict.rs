//! How a transaction is told that it was not committed.

use std::fmt;

use bytes::Bytes;

use crate::core::Core;
use crate::record::SeqNo;
use crate::write::{Premise, Refused};

/// Why a transaction was not committed: something that it had read was changed by another commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The keyspace in question.
    pub keyspace: String,
    /// The key that was put, deleted or changed.
    pub key: Bytes,
    /// How the transaction depends on it.
    pub kind: ConflictKind,
}

/// How a transaction came to depend on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConflictKind {
    /// It read the key.
    Key,
    /// The key lies in a range that it walked.
    Range,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.kind {
            ConflictKind::Key => "was read and",
            ConflictKind::Range => "in a range that was read",
        };
        let (key, keyspace) = (&self.key, &self.keyspace);
        write!(
            f,
            "the key {key:?} of keyspace {keyspace:?} {how} was changed by another commit; try again"
        )
    }
}

impl std::error::Error for Conflict {}

impl Core {
    /// Counts the end of a transaction, and says it in the words of users.
    pub(super) fn concluded(&self, outcome: Result<SeqNo, Refused>) -> Result<SeqNo, Conflict> {
        match outcome {
            Ok(seq) => {
                self.counters.transactions.note_committed();
                Ok(seq)
            }
            Err(Refused { by, keyspace, key, .. }) => {
                let names = self.catalog.by_id();
                let name = names.get(&keyspace).map(|name| name.to_string());
                let kind = match by {
                    Premise::Check(_) => ConflictKind::Key,
                    Premise::Range(_) => ConflictKind::Range,
                };
                Err(Conflict { keyspace: name.unwrap_or_default(), key, kind })
            }
        }
    }
}
