//! One end of a scan: candidate keys in order, each confirmed as it is shown.
//!
//! # Layout
//! Keys come in batches from the order, many with a hint where the newest record is. The memory that looking at a key
//! takes is asked for while some 8 to 16 keys before it have their turns. A key is confirmed when its turn comes: if the
//! record of its hint is not marked dead, it is the newest still and is shown where it lies; else the key is looked up.
//!
//! # Invariants
//! What is shown was the newest record at the moment of the call, as by a get; in a scan of a snapshot, what that sees.
//!
//! # Concurrency
//! Nothing is locked or pinned between two calls, but for what the order keeps of itself. So places are forgotten when a slot
//! was given back since they were found: another segment may stand there, with a record of the key that nobody is to see.

use crate::address::Address;
use crate::core::Core;
use crate::error::Result;
use crate::parts::{self, KeyWalk};
use crate::range::{Direction, KeyRange};
use crate::read::{Found, Look};
use crate::read_many::BATCH_KEYS;
use crate::record::KeyspaceId;
use crate::snapshot::OpenSnapshot;

/// Keys fetched at a time, at first: a block of a run.
const BATCH_KEYS_MIN: usize = 16;
/// LIMIT: keys that one end of a scan holds.
const BATCH_KEYS_MAX: usize = 256;
/// Keys whose memory is asked for at a time. Twice as many are between the first that was asked for and its turn.
const STEP_KEYS: usize = BATCH_KEYS / 2;

/// A walk in one direction.
pub(super) struct Walk {
    direction: Direction,
    keys: Option<KeyWalk>,
    /// Keys of the present batch.
    len: usize,
    /// The key whose turn comes next.
    next: usize,
    /// The keys before this one have places; the number is a multiple of `STEP_KEYS`, or all of the batch.
    asked: usize,
    /// Where the records of the last keys before `asked` are, each under its number modulo `BATCH_KEYS`.
    places: [Option<Address>; BATCH_KEYS],
    /// What the table of slots said when the last of them were found: without a pin they are good only while that is so.
    slots_given_back: u64,
    /// Keys that came before this batch.
    passed: usize,
    /// The last key of the batch before.
    last: Option<Vec<u8>>,
}

impl Walk {
    pub(super) fn new(direction: Direction) -> Self {
        Walk {
            direction,
            keys: None,
            len: 0,
            next: 0,
            asked: 0,
            places: [None; BATCH_KEYS],
            slots_given_back: 0,
            passed: 0,
            last: None,
        }
    }

    /// Goes on to the next candidate; false at the end.
    ///
    /// # Errors
    /// `Unsupported` when there is no order, `Corruption` when it is damaged (then it is rebuilt in the background).
    #[inline]
    pub(super) fn advance(
        &mut self,
        core: &Core,
        keyspace: KeyspaceId,
        range: &KeyRange,
        at: Option<&OpenSnapshot>,
    ) -> Result<bool> {
        if self.next == self.len && !self.fetch(core, keyspace, range, at)? {
            return Ok(false);
        }
        // Not all at once before the first key: many scans want one entry.
        if self.asked < (self.next + STEP_KEYS).min(self.len) {
            self.look_ahead(core, keyspace);
        }
        self.next += 1;
        Ok(true)
    }

    /// The candidate of the last [`advance`](Self::advance), or the last of all.
    #[inline]
    pub(super) fn key(&self) -> Option<&[u8]> {
        match (self.next.checked_sub(1), &self.keys) {
            (Some(n), Some(keys)) => Some(keys.key(n)),
            _ => self.last.as_deref(),
        }
    }

    /// True now and then, and whenever the next candidate has to be fetched.
    #[inline]
    pub(super) fn is_at_pause(&self) -> bool {
        self.next.is_multiple_of(BATCH_KEYS) || self.next == self.len
    }

