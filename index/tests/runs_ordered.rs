//! The `runs` ordered index beyond the model-test kit: walks beside writers, skipped keys, hints, damage, failing
//! stores and owners (rows S7, U1).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use cortenkv_index::{
    Address, BTreeOrdered, Direction, Error, ErrorKind, Grace, Hint, KeyBatch, KeyCursor, KeyOwner,
    KeyRange, KeyState, OrderedIndex, Result, RunBytes, RunStore, RunsOptions, RunsOrdered, pin,
};

fn options(change: impl FnOnce(&mut RunsOptions)) -> RunsOptions {
    let mut options = RunsOptions::default();
    change(&mut options);
    options
}

/// Seals, splits and merges happen all the time.
fn tiny() -> RunsOptions {
    options(|options| {
        options.delta_keys_min = 40;
        options.delta_keys_max = 80;
        options.partitions_start = 4;
        options.partition_keys_max = 12;
        options.spread_inserts = 50;
        options.runs_max = 3;
        options.piece_keys_max = 100;
        options.chunk_keys = 16;
    })
}

/// The live keys, each with the hint that the owner gives for it.
#[derive(Default)]
struct Owner {
    live: Mutex<BTreeMap<Vec<u8>, Option<Hint>>>,
    fails: AtomicBool,
}

impl Owner {
    fn put(&self, index: &dyn OrderedIndex, key: &[u8]) {
        let _pin = pin();
        index.insert(0, key);
        self.live.lock().unwrap().insert(key.to_vec(), None);
    }

    fn delete(&self, key: &[u8]) {
        self.live.lock().unwrap().remove(key);
    }
}

impl KeyOwner for Owner {
    fn states(&self, _keyspace: u32, keys: &KeyBatch, states: &mut Vec<KeyState>) -> Result<()> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Io, "the records cannot be read"));
        }
        let live = self.live.lock().unwrap();
        states.clear();
        states.extend(
            keys.iter().map(|key| live.get(key).map_or(KeyState::Dead, |&h| KeyState::Live(h))),
        );
        Ok(())
    }
}

/// Background work until everything is merged; pins of other tests may hold it up.
fn settle(index: &RunsOrdered, owner: &dyn KeyOwner) -> Result<()> {
    loop {
        if !index.maintain(owner)? {
            if index.stats().sealed_keys == 0 {
                return Ok(());
            }
            thread::yield_now();
        }
    }
}

fn walk(mut cursor: Box<dyn KeyCursor>) -> Result<Vec<Vec<u8>>> {
    let (mut batch, mut found) = (KeyBatch::new(), Vec::new());
    while cursor.next_batch(7, &mut batch)? > 0 {
        found.extend(batch.iter().map(<[u8]>::to_vec));
    }
    Ok(found)
}

fn all(index: &dyn OrderedIndex) -> Result<Vec<Vec<u8>>> {
    walk(index.cursor(0, KeyRange::all(), Direction::Forward))
}

#[test]
fn handles_are_send_sync_and_static() {
    fn shared<T: Send + Sync + 'static>() {}
    fn movable<T: Send + 'static + ?Sized>() {}
    shared::<RunsOrdered>();
    shared::<BTreeOrdered>();
    shared::<RunsOptions>();
    shared::<KeyBatch>();
    shared::<Grace>();
    movable::<dyn KeyCursor>();
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    /// Keys at both ends of the order; the last byte says whose they are.
    fn key(&mut self, last: u8) -> Vec<u8> {
        const ALPHABET: [u8; 4] = [0x00, b'a', 0xFE, 0xFF];
        let mut key: Vec<u8> = (0..self.below(5)).map(|_| ALPHABET[self.below(4)]).collect();
        key.push(last);
        // The empty key is the checker's.
        if last == MINE && self.below(8) == 0 { Vec::new() } else { key }
    }

    fn range(&mut self) -> KeyRange {
        let mut bound = || {
            let key = self.key(MINE);
            match self.below(5) {
                0 => Bound::Unbounded,
                1 | 2 => Bound::Included(key),
                _ => Bound::Excluded(key),
            }
        };
        let bounds = (bound(), bound());
        match self.below(4) {
            0 => KeyRange::prefix(&[0xFF]),
            1 => KeyRange::prefix(&self.key(0xFF)[..1]),
            _ => KeyRange::new::<Vec<u8>>(bounds),
        }
    }
}

const MINE: u8 = 1;

fn is_mine(key: &[u8]) -> bool {
    key.is_empty() || key.last() == Some(&MINE)
}

