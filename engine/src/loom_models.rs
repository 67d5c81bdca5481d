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
