//! Puts that depend on what their key held before, commits that are pending included.

use bytes::Bytes;
use cortenkv::storage_engine::{
    Expectation, Operation, Precondition, StorageEngine, WriteBatch, WriteOutcome,
};
use cortenkv::{Db, Keyspace};

use super::history::{Slot, Value, Write, key_of};
use super::operations::{Call, Change};

/// The one put of a commit that is to be conditional.
pub fn of<'w>(changes: &[Change], writes: &'w [Write], call: Call) -> Option<(Slot, &'w Value)> {
    match (changes, writes) {
        ([(slot, Some((recipe, None)))], [(_, Some(value))])
            if call == Call::Plain(None) && recipe.salt.is_multiple_of(4) =>
        {
            Some((*slot, value))
        }
        _ => None,
    }
}

/// Puts a value if the key holds what it must have held before; `None` when the database says that it does not.
pub fn put(
    db: &Db,
    keyspace: &Keyspace,
    slot: Slot,
    before: Option<&Value>,
    value: &Value,
) -> cortenkv::Result<Option<u64>> {
    let keyspace = StorageEngine::keyspace(db, keyspace.name()).wait()?;
    let key = Bytes::from_static(key_of(slot));
    let expected = before.map_or(Expectation::Absent, |before| {
        Expectation::Value(Bytes::copy_from_slice(&before.bytes))
    });
    let value = Bytes::copy_from_slice(&value.bytes);
    let batch = WriteBatch {
        operations: vec![Operation::Put { keyspace, key: key.clone(), value, ttl: None }],
        preconditions: vec![Precondition { keyspace, key, expected }],
        durability: None,
    };
    Ok(match db.write(batch).wait()? {
        WriteOutcome::Committed(seq) => Some(seq),
        WriteOutcome::Conflict(_) => None,
    })
}
