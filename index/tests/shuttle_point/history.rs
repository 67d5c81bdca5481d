//! What the threads of a schedule did, and whether some order of it is legal: each key is a register of its own, so each
//! is checked by itself.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use cortenkv_index::{Address, BucketPoint, Entry, NewEntry, Outcome, PointIndex, Probe, Version};

/// A key; the slot of its addresses tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) id: u16,
    pub(crate) hash: u64,
}

const fn key(id: u16, top: u64) -> Key {
    Key { id, hash: top << 56 }
}

/// Keys that everybody changes: two of one hash, neighbours, and far ones.
pub(crate) const KEYS: [Key; 7] = [
    key(1, 0x10),
    key(2, 0x10),
    key(3, 0x11),
    key(4, 0x30),
    key(5, 0x70),
    key(6, 0xA0),
    key(7, 0xF0),
];

/// Keys that nobody changes.
pub(crate) const STABLE: [Key; 2] = [key(8, 0x10), key(9, 0xE0)];

/// Addresses of a key are numbered; a version is half of that number, so that it has a place and a copy.
fn place(key: Key, number: u32) -> Address {
    Address::new(key.id, number * 8).expect("few records")
}

fn version(address: Address) -> Version {
    let seq = u64::from(address.offset_bytes() / 16);
    Version { seq, tombstone: seq.is_multiple_of(5), segment: 0 }
}

pub(crate) fn probe(address: Address, key: Key) -> Probe {
    if address.slot() == key.id { Probe::Same(version(address)) } else { Probe::Other }
}

/// One call of the index; numbers are those of addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operation {
    Install(Key, u32),
    Get(Key),
    Remove(Key, u32),
    Swap(Key, u32, u32),
}

#[derive(Debug, Clone, Copy)]
enum Answer {
    Installed(Outcome),
    Found(Option<Address>),
    Changed(bool),
}

/// A call with its answer; the moments count the beginnings and ends of all calls.
#[derive(Debug, Clone, Copy)]
struct Call {
    operation: Operation,
    answer: Answer,
    begun: u32,
    ended: u32,
}

/// Threads of shuttle take turns on one thread of the machine, so plain atomics and locks do not disturb a schedule.
#[derive(Debug, Default)]
pub(crate) struct History {
    moments: AtomicU32,
    seqs: AtomicU32,
    calls: Mutex<Vec<Call>>,
    seen: Mutex<BTreeMap<u16, u32>>,
}

