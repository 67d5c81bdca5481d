//! The `runs` kind against the model-test kit, and the trap of its design: a put on a tombstone that meets a merge
//! (rows U1, M1).

use std::sync::atomic::{AtomicBool, Ordering as AtomicOrdering};
use std::sync::mpsc::sync_channel;

use super::super::batch::KeyBatch;
use super::super::owner::KeyState;
use super::*;
use crate::pin;
use crate::testkit::{check_ordered_index, ordered_contention};

/// So small that everything happens all the time.
pub(super) fn tiny() -> RunsOptions {
    RunsOptions {
        delta_keys_min: 6,
        delta_keys_max: 12,
        delta_dead_min: 4,
        partitions_start: 4,
        partition_keys_max: 3,
        partitions_max: 6,
        spread_inserts: 8,
        runs_max: 2,
        ram_run_keys_max: 10,
        piece_keys_max: 20,
        chunk_keys: 5,
        ..RunsOptions::default()
    }
}

#[test]
fn model_runs_agree_with_the_model() {
    check_ordered_index(&|| Box::<RunsOrdered>::default());
}

#[test]
fn model_tiny_runs_agree_with_the_model() {
    check_ordered_index(&|| Box::new(RunsOrdered::new(tiny())));
}

/// The kind with one step left out: merges that do not wait for writers.
struct WithoutGrace(RunsOrdered);

impl OrderedIndex for WithoutGrace {
    fn insert(&self, keyspace: u32, key: &[u8]) {
        self.0.insert(keyspace, key);
    }

    fn cursor(&self, keyspace: u32, range: KeyRange, direction: Direction) -> Box<dyn KeyCursor> {
        self.0.cursor(keyspace, range, direction)
    }

    fn remove_keyspace(&self, keyspace: u32) {
        self.0.remove_keyspace(keyspace);
    }

