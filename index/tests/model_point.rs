//! The `btree` point index against the model, and the model against indexes with one defect each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cortenkv_index::testkit::{Hashing, check_point_index, point_contention, point_model};
use cortenkv_index::testkit::{point_colliding_keys, point_moved_while_read};
use cortenkv_index::{
    Address, BTreePoint, BucketOptions, BucketPoint, Entry, ExportPosition, Location, NewEntry,
    Outcome, PointIndex, Probe,
};

#[test]
fn model_btree_agrees_with_the_model() {
    check_point_index(&|| Box::new(BTreePoint::new()));
}

#[test]
fn model_btree_of_one_shard_agrees_with_the_model() {
    point_model(&|| Box::new(BTreePoint::with_shards(1)), Hashing::Good, 11);
    point_contention(&|| Box::new(BTreePoint::with_shards(1)), 11);
}

#[test]
fn model_bucket_agrees_with_the_model() {
    check_point_index(&|| Box::new(BucketPoint::new()));
}

#[cfg(feature = "dashmap")]
#[test]
fn model_dashmap_agrees_with_the_model() {
    check_point_index(&|| Box::new(cortenkv_index::DashPoint::new()));
}

#[test]
fn model_bucket_of_one_shard_agrees_with_the_model() {
    let make = || -> Box<dyn PointIndex> {
        let options = BucketOptions::default().shards(1);
        Box::new(BucketPoint::with_options(options).expect("legal"))
    };
    for seed in 11..14 {
        for hashing in [Hashing::Good, Hashing::Few, Hashing::LowBits] {
            point_model(&make, hashing, seed);
        }
        point_contention(&make, seed);
    }
}

// Keys of one hash spill beside their group instead of making the table grow for ever (design 4.1).
#[test]
fn ten_thousand_keys_of_one_hash_spill() {
    point_colliding_keys(&|| Box::new(BucketPoint::new()), 10_000);
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    OldVersionWins,
    EqualSeqByArrival,
    HookForgotten,
    HookAfterChange,
    DuplicateCalledStale,
    RemoveIgnoresAddress,
    SwapInsertsBlindly,
    GetTrustsTheHash,
    GetDoesNotLookAgain,
    ExportSkipsOne,
}

/// The right kind with one defect in front of it.
struct Broken {
    right: BTreePoint,
    defect: Defect,
}

impl PointIndex for Broken {
    fn install(
        &self,
        new: &NewEntry<'_>,
        locate: &dyn Location,
        on_replace: &mut dyn FnMut(Option<Entry>),
    ) -> Outcome {
        let mut new = *new;
        match self.defect {
            Defect::OldVersionWins => {
                let lie = |at, keyspace, key: &[u8]| match locate.probe(at, keyspace, key) {
                    Probe::Same(mut version) => {
                        version.seq /= 2;
                        Probe::Same(version)
                    }
                    other => other,
                };
                return self.right.install(&new, &lie, on_replace);
            }
            Defect::EqualSeqByArrival => new.version.tombstone = true,
            Defect::HookForgotten => return self.right.install(&new, locate, &mut |_| {}),
            Defect::HookAfterChange => {
                let mut late = None;
                let outcome = self.right.install(&new, locate, &mut |old| late = Some(old));
                std::thread::yield_now();
                if let Some(old) = late {
                    on_replace(old);
                }
                return outcome;
            }
            Defect::DuplicateCalledStale => {
                let outcome = self.right.install(&new, locate, on_replace);
                return if outcome == Outcome::Present {
                    Outcome::Stale(new.entry())
                } else {
                    outcome
                };
            }
            _ => {}
        }
        self.right.install(&new, locate, on_replace)
    }

