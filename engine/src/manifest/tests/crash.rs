//! S1, F1 for the manifest: a power cut or a fault at every operation of a history.

use std::collections::HashSet;

use cortenkv_wal::vfs::sim::{CrashVariant, DiskModel};
use cortenkv_wal::vfs::{FaultKind, FaultPlan, FaultVfs};

use super::*;

/// What a life consists of.
#[derive(Clone)]
enum Step {
    Commit(Edit),
    Forget(u64),
    Renew,
    Reopen,
}

/// The history with renewals and reopenings in it, and jobs so large that the manifest renews itself.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = history().into_iter().map(Step::Commit).collect();
    steps.insert(9, Step::Reopen);
    steps.insert(7, Step::Renew);
    steps.insert(5, Step::Reopen);
    steps.insert(3, Step::Forget(2));
    let first = COMPACTED_ID_MIN + 100;
    steps.push(Step::Commit(job(first..first + 600, 100..700, [])));
    steps.push(Step::Commit(keyspace(3, "between")));
    steps.push(Step::Commit(job([], 700..701, first..first + 600)));
    steps.push(Step::Commit(keyspace(4, "last")));
    steps
}

/// Lives through the steps; `acknowledged` hears how many edits are durable. The first error ends it.
fn live(vfs: &Arc<dyn Vfs>, mut acknowledged: impl FnMut(usize)) -> Result<()> {
    let mut manifest = open(vfs)?;
    let mut edits = 0;
    for step in steps() {
        match step {
            Step::Commit(edit) => {
                manifest.commit(edit)?;
                edits += 1;
                acknowledged(edits);
            }
            Step::Forget(id) => manifest.forget_retired(&[id]),
            Step::Renew => manifest.renew()?,
            Step::Reopen => {
                drop(manifest);
                manifest = open(vfs)?;
            }
        }
    }
    Ok(())
}

/// The states after each number of edits.
fn states() -> Vec<ManifestState> {
    let mut states = vec![ManifestState::default()];
    for step in steps() {
        if let Step::Commit(edit) = step {
            let mut state = states.last().unwrap().clone();
            state.check(&edit).unwrap();
            state.apply(edit);
            states.push(state);
        }
    }
    states.iter().map(without_forgotten).collect()
}

/// A crash may bring back what was forgotten.
fn without_forgotten(state: &ManifestState) -> ManifestState {
    let mut state = state.clone();
    for step in steps() {
        if let Step::Forget(id) = step {
            state.retired.remove(&id);
        }
    }
    state
}

/// Opens twice what a crash left: a prefix of the edits, the same both times, and it can go on.
fn check_survivor(sim: &SimVfs, states: &[ManifestState], acknowledged: usize, at: &str) {
    let mut found = None;
    for opening in 0..2 {
        let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
        let mut manifest = open(&vfs).unwrap_or_else(|error| panic!("{at}: {error}"));
        let state = without_forgotten(manifest.state());
        if opening == 0 {
            let edits = states.iter().rposition(|known| *known == state);
            let edits = edits.unwrap_or_else(|| panic!("{at}: a state that never was"));
            assert!(edits >= acknowledged, "{at}: {edits} edits of {acknowledged} acknowledged");
        } else {
            assert_eq!(Some(&state), found.as_ref(), "{at}: opening {opening}");
        }
        // A creation that a crash ended leaves a manifest to the next opening.
        assert!(manifest_entries(sim).len() <= 2 - opening, "{at}: older manifests go");
        manifest.commit(hold("after the crash", opening as u64)).unwrap();
        found = Some(without_forgotten(manifest.state()));
        let used = states[..=acknowledged].iter().filter_map(|state| state.compacted.keys().max());
        assert!(used.max() < Some(&manifest.next_compacted_id()), "{at}");
    }
}

#[test]
fn crash_every_image_is_a_prefix_of_the_edits() {
    let sim = SimVfs::new(11);
    let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
    live(&vfs, |edits| sim.note(edits as u64)).unwrap();
    let states = states();
    let mut images = HashSet::new();
    for model in DiskModel::ALL {
        sim.trace().for_each_crash_point(model, |cursor| {
            let acknowledged = cursor.notes().iter().map(|(_, tag)| *tag).max().unwrap_or(0);
            for (seed, variant) in
                (0..24).flat_map(|seed| CrashVariant::STANDARD.map(|v| (seed, v)))
            {
                let image = cursor.image(variant, seed);
                if images.insert((acknowledged, image.hash())) {
                    let point = cursor.point();
                    let at = format!("{model:?} point {point} variant {variant:?} seed {seed}");
                    let disk = SimVfs::from_image(image, 1);
                    check_survivor(&disk, &states, acknowledged as usize, &at);
                }
            }
        });
    }
    println!("{} distinct images", images.len());
    assert!(images.len() > 1000, "{} images", images.len());
}

