//! Scans in every form against a sorted map, beside writers and at rest, with runs so small that merges go on all the
//! time. U8, and rule 11.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use cortenkv::{Builder, Db, Durability, Keyspace};

#[path = "crash/random.rs"]
#[allow(dead_code, reason = "shared with suites that use more of it")]
mod random;

use random::{Random, mix};

/// Random cases, shared among the databases.
const CASES: u64 = 2_000;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;
type Entries = Vec<(Vec<u8>, Vec<u8>)>;
type Bounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

fn seed() -> u64 {
    let seed = std::env::var("CORTEN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(0x5CA4);
    println!("scan: CORTEN_SEED={seed}");
    seed
}

fn tiny(builder: Builder) -> Db {
    builder.durability(Durability::None).segment_bytes(16 << 10).tiny_runs().build().unwrap()
}

/// A database in memory and one on disk, each merging in the background all the time.
fn each_kind(test: impl Fn(&Db)) {
    println!("in memory");
    test(&tiny(Db::builder_in_memory()));
    println!("on disk");
    let root = tempfile::tempdir().unwrap();
    test(&tiny(Db::builder(root.path().join("db"))));
}

/// Few bytes, those at the edges among them, so that prefixes and bounds are strange.
fn key(random: &mut Random) -> Vec<u8> {
    let length = random.below(5);
    (0..length).map(|_| random.pick(&[0x00, b'a', b'b', 0xFE, 0xFF])).collect()
}

fn bounds(random: &mut Random) -> Bounds {
    let mut bound = || match random.below(4) {
        0 => Bound::Unbounded,
        1 => Bound::Excluded(key(random)),
        _ => Bound::Included(key(random)),
    };
    (bound(), bound())
}

fn prefix_bounds(prefix: &[u8]) -> Bounds {
    let mut end = prefix.to_vec();
    while end.last() == Some(&0xFF) {
        end.pop();
    }
    let upper = end.last_mut().map(|last| *last += 1).map(|()| Bound::Excluded(end));
    (Bound::Included(prefix.to_vec()), upper.unwrap_or(Bound::Unbounded))
}

fn within(map: &Map, (start, end): &Bounds) -> Entries {
    let is_in = |key: &&Vec<u8>| {
        let above = match start {
            Bound::Unbounded => true,
            Bound::Included(start) => *key >= start,
            Bound::Excluded(start) => *key > start,
        };
        let below = match end {
            Bound::Unbounded => true,
            Bound::Included(end) => *key <= end,
            Bound::Excluded(end) => *key < end,
        };
        above && below
    };
    map.iter().filter(|(key, _)| is_in(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// A scan in one of its forms, the lowest key first, and the range that it stood for.
fn scan(space: &Keyspace, random: &mut Random) -> (Bounds, Entries) {
    let owned = |(key, value): (Bytes, Bytes)| (key.to_vec(), value.to_vec());
    let range = bounds(random);
    let prefix = key(random);
    let mut found = Vec::new();
    let mut collect = |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        ControlFlow::<()>::Continue(())
    };
    match random.below(7) {
        0 => found = space.range(range.clone()).map(|entry| owned(entry.unwrap())).collect(),
        1 => {
            found = space.range(range.clone()).rev().map(|entry| owned(entry.unwrap())).collect();
            found.reverse();
        }
        2 => {
            // From both ends, until they meet.
            let mut both = space.range(range.clone());
            let mut back = Vec::new();
            loop {
                let from_front = random.percent(50);
                let next = if from_front { both.next() } else { both.next_back() };
                let Some(entry) = next else { break };
                let entry = owned(entry.unwrap());
                if from_front { found.push(entry) } else { back.push(entry) }
            }
            assert!(both.next().is_none() && both.next_back().is_none(), "an end that is none");
            found.extend(back.into_iter().rev());
        }
        3 => assert!(space.scan_with(range.clone(), collect).unwrap().is_continue()),
        4 => {
            assert!(space.scan_with_rev(range.clone(), collect).unwrap().is_continue());
            found.reverse();
        }
        5 => {
            assert!(space.scan_prefix_with(&prefix, &mut collect).unwrap().is_continue());
            return (prefix_bounds(&prefix), found);
        }
        _ => {
            found = space.prefix(&prefix).map(|entry| owned(entry.unwrap())).collect();
            return (prefix_bounds(&prefix), found);
        }
    }
    (range, found)
}

// U8: exact prefixes and ranges, both ways, beside writers.
#[test]
fn model_scans_agree_with_a_sorted_map_beside_writers_and_at_rest() {
    let seed = seed();
    each_kind(|db| {
        for case in 0..CASES / 2 {
            let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                one_case(db, case, &mut Random::new(mix(seed, case)));
            }));
            assert!(
                failed.is_ok(),
                "violation: scans differ from the map: seed={seed} case={case}"
            );
        }
        // The merges that all of this was about did happen.
        let stats = db.stats().index;
        assert!(stats.merged_keys > CASES, "{stats:?}");
        assert_eq!((stats.run_file_failures, stats.rebuilds), (0, 0));
    });
}

