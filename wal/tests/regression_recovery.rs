//! Recovery after rare but legal crashes, of forged files, and after salvage. Each test is a way in which an open once
//! went wrong, or nearly did.

mod common;

use common::{DIR, Model, SEED, noise, open, options, put, segment_path, segments};
use cortenkv_wal::fuzzing::{
    CHAIN, FrameInfo, GROUP, MARK, RECORD, SEAL, frames, put_frame, refinish,
};
use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::vfs::sim::{CrashVariant, DiskModel, Image};
use cortenkv_wal::{
    Batch, Damage, Durability, Error, ErrorKind, Location, TailKind, Wal, WalOptions,
};
use std::sync::Arc;

fn sim_of(image: Image) -> SimVfs {
    SimVfs::from_image(image, SEED)
}

/// The error of an open that must fail.
fn refused(options: WalOptions) -> Error {
    match open(options) {
        Ok((_, report, _)) => panic!("it opened: {report:?}"),
        Err(error) => error,
    }
}

fn lost(sim: &SimVfs) -> Image {
    let trace = sim.trace();
    trace.crash_image(DiskModel::Posix, trace.len(), CrashVariant::AllLost, SEED)
}

/// An image of a log with one segment of `commits` durable commits `k0`, `k1`, ... and the marks that the writer put
/// between them.
fn durable_log(commits: u32, value_bytes: usize, segment_bytes: u64) -> Image {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(options(&sim).segment_bytes(segment_bytes)).unwrap();
    for i in 0..commits {
        wal.append(&put(&format!("k{i}"), &noise(u64::from(i) + 1, value_bytes))).unwrap();
    }
    wal.close().unwrap();
    drop(wal);
    sim.image()
}

/// Changes the bytes of a file of an image.
fn edit(image: &mut Image, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = image.read(path).unwrap();
    change(&mut bytes);
    image.insert(path, bytes);
}

fn frames_of(image: &Image, path: &str, kind: u8) -> Vec<FrameInfo> {
    let bytes = image.read(path).unwrap();
    frames(&bytes).into_iter().filter(|frame| frame.kind == kind).collect()
}

#[test]
fn a_chain_frame_that_outlives_the_segment_before_it_is_a_crash_and_not_damage() {
    for tail in [TailKind::Mapped, TailKind::Written] {
        let sim = SimVfs::new(SEED);
        let relaxed = || options(&sim).durability(Durability::None).tail(tail);
        let (wal, _, _) = open(relaxed()).unwrap();
        let mut i = 0;
        while wal.stats().rotations == 0 {
            wal.append(&put(&format!("k{i}"), &noise(1, 500))).unwrap();
            i += 1;
        }
        // The disk wrote the second segment back early, and nothing of the first.
        let (mut image, kept) = (lost(&sim), sim.image());
        let second = segment_path(2);
        image.insert(&second, kept.read(&second).unwrap());
        assert_eq!(frames_of(&image, &second, CHAIN).len(), 1);
        let (_, report, model) = open(options(&sim_of(image))).unwrap();
        assert_eq!((report.records, model.keys().len()), (0, 0), "{tail:?}");
    }
}

#[test]
fn a_log_that_was_purged_empty_opens_again_and_again() {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(options(&sim)).unwrap();
    for i in 0..100 {
        wal.append(&put(&format!("k{i}"), &noise(1, 500))).unwrap();
    }
    let last = wal.last_seq();
    drop(wal);
    let (wal, _, _) = open(options(&sim)).unwrap();
    assert!(wal.purge(u64::MAX).unwrap() > 0);
    drop(wal);
    for reopen in 0..4 {
        let (wal, report, _) = open(options(&sim)).unwrap_or_else(|e| panic!("{reopen}: {e}"));
        assert_eq!(report.records, 0);
        assert!(wal.last_seq() > last, "numbers are not given out again");
    }
}

#[test]
fn damage_before_incompressible_values_is_told_from_a_torn_tail() {
    let mut image = durable_log(60, 8000, 1 << 20);
    let path = segment_path(1);
    let third = frames_of(&image, &path, RECORD)[2];
    assert!(image.flip_bit(&path, (third.offset as u64 + 40) * 8));
    let refused = refused(options(&sim_of(image)));
    let ErrorKind::Corruption { file, offset, .. } = refused.kind() else { panic!("{refused}") };
    assert_eq!(file.display().to_string(), path);
    assert_eq!(*offset, third.offset as u64);
}

