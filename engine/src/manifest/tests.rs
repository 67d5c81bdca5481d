//! A manifest on the simulated file system: lives, damage, power cuts and faults.

use std::collections::BTreeSet;
use std::sync::Mutex;

use cortenkv_wal::RetiredSegment;
use cortenkv_wal::vfs::{DirEntry, SimVfs};

use super::edit::{COMPACTED_ID_MIN, CompactedInfo, Hold, ImageInfo, Lineage};
use super::format::COMPACTED_SEGMENTS;
use super::*;
use crate::catalog::Catalog;
use crate::sync::lock;

#[path = "tests/crash.rs"]
mod crash;
#[path = "tests/damage.rs"]
mod damage;

const DIR: &str = "db";

/// Opens as an opening of the database does.
fn open(vfs: &Arc<dyn Vfs>) -> Result<Manifest> {
    let lock = DirLock::acquire(vfs, Path::new(DIR), false)?;
    let (mut manifest, created) = Manifest::read_or_create(&lock)?;
    if !created {
        manifest.renew()?;
    }
    Ok(manifest)
}

fn on(sim: &SimVfs) -> Manifest {
    let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
    open(&vfs).unwrap()
}

fn compacted(id: u64) -> CompactedInfo {
    let (bytes_stored, bytes_logical, records, tombstones) = (5000 + id % 7, 9000, 40, 3);
    let (seq_min, seq_max, age_class) = (id % 11, 100 + id % 13, (id % 3) as u8);
    CompactedInfo {
        id,
        bytes_stored,
        bytes_logical,
        records,
        tombstones,
        seq_min,
        seq_max,
        age_class,
    }
}

fn retired(id: u64) -> RetiredSegment {
    let mut bytes = [0; RetiredSegment::BYTES];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes[8..].iter_mut().zip(id..).for_each(|(byte, n)| *byte = n as u8);
    RetiredSegment::from_bytes(&bytes)
}

fn job(
    added: impl IntoIterator<Item = u64>,
    gone: impl IntoIterator<Item = u64>,
    removed: impl IntoIterator<Item = u64>,
) -> Edit {
    Edit::JobDone {
        added: added.into_iter().map(compacted).collect(),
        retired: gone.into_iter().map(retired).collect(),
        removed: removed.into_iter().collect(),
    }
}

fn keyspace(id: KeyspaceId, name: &str) -> Edit {
    Edit::KeyspaceCreated { id, name: name.into() }
}

fn hold(name: &str, seq: u64) -> Edit {
    Edit::HoldSet { name: name.into(), hold: Hold { seq, bytes_max: 1 << 30 } }
}

fn image(number: u64) -> Edit {
    let image = ImageInfo { begin_seq: number * 100, bytes: 4096, checksum: 0x1234_5678 };
    Edit::ImageAdded { number, image }
}

/// Every kind of edit that the golden file has, in an order that fits.
fn history() -> Vec<Edit> {
    let first = COMPACTED_ID_MIN;
    vec![
        keyspace(1, "users"),
        job([first, first + 1], [1, 2, 3], []),
        hold("feed", 7),
        image(1),
        keyspace(2, "ü"),
        Edit::NextCompacted { id: first + 5 },
        job([first + 5], [5], [first]),
        hold("feed", 9),
        hold("backup", 1),
        image(2),
        Edit::ImageRemoved { number: 1 },
        job([], [4], [first + 1]),
        Edit::HoldRemoved { name: "feed".into() },
    ]
}

/// The kinds that the golden file of format 1.1 does not have.
fn later_kinds() -> Vec<Edit> {
    vec![
        Edit::HoldBroken { name: "backup".into() },
        Edit::Lineage(Lineage { id: [7; 16], is_copy: true }),
    ]
}

fn manifest_entries(sim: &SimVfs) -> Vec<DirEntry> {
    let names = sim.list(Path::new(DIR)).unwrap();
    names.into_iter().filter(|entry| manifest_number(entry).is_some()).collect()
}

fn features(sim: &SimVfs, manifest: &Manifest) -> u32 {
    let bytes = sim.image().read(manifest.path()).unwrap();
    u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]])
}

