//! Models of the protocols, which loom runs through every interleaving up to a bound on preemptions.
//!
//! `cargo xtask loom` runs them. Each model comes with a canary: the same model with one step broken, which loom must
//! notice, so that a model that cannot fail is noticed, too.

use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

use crate::in_flight::InFlight;
use crate::record::SeqNo;

/// What is wrong with the installer or the readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    /// The range is registered after the first record is in the index.
    LateRegistration,
    /// The guard goes before the last record is in the index.
    EarlyEnd,
    /// A reader does not ask.
    NobodyAsks,
}

/// An index of two keys: the number of the commit whose record each has.
struct Toy {
    keys: [AtomicU64; 2],
    in_flight: InFlight,
}

impl Toy {
    fn new() -> Self {
        Toy { keys: [AtomicU64::new(0), AtomicU64::new(0)], in_flight: InFlight::new() }
    }

    /// Both keys in one batch.
    fn install(&self, seq: SeqNo, defect: Defect) {
        let put = |key: usize| self.keys[key].store(seq, Release);
        if defect == Defect::LateRegistration {
            put(0);
        }
        let guard = self.in_flight.begin(seq, seq);
        put(0);
        if defect == Defect::EarlyEnd {
            drop(guard);
            return put(1);
        }
        put(1);
    }

    fn get(&self, key: usize, defect: Defect) -> SeqNo {
        loop {
            let seq = self.keys[key].load(Acquire);
            if defect == Defect::NobodyAsks || !self.in_flight.wait_if_under_way(seq) {
                return seq;
            }
        }
    }
}

