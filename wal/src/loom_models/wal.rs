//! The real log on the simulated file system: syncer against shutdown, poison against tickets, order of publication.

use std::sync::Arc as StdArc;

use super::toy::block_on;
use crate::clock::ManualClock;
use crate::sync::thread;
use crate::vfs::sim::{CrashVariant, DiskModel};
use crate::vfs::{FaultKind, FaultPlan, FaultVfs, OpKind, SimVfs};
use crate::{
    Background, Batch, ClosedReason, Condition, Conditional, Durability, ErrorKind, LogMark,
    RecordRef, Result, SeqNo, TailKind, Ticket, Wal, WalOptions,
};

/// Every sequence that the handler was offered, in order.
type Seen = StdArc<std::sync::Mutex<Vec<SeqNo>>>;

struct Log {
    wal: Wal,
    sim: SimVfs,
    faults: FaultVfs,
    seen: Seen,
}

impl Log {
    fn open(sim: SimVfs, background: Background, tail: TailKind) -> Log {
        let faults = FaultVfs::new(StdArc::new(sim.clone()));
        let seen = Seen::default();
        let handler = {
            let seen = StdArc::clone(&seen);
            StdArc::new(move |records: &[RecordRef<'_>]| {
                seen.lock().unwrap().extend(records.iter().map(|record| record.seq));
            })
        };
        let options = WalOptions::default()
            .vfs(StdArc::new(faults.clone()))
            .clock(StdArc::new(ManualClock::default()))
            .background(background)
            .tail(tail)
            .segment_bytes(64 << 10);
        let (wal, _) = Wal::open("log", options, handler).unwrap();
        Log { wal, sim, faults, seen }
    }

    fn seen(&self) -> Vec<SeqNo> {
        self.seen.lock().unwrap().clone()
    }

    /// What an open finds after the process died at a point of the trace.
    fn survivors(&self, point: usize) -> Vec<SeqNo> {
        let image = self.sim.trace().crash_image(DiskModel::Posix, point, CrashVariant::Kill, 1);
        let sim = SimVfs::from_image(image, 2);
        Log::open(sim, Background::Manual, TailKind::Written).seen()
    }
}

/// Explores `run` on a log that was opened before the exploration starts; `check` comes after it.
fn model<T: 'static>(
    background: Background,
    tail: TailKind,
    run: fn(&Log) -> T,
    check: fn(&Log, T),
) {
    let mut builder = loom::model::Builder::new();
    builder.expect_explicit_explore = true;
    builder.max_branches = 100_000;
    builder.check(move || {
        let log = Log::open(SimVfs::new(1), background, tail);
        loom::explore();
        let outcome = run(&log);
        loom::stop_exploring();
        check(&log, outcome);
    });
}

fn commit_of(value_bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.put(0, b"key", &vec![7; value_bytes]).unwrap();
    batch
}

fn resolve(mut ticket: Ticket) -> Result<SeqNo> {
    block_on(|context| match Future::poll(std::pin::Pin::new(&mut ticket), context) {
        std::task::Poll::Ready(result) => Some(result),
        std::task::Poll::Pending => None,
    })
}

#[test]
fn a_ticket_resolves_when_the_log_is_closed_beside_it() {
    model(
        Background::Thread,
        TailKind::Written,
        |log| {
            let wal = log.wal.clone();
            let closer = thread::spawn(move || wal.close());
            match log.wal.append_async(&commit_of(1), Durability::Always) {
                Ok(ticket) => {
                    let seq = ticket.seq();
                    assert_eq!(resolve(ticket).unwrap(), seq, "close covers what was appended");
                }
                Err(e) => assert_eq!(*e.kind(), ErrorKind::Closed(ClosedReason::Clean)),
            }
            closer.join().unwrap().unwrap();
        },
        |log, ()| assert_eq!(log.wal.durable_seq(), log.wal.last_seq()),
    );
}

#[test]
fn a_ticket_resolves_when_the_write_of_another_commit_fails() {
    model(
        Background::Thread,
        TailKind::Written,
        |log| {
            let fault = FaultPlan::nth_of(OpKind::Write, 0, FaultKind::Io);
            log.faults.set_plan(Some(fault.for_good()));
            let wal = log.wal.clone();
            let relaxed = thread::spawn(move || wal.append_with(&commit_of(1), Durability::None));
            if let Ok(ticket) = log.wal.append_async(&commit_of(1), Durability::Always) {
                assert!(resolve(ticket).is_err(), "nothing reached the disk");
            }
            assert!(relaxed.join().unwrap().is_err());
            log.faults.set_plan(None);
        },
        |log, ()| assert!(log.wal.close().is_err()),
    );
}