#[test]
fn salvage_keeps_every_other_commit_and_the_log_opens_without_it_afterwards() {
    let mut image = durable_log(40, 8000, 1 << 20);
    let path = segment_path(1);
    let fifth = frames_of(&image, &path, RECORD)[4];
    assert!(image.flip_bit(&path, (fifth.offset as u64 + 40) * 8));
    let damaged = image.read(&path).unwrap();
    let sim = sim_of(image.clone());
    let refused = refused(options(&sim));
    assert!(refused.is_corruption(), "{refused}");
    assert_eq!(without_lock(sim.image()), without_lock(image), "nothing was changed");
    let (wal, report, model) = open(options(&sim).damage(Damage::Salvage)).unwrap();
    assert_eq!((report.records, model.keys().len()), (39, 39));
    assert!(report.damaged_places > 0);
    assert!(!model.keys().contains(&"k4".to_owned()));
    drop(wal);
    let set_aside = sim.image().read(format!("{path}.damaged"));
    assert_eq!(set_aside.as_ref(), Some(&damaged), "what was damaged stays to be looked at");
    for reopen in 0..3 {
        let (wal, _, again) = open(options(&sim)).unwrap_or_else(|e| panic!("{reopen}: {e}"));
        assert_eq!(again.content().len(), 39 + reopen);
        wal.append(&put(&format!("new{reopen}"), b"value")).unwrap();
    }
}

#[test]
fn salvage_of_a_lost_durable_tail_opens_without_it_afterwards() {
    // The last durable commits are gone, and only a mark in the next segment knows of them.
    let mut image = durable_log(80, 300, 16 << 10);
    let path = segment_path(1);
    let last = *frames_of(&image, &path, RECORD).last().unwrap();
    assert!(image.flip_bit(&path, (last.offset as u64 + 40) * 8));
    let sim = sim_of(image);
    let (wal, _, model) = open(options(&sim).damage(Damage::Salvage)).unwrap();
    assert_eq!(model.keys().len(), 79);
    drop(wal);
    assert_eq!(open(options(&sim)).unwrap().2.content(), model.content());
    // The newest segment: nothing intact stands behind the damage but a mark.
    let (wal, _, _) = open(options(&sim)).unwrap();
    wal.append(&put("last", b"value")).unwrap();
    drop(wal);
    let mut image = sim.image();
    let newest = segments(&image).pop().unwrap();
    let last = *frames_of(&image, &newest, RECORD).last().unwrap();
    edit(&mut image, &newest, |bytes| {
        let end = last.offset + last.stored_bytes;
        put_frame(bytes, end, MARK, last.seq, &[0; 8]);
        bytes[last.offset + 20] ^= 1;
    });
    let sim = sim_of(image);
    assert!(refused(options(&sim)).is_corruption());
    let (_, _, model) = open(options(&sim).damage(Damage::Salvage)).unwrap();
    assert_eq!(model.keys().len(), 79);
    assert_eq!(open(options(&sim)).unwrap().2.content(), model.content());
}

#[test]
fn salvage_does_not_tear_a_batch() {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(options(&sim)).unwrap();
    wal.append(&put("before", b"1")).unwrap();
    let mut batch = Batch::new();
    for i in 0..5 {
        batch.put(0, format!("batch{i}").as_bytes(), b"value").unwrap();
    }
    wal.append(&batch).unwrap();
    wal.append(&put("after", b"1")).unwrap();
    drop(wal);
    let mut image = sim.image();
    let path = segment_path(1);
    let group = frames_of(&image, &path, GROUP)[0];
    assert!(image.flip_bit(&path, (group.offset as u64 + 17) * 8));
    let sim = sim_of(image);
    let (_, _, model) = open(options(&sim).damage(Damage::Salvage)).unwrap();
    assert_eq!(model.keys(), ["after", "before"]);
}

