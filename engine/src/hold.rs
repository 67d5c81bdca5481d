//! Holds: parts of the log that stay on disk for somebody who still reads them.
//!
//! # Invariants
//! - A segment of the log with commits above a hold is compacted as usual, but its file stays: it is no part of the log, has
//!   no slot, nothing in it counts as live or as garbage, and no opening replays it.
//! - A hold never keeps more than its `bytes_max`: it breaks first, durably, and its files go.
//! - Files go only under `Holds::removing`, so whoever holds that lock sees a set of files that belongs together.
//!
//! # Failure
//! A hold is durable before it is given out. Files that a crash keeps from going go at the next occasion.

use std::sync::{Arc, Mutex, MutexGuard};

use cortenkv_wal::{HeldFile, Wal};

use crate::catalog::SharedManifest;
use crate::core::Core;
use crate::db::{Db, Handle};
use crate::error::{Error, Result};
use crate::parts::DurableLog;
use crate::parts::manifest::ManifestState;
use crate::parts::manifest::edit::{Edit, Hold as Noted};
use crate::record::SeqNo;
use crate::sync::lock;

/// What a hold may keep unless it is told otherwise.
const BYTES_MAX: u64 = 1 << 30;

/// How a hold is made; see [`Db::hold`].
#[derive(Debug, Clone)]
#[must_use = "options do nothing before they are given to `Db::hold`"]
pub struct HoldOptions {
    seq: Option<SeqNo>,
    bytes_max: u64,
}

impl Default for HoldOptions {
    fn default() -> Self {
        HoldOptions::new()
    }
}

impl HoldOptions {
    /// A hold from now on that keeps at most 1 GiB.
    pub fn new() -> Self {
        HoldOptions { seq: None, bytes_max: BYTES_MAX }
    }

    /// Commits above this one are held, as far as they are still there; unless set, those that are not durable yet.
    pub fn seq(mut self, seq: SeqNo) -> Self {
        self.seq = Some(seq);
        self
    }

    /// The most bytes of segments that left the log and stay for this hold; beyond it the hold breaks.
    pub fn bytes_max(mut self, bytes_max: u64) -> Self {
        self.bytes_max = bytes_max;
        self
    }
}

/// What is known of a hold; see [`Db::holds`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct HoldInfo {
    /// Its name.
    pub name: String,
    /// Commits above this one are held.
    pub seq: SeqNo,
    /// The most bytes that it may keep.
    pub bytes_max: u64,
    /// Bytes of segments that left the log and stay because of it.
    pub held_bytes: u64,
    /// True once it kept more than it may: nothing stays because of it any more.
    pub is_broken: bool,
}

/// A hold of the log; made by [`Db::hold`].
///
/// It is part of the database: dropping this handle leaves it as it is, also across openings. Clones are the same hold.
#[derive(Debug, Clone)]
pub struct Hold {
    handle: Arc<Handle>,
    name: Arc<str>,
}

impl Hold {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Commits above this one are held.
    ///
    /// # Errors
    /// `Lagged` once it broke, `InvalidArgument` once it was released.
    pub fn seq(&self) -> Result<SeqNo> {
        with_manifest(&self.handle.core, |_, state| noted(state, &self.name).map(|hold| hold.seq))
    }

    /// Lets go of commits up to `seq`, durably; a smaller number than before changes nothing. One sync of the manifest.
    ///
    /// # Errors
    /// As [`Hold::seq`], and as for writes.
    pub fn advance(&self, seq: SeqNo) -> Result<()> {
        let core = &self.handle.core;
        core.check_writable()?;
        let (log, manifest) = parts(core)?;
        let _removing = core.holds.removing();
        {
            let mut manifest = lock(&manifest);
            let hold = noted(manifest.state(), &self.name)?;
            if seq <= hold.seq {
                return Ok(());
            }
            let edit = Edit::HoldSet { name: self.name.to_string(), hold: Noted { seq, ..hold } };
            manifest.commit(edit).inspect_err(|error| core.note_failure(error))?;
        }
        trim(&log.wal, &manifest)
    }