/// Two readers, each in another order, beside the installer of `batches` batches one after the other.
fn whole_batches(batches: SeqNo, readers: usize, defect: Defect) {
    loom::model(move || {
        let toy = Arc::new(Toy::new());
        let readers: Vec<_> = (0..readers)
            .map(|first| {
                let toy = Arc::clone(&toy);
                thread::spawn(move || {
                    let seen = toy.get(first, defect);
                    let other = toy.get(1 - first, defect);
                    assert!(other >= seen, "half a batch: {seen} of one key, {other} of the other");
                })
            })
            .collect();
        (1..=batches).for_each(|seq| toy.install(seq, defect));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn two_readers_see_whole_batches() {
    whole_batches(1, 2, Defect::None);
}

#[test]
fn a_slot_that_is_used_again_hides_nothing() {
    whole_batches(2, 1, Defect::None);
}

#[test]
fn installers_share_the_slots() {
    loom::model(|| {
        let toy = Arc::new(Toy::new());
        // Two slots: the third installer waits for one.
        let _first = toy.in_flight.begin(10, 10);
        let others: Vec<_> = [1, 2]
            .map(|seq| {
                let toy = Arc::clone(&toy);
                thread::spawn(move || toy.install(seq, Defect::None))
            })
            .into_iter()
            .collect();
        others.into_iter().for_each(|installer| installer.join().unwrap());
        assert!(toy.in_flight.is_under_way(10) && !toy.in_flight.is_under_way(2));
    });
}

#[test]
#[should_panic(expected = "half a batch")]
fn canary_late_registration() {
    whole_batches(1, 1, Defect::LateRegistration);
}

#[test]
#[should_panic(expected = "half a batch")]
fn canary_early_end() {
    whole_batches(1, 1, Defect::EarlyEnd);
}

#[test]
#[should_panic(expected = "half a batch")]
fn canary_nobody_asks() {
    whole_batches(1, 1, Defect::NobodyAsks);
}

/// A database of one key: a log that gives out numbers, an index, the gate, and the versions that were kept.
///
/// L12: a snapshot is registered between a writer's look and its install.
mod snapshots {
    use loom::sync::{Arc, Condvar, Mutex, RwLock};
    use loom::thread;

    use crate::record::SeqNo;
    use crate::snapshot::word::{NewestWord, PENDING};

    /// What is wrong with who opens, or with the writers.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Defect {
        None,
        /// The number is chosen before the snapshot is announced.
        LateAnnouncement,
        /// The gate is not taken.
        NoGate,
        /// Nobody waits for what was appended before and is not installed yet.
        NobodySettles,
        /// A record that came too late to be installed is not kept.
        StaleForgotten,
    }

    /// The newest commits of each sort; 0 for none.
    #[derive(Debug, Clone, Copy, Default)]
    struct Log {
        last: SeqNo,
        relaxed: SeqNo,
        durable: SeqNo,
    }

    struct Toy {
        gate: RwLock<()>,
        log: Mutex<Log>,
        /// Relaxed and durable commits come into it by two ways, so not in their order.
        index: Mutex<SeqNo>,
        newest: NewestWord,
        kept: Mutex<Vec<SeqNo>>,
        /// The durable commit that a leader has installed; 0 for none.
        led: Mutex<SeqNo>,
        moved: Condvar,
        defect: Defect,
    }

    impl Toy {
        fn keep(&self, seq: SeqNo) {
            if seq != 0 && self.newest.covers(seq) {
                self.kept.lock().unwrap().push(seq);
            }
        }

        /// As the index does: looks, tells what is about to be replaced, and replaces that if it is there still.
        fn install(&self, seq: SeqNo) {
            loop {
                let old = *self.index.lock().unwrap();
                if old > seq {
                    if self.defect != Defect::StaleForgotten {
                        self.keep(seq);
                    }
                    return;
                }
                self.keep(old);
                let mut now = self.index.lock().unwrap();
                if *now == old {
                    *now = seq;
                    return;
                }
            }
        }

        /// The gate is held from the append to the installation.
        fn commit_relaxed(&self) {
            let _shared = self.gate.read().unwrap();
            let seq = {
                let mut log = self.log.lock().unwrap();
                log.last += 1;
                log.relaxed = log.last;
                log.last
            };
            self.install(seq);
        }

        /// Nothing is held; the leader installs later.
        fn append_durable(&self) -> SeqNo {
            let mut log = self.log.lock().unwrap();
            log.last += 1;
            log.durable = log.last;
            log.last
        }

        /// The leader has the gate while it installs.
        fn install_durable(&self, seq: SeqNo) {
            {
                let _shared = self.gate.read().unwrap();
                self.install(seq);
                *self.led.lock().unwrap() = seq;
            }
            self.moved.notify_all();
        }

        /// The newest commit up to which everything is installed.
        fn choose_seq(&self) -> SeqNo {
            let settled = {
                let _alone = (self.defect != Defect::NoGate).then(|| self.gate.write().unwrap());
                let (log, led) = (*self.log.lock().unwrap(), *self.led.lock().unwrap());
                match log {
                    Log { last, durable, .. } if durable <= led => Some(last),
                    Log { relaxed, .. } if relaxed <= led => Some(led),
                    _ => None,
                }
            };
            settled.unwrap_or_else(|| self.settle())
        }

        /// A relaxed commit stands behind one that is not installed yet: that one is waited for.
        fn settle(&self) -> SeqNo {
            let log = *self.log.lock().unwrap();
            if self.defect != Defect::NobodySettles {
                let mut led = self.led.lock().unwrap();
                while *led < log.durable {
                    led = self.moved.wait(led).unwrap();
                }
                drop(led);
                drop(self.gate.write().unwrap());
            }
            log.last
        }

        fn open(&self) -> SeqNo {
            let early = (self.defect == Defect::LateAnnouncement).then(|| self.choose_seq());
            self.newest.set(PENDING);
            let seq = early.unwrap_or_else(|| self.choose_seq());
            self.newest.set(seq);
            seq
        }

        fn read_at(&self, seq: SeqNo) -> SeqNo {
            let newest = *self.index.lock().unwrap();
            if newest <= seq {
                return newest;
            }
            let kept = self.kept.lock().unwrap();
            kept.iter().copied().filter(|version| *version <= seq).max().unwrap_or(0)
        }
    }

    /// Every commit writes the key, so a snapshot shows the commit of its own number, and shows it again.
    fn model(has_durable: bool, defect: Defect) {
        loom::model(move || {
            let toy = Arc::new(Toy {
                gate: RwLock::new(()),
                log: Mutex::new(Log::default()),
                index: Mutex::new(0),
                newest: NewestWord::new(),
                kept: Mutex::new(Vec::new()),
                led: Mutex::new(0),
                moved: Condvar::new(),
                defect,
            });
            // A relaxed commit and one that waits for its sync, as few steps away from all that can go wrong as can be.
            let durable = has_durable.then(|| {
                toy.commit_relaxed();
                toy.append_durable()
            });
            let writers = [durable, None].map(|durable| {
                let toy = Arc::clone(&toy);
                thread::spawn(move || match durable {
                    Some(seq) => toy.install_durable(seq),
                    None => toy.commit_relaxed(),
                })
            });
            let seq = toy.open();
            let shown = toy.read_at(seq);
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            // Only now: a panic beside threads that hold locks is no answer.
            assert_eq!((shown, toy.read_at(seq)), (seq, seq), "another moment");
        });
    }

    #[test]
    fn a_snapshot_beside_relaxed_commits_shows_its_moment() {
        model(false, Defect::None);
    }

    #[test]
    fn a_snapshot_beside_a_durable_commit_shows_its_moment() {
        model(true, Defect::None);
    }

    #[test]
    #[should_panic(expected = "another moment")]
    fn canary_late_announcement() {
        model(false, Defect::LateAnnouncement);
    }

    #[test]
    #[should_panic(expected = "another moment")]
    fn canary_no_gate() {
        model(false, Defect::NoGate);
    }

    #[test]
    #[should_panic(expected = "another moment")]
    fn canary_nobody_settles() {
        model(true, Defect::NobodySettles);
    }

    #[test]
    #[should_panic(expected = "another moment")]
    fn canary_stale_forgotten() {
        model(true, Defect::StaleForgotten);
    }
}