#[test]
fn salvage_over_several_segments_keeps_log_order_so_that_a_purge_takes_nothing_newer() {
    let mut image = durable_log(200, 300, 16 << 10);
    // The first segment is damaged early: the rest of it is copied behind nothing newer.
    let path = segment_path(1);
    let second = frames_of(&image, &path, RECORD)[1];
    assert!(image.flip_bit(&path, (second.offset as u64 + 40) * 8));
    let sim = sim_of(image);
    let (wal, _, model) = open(options(&sim).damage(Damage::Salvage)).unwrap();
    assert_eq!(model.keys().len(), 199);
    let seqs: Vec<u64> = segments(&sim.image())
        .iter()
        .flat_map(|path| frames_of(&sim.image(), path, RECORD))
        .map(|frame| frame.seq)
        .collect();
    assert!(seqs.is_sorted() && !seqs.is_empty(), "{seqs:?}");
    drop(wal);
    assert_eq!(open(options(&sim)).unwrap().2.content(), model.content());
}

/// The one file of a log with two commits, ready to be forged behind them.
fn small_log() -> (Image, String, usize) {
    let mut image = durable_log(2, 20, 16 << 10);
    let path = segment_path(1);
    let last = *frames_of(&image, &path, RECORD).last().unwrap();
    let end = last.offset + last.stored_bytes;
    edit(&mut image, &path, |bytes| bytes[end..].fill(0));
    (image, path, end)
}

fn without_lock(mut image: Image) -> Image {
    image.remove(format!("{DIR}/LOCK"));
    image
}

#[test]
fn a_codec_that_this_build_does_not_have_is_refused_before_any_write() {
    let (mut image, path, end) = small_log();
    let numbers = 64_u64 | 1 << 32 | 9 << 56;
    let body = [&numbers.to_le_bytes()[..], &[0; 64]].concat();
    edit(&mut image, &path, |bytes| {
        put_frame(bytes, end, GROUP, 1 << 31, &body);
    });
    for damage in [Damage::Refuse, Damage::Salvage] {
        let sim = sim_of(image.clone());
        let refused = refused(options(&sim).damage(damage));
        assert_eq!(*refused.kind(), ErrorKind::Unsupported, "{refused}");
        assert_eq!(without_lock(sim.image()), without_lock(image.clone()));
    }
}

#[test]
fn forged_groups_are_not_taken_for_commits() {
    for (raw_bytes, count, codec, padding) in [
        (0xffff_fff8_u64, 1_u64, 0_u64, 0_u64),
        (0xffff_fff8, 1, 1, 0),
        (64 << 20, 1, 1, 0),
        (64, 0xff_ffff, 0, 0),
        (64, 2, 0, 0),
        (64, 1, 1, 7),
    ] {
        let (mut image, path, end) = small_log();
        let numbers = raw_bytes | count << 32 | codec << 56 | padding << 60;
        let body = [&numbers.to_le_bytes()[..], &[0; 64]].concat();
        edit(&mut image, &path, |bytes| {
            put_frame(bytes, end, GROUP, 1 << 31, &body);
        });
        let (_, _, model) = open(options(&sim_of(image.clone()))).unwrap();
        assert_eq!(model.keys(), ["k0", "k1"], "raw {raw_bytes} count {count} codec {codec}");
        // A mark that calls it durable makes damage of it; salvage then goes without it.
        edit(&mut image, &path, |bytes| {
            let behind = frames(bytes).last().map(|frame| frame.offset + frame.stored_bytes);
            put_frame(bytes, behind.unwrap(), MARK, 1 << 31, &[0; 8]);
        });
        let sim = sim_of(image);
        assert!(refused(options(&sim)).is_corruption());
        let (_, _, model) = open(options(&sim).damage(Damage::Salvage)).unwrap();
        assert_eq!(model.keys(), ["k0", "k1"]);
    }
}

