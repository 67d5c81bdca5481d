//! Opens what a crash left, holds it against the ledger, and lives on from there.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use cortenkv::vfs::SimVfs;
use cortenkv::vfs::sim::{CrashVariant, DiskModel, Image};
use cortenkv::{Db, Entry, ManualClock};

use super::history::{History, KEYS, Prefix, SLOTS, key_of, keyspace_of};
use super::observe::{Observed, observe};
use super::random::Random;
use super::setup::Setup;
use super::world::{Promise, check_keyspaces, compact_some};

/// The distinct disks that were seen, by their hashes.
#[derive(Debug)]
pub struct Disks {
    shards: Vec<Mutex<HashSet<u64>>>,
}

impl Default for Disks {
    fn default() -> Self {
        Disks { shards: (0..64).map(|_| Mutex::default()).collect() }
    }
}

impl Disks {
    /// True for a disk that was not seen before.
    pub fn is_new(&self, hash: u64) -> bool {
        let shard = &self.shards[hash as usize % self.shards.len()];
        shard.lock().unwrap_or_else(PoisonError::into_inner).insert(hash)
    }

    pub fn count(&self) -> u64 {
        let len = |shard: &Mutex<HashSet<u64>>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
        };
        self.shards.iter().map(len).sum()
    }
}

/// What must hold of a disk.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    pub setup: Setup,
    pub history: &'a History,
    pub promise: Promise,
    /// At least so many commits must be there.
    pub least: Prefix,
    /// Counts the disks that are opened behind the first one.
    pub disks: &'a Disks,
}

/// A database that was opened after a crash and found in order.
pub struct Survivor {
    pub sim: SimVfs,
    pub db: Db,
    pub observed: Observed,
    pub prefix: Prefix,
    /// The operation of the simulator behind the last read of the check.
    pub read_at: usize,
}

/// Opens what a crash left: it must open, and show a prefix of the commits that is long enough. I1, I2, I3, I6, I8
pub fn survive(sim: SimVfs, case: Case<'_>) -> Result<Survivor, String> {
    let Case { setup, history, promise, least, .. } = case;
    let sim = setup.on(sim);
    let clock = Arc::new(ManualClock::at_wall_ms(promise.now_ms));
    let opened = setup.open(Arc::new(sim.clone()), &clock);
    let db = opened.map_err(|e| format!("it does not open: {e}"))?;
    let observed = observe(&db)?;
    let prefix = history.find(least, promise.begun, &observed.entries, promise.now_ms)?;
    check_keyspaces(observed.keyspaces, &promise)?;
    let read_at = sim.point();
    Ok(Survivor { sim, db, observed, prefix, read_at })
}

/// A disk on which everything is known.
pub fn survive_exactly(
    image: Image,
    case: Case<'_>,
    wanted: &Observed,
    seed: u64,
) -> Result<Db, String> {
    let Case { setup, promise, .. } = case;
    case.disks.is_new(image.hash());
    let sim = setup.on(SimVfs::from_image(image, seed));
    let clock = Arc::new(ManualClock::at_wall_ms(promise.now_ms));
    let db = setup.open(Arc::new(sim), &clock).map_err(|e| format!("it does not open: {e}"))?;
    let found = observe(&db)?;
    match found.difference(wanted) {
        Some(slot) => Err(format!(
            "slot {slot} shows {} after the power cut, and showed {} before it",
            shown(&found.entries[slot]),
            shown(&wanted.entries[slot])
        )),
        None if found.keyspaces != wanted.keyspaces => Err("a keyspace is gone".into()),
        None => Ok(db),
    }
}

fn shown(entry: &Option<Entry>) -> String {
    entry.as_ref().map_or("nothing".into(), |entry| {
        format!("{} bytes of commit {}", entry.value.len(), entry.seq)
    })
}

impl Survivor {
    /// S3: the power goes after the reads; what was read must still be there.
    pub fn survives_power_cut(&self, case: Case<'_>, random: &mut Random) -> Result<(), String> {
        let image = self.cut(self.read_at, random);
        let checked = survive_exactly(image, case, &self.observed, random.next());
        checked.map(|_| ()).map_err(|e| format!("after kill, open, read, power cut: {e}"))
    }

