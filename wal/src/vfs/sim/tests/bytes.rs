//! What a crash does to bytes: stages of sectors, syncs that cover and syncs that fail.

use std::collections::BTreeSet;

use super::*;
use CrashVariant as V;
use DiskModel::{Ext4, Posix, Xfs};

/// The first bytes of the sectors of a file, over many draws.
fn sector_stages(sim: &SimVfs, variant: V) -> BTreeSet<Vec<u8>> {
    let all = contents(sim, Posix, variant, "a").into_iter().flatten();
    all.map(|bytes| bytes.chunks(512).map(|sector| sector[0]).collect()).collect()
}

#[test]
fn a_kill_keeps_everything_that_live_code_saw() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"one");
    write(&file, 2000, b"two");
    file.allocate(4096, 4096).unwrap();
    sim.map_tail(&file, 8192).unwrap().publish(4096, 77);
    create(&sim, "b");
    sim.rename(Path::new("b"), Path::new("c")).unwrap();
    file.set_len(5000).unwrap();
    for model in DiskModel::ALL {
        assert_eq!(crash(&sim, model, V::Kill, 1), sim.image());
        assert_eq!(crash(&sim, model, V::AllKept, 1), sim.image());
    }
}

#[test]
fn sectors_of_an_overwritten_block_are_at_any_stage_they_went_through() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", &[0xA; 1024]);
    write(&file, 0, &[0xB; 1024]);
    write(&file, 0, &[0xC; 1024]);
    let all = [0xA, 0xB, 0xC].into_iter();
    let all: BTreeSet<_> = all.flat_map(|a| [0xA, 0xB, 0xC].map(|b| vec![a, b])).collect();
    assert_eq!(sector_stages(&sim, V::Arbitrary(0)), all);
    let pages: BTreeSet<_> = [0xA, 0xB, 0xC].map(|stage| vec![stage; 2]).into();
    let draws =
        (0..300).map(|seed| crash(&sim, Posix, V::Arbitrary(1), seed).read("a").unwrap()[0]);
    let oldest = draws.filter(|stage| *stage == 0xA).count();
    assert!((75..125).contains(&oldest), "three stages are equally likely, not {oldest} of 300");
    assert_eq!(sector_stages(&sim, V::Arbitrary(1)), pages, "pages of 4 KiB tear whole");
    assert_eq!(sector_stages(&sim, V::Prefix), pages);
    let torn = sector_stages(&sim, V::PrefixTorn512);
    assert!(
        torn.is_subset(&all) && torn.contains(&vec![0xB, 0xC]) && torn.contains(&vec![0xB, 0xA])
    );
    assert!(!torn.contains(&vec![0xC, 0xA]), "only one store is torn");
    assert_eq!(sector_stages(&sim, V::PrefixTorn4096), pages);
}

#[test]
fn parts_of_a_sector_stay_in_the_order_of_their_stores() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", &[0; 512]);
    let tail = sim.map_tail(&file, 512).unwrap();
    tail.store(8, b"body");
    tail.publish(0, 1);
    let heads = contents(&sim, Posix, V::Arbitrary(0), "a").into_iter().flatten();
    let stages: BTreeSet<_> = heads.map(|bytes| (bytes[0], bytes[8])).collect();
    assert_eq!(stages, BTreeSet::from([(0, 0), (0, b'b'), (1, b'b')]));
}

#[test]
fn a_published_head_may_survive_without_the_next_sector_of_its_body() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", &[0; 1024]);
    let tail = sim.map_tail(&file, 1024).unwrap();
    tail.store(8, &[7; 1016]);
    tail.publish(0, 1);
    assert!(sector_stages(&sim, V::Arbitrary(0)).contains(&vec![1, 0]));
}