#[test]
fn whoever_is_told_that_the_log_is_closed_finds_everything_durable() {
    model(
        Background::Manual,
        TailKind::Written,
        |log| {
            log.wal.append_with(&commit_of(1), Durability::None).unwrap();
            let wal = log.wal.clone();
            let other = thread::spawn(move || {
                wal.close().unwrap();
                assert_eq!(wal.durable_seq(), wal.last_seq());
            });
            log.wal.close().unwrap();
            assert_eq!(log.wal.durable_seq(), log.wal.last_seq());
            other.join().unwrap();
        },
        |_, ()| {},
    );
}

/// A large commit is copied outside the lock beside a small one; both are relaxed.
fn a_large_commit_beside_a_small_one() {
    model(
        Background::Manual,
        TailKind::Written,
        |log| {
            let (wal, sim) = (log.wal.clone(), log.sim.clone());
            let large = thread::spawn(move || {
                let seq = wal.append_with(&commit_of(5000), Durability::None).unwrap();
                (seq, sim.point())
            });
            let seq = log.wal.append_with(&commit_of(1), Durability::None).unwrap();
            let small = (seq, log.sim.point());
            [small, large.join().unwrap()]
        },
        |log, acknowledged| {
            let first = acknowledged.map(|(seq, _)| seq).into_iter().min().unwrap();
            for (seq, point) in acknowledged {
                let survivors = log.survivors(point);
                let expected: Vec<SeqNo> = (first..=seq).collect();
                assert!(
                    survivors.starts_with(&expected),
                    "{seq} was acknowledged, but {survivors:?} survived"
                );
            }
        },
    );
}

#[test]
fn a_relaxed_commit_is_acknowledged_when_nothing_below_is_missing() {
    a_large_commit_beside_a_small_one();
}

#[test]
fn the_handler_sees_durable_commits_in_log_order_and_before_their_writers_are_told() {
    model(
        Background::Manual,
        TailKind::Written,
        |log| {
            let (wal, seen) = (log.wal.clone(), StdArc::clone(&log.seen));
            let large = thread::spawn(move || {
                let seq = wal.append_with(&commit_of(5000), Durability::Always).unwrap();
                assert!(seen.lock().unwrap().contains(&seq), "{seq} is not installed");
            });
            let seq = log.wal.append_with(&commit_of(1), Durability::Always).unwrap();
            assert!(log.seen().contains(&seq), "{seq} is not installed");
            large.join().unwrap();
        },
        |log, ()| {
            let seen = log.seen();
            assert!(seen.len() == 2 && seen.is_sorted(), "{seen:?}");
        },
    );
}

/// Holds if it was shown no record.
struct Untouched(bool);

impl Condition for Untouched {
    fn visit(&mut self, _: &RecordRef<'_>) {
        self.0 = false;
    }

    fn holds(&self) -> bool {
        self.0
    }
}

/// Appends if nothing was appended since the mark, which is taken before anything is.
fn append_first(wal: &Wal, mark: &LogMark, value_bytes: usize) -> bool {
    let mut condition = Untouched(true);
    let batch = commit_of(value_bytes);
    let outcome = wal.append_if(&batch, Durability::Always, mark, &mut condition, |_| {});
    matches!(outcome.unwrap(), Conditional::Appended(_))
}

/// Two commits that each want to be the first, one of them copied outside the lock.
fn two_that_want_to_be_first() {
    model(
        Background::Manual,
        TailKind::Written,
        |log| {
            let mark = log.wal.mark();
            let (wal, other) = (log.wal.clone(), mark.clone());
            let large = thread::spawn(move || append_first(&wal, &other, 5000));
            let small = append_first(&log.wal, &mark, 1);
            assert!(small != large.join().unwrap(), "exactly one is the first");
        },
        |log, ()| assert_eq!(log.seen().len(), 1),
    );
}

#[test]
fn of_two_conditional_commits_with_one_mark_one_is_first() {
    two_that_want_to_be_first();
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn canary_a_conditional_commit_that_misses_what_is_pending() {
    super::canary(
        "wal::canary_a_conditional_commit_that_misses_what_is_pending",
        "exactly one is the first",
        || {
            assert!(crate::bugs::plant("conditional-misses-pending"));
            two_that_want_to_be_first();
        },
    );
}

#[cfg(feature = "seeded-bugs")]
#[test]
fn canary_a_commit_acknowledged_behind_a_hole() {
    super::canary(
        "wal::canary_a_commit_acknowledged_behind_a_hole",
        "was acknowledged, but",
        || {
            assert!(crate::bugs::plant("acknowledged-behind-hole"));
            a_large_commit_beside_a_small_one();
        },
    );
}
