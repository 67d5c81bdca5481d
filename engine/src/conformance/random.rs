//! The random case of the suite: operations drawn from a seed, against a sorted map.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{commit, delete, keyspace, put, scan, value};
use crate::storage_engine::{KeyspaceId, Operation, ScanRange, StorageEngine};

/// A small generator, so that a seed replays a run without a dependency.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        // splitmix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (word ^ (word >> 31)) % bound
    }
}

/// The seed of the random case; `CORTENKV_SEED` replays another.
fn seed() -> u64 {
    std::env::var("CORTENKV_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

pub(super) fn random_operations_agree(engine: &dyn StorageEngine) {
    let seed = seed();
    println!("seed {seed}; replay with CORTENKV_SEED={seed}");
    let mut random = Random(seed);
    let spaces = ["default", "one", "two"].map(|name| keyspace(engine, name));
    let mut model: BTreeMap<(KeyspaceId, Bytes), Bytes> = BTreeMap::new();
    for step in 0..400 {
        let operations: Vec<Operation> = (0..=random.below(4))
            .map(|_| {
                let space = spaces[random.below(3) as usize];
                let key = random.below(40).to_string();
                match random.below(3) {
                    0 => delete(space, key.as_bytes()),
                    _ => put(space, key.as_bytes(), &vec![b'v'; random.below(200) as usize]),
                }
            })
            .collect();
        for operation in operations.clone() {
            match operation {
                Operation::Put { keyspace, key, value, .. } => {
                    model.insert((keyspace, key), value);
                }
                Operation::Delete { keyspace, key } => {
                    model.remove(&(keyspace, key));
                }
            }
        }
        commit(engine, operations);
        let (space, key) =
            (spaces[random.below(3) as usize], Bytes::from(random.below(40).to_string()));
        let expected = model.get(&(space, key.clone())).cloned();
        assert_eq!(value(engine, space, &key), expected, "seed {seed} step {step}");
        if engine.capabilities().ordered && step % 20 == 0 {
            let found = scan(engine, space, ScanRange::all(), 500);
            let expected: Vec<(Bytes, Bytes)> = model
                .iter()
                .filter(|((keyspace, _), _)| *keyspace == space)
                .map(|((_, key), value)| (key.clone(), value.clone()))
                .collect();
            assert_eq!(found, expected, "seed {seed} step {step}");
        }
    }
}
