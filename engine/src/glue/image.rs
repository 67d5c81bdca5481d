//! Images of the index: an open reads one instead of the log before it, so its time does not depend on history.
//!
//! # Layout
//! `file` is the file, `meta` what it says beside the shards, `write` how one is made, `load` how an open finds
//! and checks it, `fill` how it becomes a database, `runs` how the order of keys outlives the process.
//!
//! # What an image covers
//! Copying begins at a moment when no commit and no copy of compaction is on its way into the index, and the segment that is
//! being written is left for the next. *Covered* are the log segments before it, and the compacted segments that the index
//! points at. An open takes from the image the entries that lead into covered segments which are there still, and offers all
//! other segments again, by the ranks of their records. So it does not matter what went on while the shards were copied:
//! - an entry into a covered segment was there from the beginning, or the record is not the newest of its key any more, and
//!   the newer one is in a segment that is offered again (it was synced before the image counted);
//! - a segment that is not there any more was retired, and what was alive in it is in a segment that is offered again.
//!
//! What is live in each segment is noted at the beginning; records of covered segments that die while the shards are copied
//! are listed, so that an open can tell which of them the copied shards miss. The sum must come out, else the image is not used.
//!
//! # Failure
//! An image is derived data. One that cannot be written is tried again later; one that cannot be read, or does not fit the
//! segments that are there, is passed over, for the one before it, or the whole log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use cortenkv_wal::Wal;

use crate::address::Address;
use crate::catalog::SharedManifest;
use crate::core::Core;
use crate::error::Result;
use crate::options::Options;
use crate::parts::Liveness;
use crate::parts::manifest::edit::Edit;
use crate::record::Footprint;
use crate::sync::lock;

#[path = "image/file.rs"]
mod file;
#[path = "image/fill.rs"]
mod fill;
#[path = "image/load.rs"]
mod load;
#[path = "image/meta.rs"]
mod meta;
#[path = "image/runs.rs"]
mod runs;
#[path = "image/write.rs"]
mod write;

pub(crate) use load::{Loaded, OnDisk, remove_unnamed};
use meta::Death;
use write::Job;

/// Images that are kept; the older one is for when the newer turns out to be damaged.
const KEPT_MAX: usize = 2;
/// A close writes an image if an open would have to read more than this.
const CLOSE_BYTES_MIN: u64 = 64 << 10;
/// An image is written in the background if an open would have to read more than this...
pub(crate) const LOG_BYTES_MIN: u64 = 64 << 20;
/// ...and more than so many times the image.
const LOG_FACTOR: u64 = 3;
/// LIMIT: records that may die while the shards are copied; an image during which more do is given up.
const DEATHS_MAX: usize = 1 << 20;

/// The images of one database.
pub(crate) struct Images(Option<Kept>);

struct Kept {
    /// The process that opened the database: a forked child must not touch the files.
    pid: u32,
    manifest: SharedManifest,
    liveness: Liveness,
    log_bytes_min: u64,
    /// True while shards are copied.
    is_copying: AtomicBool,
    deaths: Mutex<Vec<Death>>,
    /// Segments that a job of compaction has published and the index does not point at yet, by its first victim.
    moving: Mutex<BTreeMap<u64, Vec<u64>>>,
    /// True when another segment was begun, so that an image may be due.
    has_grown: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// The images that the manifest names, the oldest first.
    standing: Vec<Standing>,
    /// After a failure: nothing is tried before an open would have to read so much.
    retry_bytes: u64,
}

/// An image that the manifest names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    number: u64,
    bytes: u64,
    /// The newest log segment that it covers.
    newest: u64,
    compacted: BTreeSet<u64>,
    /// The files of runs that it names.
    runs: BTreeSet<u64>,
}

impl Images {
    /// None are written or asked for.
    pub(crate) fn none() -> Self {
        Images(None)
    }

    pub(crate) fn new(
        manifest: SharedManifest,
        liveness: Liveness,
        log_bytes_min: u64,
        standing: Vec<Standing>,
    ) -> Self {
        Images(Some(Kept {
            pid: std::process::id(),
            manifest,
            liveness,
            log_bytes_min,
            is_copying: AtomicBool::new(false),
            deaths: Mutex::default(),
            moving: Mutex::default(),
            has_grown: AtomicBool::new(true),
            state: Mutex::new(State { standing, ..State::default() }),
        }))
    }

    /// True if there is work for a thread in the background.
    pub(crate) fn are_kept(&self) -> bool {
        self.0.is_some()
    }

    /// True while shards are copied: no slot is given to another segment.
    #[inline]
    pub(crate) fn is_copying(&self) -> bool {
        // ORDERING: Acquire, pairs with the store in `begin`; who holds the gate sees it by that.
        self.0.as_ref().is_some_and(|kept| kept.is_copying.load(Acquire))
    }

    /// A record died that was the newest of its key.
    #[inline]
    pub(crate) fn note_dead(&self, address: Address, was: Footprint) {
        if self.is_copying() {
            self.note_death(Death { address, was });
        }
    }

    #[cold]
    fn note_death(&self, death: Death) {
        let Some(kept) = &self.0 else { return };
        let mut deaths = lock(&kept.deaths);
        if deaths.len() <= DEATHS_MAX {
            deaths.push(death);
        }
    }

    /// Compaction is about to publish segments: the index does not point at them yet.
    pub(crate) fn begin_moving(&self, victims: &[u64], added: impl Iterator<Item = u64>) {
        if let (Some(kept), Some(first)) = (&self.0, victims.first()) {
            lock(&kept.moving).insert(*first, added.collect());
        }
    }

    /// The index points at all that the job of these victims published.
    pub(crate) fn end_moving(&self, victims: &[u64]) {
        if let (Some(kept), Some(first)) = (&self.0, victims.first()) {
            lock(&kept.moving).remove(first);
        }
    }