#[test]
fn sequence_numbers_at_the_end_of_their_range_are_refused_and_nothing_wraps() {
    for seq in [u64::MAX, u64::MAX - 1, u64::MAX - (1 << 30), u64::MAX / 2 + 1] {
        let (mut image, path, end) = small_log();
        let body = [&[0, 0, 1, 1][..], b"kv", &[0; 2]].concat();
        edit(&mut image, &path, |bytes| {
            put_frame(bytes, end, RECORD, seq, &body);
        });
        let (wal, report, _) = open(options(&sim_of(image.clone()))).unwrap();
        assert_eq!(report.records, 2, "no log has come that far, so it is taken for a torn tail");
        wal.append(&put("k", b"v")).unwrap();
        edit(&mut image, &path, |bytes| {
            put_frame(bytes, end, MARK, seq, &[0; 8]);
        });
        open(options(&sim_of(image))).unwrap();
    }
    for seq in [u64::MAX / 2, u64::MAX / 2 - (1 << 30)] {
        let (mut image, path, end) = small_log();
        let body = [&[0, 0, 1, 1][..], b"kv", &[0; 2]].concat();
        edit(&mut image, &path, |bytes| {
            put_frame(bytes, end, RECORD, seq, &body);
        });
        let refused = refused(options(&sim_of(image)));
        assert_eq!(*refused.kind(), ErrorKind::LimitExceeded, "{refused}");
    }
}

#[test]
fn segment_ids_at_the_end_of_their_range_are_refused_before_any_write() {
    for name in ["ffffffffffffffff.seg", "ffffffffffffffff.seg.tmp", "fffffffffffffffe.seg"] {
        let (mut image, path, _) = small_log();
        let mut forged = image.read(&path).unwrap();
        let id = u64::from_str_radix(&name[..16], 16).unwrap();
        for copy in 0..2 {
            forged[copy * 2048 + 72..][..8].copy_from_slice(&id.to_le_bytes());
        }
        refinish(&mut forged);
        image.insert(format!("{DIR}/{name}"), forged);
        let sim = sim_of(image.clone());
        let refused = refused(options(&sim));
        assert_eq!(*refused.kind(), ErrorKind::InvalidArgument, "{refused}");
        assert_eq!(without_lock(sim.image()), without_lock(image));
    }
}

#[test]
fn a_predecessor_end_that_is_no_end_of_a_frame_is_damage() {
    let image = durable_log(120, 300, 16 << 10);
    let second = segment_path(2);
    let true_end = {
        let seal = frames_of(&image, &segment_path(1), SEAL)[0];
        (seal.offset + seal.stored_bytes) as u32
    };
    for (stored, logical) in [
        (0, 0),
        (8, 8),
        (4095, 4095),
        (4096, 4096),
        (true_end - 8, true_end - 8),
        (true_end, true_end - 8),
        (true_end, 0),
        (true_end + 8, true_end + 8),
        (16 << 10, 16 << 10),
        (1 << 20, 1 << 20),
        (u32::MAX - 7, u32::MAX - 7),
    ] {
        let mut forged = image.clone();
        edit(&mut forged, &second, |bytes| {
            bytes[4096 + 24..][..4].copy_from_slice(&stored.to_le_bytes());
            bytes[4096 + 28..][..4].copy_from_slice(&logical.to_le_bytes());
            refinish(bytes);
        });
        let sim = sim_of(forged.clone());
        let refused = refused(options(&sim));
        assert!(refused.is_corruption(), "{stored}, {logical}: {refused}");
        assert_eq!(without_lock(sim.image()), without_lock(forged), "{stored}, {logical}");
        let (_, _, model) = open(options(&sim).damage(Damage::Salvage)).unwrap();
        assert_eq!(model.keys().len(), 120, "{stored}, {logical}");
    }
}

#[test]
fn chain_frames_that_point_at_themselves_forward_or_nowhere_end() {
    for predecessor in [2_u64, 3, 99, u64::MAX] {
        let mut image = durable_log(120, 300, 16 << 10);
        edit(&mut image, &segment_path(2), |bytes| {
            bytes[4096 + 16..][..8].copy_from_slice(&predecessor.to_le_bytes());
            refinish(bytes);
        });
        let refused = refused(options(&sim_of(image)));
        assert!(refused.is_corruption(), "{predecessor}: {refused}");
    }
}

