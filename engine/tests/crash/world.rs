//! Runs a trace on the simulated file system and keeps the ledger of what was promised, in the log of the file system
//! itself, so that it is exact at every crash point.
//!
//! # Invariants
//! - One thread: the history is the commit order. What is in doubt after a failure is at the end of it.
//! - Every change of the ledger is a note in the log; the note's tag is the place of the promise in `promises`.

mod endings;

use std::sync::Arc;
use std::time::Duration;

use cortenkv::vfs::{FaultVfs, SimVfs, Vfs};
use cortenkv::{
    Db, Durability, Error, ErrorKind, HoldOptions, Keyspace, ManualClock, PutOptions, Ticket,
};

use super::conditional;
use super::history::{History, KEYS, KEYSPACES, Prefix, Value, Write, key_of, keyspace_of};
use super::observe::{Observed, observe};
use super::operations::{Call, Change, Operation, ttl};
use super::random::mix;
use super::setup::{EPOCH_MS, SEGMENT_BYTES, Setup};

/// What the database has promised at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// So many commits survive a power cut.
    pub durable: Prefix,
    /// So many survive the death of the process: all that were acknowledged, and those before them.
    pub acknowledged: Prefix,
    /// So many were begun; no more can be there.
    pub begun: Prefix,
    /// Keyspaces that exist for certain, a bit for each.
    pub keyspaces: u8,
    /// Keyspaces that may exist.
    pub keyspaces_begun: u8,
    /// The largest sequence number that anybody was told.
    pub seq_max: u64,
    pub now_ms: u64,
    /// How often commits that nobody was promised were forgotten before this moment.
    pub epoch: usize,
}

/// What came of a step in the background.
enum Stepped {
    Worked,
    Idle,
    Failed,
}

/// A database in a trace.
pub struct World {
    pub setup: Setup,
    pub sim: SimVfs,
    pub clock: Arc<ManualClock>,
    pub history: History,
    /// The histories before commits were forgotten, one for each epoch.
    past: Vec<History>,
    pub promise: Promise,
    pub promises: Vec<Promise>,
    pub db: Option<Db>,
    /// A write or a sync has failed: nothing may be acknowledged until the next open.
    pub latched: bool,
    keyspaces: [Option<Keyspace>; KEYSPACES.len()],
    tickets: Vec<(Prefix, Ticket<u64>)>,
    /// The first commit that was handed in as a ticket and may not be visible yet, though later ones may be.
    unsettled: Option<Prefix>,
    /// The failure that closed the log.
    cause: String,
    /// Commits that a timer has to sync, each with the time by which it must have happened.
    timed: Vec<(Prefix, u64)>,
    faults: Option<FaultVfs>,
    seed: u64,
    boots: u64,
}

impl World {
    /// Opens a new database; with `faults`, opening may fail and leaves `db` empty.
    pub fn new(setup: Setup, seed: u64) -> Self {
        let sim = setup.on(SimVfs::new(mix(seed, 0)));
        let promise = Promise {
            durable: 0,
            acknowledged: 0,
            begun: 0,
            keyspaces: 1,
            keyspaces_begun: 1,
            seq_max: 0,
            now_ms: EPOCH_MS,
            epoch: 0,
        };
        World {
            setup,
            sim,
            clock: Arc::new(ManualClock::at_wall_ms(EPOCH_MS)),
            history: History::default(),
            past: Vec::new(),
            promise,
            promises: vec![promise],
            db: None,
            latched: false,
            keyspaces: [const { None }; KEYSPACES.len()],
            tickets: Vec::new(),
            unsettled: None,
            cause: String::new(),
            timed: Vec::new(),
            faults: None,
            seed,
            boots: 0,
        }
    }

    /// From now on operations go through a fault injector.
    pub fn inject(&mut self, faults: impl FnOnce(Arc<dyn Vfs>) -> FaultVfs) -> FaultVfs {
        let faults = faults(Arc::new(self.sim.clone()));
        self.faults = Some(faults.clone());
        faults
    }

