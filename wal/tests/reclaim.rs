//! Segments go from anywhere in the log, and compacted segments take over what lives in them: at every crash in between
//! nothing is lost, nothing comes back, and every open after that agrees (rules 3 and 6 of compaction).
//!
//! `CORTEN_BUG=NAME` plants a bug of `wal/src/bugs.rs`, with the feature `seeded-bugs`; the power cuts must then fail.

mod common;

#[path = "reclaim/world.rs"]
mod world;

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use common::{SEED, open, options, put, segment_path, segments};
use cortenkv_wal::vfs::sim::{CrashVariant, DiskModel, Image, Trace};
use cortenkv_wal::vfs::{FaultKind, FaultPlan, FaultVfs, SimVfs};
use cortenkv_wal::{Damage, Durability, ErrorKind, RetiredSegment, SegmentInfo, TailKind};
use world::{Content, History, Manifest, Setup, World};

/// Segments go from the middle, then the newest, then those at the front, over several openings.
fn live_a_life(setup: Setup) -> (Trace, History) {
    let sim = SimVfs::new(SEED);
    let mut history = History::new();
    let mut commit = |world: &World, commits: usize| {
        for _ in 0..commits {
            world.commit(&mut history).unwrap();
            if setup.durability == Durability::Always {
                sim.note(history.commits() as u64);
            }
        }
        world.wal.sync().unwrap();
        sim.note(history.commits() as u64);
    };
    let mut world = World::open(&sim, setup.options(&sim)).unwrap();
    commit(&world, 45);
    assert!(world.compact(|i, _| i % 2 == 1).unwrap() > 0);
    commit(&world, 12);
    world.wal.seal_active().unwrap();
    let newest = world.wal.segments().iter().rev().find(|info| info.settled).unwrap().id;
    assert_eq!(world.compact(|_, info| info.id == newest).unwrap(), 1);
    commit(&world, 8);
    drop(world);
    let mut world = World::open(&sim, setup.options(&sim)).unwrap();
    commit(&world, 10);
    assert!(world.compact(|i, _| i == 0).unwrap() > 0);
    assert!(world.compact(|_, _| true).unwrap() > 0);
    drop(world);
    let world = World::open(&sim, setup.options(&sim)).unwrap();
    assert!(!world.report.retired_forgotten.is_empty());
    commit(&world, 3);
    assert_eq!(world.index.content(), *history.contents.last().unwrap());
    (sim.trace(), history)
}

/// Opens a disk: it shows what some number of commits left, at least those that were acknowledged. Then it opens again.
fn check(image: &Image, setup: Setup, history: &[Content], acknowledged: u64, what: &str) -> Trace {
    let sim = SimVfs::from_image(image.clone(), SEED);
    let world = World::open(&sim, setup.options(&sim)).unwrap_or_else(|e| panic!("{what}: {e}"));
    let found = world.index.content();
    let prefix = history.iter().rposition(|content| *content == found);
    let prefix = prefix.unwrap_or_else(|| panic!("{what}: no prefix of the history"));
    assert!(prefix as u64 >= acknowledged, "{what}: {prefix} commits of {acknowledged}");
    let left = segments(&sim.image());
    for retired in &world.manifest.retired {
        assert!(!left.contains(&segment_path(retired.id)), "{what}: {:016x} is left", retired.id);
    }
    let last_seq = world.wal.last_seq();
    let trace = sim.trace();
    drop(world);
    let again = World::open(&sim, setup.options(&sim)).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(again.index.content(), found, "{what}: opened again");
    assert!(again.wal.last_seq() > last_seq, "{what}: numbers are given out again");
    trace
}

