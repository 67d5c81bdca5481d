//! Rule 13 and the trap "a snapshot registered between a writer's look and its install": writers move money between
//! accounts, in batches and in every mode of installation, while snapshots check that nothing is lost and that reading
//! again says the same.
//!
//! `CORTEN_SNAPSHOT_ROUNDS` sets how many snapshots each checker opens. `CORTEN_BUG` plants a defect.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use cortenkv::verify::FindingKind;
use cortenkv::{Db, Durability, Snapshot};

const ACCOUNTS: u64 = 48;
const WRITERS: u64 = 2;
const CHECKERS: u64 = 2;
const TOTAL: u64 = ACCOUNTS * 1_000;

fn plant() {
    #[cfg(feature = "seeded-bugs")]
    if let Ok(name) = std::env::var("CORTEN_BUG") {
        assert!(cortenkv_wal::bugs::plant(&name), "there is no bug `{name}`");
    }
}

fn rounds() -> u64 {
    std::env::var("CORTEN_SNAPSHOT_ROUNDS").map_or(150, |rounds| rounds.parse().expect("a number"))
}

fn account(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

fn number(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().expect("8 bytes"))
}

/// Moves money between the accounts of one writer: those whose number is `writer` modulo [`WRITERS`]. An account that has
/// nothing is deleted. Every batch counts up its writer's own key.
fn write(db: &Db, writer: u64, durability: Option<Durability>, stop: &AtomicBool) -> u64 {
    let mut balances = vec![1_000_u64; ACCOUNTS as usize];
    let mut random = writer + 1;
    let mut count = 0_u64;
    let mut pick = || {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) % (ACCOUNTS / WRITERS) * WRITERS + writer) as usize
    };
    while !stop.load(Relaxed) {
        let (from, to) = (pick(), pick());
        if from == to {
            continue;
        }
        let amount = if count.is_multiple_of(3) { balances[from] } else { balances[from] / 2 };
        balances[from] -= amount;
        balances[to] += amount;
        let mut batch = db.batch();
        for n in [from, to] {
            match balances[n] {
                0 => batch.delete(db, account(n as u64)),
                balance => batch.put(db, account(n as u64), balance.to_be_bytes()),
            };
        }
        count += 1;
        batch.put(db, [b'w', writer as u8], count.to_be_bytes());
        match (durability, count % 4) {
            (Some(durability), 0) => drop(batch.commit_with(durability).unwrap()),
            (Some(_), 1) => drop(batch.commit_async().unwrap()),
            _ => drop(batch.commit().unwrap()),
        }
    }
    count
}

fn sum_by_gets(then: &Snapshot) -> u64 {
    let keys = (0..ACCOUNTS).map(account);
    then.multi_get(keys).unwrap().iter().flatten().map(|value| number(value)).sum()
}

fn sum_by_scan(then: &Snapshot, reverse: bool) -> u64 {
    let accounts = then.range(account(0)..account(ACCOUNTS));
    let value = |entry: cortenkv::Result<(bytes::Bytes, bytes::Bytes)>| number(&entry.unwrap().1);
    if reverse { accounts.rev().map(value).sum() } else { accounts.map(value).sum() }
}

fn check(db: &Db, acknowledged: &AtomicU64, is_ordered: bool) {
    let before = acknowledged.load(Relaxed);
    let then = db.snapshot().unwrap();
    assert!(then.seq() >= before, "what was acknowledged is missing");
    let counts = || [0, 1].map(|writer| then.get([b'w', writer]).unwrap());
    let seen = counts();
    for _ in 0..3 {
        assert_eq!(sum_by_gets(&then), TOTAL, "by gets at {}", then.seq());
        if is_ordered {
            assert_eq!(sum_by_scan(&then, false), TOTAL, "by a scan at {}", then.seq());
            assert_eq!(sum_by_scan(&then, true), TOTAL, "by a scan down at {}", then.seq());
        }
        assert_eq!(counts(), seen, "another moment at {}", then.seq());
        std::thread::yield_now();
    }
}

fn run(db: &Db, durability: Option<Durability>) {
    plant();
    let is_ordered = db.stats().build.ordered;
    let mut batch = db.batch();
    for n in 0..ACCOUNTS {
        batch.put(db, account(n), 1_000_u64.to_be_bytes());
    }
    batch.commit().unwrap();
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let is_over = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (stop, db) = (&stop, &db);
            scope.spawn(move || write(db, writer, durability, stop));
        }
        // A key of its own, so that a snapshot can be held to what was acknowledged before.
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                let seq = db.put("own", "x").unwrap();
                acknowledged.store(seq, Relaxed);
                std::thread::yield_now();
            }
        });
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                if db.stats().build.compaction && !db.stats().in_memory {
                    db.compact().unwrap();
                }
                std::thread::yield_now();
            }
        });
        for _ in 0..CHECKERS {
            scope.spawn(|| {
                let stop_at_end = Stop(&stop, &is_over);
                (0..rounds()).for_each(|_| check(db, &acknowledged, is_ordered));
                drop(stop_at_end);
            });
        }
    });
    // Tickets are pending still.
    db.sync().unwrap();
    let stats = db.stats().snapshots;
    assert_eq!((stats.open, stats.versions), (0, 0));
    let mut findings = db.verify().unwrap().findings;
    // A sync offers relaxed commits again that stand between durable ones; their records are counted twice, as garbage.
    findings.retain(|finding| finding.kind != FindingKind::Figures);
    assert_eq!(findings, []);
}

/// Stops the writers when the last checker is through, or one has failed.
struct Stop<'a>(&'a AtomicBool, &'a AtomicU64);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() || self.1.fetch_add(1, Relaxed) + 1 == CHECKERS {
            self.0.store(true, Relaxed);
        }
    }
}

#[test]
fn snapshots_of_a_database_in_memory_lose_no_money() {
    run(&Db::open_in_memory().unwrap(), None);
}

#[test]
fn snapshots_beside_relaxed_and_durable_commits_lose_no_money() {
    let root = tempfile::tempdir().unwrap();
    let builder = Db::builder(root.path().join("db")).segment_bytes(64 << 10);
    let db = builder.durability(Durability::None).build().unwrap();
    run(&db, Some(Durability::Always));
}
