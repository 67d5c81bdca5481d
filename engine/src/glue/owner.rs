//! What background work asks of the records to keep key order: which keys are live, and where their records are.
//!
//! # Failure
//! A record that cannot be read may be that of any key: merges keep the keys that it could belong to. A rebuild cannot know
//! its key; a get of it answers the error, to whoever knows the key.

use std::ops::ControlFlow;

use cortenkv_index::{Hint, KeyBatch, KeyOwner, KeyState, PointIndex};

use super::index::{ours, to_theirs};
use super::newest::Seen;
use crate::core::Core;
use crate::read_many::BATCH_KEYS;
use crate::record::KeyspaceId;
use crate::ttl;

/// The keys of a keyspace whose newest record is a put that has not expired, the highest first; while a snapshot is open,
/// those of all records.
pub(super) fn live_keys(core: &Core, keyspace: KeyspaceId) -> Vec<(Vec<u8>, Option<Hint>)> {
    let mut keys = Vec::new();
    let now_ms = core.now_ms();
    let _ = core.index.point.for_each(&mut |address| {
        let address = ours(address);
        let read = core.read_at(address, |record, _| {
            let is_there = record.keyspace == keyspace;
            let is_live =
                is_there && !record.tombstone && !ttl::is_expired(record.expires_at_ms, now_ms);
            let lasts = record.expires_at_ms.is_none();
            let lasts = lasts && is_live;
            // Asked after the key was seen to be dead, as `are_open` wants.
            let is_wanted = is_live || is_there && core.snapshots.are_open();
            is_wanted.then(|| (record.key.to_vec(), lasts.then_some(record.location.segment)))
        });
        if let Ok(Some(Some((key, segment)))) = read {
            let hint = segment.map(|segment| Hint { segment, address: to_theirs(address) });
            keys.push((key, hint));
        }
        ControlFlow::Continue(())
    });
    // An entry may be named twice, and a record that could not be read when its successor came stands beside it.
    keys.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
    keys.dedup_by(|(a, hint), (b, kept)| {
        let is_same = a == b;
        if is_same && hint != kept {
            *kept = None;
        }
        is_same
    });
    keys
}

/// The database, as merges see it.
pub(super) struct Owner<'a>(pub(super) &'a Core);

impl KeyOwner for Owner<'_> {
    fn states(
        &self,
        keyspace: u32,
        keys: &KeyBatch,
        states: &mut Vec<KeyState>,
    ) -> cortenkv_index::Result<()> {
        states.clear();
        // Where the hint of the merge before still holds, nobody has to be asked.
        states.extend((0..keys.len()).map(|n| match keys.hint(n) {
            Some(hint) if self.still_holds(hint) => KeyState::Live(Some(hint)),
            _ => KeyState::Dead,
        }));
        let asked = |state: &KeyState| *state == KeyState::Dead;
        let numbers: Vec<usize> = (0..keys.len()).filter(|&n| asked(&states[n])).collect();
        let (mut chunk, mut answers) = (Vec::with_capacity(BATCH_KEYS), Vec::new());
        for numbers in numbers.chunks(BATCH_KEYS) {
            chunk.clear();
            chunk.extend(numbers.iter().filter_map(|&n| keys.get(n)));
            answers.clear();
            self.chunk_states(keyspace, &chunk, &mut answers);
            for (&n, &answer) in numbers.iter().zip(&answers) {
                states[n] = answer;
            }
        }
        Ok(())
    }
}

impl Owner<'_> {
    /// True if the record of a hint is the newest of its key still. Hints are given to records that never expire only.
    fn still_holds(&self, hint: Hint) -> bool {
        let (Owner(core), address) = (self, ours(hint.address));
        core.slots.with(address, |at| at.segment.id() == hint.segment) == Some(true)
            && !core.index.may_be_dead(address)
            && !core.met_unreadable()
    }

    fn chunk_states(&self, keyspace: KeyspaceId, keys: &[&[u8]], states: &mut Vec<KeyState>) {
        let Owner(core) = self;
        let now_ms = core.now_ms();
        if core.met_unreadable() {
            // A key may have several records then; and one that cannot be read may be live.
            states.extend(keys.iter().map(|key| {
                match core.find_live(keyspace, key, || now_ms, |_| ()) {
                    // Asked after the key was seen to be dead, as `are_open` wants.
                    Ok(None) if !core.snapshots.are_open() => KeyState::Dead,
                    Ok(_) | Err(_) => KeyState::Live(None),
                }
            }));
            return;
        }
        let seen = core.find_newest(keyspace, keys);
        // Only now: what was seen to be dead, and is history, is so to the snapshots that will be opened, too.
        let horizon = core.snapshots.horizon(core.clock());
        states.extend(seen[..keys.len()].iter().map(|seen| match *seen {
            Seen::Nothing => KeyState::Dead,
            Seen::Unreadable => KeyState::Live(None),
            Seen::At(_, rank, expires_at_ms)
                if rank.tombstone || ttl::is_expired(expires_at_ms, horizon.now_ms) =>
            {
                match rank.seq <= horizon.seq {
                    true => KeyState::Dead,
                    // A snapshot may see a version from before.
                    false => KeyState::Live(None),
                }
            }
            // Whoever scans could not tell whether it is there still.
            Seen::At(..) if !core.index.knows_dead() => KeyState::Live(None),
            // Its end is not announced, so the next merge has to look again.
            Seen::At(_, _, Some(_)) => KeyState::Live(None),
            Seen::At(address, rank, None) => {
                let (segment, address) = (rank.location.segment, to_theirs(address));
                KeyState::Live(Some(Hint { segment, address }))
            }
        }));
    }
}
