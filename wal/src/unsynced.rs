//! The segments with bytes that no sync has covered.
//!
//! # Invariants
//! - In log order; the last is the one being written, and is always there.
//! - A segment leaves the list once it is sealed and synced to its end.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::format::HEADER_BYTES;
use crate::segment::{Position, Segment};

#[derive(Debug)]
pub(crate) struct Unsynced {
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    segment: Arc<Segment>,
    synced: u32,
    /// Where it ends, once it was left for the next.
    sealed: Option<Position>,
}

impl Unsynced {
    /// Starts with a segment whose content up to `synced` is durable.
    pub(crate) fn new(segment: &Arc<Segment>, synced: u32) -> Self {
        let entry = Entry { segment: Arc::clone(segment), synced, sealed: None };
        Unsynced { entries: VecDeque::from([entry]) }
    }

    /// The last segment ends here.
    pub(crate) fn seal(&mut self, at: Position) {
        if let Some(entry) = self.entries.back_mut() {
            entry.sealed = Some(at);
            entry.segment.note_sealed(at);
        }
    }

    /// The next segment is being written; its header is durable.
    pub(crate) fn begin(&mut self, segment: &Arc<Segment>) {
        let segment = Arc::clone(segment);
        self.entries.push_back(Entry { segment, synced: HEADER_BYTES, sealed: None });
    }

    /// The segments up to a limit (an id, and the place in that segment), each with the stored offset where its
    /// published bytes end.
    pub(crate) fn ends(&self, limit: (u64, Position)) -> Vec<(Arc<Segment>, u32)> {
        self.entries_to(limit).map(|(entry, end)| (Arc::clone(&entry.segment), end)).collect()
    }

    /// As [`Unsynced::ends`], without segments that are synced to that offset.
    pub(crate) fn up_to(&self, limit: (u64, Position)) -> Vec<(Arc<Segment>, u32)> {
        self.entries_to(limit)
            .filter(|(entry, end)| *end > entry.synced)
            .map(|(entry, end)| (Arc::clone(&entry.segment), end))
            .collect()
    }

    fn entries_to(&self, limit: (u64, Position)) -> impl Iterator<Item = (&Entry, u32)> {
        self.entries.iter().take_while(move |entry| entry.segment.id <= limit.0).map(move |entry| {
            let is_last = entry.segment.id == limit.0;
            let end = entry.sealed.filter(|_| !is_last).unwrap_or(limit.1);
            (entry, end.stored)
        })
    }

    /// A sync covered these segments up to these offsets.
    pub(crate) fn note_synced(&mut self, segments: &[(Arc<Segment>, u32)]) {
        for (segment, end) in segments {
            let known = self.entries.iter_mut().find(|entry| entry.segment.id == segment.id);
            if let Some(entry) = known {
                entry.synced = entry.synced.max(*end);
            }
        }
        let is_done = |entry: &Entry| entry.sealed.is_some_and(|end| entry.synced >= end.stored);
        while self.entries.front().is_some_and(is_done) {
            self.entries.pop_front();
        }
    }

    /// Bytes that a power cut would take, when the last segment reaches to `at`.
    pub(crate) fn bytes(&self, at: Position) -> u64 {
        let unsynced = |entry: &Entry| entry.sealed.unwrap_or(at).stored - entry.synced;
        self.entries.iter().map(|entry| u64::from(unsynced(entry))).sum()
    }

    /// The newest segment that was filled and left and not synced since, and where it ends.
    pub(crate) fn last_sealed(&self) -> Option<(Arc<Segment>, Position)> {
        let mut sealed = self.entries.iter().rev().filter_map(|entry| Some((entry, entry.sealed?)));
        sealed.next().map(|(entry, end)| (Arc::clone(&entry.segment), end))
    }
}
