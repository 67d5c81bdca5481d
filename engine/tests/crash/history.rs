//! The commits of a trace in their order, and the state after each of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use cortenkv::Entry;

/// Names of the keyspaces of a trace; the first is there from the start.
pub const KEYSPACES: [&str; 3] = ["default", "first", "second"];

/// Keys of each keyspace.
pub const KEYS: usize = 12;

/// Every key of every keyspace.
pub const SLOTS: usize = KEYSPACES.len() * KEYS;

/// A key of a keyspace, as a number below [`SLOTS`].
pub type Slot = usize;

/// So many commits; the state after none is 0.
pub type Prefix = usize;

const NOTHING: u32 = u32::MAX;

/// The bytes of a key. Prefixes of one another, the empty key and a long one are among them.
pub fn key_of(slot: Slot) -> &'static [u8] {
    const LONG: [u8; 300] = [b'l'; 300];
    const ALL: [&[u8]; KEYS] =
        [b"", b"a", b"a\0", b"ab", b"b", b"k1", b"k2", b"k3", b"k4", &LONG, b"\xff", b"\xff\xff"];
    ALL[slot % KEYS]
}

/// The keyspace of a slot.
pub fn keyspace_of(slot: Slot) -> usize {
    slot / KEYS
}

/// What a commit puts into a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub bytes: Vec<u8>,
    pub expires_at_ms: Option<u64>,
}

/// A slot and its new value; `None` deletes.
pub type Write = (Slot, Option<Value>);

#[derive(Debug, Clone)]
struct Cell {
    value: Value,
    commit: Prefix,
}

/// Commits of a trace.
#[derive(Debug, Clone)]
pub struct History {
    /// Shared by the copies that stay when commits are forgotten.
    cells: Vec<Arc<Cell>>,
    /// The sequence number of each commit, where it was told.
    seqs: Vec<Option<u64>>,
    states: Vec<[u32; SLOTS]>,
    /// Whether a slot ever had a value that expires.
    had_expiry: [bool; SLOTS],
}

impl Default for History {
    fn default() -> Self {
        let (cells, seqs, states) = (Vec::new(), Vec::new(), vec![[NOTHING; SLOTS]]);
        History { cells, seqs, states, had_expiry: [false; SLOTS] }
    }
}

impl History {
    pub fn len(&self) -> Prefix {
        self.seqs.len()
    }

    /// Adds a commit; returns the prefix that ends with it.
    pub fn push(&mut self, writes: &[Write]) -> Prefix {
        let mut state = self.states[self.len()];
        let commit = self.len() + 1;
        for (slot, value) in writes {
            state[*slot] = match value {
                None => NOTHING,
                Some(value) => {
                    self.had_expiry[*slot] |= value.expires_at_ms.is_some();
                    self.cells.push(Arc::new(Cell { value: value.clone(), commit }));
                    (self.cells.len() - 1) as u32
                }
            };
        }
        self.seqs.push(None);
        self.states.push(state);
        commit
    }

    pub fn set_seq(&mut self, commit: Prefix, seq: u64) {
        self.seqs[commit - 1] = Some(seq);
    }

    /// Forgets the commits behind a prefix: they never happened.
    pub fn truncate(&mut self, prefix: Prefix) {
        self.seqs.truncate(prefix);
        self.states.truncate(prefix + 1);
    }

    /// What a slot shows after a prefix.
    pub fn value(&self, prefix: Prefix, slot: Slot, now_ms: u64) -> Option<&Value> {
        self.cell(prefix, slot, now_ms).map(|cell| &cell.value)
    }

    fn cell(&self, prefix: Prefix, slot: Slot, now_ms: u64) -> Option<&Cell> {
        let cell = &**self.cells.get(self.states[prefix][slot] as usize)?;
        cell.value.expires_at_ms.is_none_or(|at_ms| at_ms > now_ms).then_some(cell)
    }

    /// How many keys have a value after a prefix, and how many may be counted: an expired value counts until it is written
    /// over or compacted, and nobody can tell whether it was deleted before a crash.
    pub fn keys(&self, prefix: Prefix, now_ms: u64) -> (u64, u64) {
        let is_live = |slot: &Slot| self.cell(prefix, *slot, now_ms).is_some();
        let live = (0..SLOTS).filter(is_live).count();
        let may_count = (0..SLOTS).filter(|slot| is_live(slot) || self.had_expiry[*slot]).count();
        (live as u64, may_count as u64)
    }

    /// The keys and values of a keyspace after a prefix.
    pub fn map(
        &self,
        prefix: Prefix,
        keyspace: usize,
        now_ms: u64,
    ) -> BTreeMap<&'static [u8], &[u8]> {
        (keyspace * KEYS..(keyspace + 1) * KEYS)
            .filter_map(|slot| Some((key_of(slot), &self.value(prefix, slot, now_ms)?.bytes[..])))
            .collect()
    }

    /// The slot by which the entries differ from the state after a prefix, if any does.
    pub fn difference(
        &self,
        prefix: Prefix,
        entries: &[Option<Entry>; SLOTS],
        now_ms: u64,
    ) -> Option<Slot> {
        (0..SLOTS).find(|&slot| match (self.cell(prefix, slot, now_ms), &entries[slot]) {
            (None, None) => false,
            (Some(cell), Some(entry)) => {
                let seq = self.seqs[cell.commit - 1];
                let expires_at =
                    cell.value.expires_at_ms.map(|at_ms| UNIX_EPOCH + Duration::from_millis(at_ms));
                entry.value != cell.value.bytes
                    || seq.is_some_and(|seq| seq != entry.seq)
                    || entry.expires_at != expires_at
            }
            _ => true,
        })
    }

    /// The longest prefix in a range that the entries show.
    pub fn find(
        &self,
        least: Prefix,
        most: Prefix,
        entries: &[Option<Entry>; SLOTS],
        now_ms: u64,
    ) -> Result<Prefix, String> {
        let found =
            (least..=most).rev().find(|&prefix| self.difference(prefix, entries, now_ms).is_none());
        found.ok_or_else(|| self.explain(least, most, entries, now_ms))
    }

    fn explain(
        &self,
        least: Prefix,
        most: Prefix,
        entries: &[Option<Entry>; SLOTS],
        now_ms: u64,
    ) -> String {
        let anywhere =
            (0..=self.len()).rev().find(|&p| self.difference(p, entries, now_ms).is_none());
        if let Some(prefix) = anywhere {
            return format!(
                "the first {prefix} commits are there, where at least {least} and at most {most} must be"
            );
        }
        let slot = self.difference(least, entries, now_ms).unwrap_or(0);
        let shown = |value: Option<(usize, u64)>| match value {
            None => "nothing".to_owned(),
            Some((bytes, seq)) => format!("{bytes} bytes of commit {seq}"),
        };
        let found = shown(entries[slot].as_ref().map(|entry| (entry.value.len(), entry.seq)));
        let wanted = self.cell(least, slot, now_ms);
        let wanted = shown(
            wanted.map(|cell| (cell.value.bytes.len(), self.seqs[cell.commit - 1].unwrap_or(0))),
        );
        format!(
            "no prefix of the commits ({least} to {most}): slot {slot} shows {found}, after {least} commits {wanted}"
        )
    }
}
