//! What a store must do to be measured, and what it must say about itself.
//!
//! # Invariants
//! - An arm says every setting that was chosen ([`StoreKind::settings`]) and the class of durability that it truly
//!   reaches ([`StoreKind::promise`]), not the one that it is compared in.
//! - Every look at data goes through the cheapest way that the store has without a copy, one operation at a time: a
//!   transaction, where the store needs one, is begun and ended within the operation. Arms that keep one open for the
//!   life of a session are bounds, not rivals, and say so ([`StoreKind::role`]).

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::path::Path;

use cortenkv_bench::Result;
use cortenkv_bench::log_store::Promise;

/// Bytes of a key in all suites of stores.
pub const KEY_BYTES: usize = 16;
/// Cache of each store that has one: all the data fits.
pub const CACHE_BYTES: u64 = 512 << 20;

/// A key.
pub type Key = [u8; KEY_BYTES];

/// What a conclusion makes of an arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Cortenkv; goals are measured by this arm.
    Ours,
    /// Cortenkv by another call than the one that goals are about.
    OursOtherwise,
    /// A store at the same work.
    Peer,
    /// A store that does less than the work; it bounds what its design could reach.
    Bound,
}

/// A kind of store with all its settings: one arm of a comparison.
pub trait StoreKind: Send + Sync {
    /// A short name without spaces.
    fn name(&self) -> &'static str;

    /// What a conclusion makes of it.
    fn role(&self) -> Role {
        Role::Peer
    }

    /// Every setting that was chosen, and "defaults" for the rest.
    fn settings(&self) -> String;

    /// What a put promises when it returns.
    fn promise(&self) -> Promise;

    /// Keys that one call of a read takes; 1 = [`Session::get`], more = [`Session::get_batch`].
    fn batch_keys(&self) -> usize {
        1
    }

    /// Whether the arm differs from its store's first arm in how it reads only, so that it has no rows of writes.
    fn is_for_reads_only(&self) -> bool {
        false
    }

    /// Whether the arm differs in how it writes only, so that it has no rows of reads.
    fn is_for_writes_only(&self) -> bool {
        false
    }

    /// Whether it has a row of scans.
    fn has_scans(&self) -> bool {
        !self.is_for_writes_only()
    }

    /// Whether a file of the store is derived from others of it: indexes, images. It could be made again.
    fn is_derived(&self, file: &OsStr) -> bool {
        let _ = file;
        false
    }

    /// Opens a store in a directory: an empty one, or one that the same arm left.
    fn open(&self, dir: &Path) -> Result<Box<dyn Store>>;
}

/// An open store.
pub trait Store: Send + Sync {
    /// What one thread works with.
    fn session(&self) -> Result<Box<dyn Session + '_>>;

    /// Puts all entries quickly, in their order, to fill the store before something else is measured. Where a batch
    /// ends in another layout than single puts, single puts are used.
    fn load(&self, entries: &mut Entries<'_>) -> Result<()>;

    /// Waits until the store has done what it does in the background after a load: compactions, merges.
    fn settle(&self) -> Result<()>;

    /// Closes the store as its author means it to be closed.
    fn close(self: Box<Self>) -> Result<()>;
}

/// Entries to load: calls its argument with each key and value, up to so many, and says whether there may be more.
pub struct Entries<'a> {
    next: u64,
    len: u64,
    make: MakeEntry<'a>,
}

/// See [`Entries::new`].
type MakeEntry<'a> = Box<dyn FnMut(u64, &mut Vec<u8>) -> Key + 'a>;

impl<'a> Entries<'a> {
    /// So many entries; `make` fills in the value of the n-th and returns its key.
    pub fn new(len: u64, make: impl FnMut(u64, &mut Vec<u8>) -> Key + 'a) -> Self {
        Entries { next: 0, len, make: Box::new(make) }
    }

    /// Hands the next entry over; false at the end.
    pub fn next(&mut self, value: &mut Vec<u8>) -> Option<Key> {
        if self.next == self.len {
            return None;
        }
        self.next += 1;
        Some((self.make)(self.next - 1, value))
    }

    /// Hands up to `count` entries to `put`; false when there was none.
    pub fn some(
        &mut self,
        count: usize,
        mut put: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<bool> {
        let mut value = Vec::new();
        for n in 0..count {
            match self.next(&mut value) {
                Some(key) => put(&key, &value)?,
                None => return Ok(n > 0),
            }
        }
        Ok(count > 0)
    }
}

/// Entries of one transaction of a load.
pub const LOAD_BATCH: usize = 1000;

/// Sees a value.
pub type SeeValue<'a> = &'a mut dyn FnMut(&[u8]);
/// Sees the value of the n-th key of a batch.
pub type SeeValues<'a> = &'a mut dyn FnMut(usize, &[u8]);
/// Sees an entry, and says whether to go on.
pub type SeeEntry<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// The work of one thread with a store.
pub trait Session {
    /// Puts an entry; returns when the promise of the kind holds.
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()>;

    /// Deletes an entry, with the promise of a put.
    fn delete(&mut self, key: &Key) -> Result<()>;

    /// Shows the value of a key; false if there is none.
    fn get(&mut self, key: &Key, see: SeeValue<'_>) -> Result<bool>;

    /// Shows the values of many keys; those without a value are passed over.
    fn get_batch(&mut self, keys: &[Key], see: SeeValues<'_>) -> Result<()> {
        for (n, key) in keys.iter().enumerate() {
            self.get(key, &mut |value| see(n, value))?;
        }
        Ok(())
    }

    /// Shows entries in key order from `from` on, until it is told to stop.
    fn scan(&mut self, from: &Key, see: SeeEntry<'_>) -> Result<()>;
}
