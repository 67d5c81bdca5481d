//! The way from the log into the index: the only one (rule 8).
//!
//! # Layout
//! While a log is replayed it cannot be read at random yet, and an index that keeps no keys must read the log to tell
//! two keys of one hash apart. So a replay is first gathered in a [`ReplayTable`], sorted and with one entry a key, and
//! goes into the index in one run once the log is open. From then on every call goes straight to the index.
//!
//! # Invariants
//! The highest [`Rank`] of a key stays (rule 1), so records may come out of order and more than once.
//!
//! # Concurrency
//! Calls come from recovery, from the leader of a sync and from appending threads, several at a time. A call brings whole
//! commits. Those of one record are installed up to 16 at a time; one of several records is registered as being under
//! way from its first record to its last (`in_flight.rs`), so that nobody sees half of it (rule 13).
//!
//! # Failure
//! A record that finds no slot latches the database: the index no longer follows the log.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use crate::address::Address;
use crate::core::{Core, Installed};
use crate::error::Result;
use crate::parts::Liveness;
use crate::read_many::BATCH_KEYS;
use crate::record::{Footprint, KeyspaceId, Rank, RecordRef, SeqNo};
use crate::sync::lock;

/// A record on its way into the index, with its address.
pub(crate) type Offered<'a> = (RecordRef<'a>, Address);

/// Receives every record of the log.
#[derive(Default)]
pub(crate) struct Installer {
    liveness: Liveness,
    replay: Mutex<ReplayTable>,
    /// The database, while the end of the log is replayed into what an image gave.
    tail: OnceLock<Tail>,
    /// The database, from the end of the replay on; weak, because it owns the log that owns this.
    core: OnceLock<Weak<Core>>,
}

/// The installation of a commit by the thread that appends it, in place of the [`Installer`]'s: it has the database at hand,
/// and the hash of the key of a single write.
pub(crate) struct Installing<'a> {
    pub(crate) core: &'a Core,
    pub(crate) hash: Option<u64>,
}

impl Installing<'_> {
    /// As [`Installer::apply`].
    #[inline]
    pub(crate) fn apply<'r>(self, records: impl Iterator<Item = RecordRef<'r>>) {
        self.core.install(records, self.hash);
    }
}

/// The end of the log on its way into an index that is filled already.
struct Tail {
    core: Weak<Core>,
    /// Keyspaces that it has records of.
    keyspaces: Mutex<BTreeSet<KeyspaceId>>,
}

impl Tail {
    fn apply<'a>(&self, records: impl Iterator<Item = RecordRef<'a>>) {
        let Some(core) = self.core.upgrade() else { return };
        let mut keyspaces = lock(&self.keyspaces);
        let mut last = None;
        core.install(
            records.inspect(|record| {
                if last.replace(record.keyspace) != Some(record.keyspace) {
                    keyspaces.insert(record.keyspace);
                }
            }),
            None,
        );
    }
}

/// What is known of the newest record of a key.
type Newest = (Rank, Footprint);

/// The newest record of each key of a replay, in key order.
#[derive(Default)]
pub(crate) struct ReplayTable {
    newest: BTreeMap<(KeyspaceId, Box<[u8]>), Newest>,
}

impl Installer {
    /// An installer that counts what it replays.
    pub(crate) fn new(liveness: Liveness) -> Self {
        Installer { liveness, ..Installer::default() }
    }

    /// Takes note of records that are in the log: one commit or more, whole.
    pub(crate) fn apply<'a>(&self, records: impl Iterator<Item = RecordRef<'a>>) {
        match self.core.get() {
            Some(core) => {
                // A database whose last handle is gone has no readers left to tell.
                if let Some(core) = core.upgrade() {
                    core.install(records, None);
                }
            }
            None => match self.tail.get() {
                Some(tail) => tail.apply(records),
                None => lock(&self.replay).absorb(records, &self.liveness),
            },
        }
    }

    /// Goes on with the replay in the index of a database that an image filled. Returns a keyspace that has records and that
    /// the database does not have.
    ///
    /// # Errors
    /// What `replay` answers.
    pub(crate) fn replay_tail(
        &self,
        core: &Arc<Core>,
        replay: impl FnOnce() -> Result<()>,
    ) -> Result<Option<KeyspaceId>> {
        let tail = Tail { core: Arc::downgrade(core), keyspaces: Mutex::default() };
        let tail = self.tail.get_or_init(|| tail);
        replay()?;
        let found = lock(&tail.keyspaces);
        Ok(found.iter().copied().find(|id| !core.catalog.contains(*id)))
    }

    /// Ends the replay: from now on records go to this database, which first takes what was gathered.
    ///
    /// # Errors
    /// What kept key order from being built.
    pub(crate) fn go_live(&self, core: &Arc<Core>) -> Result<()> {
        let table = std::mem::take(&mut *lock(&self.replay));
        core.load(&table)?;
        self.core.set(Arc::downgrade(core)).expect("a database goes live once");
        Ok(())
    }

    /// Looks at what a replay gathered.
    pub(crate) fn with_replayed<R>(&self, look: impl FnOnce(&ReplayTable) -> R) -> R {
        look(&lock(&self.replay))
    }
}