#[test]
fn two_thousand_walks_agree_with_a_sorted_set_beside_writers_and_merges() {
    let seed = std::env::var("CORTENKV_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    println!("run again with CORTENKV_SEED={seed}");
    let (index, owner, running) =
        (RunsOrdered::new(tiny()), Owner::default(), AtomicBool::new(true));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut random = Random(seed ^ 0xABCD);
            while running.load(Ordering::Relaxed) {
                let key = random.key(2);
                if random.below(3) > 0 {
                    owner.put(&index, &key)
                } else {
                    owner.delete(&key)
                }
                thread::yield_now();
            }
        });
        scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                if !index.maintain(&owner).expect("nothing is damaged") {
                    thread::yield_now();
                }
            }
        });
        let check = || {
            let (mut random, mut model) = (Random(seed), BTreeSet::new());
            for case in 0..2_000 {
                for _ in 0..random.below(12) {
                    let key = random.key(MINE);
                    if random.below(3) > 0 {
                        owner.put(&index, &key);
                        model.insert(key);
                    } else {
                        owner.delete(&key);
                        model.remove(&key);
                    }
                }
                let (range, reverse) = (random.range(), random.below(2) == 1);
                let direction = if reverse { Direction::Reverse } else { Direction::Forward };
                let mut found = walk(index.cursor(0, range.clone(), direction)).expect("intact");
                if reverse {
                    found.reverse();
                }
                assert!(found.is_sorted_by(|a, b| a < b), "case {case}, seed {seed}");
                assert!(found.iter().all(|key| range.contains(key)), "case {case}, seed {seed}");
                found.retain(|key| is_mine(key) && model.contains(key));
                let expected: Vec<_> =
                    model.iter().filter(|key| range.contains(key)).cloned().collect();
                assert_eq!(found, expected, "{range:?} {direction:?} case {case}, seed {seed}");
            }
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        running.store(false, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(index.stats().merged_keys > 1_000, "{:?}", index.stats());
}

#[test]
fn a_cursor_outlives_its_index_and_moves_to_another_thread() {
    let (index, owner) = (RunsOrdered::new(tiny()), Owner::default());
    (0..=255u8).for_each(|n| owner.put(&index, &[n]));
    settle(&index, &owner).unwrap();
    (0..=255u8).for_each(|n| owner.put(&index, &[n, n]));
    let cursor = index.cursor(0, KeyRange::new([100]..), Direction::Reverse);
    index.remove_keyspace(0);
    assert!(all(&index).unwrap().is_empty());
    drop(index);
    let walk = move || walk(cursor).unwrap();
    let found = thread::scope(|scope| scope.spawn(walk).join().expect("no panic"));
    assert_eq!(found.len(), 2 * 156);
    assert_eq!((&found[0][..], &found[311][..]), (&[255, 255][..], &[100][..]));
}

/// Keeps runs in memory, counts how often somebody reads them, and can damage or refuse what it is given.
#[derive(Default)]
struct TestStore {
    reads: Arc<AtomicUsize>,
    damages: AtomicBool,
    refuses: AtomicBool,
}

struct TestBytes(Vec<u8>, Arc<AtomicUsize>);

impl RunBytes for TestBytes {
    fn bytes(&self) -> &[u8] {
        self.1.fetch_add(1, Ordering::Relaxed);
        &self.0
    }

    fn is_mapped(&self) -> bool {
        true
    }
}

impl RunStore for TestStore {
    fn store(&self, mut bytes: Vec<u8>) -> Result<Arc<dyn RunBytes>> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Io, "no space"));
        }
        if self.damages.load(Ordering::Relaxed) {
            bytes[100] ^= 1; // in the first block
        }
        Ok(Arc::new(TestBytes(bytes, Arc::clone(&self.reads))))
    }
}

/// An index whose runs are all in the store.
fn stored(store: &Arc<TestStore>) -> RunsOrdered {
    let store = Arc::<TestStore>::clone(store);
    RunsOrdered::new(options(|options| {
        options.store = store;
        options.ram_run_keys_max = 0;
        options.delta_keys_min = 200;
        options.delta_keys_max = 200;
    }))
}