fn one_case(db: &Db, case: u64, random: &mut Random) {
    let space = db.keyspace(&format!("case {}", case % 7)).unwrap();
    let mut map: Map =
        space.iter().map(|entry| entry.unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
    // Keys that stay as they are, and keys that come and go meanwhile.
    let all: Vec<_> = (0..random.below(40)).map(|_| key(random)).collect();
    let (steady, volatile): (Vec<_>, Vec<_>) = all.into_iter().partition(|key| key.len() % 2 == 0);
    for key in &steady {
        let value = key.repeat(2);
        space.put(key, &value).unwrap();
        map.insert(key.clone(), value);
    }
    let before: Map = map.iter().filter(|(key, _)| !volatile.contains(key)).map(own).collect();
    let seed = random.next();
    let after = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&space, map, &volatile, &mut Random::new(seed)));
        for _ in 0..4 {
            let (range, found) = scan(&space, random);
            assert!(found.is_sorted_by(|a, b| a.0 < b.0), "out of order: {found:?}");
            let known: Map =
                found.iter().filter(|(key, _)| !volatile.contains(key)).cloned().collect();
            assert_eq!(known.into_iter().collect::<Vec<_>>(), within(&before, &range), "{range:?}");
            for (key, value) in found {
                assert!(
                    !volatile.contains(&key) || is_own(&key, &value),
                    "{key:?} shows {value:?}"
                );
            }
        }
        writer.join().unwrap()
    });
    for _ in 0..4 {
        let (range, found) = scan(&space, random);
        assert_eq!(found, within(&after, &range), "{range:?}");
    }
    let ends = [space.first_key_value().unwrap(), space.last_key_value().unwrap()];
    let ends = ends.map(|end| end.map(|(key, value)| (key.to_vec(), value.to_vec())));
    let wanted = [after.first_key_value(), after.last_key_value()];
    assert_eq!(ends, wanted.map(|end| end.map(own)));
}

fn own((key, value): (&Vec<u8>, &Vec<u8>)) -> (Vec<u8>, Vec<u8>) {
    (key.clone(), value.clone())
}

/// Values of a key that may change: the key, and a byte.
fn is_own(key: &[u8], value: &[u8]) -> bool {
    value.len() > key.len() && value.starts_with(key) || *value == key.repeat(2)
}

fn write(space: &Keyspace, mut map: Map, volatile: &[Vec<u8>], random: &mut Random) -> Map {
    for _ in 0..if volatile.is_empty() { 0 } else { 60 } {
        let key = &volatile[random.below(volatile.len())];
        if random.percent(60) {
            let mut value = key.clone();
            value.push(random.below(256) as u8);
            space.put(key, &value).unwrap();
            map.insert(key.clone(), value);
        } else {
            space.delete(key).unwrap();
            map.remove(key);
        }
    }
    map
}

