//! A protocol that every file system programmer knows: write a new file, sync it, rename it over the old one, sync the
//! directory. Whole, it never shows a torn file or loses an acknowledged one; without either sync it does. So a suite
//! built on this simulator can fail.

use super::*;

const OLD: &[u8] = b"old";
/// More than one page, so that tears can show.
const NEW_BYTES: usize = 9000;
const ACKNOWLEDGED: u64 = 1;

fn replace(sync_file: bool, sync_dir: bool) -> Trace {
    let mut image = Image::new();
    image.insert("db/CURRENT", OLD.to_vec());
    let sim = SimVfs::from_image(image, 7);
    let file = create(&sim, "db/tmp");
    write(&file, 0, &[b'n'; NEW_BYTES]);
    if sync_file {
        file.sync_data().unwrap();
    }
    sim.rename(Path::new("db/tmp"), Path::new("db/CURRENT")).unwrap();
    if sync_dir {
        sim.sync_dir(Path::new("db")).unwrap();
    }
    sim.note(ACKNOWLEDGED);
    sim.trace()
}

/// How many images show a torn file, and how many lose the new one after it was acknowledged.
fn damage(trace: &Trace, model: DiskModel) -> (u32, u32) {
    let (mut torn, mut lost) = (0, 0);
    trace.for_each_crash_point(model, |cursor| {
        let acknowledged = cursor.notes().iter().any(|(_, tag)| *tag == ACKNOWLEDGED);
        for variant in CrashVariant::STANDARD {
            for seed in 0..8 {
                let found = cursor.image(variant, seed).read("db/CURRENT");
                let is_new = found.as_deref() == Some(&[b'n'; NEW_BYTES][..]);
                let is_old = found.as_deref() == Some(OLD);
                torn += u32::from(!is_new && !is_old);
                lost += u32::from(acknowledged && is_old);
            }
        }
    });
    (torn, lost)
}

#[test]
fn a_whole_replacement_is_never_torn_and_never_lost() {
    for model in DiskModel::ALL {
        assert_eq!(damage(&replace(true, true), model), (0, 0), "{model:?}");
    }
}

#[test]
fn a_replacement_without_file_sync_shows_torn_files() {
    for model in DiskModel::ALL {
        let (torn, _) = damage(&replace(false, true), model);
        assert!(torn > 0, "{model:?}");
    }
}

#[test]
fn a_replacement_without_directory_sync_is_lost() {
    for model in DiskModel::ALL {
        let (torn, lost) = damage(&replace(true, false), model);
        assert_eq!(torn, 0, "{model:?}");
        assert!(lost > 0, "{model:?}");
    }
}

#[test]
fn one_seed_gives_one_set_of_images() {
    let hashes = |seed| {
        let mut hashes = Vec::new();
        replace(false, false).for_each_crash_point(DiskModel::Posix, |cursor| {
            for variant in CrashVariant::STANDARD {
                hashes.push(cursor.image(variant, seed).hash());
            }
        });
        hashes
    };
    assert_eq!(hashes(3), hashes(3));
    assert_ne!(hashes(3), hashes(4));
}

#[test]
fn a_walk_and_a_single_image_agree() {
    let trace = replace(false, false);
    trace.for_each_crash_point(DiskModel::Xfs, |cursor| {
        for variant in CrashVariant::STANDARD {
            let single = trace.crash_image(DiskModel::Xfs, cursor.point(), variant, 9);
            assert_eq!(cursor.image(variant, 9), single, "{variant:?} at {}", cursor.point());
        }
    });
}