/// Every crash point of every setup, and those of some recoveries; returns how many disks that were.
fn cut_the_power() -> usize {
    let mut seen = HashSet::new();
    for (setup, model) in Setup::ALL.into_iter().zip(DiskModel::ALL) {
        let (trace, history) = live_a_life(setup);
        let contents = &history.contents;
        trace.for_each_crash_point(model, |cursor| {
            let acknowledged = cursor.notes().last().map_or(0, |(_, commits)| *commits);
            let drawn = CrashVariant::STANDARD.into_iter().chain([CrashVariant::Kill]);
            for (i, variant) in drawn.enumerate() {
                let image = cursor.image(variant, SEED + cursor.point() as u64);
                if !seen.insert((image.hash(), acknowledged)) {
                    continue;
                }
                let what = format!("{setup:?} {model:?} point {} {variant:?}", cursor.point());
                let recovery = check(&image, setup, contents, acknowledged, &what);
                if (cursor.point() + i).is_multiple_of(53) {
                    recovery.for_each_crash_point(model, |second| {
                        for variant in [CrashVariant::AllLost, CrashVariant::Arbitrary(7)] {
                            let image = second.image(variant, second.point() as u64);
                            let what = format!("{what}, then {} {variant:?}", second.point());
                            check(&image, setup, contents, acknowledged, &what);
                        }
                    });
                }
            }
        });
    }
    seen.len()
}

#[test]
fn no_power_cut_loses_or_revives_anything() {
    #[cfg(feature = "seeded-bugs")]
    if let Ok(bug) = std::env::var("CORTEN_BUG") {
        assert!(cortenkv_wal::bugs::plant(&bug), "there is no bug `{bug}`");
    }
    let images = cut_the_power();
    assert!(images > 3_000, "{images}");
    println!("{images} images");
}

/// Commits, and a job in which one operation fails; what the disk shows then, with and without what was not synced.
/// Returns how many operations the job had.
fn job_with_a_fault(setup: Setup, number: u64, fault: FaultKind) -> u64 {
    let what = format!("{setup:?}: {fault:?} at operation {number}");
    let sim = SimVfs::new(SEED);
    let faulty = Arc::new(FaultVfs::new(Arc::new(sim.clone())));
    let mut history = History::new();
    let options = setup.options(&sim).vfs(faulty.clone());
    let mut world = World::open(&sim, options).unwrap();
    for _ in 0..40 {
        world.commit(&mut history).unwrap();
    }
    world.wal.sync().unwrap();
    let before = faulty.counts();
    faulty.set_plan(Some(FaultPlan::nth(before.total() + number, fault)));
    let outcome = world.compact(|i, _| i != 1);
    let operations = faulty.counts().total() - before.total();
    faulty.set_plan(None);
    if let Err(refused) = &outcome {
        let typed =
            matches!(refused.kind(), ErrorKind::Io | ErrorKind::StorageFull | ErrorKind::Closed(_));
        assert!(typed, "{what}: {refused}");
    }
    assert_eq!(world.index.content(), *history.contents.last().unwrap(), "{what}");
    // Where the log is not closed, the next job works.
    if world.commit(&mut history).is_ok() {
        world.wal.sync().unwrap();
        world.compact(|_, _| true).unwrap_or_else(|e| panic!("{what}: the next job: {e}"));
    } else {
        history.contents.pop();
    }
    let trace = sim.trace();
    drop(world);
    for variant in [CrashVariant::AllLost, CrashVariant::Kill] {
        let image = trace.crash_image(DiskModel::Posix, trace.len(), variant, SEED);
        let commits = history.commits() as u64;
        check(&image, setup, &history.contents, commits, &format!("{what}, {variant:?}"));
    }
    operations
}

#[test]
fn every_operation_of_a_job_may_fail() {
    for setup in Setup::ALL {
        for fault in FaultKind::ALL {
            let mut number = 0;
            while number < job_with_a_fault(setup, number, fault) {
                number += 1;
            }
            assert!(number > 15, "{number}");
        }
    }
}

fn settled(wal: &cortenkv_wal::Wal) -> Vec<SegmentInfo> {
    wal.segments().into_iter().filter(|info| info.settled).collect()
}

