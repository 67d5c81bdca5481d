//! The `bucket` kind beside the `btree` kind: threads do the same to both, each answer is compared, and at quiescent
//! points everything is; growth, mass deletion, regrowth and storms of swaps, with few and many shards and every hashing.
//!
//! `CORTEN_OPERATIONS` is the number of operations (200,000), `CORTEN_SEED` repeats a run. `cargo xtask stress` runs it
//! with ten million and more.
//!
//! # Layout
//! A run is made of rounds with an index, a hashing and a list of records of their own; a round of phases with a quiescent
//! point behind each. A thread has keys of its own, of which it knows what must be there, and keys that all share.
#![cfg(not(any(loom, shuttle)))]
#![expect(clippy::disallowed_methods, reason = "a test prints its rate and chooses its seed")]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cortenkv_index::testkit::{Hashing, Records};
use cortenkv_index::{
    Address, BTreePoint, BucketOptions, BucketPoint, Entry, Location, Outcome, PointIndex,
};

const OPERATIONS: u64 = 200_000;
const THREADS: usize = 4;
/// The keyspace of the keys that all threads change; the others belong to a thread each.
const SHARED: u32 = 99;
const SHARED_KEYS: usize = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Grow,
    Churn,
    Delete,
    Swap,
}

const PHASES: [Phase; 6] =
    [Phase::Grow, Phase::Churn, Phase::Delete, Phase::Grow, Phase::Swap, Phase::Delete];

