//! Each planned fault strikes the operation that it names, and no other.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::super::sim::{CrashVariant, DiskModel};
use super::super::{OsVfs, SimVfs, write_all_at};
use super::*;

fn over_sim() -> (SimVfs, FaultVfs) {
    let sim = SimVfs::new(1);
    let faulty = FaultVfs::new(Arc::new(sim.clone()));
    (sim, faulty)
}

/// A run that calls every kind of operation.
fn run(vfs: &FaultVfs, root: &Path) -> io::Result<()> {
    let dir = root.join("d");
    vfs.create_dir(&dir)?;
    let lock = vfs.lock(&dir.join("LOCK"))?;
    let file = vfs.open(&dir.join("tmp"), OpenMode::CreateNew)?;
    file.allocate(0, 8192)?;
    write_all_at(file.as_ref(), b"hello", 0)?;
    let tail = vfs.map_tail(&file, 8192)?;
    tail.store(16, b"world");
    tail.publish(8, 5);
    file.sync_data()?;
    file.set_len(4096)?;
    vfs.rename(&dir.join("tmp"), &dir.join("file"))?;
    vfs.sync_dir(&dir)?;
    assert_eq!(vfs.list(&dir)?.len(), 2);
    assert_eq!(vfs.metadata(&dir.join("file"))?.len, 4096);
    let file = vfs.open(&dir.join("file"), OpenMode::Read)?;
    assert_eq!(file.len()?, 4096);
    let mut buf = [0; 5];
    file.read_at(&mut buf, 16)?;
    assert_eq!(&buf, b"world");
    assert_eq!(vfs.map_read(&file, 4096)?.bytes(0, 5), b"hello");
    vfs.fill_random(&mut buf)?;
    vfs.remove_file(&dir.join("file"))?;
    drop(lock);
    Ok(())
}

#[test]
fn every_operation_of_a_run_can_fail_once() {
    let (_, counting) = over_sim();
    run(&counting, Path::new("")).unwrap();
    let counts = counting.counts();
    assert!(OpKind::ALL.iter().all(|kind| counts.of(*kind) > 0), "{counts:?}");
    for number in 0..counts.total() {
        let (_, faulty) = over_sim();
        faulty.set_plan(Some(FaultPlan::nth(number, FaultKind::Io)));
        let error = run(&faulty, Path::new("")).expect_err("the run goes through every operation");
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert_eq!((faulty.counts().fired(), faulty.counts().total()), (1, number + 1));
    }
}

#[test]
fn a_run_over_the_real_file_system_passes_and_fails_alike() {
    let dir = tempfile::tempdir().unwrap();
    let faulty = FaultVfs::new(Arc::new(OsVfs::new()));
    run(&faulty, dir.path()).unwrap();
    let plan = FaultPlan::nth_of(OpKind::SyncData, 1, FaultKind::Io);
    faulty.set_plan(Some(plan));
    assert!(run(&faulty, dir.path()).is_err());
    assert_eq!(faulty.counts().fired(), 1);
}

#[test]
fn a_fault_of_one_kind_leaves_the_others_alone() {
    for kind in OpKind::ALL {
        let (_, faulty) = over_sim();
        faulty.set_plan(Some(FaultPlan::nth_of(kind, 0, FaultKind::StorageFull)));
        let error = run(&faulty, Path::new("")).expect_err("each kind is called");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(faulty.counts().of(kind), 1);
    }
}

#[test]
fn each_fault_has_the_error_of_its_name() {
    let kinds = [
        (FaultKind::StorageFull, io::ErrorKind::StorageFull),
        (FaultKind::QuotaExceeded, io::ErrorKind::QuotaExceeded),
        (FaultKind::Interrupted, io::ErrorKind::Interrupted),
    ];
    for (fault, kind) in kinds {
        assert_eq!(fault.error().map(|error| error.kind()), Some(kind));
    }
    let raw = |fault: FaultKind| fault.error().and_then(|error| error.raw_os_error());
    assert_eq!(raw(FaultKind::TooManyFiles), Some(Errno::MFILE.raw_os_error()));
    assert_eq!(raw(FaultKind::ShortWrite), None);
}