#[test]
fn a_segment_shorter_than_any_that_was_finished_is_damage() {
    for len in [0, 1, 2047, 2048, 4095, 4096, 4096 + 63] {
        let (mut image, path, _) = small_log();
        assert!(image.truncate(&path, len));
        let refused = refused(options(&sim_of(image)));
        assert!(refused.is_corruption(), "{len}: {refused}");
    }
}

#[test]
fn a_place_in_a_compressed_commit_that_was_copied_away_is_refused() {
    let sim = SimVfs::new(SEED);
    let relaxed =
        || options(&sim).durability(Durability::None).compression(true).segment_bytes(1 << 20);
    let (wal, _, _) = open(relaxed()).unwrap();
    for i in 0..40 {
        wal.append(&put(&format!("plain{i}"), &noise(3, 3000))).unwrap();
    }
    wal.sync().unwrap();
    wal.append(&put("mark carrier", b"v")).unwrap();
    let mut batch = Batch::new();
    batch.put(0, b"squeezed", &[5; 20_000]).unwrap();
    batch.put(0, b"second", &[6; 20_000]).unwrap();
    wal.append(&batch).unwrap();
    let kept = sim.image();
    drop(wal);
    let (wal, report, model) = open(options(&sim_of(kept)).segment_bytes(1 << 20)).unwrap();
    assert!(report.bytes_copied > 0 && report.segments == 1);
    let place = model.versions.lock().unwrap()[&b"squeezed"[..]].3;
    assert_eq!(wal.read(place).unwrap().value, vec![5; 20_000]);
    for offset in (0..400_000).step_by(8) {
        for segment in 1..=place.segment {
            let asked = Location { segment, offset };
            if let Ok(record) = wal.read(asked) {
                let known = model.versions.lock().unwrap();
                assert_eq!(known[&record.key[..]].3, asked, "a record from nowhere");
            }
        }
    }
}

#[test]
fn a_tail_that_needs_several_segments_is_copied_whole() {
    let sim = SimVfs::new(SEED);
    let relaxed = || {
        options(&sim)
            .durability(Durability::None)
            .compression(true)
            .segment_bytes(64 << 20)
            .window_bytes(1 << 20)
    };
    let (wal, _, _) = open(relaxed()).unwrap();
    // 16 MiB each that compress to less than 1 MiB: one segment holds three in its 64 MiB of addresses.
    for i in 0..5_u8 {
        wal.append(&put(&format!("k{i}"), &vec![i; 16 << 20])).unwrap();
    }
    let kept = sim.image();
    drop(wal);
    let sim = sim_of(kept);
    let relaxed = options(&sim).segment_bytes(64 << 20).window_bytes(1 << 20);
    let (wal, report, model) = open(relaxed.clone()).unwrap();
    assert_eq!((report.records, model.keys().len()), (5, 5));
    assert!(segments(&sim.image()).len() > 1);
    for (key, version) in model.versions.lock().unwrap().iter() {
        let record = wal.read(version.3).unwrap();
        assert_eq!((&record.key[..], record.value.len()), (&key[..], 16 << 20));
    }
    let first_seqs: Vec<u64> = model.versions.lock().unwrap().values().map(|v| v.0).collect();
    assert!(first_seqs.is_sorted());
    drop(wal);
    // A crash at every operation of that copy leaves the same log.
    let trace = sim.trace();
    for point in (0..=trace.len()).step_by(trace.len().div_ceil(3)) {
        for variant in [CrashVariant::AllLost, CrashVariant::Arbitrary(1)] {
            let image = trace.crash_image(DiskModel::Posix, point, variant, SEED);
            let (_, _, again) =
                open(options(&sim_of(image)).segment_bytes(64 << 20).window_bytes(1 << 20))
                    .unwrap_or_else(|e| panic!("point {point} {variant:?}: {e}"));
            assert_eq!(again.keys(), model.keys(), "point {point} {variant:?}");
        }
    }
}