#[test]
fn a_sync_covers_what_was_written_before_it_started() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"000");
    write(&file, 0, b"1");
    // A racing store between start and end of the sync, as a scheduler would place it.
    let mut trace = sim.trace();
    let begin = trace.push(Op::SyncBegin { file: 0 });
    let data = trace.keep(b"2");
    trace.push(Op::Write { file: 0, offset: 1, data });
    let data = trace.keep(b"3");
    trace.push(Op::Write { file: 0, offset: 3, data });
    trace.push(Op::SyncEnd { file: 0, begin, ok: true });
    for model in DiskModel::ALL {
        let at = |point, variant| trace.crash_image(model, point, variant, 1).read("a").unwrap();
        assert_eq!(at(begin + 3, V::AllLost), b"000", "a sync that has not ended covers nothing");
        assert_eq!(at(begin + 4, V::AllLost), b"100");
        assert_eq!(at(begin + 4, V::AllKept), b"1203");
    }
}

#[test]
fn what_a_failed_sync_missed_is_written_by_no_later_sync() {
    // F2
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", &[b'0'; 1536]);
    write(&file, 0, b"1");
    write(&file, 512, b"1");
    sim.fail_next_sync(failure());
    assert!(file.sync_data().is_err());
    write(&file, 513, b"2");
    write(&file, 1024, b"2");
    file.sync_data().unwrap();
    for model in DiskModel::ALL {
        let bytes = crash(&sim, model, V::AllLost, 1).read("a").unwrap();
        assert_eq!(bytes[0], b'0', "clean pages are not written again");
        assert_eq!(&bytes[512..514], b"12", "a later store takes its sector along");
        assert_eq!(bytes[1024], b'2');
        let kept = crash(&sim, model, V::AllKept, 1).read("a").unwrap();
        assert_eq!(kept[0], b'1', "the bytes may have reached the disk all the same");
    }
    write(&file, 0, b"3");
    file.sync_data().unwrap();
    assert_eq!(crash(&sim, Posix, V::AllLost, 1).read("a").unwrap()[0], b'3');
}

#[test]
fn an_append_whose_sync_failed_may_leave_zeroes_even_on_ext4() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"0");
    write(&file, 1, b"1");
    sim.fail_next_sync(failure());
    assert!(file.sync_data().is_err());
    let seen = contents(&sim, Ext4, V::Arbitrary(0), "a");
    assert!(seen.contains(&Some(b"0\0".to_vec())), "{seen:?}");
    file.sync_data().unwrap();
    assert_eq!(crash(&sim, Ext4, V::AllLost, 1).read("a").unwrap(), b"0\0");
}

#[test]
fn a_stale_lost_store_never_comes_back_over_a_newer_one() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"0");
    write(&file, 0, b"1");
    sim.fail_next_sync(failure());
    assert!(file.sync_data().is_err());
    write(&file, 0, b"2");
    file.sync_data().unwrap();
    for variant in CrashVariant::STANDARD {
        assert_eq!(contents(&sim, Posix, variant, "a"), BTreeSet::from([Some(b"2".to_vec())]));
    }
}

#[test]
fn appended_bytes_follow_their_length_on_ext4_and_not_on_xfs() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"0");
    write(&file, 1, b"1");
    let seen = |model| contents(&sim, model, V::Arbitrary(0), "a");
    let states = |states: &[&[u8]]| states.iter().map(|state| Some(state.to_vec())).collect();
    assert_eq!(seen(Ext4), states(&[b"0", b"01"]));
    assert_eq!(seen(Xfs), states(&[b"0", b"0\0", b"01"]));
    assert_eq!(seen(Posix), states(&[b"0", b"0\0", b"01"]));
}

#[test]
fn reserved_space_has_size_without_data() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"");
    file.allocate(0, 8192).unwrap();
    sim.map_tail(&file, 8192).unwrap().store(0, &[1; 8192]);
    for model in DiskModel::ALL {
        let zero_tails = contents(&sim, model, V::ZeroTail, "a").into_iter().flatten();
        let ends: BTreeSet<_> = zero_tails
            .map(|bytes| {
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                assert!(bytes.len() == 8192 && bytes[..end].iter().all(|byte| *byte == 1));
                end
            })
            .collect();
        assert_eq!(ends.len(), 17, "each of 16 sectors may be the first that is missing: {ends:?}");
    }
}

