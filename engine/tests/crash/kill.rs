//! K1: SIGKILL of a real child on a real directory, with the acknowledgements in a pipe outside it.
//!
//! The child is this test binary again. Its four writers put and delete keys of their own, in batches too, some with a time to
//! live, and write a line to standard output after each acknowledgement; small segments keep compaction busy beside them. The parent kills it at a random moment, reads what is left in the
//! pipe, opens the directory and holds it against the lines; then the next child goes on in the same directory. Several directories take turns.
//!
//! # Invariants
//! - A commit of writer `w` is a pair of keys with one number, so that half a batch shows as a pair that differs.
//! - A value that may have expired is there or not, but never is an older one.
//! - Every number is written once, and each writer waits for its acknowledgement: at most one commit per writer is in
//!   doubt after a kill.
#![expect(clippy::disallowed_methods, reason = "a real process on a real file system")]

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};

use cortenkv::{Db, TailKind};

use super::random::{Random, mix};
use super::setup::Mode;
use super::{FirstViolation, Violation, from_env, on_all_cores};

const WRITERS: usize = 4;

/// Pairs of keys of each writer.
const PAIRS: usize = 8;

/// Rounds in one directory before the next setup.
const ROUNDS_PER_DIRECTORY: u64 = 10;

/// Over before the directory is looked at, or not.
const TTL_SHORT: Duration = Duration::from_millis(15);

/// Never over.
const TTL_LONG: Duration = Duration::from_secs(3_600);

/// LIMIT: an open may take 30 s.
const OPEN_MAX: Duration = Duration::from_secs(30);

/// Directories that are written to at the same time.
const DIRECTORIES_PER_CORE: usize = 2;

/// Between fork and exec a new child holds every lock of this process, also those that are given back meanwhile. So no
/// child is started while a directory is open here.
static OPEN_HERE: RwLock<()> = RwLock::new(());

const CHILD: &str = "CORTEN_KILL_CHILD";

/// How much to do.
#[derive(Debug, Clone)]
pub struct Budget {
    pub rounds: u64,
    pub seed: u64,
    /// The name of the test that calls [`run`], through which the child gets there.
    pub test: &'static str,
}

/// Measures how long a suite takes.
pub fn stopwatch() -> Instant {
    Instant::now()
}

/// True in a process that is to be killed.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Kills so many children. In a child, writes until it is killed.
pub fn run(budget: &Budget) -> Result<(), Violation> {
    if is_child() {
        child();
    }
    let started = Instant::now();
    let (first, tally) = (FirstViolation::default(), Tally::default());
    let next = AtomicU64::new(0);
    // A child waits for the disk most of its life, so directories take turns.
    on_all_cores(DIRECTORIES_PER_CORE, || {
        while !first.is_set() {
            let directory = next.fetch_add(1, Relaxed);
            let begin = directory * ROUNDS_PER_DIRECTORY;
            if begin >= budget.rounds {
                return;
            }
            let rounds = begin..budget.rounds.min(begin + ROUNDS_PER_DIRECTORY);
            if let Err(violation) = one_directory(budget, directory, rounds, &tally) {
                first.set(violation);
            }
        }
    });
    println!(
        "kill: {} rounds in {:.1} s, {} killed while they wrote, {} commits acknowledged, {} ended with compacted segments; {} \
         violations",
        tally.rounds.load(Relaxed),
        started.elapsed().as_secs_f64(),
        tally.in_flight.load(Relaxed),
        tally.acknowledged.load(Relaxed),
        tally.compacted.load(Relaxed),
        u64::from(first.is_set())
    );
    first.into_result()
}

/// What all directories have seen.
#[derive(Debug, Default)]
struct Tally {
    rounds: AtomicU64,
    /// Rounds in which the child had acknowledged something when it was killed.
    in_flight: AtomicU64,
    acknowledged: AtomicU64,
    compacted: AtomicU64,
}

/// Children in one directory, one after the other.
fn one_directory(
    budget: &Budget,
    number: u64,
    rounds: Range<u64>,
    tally: &Tally,
) -> Result<(), Violation> {
    let directory = tempfile::tempdir().expect("a directory for the database");
    let setup = RealSetup::of(number);
    let mut ledger = Ledger::default();
    for round in rounds {
        let lived = one(budget, directory.path(), setup, round, &mut ledger);
        let acknowledged = lived.map_err(|what| Violation {
            what,
            seed: budget.seed,
            place: format!("point=round-{round} variant=SIGKILL {setup}"),
            replay: format!(
                "CORTEN_SEED={} CORTEN_KILL_ROUNDS={} cargo test --profile crash -p cortenkv \
                 --features test-util --test kill -- --nocapture",
                budget.seed,
                round + 1
            ),
        })?;
        tally.rounds.fetch_add(1, Relaxed);
        tally.in_flight.fetch_add(u64::from(acknowledged > 0), Relaxed);
        tally.acknowledged.fetch_add(acknowledged, Relaxed);
        tally.compacted.fetch_add(u64::from(has_compacted(directory.path())), Relaxed);
    }
    Ok(())
}