    /// Opens the directory, and holds what it shows against the ledger.
    pub fn open(&mut self) -> Result<(), String> {
        let vfs: Arc<dyn Vfs> = match &self.faults {
            Some(faults) => Arc::new(faults.clone()),
            None => Arc::new(self.sim.clone()),
        };
        let struck = self.struck();
        let opened =
            self.setup.open(vfs, &self.clock).map_err(|e| (e.is_corruption(), e.to_string()));
        let observed = opened.and_then(|db| {
            let observed = observe(&db).map_err(|e| (false, e))?;
            Ok((db, observed))
        });
        let (db, observed) = match observed {
            Ok(found) => found,
            Err((false, _)) if self.struck() > struck => return Ok(()),
            Err((_, text)) => return Err(format!("it does not open: {text}")),
        };
        self.recovered(&observed)?;
        self.keyspaces[0] = Some(db.keyspace(KEYSPACES[0]).map_err(|e| e.to_string())?);
        for (number, name) in KEYSPACES.iter().enumerate() {
            if observed.keyspaces & (1 << number) != 0 {
                self.keyspaces[number] = Some(db.keyspace(name).map_err(|e| e.to_string())?);
            }
        }
        self.hold(&db)?;
        self.db = Some(db);
        self.latched = false;
        Ok(())
    }

    /// In every other trace somebody holds the log, so that what leaves it stays on the disk: no opening may replay it.
    fn hold(&self, db: &Db) -> Result<(), String> {
        if self.faults.is_some() || self.seed.is_multiple_of(2) {
            return Ok(());
        }
        let hold = || db.hold("suite", HoldOptions::new().bytes_max(8 * SEGMENT_BYTES as u64));
        let held = match hold() {
            Err(error) if matches!(error.kind(), ErrorKind::Lagged { .. }) => {
                db.release_hold("suite").and_then(|_| hold())
            }
            held => held,
        };
        let moved = held.and_then(|hold| match self.boots % 2 {
            0 => Ok(()),
            _ => hold.advance(self.promise.seq_max / 2),
        });
        moved.map_err(|error| format!("a hold failed: {error}"))
    }

    /// What an open showed is from now on the truth, and durable. I5
    fn recovered(&mut self, observed: &Observed) -> Result<(), String> {
        let Promise { acknowledged, begun, now_ms, .. } = self.promise;
        let prefix = self.history.find(acknowledged, begun, &observed.entries, now_ms)?;
        check_keyspaces(observed.keyspaces, &self.promise)?;
        self.forget_behind(prefix);
        self.unsettled = None;
        let promise = &mut self.promise;
        (promise.durable, promise.acknowledged, promise.begun) = (prefix, prefix, prefix);
        promise.keyspaces = observed.keyspaces;
        promise.keyspaces_begun = observed.keyspaces;
        self.note();
        Ok(())
    }

    /// The commits behind a prefix never happened.
    fn forget_behind(&mut self, prefix: Prefix) {
        if prefix < self.history.len() {
            self.past.push(self.history.clone());
            self.promise.epoch += 1;
            self.history.truncate(prefix);
        }
    }

    /// The history that a promise is about.
    pub fn history_of(&self, promise: &Promise) -> &History {
        self.past.get(promise.epoch).unwrap_or(&self.history)
    }

    /// Runs one operation. An error is a broken promise, not a failure that the database told of.
    pub fn run(&mut self, operation: &Operation) -> Result<(), String> {
        if self.db.is_none() {
            // An injected fault kept it from opening.
            return self.open();
        }
        match operation {
            Operation::Commit { changes, call } => self.commit(changes, *call),
            Operation::Settle => self.settle(),
            Operation::Sync => self.sync("sync", Db::sync),
            Operation::Flush => self.sync("flush", Db::flush),
            Operation::Keyspace(number) => self.create(*number),
            Operation::Advance(by_ms) => self.advance(*by_ms),
            Operation::Steps(count) => self.steps(*count).map(drop),
            Operation::Compact => self.compact("compacting", |db| db.compact().map(|_| true)),
            Operation::CompactSome(places) => {
                self.compact("compacting some", |db| compact_some(db, *places))
            }
            Operation::Reopen => self.reopen(),
            Operation::Kill => self.kill(),
        }
    }

    pub fn db(&self) -> &Db {
        self.db.as_ref().expect("the database is open")
    }