#[test]
fn zeroes_over_bytes_can_be_lost_like_bytes() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"x");
    write(&file, 0, b"\0");
    let seen = contents(&sim, Posix, V::Arbitrary(0), "a");
    assert_eq!(seen, BTreeSet::from([Some(b"x".to_vec()), Some(b"\0".to_vec())]));
    file.sync_data().unwrap();
    assert_eq!(crash(&sim, Posix, V::AllLost, 1).read("a").unwrap(), b"\0");
}

#[test]
fn a_torn_append_may_or_may_not_lengthen_the_file() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", &[1; 512]);
    write(&file, 512, &[2; 1024]);
    let lens: BTreeSet<_> = sector_stages(&sim, V::PrefixTorn512);
    let expected = [&[1][..], &[1, 0, 0], &[1, 2, 0], &[1, 0, 2], &[1, 2, 2]];
    assert_eq!(lens, expected.iter().map(|stages| stages.to_vec()).collect());
}

#[test]
fn garbage_spares_synced_bytes_unless_the_whole_sector_is_asked_for() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", &[0xA; 512]);
    write(&file, 100, &[0xB; 100]);
    let distinct = |variant| {
        let all: Vec<_> = contents(&sim, Posix, variant, "a").into_iter().flatten().collect();
        let differs = |i: usize| all.iter().any(|bytes| bytes[i] != all[0][i]);
        [99, 100, 199, 200].map(differs)
    };
    assert_eq!(distinct(V::Garbage), [false, true, true, false]);
    assert_eq!(distinct(V::GarbageSector), [true; 4]);
}

#[test]
fn after_a_kill_the_unsynced_is_still_unsynced() {
    // S3
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"0");
    let _lock = sim.lock(Path::new("LOCK")).unwrap();
    write(&file, 0, b"1");
    let killed = sim.point();
    write(&file, 0, b"2");
    let next = SimVfs::after_kill(&sim.trace(), killed, 2);
    assert_eq!(next.image().read("a").unwrap(), b"1");
    assert!(matches!(next.lock(Path::new("LOCK")).unwrap(), LockOutcome::Acquired(_)));
    assert_eq!(crash(&next, Posix, V::AllLost, 1).read("a").unwrap(), b"0");
    next.open(Path::new("a"), OpenMode::Write).unwrap().sync_data().unwrap();
    assert_eq!(crash(&next, Posix, V::AllLost, 1).read("a").unwrap(), b"1");
}

#[test]
fn a_boot_from_an_image_finds_it_durable() {
    let sim = SimVfs::new(1);
    durable_file(&sim, "a", b"x");
    let image = crash(&sim, Posix, V::AllLost, 1);
    let next = SimVfs::from_image(image.clone(), 2);
    assert!(next.trace().is_empty());
    for variant in CrashVariant::STANDARD {
        assert_eq!(crash(&next, Posix, variant, 1), image);
    }
}

#[test]
fn a_synced_disk_has_one_image() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", &[3; 5000]);
    let trace = sim.trace();
    let cursor = trace.cursor_at(Posix, trace.len());
    assert!(!cursor.has_unsynced());
    let images = CrashVariant::STANDARD.map(|variant| cursor.image(variant, 5).hash());
    assert!(images.iter().all(|hash| *hash == images[0]));
    write(&file, 0, b"x");
    assert!(sim.trace().cursor_at(Posix, sim.point()).has_unsynced());
}

#[test]
fn notes_stand_in_the_order_of_the_operations() {
    let sim = SimVfs::new(1);
    sim.note(1);
    let file = create(&sim, "a");
    sim.note(2);
    write(&file, 0, b"x");
    let mut seen = Vec::new();
    sim.trace().for_each_crash_point(Posix, |cursor| seen.push(cursor.notes().to_vec()));
    assert_eq!(seen[1..3], [vec![(0, 1)], vec![(0, 1)]]);
    assert_eq!(seen[4], [(0, 1), (2, 2)]);
    assert_eq!(sim.trace().notes(3).collect::<Vec<_>>(), [1, 2]);
}
