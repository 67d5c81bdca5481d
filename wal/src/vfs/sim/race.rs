//! Under shuttle, other threads get to run while a sync does: only so can a suite find code that trusts a sync with
//! what was stored after it started.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::sync::thread;

const SCHEDULES: usize = 200;

#[test]
fn a_store_can_fall_between_start_and_end_of_a_sync_and_is_not_covered() {
    let raced = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&raced);
    shuttle::check_random(
        move || {
            let sim = SimVfs::new(1);
            let file = sim.open(Path::new("a"), OpenMode::CreateNew).unwrap();
            sim.sync_dir(Path::new("")).unwrap();
            let writer = Arc::clone(&file);
            let writer = thread::spawn(move || writer.write_at(b"x", 0).unwrap());
            file.sync_data().unwrap();
            writer.join().unwrap();
            let trace = sim.trace();
            let place = |is: fn(&Op) -> bool| trace.ops().iter().position(is).unwrap();
            let begin = place(|op| matches!(op, Op::SyncBegin { .. }));
            let write = place(|op| matches!(op, Op::Write { .. }));
            let end = place(|op| matches!(op, Op::SyncEnd { .. }));
            let image = trace.crash_image(DiskModel::Posix, trace.len(), CrashVariant::AllLost, 1);
            let durable = image.read("a").unwrap() == b"x";
            assert_eq!(durable, write < begin);
            if begin < write && write < end {
                // Relaxed: a counter.
                seen.fetch_add(1, Ordering::Relaxed);
            }
        },
        SCHEDULES,
    );
    assert!(raced.load(Ordering::Relaxed) > 0, "none of {SCHEDULES} schedules raced");
}