/// Shards, hashing, keys of a thread, and the most operations of a round: where keys collide each is slow.
const ROUNDS: [(usize, Hashing, usize, u64); 9] = [
    (1, Hashing::Good, 20_000, 1_500_000),
    (64, Hashing::Good, 30_000, 1_500_000),
    (1, Hashing::Few, 60, 60_000),
    (1_024, Hashing::Good, 40_000, 1_500_000),
    (64, Hashing::Constant, 40, 60_000),
    (1, Hashing::LowBits, 60, 60_000),
    (64, Hashing::Good, 300, 1_500_000),
    (1_024, Hashing::LowBits, 60, 60_000),
    (1, Hashing::Good, 300, 1_500_000),
];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`, which is not a number")))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) % bound as u64) as usize
    }
}

/// What the threads of a round have in common.
struct Round {
    bucket: BucketPoint,
    btree: BTreePoint,
    records: Records,
    seqs: AtomicU64,
    keys: usize,
    /// Names the round and its seed.
    name: String,
}

/// A thread, and what it knows of its own keys.
struct Worker<'a> {
    round: &'a Round,
    keyspace: u32,
    mine: Vec<Option<Entry>>,
    random: Random,
}

fn key(n: usize) -> [u8; 4] {
    (n as u32).to_le_bytes()
}

impl Round {
    fn get(&self, index: &dyn PointIndex, keyspace: u32, n: usize) -> Option<Entry> {
        let key = key(n);
        let hash = self.records.hash(keyspace, &key);
        let at = index.get(hash, &mut |at| self.records.probe(at, keyspace, &key))?;
        Some(self.records.read(at).2)
    }

    fn install(&self, index: &dyn PointIndex, keyspace: u32, n: usize, entry: Entry) -> Outcome {
        let (key, mut announced) = (key(n), None);
        let new = self.records.offer(keyspace, &key, entry);
        let outcome = index.install(&new, &self.records, &mut |old| announced = Some(old));
        match outcome {
            Outcome::Inserted => assert_eq!(announced, Some(None), "{}", self.name),
            Outcome::Replaced(old) => assert_eq!(announced, Some(Some(old)), "{}", self.name),
            Outcome::Stale(_) | Outcome::Present => {}
        }
        outcome
    }

    fn everything(&self, index: &dyn PointIndex) -> Vec<(u32, Vec<u8>, Entry)> {
        let mut all = Vec::new();
        let _ = index.for_each(&mut |address| {
            all.push(self.records.read(address));
            ControlFlow::Continue(())
        });
        all.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        all
    }

    /// For a moment at which nobody changes anything.
    fn compare(&self) {
        let name = &self.name;
        while self.bucket.maintain() {}
        let (found, expected) = (self.everything(&self.bucket), self.everything(&self.btree));
        assert_eq!(self.bucket.len(), found.len(), "len, {name}");
        assert_eq!(found.len(), expected.len(), "number of entries, {name}");
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!((found.0, &found.1), (expected.0, &expected.1), "keys, {name}");
            // Which swap of a shared key comes first may differ.
            let shared = found.0 == SHARED && found.2.version.seq == expected.2.version.seq;
            assert!(shared || found.2 == expected.2, "{found:?}, not {expected:?}, {name}");
        }
        let stats = self.bucket.stats();
        assert_eq!(stats.resizes_under_way, 0, "{name}");
        assert!(stats.buckets_moved_max <= 64, "{stats:?}, {name}");
    }
}

impl Worker<'_> {
    fn step(&mut self, phase: Phase, step: usize) {
        let n = self.random.below(self.round.keys);
        // The rest of the 16 are look-ups.
        match (phase, self.random.below(16)) {
            (_, 0) => self.shared(),
            (Phase::Grow, 1..=11) | (Phase::Churn, 1..=6) => self.install(n),
            (Phase::Churn, 7..=9) => self.remove(n),
            (Phase::Churn, 10..=12) | (Phase::Swap, 1..=13) => self.swap(n),
            (Phase::Delete, 1..=13) => self.remove(step % self.round.keys),
            (_, 14) => self.get_batch(),
            _ => self.get(n),
        }
        if self.random.below(20_000) == 0 {
            self.export();
        }
    }

    fn install(&mut self, n: usize) {
        let round = self.round;
        let newest = round.seqs.fetch_add(1, Ordering::Relaxed);
        // Now and then an old version, or one of the same number.
        let seq = match (self.random.below(8), self.mine[n]) {
            (0, _) => newest / 2,
            (1, Some(old)) => old.version.seq,
            _ => newest,
        };
        let (slot, tombstone) = (self.random.below(8), self.random.below(4) == 0);
        let entry = round.records.append(slot, self.keyspace, &key(n), seq, tombstone);
        let expected = match self.mine[n] {
            None => Outcome::Inserted,
            Some(old) if entry.supersedes(&old) => Outcome::Replaced(old),
            Some(old) => Outcome::Stale(old),
        };
        for index in [&round.bucket as &dyn PointIndex, &round.btree] {
            let outcome = round.install(index, self.keyspace, n, entry);
            assert_eq!(outcome, expected, "install of {n} in {}, {}", self.keyspace, round.name);
        }
        if !matches!(expected, Outcome::Stale(_)) {
            self.mine[n] = Some(entry);
        }
    }

    fn remove(&mut self, n: usize) {
        let round = self.round;
        let Some(old) = self.mine[n].take() else { return };
        let hash = round.records.hash(self.keyspace, &key(n));
        for index in [&round.bucket as &dyn PointIndex, &round.btree] {
            assert!(index.remove(hash, old.address), "removal of {n}, {}", round.name);
        }
        assert!(!round.bucket.remove(hash, old.address), "second removal of {n}, {}", round.name);
    }

    fn swap(&mut self, n: usize) {
        let round = self.round;
        let Some(old) = self.mine[n] else { return };
        let (slot, version) = (self.random.below(8), old.version);
        let key = key(n);
        let (seq, dead) = (version.seq, version.tombstone);
        let new = round.records.append(slot, self.keyspace, &key, seq, dead);
        let hash = round.records.hash(self.keyspace, &key);
        for index in [&round.bucket as &dyn PointIndex, &round.btree] {
            assert!(index.swap(hash, old.address, new.address), "swap of {n}, {}", round.name);
        }
        self.mine[n] = Some(new);
    }

    fn get(&mut self, n: usize) {
        let found = self.round.get(&self.round.bucket, self.keyspace, n);
        assert_eq!(found, self.mine[n], "look-up of {n} in {}, {}", self.keyspace, self.round.name);
    }

    fn get_batch(&mut self) {
        let round = self.round;
        let ns: Vec<usize> = (0..24).map(|_| self.random.below(round.keys)).collect();
        let hash = |&n: &usize| round.records.hash(self.keyspace, &key(n));
        let hashes: Vec<u64> = ns.iter().map(hash).collect();
        let mut found = Vec::new();
        let mut verify = |n: usize, at| round.records.probe(at, self.keyspace, &key(ns[n]));
        round.bucket.get_batch(&hashes, &mut verify, &mut found);
        let expected: Vec<_> =
            ns.iter().map(|&n| self.mine[n].map(|entry| entry.address)).collect();
        assert_eq!(found, expected, "batch of {ns:?}, {}", round.name);
    }

    /// Every thread at once: the newest version must win in both kinds.
    fn shared(&mut self) {
        let (round, n) = (self.round, self.random.below(SHARED_KEYS));
        let indexes = [&round.bucket as &dyn PointIndex, &round.btree];
        if self.random.below(3) == 0 {
            for index in indexes {
                let Some(old) = round.get(index, SHARED, n) else { continue };
                let (slot, Entry { version, .. }) = (self.random.below(8), old);
                let (key, seq) = (key(n), version.seq);
                let new = round.records.append(slot, SHARED, &key, seq, version.tombstone);
                index.swap(round.records.hash(SHARED, &key), old.address, new.address);
            }
            return;
        }
        let before = round.get(&round.bucket, SHARED, n).map(|entry| entry.version.seq);
        let seq = round.seqs.fetch_add(1, Ordering::Relaxed);
        let entry = round.records.append(n, SHARED, &key(n), seq, seq.is_multiple_of(5));
        for index in indexes {
            let _ = round.install(index, SHARED, n, entry);
        }
        let after = round.get(&round.bucket, SHARED, n).map(|entry| entry.version.seq);
        assert!(after >= Some(seq) && after >= before, "key {n} went back, {}", round.name);
    }

    /// What this thread does not change meanwhile is exported, whatever the others do.
    fn export(&mut self) {
        let mut exported = BTreeSet::<Address>::new();
        let _ = self.round.bucket.for_each(&mut |address| {
            exported.insert(address);
            ControlFlow::Continue(())
        });
        for entry in self.mine.iter().flatten() {
            assert!(exported.contains(&entry.address), "{entry:?} is missing, {}", self.round.name);
        }
    }
}

/// One round; answers how many resizes there were.
fn run(round: &Round, operations: u64, seed: u64) -> u64 {
    let barrier = &Barrier::new(THREADS);
    let steps = (operations as usize / THREADS / PHASES.len()).max(1);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let random = Random(seed ^ (thread as u64 + 1) << 48);
                let mine = vec![None; round.keys];
                let mut worker = Worker { round, keyspace: thread as u32, mine, random };
                for phase in PHASES {
                    (0..steps).for_each(|step| worker.step(phase, step));
                    if barrier.wait().is_leader() {
                        round.compare();
                    }
                    barrier.wait();
                }
            });
        }
    });
    round.bucket.stats().resizes
}

#[test]
fn the_bucket_kind_agrees_with_the_btree_kind_under_stress() {
    let operations = number("CORTEN_OPERATIONS").unwrap_or(OPERATIONS);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = number("CORTEN_SEED").unwrap_or_else(|| now().as_micros() as u64 % 1_000_000_007);
    println!("stress: {operations} operations; repeat with CORTEN_SEED={seed}");
    let (started, mut left, mut resizes) = (Instant::now(), operations, BTreeMap::new());
    for (number, (shards, hashing, keys, most)) in ROUNDS.into_iter().cycle().enumerate() {
        if left == 0 {
            break;
        }
        // A small budget is spread over all rounds.
        let share = most.min(left).min(operations.div_ceil(ROUNDS.len() as u64).max(10_000));
        let options = BucketOptions::default().shards(shards);
        let round = Round {
            bucket: BucketPoint::with_options(options).expect("legal"),
            btree: BTreePoint::new(),
            records: Records::new(hashing),
            seqs: AtomicU64::new(2),
            keys,
            name: format!("round {number} of {shards} shards, {hashing:?}, seed {seed}"),
        };
        *resizes.entry(shards).or_insert(0) += run(&round, share, seed.wrapping_add(number as u64));
        left -= share;
    }
    let seconds = started.elapsed().as_secs_f64();
    let rate = operations as f64 / seconds;
    println!(
        "stress: {operations} operations in {seconds:.1} s ({rate:.0}/s), {resizes:?} resizes"
    );
    assert!(resizes.get(&1).is_some_and(|&resizes| resizes > 20), "the rounds resize too little");
}