/// A database of several segments, closed; the second is retired.
fn with_a_retired_segment() -> (SimVfs, Manifest, Content) {
    let sim = SimVfs::new(SEED);
    let mut history = History::new();
    let mut world = World::open(&sim, Setup::ALL[0].options(&sim)).unwrap();
    for _ in 0..45 {
        world.commit(&mut history).unwrap();
    }
    assert_eq!(world.compact(|i, _| i == 1).unwrap(), 1);
    let manifest = world.manifest.clone();
    drop(world);
    (sim, manifest, history.contents.pop().unwrap())
}

#[test]
fn a_retired_segment_that_nobody_told_of_is_damage_and_so_is_another_end() {
    let (sim, manifest, content) = with_a_retired_segment();
    let image = sim.image();
    let retired = manifest.retired[0];
    let opened = |retired: Vec<RetiredSegment>, damage| {
        let sim = SimVfs::from_image(image.clone(), SEED);
        open(options(&sim).retired(retired).damage(damage)).map(|opened| opened.1)
    };
    assert!(opened(vec![], Damage::Refuse).unwrap_err().is_corruption());
    assert_eq!(opened(vec![retired], Damage::Refuse).unwrap().damaged_places, 0);
    type Change = fn(&mut RetiredSegment);
    let damaged: [Change; 4] = [
        |retired| retired.end_stored += 8,
        |retired| retired.end_logical -= 8,
        |retired| retired.predecessor_end_stored += 8,
        |retired| retired.last_seq += 1 << 40,
    ];
    for change in damaged {
        let mut lie = retired;
        change(&mut lie);
        assert!(opened(vec![lie], Damage::Refuse).unwrap_err().is_corruption(), "{lie:?}");
        opened(vec![lie], Damage::Salvage).unwrap();
    }
    let impossible: [Change; 5] = [
        |retired| retired.id = 0,
        |retired| retired.id = 1 << 63,
        |retired| retired.predecessor = retired.id,
        |retired| retired.end_stored = 100,
        |retired| retired.oldest = retired.id + 1,
    ];
    for change in impossible {
        let mut lie = retired;
        change(&mut lie);
        let refused = opened(vec![lie], Damage::Refuse).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::InvalidArgument, "{lie:?}");
    }
    let twice = opened(vec![retired; 2], Damage::Refuse).unwrap_err();
    assert_eq!(*twice.kind(), ErrorKind::InvalidArgument);
    let world = World::open(&sim, Setup::ALL[0].options(&sim)).unwrap();
    assert_eq!(world.index.content(), content);
}

#[test]
fn a_log_whose_last_files_are_missing_behind_a_retired_segment_is_damaged() {
    let (sim, manifest, _) = with_a_retired_segment();
    let mut image = sim.image();
    for path in segments(&image).iter().filter(|path| **path > segment_path(manifest.retired[0].id))
    {
        image.remove(path);
    }
    let sim = SimVfs::from_image(image, SEED);
    let with = || options(&sim).retired(manifest.retired.clone());
    let refused = open(with()).map(drop).unwrap_err();
    assert!(refused.is_corruption(), "{refused}");
    assert!(refused.to_string().contains("retired"), "{refused}");
    // The salvaged log ends before the last commit of the retired segment, and does not ask for it any more.
    let (wal, report, _) = open(with().damage(Damage::Salvage)).unwrap();
    assert!(report.last_seq < manifest.retired[0].last_seq);
    assert!(wal.last_seq() > manifest.retired[0].last_seq);
    drop(wal);
    let (wal, _, _) = open(with()).unwrap();
    wal.append(&put("later", b"value")).unwrap();
    drop(wal);
    for _ in 0..2 {
        let (_, report, model) = open(with()).unwrap();
        assert!(model.keys().contains(&"later".to_owned()));
        assert_eq!(report.damaged_places, 0);
    }
}

