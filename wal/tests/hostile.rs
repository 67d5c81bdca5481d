//! Directories that somebody or something else has touched: the right content, an error that names file and offset, or
//! a shorter prefix where no mark covers the end. Never a panic, a wrong value, a hang, or memory without a bound.
#![expect(
    clippy::disallowed_methods,
    reason = "the tests put hostile files on the real file system"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{DIR, Model, SEED, noise, open, options, put, segment_path, segments};
use cortenkv_wal::fuzzing::{GROUP, RECORD, frames, put_frame};
use cortenkv_wal::vfs::sim::Image;
use cortenkv_wal::vfs::{OsVfs, SimVfs};
use cortenkv_wal::{Batch, Damage, Error, ErrorKind, Wal, WalOptions};

/// LIMIT: how long an open of a small directory may take, on a slow machine.
const OPEN_TIME_MAX: Duration = Duration::from_secs(10);

type Content = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

fn open_in(dir: &Path, options: WalOptions) -> Result<Arc<Model>, Error> {
    let model = Arc::new(Model::default());
    Wal::open(dir, options, model.clone()).map(|_| model)
}

/// A log of two segments on the simulator, all of it durable and marked, and what is in it.
fn small_log() -> (Image, Content) {
    let sim = SimVfs::new(SEED);
    let (wal, _, model) = open(options(&sim)).unwrap();
    for i in 0..12_u8 {
        wal.append(&put(&format!("key-{i:02}"), &noise(u64::from(i) + 1, 900))).unwrap();
    }
    let mut batch = Batch::new();
    for i in 0..3 {
        batch.put(0, format!("batch-{i}").as_bytes(), &[i; 700]).unwrap();
    }
    wal.append(&batch).unwrap();
    wal.close().unwrap();
    drop(wal);
    let mut image = sim.image();
    image.remove(format!("{DIR}/LOCK"));
    (image, model.content())
}

/// Opens a damaged image: it shows a part of the content, or names what is damaged and changes nothing.
fn check(image: &Image, content: &Content, what: &str) -> Option<Content> {
    let sim = SimVfs::from_image(image.clone(), SEED);
    let started = Instant::now();
    let outcome = open(options(&sim));
    assert!(started.elapsed() < OPEN_TIME_MAX, "{what}");
    match outcome {
        Ok((_, _, model)) => {
            let found = model.content();
            for (key, value) in &found {
                assert_eq!(content.get(key), Some(value), "{what}: a value from nowhere");
            }
            let of_batch = found.keys().filter(|key| key.starts_with(b"batch")).count();
            assert!(of_batch == 0 || of_batch == 3, "{what}: {of_batch} of 3 records of a batch");
            let singles: Vec<_> = found.keys().filter(|key| key.starts_with(b"key")).collect();
            let prefix: Vec<_> = content.keys().filter(|key| key.starts_with(b"key")).collect();
            assert_eq!(singles, prefix[..singles.len()], "{what}: a hole");
            Some(found)
        }
        Err(refused) => {
            let ErrorKind::Corruption { file, .. } = refused.kind() else {
                panic!("{what}: {refused}")
            };
            assert!(file.starts_with(DIR), "{what}: {refused}");
            let mut left = sim.image();
            left.remove(format!("{DIR}/LOCK"));
            assert!(left == *image, "{what}: a refused log was changed");
            None
        }
    }
}

