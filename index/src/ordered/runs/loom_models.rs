//! Merges against writers and cursors, with the real types (rows U1, S7).

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::super::batch::KeyBatch;
use super::super::owner::KeyState;
use super::sources::Sources;
use super::state::OrderState;
use super::*;
use crate::loom_models::canary;
use crate::pin;

/// Sealed as soon as there is a key, and cut as soon as there are two.
fn smallest() -> RunsOptions {
    RunsOptions {
        delta_keys_min: 0,
        delta_keys_max: 0,
        partition_keys_max: usize::MAX,
        spread_inserts: usize::MAX,
        runs_max: 1,
        ..RunsOptions::default()
    }
}

/// The keys `a` and `b`, live or not.
#[derive(Default)]
struct Owner {
    live: [AtomicBool; 2],
}

const KEYS: [&[u8]; 2] = [b"a", b"b"];

impl KeyOwner for Owner {
    fn states(&self, _keyspace: u32, keys: &KeyBatch, states: &mut Vec<KeyState>) -> Result<()> {
        let state = |key: &[u8]| {
            let n = usize::from(key == KEYS[1]);
            // ORDERING: pairs with the release in `put`.
            if self.live[n].load(Ordering::Acquire) { KeyState::Live(None) } else { KeyState::Dead }
        };
        states.clear();
        states.extend(keys.iter().map(state));
        Ok(())
    }
}

struct Model {
    index: RunsOrdered,
    owner: Owner,
    with_grace: bool,
}

impl Model {
    fn new(options: RunsOptions, with_grace: bool) -> Arc<Model> {
        Arc::new(Model { index: RunsOrdered::new(options), owner: Owner::default(), with_grace })
    }

    /// The protocol of a writer; the flag stands for the entry of the point index.
    fn put(&self, n: usize) {
        let _pin = pin();
        self.index.insert(0, KEYS[n]);
        // ORDERING: pairs with the acquire in `states`.
        self.owner.live[n].store(true, Ordering::Release);
    }

    fn maintain(&self, units: usize) {
        for _ in 0..units {
            let with_grace = self.with_grace;
            self.index
                .maintain_when(&self.owner, &|grace| !with_grace || grace.is_over())
                .expect("nothing is damaged");
        }
    }

    fn walk(&self, direction: Direction) -> Vec<Vec<u8>> {
        let mut cursor = self.index.cursor(0, KeyRange::all(), direction);
        let (mut batch, mut found) = (KeyBatch::new(), Vec::new());
        while cursor.next_batch(1, &mut batch).expect("nothing is damaged") > 0 {
            found.push(batch.get(0).expect("one key").to_vec());
        }
        found
    }
}

/// A put on a tombstone beside a whole flush.
fn put_beside_a_merge(with_grace: bool) {
    let model = Model::new(smallest(), with_grace);
    // The keyspace is there.
    model.put(1);
    let writer = Arc::clone(&model);
    let writer = thread::spawn(move || writer.put(0));
    model.maintain(4);
    writer.join().unwrap();
    model.maintain(8);
    assert_eq!(model.walk(Direction::Forward), KEYS, "a key was lost");
}

#[test]
fn a_put_on_a_tombstone_is_not_lost_to_a_merge() {
    loom::model(|| put_beside_a_merge(true));
}

#[test]
fn canary_a_merge_without_grace_loses_a_put() {
    canary("a key was lost", || put_beside_a_merge(false));
}

/// A walk over a key in a run and one that was just put, beside a flush and a merge of runs.
fn walk_beside_a_merge(walk: fn(&Model) -> Vec<Vec<u8>>) {
    let model = Model::new(smallest(), true);
    model.put(0);
    model.maintain(5);
    let worker = Arc::clone(&model);
    model.put(1);
    let worker = thread::spawn(move || worker.maintain(7));
    assert_eq!(walk(&model), KEYS, "a key was passed over");
    worker.join().unwrap();
}

#[test]
fn a_cursor_misses_nothing_beside_a_merge() {
    loom::model(|| walk_beside_a_merge(|model| model.walk(Direction::Forward)));
}

/// What a walk shows that takes the runs of one state and the deltas of a later one.
fn walk_two_states(model: &Model) -> Vec<Vec<u8>> {
    let keyspace = model.index.find(0).expect("it is there");
    let levels = keyspace.state.get().levels.clone();
    let state = OrderState { levels, ..(*keyspace.state.get()).clone() };
    let mut sources = Sources::open(&state, KeyRange::all(), Direction::Forward).expect("intact");
    let mut batch = KeyBatch::new();
    sources.fill(usize::MAX, &mut batch, |_| {}).expect("intact");
    batch.iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn canary_a_cursor_of_two_states_misses_a_key() {
    canary("a key was passed over", || walk_beside_a_merge(walk_two_states));
}

#[test]
fn a_put_is_not_lost_to_a_split() {
    loom::model(|| {
        let options = RunsOptions {
            delta_keys_min: usize::MAX,
            delta_keys_max: usize::MAX,
            partition_keys_max: 1,
            partitions_start: 2,
            ..smallest()
        };
        let model = Model::new(options, true);
        model.index.insert(0, b"c");
        model.put(1);
        let writer = Arc::clone(&model);
        let writer = thread::spawn(move || {
            writer.put(0);
            assert_eq!(writer.walk(Direction::Reverse).len(), 3, "a put was passed over");
        });
        model.maintain(1);
        writer.join().unwrap();
        assert_eq!(model.index.stats().partitions, 2);
        assert_eq!(model.walk(Direction::Forward).len(), 3, "a key was lost");
    });
}

/// Two partitions with a key in each.
fn two_partitions() -> Arc<Model> {
    let options = RunsOptions {
        delta_keys_min: usize::MAX,
        delta_keys_max: usize::MAX,
        partition_keys_max: 1,
        partitions_start: 2,
        ..smallest()
    };
    let model = Model::new(options, true);
    model.index.insert(0, b"0");
    model.index.insert(0, b"c");
    model.maintain(1);
    assert_eq!(model.index.stats().partitions, 2);
    model
}

#[test]
fn a_put_is_not_lost_to_a_join() {
    loom::model(|| {
        let model = two_partitions();
        let writer = Arc::clone(&model);
        let writer = thread::spawn(move || {
            writer.put(0);
            writer.put(1);
            assert_eq!(writer.walk(Direction::Reverse).len(), 4, "a put was passed over");
        });
        let keyspace = model.index.find(0).expect("it is there");
        let state = keyspace.state.get();
        state.delta.join(0, |delta| {
            let delta = std::sync::Arc::new(delta);
            keyspace.state.set(OrderState { delta, ..(*state).clone() });
        });
        writer.join().unwrap();
        assert_eq!(model.index.stats().partitions, 1);
        assert_eq!(model.walk(Direction::Forward).len(), 4, "a key was lost");
    });
}

/// A key that is live in any case needs no pin, only a partition that is not merged already.
#[test]
fn an_insert_without_a_pin_is_not_lost_to_a_merge() {
    loom::model(|| {
        let model = Model::new(smallest(), true);
        model.put(1);
        model.owner.live[0].store(true, Ordering::Release);
        let writer = Arc::clone(&model);
        let writer = thread::spawn(move || writer.index.insert(0, KEYS[0]));
        model.maintain(4);
        writer.join().unwrap();
        model.maintain(8);
        assert_eq!(model.walk(Direction::Forward), KEYS, "a key was lost");
    });
}
