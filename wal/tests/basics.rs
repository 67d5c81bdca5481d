//! The log on a real file system: what is appended is there after a reopen, in every mode and form.

#![expect(clippy::disallowed_methods, reason = "a test looks at the directory from outside")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cortenkv_wal::{
    Background, Batch, Durability, ErrorKind, Location, RecordKind, RecordRef, ReplayHandler,
    TailKind, Wal, WalOptions,
};

/// The newest version of a key: its sequence, its value unless it is deleted, its place.
type Version = (u64, Option<Vec<u8>>, Location);

/// Keeps the newest version of each key, as an index would.
#[derive(Debug, Default)]
struct Model {
    state: Mutex<BTreeMap<Vec<u8>, Version>>,
}

impl ReplayHandler for Model {
    fn apply(&self, records: &[RecordRef<'_>]) {
        let mut state = self.state.lock().unwrap();
        for record in records {
            let value = (record.kind == RecordKind::Put).then(|| record.value.to_vec());
            let entry = state.entry(record.key.to_vec()).or_insert((0, None, record.location));
            if record.seq >= entry.0 {
                *entry = (record.seq, value, record.location);
            }
        }
    }
}

impl Model {
    fn values(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let state = self.state.lock().unwrap();
        state
            .iter()
            .filter_map(|(key, (_, value, _))| Some((key.clone(), value.clone()?)))
            .collect()
    }
}

fn modes() -> [Durability; 6] {
    [
        Durability::Always,
        Durability::group(),
        Durability::EveryN(3),
        Durability::Interval(Duration::from_millis(5)),
        Durability::Checkpoint,
        Durability::None,
    ]
}

fn key(i: u32) -> Vec<u8> {
    format!("key-{i:05}").into_bytes()
}

fn batch_of(i: u32) -> Batch {
    let mut batch = Batch::new();
    batch.put(0, &key(i), format!("value-{i}").as_bytes()).unwrap();
    if i.is_multiple_of(5) {
        batch.put(0, &key(i + 100_000), &vec![i as u8; 3000]).unwrap();
        batch.delete(0, &key(i / 2)).unwrap();
    }
    batch
}

#[test]
fn every_mode_and_tail_keeps_everything_across_reopens() {
    for durability in modes() {
        for tail in [TailKind::Mapped, TailKind::Written] {
            for compression in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let options = WalOptions::default()
                    .durability(durability)
                    .tail(tail)
                    .compression(compression)
                    .segment_bytes(16 << 10);
                let expected = Arc::new(Model::default());
                let (wal, _) =
                    Wal::open(dir.path().join("log"), options.clone(), expected.clone()).unwrap();
                for i in 0..300 {
                    wal.append(&batch_of(i)).unwrap();
                }
                assert!(wal.stats().rotations > 3, "{durability:?}");
                wal.close().unwrap();
                drop(wal);
                for reopen in 0..3 {
                    let model = Arc::new(Model::default());
                    let (wal, report) =
                        Wal::open(dir.path().join("log"), options.clone(), model.clone()).unwrap();
                    assert_eq!(
                        model.values(),
                        expected.values(),
                        "{durability:?} {tail:?} reopen {reopen}"
                    );
                    assert_eq!((report.bytes_cut, report.damaged_places), (0, 0));
                    for (seq, value, location) in model.state.lock().unwrap().values() {
                        let record = wal.read(*location).unwrap();
                        assert_eq!(
                            (record.seq, record.kind == RecordKind::Put),
                            (*seq, value.is_some())
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_log_that_is_dropped_without_close_keeps_what_was_synced() {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions::default().durability(Durability::None).background(Background::Manual);
    let (wal, _) = Wal::open(dir.path(), options.clone(), Arc::new(())).unwrap();
    wal.append(&batch_of(1)).unwrap();
    assert!(wal.durable_seq() < wal.last_seq());
    wal.sync().unwrap();
    assert_eq!(wal.durable_seq(), wal.last_seq());
    assert_eq!(wal.stats().syncs, 1);
    wal.sync().unwrap();
    assert_eq!(wal.stats().syncs, 1, "nothing new, nothing to sync");
}

#[test]
fn one_sync_for_each_batch_and_none_for_each_record() {
    // D8
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), WalOptions::default(), Arc::new(())).unwrap();
    let mut batch = Batch::new();
    for i in 0..1000 {
        batch.put(0, &key(i), b"value").unwrap();
    }
    wal.append(&batch).unwrap();
    assert_eq!(wal.stats().syncs, 1);
    assert_eq!(wal.stats().records, 1000);
}

#[test]
fn thirty_writers_share_syncs() {
    // D3, D4, D5
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), WalOptions::default(), Arc::new(())).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..30 {
            let wal = wal.clone();
            scope.spawn(move || {
                for i in 0..50 {
                    let mut batch = Batch::new();
                    batch.put(0, &key(writer * 1000 + i), &[7; 100]).unwrap();
                    let seq = wal.append(&batch).unwrap();
                    assert!(wal.durable_seq() >= seq, "acknowledged before the covering sync");
                }
            });
        }
    });
    let stats = wal.stats();
    assert_eq!(stats.commits, 1500);
    assert_eq!(stats.grouped_commits, 1500);
    assert!(stats.group_commits_max <= 30);
    assert!(stats.last_group_at_ms > 0 && stats.group_latency_mean() <= stats.group_latency_max);
    wal.reset_stats();
    assert_eq!(wal.stats().commits, 0);
}

#[test]
fn tickets_resolve_by_wait_and_as_futures() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), WalOptions::default(), Arc::new(())).unwrap();
    let tickets: Vec<_> =
        (0..64).map(|i| wal.append_async(&batch_of(i), Durability::Always).unwrap()).collect();
    assert_eq!(wal.stats().tickets, 64);
    for ticket in tickets {
        let seq = ticket.seq();
        assert_eq!(ticket.wait().unwrap(), seq);
    }
    let before = wal.stats().syncs;
    assert!(before < 64);
    let ticket = wal.append_async(&batch_of(64), Durability::Always).unwrap();
    assert_eq!(block_on(ticket).unwrap(), wal.last_seq());
    drop(wal.append_async(&batch_of(65), Durability::Always).unwrap());
    wal.sync().unwrap();
    assert_eq!(wal.stats().tickets, 0);
}

