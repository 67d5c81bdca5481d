//! Conditional commits of a log alone: what the condition is shown, and that nothing comes between the look and the append.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::{
    Background, Batch, Condition, Conditional, Durability, ErrorKind, RecordRef, TailKind, Wal,
    WalOptions,
};

/// Takes note of what it is shown, and holds if that has no key in common with what is asked for.
#[derive(Default)]
struct Shown {
    key: Vec<u8>,
    records: Vec<(u64, Vec<u8>)>,
}

impl Condition for Shown {
    fn visit(&mut self, record: &RecordRef<'_>) {
        self.records.push((record.seq, record.key.to_vec()));
    }

    fn holds(&self) -> bool {
        self.records.iter().all(|(_, key)| *key != self.key)
    }
}

fn batch(keys: &[&str], value_bytes: usize) -> Batch {
    let mut batch = Batch::new();
    for key in keys {
        batch.put(0, key.as_bytes(), &vec![b'v'; value_bytes]).unwrap();
    }
    batch
}

fn open(tail: TailKind, compression: bool) -> Wal {
    let options = WalOptions::default()
        .vfs(Arc::new(SimVfs::new(1)))
        .background(Background::Manual)
        .tail(tail)
        .compression(compression)
        .segment_bytes(64 << 10);
    Wal::open("log", options, Arc::new(())).unwrap().0
}

#[test]
fn a_condition_is_shown_every_record_behind_its_mark_once_and_in_order() {
    for (tail, compression) in [
        (TailKind::Written, false),
        (TailKind::Written, true),
        (TailKind::Mapped, false),
        (TailKind::Mapped, true),
    ] {
        let wal = open(tail, compression);
        wal.append(&batch(&["before"], 1)).unwrap();
        let mark = wal.mark();
        let mut wanted = Vec::new();
        let mut tickets = Vec::new();
        // Small and large, alone and together, over several segments; some are made durable meanwhile.
        for n in 0..60 {
            let names = [format!("a{n}"), format!("b{n}"), format!("c{n}")];
            let keys: Vec<&str> = names[..1 + n % 3].iter().map(String::as_str).collect();
            let ticket =
                wal.append_async(&batch(&keys, [10, 3_000, 9_000][n % 3]), Durability::Always);
            let ticket = ticket.unwrap();
            wanted.extend(keys.iter().map(|key| (ticket.seq(), key.as_bytes().to_vec())));
            tickets.push(ticket);
            if n == 20 {
                wal.sync().unwrap();
                wal.append_with(&batch(&["relaxed"], 1), Durability::None).unwrap();
                wanted.push((wal.last_seq(), b"relaxed".to_vec()));
            }
        }
        assert!((compression || wal.stats().segments > 2) && wal.has_pending());
        let mut shown = Shown { key: b"c59".to_vec(), ..Shown::default() };
        let last_seq = wal.last_seq();
        let refused =
            wal.append_if(&batch(&["x"], 1), Durability::Always, &mark, &mut shown, |_| {});
        assert!(matches!(refused.unwrap(), Conditional::Refused));
        assert_eq!((shown.records, wal.last_seq()), (wanted.clone(), last_seq));

        let mut shown = Shown { key: b"before".to_vec(), ..Shown::default() };
        let judged = wal.append_if(&Batch::new(), Durability::Always, &mark, &mut shown, |_| {});
        assert!(matches!(judged.unwrap(), Conditional::Appended(seq) if seq == last_seq));

        let mut shown = Shown { key: b"before".to_vec(), ..Shown::default() };
        let ticket =
            wal.append_if_async(&batch(&["x"], 1), Durability::Always, &mark, &mut shown, |_| {});
        let Conditional::Appended(ticket) = ticket.unwrap() else { panic!("it holds") };
        assert_eq!((shown.records, ticket.seq()), (wanted, last_seq + 1));
        wal.wait_durable(ticket.seq()).unwrap();
        assert_eq!(ticket.wait().unwrap(), wal.durable_seq());
        assert!(!wal.has_pending());
        // Nothing is behind a new mark.
        let mut shown = Shown::default();
        wal.append_if(&Batch::new(), Durability::None, &wal.mark(), &mut shown, |_| {}).unwrap();
        assert_eq!(shown.records, []);
    }
}

#[test]
fn a_mark_whose_segments_are_gone_is_outdated() {
    let wal = open(TailKind::Written, false);
    wal.append(&batch(&["a"], 1)).unwrap();
    let mark = wal.mark();
    for _ in 0..2 {
        wal.append(&batch(&["b"], 1)).unwrap();
        wal.seal_active().unwrap();
    }
    wal.append(&batch(&["c"], 1)).unwrap();
    let gone: Vec<u64> = wal.segments().iter().map(|segment| segment.id).take(2).collect();
    wal.retire(&gone[1..]).unwrap();
    let mut shown = Shown::default();
    let outcome = wal.append_if(&batch(&["x"], 1), Durability::Always, &mark, &mut shown, |_| {});
    assert!(matches!(outcome.unwrap(), Conditional::Outdated));
}

#[test]
fn a_closed_log_refuses_conditional_commits_as_others() {
    let wal = open(TailKind::Written, false);
    let mark = wal.mark();
    wal.close().unwrap();
    let refused =
        wal.append_if(&batch(&["x"], 1), Durability::Always, &mark, &mut Shown::default(), |_| {});
    assert!(matches!(refused.unwrap_err().kind(), ErrorKind::Closed(_)));
}

/// The value of one key, by the records of the log.
struct Last<'a> {
    value: &'a mut Option<u64>,
    expected: Option<u64>,
}

impl Condition for Last<'_> {
    fn visit(&mut self, record: &RecordRef<'_>) {
        *self.value = record.value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    }

    fn holds(&self) -> bool {
        *self.value == self.expected
    }
}

// Threads that count up by comparing and appending: none of their steps is lost, whatever is copied where.
#[test]
fn stress_nothing_comes_between_the_look_and_the_append() {
    let installed = Arc::new(Mutex::new((0, None)));
    let handler = {
        let installed = Arc::clone(&installed);
        Arc::new(move |records: &[RecordRef<'_>]| {
            let last = records.last().unwrap();
            let value = u64::from_le_bytes(*last.value.first_chunk().unwrap());
            *installed.lock().unwrap() = (last.seq, Some(value));
        })
    };
    let options = WalOptions::default().vfs(Arc::new(SimVfs::new(2))).segment_bytes(256 << 10);
    let (wal, _) = Wal::open("log", options, handler).unwrap();
    let conflicts = AtomicU64::new(0);
    let rounds = 100;
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let (wal, installed, conflicts) = (&wal, &installed, &conflicts);
            scope.spawn(move || {
                for round in 0..rounds {
                    loop {
                        let mark = wal.mark();
                        let before = installed.lock().unwrap().1;
                        let mut batch = Batch::new();
                        let mut value = vec![7; [8, 5_000][(thread + round) % 2]];
                        value[..8].copy_from_slice(&(before.unwrap_or(0) + 1).to_le_bytes());
                        batch.put(0, b"k", &value).unwrap();
                        let mut now = before;
                        let mut condition = Last { value: &mut now, expected: before };
                        let mode = Durability::Always;
                        let outcome = wal.append_if(&batch, mode, &mark, &mut condition, |_| {});
                        match outcome.unwrap() {
                            Conditional::Appended(_) => break,
                            _ => conflicts.fetch_add(1, SeqCst),
                        };
                    }
                }
            });
        }
    });
    println!("{} conflicts", conflicts.load(SeqCst));
    assert_eq!(installed.lock().unwrap().1, Some(4 * rounds as u64));
}