#[test]
fn a_flipped_byte_is_never_a_wrong_value_and_salvage_keeps_the_other_commits() {
    let (image, content) = small_log();
    let mut refused = 0;
    for path in segments(&image) {
        let bytes = image.read(&path).unwrap();
        let used = frames(&bytes).iter().map(|frame| frame.offset + frame.stored_bytes).max();
        for at in (0..used.unwrap()).step_by(37) {
            let mut damaged = image.clone();
            assert!(damaged.flip_bit(&path, at as u64 * 8 + at as u64 % 8));
            let what = format!("{path} byte {at}");
            if check(&damaged, &content, &what).is_some() {
                continue;
            }
            refused += 1;
            if at % 3 != 0 {
                continue;
            }
            let sim = SimVfs::from_image(damaged.clone(), SEED);
            let (wal, report, model) = open(options(&sim).damage(Damage::Salvage)).unwrap();
            assert!(report.damaged_places > 0, "{what}");
            let found = model.content();
            let lost: Vec<_> = content.keys().filter(|key| !found.contains_key(*key)).collect();
            assert!(lost.len() <= 1 || lost.iter().all(|key| key.starts_with(b"batch")), "{what}");
            assert!(found.iter().all(|(key, value)| content.get(key) == Some(value)), "{what}");
            drop(wal);
            let aside = sim.image().read(format!("{path}.damaged"));
            assert_eq!(aside, damaged.read(&path), "{what}: set aside as it was");
            assert_eq!(open(options(&sim)).unwrap().2.content(), found, "{what}");
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_file_cut_anywhere_is_a_prefix_or_an_error() {
    let (image, content) = small_log();
    let paths = segments(&image);
    for path in &paths {
        let len = image.len_of(path).unwrap();
        for cut in (0..len).step_by(61).chain([1, 7, 8, 2047, 2048, 4095, 4096, 4159, 4160]) {
            let mut damaged = image.clone();
            assert!(damaged.truncate(path, cut));
            let found = check(&damaged, &content, &format!("{path} cut to {cut}"));
            let is_oldest = *path == paths[0];
            let bytes = image.read(path).unwrap();
            let commits = frames(&bytes).into_iter().filter(|frame| frame.kind <= GROUP);
            let cuts_commits = commits
                .filter(|frame| frame.kind == RECORD || frame.kind == GROUP)
                .any(|frame| frame.offset + frame.stored_bytes > cut as usize);
            if is_oldest && cuts_commits {
                assert!(found.is_none(), "{path} cut to {cut}: the next segment knows better");
            }
        }
    }
}

#[test]
fn a_removed_segment_is_an_error_unless_it_is_the_whole_log() {
    let (image, _) = small_log();
    let paths = segments(&image);
    assert!(paths.len() > 1);
    for path in &paths[..paths.len() - 1] {
        let mut damaged = image.clone();
        damaged.remove(path);
        let sim = SimVfs::from_image(damaged, SEED);
        let Err(refused) = open(options(&sim)) else { panic!("{path} is not missed") };
        assert!(refused.is_corruption(), "{refused}");
    }
}

#[test]
fn one_copy_of_a_header_is_enough_and_none_is_damage() {
    let (image, content) = small_log();
    let path = segment_path(1);
    for sectors in [[0, 1], [3, 3], [4, 5], [7, 7]] {
        let mut damaged = image.clone();
        for sector in sectors {
            damaged.zero_sector(&path, sector);
        }
        assert_eq!(check(&damaged, &content, "one copy").as_ref(), Some(&content));
    }
    let mut damaged = image.clone();
    assert!(damaged.zero_sector(&path, 0) && damaged.zero_sector(&path, 4));
    assert!(check(&damaged, &content, "no copy").is_none());
}

#[test]
fn claims_of_unbounded_lengths_cost_neither_memory_nor_time() {
    // Every word of 16 MiB is the head of a frame that claims the rest of the file; and groups that claim 32 MiB of
    // records in a few bytes.
    let (image, _) = small_log();
    let path = segment_path(1);
    let mut bombs = Vec::new();
    let mut words = image.read(&path).unwrap();
    let end = frames(&words).iter().map(|frame| frame.offset + frame.stored_bytes).max().unwrap();
    words.truncate(end);
    for at in (end..16 << 20).step_by(8) {
        let units = ((16 << 20) - at) as u64 / 8;
        let kind = [1_u64, 2, 200][at / 8 % 3];
        words.extend_from_slice(&(units << 32 | kind << 56 | 1).to_le_bytes());
    }
    bombs.push(words);
    let mut groups = image.read(&path).unwrap();
    let mut at = end;
    for i in 0..200_u64 {
        let numbers = (32_u64 << 20) | 0xff_ffff << 32 | 1 << 56;
        // A Snappy stream whose varint claims 32 MiB.
        let body = [&numbers.to_le_bytes()[..], &[0x80, 0x80, 0x80, 0x10, 0, 0, 0, 0]].concat();
        at = put_frame(&mut groups, at, GROUP, (1 << 40) + i, &body);
    }
    bombs.push(groups);
    for bomb in bombs {
        let mut damaged = image.clone();
        damaged.insert(&path, bomb);
        let before = resident_bytes_max();
        let started = Instant::now();
        let _ = open(options(&SimVfs::from_image(damaged, SEED)));
        assert!(started.elapsed() < OPEN_TIME_MAX, "{:?}", started.elapsed());
        let grown = resident_bytes_max().saturating_sub(before);
        assert!(grown < 256 << 20, "{grown} bytes");
    }
}

/// The most memory that this process ever had, in bytes.
fn resident_bytes_max() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn a_path_that_is_no_directory_is_an_invalid_argument() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"not a log").unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(dir.path(), &link).unwrap();
    for path in [&file, &link] {
        let refused = open_in(path, WalOptions::default()).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::InvalidArgument, "{refused}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"not a log");
}

#[test]
fn a_directory_that_others_may_write_to_is_refused_unless_allowed() {
    for mode in [0o777, 0o770, 0o702] {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let refused = open_in(dir.path(), WalOptions::default()).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::InvalidArgument, "{refused}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        open_in(dir.path(), WalOptions::default().allow_writable_by_others(true)).unwrap();
    }
}

#[test]
fn links_fifos_and_directories_in_place_of_a_file_are_refused_at_once() {
    let name = "0000000000000001.seg";
    type Make = fn(&Path);
    let make: [(&str, Make); 4] = [
        ("directory", |path| fs::create_dir(path).unwrap()),
        ("link", |path| std::os::unix::fs::symlink("/etc/passwd", path).unwrap()),
        ("dangling link", |path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
        ("FIFO", |path| {
            let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
            assert!(made.success());
        }),
    ];
    for (what, make) in make {
        for file in [name, "0000000000000001.seg.tmp", "LOCK"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(file);
            make(&path);
            let before = fs::symlink_metadata(&path).unwrap().file_type();
            let started = Instant::now();
            let refused = open_in(dir.path(), WalOptions::default()).unwrap_err();
            assert!(started.elapsed() < Duration::from_secs(1), "{what} as {file}");
            let typed = matches!(refused.kind(), ErrorKind::InvalidArgument | ErrorKind::Io);
            assert!(typed, "{what} as {file}: {refused}");
            assert!(refused.to_string().contains(file), "{refused}");
            assert_eq!(fs::symlink_metadata(&path).unwrap().file_type(), before);
        }
    }
}

#[test]
fn files_that_are_not_ours_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = [
        "notes.txt",
        "1.seg",
        "0000000000000000.seg",
        "000000000000000G.seg",
        "000000000000000A.seg",
        "0000000000000001.seg.damaged",
        "0000000000000001.seg.tmp.tmp",
    ];
    for name in foreign {
        fs::write(dir.path().join(name), name).unwrap();
    }
    for _ in 0..2 {
        open_in(dir.path(), WalOptions::default()).unwrap();
    }
    for name in foreign {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), name);
    }
}

#[test]
fn a_file_longer_than_any_segment_is_read_up_to_the_longest_and_opens() {
    for mapping in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let vfs = || Arc::new(if mapping { OsVfs::new() } else { OsVfs::without_mapping() });
        let with_vfs = || WalOptions::default().vfs(vfs());
        let (wal, _) = Wal::open(dir.path(), with_vfs(), Arc::new(())).unwrap();
        wal.append(&put("key", b"value")).unwrap();
        drop(wal);
        let path = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|e| e == "seg"))
            .unwrap();
        // A hole: the file takes no space.
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        let started = Instant::now();
        let model = open_in(dir.path(), with_vfs()).unwrap();
        assert!(started.elapsed() < OPEN_TIME_MAX);
        assert_eq!(model.keys(), ["key"]);
    }
}
