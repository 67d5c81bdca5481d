//! Seeded writes into a database with small segments, and what it must hold after each of them.

use std::collections::BTreeMap;
use std::path::Path;

use cortenkv::{Db, Durability};

/// Keyspaces, keys and values.
pub type Model = BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>;

const KEYSPACES: [&str; 2] = ["default", "second"];
const KEYS: u64 = 60;

/// Writes, and the model after each commit.
pub struct Rounds {
    random: u64,
    model: Model,
    past: BTreeMap<u64, Model>,
    changes: Vec<(u64, u32)>,
    had_jobs: bool,
}

impl Rounds {
    pub fn new(name: &str) -> Self {
        let seed = std::env::var("CORTEN_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 1);
        eprintln!("{name}: repeat with CORTEN_SEED={seed}");
        let model = KEYSPACES.map(|name| (name.to_owned(), BTreeMap::new())).into();
        let (past, changes) = (BTreeMap::new(), Vec::new());
        Rounds { random: seed, model, past, changes, had_jobs: false }
    }

    pub fn open(&self, dir: &Path) -> Db {
        Db::builder(dir)
            .segment_bytes(16 << 10)
            .durability(Durability::None)
            .async_compaction(false)
            .build()
            .unwrap()
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ mixed >> 31) % bound
    }

    /// Commits of one to four changes, a quarter of which are deletes.
    pub fn write(&mut self, db: &Db, commits: u32) {
        let keyspaces = KEYSPACES.map(|name| db.keyspace(name).unwrap());
        for _ in 0..commits {
            let mut batch = db.batch();
            let mut keys = std::collections::BTreeSet::new();
            for _ in 0..=self.below(4) {
                let (n, key) = (self.below(2) as usize, self.below(KEYS).to_be_bytes().to_vec());
                if !keys.insert((n, key.clone())) {
                    continue;
                }
                let keyspace = self.model.get_mut(KEYSPACES[n]).unwrap();
                let chosen = keys.len() as u64;
                if chosen * 7 % 4 == 3 || keyspace.len() as u64 > KEYS - 5 {
                    batch.delete(&keyspaces[n], &key);
                    keyspace.remove(&key);
                } else {
                    let bytes = 20 + (self.random >> 40) as usize % 400;
                    let value = self.random.to_be_bytes().repeat(bytes / 8);
                    batch.put(&keyspaces[n], &key, &value);
                    keyspace.insert(key, value);
                }
            }
            let seq = batch.commit().unwrap();
            self.changes.extend((0..keys.len() as u32).map(|index| (seq, index)));
            self.past.insert(seq, self.model.clone());
        }
        self.had_jobs |= db.stats().compaction.segments_retired > 0;
    }

    /// Every change so far: its commit and its place in it.
    #[allow(dead_code, reason = "not every test counts")]
    pub fn changes(&self) -> &[(u64, u32)] {
        &self.changes
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What the database held after each commit.
    #[allow(dead_code, reason = "not every test goes back in time")]
    pub fn past(&self) -> &BTreeMap<u64, Model> {
        &self.past
    }

    /// True if a segment was retired meanwhile.
    #[allow(dead_code, reason = "not every test compacts")]
    pub fn had_jobs(&self) -> bool {
        self.had_jobs
    }
}

/// What a database holds.
#[allow(dead_code, reason = "not every test compares")]
pub fn content(db: &Db) -> Model {
    let names = db.keyspaces().unwrap();
    let mut model: Model = KEYSPACES.map(|name| (name.to_owned(), BTreeMap::new())).into();
    for name in names {
        let entries = db.keyspace(&name).unwrap().iter();
        let entries = entries.map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())));
        model.insert(name, entries.collect::<Result<_, _>>().unwrap());
    }
    model
}