fn has_compacted(dir: &Path) -> bool {
    let mut files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.any(|file| file.path().extension().is_some_and(|extension| extension == "cseg"))
}

#[derive(Debug, Clone, Copy)]
struct RealSetup {
    mode: Mode,
    tail: TailKind,
    compression: bool,
}

impl RealSetup {
    fn of(number: u64) -> RealSetup {
        RealSetup {
            mode: Mode::ALL[(number % 6) as usize],
            tail: if (number / 6).is_multiple_of(2) { TailKind::Mapped } else { TailKind::Written },
            compression: number % 5 == 1,
        }
    }

    fn open(self, dir: &Path) -> cortenkv::Result<Db> {
        Db::builder(dir)
            .durability(self.mode.durability())
            .tail(self.tail)
            .compression(self.compression && cfg!(feature = "snappy"))
            .segment_bytes(64 << 10)
            .window_bytes(8 << 10)
            .build()
    }
}

impl std::fmt::Display for RealSetup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mode={:?} tail={:?} compression={}", self.mode, self.tail, self.compression)
    }
}

/// The newest acknowledged number of each pair.
#[derive(Debug, Default)]
struct Ledger {
    newest: [[u64; PAIRS]; WRITERS],
    /// The last number of each writer, acknowledged or not.
    last: [u64; WRITERS],
    seq_max: u64,
}

/// One commit as the writer and the checker both know it.
#[derive(Debug, Clone, Copy)]
struct Plan {
    pair: usize,
    delete: bool,
    bytes: usize,
    ttl: Option<Duration>,
}

impl Plan {
    fn of(seed: u64, writer: usize, number: u64) -> Plan {
        let mut random = Random::new(mix(seed, mix(writer as u64, number)));
        let pair = random.below(PAIRS);
        let delete = random.percent(15);
        // Some are copied outside the append lock, some fill a window, a few a segment.
        let bytes = match random.below(100) {
            0..70 => 16 + random.below(200),
            70..90 => 2_000 + random.below(8_000),
            90..99 => 10_000 + random.below(20_000),
            _ => 70_000,
        };
        let ttl = match random.below(100) {
            0..15 => Some(TTL_SHORT),
            15..25 => Some(TTL_LONG),
            _ => None,
        };
        Plan { pair, delete, bytes, ttl }
    }

    /// True if a half of the pair may show this once the commit of that number was made.
    fn may_show(&self, number: u64, found: Option<&[u8]>) -> bool {
        match found {
            None => self.delete || self.ttl == Some(TTL_SHORT),
            Some(found) => !self.delete && *found == self.value(number),
        }
    }

    fn value(&self, number: u64) -> Vec<u8> {
        let mut value = vec![number as u8; self.bytes];
        value[..8].copy_from_slice(&number.to_le_bytes());
        value
    }
}

fn key(writer: usize, pair: usize, half: char) -> String {
    format!("{writer}/{pair}/{half}")
}

/// The child: writes until it is killed.
fn child() -> ! {
    let path = PathBuf::from(std::env::var_os(CHILD).expect("checked by the caller"));
    let seed = from_env("CORTEN_SEED", 0);
    let setup = RealSetup::of(from_env("CORTEN_KILL_SETUP", 0));
    let db = setup.open(&path).unwrap_or_else(|e| {
        println!("failed it does not open: {e}");
        std::process::exit(1)
    });
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let db = &db;
            scope.spawn(move || write(db, seed, writer));
        }
    });
    std::process::exit(0)
}