impl History {
    /// A number for a new record, even: its copy has the odd one behind.
    pub(crate) fn next_seq(&self) -> u32 {
        2 * (self.seqs.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The copy of a record, which has its copy in turn where it was before.
    pub(crate) fn copy_of(&self, number: u32) -> u32 {
        number ^ 1
    }

    /// The number of a record of the key that stood in the index lately.
    pub(crate) fn last_seen(&self, key: Key) -> Option<u32> {
        self.seen.lock().unwrap().get(&key.id).copied()
    }

    /// Makes a call and notes it; answers what a look-up found.
    pub(crate) fn run(&self, index: &BucketPoint, operation: Operation) -> Option<Address> {
        let begun = self.moments.fetch_add(1, Ordering::Relaxed);
        let (key, answer, now) = match operation {
            Operation::Install(key, number) => {
                (key, Answer::Installed(install(index, key, number)), Some(number))
            }
            Operation::Get(key) => {
                let found = index.get(key.hash, &mut |at| probe(at, key));
                (key, Answer::Found(found), found.map(|at| at.offset_bytes() / 8))
            }
            Operation::Remove(key, number) => {
                (key, Answer::Changed(index.remove(key.hash, place(key, number))), None)
            }
            Operation::Swap(key, old, new) => {
                let changed = index.swap(key.hash, place(key, old), place(key, new));
                (key, Answer::Changed(changed), changed.then_some(new))
            }
        };
        let ended = self.moments.fetch_add(1, Ordering::Relaxed);
        self.calls.lock().unwrap().push(Call { operation, answer, begun, ended });
        if let Some(number) = now {
            self.seen.lock().unwrap().insert(key.id, number);
        }
        match answer {
            Answer::Found(found) => found,
            Answer::Installed(_) | Answer::Changed(_) => None,
        }
    }

    /// # Panics
    /// If no order of the calls of this key explains their answers.
    pub(crate) fn check(&self, key: Key) {
        let all = self.calls.lock().unwrap();
        let calls: Vec<Call> = all.iter().filter(|c| key_of(c.operation) == key).copied().collect();
        assert!(calls.len() <= 64, "a history too long to check");
        let mut dead_ends = HashSet::new();
        let all_left = (0..calls.len()).fold(0, |mask, n| mask | 1 << n);
        let legal = explains(&calls, all_left, None, &mut dead_ends);
        assert!(legal, "no order explains the answers of {key:?}: {calls:#?}");
    }
}

fn install(index: &BucketPoint, key: Key, number: u32) -> Outcome {
    let address = place(key, number);
    let new =
        NewEntry { hash: key.hash, keyspace: 0, key: b"", address, version: version(address) };
    let locate = |at, _: u32, _: &[u8]| probe(at, key);
    let mut announced = None;
    let outcome = index.install(&new, &locate, &mut |old| announced = Some(old));
    match outcome {
        Outcome::Inserted => assert_eq!(announced, Some(None), "{key:?} {number}"),
        Outcome::Replaced(old) => assert_eq!(announced, Some(Some(old)), "{key:?} {number}"),
        Outcome::Stale(_) | Outcome::Present => {}
    }
    outcome
}

fn key_of(operation: Operation) -> Key {
    match operation {
        Operation::Install(key, _)
        | Operation::Get(key)
        | Operation::Remove(key, _)
        | Operation::Swap(key, ..) => key,
    }
}

/// True if the calls that are `left` can take effect one after the other, each between its beginning and its end.
fn explains(
    calls: &[Call],
    left: u64,
    state: Option<Address>,
    dead_ends: &mut HashSet<(u64, Option<Address>)>,
) -> bool {
    if left == 0 {
        return true;
    }
    if dead_ends.contains(&(left, state)) {
        return false;
    }
    let is_left = |n: &usize| left & 1 << n != 0;
    let first_end = (0..calls.len()).filter(is_left).map(|n| calls[n].ended).min();
    for n in (0..calls.len()).filter(is_left) {
        if Some(calls[n].begun) < first_end
            && let Some(next) = after(&calls[n], state)
            && explains(calls, left & !(1 << n), next, dead_ends)
        {
            return true;
        }
    }
    dead_ends.insert((left, state));
    false
}

/// The register after a call that found it like this; `None` if the answer is wrong then.
fn after(call: &Call, state: Option<Address>) -> Option<Option<Address>> {
    let entry = |address| Entry { address, version: version(address) };
    let (expected, next) = match call.operation {
        Operation::Get(_) => {
            let Answer::Found(found) = call.answer else { return None };
            return (found == state).then_some(state);
        }
        Operation::Install(key, number) => {
            let new = entry(place(key, number));
            let (outcome, next) = match state.map(entry) {
                None => (Outcome::Inserted, new),
                Some(old) if old == new => (Outcome::Present, new),
                Some(old) if new.supersedes(&old) => (Outcome::Replaced(old), new),
                Some(old) => (Outcome::Stale(old), old),
            };
            let Answer::Installed(answer) = call.answer else { return None };
            return (answer == outcome).then_some(Some(next.address));
        }
        Operation::Remove(key, old) if state == Some(place(key, old)) => (true, None),
        Operation::Swap(key, old, new) if state == Some(place(key, old)) => {
            (true, Some(place(key, new)))
        }
        Operation::Remove(..) | Operation::Swap(..) => (false, state),
    };
    let Answer::Changed(changed) = call.answer else { return None };
    (changed == expected).then_some(next)
}