    fn commit(&mut self, changes: &[Change], call: Call) -> Result<(), String> {
        let changes: Vec<_> = changes
            .iter()
            .filter(|(slot, _)| self.keyspaces[keyspace_of(*slot)].is_some())
            .copied()
            .collect();
        if changes.is_empty() {
            return Ok(());
        }
        let writes: Vec<Write> = changes
            .iter()
            .map(|(slot, change)| {
                let value = change.map(|(recipe, ttl_ms)| Value {
                    bytes: recipe.cook(),
                    expires_at_ms: ttl_ms.map(|ttl_ms| self.promise.now_ms + ttl_ms),
                });
                (*slot, value)
            })
            .collect();
        let prefix = self.history.push(&writes);
        self.promise.begun = prefix;
        self.note();
        if let Call::Plain(durability) = call {
            // A fault may strike the look at the key: what that means for the commit, nobody could say.
            let condition =
                conditional::of(&changes, &writes, call).filter(|_| self.faults.is_none());
            let handed_in = match condition {
                Some((slot, value)) => {
                    let keyspace = self.keyspaces[keyspace_of(slot)].as_ref().expect("filtered");
                    let before = self.history.value(prefix - 1, slot, self.promise.now_ms);
                    conditional::put(self.db(), keyspace, slot, before, value)
                }
                None => self.hand_in(&changes, &writes, durability).map(Some),
            };
            return match handed_in {
                Ok(Some(seq)) => self.acknowledged(prefix, seq, durability),
                Ok(None) => {
                    Err("a put met a conflict, though its key held what it expects".to_owned())
                }
                Err(error) => self.failed("a commit", &error, Some(prefix)),
            };
        }
        let mut batch = self.db().batch();
        for ((slot, change), (_, value)) in changes.iter().zip(&writes) {
            self.add(&mut batch, *slot, change.and_then(|(_, ttl_ms)| ttl_ms), value.as_ref());
        }
        match batch.commit_async() {
            Err(error) => self.failed("a ticket", &error, Some(prefix)),
            Ok(_) if self.latched => Err(self.lie("a ticket was given out")),
            Ok(ticket) => {
                self.unsettled.get_or_insert(prefix);
                if call == Call::Ticket {
                    self.tickets.push((prefix, ticket));
                }
                Ok(())
            }
        }
    }

    fn hand_in(
        &self,
        changes: &[Change],
        writes: &[Write],
        durability: Option<Durability>,
    ) -> cortenkv::Result<u64> {
        if let ([(slot, change)], [(_, value)]) = (changes, writes) {
            let keyspace = self.keyspaces[keyspace_of(*slot)].as_ref().expect("filtered");
            let mut options = PutOptions::new();
            if let Some(durability) = durability {
                options = options.durability(durability);
            }
            if let Some(ttl) = ttl(change.and_then(|(_, ttl_ms)| ttl_ms)) {
                options = options.ttl(ttl);
            }
            match value {
                Some(value) => return keyspace.put_with(key_of(*slot), &value.bytes, options),
                None if durability.is_none() => return keyspace.delete(key_of(*slot)),
                None => {}
            }
        }
        let mut batch = self.db().batch();
        for ((slot, change), (_, value)) in changes.iter().zip(writes) {
            self.add(&mut batch, *slot, change.and_then(|(_, ttl_ms)| ttl_ms), value.as_ref());
        }
        match durability {
            Some(durability) => batch.commit_with(durability),
            None => batch.commit(),
        }
    }

    fn add(
        &self,
        batch: &mut cortenkv::Batch,
        slot: usize,
        ttl_ms: Option<u64>,
        value: Option<&Value>,
    ) {
        let keyspace = self.keyspaces[keyspace_of(slot)].as_ref().expect("filtered");
        match (value, ttl(ttl_ms)) {
            (None, _) => batch.delete(keyspace, key_of(slot)),
            (Some(value), None) => batch.put(keyspace, key_of(slot), &value.bytes),
            (Some(value), Some(ttl)) => {
                batch.put_with_ttl(keyspace, key_of(slot), &value.bytes, ttl)
            }
        };
    }

    /// A commit was acknowledged: what that promises depends on its durability.
    fn acknowledged(
        &mut self,
        prefix: Prefix,
        seq: u64,
        durability: Option<Durability>,
    ) -> Result<(), String> {
        if self.latched {
            return Err(self.lie(&format!("commit {seq} was acknowledged"))); // I7
        }
        if seq <= self.promise.seq_max {
            let before = self.promise.seq_max;
            return Err(format!("sequence number {seq} was given out after {before}")); // I4
        }
        self.promised(prefix, seq, durability);
        Ok(())
    }

