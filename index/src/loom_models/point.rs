//! The point index under loom: the real one, in which a bucket has 2 slots, a group 1 bucket and an overflow block 1
//! slot, so that two keys make it grow (rows L1 to L3 and L9 of the plan of checks).
//!
//! # Layout
//! `changes` has changes of one key beside each other, `resizes` changes and look-ups beside a resize. Here is the index
//! that they share: its records are nothing but their addresses.

mod changes;
mod resizes;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::process::Command;
use std::sync::Arc;

use crate::{
    Address, BucketOptions, BucketPoint, NewEntry, Outcome, PointIndex, Probe, Version, bugs,
};

/// A key; the slot of its addresses tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    id: u16,
    hash: u64,
}

/// Two keys of one hash, and two that go to other halves of the second table.
const A: Key = Key { id: 1, hash: 0x1000 << 48 };
const SAME_HASH: Key = Key { id: 2, hash: 0x1000 << 48 };
const B: Key = Key { id: 3, hash: 0x2000 << 48 };
const FAR: Key = Key { id: 4, hash: 0xF000 << 48 };
const MIDDLE: Key = Key { id: 5, hash: 0x9000 << 48 };

/// Version 2n and its copy, which is at another address.
fn place(key: Key, seq: u32, copy: bool) -> Address {
    Address::new(key.id, (2 * seq + u32::from(copy)) * 8).expect("legal")
}

fn seq_of(address: Address) -> u32 {
    address.offset_bytes() / 16
}

fn probe(address: Address, key: Key) -> Probe {
    match address.slot() == key.id {
        true => {
            Probe::Same(Version { seq: u64::from(seq_of(address)), tombstone: false, segment: 0 })
        }
        false => Probe::Other,
    }
}

#[derive(Clone)]
struct Index(Arc<BucketPoint>);

impl Index {
    /// One shard that holds these keys, each with version 1.
    fn with(keys: &[Key]) -> Index {
        let options = BucketOptions::default().shards(1);
        let index = Index(Arc::new(BucketPoint::with_options(options).expect("legal")));
        keys.iter().for_each(|&key| assert_eq!(index.put(key, 1), Outcome::Inserted));
        index
    }

    /// The same, with a resize that was begun.
    fn resizing(keys: &[Key]) -> Index {
        let index = Index::with(keys);
        assert_eq!(index.0.stats().resizes_under_way, 1, "the keys do not make it grow");
        index
    }

    fn put(&self, key: Key, seq: u32) -> Outcome {
        let address = place(key, seq, false);
        let version = Version { seq: u64::from(seq), tombstone: false, segment: 0 };
        let new = NewEntry { hash: key.hash, keyspace: 0, key: b"", address, version };
        let locate = |at, _: u32, _: &[u8]| probe(at, key);
        let mut announced = None;
        let outcome = self.0.install(&new, &locate, &mut |old| announced = Some(old));
        match outcome {
            Outcome::Inserted => assert_eq!(announced, Some(None)),
            Outcome::Replaced(old) => assert_eq!(announced, Some(Some(old))),
            Outcome::Stale(old) => assert!(old.version.seq >= version.seq),
            Outcome::Present => panic!("offered once"),
        }
        outcome
    }

    fn get(&self, key: Key) -> Option<u32> {
        self.0.find(key.hash, |at| probe(at, key)).map(seq_of)
    }

    fn remove(&self, key: Key, seq: u32) -> bool {
        self.0.remove(key.hash, place(key, seq, false))
    }

    /// Moves a version to its copy.
    fn swap(&self, key: Key, seq: u32) -> bool {
        self.0.swap(key.hash, place(key, seq, false), place(key, seq, true))
    }

    fn help(&self) -> bool {
        self.0.maintain()
    }

    fn exported(&self) -> Vec<Address> {
        let mut all = Vec::new();
        let _ = self.0.for_each(&mut |address| {
            all.push(address);
            ControlFlow::Continue(())
        });
        all
    }

    /// For the end of a model: these entries and no others.
    fn holds(&self, expected: &[(Key, u32)]) {
        for &(key, seq) in expected {
            assert_eq!(self.get(key), Some(seq), "{key:?} is not what it must be");
        }
        while self.help() {}
        let exported = self.exported();
        let keys: BTreeSet<u16> = exported.iter().map(|address| address.slot()).collect();
        assert_eq!(keys.len(), exported.len(), "a key has two entries: {exported:?}");
        let all: BTreeSet<u16> = expected.iter().map(|(key, _)| key.id).collect();
        assert_eq!((keys, self.0.len()), (all, expected.len()), "entries that must be there");
        for &(key, seq) in expected {
            assert_eq!(self.get(key), Some(seq), "{key:?} after the last resize");
        }
    }
}

/// Every interleaving, up to the bound that the environment sets.
pub(crate) fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.check(run);
}

/// One interruption less, for a model of three threads or of many steps.
fn large_model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = builder.preemption_bound.map(|bound| bound - 1);
    builder.check(run);
}

/// Runs a model with a bug planted in a process of its own (some bugs crash), and wants it to fail.
pub(crate) fn canary(test: &str, bug: &str, model: impl FnOnce()) {
    const CHILD: &str = "CORTEN_LOOM_CANARY";
    if std::env::var_os(CHILD).is_some() {
        assert!(plant(bug), "there is no bug {bug}");
        return model();
    }
    let name = match test.contains("loom_models::") {
        true => test.to_owned(),
        false => format!("loom_models::point::{test}"),
    };
    let child = Command::new(std::env::current_exe().expect("a test has a file"))
        .args([&name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("it starts");
    let said = [child.stdout, child.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("running 1 test"), "there is no test {name}");
    assert!(!said.contains("there is no bug"), "{said}");
    assert!(!child.status.success(), "loom did not notice {bug} in {name}");
}

#[cfg(feature = "seeded-bugs")]
fn plant(bug: &str) -> bool {
    bugs::plant(bug)
}

/// Without the feature there is nothing to plant, and nothing that a canary could show.
#[cfg(not(feature = "seeded-bugs"))]
fn plant(bug: &str) -> bool {
    let _ = bugs::Bug::FillWithoutFreeze;
    panic!("{bug} needs the feature seeded-bugs");
}