#[test]
fn a_second_walk_past_dead_heads_touches_only_blocks_with_live_keys() {
    const DEAD: u32 = 100_000;
    let store = Arc::<TestStore>::default();
    let index = stored(&store);
    let mut keys = (0..DEAD + 100).map(|n| (n.to_be_bytes().to_vec(), None));
    index.rebuild(0, &mut keys).unwrap();
    let reads = |direction| {
        let before = store.reads.load(Ordering::Relaxed);
        let mut cursor = index.cursor(0, KeyRange::all(), direction);
        let (mut batch, mut live) = (KeyBatch::new(), 0);
        while cursor.next_batch(64, &mut batch).unwrap() > 0 {
            for (n, key) in batch.iter().enumerate() {
                if key < &DEAD.to_be_bytes()[..] {
                    cursor.note_dead(n);
                } else {
                    live += 1;
                }
            }
        }
        assert_eq!(live, 100);
        store.reads.load(Ordering::Relaxed) - before
    };
    let first = reads(Direction::Forward);
    assert!(first > DEAD as usize / 16, "{first} reads");
    // At most three reads for a block, of which 8 have live keys, and one for the hint of a key.
    for direction in [Direction::Forward, Direction::Reverse] {
        let second = reads(direction);
        assert!(second <= 8 * 3 + 100, "{second} reads {direction:?}");
    }
    let stats = index.stats();
    assert_eq!((stats.skipped_keys, stats.run_keys), (DEAD as usize, DEAD as usize + 100));
    assert_eq!(index.len(0), 100);
    // And the run is rewritten without them.
    let owner = Owner::default();
    owner.live.lock().unwrap().extend((DEAD..DEAD + 100).map(|n| (n.to_be_bytes().to_vec(), None)));
    settle(&index, &owner).unwrap();
    let stats = index.stats();
    assert_eq!((stats.skipped_keys, stats.run_keys), (0, 100));
}

#[test]
fn a_key_that_was_found_dead_and_is_put_again_comes_again() {
    let (index, owner) = (RunsOrdered::new(tiny()), Owner::default());
    (0..100u8).for_each(|n| owner.put(&index, &[n]));
    settle(&index, &owner).unwrap();
    owner.delete(&[50]);
    let mut cursor = index.cursor(0, KeyRange::all(), Direction::Forward);
    let mut batch = KeyBatch::new();
    assert_eq!(cursor.next_batch(100, &mut batch), Ok(100));
    owner.put(&index, &[50]);
    cursor.note_dead(50); // late, of what was true before the put
    assert_eq!(all(&index).unwrap().len(), 100);
    (100..200u8).for_each(|n| owner.put(&index, &[n]));
    settle(&index, &owner).unwrap();
    assert_eq!(all(&index).unwrap().len(), 200);
}

#[test]
fn the_newest_hint_counts_and_a_key_without_one_has_none() {
    let index = RunsOrdered::new(options(|options| {
        options.delta_keys_min = 10;
        options.delta_keys_max = 10;
    }));
    let owner = Owner::default();
    let hint = |segment| Some(Hint { segment, address: Address::new(3, 64).unwrap() });
    let hints = |index: &RunsOrdered| -> Vec<Option<u64>> {
        let mut batch = KeyBatch::new();
        index.cursor(0, KeyRange::all(), Direction::Forward).next_batch(99, &mut batch).unwrap();
        (0..batch.len()).map(|n| batch.hint(n).map(|hint| hint.segment)).collect()
    };
    for (segment, expected) in [(7, Some(7)), (8, Some(8))] {
        for n in 0..20u8 {
            owner.put(&index, &[n]);
            owner.live.lock().unwrap().insert(vec![n], hint(segment).filter(|_| n != 4));
        }
        if segment == 7 {
            assert_eq!(hints(&index), [None; 20], "a delta has none");
        }
        settle(&index, &owner).unwrap();
        let found = hints(&index);
        assert!(index.stats().delta_keys == 0, "{:?}", index.stats());
        let right = |(n, hint)| hint == if n == 4 { None } else { expected };
        assert!(found.into_iter().enumerate().all(right));
    }
    assert_eq!(index.stats().runs, 2, "both runs have the keys");
}

