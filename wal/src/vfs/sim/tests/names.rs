//! What a crash does to names and lengths, without a journal and with one.

use std::collections::BTreeSet;

use super::*;
use CrashVariant as V;
use DiskModel::{Ext4, Posix, Xfs};

fn exists(image: &Image, path: &str) -> bool {
    image.len_of(path).is_some()
}

#[test]
fn an_unsynced_name_is_lost_and_a_synced_one_stays() {
    for model in DiskModel::ALL {
        let sim = SimVfs::new(1);
        durable_file(&sim, "a", b"x");
        sim.rename(Path::new("a"), Path::new("b")).unwrap();
        let image = crash(&sim, model, V::AllLost, 1);
        assert!(exists(&image, "a") && !exists(&image, "b"));
        sim.sync_dir(Path::new("")).unwrap();
        let image = crash(&sim, model, V::AllLost, 1);
        assert!(!exists(&image, "a") && exists(&image, "b"));
        sim.remove_file(Path::new("b")).unwrap();
        assert!(exists(&crash(&sim, model, V::AllLost, 1), "b"));
        assert!(!exists(&crash(&sim, model, V::AllKept, 1), "b"));
    }
}

#[test]
fn a_rename_is_never_seen_half() {
    let sim = SimVfs::new(1);
    durable_file(&sim, "a", b"x");
    sim.rename(Path::new("a"), Path::new("b")).unwrap();
    for model in DiskModel::ALL {
        for variant in CrashVariant::STANDARD {
            for seed in 0..50 {
                let image = crash(&sim, model, variant, seed);
                assert_ne!(exists(&image, "a"), exists(&image, "b"), "{model:?} {variant:?}");
            }
        }
    }
}

#[test]
fn posix_loses_independent_names_independently_and_a_journal_keeps_a_prefix() {
    let sim = SimVfs::new(1);
    create(&sim, "a");
    create(&sim, "b");
    let seen = |model| -> BTreeSet<(bool, bool)> {
        let images = (0..100).map(|seed| crash(&sim, model, V::NamesReordered, seed));
        images.map(|image| (exists(&image, "a"), exists(&image, "b"))).collect()
    };
    let prefixes = BTreeSet::from([(false, false), (true, false), (true, true)]);
    assert_eq!(seen(Ext4), prefixes);
    assert_eq!(seen(Xfs), prefixes);
    assert_eq!(seen(Posix).len(), 4);
}

#[test]
fn a_sync_of_a_new_file_commits_earlier_names_only_where_there_is_a_journal() {
    for model in DiskModel::ALL {
        let sim = SimVfs::new(1);
        create(&sim, "a");
        let b = create(&sim, "b");
        b.sync_data().unwrap();
        create(&sim, "c");
        let image = crash(&sim, model, V::AllLost, 1);
        let journalled = model != Posix;
        assert_eq!(exists(&image, "a"), journalled, "{model:?}");
        assert_eq!(exists(&image, "b"), journalled, "{model:?}");
        assert!(!exists(&image, "c"));
    }
}

#[test]
fn a_sync_of_an_old_file_without_new_length_commits_no_name() {
    let sim = SimVfs::new(1);
    let old = durable_file(&sim, "old", b"x");
    create(&sim, "a");
    write(&old, 0, b"y");
    old.sync_data().unwrap();
    for model in DiskModel::ALL {
        let image = crash(&sim, model, V::AllLost, 1);
        assert!(!exists(&image, "a"));
        assert_eq!(image.read("old").unwrap(), b"y");
    }
}

#[test]
fn a_directory_whose_name_is_lost_takes_its_files_along() {
    let sim = SimVfs::new(1);
    sim.create_dir(Path::new("d")).unwrap();
    durable_file(&sim, "d/a", b"x");
    let image = crash(&sim, Posix, V::AllLost, 1);
    assert_eq!((image.paths().count(), image.dirs().count()), (0, 0));
    sim.sync_dir(Path::new("")).unwrap();
    assert_eq!(crash(&sim, Posix, V::AllLost, 1).read("d/a").unwrap(), b"x");
}

#[test]
fn a_cut_survives_whole_where_there_is_a_journal() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"0123");
    file.set_len(1).unwrap();
    file.allocate(0, 5).unwrap();
    let seen = |model| contents(&sim, model, V::Arbitrary(0), "a");
    let states = |states: &[&[u8]]| states.iter().map(|state| Some(state.to_vec())).collect();
    let journalled: BTreeSet<_> = states(&[b"0123", b"0\0\0\0", b"0", b"0\0\0\0\0"]);
    assert_eq!(seen(Ext4), journalled);
    assert_eq!(seen(Xfs), journalled);
    assert!(seen(Posix).contains(&Some(b"0123\0".to_vec())));
    sim.fail_next_sync(failure());
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    let cut: BTreeSet<_> = states(&[b"0\0\0\0\0"]);
    assert_eq!(seen(Posix), cut, "a cut is metadata: a failed sync does not lose it");
}

#[test]
fn lengths_are_ordered_with_names_where_there_is_a_journal() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"");
    create(&sim, "b");
    file.allocate(0, 10).unwrap();
    create(&sim, "c");
    let seen = |model| -> BTreeSet<_> {
        let variants = [V::Arbitrary(0), V::NamesReordered, V::NamesOnly, V::Prefix, V::AllLost];
        let draws = variants.into_iter().flat_map(|variant| (0..100).map(move |s| (variant, s)));
        let images = draws.map(|(variant, seed)| crash(&sim, model, variant, seed));
        let facts = |image: Image| (exists(&image, "b"), image.len_of("a"), exists(&image, "c"));
        images.map(facts).collect()
    };
    let prefixes = [(false, 0, false), (true, 0, false), (true, 10, false), (true, 10, true)];
    let prefixes = prefixes.map(|(b, len, c)| (b, Some(len), c));
    assert_eq!(seen(Ext4), BTreeSet::from(prefixes));
    assert_eq!(seen(Xfs), BTreeSet::from(prefixes));
    assert_eq!(seen(Posix).len(), 8);
}

#[test]
fn what_the_journal_committed_stays_whatever_else_is_pending() {
    let sim = SimVfs::new(1);
    let file = durable_file(&sim, "a", b"");
    file.allocate(0, 10).unwrap();
    create(&sim, "b").sync_data().unwrap();
    create(&sim, "c");
    for model in [Ext4, Xfs] {
        for variant in CrashVariant::STANDARD {
            let zeroes = BTreeSet::from([Some(vec![0; 10])]);
            assert_eq!(contents(&sim, model, variant, "a"), zeroes, "{model:?} {variant:?}");
        }
    }
}

#[test]
fn names_may_survive_before_bytes() {
    let sim = SimVfs::new(1);
    let file = create(&sim, "a");
    write(&file, 0, b"x");
    for model in DiskModel::ALL {
        assert_eq!(crash(&sim, model, V::NamesOnly, 1).read("a").unwrap(), b"");
    }
}
