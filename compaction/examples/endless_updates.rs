//! Which segments to rewrite, without anything else of this crate: a store of numbers that updates the same keys for
//! ever, and stays small. `cargo run -p cortenkv-compaction --example endless_updates`

use std::collections::BTreeMap;

use cortenkv_compaction::{
    AgeClass, Choice, CostBenefit, Limits, LivenessTable, Origin, RecordInfo, SegmentId, Strategy,
};

const KEYS: usize = 50_000;
const UPDATES: usize = 1_000_000;
const SEGMENT_RECORDS: usize = 1_000;
const RECORD_BYTES: u64 = 100;

/// Segments of keys (a value would be 96 bytes of anything), and where the newest record of each key is.
struct Store {
    segments: BTreeMap<SegmentId, Vec<usize>>,
    home: Vec<SegmentId>,
    table: LivenessTable,
    newest: SegmentId,
}

impl Store {
    fn begin(&mut self, class: AgeClass) -> SegmentId {
        self.newest += 1;
        let mut origin = Origin::new(self.newest);
        origin.class = class;
        self.table.create(self.newest, origin);
        self.segments.insert(self.newest, Vec::new());
        self.newest
    }

    fn append(&mut self, segment: SegmentId, key: usize) {
        self.segments.get_mut(&segment).expect("it was begun").push(key);
        self.table.add(segment, RecordInfo::put(RECORD_BYTES));
        let old = std::mem::replace(&mut self.home[key], segment);
        self.table.dead(old, RecordInfo::put(RECORD_BYTES)); // there is no segment 0, so the first kills nothing
    }

    /// Copies what lives in the victims to segments of survivors; returns how much that was.
    fn rewrite(&mut self, victims: Vec<SegmentId>) -> usize {
        let (mut copied, mut output) = (0, None);
        for victim in victims {
            for key in self.segments.remove(&victim).expect("a victim is there") {
                if self.home[key] == victim {
                    let full = |id: &SegmentId| self.segments[id].len() == SEGMENT_RECORDS;
                    output = output.filter(|id| !full(id));
                    let into = *output.get_or_insert_with(|| self.begin(AgeClass::SurvivedOnce));
                    self.append(into, key);
                    copied += 1;
                }
            }
            self.table.retire(victim);
        }
        copied
    }
}

fn main() {
    let (home, segments, table) = (vec![0; KEYS], BTreeMap::new(), LivenessTable::new());
    let mut store = Store { segments, home, table, newest: 0 };
    let mut limits = Limits::default();
    limits.garbage_bytes_min = RECORD_BYTES; // the default is for segments of megabytes
    let (mut active, mut copied, mut state) = (store.begin(AgeClass::New), 0, 1u64);
    for n in 0..UPDATES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        store.append(active, (state >> 33) as usize % KEYS);
        if (n + 1) % SEGMENT_RECORDS == 0 {
            active = store.begin(AgeClass::New);
            let pick = |s: &Store| CostBenefit.pick(&s.table.stats(0, |id| id != active), &limits);
            while let Choice::Compact { segments, .. } = pick(&store) {
                copied += store.rewrite(segments);
            }
        }
    }
    println!("{UPDATES} updates of {KEYS} keys:");
    println!("  space amplification {:.2}", store.table.space_amplification());
    println!("  write amplification {:.2}", (UPDATES + copied) as f64 / UPDATES as f64);
}