#[test]
fn every_kind_of_edit_is_there_after_a_reopening_and_after_a_renewal() {
    let sim = SimVfs::new(1);
    let mut expected = ManifestState::default();
    for edit in history().into_iter().chain(later_kinds()) {
        let mut manifest = on(&sim);
        manifest.commit(edit.clone()).unwrap();
        expected.check(&edit).unwrap();
        expected.apply(edit);
        assert_eq!(manifest.state(), &expected);
        drop(manifest);
        assert_eq!(on(&sim).state(), &expected);
    }
    assert_eq!(on(&sim).state().retired.len(), 5);
    assert_eq!(manifest_entries(&sim).len(), 1);
}

#[test]
fn edits_that_contradict_the_state_are_refused_and_change_nothing() {
    let sim = SimVfs::new(1);
    let mut manifest = on(&sim);
    history().into_iter().for_each(|edit| manifest.commit(edit).unwrap());
    let (state, end) = (manifest.state().clone(), manifest.end);
    let first = COMPACTED_ID_MIN;
    let no_order = CompactedInfo { seq_min: 2, seq_max: 1, ..compacted(first + 9) };
    let more_dead = CompactedInfo { records: 2, tombstones: 3, ..compacted(first + 9) };
    let added = |segment| Edit::JobDone { added: vec![segment], retired: vec![], removed: vec![] };
    let wrong = [
        keyspace(1, "another"),
        keyspace(7, "users"),
        keyspace(0, "zero"),
        keyspace(7, "a/b"),
        job([first + 5], [], []),
        job([first + 8, first + 8], [], []),
        job([first - 1], [], []),
        job([], [1], []),
        job([], [8, 8], []),
        job([], [first], []),
        job([], [], [first]),
        job([], [], [first + 5, first + 5]),
        job([first + 8], [], [first + 8]),
        added(no_order),
        added(more_dead),
        Edit::NextCompacted { id: 1 },
        hold("", 1),
        hold(&"n".repeat(256), 1),
        Edit::HoldRemoved { name: "feed".into() },
        Edit::HoldBroken { name: "feed".into() },
        image(2),
        Edit::ImageRemoved { number: 1 },
    ];
    for edit in wrong {
        let error = manifest.commit(edit.clone()).unwrap_err();
        assert_eq!(error.code(), 3, "{edit:?}: {error}");
    }
    let error = manifest.commit(job(first + 10..first + 2000, [], [])).unwrap_err();
    assert_eq!(error.code(), 4, "{error}");
    assert_eq!((manifest.state(), manifest.end), (&state, end));
    manifest.commit(keyspace(7, "another")).unwrap();
}

// An old version must refuse what it would lose, and nothing else.
#[test]
fn the_feature_is_named_before_the_first_job_and_while_there_is_one() {
    let sim = SimVfs::new(1);
    let mut manifest = on(&sim);
    for edit in [keyspace(1, "users"), hold("feed", 1), image(1)] {
        manifest.commit(edit).unwrap();
        assert_eq!(features(&sim, &manifest), 0);
    }
    let number = manifest.number;
    manifest.commit(job([COMPACTED_ID_MIN], [], [])).unwrap();
    assert_eq!(manifest.number, number + 1);
    assert_eq!(features(&sim, &manifest), COMPACTED_SEGMENTS);
    manifest.commit(job([], [1], [COMPACTED_ID_MIN])).unwrap();
    assert_eq!(manifest.number, number + 1, "once is enough");
    manifest.renew().unwrap();
    assert_eq!(features(&sim, &manifest), COMPACTED_SEGMENTS, "a retired segment counts");
    manifest.forget_retired(&[1]);
    drop(manifest);
    let mut manifest = on(&sim);
    assert!(manifest.state().retired.contains_key(&1), "forgetting is not durable by itself");
    manifest.forget_retired(&[1]);
    manifest.renew().unwrap();
    assert_eq!(features(&sim, &manifest), 0);
    drop(manifest);
    assert!(on(&sim).state().retired.is_empty());
}

