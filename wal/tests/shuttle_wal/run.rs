//! One schedule: writers on a log, and a ledger of what they were told.

use std::sync::{Arc, Mutex};

use cortenkv_wal::clock::ManualClock;
use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::{
    Background, Batch, ClosedReason, Durability, ErrorKind, RecordRef, Result, SeqNo, TailKind,
    Wal, WalOptions,
};
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;

use crate::check;

pub(crate) const DIR: &str = "log";

/// What the schedules of a test have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Each commit has one of these.
    pub(crate) modes: &'static [Durability],
    pub(crate) background: Background,
    /// The canary: one record is kept from the handler.
    pub(crate) deaf_handler: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Setting { modes: &[], background: Background::Manual, deaf_handler: false }
    }
}

/// A commit that is in the log.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) seq: SeqNo,
    /// Its records, in order.
    pub(crate) records: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What somebody was told, and the crash point of that moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promise {
    pub(crate) point: usize,
    /// Every commit up to here survives the death of the process.
    pub(crate) seq: SeqNo,
    /// Of those, so many of the newest may be lost with the power; `None` for all of them.
    pub(crate) losable: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) placed: Vec<Placed>,
    pub(crate) promises: Vec<Promise>,
    /// What the handler was offered: sequence and key, in the order of the calls.
    pub(crate) offered: Vec<(SeqNo, Vec<u8>)>,
}

/// A log and all that is known about it.
pub(crate) struct Scene {
    pub(crate) sim: SimVfs,
    pub(crate) options: WalOptions,
    pub(crate) setting: Setting,
    pub(crate) wal: Wal,
    /// A lock of std: it is never held where another thread can run.
    pub(crate) ledger: Arc<Mutex<Ledger>>,
}

