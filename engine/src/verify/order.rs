//! Scans and gets: every live key comes in its place, both ways, with the value that a get answers (rule 11).
//!
//! # Concurrency
//! A difference counts only if the newest record of the key was the same before and after both were asked. That every key
//! comes is shown by their number when nothing was written since the segments were read, else key by key.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::newest::newest;
use super::{FindingKind, VerifiedKeyspace, Verifier};
use crate::error::{ErrorKind, Result};
use crate::range::{Direction, KeyRange};
use crate::record::KeyspaceId;
use crate::ttl;

/// LIMIT: how often a key is looked at that is written to all the time.
const ATTEMPTS_MAX: u32 = 8;

impl Verifier<'_> {
    /// Compares scans with gets and with what the segments hold.
    pub(super) fn compare_scans(&mut self, is_quiet: impl Fn() -> Result<bool>) {
        let keyspaces: Vec<KeyspaceId> = self.names.keys().copied().collect();
        for keyspace in keyspaces {
            let name = self.name(keyspace).unwrap_or_default();
            let mut seen = VerifiedKeyspace { name, ..VerifiedKeyspace::default() };
            let forwards = self.scan(keyspace, Direction::Forward, &mut seen);
            if forwards.as_ref().is_err_and(|error| *error.kind() == ErrorKind::Unsupported) {
                self.report.is_ordered = false;
                return;
            }
            let mut back = VerifiedKeyspace::default();
            let backwards = self.scan(keyspace, Direction::Reverse, &mut back);
            for error in [forwards, backwards].into_iter().filter_map(Result::err) {
                self.note_error(&error);
            }
            let live = self.live.get(&keyspace).copied().unwrap_or_default();
            let is_whole = seen.entries == live && back.entries == live;
            if !(is_whole && is_quiet().unwrap_or_default()) {
                self.find_each(keyspace);
            }
            self.report.keyspaces.push(seen);
        }
    }

    /// One scan of a keyspace; each entry is asked for by a get, too.
    fn scan(
        &mut self,
        keyspace: KeyspaceId,
        direction: Direction,
        seen: &mut VerifiedKeyspace,
    ) -> Result<()> {
        let core = self.core;
        let mut last = None::<Vec<u8>>;
        let _: ControlFlow<()> =
            core.scan_with(keyspace, &KeyRange::all(), direction, |key, value| {
                seen.entries += 1;
                seen.bytes += (key.len() + value.len()) as u64;
                let is_in_order = last.as_deref().is_none_or(|last| match direction {
                    Direction::Forward => last < key,
                    Direction::Reverse => last > key,
                });
                if !is_in_order {
                    let what = "the key comes out of order".to_owned();
                    self.note_key(FindingKind::Order, keyspace, key, what);
                }
                let last = last.get_or_insert_default();
                last.clear();
                last.extend_from_slice(key);
                let got = core.get_with(keyspace, key, |got| got == value);
                if !matches!(got, Ok(Some(true))) {
                    self.compare_key(keyspace, key);
                }
                ControlFlow::Continue(())
            })?;
        Ok(())
    }

    /// Looks for the key of every live record in a scan of just that key.
    fn find_each(&mut self, keyspace: KeyspaceId) {
        let core = self.core;
        core.index.for_each_address(|address| {
            let now_ms = core.now_ms();
            let shown = core.read_at(address, |record, _| {
                let is_live = record.keyspace == keyspace
                    && !record.tombstone
                    && !ttl::is_expired(record.expires_at_ms, now_ms);
                is_live.then(|| record.key.to_vec())
            });
            if let Ok(Some(Some(key))) = shown
                && !matches!(self.scanned(keyspace, &key), Ok(Some(_)))
            {
                self.compare_key(keyspace, &key);
            }
        });
    }

    /// Asks for one key in every way, until nothing is written to it meanwhile, and notes what differs then.
    fn compare_key(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        let core = self.core;
        for _ in 0..ATTEMPTS_MAX {
            let moment = || Ok((core.log.last_seq(), newest(core, keyspace, key)?));
            let before = moment();
            let got = core.get(keyspace, key);
            let scanned = self.scanned(keyspace, key);
            let (before, after) = match (before, moment()) {
                (Ok(before), Ok(after)) => (before, after),
                // Whose record cannot be read is told by the index.
                (Err(error), _) | (_, Err(error)) => return self.note_error(&error),
            };
            let version = |moment: &(u64, Option<super::newest::Newest>)| {
                moment.1.map(|newest| newest.version())
            };
            let is_same = match (version(&before), version(&after)) {
                (None, None) => before.0 == after.0,
                (before, after) => before == after,
            };
            if !is_same {
                continue;
            }
            let (got, scanned) = match (got, scanned) {
                (Ok(got), Ok(scanned)) => (got, scanned),
                (Err(error), _) | (_, Err(error)) => return self.note_error(&error),
            };
            let is_put = after.1.is_some_and(|newest| !newest.rank.tombstone);
            let expires = after.1.is_some_and(|newest| newest.expires_at_ms.is_some());
            let what = match (got, scanned) {
                (Some(got), Some(scanned)) if got != scanned => "get and scan differ",
                // It may end between any two looks.
                _ if expires => return,
                (None, Some(_)) => "a scan has the key, a get does not find it",
                (Some(_), None) => "a get finds the key, a scan does not have it",
                (Some(_), _) if !is_put => "a deleted key is found",
                (None, None) if is_put => "neither get nor scan finds the key, the index does",
                _ => return,
            };
            return self.note_key(FindingKind::Order, keyspace, key, what.to_owned());
        }
    }

    /// The value that a scan of one key shows.
    fn scanned(&self, keyspace: KeyspaceId, key: &[u8]) -> Result<Option<Bytes>> {
        let key = Bytes::copy_from_slice(key);
        let range = KeyRange { start: Bound::Included(key.clone()), end: Bound::Included(key) };
        let shown = self.core.scan_with(keyspace, &range, Direction::Forward, |_, value| {
            ControlFlow::Break(Bytes::copy_from_slice(value))
        })?;
        Ok(shown.break_value())
    }
}
