//! Draws the operations of a trace: a small set of keys, every kind of write, time, background work, reopening.

use std::time::Duration;

use cortenkv::Durability;

use super::history::{KEYS, KEYSPACES, SLOTS, Slot};
use super::random::Random;
use super::setup::{EVERY_N, INTERVAL, SEGMENT_BYTES};

/// The bytes of a value, drawn as a recipe.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    pub bytes: usize,
    pub compressible: bool,
    pub salt: u64,
}

/// How a commit is handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Waits, with the durability of the database or one of its own.
    Plain(Option<Durability>),
    /// As a ticket that is waited for later.
    Ticket,
    /// As a ticket that is dropped: never acknowledged.
    Dropped,
}

/// A slot, and the recipe of its value with a time to live in ms; `None` deletes.
pub type Change = (Slot, Option<(Recipe, Option<u64>)>);

/// One operation.
#[derive(Debug, Clone)]
pub enum Operation {
    Commit {
        changes: Vec<Change>,
        call: Call,
    },
    /// Waits for the tickets that are pending.
    Settle,
    Sync,
    Flush,
    Keyspace(usize),
    /// Lets time pass, and does the background work that is due.
    Advance(u64),
    /// Background work: so many steps, in which an image and a compaction may take turns.
    Steps(usize),
    /// Rewrites whatever is worth it.
    Compact,
    /// Rewrites some of the segments that can be, together: those whose places in the list have their bits set.
    CompactSome(u64),
    /// Closes and opens again.
    Reopen,
    /// The process dies and another opens the directory.
    Kill,
}

/// Draws a trace that has a batch and crosses a rotation, or several, so that there is something to compact.
pub fn draw(random: &mut Random) -> Vec<Operation> {
    let wanted = 40 + random.below(20);
    let bytes_wanted = random.pick(&[1, 1, 2, 3]) * SEGMENT_BYTES;
    // Records of one size make the end of one log meet the records of another.
    let fixed_bytes = random.percent(40).then(|| random.pick(&[24, 100, 460]));
    let mut operations = Vec::new();
    let (mut bytes, mut has_batch, mut reopens) = (0, false, 2);
    while operations.len() < wanted || bytes < bytes_wanted || !has_batch {
        let operation = match random.below(100) {
            0..50 => commit(random, fixed_bytes, 1),
            50..62 => commit(random, fixed_bytes, 5),
            62..66 => Operation::Settle,
            66..69 => Operation::Sync,
            69..71 => Operation::Flush,
            71..74 => Operation::Keyspace(1 + random.below(2)),
            74..79 => Operation::Advance(random.pick(&[1, 20, 50, 60, 1_500])),
            79..86 => steps(random),
            86..96 => compaction(random),
            96..98 if reopens > 0 => Operation::Reopen,
            98..100 if reopens > 0 => Operation::Kill,
            _ => continue,
        };
        match &operation {
            Operation::Commit { changes, .. } => {
                has_batch |= changes.len() > 1;
                // What is in the log for certain: the keyspace is there, and no codec makes it smaller.
                let recipes = changes.iter().filter(|(slot, _)| *slot < KEYS);
                let recipes = recipes.filter_map(|(_, change)| change.map(|(recipe, _)| recipe));
                let recipes = recipes.filter(|recipe| !recipe.compressible);
                bytes += recipes.map(|recipe| recipe.bytes).sum::<usize>();
            }
            Operation::Reopen | Operation::Kill => {
                reopens -= 1;
                // The rotation is to happen in one session.
                if bytes < SEGMENT_BYTES {
                    bytes = 0;
                }
            }
            _ => {}
        }
        operations.push(operation);
    }
    operations
}

/// One step or several.
pub fn steps(random: &mut Random) -> Operation {
    Operation::Steps(random.pick(&[1, 1, 2, 4, 8, 12]))
}

/// Some segments, or whatever is worth it.
pub fn compaction(random: &mut Random) -> Operation {
    if random.percent(30) { Operation::Compact } else { Operation::CompactSome(random.next()) }
}

/// A commit of up to `changes_max` changes.
pub fn commit(random: &mut Random, fixed_bytes: Option<usize>, changes_max: usize) -> Operation {
    let count = if changes_max == 1 { 1 } else { 2 + random.below(changes_max - 1) };
    let changes = (0..count).map(|_| change(random, fixed_bytes)).collect();
    let call = match random.below(100) {
        0..80 => Call::Plain(None),
        80..90 => Call::Plain(Some(durability(random))),
        90..98 => Call::Ticket,
        _ => Call::Dropped,
    };
    Operation::Commit { changes, call }
}

fn durability(random: &mut Random) -> Durability {
    random.pick(&[
        Durability::Always,
        Durability::group(),
        Durability::EveryN(EVERY_N),
        Durability::Interval(INTERVAL),
        Durability::Checkpoint,
        Durability::None,
    ])
}

fn change(random: &mut Random, fixed_bytes: Option<usize>) -> Change {
    // Most of the traffic goes to a few keys, so that versions pile up.
    let key = if random.percent(70) { random.below(5) } else { random.below(KEYS) };
    let slot = random.pick(&[0, 0, 1, 2]) % KEYSPACES.len() * KEYS + key;
    debug_assert!(slot < SLOTS);
    if random.percent(15) {
        return (slot, None);
    }
    let (bytes, compressible) = match fixed_bytes {
        Some(bytes) if random.percent(85) => (bytes, false),
        _ => match random.below(100) {
            0..5 => (0, false),
            5..45 => (random.below(120), false),
            45..70 => (300 + random.below(700), random.percent(50)),
            70..85 => (1_000 + random.below(2_500), random.percent(50)),
            85..95 => (4_500 + random.below(3_000), true),
            95..99 => (4_200 + random.below(2_000), false),
            // More than a segment.
            _ => (17_000, false),
        },
    };
    let recipe = Recipe { bytes, compressible, salt: random.next() };
    let ttl_ms = random.percent(10).then(|| random.pick(&[10, 55, 1_000, 1_000_000]));
    (slot, Some((recipe, ttl_ms)))
}

impl Recipe {
    /// The bytes: no two recipes give the same, beyond a few bytes of length.
    pub fn cook(&self) -> Vec<u8> {
        let mut random = Random::new(self.salt);
        let mut bytes = Vec::with_capacity(self.bytes + 32);
        while bytes.len() < self.bytes {
            if self.compressible && !bytes.is_empty() {
                bytes.extend_from_slice(b"{\"city\":\"Graz\",\"country\":\"AT\"},");
            } else {
                bytes.extend_from_slice(&random.next().to_le_bytes());
            }
        }
        bytes.truncate(self.bytes);
        bytes
    }
}

/// The time to live as the API takes it.
pub fn ttl(ttl_ms: Option<u64>) -> Option<Duration> {
    ttl_ms.map(Duration::from_millis)
}
