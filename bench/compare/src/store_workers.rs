//! What each operation of a store does, and the check of its answer.

use std::ops::ControlFlow;
use std::time::Instant;

use cortenkv_bench::driver::{Simple, Step, Worker};
use cortenkv_bench::seed::SplitMix64;
use cortenkv_bench::{Error, Result};

use crate::store::{Key, Session};
use crate::store_data::{key, missing_key};
use crate::store_work::{Layout, Run};

/// Entries of a seek.
const SEEK_ENTRIES: u64 = 50;

impl Run<'_> {
    pub(crate) fn fill<'s>(
        &'s self,
        mut session: Box<dyn Session + 's>,
        layout: Layout,
        thread: usize,
        threads: usize,
    ) -> Box<dyn Worker + 's> {
        let order = self.order(layout);
        let mut value = Vec::new();
        // The driver gives each thread the share of the keys that this stripe has.
        let mut place = thread as u64;
        Box::new(Simple(move || {
            let number = order(place);
            place += threads as u64;
            self.values.make(number, 0, &mut value);
            session.put(&key(number), &value)
        }))
    }

    pub(crate) fn overwrite<'s>(
        &'s self,
        mut session: Box<dyn Session + 's>,
        mut random: SplitMix64,
    ) -> Box<dyn Worker + 's> {
        let mut value = Vec::new();
        let mut generation = 0;
        Box::new(Simple(move || {
            let number = random.below(self.keys);
            generation += 1;
            self.values.make(number, generation, &mut value);
            session.put(&key(number), &value)
        }))
    }

    pub(crate) fn reads<'s>(
        &'s self,
        mut session: Box<dyn Session + 's>,
        mut random: SplitMix64,
    ) -> Box<dyn Worker + 's> {
        Box::new(Simple(move || {
            let number = random.below(self.keys);
            let mut is_right = false;
            session.get(&key(number), &mut |value| is_right = self.values.is_of(number, value))?;
            right(is_right, number)
        }))
    }

    pub(crate) fn missing_reads<'s>(
        &'s self,
        mut session: Box<dyn Session + 's>,
        mut random: SplitMix64,
    ) -> Box<dyn Worker + 's> {
        Box::new(Simple(move || {
            let number = random.below(self.keys);
            let is_found = session.get(&missing_key(number), &mut |_| ())?;
            right(!is_found, number)
        }))
    }

    pub(crate) fn batches<'s>(
        &'s self,
        session: Box<dyn Session + 's>,
        random: SplitMix64,
        key_of: fn(u64) -> Key,
    ) -> Box<dyn Worker + 's> {
        let len = self.kind.batch_keys();
        let is_missing = key_of(0) == missing_key(0);
        let numbers = Vec::with_capacity(len);
        let keys = Vec::with_capacity(len);
        Box::new(Batches { run: self, session, random, key_of, is_missing, numbers, keys })
    }

    pub(crate) fn seeks<'s>(
        &'s self,
        mut session: Box<dyn Session + 's>,
        mut random: SplitMix64,
    ) -> Box<dyn Worker + 's> {
        Box::new(Simple(move || {
            let first = random.below(self.keys - SEEK_ENTRIES + 1);
            self.walk(session.as_mut(), first, SEEK_ENTRIES)
        }))
    }

    pub(crate) fn scans<'s>(&'s self, mut session: Box<dyn Session + 's>) -> Box<dyn Worker + 's> {
        Box::new(WholeScans(move || {
            self.walk(session.as_mut(), 0, self.keys)?;
            Ok(self.keys)
        }))
    }

    /// Walks over `count` entries from a key on; every value must be that of the next key.
    fn walk(&self, session: &mut dyn Session, first: u64, count: u64) -> Result<()> {
        let end = first + count;
        let mut number = first;
        let mut is_right = true;
        session.scan(&key(first), &mut |found, value| {
            is_right = self.values.is_of(number, value) && (number > first || found == key(first));
            number += 1;
            let goes_on = is_right && number < end;
            if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        right(is_right && number == end, number)
    }
}

/// Gets of many keys in one call.
struct Batches<'a> {
    run: &'a Run<'a>,
    session: Box<dyn Session + 'a>,
    random: SplitMix64,
    key_of: fn(u64) -> Key,
    is_missing: bool,
    numbers: Vec<u64>,
    keys: Vec<Key>,
}

impl Worker for Batches<'_> {
    fn step(&mut self, from: Instant) -> Result<Step> {
        let Batches { run, session, random, key_of, numbers, keys, .. } = self;
        numbers.clear();
        numbers.extend((0..run.kind.batch_keys()).map(|_| random.below(run.keys)));
        keys.clear();
        keys.extend(numbers.iter().map(|&number| key_of(number)));
        let (mut seen, mut is_right) = (0, true);
        session.get_batch(keys, &mut |n, value| {
            seen += 1;
            is_right &= run.values.is_of(numbers[n], value);
        })?;
        let expected = if self.is_missing { 0 } else { numbers.len() };
        right(is_right && seen == expected, numbers[0])?;
        Ok(Step { operation: 0, completed: numbers.len() as u64, from })
    }
}

/// Scans; the closure returns how many entries it saw.
struct WholeScans<F>(F);

impl<F: FnMut() -> Result<u64>> Worker for WholeScans<F> {
    fn step(&mut self, from: Instant) -> Result<Step> {
        Ok(Step { operation: 0, completed: (self.0)()?, from })
    }
}

fn right(is_right: bool, number: u64) -> Result<()> {
    match is_right {
        true => Ok(()),
        false => Err(Error::new(format!("a wrong answer at or near key number {number}"))),
    }
}
