//! A store that updates the same keys for ever, and stays small: `cargo run -p cortenkv-compaction --example endless_updates`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use cortenkv_compaction::{Greedy, Installed, Limits, LiveRecord, LivenessTable, SegmentId};
use cortenkv_compaction::{SegmentOutput, SegmentStats, SegmentStore, compact_once};

const SEGMENT_RECORDS: usize = 1_000;
const RECORD_BYTES: u64 = 100;

/// Segments of keys (a value would be 96 bytes of anything), and where the newest record of each key is.
#[derive(Default)]
struct Store {
    segments: RefCell<BTreeMap<SegmentId, Vec<u32>>>,
    newest: RefCell<BTreeMap<u32, SegmentId>>,
    liveness: LivenessTable,
}

impl Store {
    /// Appends to the newest segment; returns it.
    fn append(&self, key: u32) -> SegmentId {
        let mut segments = self.segments.borrow_mut();
        let last = segments.last_key_value().map_or((1, 0), |(&id, keys)| (id, keys.len()));
        let id = if last.1 == SEGMENT_RECORDS { last.0 + 1 } else { last.0 };
        segments.entry(id).or_default().push(key);
        self.liveness.add(id, RECORD_BYTES);
        id
    }

    fn put(&self, key: u32) {
        let id = self.append(key);
        if let Some(old) = self.newest.borrow_mut().insert(key, id) {
            self.liveness.dead(old, RECORD_BYTES);
        }
    }
}

impl SegmentStore for Store {
    type Error = Infallible;
    type Output<'a> = Copies<'a>;

    fn segments(&self) -> Result<Vec<SegmentStats>, Infallible> {
        let active = self.segments.borrow().last_key_value().map(|(&id, _)| id);
        Ok(self.liveness.stats(|id| Some(id) != active))
    }

    fn read_live(
        &self,
        id: SegmentId,
        visit: &mut dyn FnMut(LiveRecord<'_>),
    ) -> Result<(), Infallible> {
        // A key may be in a segment twice; its newest record is the last one.
        let keys: std::collections::BTreeSet<u32> =
            self.segments.borrow()[&id].iter().copied().collect();
        for key in keys.into_iter().filter(|key| self.newest.borrow()[key] == id) {
            visit(LiveRecord { keyspace: 0, key: &key.to_be_bytes(), token: id, body: &[] });
        }
        Ok(())
    }

    fn output(&self) -> Result<Copies<'_>, Infallible> {
        Ok(Copies(self, Vec::new()))
    }

    fn retire(&self, ids: &[SegmentId]) -> Result<(), Infallible> {
        for id in ids {
            self.liveness.retire(*id);
            self.segments.borrow_mut().remove(id);
        }
        Ok(())
    }
}

struct Copies<'a>(&'a Store, Vec<u32>);

impl SegmentOutput for Copies<'_> {
    type Error = Infallible;

    fn append(&mut self, record: LiveRecord<'_>) -> Result<(), Infallible> {
        self.1.push(u32::from_be_bytes(record.key.try_into().expect("keys have four bytes")));
        Ok(())
    }

    fn install(self) -> Result<Installed, Infallible> {
        self.1.iter().for_each(|&key| self.0.put(key));
        Ok(Installed { records_moved: self.1.len() as u64, records_lost: 0 })
    }
}

fn main() -> Result<(), Infallible> {
    let (store, mut copied, mut state) = (Store::default(), 0, 1u64);
    const UPDATES: u64 = 1_000_000;
    let mut limits = Limits::default();
    limits.garbage_bytes_min = 10 * RECORD_BYTES; // the default is for segments of megabytes
    for n in 0..UPDATES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        store.put((state >> 33) as u32 % 50_000);
        if n % 1_000 == 0 {
            while let Some(report) = compact_once(&store, &Greedy, &limits)? {
                copied += report.installed.records_moved;
            }
        }
    }
    println!("{UPDATES} updates of 50000 keys:");
    println!("  space amplification {:.2}", store.liveness.space_amplification());
    println!("  write amplification {:.2}", (UPDATES + copied) as f64 / UPDATES as f64);
    Ok(())
}
