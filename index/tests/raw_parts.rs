//! The parts of an index against a model: exported beside writers, made an index again, and completed with what came since.

use std::collections::HashMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cortenkv_index::{
    Address, BucketOptions, BucketPoint, ErrorKind, NewEntry, PointIndex, Probe, Version,
};

/// A record: its key, and its number among all.
#[derive(Debug, Clone, Copy)]
struct Record {
    key: u64,
    seq: u64,
}

/// Segments full of records.
#[derive(Default)]
struct Log(Vec<RwLock<Vec<Record>>>);

impl Log {
    fn new(segments: usize) -> Self {
        Log((0..segments).map(|_| RwLock::default()).collect())
    }

    fn append(&self, segment: u16, record: Record) -> Address {
        let mut records = self.0[usize::from(segment)].write().unwrap();
        records.push(record);
        Address::new(segment, (records.len() as u32 - 1) * 16).unwrap()
    }

    fn read(&self, at: Address) -> Record {
        self.0[usize::from(at.slot())].read().unwrap()[at.offset_bytes() as usize / 16]
    }

    fn probe(&self, at: Address, key: u64) -> Probe {
        let record = self.read(at);
        let version = Version { seq: record.seq, tombstone: false, segment: at.slot().into() };
        if record.key == key { Probe::Same(version) } else { Probe::Other }
    }

    fn install(&self, index: &BucketPoint, at: Address) {
        let Record { key, seq } = self.read(at);
        let version = Version { seq, tombstone: false, segment: at.slot().into() };
        let bytes = key.to_le_bytes();
        let new = NewEntry { hash: hash(key), keyspace: 0, key: &bytes, address: at, version };
        index.install(&new, &|at: Address, _: u32, _: &[u8]| self.probe(at, key), &mut |_| {});
    }

    fn find(&self, index: &BucketPoint, key: u64) -> Option<u64> {
        index.find(hash(key), |at| self.probe(at, key)).map(|at| self.read(at).seq)
    }
}

/// Few bits of it differ at times, so that groups overflow.
fn hash(key: u64) -> u64 {
    let mixed = (key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    if key.is_multiple_of(7) { mixed & 0xFFF0_0000_0000_0000 } else { mixed }
}

fn parts(index: &BucketPoint) -> Vec<Vec<u8>> {
    let part = |shard| {
        let mut out = Vec::new();
        index.export_raw(shard, &mut out);
        out
    };
    (0..index.shards()).map(part).collect()
}

fn restored(
    parts: &[Vec<u8>],
    map: impl FnMut(Address) -> Option<Address>,
) -> cortenkv_index::Result<BucketPoint> {
    BucketPoint::from_raw(parts.iter().map(Vec::as_slice), map)
}

const WRITERS: u16 = 2;

#[test]
fn an_export_beside_writers_and_what_came_since_are_the_index() {
    for seed in 0..12 {
        run(seed);
    }
}

fn run(seed: u64) {
    let log = Log::new(1 + usize::from(WRITERS));
    let index = BucketPoint::with_options(BucketOptions::default().shards(4)).unwrap();
    let seq = AtomicU64::new(0);
    let keys = 400 + 300 * seed;
    let write = |segment: u16, key: u64| {
        let seq = seq.fetch_add(1, Ordering::Relaxed);
        let at = log.append(segment, Record { key, seq });
        log.install(&index, at);
    };
    (0..keys).for_each(|key| write(0, key));
    // Slots of entries that were taken out stay behind.
    for key in (0..keys).step_by(5) {
        let at = index.find(hash(key), |at| log.probe(at, key)).expect("it was installed");
        assert!(index.remove(hash(key), at));
    }
    let stop = AtomicBool::new(false);
    let exported = std::thread::scope(|scope| {
        for writer in 1..=WRITERS {
            let (stop, write) = (&stop, &write);
            scope.spawn(move || {
                let mut random = (seed + 1) * u64::from(writer) * 0x1234_5677;
                // Old keys and new ones: shards grow meanwhile.
                while !stop.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    write(writer, (random >> 33) % (keys * 4));
                }
            });
        }
        let exported = parts(&index);
        stop.store(true, Ordering::Relaxed);
        exported
    });
    let of_before = |at: Address| (at.slot() == 0).then_some(at);
    let copy = restored(&exported, of_before).unwrap();
    for segment in 1..=WRITERS {
        let records = log.0[usize::from(segment)].read().unwrap().len() as u32;
        (0..records).for_each(|n| log.install(&copy, Address::new(segment, n * 16).unwrap()));
    }
    for key in 0..keys * 4 {
        assert_eq!(log.find(&copy, key), log.find(&index, key), "seed {seed}: key {key}");
    }
    assert_eq!(copy.len(), index.len(), "seed {seed}");
    assert_eq!(names(&copy), names(&index), "seed {seed}");
}