    /// Ends the hold; true if it was there. What only it kept goes.
    ///
    /// # Errors
    /// As for writes.
    pub fn release(self) -> Result<bool> {
        release(&self.handle.core, &self.name)
    }
}

impl Db {
    /// The hold of this name, made (durably) where there is none: segments with commits above its sequence number stay on disk
    /// when compaction has rewritten them, so that the log can be read from there.
    ///
    /// Of a hold that exists the options change nothing but `bytes_max`.
    ///
    /// ```
    /// # use cortenkv::{Db, HoldOptions};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = Db::open(dir.path())?;
    /// let hold = db.hold("audit", HoldOptions::new().bytes_max(64 << 20))?;
    /// let seq = db.put(b"key", b"value")?;
    /// // ... read what came since, then:
    /// hold.advance(seq)?;
    /// assert_eq!(db.holds()?[0].seq, seq);
    /// hold.release()?;
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Lagged` for a hold that broke; [`Db::release_hold`] lets it be made anew. `InvalidArgument` for a name that is empty or
    /// longer than 255 bytes, `Unsupported` in memory, and as for writes.
    pub fn hold(&self, name: &str, options: HoldOptions) -> Result<Hold> {
        let core = self.core();
        core.check_writable()?;
        let (log, manifest) = parts(core)?;
        let _removing = core.holds.removing();
        let mut manifest = lock(&manifest);
        let known = manifest.state().holds.contains_key(name);
        let hold = match known {
            true => Noted { bytes_max: options.bytes_max, ..noted(manifest.state(), name)? },
            // What is not durable yet is in no segment that could go.
            false => Noted {
                seq: options.seq.unwrap_or_else(|| log.wal.durable_seq()),
                bytes_max: options.bytes_max,
            },
        };
        if manifest.state().holds.get(name) != Some(&hold) {
            let edit = Edit::HoldSet { name: name.to_owned(), hold };
            manifest.commit(edit).inspect_err(|error| core.note_failure(error))?;
        }
        Ok(Hold { handle: Arc::clone(self.handle()), name: name.into() })
    }

    /// All holds, by name; none in memory.
    ///
    /// # Errors
    /// `Closed` after `close`, `Io`.
    pub fn holds(&self) -> Result<Vec<HoldInfo>> {
        let core = self.core();
        core.check_open()?;
        if core.log.durable().is_none() {
            return Ok(Vec::new());
        }
        with_manifest(core, |log, state| {
            let held = log.wal.list_held()?;
            let info = |(name, hold): (&String, &Noted)| {
                let is_broken = state.broken.contains(name);
                HoldInfo {
                    name: name.clone(),
                    seq: hold.seq,
                    bytes_max: hold.bytes_max,
                    held_bytes: if is_broken { 0 } else { bytes_above(&held, hold.seq) },
                    is_broken,
                }
            };
            Ok(state.holds.iter().map(info).collect())
        })
    }

    /// Ends the hold of this name, broken or not; true if there was one.
    ///
    /// # Errors
    /// As for writes.
    pub fn release_hold(&self, name: &str) -> Result<bool> {
        release(self.core(), name)
    }
}

fn release(core: &Core, name: &str) -> Result<bool> {
    core.check_writable()?;
    let (log, manifest) = parts(core)?;
    let _removing = core.holds.removing();
    {
        let mut manifest = lock(&manifest);
        if !manifest.state().holds.contains_key(name) {
            return Ok(false);
        }
        let edit = Edit::HoldRemoved { name: name.to_owned() };
        manifest.commit(edit).inspect_err(|error| core.note_failure(error))?;
    }
    trim(&log.wal, &manifest)?;
    Ok(true)
}

/// Files that stay or go, of one database.
#[derive(Default)]
pub(crate) struct Holds {
    removing: Mutex<()>,
}

impl Holds {
    /// While this is held no file of a segment goes or changes its name.
    pub(crate) fn removing(&self) -> MutexGuard<'_, ()> {
        lock(&self.removing)
    }

    /// Takes segments out of the log, and removes those files that nobody holds.
    #[allow(dead_code, reason = "a build without compaction retires no segment")]
    pub(crate) fn remove(
        &self,
        wal: &Wal,
        manifest: &SharedManifest,
        in_log: &[u64],
        compacted: &[u64],
    ) -> Result<()> {
        let _removing = self.removing();
        let has_holds = held_above(lock(manifest).state()) < SeqNo::MAX;
        if has_holds {
            let leaving = wal.segments().into_iter().filter(|segment| in_log.contains(&segment.id));
            let leaving: Vec<_> =
                leaving.map(|known| (known.last_seq, u64::from(known.end_stored))).collect();
            break_holds(wal, manifest, &leaving)?;
        }
        let retired = wal.retire_holding(in_log, held_above(lock(manifest).state()));
        // One file that cannot be removed keeps no other one.
        let removed = wal.remove_compacted(compacted);
        retired.and(removed)?;
        if has_holds {
            trim(wal, manifest)?;
        }
        Ok(())
    }
}

/// Segments with commits above stay; none if nobody holds any.
pub(crate) fn held_above(state: &ManifestState) -> SeqNo {
    let whole = state.holds.iter().filter(|(name, _)| !state.broken.contains(*name));
    whole.map(|(_, hold)| hold.seq).min().unwrap_or(SeqNo::MAX)
}

/// Breaks those holds that would keep more than they may, with segments that are about to leave the log.
fn break_holds(wal: &Wal, manifest: &SharedManifest, leaving: &[(SeqNo, u64)]) -> Result<()> {
    let held = wal.list_held()?;
    let mut manifest = lock(manifest);
    let state = manifest.state();
    let too_much = |(name, hold): &(&String, &Noted)| {
        let leaving = leaving.iter().filter(|(last_seq, _)| *last_seq > hold.seq);
        let bytes = bytes_above(&held, hold.seq) + leaving.map(|(_, bytes)| bytes).sum::<u64>();
        bytes > hold.bytes_max && !state.broken.contains(*name)
    };
    let names: Vec<String> =
        state.holds.iter().filter(too_much).map(|(name, _)| name.clone()).collect();
    for name in names {
        manifest.commit(Edit::HoldBroken { name })?;
    }
    Ok(())
}

fn bytes_above(held: &[HeldFile], seq: SeqNo) -> u64 {
    held.iter().filter(|file| file.last_seq > seq).map(|file| file.bytes).sum()
}

fn trim(wal: &Wal, manifest: &SharedManifest) -> Result<()> {
    remove_free(wal, held_above(lock(manifest).state()))
}

/// Removes the files that nobody holds any more: those without a commit above `above`.
pub(crate) fn remove_free(wal: &Wal, above: SeqNo) -> Result<()> {
    let held = wal.list_held()?;
    let free: Vec<HeldFile> = held.into_iter().filter(|file| file.last_seq <= above).collect();
    Ok(wal.remove_held(&free)?)
}

fn noted(state: &ManifestState, name: &str) -> Result<Noted> {
    let hold = state.holds.get(name).ok_or_else(|| {
        Error::invalid(format!("there is no hold {name:?} any more; it was released"))
    })?;
    match state.broken.contains(name) {
        true => Err(Error::lagged(hold.seq, hold.seq)),
        false => Ok(*hold),
    }
}

/// The log and the manifest of a database on disk.
pub(crate) fn parts(core: &Core) -> Result<(&DurableLog, SharedManifest)> {
    core.log.durable().zip(core.catalog.manifest()).ok_or_else(|| {
        Error::unsupported("a database in memory has no log on disk; open one in a directory")
    })
}

fn with_manifest<R>(
    core: &Core,
    f: impl FnOnce(&DurableLog, &ManifestState) -> Result<R>,
) -> Result<R> {
    let (log, manifest) = parts(core)?;
    let manifest = lock(&manifest);
    f(log, manifest.state())
}
