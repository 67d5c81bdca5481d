//! A store of segments in memory, whose every operation can fail or be followed by a write that nobody expects.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

use cortenkv_compaction::{
    Installed, LiveRecord, LivenessTable, SegmentId, SegmentOutput, SegmentStats, SegmentStore,
};

pub const SEGMENT_RECORDS: usize = 8;

#[derive(Debug, PartialEq)]
pub struct Injected(pub u32);

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operation {} was told to fail", self.0)
    }
}

impl std::error::Error for Injected {}

type Record = (Vec<u8>, Vec<u8>);

/// The token of a record is its segment and its place in it.
#[derive(Default)]
pub struct MemoryStore {
    segments: RefCell<BTreeMap<SegmentId, Vec<Record>>>,
    index: RefCell<BTreeMap<Vec<u8>, u64>>,
    pub liveness: LivenessTable,
    newest: Cell<SegmentId>,
    operations: Cell<u32>,
    pub fail_at: Cell<Option<u32>>,
    /// A write that comes between the copy and the install of a round.
    pub late_write: RefCell<Option<Record>>,
}

fn token(segment: SegmentId, place: usize) -> u64 {
    segment << 16 | place as u64
}

fn bytes(key: &[u8], body: &[u8]) -> u64 {
    (key.len() + body.len()) as u64
}

impl MemoryStore {
    pub fn put(&self, key: &[u8], value: &[u8]) {
        let mut segments = self.segments.borrow_mut();
        let newest = self.newest.get();
        let newest = match segments.get(&newest) {
            Some(records) if records.len() < SEGMENT_RECORDS => newest,
            _ => newest + 1,
        };
        self.newest.set(newest);
        let records = segments.entry(newest).or_default();
        records.push((key.to_vec(), value.to_vec()));
        self.liveness.add(newest, bytes(key, value));
        let new = token(newest, records.len() - 1);
        if let Some(old) = self.index.borrow_mut().insert(key.to_vec(), new) {
            let (key, value) = &segments[&(old >> 16)][old as usize & 0xFFFF];
            self.liveness.dead(old >> 16, bytes(key, value));
        }
    }

    pub fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let segments = self.segments.borrow();
        let read = |at: u64| segments[&(at >> 16)][at as usize & 0xFFFF].1.clone();
        self.index.borrow().iter().map(|(key, &at)| (key.clone(), read(at))).collect()
    }

    pub fn segment_ids(&self) -> Vec<SegmentId> {
        self.segments.borrow().keys().copied().collect()
    }

    pub fn keys_of(&self, segment: SegmentId) -> Vec<Vec<u8>> {
        self.segments.borrow()[&segment].iter().map(|(key, _)| key.clone()).collect()
    }

    /// Counts the live bytes of every segment again, by the index alone.
    pub fn check_liveness(&self) {
        let segments = self.segments.borrow();
        let mut live: BTreeMap<SegmentId, u64> = segments.keys().map(|&id| (id, 0)).collect();
        for at in self.index.borrow().values() {
            let (key, value) = &segments[&(at >> 16)][*at as usize & 0xFFFF];
            *live.get_mut(&(at >> 16)).expect("an entry points at a segment") += bytes(key, value);
        }
        let counted: BTreeMap<_, _> = self
            .liveness
            .stats(|_| true)
            .iter()
            .map(|stats| (stats.id, stats.live_bytes))
            .collect();
        assert_eq!(counted, live);
        assert_eq!(self.liveness.totals().overcounted_bytes, 0);
    }

    /// Lets the operation after so many others fail.
    pub fn fail_after(&self, operations: u32) {
        self.fail_at.set(Some(self.operations.get() + operations));
    }

    fn operation(&self) -> Result<(), Injected> {
        let n = self.operations.get();
        self.operations.set(n + 1);
        if self.fail_at.get() == Some(n) { Err(Injected(n)) } else { Ok(()) }
    }
}

impl SegmentStore for MemoryStore {
    type Error = Injected;
    type Output<'a> = MemoryOutput<'a>;

    fn segments(&self) -> Result<Vec<SegmentStats>, Injected> {
        self.operation()?;
        Ok(self.liveness.stats(|segment| segment != self.newest.get()))
    }

    fn read_live(
        &self,
        segment: SegmentId,
        visit: &mut dyn FnMut(LiveRecord<'_>),
    ) -> Result<(), Injected> {
        self.operation()?;
        for (place, (key, body)) in self.segments.borrow()[&segment].iter().enumerate() {
            if self.index.borrow().get(key) == Some(&token(segment, place)) {
                visit(LiveRecord { keyspace: 0, key, token: token(segment, place), body });
            }
        }
        Ok(())
    }

    fn output(&self) -> Result<MemoryOutput<'_>, Injected> {
        self.operation()?;
        Ok(MemoryOutput { store: self, records: Vec::new() })
    }

    fn retire(&self, segments: &[SegmentId]) -> Result<(), Injected> {
        self.operation()?;
        for segment in segments {
            let stats = self.liveness.retire(*segment).expect("retired once");
            assert_eq!(stats.live_bytes, 0, "segment {segment} still has live records");
            self.segments.borrow_mut().remove(segment);
        }
        Ok(())
    }
}

pub struct MemoryOutput<'a> {
    store: &'a MemoryStore,
    records: Vec<(u64, Record)>,
}

impl SegmentOutput for MemoryOutput<'_> {
    type Error = Injected;

    fn append(&mut self, record: LiveRecord<'_>) -> Result<(), Injected> {
        self.store.operation()?;
        self.records.push((record.token, (record.key.to_vec(), record.body.to_vec())));
        Ok(())
    }

    fn install(self) -> Result<Installed, Injected> {
        let store = self.store;
        if let Some((key, value)) = store.late_write.take() {
            store.put(&key, &value);
        }
        store.operation()?;
        let segment = store.newest.get() + 1;
        store.newest.set(segment + 1);
        let mut installed = Installed::default();
        let mut records = Vec::new();
        for (old, (key, body)) in self.records {
            let size = bytes(&key, &body);
            store.liveness.add(segment, size);
            let mut index = store.index.borrow_mut();
            if index.get(&key) == Some(&old) {
                index.insert(key.clone(), token(segment, records.len()));
                store.liveness.dead(old >> 16, size);
                installed.records_moved += 1;
            } else {
                store.liveness.dead(segment, size);
                installed.records_lost += 1;
            }
            records.push((key, body));
        }
        store.segments.borrow_mut().insert(segment, records);
        Ok(installed)
    }
}
