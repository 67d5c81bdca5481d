//! A range as a transaction sees it: its own writes over those of others, in key order from both ends.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::reads::Reads;
use super::view::{View, ViewScan};
use super::writes::Own;
use crate::error::{Error, Result};
use crate::range::{Direction, KeyRange};
use crate::record::KeyspaceId;
use crate::sync::lock;

/// An iterator over entries; made by [`Transaction::iter`](super::Transaction::iter) and its like.
///
/// An error comes once, as the last item; which, [`Scan`](crate::Scan) says.
#[must_use = "iterators do nothing before they are asked"]
pub struct TransactionScan {
    theirs: ViewScan,
    /// Entries of `theirs` that were fetched to be compared, one at each end.
    front: Option<(Bytes, Bytes)>,
    back: Option<(Bytes, Bytes)>,
    own: VecDeque<(Bytes, Own)>,
    now_ms: u64,
    reads: Arc<Mutex<Reads>>,
    /// Its number among the reads.
    range: usize,
    /// What is wrong with the call; nothing comes behind it.
    failure: Option<Error>,
    is_over: bool,
}

impl TransactionScan {
    pub(super) fn new(
        view: &View,
        reads: &Arc<Mutex<Reads>>,
        keyspace: KeyspaceId,
        range: KeyRange,
        own: VecDeque<(Bytes, Own)>,
        failure: Option<Error>,
    ) -> Self {
        let theirs = view.scan(keyspace, range.clone());
        TransactionScan {
            theirs,
            front: None,
            back: None,
            own,
            now_ms: view.now_ms(),
            range: lock(reads).begin_range(keyspace, range),
            reads: Arc::clone(reads),
            failure,
            is_over: false,
        }
    }

    fn step(&mut self, direction: Direction) -> Option<Result<(Bytes, Bytes)>> {
        if self.is_over {
            return None;
        }
        if let Some(failure) = self.failure.take() {
            self.is_over = true;
            return Some(Err(failure));
        }
        loop {
            let theirs = match self.fetch(direction) {
                Ok(theirs) => theirs,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            };
            let own = match direction {
                Direction::Forward => self.own.front(),
                Direction::Reverse => self.own.back(),
            };
            let order = match (&theirs, own) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((theirs, _)), Some((own, _))) if direction == Direction::Forward => {
                    theirs.cmp(own)
                }
                (Some((theirs, _)), Some((own, _))) => own.cmp(theirs),
            };
            match order {
                Ordering::Less => return theirs.map(Ok),
                // The own one stands in its place.
                Ordering::Equal => {}
                Ordering::Greater => match direction {
                    Direction::Forward => self.front = theirs,
                    Direction::Reverse => self.back = theirs,
                },
            }
            let own = match direction {
                Direction::Forward => self.own.pop_front(),
                Direction::Reverse => self.own.pop_back(),
            };
            if let Some((key, own)) = own
                && let Some(value) = own.live(self.now_ms)
            {
                return Some(Ok((key, value.clone())));
            }
        }
    }

    /// The next entry of others at an end; that of the other end when nothing is left between.
    fn fetch(&mut self, direction: Direction) -> Result<Option<(Bytes, Bytes)>> {
        let (near, far) = match direction {
            Direction::Forward => (&mut self.front, &mut self.back),
            Direction::Reverse => (&mut self.back, &mut self.front),
        };
        if near.is_some() {
            return Ok(near.take());
        }
        match self.theirs.next(direction).transpose()? {
            Some((key, seq, value)) => {
                lock(&self.reads).note_step(self.range, direction, Some((key.clone(), seq)));
                Ok(Some((key, value)))
            }
            None => {
                lock(&self.reads).note_step(self.range, direction, None);
                Ok(far.take())
            }
        }
    }
}

impl Iterator for TransactionScan {
    type Item = Result<(Bytes, Bytes)>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Direction::Forward)
    }
}

impl DoubleEndedIterator for TransactionScan {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(Direction::Reverse)
    }
}

impl std::iter::FusedIterator for TransactionScan {}

impl std::fmt::Debug for TransactionScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionScan").finish_non_exhaustive()
    }
}