impl ReplayTable {
    fn absorb<'a>(&mut self, records: impl Iterator<Item = RecordRef<'a>>, liveness: &Liveness) {
        for record in records {
            let offered = (record.rank(), record.footprint());
            liveness.add(offered.0.location.segment, offered.1);
            match self.newest.entry((record.keyspace, record.key.into())) {
                Entry::Vacant(vacant) => {
                    vacant.insert(offered);
                }
                Entry::Occupied(mut occupied) => {
                    let newest = occupied.get_mut();
                    let loser = offered.min(*newest);
                    liveness.dead(loser.0.location.segment, loser.1);
                    *newest = offered.max(*newest);
                }
            }
        }
    }

    /// The number of keys, those of tombstones included.
    pub(crate) fn len(&self) -> usize {
        self.newest.len()
    }

    fn iter(&self) -> impl Iterator<Item = RecordRef<'_>> {
        self.newest.iter().map(|((keyspace, key), (rank, footprint))| RecordRef {
            location: rank.location,
            seq: rank.seq,
            keyspace: *keyspace,
            tombstone: rank.tombstone,
            expires_at_ms: footprint.expires_at_ms,
            // What the index does not keep.
            in_batch: false,
            key,
            value: &[],
        })
    }

    /// A keyspace that has records and that nobody knows.
    pub(crate) fn unknown_keyspace(
        &self,
        mut is_known: impl FnMut(KeyspaceId) -> bool,
    ) -> Option<KeyspaceId> {
        let mut last_known = None;
        let mut ids = self.newest.keys().map(|(keyspace, _)| *keyspace);
        ids.find(|&id| {
            let is_new = last_known != Some(id);
            last_known = Some(id);
            is_new && !is_known(id)
        })
    }
}