    /// S4: three more commits and a flush or a compaction, a power cut, and everything must be there; numbers only grow. I4
    pub fn lives_on(&self, case: Case<'_>, random: &mut Random) -> Result<(), String> {
        let compacts = cfg!(feature = "compaction") && random.percent(30);
        let end = if compacts { "compaction" } else { "flush" };
        let describe = |e: String| format!("after open, three commits, {end}, power cut: {e}");
        let mut wanted = self.observed.clone();
        let mut seq_max = case.promise.seq_max;
        for number in 0..3 {
            let written = self.write(random, number, &mut wanted, seq_max);
            seq_max = written.map_err(describe)?;
        }
        let ended = match compacts {
            // What is not durable is not compacted, so both need it.
            true => self.compact(random),
            false => self.db.flush().map(drop),
        };
        ended.map_err(|e| describe(e.to_string()))?;
        if compacts && let Some(slot) = observe(&self.db).map_err(describe)?.difference(&wanted) {
            return Err(describe(format!("slot {slot} shows something else before it")));
        }
        let image = self.cut(self.sim.point(), random);
        let db = survive_exactly(image, case, &wanted, random.next());
        let db = db.map_err(describe)?;
        let seq = db.put(b"k1", b"once more").map_err(|e| describe(e.to_string()))?;
        if seq <= seq_max {
            return Err(describe(format!("sequence number {seq} was given out after {seq_max}")));
        }
        Ok(())
    }

    /// Makes everything durable, and rewrites some segments or whatever is worth it.
    fn compact(&self, random: &mut Random) -> cortenkv::Result<()> {
        if random.percent(50) {
            return self.db.compact().map(drop);
        }
        self.db.sync()?;
        compact_some(&self.db, random.next()).map(drop)
    }

    fn write(
        &self,
        random: &mut Random,
        number: usize,
        wanted: &mut Observed,
        seq_max: u64,
    ) -> Result<u64, String> {
        let slot = random.below(SLOTS);
        let slot = if wanted.has_keyspace_of(slot) { slot } else { slot % KEYS };
        let name = super::history::KEYSPACES[keyspace_of(slot)];
        let keyspace = self.db.keyspace(name).map_err(|e| e.to_string())?;
        let bytes = vec![number as u8; random.pick(&[24, 100, 460])];
        let delete = random.percent(20);
        let written = match delete {
            true => keyspace.delete(key_of(slot)),
            false => keyspace.put(key_of(slot), &bytes),
        };
        let seq = written.map_err(|e| format!("a write failed without a cause: {e}"))?;
        if seq <= seq_max {
            return Err(format!("sequence number {seq} was given out after {seq_max}"));
        }
        let entry = keyspace.get_entry(key_of(slot)).map_err(|e| e.to_string())?;
        let right = match &entry {
            None => delete,
            Some(Entry { value, seq: found, .. }) => !delete && *value == bytes && *found == seq,
        };
        if !right {
            return Err(format!("slot {slot} does not show what was just written"));
        }
        wanted.entries[slot] = entry;
        Ok(seq)
    }

    /// S2: the power goes while the database is being opened, and goes again while that is mended.
    pub fn crash_in_recovery(
        &self,
        case: Case<'_>,
        begin: usize,
        depth: usize,
        random: &mut Random,
    ) -> Result<(), String> {
        let point = begin + random.below(self.read_at - begin + 1);
        let image = self.cut(point, random);
        case.disks.is_new(image.hash());
        let sim = SimVfs::from_image(image, random.next());
        let describe = |e| format!("after a power cut in recovery at {point}: {e}");
        let survivor = survive(sim, case).map_err(describe)?;
        if depth > 1 {
            survivor.crash_in_recovery(case, 0, depth - 1, random).map_err(describe)?;
        }
        Ok(())
    }

    /// A disk after a power cut at a point of this survivor's log.
    pub fn cut(&self, point: usize, random: &mut Random) -> Image {
        let model = random.pick(&DiskModel::ALL);
        let variant = random.pick(&CrashVariant::STANDARD);
        self.sim.crash_image(model, point, variant, random.next())
    }
}