#[test]
fn salvage_goes_around_damage_beside_a_retired_segment_and_opens_for_ever() {
    let (sim, manifest, content) = with_a_retired_segment();
    let image = sim.image();
    for path in segments(&image) {
        for at in [4096 + 20, 4096 + 200, 4096 + 3000] {
            let mut damaged = image.clone();
            assert!(damaged.flip_bit(&path, at * 8));
            let sim = SimVfs::from_image(damaged, SEED);
            let with = || Setup::ALL[0].options(&sim);
            if World::open(&sim, with()).is_ok() {
                continue;
            }
            let world = World::open(&sim, with().damage(Damage::Salvage)).unwrap();
            assert!(world.report.damaged_places > 0);
            let found = world.index.content();
            assert!(found.len() + 2 >= content.len(), "{path} {at}");
            drop(world);
            for _ in 0..3 {
                let again =
                    World::open(&sim, with()).unwrap_or_else(|e| panic!("{path} {at}: {e}"));
                assert_eq!(again.index.content(), found, "{path} {at}");
            }
            assert_eq!(Manifest::read(&sim).compacted, manifest.compacted);
        }
    }
}

#[test]
fn a_segment_is_settled_when_it_is_sealed_durable_and_installed() {
    for tail in [TailKind::Mapped, TailKind::Written] {
        let sim = SimVfs::new(SEED);
        let (wal, _, _) = open(options(&sim).durability(Durability::None).tail(tail)).unwrap();
        assert_eq!(wal.segments().len(), 1);
        wal.seal_active().unwrap();
        assert_eq!(wal.segments().len(), 1, "no commit is in it");
        wal.append(&put("key", b"value")).unwrap();
        let before = wal.segments()[0];
        assert!(!before.sealed && !before.settled && before.end_stored > 4096);
        assert_eq!(before.created_ms, 1_700_000_000_000);
        wal.seal_active().unwrap();
        wal.seal_active().unwrap();
        let [first, second] = wal.segments()[..] else { panic!("two segments") };
        assert!(first.sealed && !first.settled && !second.sealed, "{first:?}");
        assert!(first.end_stored > before.end_stored && first.last_seq == wal.last_seq());
        assert!(first.seq_before < first.last_seq && second.seq_before == first.last_seq);
        let refused = wal.retire(&[first.id]).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::InvalidArgument);
        while wal.step().unwrap() {}
        assert_eq!(settled(&wal).len(), 1, "the background syncs what is sealed");
        for bad in [second.id, second.id + 1, 0] {
            let refused = wal.retire(&[first.id, bad]).unwrap_err();
            assert_eq!(*refused.kind(), ErrorKind::InvalidArgument);
        }
        let reader = wal.segment(first.id).unwrap();
        let retired = settled(&wal)[0].retired();
        assert_eq!(RetiredSegment::from_bytes(&retired.to_bytes()), retired);
        wal.retire(&[first.id, first.id]).unwrap();
        let mut keys = Vec::new();
        let read = reader.for_each_record(&mut |record| {
            keys.push(record.key.to_vec());
            ControlFlow::Continue(())
        });
        read.unwrap();
        assert_eq!(keys, [b"key".to_vec()], "a reader goes on");
        wal.append(&put("later", b"value")).unwrap();
        drop(wal);
        let (_, report, model) = open(options(&sim).retired(vec![retired])).unwrap();
        assert_eq!(
            (report.retired_forgotten, model.keys()),
            (vec![first.id], vec!["later".into()])
        );
        assert_eq!(open(options(&sim)).unwrap().2.keys(), ["later"], "forgotten for good");
    }
}