/// The smallest executor: parks until woken.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(done) => return done,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn pending_tickets_are_bounded_and_resolve_at_close() {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions::default().tickets_max(2).background(Background::Manual);
    let (wal, _) = Wal::open(dir.path(), options, Arc::new(())).unwrap();
    let first = wal.append_async(&batch_of(1), Durability::Always).unwrap();
    let second = wal.append_async(&batch_of(2), Durability::Always).unwrap();
    let refused = wal.append_async(&batch_of(3), Durability::Always).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Busy);
    wal.close().unwrap();
    assert!(first.wait().is_ok());
    assert!(block_on(second).is_ok());
    let closed = wal.append(&batch_of(4)).unwrap_err();
    assert!(matches!(closed.kind(), ErrorKind::Closed(_)), "{closed}");
}

#[test]
fn the_interval_timer_syncs_by_itself() {
    // C1, P5, S3
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions::default().durability(Durability::Interval(Duration::from_millis(2)));
    let (wal, _) = Wal::open(dir.path(), options, Arc::new(())).unwrap();
    for i in 0..5 {
        let seq = wal.append(&batch_of(i)).unwrap();
        while wal.durable_seq() < seq {
            std::thread::yield_now();
        }
    }
}

#[test]
fn at_most_n_minus_one_acknowledged_commits_are_unsynced() {
    // S1
    let dir = tempfile::tempdir().unwrap();
    let options =
        WalOptions::default().durability(Durability::EveryN(4)).background(Background::Manual);
    let (wal, _) = Wal::open(dir.path(), options, Arc::new(())).unwrap();
    for i in 0..40 {
        let seq = wal.append(&batch_of(i)).unwrap();
        assert!(seq - wal.durable_seq() <= 3);
    }
    assert_eq!(wal.stats().syncs, 10);
}

#[test]
fn a_second_opening_is_refused_with_the_process_that_holds_it() {
    // U10
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), WalOptions::default(), Arc::new(())).unwrap();
    let refused = Wal::open(dir.path(), WalOptions::default(), Arc::new(())).unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Locked { pid: Some(std::process::id()) });
    drop(wal);
    Wal::open(dir.path(), WalOptions::default(), Arc::new(())).unwrap();
}

#[test]
fn purge_removes_whole_segments_below_and_the_rest_reopens() {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions::default().segment_bytes(16 << 10).durability(Durability::None);
    let (wal, _) = Wal::open(dir.path(), options.clone(), Arc::new(())).unwrap();
    let mut seqs = Vec::new();
    for i in 0..400 {
        seqs.push(wal.append(&batch_of(i)).unwrap());
    }
    assert!(wal.purge(seqs[200]).unwrap() > 2);
    assert_eq!(wal.purge(seqs[0]).unwrap(), 0);
    let last = wal.append(&batch_of(999)).unwrap();
    wal.close().unwrap();
    drop(wal);
    let first_seen = Arc::new(Mutex::new(u64::MAX));
    let seen = Arc::clone(&first_seen);
    let handler = move |records: &[RecordRef<'_>]| {
        let mut first = seen.lock().unwrap();
        *first = records.iter().map(|record| record.seq).fold(*first, u64::min);
    };
    let (_, report) = Wal::open(dir.path(), options, Arc::new(handler)).unwrap();
    assert_eq!(report.last_seq, last);
    let first = *first_seen.lock().unwrap();
    assert!(first > seqs[0] && first <= seqs[200], "purged below, kept from there on");
}