// U11, I7: what failed is told, later edits are refused after all but a full disk, and nothing acknowledged is lost.
#[test]
fn fault_every_operation_fails_once_or_for_good_and_nothing_acknowledged_is_lost() {
    let states = states();
    for (fault, lasts) in [
        (FaultKind::Io, false),
        (FaultKind::Io, true),
        (FaultKind::StorageFull, false),
        (FaultKind::StorageFull, true),
        (FaultKind::Interrupted, false),
        (FaultKind::ShortWrite, false),
        (FaultKind::ZeroWrite, false),
    ] {
        for number in 0.. {
            let sim = SimVfs::new(3);
            let plan = FaultPlan::nth(number, fault);
            let plan = if lasts { plan.for_good() } else { plan };
            let faulty = FaultVfs::with_plan(Arc::new(sim.clone()), plan);
            let vfs: Arc<dyn Vfs> = Arc::new(faulty.clone());
            let mut acknowledged = 0;
            let lived = live(&vfs, |edits| acknowledged = edits);
            let at = format!("{fault:?} at {number}, for good: {lasts}");
            if faulty.counts().total() <= number {
                lived.unwrap();
                assert!(number > 100, "the plan must reach every operation");
                break;
            }
            if let Err(error) = lived {
                assert!(matches!(error.code(), 1 | 7 | 8), "{at}: {error}");
            }
            faulty.set_plan(None);
            check_survivor(&sim, &states, acknowledged, &at);
        }
    }
}

#[test]
fn a_full_disk_refuses_an_edit_and_takes_it_when_there_is_space() {
    let sim = SimVfs::new(1);
    let mut manifest = on(&sim);
    manifest.commit(keyspace(1, "users")).unwrap();
    let first = COMPACTED_ID_MIN;
    let edits = [keyspace(2, "more"), job([first], [1], []), job(first + 1..first + 900, [], [])];
    for edit in edits {
        for spare in [0, 1, 40, 100, 200, 400] {
            sim.set_capacity(Some(sim.used_bytes() + spare));
            let (before, used) = (manifest.state().clone(), manifest_entries(&sim).len());
            match manifest.commit(edit.clone()) {
                Ok(()) => break,
                Err(error) => assert_eq!(error.code(), 8, "{error}"),
            }
            assert_eq!(manifest.state(), &before);
            assert_eq!(manifest_entries(&sim).len(), used, "what could not be finished is gone");
        }
        sim.set_capacity(None);
        if manifest.state().check(&edit).is_ok() {
            manifest.commit(edit).unwrap();
        }
    }
    let state = manifest.state().clone();
    drop(manifest);
    assert_eq!(on(&sim).state(), &state);
}

// A renewal only saves space: where the disk is too full for it, edits go on.
#[test]
fn a_full_disk_puts_a_renewal_off() {
    let sim = SimVfs::new(1);
    let mut manifest = on(&sim);
    let first = COMPACTED_ID_MIN;
    manifest.commit(job(first..first + 900, [], [])).unwrap();
    let number = manifest.number;
    sim.set_capacity(Some(sim.used_bytes() + 40_000));
    manifest.commit(job([], 0..500, [])).unwrap();
    assert_eq!(manifest.number, number, "there was no space for another");
    assert!(manifest.end > RENEW_BYTES_MIN);
    sim.set_capacity(None);
    manifest.commit(keyspace(1, "users")).unwrap();
    assert_eq!(manifest.number, number + 1);
}

#[test]
fn after_a_failed_sync_every_edit_is_refused() {
    let sim = SimVfs::new(1);
    let mut manifest = on(&sim);
    sim.fail_next_sync(std::io::Error::from_raw_os_error(5));
    assert_eq!(manifest.commit(keyspace(1, "users")).unwrap_err().code(), 1);
    assert!(manifest.state().keyspaces.is_empty());
    assert_eq!(manifest.commit(keyspace(2, "more")).unwrap_err().code(), 7);
    assert_eq!(manifest.renew().unwrap_err().code(), 7);
    sim.fail_next_sync(std::io::Error::from_raw_os_error(28));
    drop(manifest);
    let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
    assert_eq!(open(&vfs).unwrap_err().code(), 1, "a failed sync is no full disk");
}