fn write(db: &Db, seed: u64, writer: usize) {
    let mut number = from_env(&format!("CORTEN_KILL_FROM_{writer}"), 0);
    loop {
        number += 1;
        let plan = Plan::of(seed, writer, number);
        let value = plan.value(number);
        let mut batch = db.batch();
        for half in ['a', 'b'] {
            let key = key(writer, plan.pair, half);
            match (plan.delete, plan.ttl) {
                (true, _) => batch.delete(db, key),
                (false, None) => batch.put(db, key, &value),
                (false, Some(ttl)) => batch.put_with_ttl(db, key, &value, ttl),
            };
        }
        let line = match batch.commit() {
            Ok(seq) => format!("\nacked {writer} {number} {seq}\n"),
            Err(e) => format!("\nfailed a commit of writer {writer}: {e}\n"),
        };
        // One write of less than a page to a pipe is whole or not there.
        let mut out = std::io::stdout().lock();
        if out.write_all(line.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

fn start(budget: &Budget, dir: &Path, round: u64, ledger: &Ledger) -> Child {
    let exe = std::env::current_exe().expect("the path of this test");
    let mut command = Command::new(exe);
    command.args(["--exact", budget.test, "--nocapture", "--test-threads=1"]);
    command.env(CHILD, dir).env("CORTEN_SEED", budget.seed.to_string());
    command.env("CORTEN_KILL_SETUP", (round / ROUNDS_PER_DIRECTORY).to_string());
    for (writer, last) in ledger.last.iter().enumerate() {
        command.env(format!("CORTEN_KILL_FROM_{writer}"), last.to_string());
    }
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let _alone = OPEN_HERE.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn().expect("a child")
}

/// One life and death; returns how many commits were acknowledged in it.
fn one(
    budget: &Budget,
    dir: &Path,
    setup: RealSetup,
    round: u64,
    ledger: &mut Ledger,
) -> Result<u64, String> {
    let mut child = start(budget, dir, round, ledger);
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let mut random = Random::new(mix(budget.seed, round));
    // Mostly in full flight, which begins when the first line comes, however slow the machine is; else while it opens.
    let is_in_flight = random.percent(80);
    let after = Duration::from_micros(random.below(40_000) as u64);
    let (acknowledged, first_line) = mpsc::sync_channel(1);
    let lines = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut lines = Vec::new();
            for line in out.lines().map_while(Result::ok) {
                if line.starts_with("acked ") {
                    let _ = acknowledged.try_send(());
                }
                lines.push(line);
            }
            lines
        });
        if is_in_flight {
            // A child that fails ends, and with it the reader.
            let _ = first_line.recv_timeout(OPEN_MAX);
        }
        std::thread::sleep(after);
        child.kill().expect("it is our child");
        reader.join().expect("it only reads")
    });
    child.wait().expect("it was killed");
    let mut acknowledged = 0;
    for line in lines {
        if let Some(failure) = line.strip_prefix("failed ") {
            return Err(failure.to_owned());
        }
        let Some(rest) = line.strip_prefix("acked ") else { continue };
        let numbers: Vec<u64> = rest.split(' ').filter_map(|word| word.parse().ok()).collect();
        let &[writer, number, seq] = numbers.as_slice() else { continue };
        let writer = writer as usize;
        let plan = Plan::of(budget.seed, writer, number);
        ledger.newest[writer][plan.pair] = number;
        ledger.last[writer] = number;
        ledger.seq_max = ledger.seq_max.max(seq);
        acknowledged += 1;
    }
    check(budget, dir, setup, ledger)?;
    Ok(acknowledged)
}

/// Opens what the child left: everything acknowledged is there, pairs are whole.
fn check(budget: &Budget, dir: &Path, setup: RealSetup, ledger: &mut Ledger) -> Result<(), String> {
    let _here = OPEN_HERE.read().unwrap_or_else(PoisonError::into_inner);
    let db = setup.open(dir).map_err(|e| format!("it does not open: {e}"))?;
    for writer in 0..WRITERS {
        // The commit that was in flight when the child died.
        let next = ledger.last[writer] + 1;
        let in_doubt = Plan::of(budget.seed, writer, next);
        for pair in 0..PAIRS {
            let number = ledger.newest[writer][pair];
            let read = |half| db.get(key(writer, pair, half)).map_err(|e| format!("a read: {e}"));
            let halves = [read('a')?, read('b')?];
            let shows = |number: u64| {
                let plan = Plan::of(budget.seed, writer, number);
                halves.iter().all(|found| match number {
                    0 => found.is_none(),
                    _ => plan.may_show(number, found.as_deref()),
                })
            };
            if shows(number) {
                continue;
            }
            if in_doubt.pair != pair || !shows(next) {
                let [a, b] = halves.map(|found| found.map(|found| found.len()));
                return Err(format!(
                    "commit {number} of writer {writer} was acknowledged, and pair {pair} shows something else: {a:?} and \
                     {b:?} bytes"
                ));
            }
            ledger.newest[writer][pair] = next;
        }
        // A number that may be in the log is not used again.
        ledger.last[writer] += 1;
    }
    let seq = db.put(b"checked", b"").map_err(|e| format!("a write: {e}"))?;
    if seq <= ledger.seq_max {
        return Err(format!("sequence number {seq} was given out after {}", ledger.seq_max)); // I4
    }
    ledger.seq_max = seq;
    db.close().map_err(|e| format!("close: {e}"))
}
