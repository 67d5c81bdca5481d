//! A store of equal records: 64 segments' worth of keys, overwritten in an order that follows from a seed.

use cortenkv_compaction::{
    AgeClass, Choice, Limits, LivenessTable, Origin, RecordInfo, SegmentId, Strategy,
};
use std::collections::BTreeMap;

const RECORD_BYTES: u64 = 128;
const SEGMENT_RECORDS: usize = 1_024;
const KEYS: usize = 64 * SEGMENT_RECORDS;

#[derive(Debug, Clone, Copy)]
pub enum Keys {
    /// Each key as often as any other.
    Uniform,
    /// The n-th hottest key 1 / n as often as the hottest.
    Zipf,
}

#[derive(Debug)]
pub struct Figures {
    /// The most after any round, once the store has been overwritten twice.
    pub space_amplification_max: f64,
    /// Records written by records written by the user, from there on.
    pub write_amplification: f64,
}

pub struct Simulation {
    keys: Keys,
    limits: Limits,
    table: LivenessTable,
    segments: BTreeMap<SegmentId, Vec<u32>>,
    /// Where the newest record of each key is.
    home: Vec<SegmentId>,
    newest: SegmentId,
    active: SegmentId,
    written: u64,
    random: u64,
}

impl Simulation {
    pub fn new(keys: Keys, target: f64) -> Self {
        let mut limits = Limits::default();
        (limits.target_busy, limits.garbage_bytes_min) = (target, 1);
        limits.segment_bytes = RECORD_BYTES * SEGMENT_RECORDS as u64;
        limits.live_bytes_max = 4 * limits.segment_bytes;
        let mut simulation = Simulation {
            keys,
            limits,
            table: LivenessTable::new(),
            segments: BTreeMap::new(),
            home: vec![0; KEYS],
            newest: 0,
            active: 0,
            written: 0,
            random: 42,
        };
        simulation.active = simulation.begin(AgeClass::New);
        (0..KEYS as u32).for_each(|key| simulation.put(key));
        simulation
    }

    /// Overwrites the data set so many times; the first two warm up.
    pub fn overwrite(mut self, times: usize, strategy: &dyn Strategy) -> Figures {
        let zipf_total: f64 = (1..=KEYS).map(|n| 1.0 / n as f64).sum();
        let (mut space, mut from) = (1.0f64, 0);
        for n in 0..times * KEYS {
            let warm = n >= 2 * KEYS;
            if n == 2 * KEYS {
                from = self.written;
            }
            let key = self.next_key(zipf_total);
            self.put(key);
            if n % 256 == 0 {
                self.compact(strategy);
                if warm {
                    space = space.max(self.table.space_amplification());
                }
            }
        }
        let user = ((times - 2) * KEYS) as f64;
        let write_amplification = (self.written - from) as f64 / user;
        Figures { space_amplification_max: space, write_amplification }
    }

    fn next_key(&mut self, zipf_total: f64) -> u32 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let unit = (self.random >> 11) as f64 / (1u64 << 53) as f64;
        let rank = match self.keys {
            Keys::Uniform => unit * KEYS as f64,
            // The sum to rank n is about ln(n) + 0.577; solved for n.
            Keys::Zipf => (unit * zipf_total - 0.577_215_664_9).exp() - 0.5,
        };
        // Hot keys are spread over the segments of the load.
        (rank.max(0.0) as u64 * 40_503 % KEYS as u64) as u32
    }

    fn begin(&mut self, class: AgeClass) -> SegmentId {
        self.newest += 1;
        let mut origin = Origin::new(self.newest);
        origin.class = class;
        self.table.create(self.newest, origin);
        self.segments.insert(self.newest, Vec::new());
        self.newest
    }

    fn put(&mut self, key: u32) {
        if self.segments[&self.active].len() == SEGMENT_RECORDS {
            self.active = self.begin(AgeClass::New);
        }
        self.append(self.active, key);
    }

    fn append(&mut self, segment: SegmentId, key: u32) {
        self.table.add(segment, RecordInfo::put(RECORD_BYTES));
        let old = std::mem::replace(&mut self.home[key as usize], segment);
        // 0 is no segment, so the first record of a key kills none.
        self.table.dead(old, RecordInfo::put(RECORD_BYTES));
        self.segments.get_mut(&segment).expect("is there").push(key);
        self.written += 1;
    }

    fn compact(&mut self, strategy: &dyn Strategy) {
        loop {
            let active = self.active;
            let stats = self.table.stats(0, |id| id != active);
            let Choice::Compact { segments, .. } = strategy.pick(&stats, &self.limits) else {
                return;
            };
            let mut outputs: BTreeMap<AgeClass, SegmentId> = BTreeMap::new();
            for victim in segments {
                let class = self.table.get(victim, 0).expect("is there").class.survived();
                let keys = self.segments.remove(&victim).expect("picked once");
                for key in keys {
                    // A key that is in the segment twice has moved at the first.
                    if self.home[key as usize] != victim {
                        continue;
                    }
                    let full = outputs
                        .get(&class)
                        .is_none_or(|output| self.segments[output].len() == SEGMENT_RECORDS);
                    if full {
                        outputs.insert(class, self.begin(class));
                    }
                    self.append(outputs[&class], key);
                }
                assert_eq!(self.table.retire(victim).expect("is there").live_bytes, 0);
            }
        }
    }
}
