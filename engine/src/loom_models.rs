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
    use loom::sync::atomic::AtomicU64;
    use loom::sync::atomic::Ordering::{Acquire, Release};
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

    struct Toy {
        gate: RwLock<()>,
        last: Mutex<SeqNo>,
        /// Relaxed and durable commits come into it by two ways, so not in their order.
        index: Mutex<SeqNo>,
        newest: NewestWord,
        kept: Mutex<Vec<SeqNo>>,
        /// The durable commit that was appended, and the one that was installed; 0 for none.
        durable: AtomicU64,
        settled: Mutex<SeqNo>,
        moved: Condvar,
        defect: Defect,
    }

    impl Toy {
        fn append(&self) -> SeqNo {
            let mut last = self.last.lock().unwrap();
            *last += 1;
            *last
        }

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

        /// Held from the append to the installation.
        fn commit_relaxed(&self) {
            let _shared = self.gate.read().unwrap();
            self.install(self.append());
        }

        /// The gate is held for the append; the leader installs later.
        fn append_durable(&self) -> SeqNo {
            let _shared = self.gate.read().unwrap();
            let seq = self.append();
            self.durable.store(seq, Release);
            seq
        }

        fn install_durable(&self, seq: SeqNo) {
            self.install(seq);
            *self.settled.lock().unwrap() = seq;
            self.moved.notify_all();
        }

        /// The newest commit that is shown, when everything up to it is installed.
        fn choose_seq(&self) -> SeqNo {
            let alone = (self.defect != Defect::NoGate).then(|| self.gate.write().unwrap());
            let (seq, durable) = (*self.last.lock().unwrap(), self.durable.load(Acquire));
            drop(alone);
            if self.defect != Defect::NobodySettles {
                let mut settled = self.settled.lock().unwrap();
                while *settled < durable {
                    settled = self.moved.wait(settled).unwrap();
                }
            }
            seq
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
                last: Mutex::new(0),
                index: Mutex::new(0),
                newest: NewestWord::new(),
                kept: Mutex::new(Vec::new()),
                durable: AtomicU64::new(0),
                settled: Mutex::new(0),
                moved: Condvar::new(),
                defect,
            });
            // Appended before, so that few preemptions are needed for the others to overtake it.
            let durable = has_durable.then(|| toy.append_durable());
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