#[test]
fn damage_is_a_typed_error_of_walks_and_merges_and_a_rebuild_mends_it() {
    let store = Arc::<TestStore>::default();
    let (index, owner) = (stored(&store), Owner::default());
    let key = |n: u32| n.to_be_bytes().to_vec();
    store.damages.store(true, Ordering::Relaxed);
    (0..300).for_each(|n| owner.put(&index, &key(n)));
    settle(&index, &owner).unwrap();
    assert_eq!(all(&index).unwrap_err().kind(), ErrorKind::Corruption);
    let mut cursor = index.cursor(0, KeyRange::all(), Direction::Reverse);
    let mut batch = KeyBatch::new();
    let error = loop {
        if let Err(error) = cursor.next_batch(50, &mut batch) {
            break error;
        }
    };
    assert!(batch.is_empty());
    assert_eq!(
        cursor.next_batch(50, &mut batch),
        Err(error),
        "a walk that failed does not end well"
    );
    assert_eq!(index.first(0).unwrap_err().kind(), ErrorKind::Corruption);
    // Enough runs for a merge, which meets the damage.
    let failed = (1..10).any(|round| {
        (0..300).for_each(|n| owner.put(&index, &key(round * 1_000 + n)));
        settle(&index, &owner).is_err_and(|error| error.kind() == ErrorKind::Corruption)
    });
    assert!(failed);
    (0..10).for_each(|n| owner.put(&index, &key(n)));
    store.damages.store(false, Ordering::Relaxed);
    let expected: Vec<_> = owner.live.lock().unwrap().keys().cloned().collect();
    index.rebuild(0, &mut expected.iter().map(|key| (key.clone(), None))).unwrap();
    assert_eq!(all(&index).unwrap(), expected);
    settle(&index, &owner).unwrap();
    assert_eq!(all(&index).unwrap(), expected);
}

#[test]
fn a_store_or_an_owner_that_fails_costs_nothing_but_time() {
    let store = Arc::<TestStore>::default();
    let (index, owner) = (stored(&store), Owner::default());
    let expected: Vec<_> = (0..1_000u32).map(|n| n.to_be_bytes().to_vec()).collect();
    for fails in [&store.refuses, &owner.fails] {
        fails.store(true, Ordering::Relaxed);
        expected.iter().for_each(|key| owner.put(&index, key));
        for _ in 0..3 {
            assert_eq!(settle(&index, &owner).unwrap_err().kind(), ErrorKind::Io);
            assert_eq!(all(&index).unwrap(), expected);
        }
        fails.store(false, Ordering::Relaxed);
        settle(&index, &owner).unwrap();
        assert_eq!(all(&index).unwrap(), expected);
    }
    let keys = &mut std::iter::once((b"other".to_vec(), None));
    store.refuses.store(true, Ordering::Relaxed);
    assert_eq!(index.rebuild(0, keys).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(all(&index).unwrap(), expected, "a rebuild that fails changes nothing");
    store.refuses.store(false, Ordering::Relaxed);
    for keys in [["b", "a"], ["a", "a"]] {
        let keys = &mut keys.iter().map(|key| (key.as_bytes().to_vec(), None));
        assert_eq!(index.rebuild(0, keys).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(all(&index).unwrap(), expected, "one without order neither");
}

#[test]
fn a_hot_range_is_split_until_inserts_spread_again() {
    let index = RunsOrdered::new(options(|options| options.spread_inserts = 2_000));
    let (owner, mut random) = (Owner::default(), Random(3));
    let mut insert = |index: &RunsOrdered, hot: bool| {
        let n = random.below(1 << 24) as u32;
        let key = if hot { 0x8000_0000 | n & 0xFFFF } else { n << 8 };
        index.insert(0, &key.to_be_bytes());
    };
    for n in 0..6_000 {
        insert(&index, false);
        if n % 100 == 0 {
            index.maintain(&owner).unwrap();
        }
    }
    assert!(index.stats().partitions >= 8 && index.stats().entropy > 0.85, "{:?}", index.stats());
    let mut lowest = 1.0f64;
    for n in 0..60_000 {
        insert(&index, true);
        if n % 100 == 0 {
            // Keys are all dead: only the spread is of interest.
            index.maintain(&owner).unwrap();
            lowest = lowest.min(index.stats().entropy);
        }
    }
    let stats = index.stats();
    assert!(lowest < 0.6, "all inserts went to one partition for a while: {lowest}");
    assert!(stats.entropy > lowest + 0.2, "{stats:?} after {lowest}");
}

#[test]
fn memory_is_a_few_bytes_a_key_and_mapped_runs_are_counted_apart() {
    let store = Arc::<TestStore>::default();
    let keys = |n: u32| (0..n).map(|n| (format!("user:{n:011}").into_bytes(), None));
    let index = stored(&store);
    index.rebuild(0, &mut keys(200_000)).unwrap();
    let stats = index.stats();
    assert!(stats.ram_bytes < 200_000, "{stats:?}");
    assert!(stats.mapped_bytes > 200_000 * 5, "{stats:?}");
    let delta = RunsOrdered::default();
    keys(10_000).for_each(|(key, _)| delta.insert(0, &key));
    let bytes = delta.memory_bytes();
    assert!((10_000 * 33..10_000 * 80).contains(&bytes), "{bytes} bytes");
    assert_eq!(delta.stats().mapped_bytes, 0);
}