#[test]
fn a_fault_for_good_stays_until_it_is_repaired() {
    let (sim, faulty) = over_sim();
    faulty.set_plan(Some(FaultPlan::nth_of(OpKind::Write, 1, FaultKind::Io).for_good()));
    let file = faulty.open(Path::new("a"), OpenMode::CreateNew).unwrap();
    let write = || file.write_at(b"x", 0).is_ok();
    assert_eq!([write(), write(), write()], [true, false, false]);
    assert!(file.sync_data().is_ok(), "other kinds go on");
    faulty.set_plan(None);
    assert!(write());
    assert_eq!(sim.image().read("a").unwrap(), b"x");
}

#[test]
fn interrupted_short_and_zero_writes_do_what_they_say() {
    let write = |fault| {
        let (sim, faulty) = over_sim();
        faulty.set_plan(Some(FaultPlan::nth_of(OpKind::Write, 0, fault)));
        let file = faulty.open(Path::new("a"), OpenMode::CreateNew).unwrap();
        let outcome = write_all_at(file.as_ref(), b"hello", 0).map_err(|error| error.kind());
        (outcome, faulty.counts().of(OpKind::Write), sim.image().read("a").unwrap())
    };
    assert_eq!(write(FaultKind::Interrupted), (Ok(()), 2, b"hello".to_vec()));
    assert_eq!(write(FaultKind::ShortWrite), (Ok(()), 2, b"hello".to_vec()));
    assert_eq!(write(FaultKind::ZeroWrite), (Err(io::ErrorKind::WriteZero), 1, Vec::new()));
}

#[test]
fn a_short_write_strikes_writes_only() {
    let (_, faulty) = over_sim();
    faulty.set_plan(Some(FaultPlan::nth(0, FaultKind::ShortWrite).for_good()));
    let file = faulty.open(Path::new("a"), OpenMode::CreateNew).unwrap();
    assert_eq!(faulty.counts().fired(), 0);
    assert_eq!(file.write_at(b"abc", 0).unwrap(), 2);
    assert_eq!(file.write_at(b"c", 2).unwrap(), 1, "even for good, writing gets on");
    assert_eq!(faulty.counts().fired(), 2);
}

#[test]
fn a_failed_sync_of_a_simulated_file_loses_bytes_that_the_next_one_reports_durable() {
    // F2
    let (sim, faulty) = over_sim();
    faulty.set_plan(Some(FaultPlan::nth_of(OpKind::SyncData, 0, FaultKind::Io)));
    let file = faulty.open(Path::new("a"), OpenMode::CreateNew).unwrap();
    write_all_at(file.as_ref(), b"gone", 0).unwrap();
    faulty.sync_dir(Path::new("")).unwrap();
    assert!(file.sync_data().is_err());
    assert!(file.sync_data().is_ok());
    assert_eq!(sim.image().read("a").unwrap(), b"gone", "it still reads back");
    for model in DiskModel::ALL {
        let trace = sim.trace();
        let image = trace.crash_image(model, trace.len(), CrashVariant::AllLost, 1);
        assert_eq!(image.read("a").unwrap(), [0; 4], "{model:?}");
    }
}

#[test]
fn an_injected_panic_strikes_once_and_leaves_the_file_system_usable() {
    let (_, faulty) = over_sim();
    faulty.set_plan(Some(FaultPlan::nth_of(OpKind::SyncData, 0, FaultKind::Panic)));
    let file = faulty.open(Path::new("a"), OpenMode::CreateNew).unwrap();
    let sync = std::panic::AssertUnwindSafe(|| file.sync_data());
    assert!(std::panic::catch_unwind(sync).is_err());
    assert!(file.sync_data().is_ok());
    assert_eq!(faulty.counts().fired(), 1);
}

#[test]
#[should_panic(expected = "nobody is interrupted for ever")]
fn interruption_for_good_is_refused() {
    let _ = FaultPlan::nth(0, FaultKind::Interrupted).for_good();
}