    fn promised(&mut self, prefix: Prefix, seq: u64, durability: Option<Durability>) {
        self.history.set_seq(prefix, seq);
        self.promise.seq_max = self.promise.seq_max.max(seq);
        self.promise.acknowledged = self.promise.acknowledged.max(prefix);
        let durable = match durability.unwrap_or(self.setup.mode.durability()) {
            Durability::Always | Durability::Group { .. } => prefix,
            Durability::EveryN(n) => prefix.saturating_sub(n as usize - 1),
            Durability::Interval(interval) => {
                self.timed.push((prefix, self.promise.now_ms + interval.as_millis() as u64));
                0
            }
            _ => 0,
        };
        self.promise.durable = self.promise.durable.max(durable);
        self.note();
    }

    /// The database told of a failure. What it said was not written is gone; the rest is in doubt.
    fn failed(&mut self, what: &str, error: &Error, commit: Option<Prefix>) -> Result<(), String> {
        if self.struck() == 0 {
            return Err(format!("{what} failed without a cause: {error}"));
        }
        if error.is_corruption() {
            return Err(format!("{what} found damage where there is none: {error}"));
        }
        let is_full = matches!(error.kind(), ErrorKind::StorageFull);
        if let Some(commit) = commit.filter(|_| self.latched || is_full) {
            self.forget_behind(commit - 1);
            self.promise.begun = commit - 1;
        }
        if !is_full && !self.latched {
            self.latched = true;
            self.cause = format!("{what}: {error}");
        }
        self.note();
        self.read_on().map_err(|e| format!("after {what} ({error}): {e}"))
    }

    fn lie(&self, what: &str) -> String {
        format!("{what} after a failure ({})", self.cause)
    }

    /// After a failure reads go on, and show what was acknowledged or begun. I7
    fn read_on(&mut self) -> Result<(), String> {
        for slot in 0..KEYS {
            let struck = self.struck();
            let found = match self.db().get(key_of(slot)) {
                Ok(found) => found,
                Err(error) if self.struck() > struck && !error.is_corruption() => continue,
                Err(error) => return Err(format!("a read failed: {error}")),
            };
            if !self.may_show(slot, found.as_deref()) {
                let Promise { acknowledged, begun, .. } = self.promise;
                let shown =
                    found.map_or("nothing".to_owned(), |found| format!("{} bytes", found.len()));
                return Err(format!(
                    "slot {slot} shows {shown}, which is not of commits {acknowledged} to {begun} ({:?})",
                    self.unsettled
                ));
            }
        }
        Ok(())
    }

    /// True when a get of the slot may answer this.
    pub fn may_show(&self, slot: usize, found: Option<&[u8]>) -> bool {
        let Promise { acknowledged, begun, now_ms, .. } = self.promise;
        let least = self.unsettled.map_or(acknowledged, |first| acknowledged.min(first - 1));
        (least..=begun).any(|prefix| {
            let value = self.history.value(prefix, slot, now_ms);
            value.map(|value| &value.bytes[..]) == found
        })
    }

    /// True when no ticket is under way: everything that was begun is visible.
    pub fn is_quiet(&self) -> bool {
        self.unsettled.is_none()
    }

    fn settle(&mut self) -> Result<(), String> {
        // The newest first: its sync covers the others.
        while let Some((prefix, ticket)) = self.tickets.pop() {
            match ticket.wait() {
                // Even after a failure: what it covers was durable before, or the next power cut shows the lie.
                Ok(seq) => self.promised(prefix, seq, None),
                Err(error) => self.failed("waiting for a ticket", &error, None)?,
            }
        }
        Ok(())
    }

    fn sync(
        &mut self,
        what: &str,
        sync: impl FnOnce(&Db) -> cortenkv::Result<u64>,
    ) -> Result<(), String> {
        match sync(self.db()) {
            Ok(_) if self.latched => Err(self.lie(&format!("{what} said OK"))), // I7
            Ok(_) => {
                self.all_durable();
                Ok(())
            }
            Err(error) => self.failed(what, &error, None),
        }
    }

