//! One end of a scan: candidate keys in order, each confirmed as it is shown.
//!
//! # Layout
//! Keys come in batches from the order, many with a hint where the newest record is. For up to 16 at a time the memory is
//! asked for that looking at them takes. A key is confirmed when its turn comes: if the record of its hint is not marked
//! dead, it is the newest still and is shown where it lies; else the key is looked up.
//!
//! # Invariants
//! What is shown was the newest record at the moment of the call, as by a get.
//!
//! # Concurrency
//! Nothing is locked or pinned between two calls, but for what the order keeps of itself.

use crate::address::Address;
use crate::core::Core;
use crate::error::Result;
use crate::parts::KeyWalk;
use crate::range::{Direction, KeyRange};
use crate::read::{Found, Look};
use crate::read_many::BATCH_KEYS;
use crate::record::KeyspaceId;

/// Keys fetched at a time: few at first, because many scans want one entry.
const BATCH_KEYS_MIN: usize = 4;
/// LIMIT: keys that one end of a scan holds.
const BATCH_KEYS_MAX: usize = 256;

/// A walk in one direction.
pub(super) struct Walk {
    direction: Direction,
    keys: Option<KeyWalk>,
    /// Keys of the present batch.
    len: usize,
    /// The key whose turn comes next.
    next: usize,
    /// The keys from `window` on whose memory was asked for.
    window: usize,
    window_len: usize,
    places: [Option<Address>; BATCH_KEYS],
    batch_keys: usize,
    /// The last key of the batch before.
    last: Option<Box<[u8]>>,
}

impl Walk {
    pub(super) fn new(direction: Direction) -> Self {
        Walk {
            direction,
            keys: None,
            len: 0,
            next: 0,
            window: 0,
            window_len: 0,
            places: [None; BATCH_KEYS],
            batch_keys: BATCH_KEYS_MIN,
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
    ) -> Result<bool> {
        if self.next == self.len && !self.fetch(core, keyspace, range)? {
            return Ok(false);
        }
        if self.next == self.window + self.window_len {
            self.prefetch(core, keyspace);
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

    /// True when the next candidate needs a new look at the index.
    #[inline]
    pub(super) fn is_window_over(&self) -> bool {
        self.next == self.window + self.window_len
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
        show: impl FnOnce(&[u8], Found<'_>) -> R,
    ) -> Result<Option<R>> {
        let (Some(n), Some(keys)) = (self.next.checked_sub(1), &self.keys) else { return Ok(None) };
        let key = keys.key(n);
        let mut show = Some(show);
        let mut show = |found: Found<'_>| show.take().map(|show| show(key, found));
        let shown = match self.places[n - self.window] {
            Some(place) if !core.index.may_be_dead(place) && !core.met_unreadable() => {
                match core.look_at(place, keyspace, key, || core.now_ms(), &mut show) {
                    Ok(Some(Look::Shown(_, shown))) => Ok(shown.flatten()),
                    // Of another key, under way, gone, unreadable: the usual way knows what to do.
                    _ => core.find_live(keyspace, key, || core.now_ms(), show).map(Option::flatten),
                }
            }
            _ => core.find_live(keyspace, key, || core.now_ms(), show).map(Option::flatten),
        };
        if matches!(shown, Ok(None))
            && let Some(keys) = &mut self.keys
        {
            keys.note_dead(n);
        }
        shown
    }

    #[cold]
    fn fetch(&mut self, core: &Core, keyspace: KeyspaceId, range: &KeyRange) -> Result<bool> {
        self.last = self.key().map(Into::into);
        let keys = match &mut self.keys {
            Some(keys) => keys,
            none => {
                core.check_open()?;
                none.insert(core.index.keys(keyspace, range.clone(), self.direction)?)
            }
        };
        (self.len, self.next, self.window, self.window_len) = (0, 0, 0, 0);
        self.len = keys.next_batch(self.batch_keys).inspect_err(|error| {
            if error.is_corruption() {
                core.index.note_damage(keyspace);
                core.background.wake();
            }
        })?;
        self.batch_keys = (self.batch_keys * 2).min(BATCH_KEYS_MAX);
        Ok(self.len > 0)
    }

    fn prefetch(&mut self, core: &Core, keyspace: KeyspaceId) {
        let Some(keys) = &self.keys else { return };
        self.window = self.next;
        self.window_len = (self.len - self.next).min(BATCH_KEYS);
        if !core.index.knows_dead() {
            // Every place would be asked for again.
            return;
        }
        let places = &mut self.places[..self.window_len];
        for (n, place) in places.iter_mut().enumerate() {
            *place = keys.hint(self.window + n).and_then(|(segment, address)| {
                let stands =
                    core.slots.with(address, |at| at.segment.id() == segment) == Some(true);
                (stands && !core.index.may_be_dead(address)).then_some(address)
            });
        }
        let window = places.iter().enumerate();
        core.prefetch_keys(keyspace, window.map(|(n, place)| (keys.key(self.window + n), *place)));
    }
}