/// Builds a log, lets threads use it, cuts the power.
pub(crate) fn schedule(setting: &Setting) {
    let scene = Arc::new(Scene::new(*setting));
    let opened = scene.sim.point();
    let writers = thread_rng().gen_range(2..=3);
    let busy = Arc::new(AtomicUsize::new(writers));
    let mut threads: Vec<_> = (0..writers)
        .map(|writer| {
            let (scene, busy) = (Arc::clone(&scene), Arc::clone(&busy));
            thread::spawn(move || {
                scene.write(writer);
                busy.fetch_sub(1, Ordering::SeqCst);
            })
        })
        .collect();
    if setting.background == Background::Manual {
        let scene = Arc::clone(&scene);
        threads.push(thread::spawn(move || scene.step_while(&busy)));
    }
    if thread_rng().gen_bool(0.3) {
        scene.close();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    if thread_rng().gen_bool(0.5) {
        scene.close();
    }
    check::all(&scene, opened);
}

impl Scene {
    fn new(setting: Setting) -> Scene {
        let sim = SimVfs::new(thread_rng().r#gen());
        let options = WalOptions::default()
            .vfs(Arc::new(sim.clone()))
            .clock(Arc::new(ManualClock::at_wall_ms(1)))
            .background(setting.background)
            .tail(if thread_rng().gen_bool(0.5) { TailKind::Mapped } else { TailKind::Written })
            .compression(thread_rng().gen_bool(0.2))
            .segment_bytes(16 << 10)
            .window_bytes(4 << 10);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let handler = {
            let ledger = Arc::clone(&ledger);
            Arc::new(move |records: &[RecordRef<'_>]| {
                let offered = records.iter().skip(usize::from(setting.deaf_handler));
                let offered = offered.map(|record| (record.seq, record.key.to_vec()));
                ledger.lock().unwrap().offered.extend(offered);
            })
        };
        let (wal, _) = Wal::open(DIR, options.clone(), handler).unwrap();
        Scene { sim, options, setting, wal, ledger }
    }

    /// What one thread does.
    fn write(&self, writer: usize) {
        for number in 0..thread_rng().gen_range(2..=5) {
            if thread_rng().gen_bool(0.1) {
                self.told(self.wal.sync().map(|seq| (seq, Some(0))));
                continue;
            }
            let records = records(&format!("{writer}-{number}"));
            let mut batch = Batch::new();
            for (key, value) in &records {
                batch.put(0, key, value).unwrap();
            }
            let modes = self.setting.modes;
            let mode = modes[thread_rng().gen_range(0..modes.len())];
            if thread_rng().gen_bool(0.3) {
                self.append_async(&batch, records, mode);
            } else {
                let result = self.wal.append_with(&batch, mode);
                if let Ok(seq) = result {
                    self.place(seq, records);
                    self.assert_offered(seq);
                }
                self.told(result.map(|seq| (seq, losable(mode))));
            }
        }
    }

    fn append_async(&self, batch: &Batch, records: Vec<(Vec<u8>, Vec<u8>)>, mode: Durability) {
        let ticket = match self.wal.append_async(batch, mode) {
            Ok(ticket) => ticket,
            Err(e) => return self.told(Err(e)),
        };
        let seq = ticket.seq();
        self.place(seq, records);
        let result = match thread_rng().gen_range(0..4) {
            // Dropped: it takes place, but nobody is told.
            0 => return,
            1 => ticket.wait(),
            _ => block_on(ticket),
        };
        if result.is_ok() {
            self.assert_offered(seq);
        }
        self.told(result.map(|seq| (seq, losable(mode))));
    }

    /// Notes a commit that is in the log.
    fn place(&self, seq: SeqNo, records: Vec<(Vec<u8>, Vec<u8>)>) {
        self.ledger.lock().unwrap().placed.push(Placed { seq, records });
    }

    /// Notes what somebody was told: a promise, or that the log is closed.
    fn told(&self, result: Result<(SeqNo, Option<u64>)>) {
        match result {
            Ok((seq, losable)) => {
                let promise = Promise { point: self.sim.point(), seq, losable };
                self.ledger.lock().unwrap().promises.push(promise);
            }
            Err(e) => assert_eq!(*e.kind(), ErrorKind::Closed(ClosedReason::Clean), "{e}"),
        }
    }

    fn assert_offered(&self, seq: SeqNo) {
        let ledger = self.ledger.lock().unwrap();
        let Some(commit) = ledger.placed.iter().find(|commit| commit.seq == seq) else { return };
        for (key, _) in &commit.records {
            let found = ledger.offered.iter().any(|(at, offered)| *at == seq && offered == key);
            assert!(found, "the handler was not offered a record of commit {seq}");
        }
    }

    fn close(&self) {
        self.wal.close().unwrap();
        let seq = self.wal.last_seq();
        self.told(Ok((seq, Some(0))));
    }

    /// Background work while somebody writes.
    fn step_while(&self, busy: &AtomicUsize) {
        while busy.load(Ordering::SeqCst) > 0 {
            if let Err(e) = self.wal.step() {
                assert_eq!(*e.kind(), ErrorKind::Closed(ClosedReason::Clean), "{e}");
            }
            thread::yield_now();
        }
    }
}

/// Of the commits up to an acknowledged one, how many may a power cut take?
fn losable(mode: Durability) -> Option<u64> {
    match mode {
        Durability::EveryN(n) => Some(u64::from(n) - 1),
        mode if mode.is_durable() => Some(0),
        _ => None,
    }
}

/// The records of a commit: mostly one, sometimes several, sometimes one that is copied outside the lock.
fn records(name: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut random = thread_rng();
    let count = if random.gen_bool(0.3) { random.gen_range(2..=4) } else { 1 };
    let large = random.gen_bool(0.3);
    (0..count)
        .map(|i| {
            let value_bytes = if large && i == 0 {
                random.gen_range(4096..6000)
            } else {
                random.gen_range(0..80)
            };
            let fill: u8 = random.r#gen();
            (format!("{name}-{i}").into_bytes(), vec![fill | 1; value_bytes])
        })
        .collect()
}
