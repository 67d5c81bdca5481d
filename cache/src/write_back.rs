//! Writes on their way to the store: the group that is appended at once, the store below, and the front above.
//!
//! # Invariants
//! - A [`Group`] is sorted by keyspace and key and has one write per key, the last one.
//! - What [`WriteFront::write`] took is appended all or not at all, and in the order of the calls.

use std::collections::BTreeMap;

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// It gets this value.
    Put {
        /// The value.
        value: &'a [u8],
        /// When it expires, in milliseconds of the wall clock; fixed at the time of the put, however late the append.
        expires_at_ms: Option<u64>,
    },
    /// It is deleted.
    Delete,
}

/// A change of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    /// The keyspace of the key.
    pub keyspace: u32,
    /// The key.
    pub key: &'a [u8],
    /// What happens to it.
    pub change: Change<'a>,
}

/// Writes that are appended as one atomic unit: sorted, one per key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group<'a> {
    writes: Vec<Write<'a>>,
}

impl<'a> Group<'a> {
    /// Sorts writes that happened in this order; of several to one key the last one stays.
    pub fn from_writes(writes: impl IntoIterator<Item = Write<'a>>) -> Self {
        let last: BTreeMap<_, _> =
            writes.into_iter().map(|write| ((write.keyspace, write.key), write)).collect();
        Group { writes: last.into_values().collect() }
    }

    /// The writes by keyspace and key.
    pub fn writes(&self) -> &[Write<'a>] {
        &self.writes
    }

    /// True if there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// The store below a cache, in the words of the cache.
pub trait WriteBack: Send + Sync {
    /// What goes wrong with the store.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Appends a group, which is not empty, as one atomic unit and makes it visible to readers of the store. Returns
    /// its sequence number, higher than all before, once it is as durable as the store promises for a write.
    ///
    /// # Errors
    /// What the store reports; nothing of the group is visible then.
    fn append(&self, group: &Group<'_>) -> Result<u64, Self::Error>;

    /// The highest sequence number that survives a power cut together with everything below it.
    fn durable_seq(&self) -> u64;

    /// Makes everything that was appended before durable, and returns [`durable_seq`](Self::durable_seq).
    ///
    /// # Errors
    /// What the store reports; what is durable is unknown then beyond the last `durable_seq`.
    fn sync(&self) -> Result<u64, Self::Error>;
}

/// Where accepted writes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// In the store, under this sequence number.
    Appended(u64),
    /// In memory only, until a flush; a crash before may lose them.
    Buffered,
    /// There was nothing to write.
    Nothing,
}

/// What a front holds that the store does not have yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    /// The number of keys.
    pub entries: u64,
    /// The bytes of keys and values.
    pub bytes: u64,
}

/// The front of the write path: takes writes and hands them to a store at once or later.
///
/// # Concurrency
/// All methods take `&self` and may run at the same time from any thread.
pub trait WriteFront: Send + Sync {
    /// What goes wrong with the store below.
    type Error;

    /// Takes writes as one atomic unit; of several to one key the last one counts.
    ///
    /// # Errors
    /// What the store below reports; nothing was taken then.
    fn write(&self, writes: &[Write<'_>]) -> Result<Accepted, Self::Error>;

    /// Shows the newest change of a key that the store does not have yet. False if there is none: ask the store.
    fn lookup(&self, keyspace: u32, key: &[u8], read: &mut dyn FnMut(Change<'_>)) -> bool;

    /// Makes everything that was taken before durable; returns the sequence number up to which the store is.
    ///
    /// # Errors
    /// What the store below reports; nothing that was taken is forgotten because of it.
    fn flush(&self) -> Result<u64, Self::Error>;

    /// What waits for a flush.
    fn pending(&self) -> Pending;
}

/// Passes each write straight on to the store: the front of a program without write-back.
#[derive(Debug)]
pub struct WriteThrough<B> {
    store: B,
}

impl<B: WriteBack> WriteThrough<B> {
    /// A front of this store.
    pub fn new(store: B) -> Self {
        WriteThrough { store }
    }

    /// The store below.
    pub fn store(&self) -> &B {
        &self.store
    }
}

impl<B: WriteBack> WriteFront for WriteThrough<B> {
    type Error = B::Error;

    fn write(&self, writes: &[Write<'_>]) -> Result<Accepted, B::Error> {
        let group = Group::from_writes(writes.iter().copied());
        if group.is_empty() {
            return Ok(Accepted::Nothing);
        }
        self.store.append(&group).map(Accepted::Appended)
    }

    fn lookup(&self, _keyspace: u32, _key: &[u8], _read: &mut dyn FnMut(Change<'_>)) -> bool {
        false
    }

    fn flush(&self) -> Result<u64, B::Error> {
        // DURABILITY: nothing is buffered, so one sync of the store covers every write that was taken.
        self.store.sync()
    }

    fn pending(&self) -> Pending {
        Pending::default()
    }
}