    fn get(&self, hash: u64, verify: &mut dyn FnMut(Address) -> Probe) -> Option<Address> {
        match self.defect {
            Defect::GetTrustsTheHash => self.right.get(hash, &mut |at| match verify(at) {
                Probe::Other => {
                    Probe::Same(cortenkv_index::Version { seq: 0, tombstone: false, segment: 0 })
                }
                probe => probe,
            }),
            Defect::GetDoesNotLookAgain => self.right.get(hash, &mut |at| match verify(at) {
                Probe::Gone => {
                    Probe::Same(cortenkv_index::Version { seq: 0, tombstone: false, segment: 0 })
                }
                probe => probe,
            }),
            _ => self.right.get(hash, verify),
        }
    }

    fn remove(&self, hash: u64, address: Address) -> bool {
        self.right.remove(hash, address) || self.defect == Defect::RemoveIgnoresAddress
    }

    fn swap(&self, hash: u64, old: Address, new: Address) -> bool {
        self.right.swap(hash, old, new)
            || (self.defect == Defect::SwapInsertsBlindly && self.right.swap(hash, new, new))
    }

    fn len(&self) -> usize {
        self.right.len()
    }

    fn export(
        &self,
        from: ExportPosition,
        entries_max: usize,
        out: &mut Vec<Address>,
    ) -> Option<ExportPosition> {
        let next = self.right.export(from, entries_max, out);
        if self.defect == Defect::ExportSkipsOne && next.is_none() {
            out.pop();
        }
        next
    }

    fn memory_bytes(&self) -> usize {
        self.right.memory_bytes()
    }
}

#[test]
fn canary_every_seeded_defect_is_found() {
    for defect in [
        Defect::OldVersionWins,
        Defect::EqualSeqByArrival,
        Defect::HookForgotten,
        Defect::HookAfterChange,
        Defect::DuplicateCalledStale,
        Defect::RemoveIgnoresAddress,
        Defect::SwapInsertsBlindly,
        Defect::GetTrustsTheHash,
        Defect::GetDoesNotLookAgain,
        Defect::ExportSkipsOne,
    ] {
        let make =
            || -> Box<dyn PointIndex> { Box::new(Broken { right: BTreePoint::new(), defect }) };
        let found = catch_unwind(AssertUnwindSafe(|| {
            // Every family in the order of check_point_index, with few colliding keys to save time.
            for seed in 1..=20 {
                point_model(&make, Hashing::Few, seed);
                point_contention(&make, seed);
            }
            point_colliding_keys(&make, 100);
            point_moved_while_read(&make);
        }));
        assert!(found.is_err(), "{defect:?} went unnoticed");
    }
}

#[test]
fn for_each_stops_when_told() {
    let index = BTreePoint::new();
    for n in 0..10u64 {
        let address = Address::new(0, n as u32 * 8).expect("legal");
        let version = cortenkv_index::Version { seq: n, tombstone: false, segment: 0 };
        let new = NewEntry { hash: n << 60, keyspace: 0, key: b"", address, version };
        let nothing = |_: Address, _: u32, _: &[u8]| Probe::Gone;
        assert_eq!(index.install(&new, &nothing, &mut |_| {}), Outcome::Inserted);
    }
    let mut visited = 0;
    let end = index.for_each(&mut |_| {
        visited += 1;
        if visited == 3 {
            std::ops::ControlFlow::Break(())
        } else {
            std::ops::ControlFlow::Continue(())
        }
    });
    assert!(end.is_break());
    assert_eq!(visited, 3);
}

#[test]
fn a_panic_in_a_hook_leaves_the_index_as_it_was() {
    let index = BTreePoint::with_shards(1);
    let address = Address::new(0, 8).expect("legal");
    let version = cortenkv_index::Version { seq: 1, tombstone: false, segment: 0 };
    let new = NewEntry { hash: 1, keyspace: 0, key: b"k", address, version };
    let nothing = |_: Address, _: u32, _: &[u8]| Probe::Other;
    let install = || index.install(&new, &nothing, &mut |_| panic!("from the hook"));
    assert!(catch_unwind(AssertUnwindSafe(install)).is_err());
    assert!(index.is_empty());
    assert_eq!(index.install(&new, &nothing, &mut |_| {}), Outcome::Inserted);
}