#[test]
fn later_segments_say_where_the_log_begins_once_its_front_is_retired() {
    let (sim, _, _) = with_a_retired_segment();
    let mut world = World::open(&sim, Setup::ALL[0].options(&sim)).unwrap();
    assert!(world.compact(|i, _| i == 0).unwrap() == 1);
    let left = world.wal.segments();
    world.wal.append(&put("later", b"value")).unwrap();
    world.wal.seal_active().unwrap();
    world.wal.append(&put("last", b"value")).unwrap();
    let newest = world.wal.segments().last().unwrap().id;
    let chain = sim.image().read(segment_path(newest)).unwrap()[4096..][..64].to_vec();
    let oldest = u64::from_le_bytes(*chain[40..].first_chunk().unwrap());
    assert_eq!(oldest, left[0].id);
    drop(world);
    let forgotten = World::open(&sim, Setup::ALL[0].options(&sim)).unwrap();
    assert!(!forgotten.report.retired_forgotten.is_empty());
    assert!(forgotten.manifest.retired.iter().all(|retired| retired.id >= oldest));
}

#[test]
fn a_relaxed_commit_that_is_not_installed_keeps_its_segment_from_settling() {
    let sim = SimVfs::new(SEED);
    let (entered, waits) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let handler = Arc::new(move |_: &[cortenkv_wal::RecordRef<'_>]| {
        entered.send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
    });
    let options = options(&sim).durability(Durability::None);
    let (wal, _) = cortenkv_wal::Wal::open("log", options, handler).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| wal.append(&put("key", b"value")).unwrap());
        waits.recv().unwrap();
        wal.seal_active().unwrap();
        wal.sync().unwrap();
        let (first, found) = (wal.segments()[0], settled(&wal));
        // Before anything may fail: the other thread waits for it.
        release.send(()).unwrap();
        assert!(first.sealed && wal.durable_seq() >= first.last_seq);
        assert_eq!(found, []);
    });
    assert_eq!(settled(&wal).len(), 1);
}

#[test]
fn a_walk_shows_what_was_committed_however_the_segment_is_stored() {
    for (mapping, compression) in [(true, false), (false, false), (true, true), (false, true)] {
        let sim = SimVfs::new(SEED).mapping(mapping);
        let set = || options(&sim).segment_bytes(4 << 20).compression(compression);
        let (wal, _, model) = open(set()).unwrap();
        let mut expected = Vec::new();
        for i in 0..300_usize {
            let value = vec![i as u8; if i == 150 { 1 << 20 } else { i * 17 % 6000 }];
            wal.append(&put(&format!("k{i:03}"), &value)).unwrap();
            expected.push((format!("k{i:03}").into_bytes(), value));
        }
        let walk = |wal: &cortenkv_wal::Wal, until: usize| {
            let mut found = Vec::new();
            for info in wal.segments() {
                let reader = wal.segment(info.id).unwrap();
                let walked = reader.for_each_record(&mut |record| {
                    let at = model.versions.lock().unwrap()[record.key].3;
                    assert_eq!(record.location.offset, at.offset);
                    found.push((record.key.to_vec(), record.value.to_vec()));
                    if found.len() < until {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    }
                });
                walked.unwrap();
            }
            found
        };
        assert_eq!(walk(&wal, usize::MAX), expected, "{mapping} {compression}");
        assert_eq!(walk(&wal, 7).len(), 7);
    }
}

// Segments share the counts of commits that are on their way: a busy one does not make another unsettled again.
#[test]
fn a_segment_stays_settled_while_a_commit_is_on_its_way_elsewhere() {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(options(&sim)).unwrap();
    let settled = |id: u64| wal.segments().iter().any(|info| info.id == id && info.settled);
    wal.append(&put("first", b"1")).unwrap();
    wal.seal_active().unwrap();
    wal.sync().unwrap();
    assert!(settled(1));
    let batch = put("key", b"value");
    for _ in 0..100 {
        let mut seen = false;
        wal.append_installing(&batch, Durability::None, |_| seen = settled(1)).unwrap();
        assert!(seen);
        wal.seal_active().unwrap();
    }
}
