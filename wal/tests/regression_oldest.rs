//! Chain and purge frames say which segment of a log is the oldest, and the largest of these numbers decides where the log
//! begins. None of them may hide a segment that an open has shown. The first case was found by the fuzzer.

mod common;

use common::{DIR, Model, SEED, noise, open, options, put, segment_path, segments};
use cortenkv_wal::fuzzing::{CHAIN, HEADER_BYTES, PURGE, RECORD, frames, put_frame, refinish};
use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::vfs::sim::Image;
use cortenkv_wal::{Damage, Result, WalOptions};
use std::sync::Arc;

/// Where the oldest segment stands in a chain frame.
const CHAIN_OLDEST: usize = 40;

/// A log of one segment with `k0`, `k1`, ...; only the last commit has no mark behind it.
fn one_segment(commits: u32) -> Image {
    let sim = SimVfs::new(SEED);
    let (wal, _, _) = open(options(&sim)).unwrap();
    for i in 0..commits {
        wal.append(&put(&format!("k{i}"), &noise(u64::from(i) + 1, 1000))).unwrap();
    }
    let image = sim.image();
    assert_eq!(records(&image, &segment_path(1)), commits as usize);
    image
}

fn records(image: &Image, path: &str) -> usize {
    let bytes = image.read(path).unwrap();
    frames(&bytes).iter().filter(|frame| frame.kind == RECORD).count()
}

/// Changes the bytes of a file of an image, and makes the checksums right again.
fn forge(image: &mut Image, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = image.read(path).unwrap();
    change(&mut bytes);
    refinish(&mut bytes);
    image.insert(path, bytes);
}

fn set_chain_oldest(image: &mut Image, path: &str, oldest: u64) {
    forge(image, path, |bytes| {
        assert_eq!(frames(bytes)[0].kind, CHAIN);
        bytes[HEADER_BYTES + CHAIN_OLDEST..][..8].copy_from_slice(&oldest.to_le_bytes());
    });
}

/// Opens a log and goes on opening it: what the first open shows, all show.
fn settles(options: &WalOptions, damage: Damage) -> Result<Arc<Model>> {
    let (wal, _, first) = open(options.clone().damage(damage))?;
    drop(wal);
    for reopen in 0..3 {
        let (_, _, again) = open(options.clone()).unwrap_or_else(|e| panic!("{reopen}: {e}"));
        assert_eq!(again.keys(), first.keys(), "reopened {reopen} times");
    }
    Ok(first)
}

#[test]
fn a_first_frame_that_calls_its_own_segment_purged_is_damage() {
    for oldest in [2, 3, 1 << 40, u64::MAX] {
        let mut image = one_segment(8);
        set_chain_oldest(&mut image, &segment_path(1), oldest);
        let options = options(&SimVfs::from_image(image, SEED));
        let refused = settles(&options, Damage::Refuse).unwrap_err();
        assert!(refused.is_corruption(), "{oldest}: {refused}");
        let model = settles(&options, Damage::Salvage).unwrap();
        assert_eq!(model.keys().len(), 8, "{oldest}");
    }
}

#[test]
fn a_purge_frame_that_calls_its_own_segment_purged_is_no_part_of_the_log() {
    for oldest in [2_u64, 1 << 40, u64::MAX] {
        let mut image = one_segment(8);
        forge(&mut image, &segment_path(1), |bytes| {
            let last = *frames(bytes).last().unwrap();
            let end = last.offset + last.stored_bytes;
            put_frame(bytes, end, PURGE, last.seq, &oldest.to_le_bytes());
        });
        let options = options(&SimVfs::from_image(image, SEED));
        assert_eq!(settles(&options, Damage::Refuse).unwrap().keys().len(), 8, "{oldest}");
    }
}

#[test]
fn a_log_that_names_no_oldest_segment_keeps_those_before_the_new_one() {
    let mut image = one_segment(8);
    set_chain_oldest(&mut image, &segment_path(1), 0);
    let options = options(&SimVfs::from_image(image, SEED));
    assert_eq!(settles(&options, Damage::Refuse).unwrap().keys().len(), 8);
}

#[test]
fn a_salvage_into_several_segments_without_any_first_frame_left_keeps_them_all() {
    let sim = SimVfs::new(SEED);
    let large =
        |sim: &SimVfs| options(sim).compression(true).segment_bytes(64 << 20).window_bytes(1 << 20);
    let (wal, _, _) = open(large(&sim)).unwrap();
    // 8 MiB each, of which compression takes more than half: one segment holds seven in its 64 MiB of addresses.
    let mut value = noise(1, 3 << 20);
    value.resize(8 << 20, 0);
    for i in 0..10 {
        wal.append(&put(&format!("k{i}"), &value)).unwrap();
    }
    wal.close().unwrap();
    drop(wal);
    let mut image = sim.image();
    let damaged: Vec<_> = segments(&image)
        .into_iter()
        .filter(|path| image.flip_bit(path, (HEADER_BYTES as u64 + 20) * 8))
        .collect();
    assert!(damaged.len() > 1, "{damaged:?}");
    assert!(damaged.iter().all(|path| path.starts_with(DIR)));
    let options = large(&SimVfs::from_image(image, SEED));
    assert!(settles(&options, Damage::Refuse).unwrap_err().is_corruption());
    assert_eq!(settles(&options, Damage::Salvage).unwrap().keys().len(), 10);
}