    fn len(&self, keyspace: u32) -> usize {
        self.0.len(keyspace)
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    fn maintain(&self, owner: &dyn KeyOwner) -> Result<bool> {
        self.0.maintain_when(owner, &|_| true)
    }

    fn stats(&self) -> OrderStats {
        self.0.stats()
    }
}

#[test]
fn canary_the_race_finds_a_merge_without_grace() {
    let make = || -> Box<dyn OrderedIndex> { Box::new(WithoutGrace(RunsOrdered::new(tiny()))) };
    let race = |seed| std::panic::catch_unwind(|| ordered_contention(&make, seed)).is_err();
    assert!((1..=50).any(race), "the race never lost a key");
}

/// One key that is live or not, beside others that are always live.
#[derive(Default)]
struct OneKey(AtomicBool);

const KEY: &[u8] = b"m";

impl KeyOwner for OneKey {
    fn states(&self, _keyspace: u32, keys: &KeyBatch, states: &mut Vec<KeyState>) -> Result<()> {
        let state = |key: &[u8]| match key == KEY && !self.0.load(AtomicOrdering::SeqCst) {
            true => KeyState::Dead,
            false => KeyState::Live(None),
        };
        states.clear();
        states.extend(keys.iter().map(state));
        Ok(())
    }
}

fn walk(index: &dyn OrderedIndex) -> Vec<Vec<u8>> {
    let (mut cursor, mut batch) =
        (index.cursor(0, KeyRange::all(), Direction::Forward), KeyBatch::new());
    let mut found = Vec::new();
    while cursor.next_batch(3, &mut batch).expect("nothing is damaged") > 0 {
        found.extend(batch.iter().map(<[u8]>::to_vec));
    }
    found
}

/// Background work until nothing is left to do, and some more in case a pin of another test holds it up.
fn drive(index: &dyn OrderedIndex, owner: &dyn KeyOwner, waits_max: usize) {
    let mut waits = 0;
    while waits < waits_max {
        if !index.maintain(owner).expect("nothing is damaged") {
            waits += 1;
            if index.stats().sealed_keys == 0 && waits > 2 {
                return;
            }
            std::thread::yield_now();
        }
    }
}

/// Stops a writer between its insert and its compare-and-swap while background work does all it can; returns whether
/// the key is there when the writer is through.
fn a_put_on_a_tombstone_meets_a_merge(index: &dyn OrderedIndex) -> bool {
    let owner = OneKey::default();
    // Not for ever: one of the pins may be that of the writer.
    let drive = || drive(index, &owner, 2_000);
    // A run holds the key already, and a walk has found it to be dead there.
    owner.0.store(true, AtomicOrdering::SeqCst);
    for n in 0..20u8 {
        index.insert(0, &[n]);
    }
    index.insert(0, KEY);
    drive();
    owner.0.store(false, AtomicOrdering::SeqCst);
    let mut cursor = index.cursor(0, KeyRange::prefix(KEY), Direction::Forward);
    assert_eq!(cursor.next_batch(1, &mut KeyBatch::new()), Ok(1));
    cursor.note_dead(0);
    assert!(!walk(index).contains(&KEY.to_vec()), "it is passed over now");
    std::thread::scope(|scope| {
        let (inserted, wait_for_insert) = sync_channel(0);
        let (go_on, wait_to_go_on) = sync_channel::<()>(0);
        let owner = &owner;
        scope.spawn(move || {
            let _pin = pin();
            index.insert(0, KEY);
            inserted.send(()).expect("the test waits");
            wait_to_go_on.recv().expect("the test lets it go on");
            owner.0.store(true, AtomicOrdering::SeqCst);
        });
        wait_for_insert.recv().expect("inserted");
        for n in 20..40u8 {
            index.insert(0, &[n]);
        }
        drive();
        go_on.send(()).expect("the writer waits");
    });
    drive();
    walk(index).contains(&KEY.to_vec())
}

#[test]
fn a_key_survives_a_merge_that_meets_a_put_on_its_tombstone() {
    let index = RunsOrdered::new(tiny());
    assert!(a_put_on_a_tombstone_meets_a_merge(&index));
    assert!(index.stats().merged_keys > 0);
}

#[test]
fn canary_a_merge_without_grace_loses_a_put_on_a_tombstone() {
    let index = WithoutGrace(RunsOrdered::new(tiny()));
    assert!(!a_put_on_a_tombstone_meets_a_merge(&index));
}

#[test]
fn a_flood_of_keys_in_order_and_at_random_ends_in_few_runs() {
    let options = RunsOptions {
        delta_keys_min: 100,
        delta_keys_max: 1_000,
        partition_keys_max: 50,
        piece_keys_max: 700,
        ..RunsOptions::default()
    };
    let index = RunsOrdered::new(options);
    let owner = OneKey::default();
    for n in 0..20_000u32 {
        let key = if n % 2 == 0 { n } else { n.wrapping_mul(0x9E37_79B1) };
        index.insert(0, &key.to_be_bytes());
        if n % 10 == 0 {
            index.maintain(&owner).expect("nothing is damaged");
        }
    }
    drive(&index, &owner, usize::MAX);
    let stats = index.stats();
    assert!(stats.runs <= 4 && stats.delta_keys <= 1_000 && stats.sealed_keys == 0, "{stats:?}");
    assert!((2..=100).contains(&stats.partitions), "{stats:?}");
    let mut expected: Vec<_> = (0..20_000u32)
        .map(|n| if n % 2 == 0 { n } else { n.wrapping_mul(0x9E37_79B1) }.to_be_bytes().to_vec())
        .collect();
    expected.sort();
    expected.dedup();
    assert_eq!(walk(&index), expected);
}

#[test]
fn a_long_merge_of_runs_keeps_neither_flushes_nor_scans_waiting() {
    let options = RunsOptions {
        delta_keys_min: 200,
        delta_keys_max: 200,
        partition_keys_max: 100,
        runs_max: 1,
        chunk_keys: 16,
        ..RunsOptions::default()
    };
    let (index, owner) = (RunsOrdered::new(options), OneKey::default());
    let key = |n: u32| n.wrapping_mul(0x9E37_79B1).to_be_bytes().to_vec();
    let mut old: Vec<_> = (0..20_000).map(key).collect();
    old.sort();
    index.rebuild(0, &mut old.iter().map(|key| (key.clone(), None))).expect("in order");
    let (mut runs_most, mut delta_most) = (0, 0);
    for n in 20_000..30_000 {
        index.insert(0, &key(n));
        // Nobody is about to change a key here, and the pins of other tests are not to count.
        index.maintain_when(&owner, &|_| true).expect("intact");
        let stats = index.stats();
        (runs_most, delta_most) = (runs_most.max(stats.runs), delta_most.max(stats.delta_keys));
    }
    // The merge of all takes 1,250 units of 16 keys; as many keys, six deltas and more, come meanwhile.
    assert!((3..=6).contains(&runs_most), "{runs_most} runs");
    assert!(delta_most < 300, "{delta_most} keys");
    assert_eq!(walk(&index).len(), 30_000);
}