    /// A segment was mounted.
    pub(crate) fn note_segment(&self) {
        if let Some(kept) = &self.0 {
            kept.has_grown.store(true, Relaxed);
        }
    }

    /// True when background work has something to do.
    #[inline]
    pub(crate) fn wants_work(&self) -> bool {
        self.0.as_ref().is_some_and(|kept| kept.has_grown.load(Relaxed))
    }

    /// One bounded unit of background work; true if there is more to do now.
    pub(crate) fn step(&self, core: &Core) -> bool {
        let Some(kept) = &self.0 else { return false };
        let mut state = lock(&kept.state);
        if state.job.is_none() {
            if !kept.has_grown.swap(false, Relaxed) || !kept.is_due(core, &state) {
                return false;
            }
            return state.begin(kept, core);
        }
        state.go_on(kept, core)
    }

    /// Writes an image at the end of a database whose last commits are installed, if an open would have much to read.
    pub(crate) fn write_last(&self, core: &Core) {
        let Some(kept) = self.0.as_ref().filter(|kept| kept.pid == std::process::id()) else {
            return;
        };
        let mut state = lock(&kept.state);
        state.give_up(kept, core);
        let is_worth_it = wal(core).is_some_and(|wal| {
            kept.unread_bytes(wal, &state) > CLOSE_BYTES_MIN.min(kept.log_bytes_min)
        });
        if is_worth_it && state.begin(kept, core) {
            while state.go_on(kept, core) {}
        }
    }
}

impl Kept {
    /// Notes an edit. A failure of the manifest refuses writes, as it does whoever else notes one.
    fn note(&self, core: &Core, edit: Edit) -> Result<()> {
        lock(&self.manifest).commit(edit).inspect_err(|error| core.note_failure(error))
    }

    /// Bytes that an open would have to read beside the newest image.
    fn unread_bytes(&self, wal: &Wal, state: &State) -> u64 {
        let nothing = Standing::default();
        let newest = state.standing.last().unwrap_or(&nothing);
        let log = wal.segments();
        let log = log.iter().filter(|segment| segment.id > newest.newest);
        let log: u64 = log.map(|segment| u64::from(segment.end_stored)).sum();
        let manifest = lock(&self.manifest);
        let compacted = manifest.state().compacted.values();
        let compacted = compacted.filter(|segment| !newest.compacted.contains(&segment.id));
        log + compacted.map(|segment| segment.bytes_stored).sum::<u64>()
    }

    fn is_due(&self, core: &Core, state: &State) -> bool {
        let Some(wal) = wal(core) else { return false };
        let image_bytes = state.standing.last().map_or(0, |image| image.bytes);
        let wanted = self.log_bytes_min.max(image_bytes * LOG_FACTOR).max(state.retry_bytes);
        self.unread_bytes(wal, state) >= wanted
    }
}

impl State {
    /// Begins to copy; false if that is impossible now.
    fn begin(&mut self, kept: &Kept, core: &Core) -> bool {
        // A key with a record that cannot be read may have several entries, which no count tells.
        let is_sound =
            core.latch.get().is_none() && !core.met_unreadable() && core.index.order.is_whole();
        let job = is_sound.then(|| Job::begin(kept, core, self.number(kept)));
        match job {
            Some(Ok(job)) => self.job = Some(job),
            Some(Err(_)) => self.note_failure(kept, core),
            None => {}
        }
        self.job.is_some()
    }

    /// One step of the copy that is under way; false when it is over.
    fn go_on(&mut self, kept: &Kept, core: &Core) -> bool {
        let Some(job) = &mut self.job else { return false };
        match job.step(kept, core) {
            Ok(None) => return true,
            Ok(Some(standing)) => {
                self.job = None;
                self.retry_bytes = 0;
                self.standing.push(standing);
                // One more than is kept is only more than is needed: the next image tries again.
                let _ = self.forget_old(kept, core);
            }
            Err(_) => {
                self.give_up(kept, core);
                self.note_failure(kept, core);
            }
        }
        false
    }

    /// Drops a copy that is under way.
    fn give_up(&mut self, kept: &Kept, core: &Core) {
        if let Some(job) = self.job.take() {
            job.abandon(kept, core);
        }
    }

    fn note_failure(&mut self, kept: &Kept, core: &Core) {
        let unread_bytes = wal(core).map_or(0, |wal| kept.unread_bytes(wal, self));
        self.retry_bytes = unread_bytes + kept.log_bytes_min;
    }

    /// The number of the next image.
    fn number(&self, kept: &Kept) -> u64 {
        let manifest = lock(&kept.manifest);
        let named = manifest.state().images.keys().next_back().copied();
        named.max(self.standing.last().map(|image| image.number)).unwrap_or(0) + 1
    }

    /// Removes the images that are not kept, and lets go of the files that they name.
    fn forget_old(&mut self, kept: &Kept, core: &Core) -> Result<()> {
        while self.standing.len() > KEPT_MAX {
            let number = self.standing[0].number;
            kept.note(core, Edit::ImageRemoved { number })?;
            let image = self.standing.remove(0);
            if let (Some(wal), vfs) = (wal(core), &core.options.platform.vfs) {
                // What stays is removed by the next opening.
                let _ = vfs.remove_file(&wal.dir().join(file::file_name(number)));
            }
            if let Some(files) = core.index.order.files() {
                image.runs.iter().for_each(|number| files.release(*number));
            }
        }
        Ok(())
    }
}

/// What an option answers that this build cannot honour: nothing.
pub(crate) fn check_images(_: &Options) -> Result<()> {
    Ok(())
}

fn wal(core: &Core) -> Option<&Wal> {
    core.log.durable().map(|log| &log.wal)
}