/// How often each address is named.
fn names(index: &BucketPoint) -> HashMap<Address, u32> {
    let (mut names, mut found) = (HashMap::new(), Vec::new());
    let mut next = Some(Default::default());
    while let Some(position) = next {
        next = index.export(position, 64, &mut found);
    }
    found.into_iter().for_each(|at| *names.entry(at).or_default() += 1);
    names
}

#[test]
fn an_index_at_rest_comes_back_as_it_was_and_lives_on() {
    let log = Log::new(2);
    let index = BucketPoint::with_options(BucketOptions::default().shards(2)).unwrap();
    for key in 0..5_000 {
        log.install(&index, log.append(0, Record { key, seq: key }));
    }
    // Addresses get other slots, and one in three goes.
    let renumbered = |at: Address| {
        let stays = !log.read(at).key.is_multiple_of(3);
        stays.then(|| Address::new(1, at.offset_bytes()).unwrap())
    };
    let copy = restored(&parts(&index), renumbered).unwrap();
    log.0[1].write().unwrap().extend(log.0[0].read().unwrap().iter());
    let (stats, copied) = (index.stats(), copy.stats());
    assert_eq!((copied.slots, copied.slots_used), (stats.slots, stats.slots_used));
    assert_eq!(copied.entries, 5_000 - 5_000_usize.div_ceil(3));
    // Of the first index, tables that it grew out of may still wait for readers, so the copy is held against its slots.
    let (memory, slots_bytes) = (copied.memory_bytes, copied.slots * size_of::<u64>());
    assert!((slots_bytes..slots_bytes * 11 / 10).contains(&memory), "{stats:?} {copied:?}");
    for key in 0..5_000 {
        assert_eq!(log.find(&copy, key), (!key.is_multiple_of(3)).then_some(key));
    }
    // It grows and shrinks like any other.
    for key in 5_000..40_000 {
        log.install(&copy, log.append(1, Record { key, seq: key }));
    }
    for key in (0..40_000_u64).filter(|key| !key.is_multiple_of(3) || *key >= 5_000) {
        let at = copy.find(hash(key), |at| log.probe(at, key));
        assert!(copy.remove(hash(key), at.unwrap_or_else(|| panic!("key {key} is gone"))));
    }
    while copy.maintain() {}
    assert!(copy.is_empty() && copy.stats().resizes > 2);
}

#[test]
fn parts_that_no_export_gives_are_refused() {
    let log = Log::new(1);
    let index = BucketPoint::with_options(BucketOptions::default().shards(2)).unwrap();
    for key in 0..2_000 {
        log.install(&index, log.append(0, Record { key, seq: key }));
    }
    let whole = parts(&index);
    let refuses = |parts: &[Vec<u8>]| match restored(parts, Some) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::Corruption,
    };
    assert!(!refuses(&whole));
    assert!(refuses(&[]) && refuses(&whole[..1]) && refuses(&whole[1..]));
    assert!(refuses(&[whole[1].clone(), whole[0].clone()]));
    assert!(refuses(&[whole[0].clone(), whole[0].clone()]));
    for cut in [0, 8, 40, whole[0].len() - 16, whole[0].len() - 1] {
        assert!(refuses(&[whole[0][..cut].to_vec(), whole[1].clone()]), "cut to {cut}");
    }
    // Any byte may have any value: an error or an index, never a panic.
    for at in (0..whole[0].len()).step_by(if whole[0].len() > 4096 { 13 } else { 1 }).chain(0..64) {
        for flip in [1, 0x40, 0x80, 0xFF] {
            let mut damaged = whole.clone();
            damaged[0][at] ^= flip;
            if let Ok(index) = restored(&damaged, Some) {
                let _ = index.find(hash(1), |_| Probe::Other);
                let _ = names(&index);
            }
        }
    }
}

// What a resize has moved is not read where it was: it has changed since.
#[test]
fn an_export_in_the_middle_of_a_resize_has_the_present_entries() {
    let log = Log::new(1);
    let index = BucketPoint::with_options(BucketOptions::default().shards(1)).unwrap();
    let write = |key: u64, seq: u64| log.install(&index, log.append(0, Record { key, seq }));
    let mut keys = 0;
    while keys < 20_000 || index.stats().resizes_under_way == 0 {
        write(keys, keys);
        keys += 1;
    }
    for key in (0..keys).step_by(keys as usize / 30) {
        write(key, keys + key);
    }
    assert_eq!(index.stats().resizes_under_way, 1);
    let copy = restored(&parts(&index), Some).unwrap();
    for key in 0..keys {
        assert_eq!(log.find(&copy, key), log.find(&index, key), "key {key}");
    }
}