// Rule 11: get, scan and counts agree whenever nobody writes.
#[test]
fn stress_get_scan_and_count_agree_at_every_quiescent_point() {
    let seed = seed();
    each_kind(|db| {
        for round in 0..30 {
            std::thread::scope(|scope| {
                for thread in 0..3 {
                    let mut random = Random::new(mix(seed, round * 3 + thread));
                    scope.spawn(move || {
                        for _ in 0..200 {
                            let key = (random.below(300) as u32).to_be_bytes();
                            match random.below(5) {
                                0 | 1 => drop(db.delete(key).unwrap()),
                                2 => {
                                    let mut batch = db.batch();
                                    for _ in 0..20 {
                                        let key = (random.below(300) as u32).to_be_bytes();
                                        match random.percent(50) {
                                            true => batch.put(db, key, round.to_be_bytes()),
                                            false => batch.delete(db, key),
                                        };
                                    }
                                    batch.commit().unwrap();
                                }
                                _ => drop(db.put(key, round.to_be_bytes()).unwrap()),
                            }
                        }
                    });
                }
            });
            let gets: Vec<_> = (0..300u32)
                .filter_map(|n| Some((n.to_be_bytes(), db.get(n.to_be_bytes()).unwrap()?)))
                .collect();
            let mut scanned = Vec::new();
            let whole = db.scan_with::<&[u8], ()>(.., |key, value| {
                scanned.push((<[u8; 4]>::try_from(key).unwrap(), Bytes::copy_from_slice(value)));
                ControlFlow::Continue(())
            });
            assert!(whole.unwrap().is_continue());
            assert_eq!(gets, scanned, "violation: get and scan differ: seed={seed} round={round}");
            assert_eq!(db.iter().rev().count(), gets.len(), "seed={seed} round={round}");
            assert_eq!(db.stats().keys, gets.len() as u64, "seed={seed} round={round}");
        }
    });
}

#[test]
fn a_closure_of_a_scan_may_write_break_and_scan_itself() {
    each_kind(|db| {
        db.put_batch((0..100u8).map(|n| ([n], [n], None))).unwrap();
        let mut seen = Vec::new();
        let ended = db.scan_with([10]..[60], |key, value| {
            assert_eq!(key, value);
            seen.push(key[0]);
            // Behind the scan, before it, and the very key.
            db.put([key[0] + 100], b"x").unwrap();
            db.delete([key[0] - 10]).unwrap();
            db.delete(key).unwrap();
            assert_eq!(value, [key[0]], "a value that is shown stays as it is");
            let inner = db.scan_with_rev::<_, u8>(key.., |key, _| ControlFlow::Break(key[0]));
            assert!(inner.unwrap().is_break());
            if key[0] == 39 { ControlFlow::Break(key[0]) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(ended.unwrap(), ControlFlow::Break(39));
        assert_eq!(seen, (10..40).collect::<Vec<_>>());
    });
}

// A value that the scan has looked up already is the newest when its turn comes.
#[test]
fn an_entry_is_never_older_than_its_next() {
    each_kind(|db| {
        for n in 0..50u8 {
            db.put([n], b"old").unwrap();
        }
        let mut entries = db.iter();
        assert_eq!(entries.next().unwrap().unwrap().1, "old");
        for n in 1..50u8 {
            match n % 3 {
                0 => db.delete([n]).unwrap(),
                _ => db.put([n], b"new").unwrap(),
            };
            if n % 3 != 0 {
                assert_eq!(entries.next().unwrap().unwrap(), (vec![n].into(), "new".into()));
            }
        }
        assert!(entries.next().is_none());
    });
}

#[test]
fn a_scan_that_is_shared_out_over_threads_goes_on() {
    each_kind(|db| {
        db.put_batch((0..500u32).map(|n| (n.to_be_bytes(), b"x", None))).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    db.put(u32::MAX.to_be_bytes(), b"y").unwrap();
                }
            });
            let mut entries = db.range(..u32::MAX.to_be_bytes());
            let mut count = 0;
            while let (Some(entry), rest) =
                scope.spawn(move || (entries.next(), entries)).join().unwrap()
            {
                entry.unwrap();
                count += 1;
                entries = rest;
            }
            stop.store(true, Relaxed);
            assert_eq!(count, 500);
        });
    });
}