    /// Shows the value of the candidate, unless it has no live record.
    ///
    /// # Errors
    /// `Corruption` when its record is damaged.
    #[inline]
    pub(super) fn confirm<R>(
        &mut self,
        core: &Core,
        keyspace: KeyspaceId,
        at: Option<&OpenSnapshot>,
        show: impl FnOnce(&[u8], Found<'_>) -> R,
    ) -> Result<Option<R>> {
        let (Some(n), Some(keys)) = (self.next.checked_sub(1), &self.keys) else { return Ok(None) };
        let key = keys.key(n);
        let mut show = Some(show);
        let mut show = |found: Found<'_>| show.take().map(|show| show(key, found));
        let place = self.places[n % BATCH_KEYS]
            .filter(|place| !core.index.may_be_dead(*place) && !core.met_unreadable());
        if let Some(at) = at {
            return confirm_at(core, (keyspace, key), place, self.slots_given_back, at, show);
        }
        let looked = match place {
            Some(place) => {
                // What is given back from here on goes to nobody as long as the pin lasts.
                let _pin = parts::pin();
                match core.slots.times_given_back() == self.slots_given_back {
                    true => core.look_at(place, keyspace, key, || core.now_ms(), &mut show),
                    false => Ok(None),
                }
            }
            None => Ok(None),
        };
        let shown = match looked {
            Ok(Some(Look::Shown(_, shown))) => Ok(shown.flatten()),
            // Of another key, under way, gone, unreadable: the usual way knows what to do.
            _ => core.find_live(keyspace, key, || core.now_ms(), show).map(Option::flatten),
        };
        if matches!(shown, Ok(None))
            // Else a scan of a snapshot may have to show it.
            && !core.snapshots.are_open()
            && let Some(keys) = &mut self.keys
        {
            keys.note_dead(n);
        }
        shown
    }

    #[cold]
    fn fetch(
        &mut self,
        core: &Core,
        keyspace: KeyspaceId,
        range: &KeyRange,
        at: Option<&OpenSnapshot>,
    ) -> Result<bool> {
        if let (Some(n), Some(keys)) = (self.next.checked_sub(1), &self.keys) {
            let last = self.last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(keys.key(n));
        }
        let keys = match &mut self.keys {
            Some(keys) => keys,
            none => {
                at.map_or_else(|| core.check_open(), OpenSnapshot::check_age)?;
                none.insert(core.index.keys(keyspace, range, self.direction)?)
            }
        };
        self.passed += self.len;
        (self.len, self.next, self.asked) = (0, 0, 0);
        let batch_keys = self.passed.clamp(BATCH_KEYS_MIN, BATCH_KEYS_MAX);
        self.len = keys.next_batch(batch_keys).inspect_err(|error| {
            if error.is_corruption() {
                core.index.note_damage(keyspace);
                core.background.wake();
            }
        })?;
        // Keys of one that was given up may have been dropped.
        at.map_or(Ok(()), OpenSnapshot::check)?;
        Ok(self.len > 0)
    }

    /// Finds the places of the next `STEP_KEYS` keys of the batch.
    fn look_ahead(&mut self, core: &Core, keyspace: KeyspaceId) {
        let Some(keys) = &self.keys else { return };
        let len = (self.len - self.asked).min(STEP_KEYS);
        let given_back = core.slots.times_given_back();
        if given_back != self.slots_given_back {
            self.slots_given_back = given_back;
            self.places = [None; BATCH_KEYS];
        }
        let places = &mut self.places[self.asked % BATCH_KEYS..][..len];
        core.find_places(keyspace, keys, self.asked, places);
        self.asked += len;
    }
}

/// Shows what a snapshot sees of a key: the record at a place, if that is the newest and was there then, else what a read at
/// the snapshot finds.
fn confirm_at<R>(
    core: &Core,
    (keyspace, key): (KeyspaceId, &[u8]),
    place: Option<Address>,
    slots_given_back: u64,
    at: &OpenSnapshot,
    mut show: impl FnMut(Found<'_>) -> Option<R>,
) -> Result<Option<R>> {
    let mut newest = None;
    if let Some(place) = place {
        // As above.
        let _pin = parts::pin();
        if core.slots.times_given_back() == slots_given_back {
            let looked = core.read_at(place, |record, source| {
                let is_it = record.key == key && record.keyspace == keyspace;
                let is_seen = is_it && record.seq <= at.seq();
                is_seen.then(|| core.show_live(Found { record, source }, || at.now_ms(), &mut show))
            });
            // What cannot be read is told by the usual way.
            newest = looked.ok().flatten().flatten();
        }
    }
    match newest {
        Some(shown) => at.check().map(|()| shown.flatten()),
        None => core.find_at(keyspace, key, at, show).map(Option::flatten),
    }
}