#[test]
fn many_short_runs_do_not_leave_many_files() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..50 {
        let (wal, report) = Wal::open(dir.path(), WalOptions::default(), Arc::new(())).unwrap();
        assert_eq!(report.records, i);
        let mut batch = Batch::new();
        batch.put(0, &key(i as u32), b"value").unwrap();
        wal.append(&batch).unwrap();
    }
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(files <= 5, "{files} files");
}

#[test]
fn large_commits_beside_small_ones_keep_order_and_content() {
    let dir = tempfile::tempdir().unwrap();
    let model = Arc::new(Model::default());
    let options = WalOptions::default().durability(Durability::None);
    let (wal, _) = Wal::open(dir.path(), options.clone(), model.clone()).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..4_u32 {
            let wal = wal.clone();
            scope.spawn(move || {
                for i in 0..100 {
                    let mut batch = Batch::new();
                    let size = if i % 10 == writer { 200_000 } else { 50 };
                    batch.put(writer, &key(writer * 1000 + i), &vec![i as u8; size]).unwrap();
                    wal.append(&batch).unwrap();
                }
            });
        }
    });
    drop(wal);
    let reopened = Arc::new(Model::default());
    Wal::open(dir.path(), options, reopened.clone()).unwrap();
    assert_eq!(reopened.values(), model.values());
    assert_eq!(reopened.values().len(), 400);
}

#[test]
fn regression_commits_behind_a_synced_sealed_segment_are_installed_later() {
    let dir = tempfile::tempdir().unwrap();
    let model = Arc::new(Model::default());
    let options = WalOptions::default().segment_bytes(16 << 10).background(Background::Manual);
    let (wal, _) = Wal::open(dir.path(), options, model.clone()).unwrap();
    let tickets: Vec<_> =
        (0..40).map(|i| wal.append_async(&batch_of(i), Durability::Always).unwrap()).collect();
    assert!(wal.stats().rotations > 0);
    // Syncs what was sealed, and nothing else.
    while wal.step().unwrap() {}
    assert!(wal.durable_seq() < wal.last_seq());
    drop(tickets);
    wal.sync().unwrap();
    assert_eq!(model.state.lock().unwrap().len(), 40 + 8);
}

/// What is shown of a record, apart from its place.
fn shown(record: &RecordRef<'_>) -> String {
    let RecordRef { seq, keyspace, kind, expires_at_ms, in_batch, key, value, .. } = record;
    format!("{seq} {keyspace} {kind:?} {expires_at_ms:?} {in_batch} {key:?} {value:?}")
}

#[test]
fn an_appender_installs_its_own_relaxed_commits_as_they_are_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let handled = Arc::clone(&handled);
        move |records: &[RecordRef<'_>]| handled.lock().unwrap().extend(records.iter().map(shown))
    };
    let (wal, _) = Wal::open(dir.path(), WalOptions::default(), Arc::new(handler)).unwrap();
    let long = vec![7; 70_000];
    let mut batches: [Batch; 6] = Default::default();
    batches[0].put(0, b"key", b"value").unwrap();
    batches[1].put_expiring(300, b"", &long, u64::MAX).unwrap();
    batches[2].delete(u32::MAX, &long[..50_000]).unwrap();
    batches[3].put_expiring(127, &long[..200], b"", 5).unwrap();
    batches[4].put(1, b"a", b"1").unwrap();
    batches[4].delete(128, b"b").unwrap();
    batches[4].put(2, b"c", &long).unwrap();
    // One buffer for one commit after the other.
    batches[5] = batches[4].clone();
    batches[5].clear();
    batches[5].delete(3, b"again").unwrap();
    for durability in [Durability::None, Durability::Always] {
        for batch in &batches {
            let mut installed = Vec::new();
            wal.append_installing(batch, durability, |records| {
                installed.extend(records.iter().map(|record| (record.location, shown(record))));
            })
            .unwrap();
            let handled = std::mem::take(&mut *handled.lock().unwrap());
            let counts = (installed.len(), handled.len());
            let is_relaxed = durability == Durability::None;
            assert_eq!(counts, if is_relaxed { (batch.len(), 0) } else { (0, batch.len()) });
            for (location, record) in installed {
                assert_eq!(wal.read_with(location, |read| shown(&read)).unwrap(), record);
            }
        }
    }
}