impl Core {
    /// Offers records to the index: whole commits, in the order of the log. `hash` is that of the key of a single record,
    /// where it is known.
    #[inline]
    pub(crate) fn install<'a>(
        &self,
        mut records: impl Iterator<Item = RecordRef<'a>>,
        hash: Option<u64>,
    ) {
        let Some(first) = records.next() else { return };
        match records.next() {
            None if !first.in_batch => self.install_single(&first, hash),
            second => self.install_all([first].into_iter().chain(second).chain(records)),
        }
        if self.index.wants_work() || self.images.wants_work() {
            self.background.wake();
        }
    }

    /// The usual call, without an allocation.
    #[inline]
    fn install_single(&self, record: &RecordRef<'_>, hash: Option<u64>) {
        let Some(address) = self.address_or_poison(record) else { return };
        let hash = hash.unwrap_or_else(|| self.index.hash(record.keyspace, record.key));
        let outcome = self.index.install_one(record, address, hash, self);
        if self.note_installed(record, address, outcome) {
            self.forget(&[(*record, address)]);
        }
    }

    #[inline(never)]
    fn install_all<'a>(&self, records: impl Iterator<Item = RecordRef<'a>>) {
        let mut records = records.peekable();
        let mut singles = Vec::new();
        let mut forgotten = Vec::new();
        while let Some(record) = records.next() {
            if record.in_batch {
                self.offer(&mut singles, &mut forgotten);
                let rest = std::iter::from_fn(|| records.next_if(|next| next.seq == record.seq));
                self.install_batch(record.seq, std::iter::once(record).chain(rest));
                continue;
            }
            let Some(offered) = self.offered(record) else { continue };
            singles.push(offered);
            if singles.len() == BATCH_KEYS {
                self.offer(&mut singles, &mut forgotten);
            }
        }
        self.offer(&mut singles, &mut forgotten);
        self.forget(&forgotten);
    }

    /// Offers the records of one commit.
    fn install_batch<'a>(&self, seq: SeqNo, records: impl Iterator<Item = RecordRef<'a>>) {
        let (mut chunk, mut forgotten) = (Vec::with_capacity(BATCH_KEYS), Vec::new());
        let under_way = self.in_flight.begin(seq, seq);
        for offered in records.filter_map(|record| self.offered(record)) {
            chunk.push(offered);
            if chunk.len() == BATCH_KEYS {
                self.offer(&mut chunk, &mut forgotten);
            }
        }
        self.offer(&mut chunk, &mut forgotten);
        drop(under_way);
        self.forget(&forgotten);
    }

    fn offered<'a>(&self, record: RecordRef<'a>) -> Option<Offered<'a>> {
        self.address_or_poison(&record).map(|address| (record, address))
    }

    #[inline]
    fn address_or_poison(&self, record: &RecordRef<'_>) -> Option<Address> {
        self.enter(record).inspect_err(|error| self.poison(error)).ok()
    }

    fn offer<'a>(&self, chunk: &mut Vec<Offered<'a>>, forgotten: &mut Vec<Offered<'a>>) {
        self.index.install(chunk, self, true, |n, outcome| {
            if self.note_installed(&chunk[n].0, chunk[n].1, outcome) {
                forgotten.push(chunk[n]);
            }
        });
        chunk.clear();
    }

    /// Follows what became of a record; true if it is a tombstone that is to be forgotten.
    #[inline]
    pub(crate) fn note_installed(
        &self,
        record: &RecordRef<'_>,
        address: Address,
        outcome: Installed,
    ) -> bool {
        let forgets_tombstones = self.log.forgets_tombstones();
        self.counters.installed(record.tombstone, outcome, forgets_tombstones);
        match outcome {
            Installed::Inserted => {}
            Installed::Replaced { old, was } => {
                self.slots.with(old, |mounted| mounted.liveness.dead(was));
                self.images.note_dead(old, was);
                if forgets_tombstones {
                    self.forget_replaced(old, was);
                }
            }
            Installed::Stale => {
                self.slots.with(address, |mounted| mounted.liveness.dead(record.footprint()));
                self.log.forget(|| Some(record.location));
            }
            // It was counted when it came first.
            Installed::Present => {
                self.slots.with(address, |mounted| mounted.liveness.dead(record.footprint()));
            }
        }
        forgets_tombstones && record.tombstone && outcome != Installed::Stale
    }

    /// Takes out the entries of tombstones that have nothing left to hide, and their records. Not while their commit is
    /// under way: who finds nothing is not told to wait. One that hides a version of a snapshot stays as long as that.
    #[inline(never)]
    fn forget(&self, tombstones: &[Offered<'_>]) {
        for (record, address) in tombstones {
            if self.snapshots.keep_tombstone(*address) {
                self.counters.tombstones.fetch_add(1, Relaxed);
                continue;
            }
            self.index.remove(record.keyspace, record.key, *address);
            self.log.forget(|| Some(record.location));
        }
    }

    /// The address of a record that was counted when it was replayed.
    fn replayed<'a>(&self, record: RecordRef<'a>) -> Option<Offered<'a>> {
        let address = self.address_of(record.location).inspect_err(|error| self.poison(error));
        address.ok().map(|address| (record, address))
    }

    /// Fills the empty index of a database that is being opened with the newest record of each key, in key order.
    fn load(&self, table: &ReplayTable) -> Result<()> {
        let mut records = table.iter().filter_map(|record| self.replayed(record)).peekable();
        let mut chunk = Vec::with_capacity(BATCH_KEYS);
        while records.peek().is_some() {
            chunk.extend(records.by_ref().take(BATCH_KEYS));
            self.index.install(&chunk, self, false, |n, outcome| {
                self.counters.installed(chunk[n].0.tombstone, outcome, false);
            });
            chunk.clear();
        }
        let live = table.iter().filter(|record| !record.tombstone);
        let mut live = live.filter_map(|record| self.replayed(record)).peekable();
        while let Some(keyspace) = live.peek().map(|(record, _)| record.keyspace) {
            let next = || live.next_if(|(record, _)| record.keyspace == keyspace);
            let keys = std::iter::from_fn(next);
            let mut keys = keys.map(|(record, at)| {
                let lasts = record.expires_at_ms.is_none();
                (record.key, lasts.then_some((record.location.segment, at)))
            });
            self.index.load_order(keyspace, keys.by_ref())?;
            // Where there is no order nobody has asked for them.
            keys.for_each(drop);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Location;

    fn record(key: &[u8], seq: u64, tombstone: bool, segment: u64) -> RecordRef<'_> {
        let location = Location { segment, offset: 0 };
        let (keyspace, expires_at_ms, in_batch, value) = (0, None, false, &b""[..]);
        RecordRef { location, seq, keyspace, tombstone, expires_at_ms, in_batch, key, value }
    }

    // Rule 1: by seq, never by position, and the tombstone on equal seq.
    #[test]
    fn a_replay_in_any_order_keeps_the_same_record() {
        let records = [
            record(b"k", 3, false, 1),
            record(b"k", 4, false, 2),
            record(b"k", 4, true, 1),
            record(b"k", 2, true, 9),
        ];
        for rotation in 0..records.len() {
            let mut rotated = records;
            rotated.rotate_left(rotation);
            let installer = Installer::default();
            rotated.iter().for_each(|record| installer.apply(std::iter::once(*record)));
            installer.with_replayed(|table| {
                let kept: Vec<_> = table.iter().map(|record| record.rank()).collect();
                assert_eq!(kept, [record(b"k", 4, true, 1).rank()], "rotation {rotation}");
            });
        }
    }
}