#[test]
fn a_purge_of_unpublished_neighbours_is_seen_by_the_next_open() {
    // A purge frame that survives a power cut although the files that it names were not removed yet.
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(options(&sim)).unwrap();
    let mut seqs = Vec::new();
    for i in 0..200 {
        seqs.push(wal.append(&put(&format!("k{i:03}"), &noise(1, 300))).unwrap());
    }
    let point = sim.point();
    wal.purge(seqs[120]).unwrap();
    drop(wal);
    let trace = sim.trace();
    for at in point..=trace.len() {
        for variant in CrashVariant::STANDARD {
            let image = trace.crash_image(DiskModel::Posix, at, variant, SEED);
            let (_, _, model) = open(options(&sim_of(image)))
                .unwrap_or_else(|e| panic!("point {at} {variant:?}: {e}"));
            let kept: Vec<_> = (120..200).map(|i| format!("k{i:03}")).collect();
            assert!(kept.iter().all(|key| model.keys().contains(key)), "point {at} {variant:?}");
        }
    }
}

#[test]
fn a_log_of_another_owner_is_refused_and_left_alone() {
    let (image, _, _) = small_log();
    let sim = sim_of(image.clone());
    let refused = Wal::open(DIR, owned(options(&sim)), Arc::new(Model::default())).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::InvalidArgument);
    assert_eq!(without_lock(sim.image()), without_lock(image));
}

fn owned(options: WalOptions) -> WalOptions {
    options.owner([9; 16])
}

/// Numbers that follow from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// One life of a log: random commits, syncs, purges and rotations, and no clean close half of the time.
fn live(random: &mut Random, sim: &SimVfs, life: u64, seed: u64) -> Vec<u64> {
    let modes = [Durability::Always, Durability::None, Durability::EveryN(3)];
    let tails = [TailKind::Mapped, TailKind::Written];
    let set = options(sim)
        .durability(modes[random.below(3) as usize])
        .tail(tails[random.below(2) as usize])
        .compression(random.below(2) == 0);
    let (wal, report, _) = open(set).unwrap_or_else(|e| panic!("seed {seed} life {life}: {e}"));
    assert_eq!(report.damaged_places, 0, "seed {seed} life {life}");
    let mut seqs = Vec::new();
    for i in 0..random.below(60) {
        let size = [20, 300, 3000, 6000][random.below(4) as usize];
        let mut batch = Batch::new();
        for part in 0..=random.below(3) {
            batch.put(0, format!("{life}-{i}-{part}").as_bytes(), &vec![i as u8; size]).unwrap();
        }
        seqs.push(wal.append(&batch).unwrap());
        match random.below(12) {
            0 => drop(wal.sync()),
            1 => drop(wal.step()),
            2 if random.below(4) == 0 => {
                let below = if random.below(3) == 0 { u64::MAX } else { seqs[seqs.len() / 2] };
                wal.purge(below).unwrap();
            }
            _ => {}
        }
    }
    if random.below(2) == 0 {
        wal.close().unwrap();
    }
    seqs
}

#[test]
fn crash_after_crash_is_never_taken_for_damage() {
    let seeds: u64 = std::env::var("CORTENKV_SEEDS").map_or(8, |text| text.parse().unwrap());
    for seed in 0..seeds {
        let mut random = Random(seed);
        let mut image = Image::new();
        for life in 0..6 {
            let sim = SimVfs::from_image(image, seed * 100 + life);
            live(&mut random, &sim, life, seed);
            let trace = sim.trace();
            let crash = |random: &mut Random| {
                let point = random.below(trace.len() as u64 + 1) as usize;
                let variant = CrashVariant::STANDARD[random.below(13) as usize];
                (point, variant, random.below(1 << 30))
            };
            for _ in 0..25 {
                let (point, variant, salt) = crash(&mut random);
                let crashed = trace.crash_image(DiskModel::Posix, point, variant, salt);
                let what = format!("seed {seed} life {life} point {point} {variant:?} {salt}");
                let sim = sim_of(crashed);
                let (_, report, first) =
                    open(options(&sim)).unwrap_or_else(|e| panic!("{what}: {e}"));
                assert_eq!(report.damaged_places, 0, "{what}");
                let (_, _, second) =
                    open(options(&sim)).unwrap_or_else(|e| panic!("{what}, again: {e}"));
                assert_eq!(first.content(), second.content(), "{what}");
            }
            let (point, variant, salt) = crash(&mut random);
            image = trace.crash_image(DiskModel::Posix, point, variant, salt);
        }
    }
}