    /// Everything appended so far is on the disk, tickets and all.
    fn all_durable(&mut self) {
        self.promise.acknowledged = self.history.len();
        self.promise.durable = self.history.len();
        self.unsettled = None;
        self.note();
    }

    fn create(&mut self, number: usize) -> Result<(), String> {
        self.promise.keyspaces_begun |= 1 << number;
        self.note();
        match self.db().keyspace(KEYSPACES[number]) {
            Ok(keyspace) => {
                self.keyspaces[number] = Some(keyspace);
                self.promise.keyspaces |= 1 << number;
                self.note();
                Ok(())
            }
            Err(error) => self.failed("creating a keyspace", &error, None),
        }
    }

    fn advance(&mut self, by_ms: u64) -> Result<(), String> {
        self.clock.advance(Duration::from_millis(by_ms));
        self.promise.now_ms += by_ms;
        self.note();
        // The sync that was due may be what failed.
        if let Stepped::Failed = self.steps(100)? {
            return Ok(());
        }
        if self.latched {
            return Ok(());
        }
        let now_ms = self.promise.now_ms;
        let due = self.timed.iter().filter(|(_, due_ms)| *due_ms <= now_ms);
        if let Some((prefix, _)) = due.max() {
            self.promise.durable = self.promise.durable.max(*prefix);
            self.note();
        }
        self.timed.retain(|(_, due_ms)| *due_ms > now_ms);
        Ok(())
    }

    /// Background work, up to so many steps of it.
    fn steps(&mut self, count: usize) -> Result<Stepped, String> {
        for _ in 0..count {
            match self.step()? {
                Stepped::Worked => {}
                ended => return Ok(ended),
            }
        }
        Ok(Stepped::Worked)
    }

    fn step(&mut self) -> Result<Stepped, String> {
        match self.db().step() {
            Ok(true) => Ok(Stepped::Worked),
            Ok(false) => Ok(Stepped::Idle),
            Err(error) => self.failed_aside("a step", &error).map(|()| Stepped::Failed),
        }
    }

    fn compact(
        &mut self,
        what: &str,
        work: impl FnOnce(&Db) -> cortenkv::Result<bool>,
    ) -> Result<(), String> {
        if !cfg!(feature = "compaction") {
            return Ok(());
        }
        match work(self.db()) {
            Ok(true) if self.latched => Err(self.lie(&format!("{what} said OK"))),
            Ok(_) => Ok(()),
            Err(error) => self.failed_aside(what, &error),
        }
    }

    /// Work beside the commits has failed. That closes the log if the log or the manifest has failed, and else nothing has
    /// happened: the next commit or sync shows which.
    fn failed_aside(&mut self, what: &str, error: &Error) -> Result<(), String> {
        match error.kind() {
            ErrorKind::Io | ErrorKind::StorageFull if self.struck() > 0 => {
                self.read_on().map_err(|e| format!("after {what} ({error}): {e}"))
            }
            _ => self.failed(what, error, None),
        }
    }

    /// How often an injected fault struck.
    fn struck(&self) -> u64 {
        self.faults.as_ref().map_or(0, |faults| faults.counts().fired())
    }

    fn note(&mut self) {
        if self.promises.last() != Some(&self.promise) {
            self.sim.note(self.promises.len() as u64);
            self.promises.push(self.promise);
        }
    }
}

/// Compacts those of the segments that can be whose places have their bits set; false if there are none.
pub fn compact_some(db: &Db, places: u64) -> cortenkv::Result<bool> {
    let segments = db.settled_segments()?;
    let chosen = segments.iter().enumerate().filter(|(place, _)| places >> (place % 64) & 1 == 1);
    let chosen: Vec<u64> = chosen.map(|(_, id)| *id).collect();
    db.compact_segments(&chosen)
}

/// The keyspaces that must be there are, and no others.
pub fn check_keyspaces(found: u8, promise: &Promise) -> Result<(), String> {
    if promise.keyspaces & !found != 0 {
        return Err(format!("keyspaces {:#b} are there, of {:#b}", found, promise.keyspaces));
    }
    if found & !promise.keyspaces_begun != 0 {
        return Err(format!(
            "keyspaces {found:#b} are there, beyond {:#b}",
            promise.keyspaces_begun
        ));
    }
    Ok(())
}