#[test]
fn an_id_of_a_compacted_segment_is_given_out_once() {
    let sim = SimVfs::new(1);
    let mut given = BTreeSet::new();
    for round in 0..6u64 {
        let mut manifest = on(&sim);
        for _ in 0..3 {
            let id = manifest.next_compacted_id();
            assert!(id >= COMPACTED_ID_MIN && given.last().is_none_or(|last| id > *last));
            given.insert(id);
        }
        let newest = *given.last().unwrap();
        match round % 3 {
            0 => manifest.commit(job([newest], [], [])).unwrap(),
            // A job that came to a file, and no further.
            1 => {
                let name = format!("{DIR}/{newest:016x}.cseg.tmp");
                sim.open(Path::new(&name), cortenkv_wal::vfs::OpenMode::CreateNew).unwrap();
            }
            _ => manifest.renew().unwrap(),
        }
    }
    // The last number there is.
    let mut manifest = on(&sim);
    manifest.commit(Edit::NextCompacted { id: u64::MAX }).unwrap();
    let id = manifest.next_compacted_id();
    manifest.commit(job([id], [], [])).unwrap();
    let id = manifest.next_compacted_id();
    assert_eq!(manifest.commit(job([id], [], [])).unwrap_err().code(), 3);
}

#[test]
fn the_file_does_not_grow_with_the_work_done() {
    let sim = SimVfs::new(1);
    let mut manifest = on(&sim);
    let mut live = Vec::new();
    for log in 1..3_000u64 {
        let id = manifest.next_compacted_id();
        let removed = if live.len() < 100 { None } else { Some(live.remove(0)) };
        live.push(id);
        manifest.commit(job([id], [log], removed)).unwrap();
        manifest.forget_retired(&[log]);
        let len = sim.image().len_of(manifest.path()).unwrap();
        let mark_bytes = (EDIT_HEAD_BYTES + 9) as u64;
        assert!(len <= RENEW_BYTES_MIN + mark_bytes && len == manifest.end + mark_bytes, "{len}");
    }
    assert!(manifest.number > 4);
    assert_eq!(manifest_entries(&sim).len(), 1);
    let bytes_min = manifest.end;
    // A large state is renewed seldom: at several times its size.
    let (_, bytes) = encode(&manifest.identity(), manifest.state(), 0);
    for id in 1..10_000 {
        manifest.commit(keyspace(id, &format!("keyspace number {id}"))).unwrap();
    }
    assert!(manifest.end > 4 * bytes_min.max(bytes.len() as u64) && manifest.number < 30);
    let state = manifest.state().clone();
    drop(manifest);
    assert_eq!(on(&sim).state(), &state);
}

#[test]
fn a_lost_current_beside_compacted_segments_is_told() {
    let mut image = cortenkv_wal::vfs::sim::Image::new();
    image.insert(format!("{DIR}/8000000000000000.cseg"), vec![1]);
    let vfs: Arc<dyn Vfs> = Arc::new(SimVfs::from_image(image, 1));
    assert!(open(&vfs).unwrap_err().is_corruption());
}

// Keyspaces are created while jobs end: both note it in one manifest.
#[test]
fn keyspaces_and_jobs_are_noted_side_by_side() {
    let sim = SimVfs::new(1);
    let shared = Arc::new(Mutex::new(on(&sim)));
    let catalog = Catalog::durable(Arc::clone(&shared), lock(&shared).state().keyspaces.clone());
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let catalog = &catalog;
            scope.spawn(move || {
                for number in 0..50 {
                    catalog.create(&format!("shared {number}")).unwrap();
                    catalog.create(&format!("of thread {thread}: {number}")).unwrap();
                }
            });
        }
        for log in 1..200 {
            let mut manifest = lock(&shared);
            let id = manifest.next_compacted_id();
            manifest.commit(job([id], [log], [])).unwrap();
        }
    });
    let state = lock(&shared).state().clone();
    assert_eq!((state.keyspaces.len(), state.compacted.len()), (150, 199));
    for (id, name) in &state.keyspaces {
        assert_eq!(catalog.get(name).unwrap().1, *id);
    }
    drop((catalog, shared));
    assert_eq!(on(&sim).state(), &state);
}
