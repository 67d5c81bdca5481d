//! The adapter to `cortenkv-wal`: the log on disk, the opening of a directory, and the words of both sides.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use cortenkv_wal::bugs::{Bug, planted};
use cortenkv_wal::vfs::{DirLock, OsVfs, Vfs};
use cortenkv_wal::{
    Background, COMPACTED_ID_MIN, Damage, ProgressCallback, ReplayHandler, TailKind, Wal,
    WalOptions, hold_retired,
};

use crate::error::{Error, ErrorKind, Result};
use crate::install::{Installer, Installing};
use crate::log::Opened;
use crate::open::Builder;
use crate::options::{Compression, Durability, Options};
use crate::parts::hold::{held_above, remove_free};
pub(crate) use crate::parts::manifest::Manifest;
use crate::parts::reserve::Reserve;
use crate::parts::segment::{DurableSegment, ours};
use crate::parts::{self, Loaded, OnDisk};
use crate::record::{SeqNo, Write};
use crate::stats::{LogStats, OpenReport, Progress};
use crate::ticket::{Pending, Ticket};

pub(crate) use conditional::DurableMark;

#[path = "log/conditional.rs"]
mod conditional;
#[path = "log/encode.rs"]
mod encode;
#[path = "log/error.rs"]
mod error;
#[path = "log/replay.rs"]
mod replay;
#[path = "log/salvage.rs"]
mod salvage;

use encode::{install_once, with_encoded};
use replay::{Compacted, remove_unnamed, replay_compacted, replay_log};

/// The file system to open on, and how the log uses it.
#[derive(Debug, Clone)]
pub(crate) struct Platform {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(super) tail: TailKind,
    pub(super) window_bytes: u64,
}

impl Default for Platform {
    fn default() -> Self {
        Platform { vfs: Arc::new(OsVfs::new()), tail: TailKind::Auto, window_bytes: 0 }
    }
}

impl Builder {
    /// The file system that the directory lives on; the real one unless set.
    pub fn vfs(mut self, vfs: Arc<dyn Vfs>) -> Self {
        self.options.platform.vfs = vfs;
        self
    }

    /// How appended bytes reach the file, whatever the durability: for suites that go through every combination.
    #[cfg(feature = "test-util")]
    pub fn tail(mut self, tail: TailKind) -> Self {
        self.options.platform.tail = tail;
        self
    }

    /// Space is reserved in windows of this many bytes (a multiple of 4096, or 0 for the usual): small ones bring a
    /// test to the end of a window soon.
    #[cfg(feature = "test-util")]
    pub fn window_bytes(mut self, window_bytes: u64) -> Self {
        self.options.platform.window_bytes = window_bytes;
        self
    }
}

/// The log on disk.
pub(crate) struct DurableLog {
    pub(super) wal: Wal,
    pub(super) vfs: Arc<dyn Vfs>,
    verify_reads: bool,
    reserve: Reserve,
}

/// Opens a directory: lock, manifest, log with its replay.
pub(crate) fn open_durable(
    dir: &Path,
    options: &Options,
    installer: &Arc<Installer>,
) -> Result<Opened> {
    let clock = Arc::clone(&options.clock);
    let started = clock.monotonic();
    let vfs = &options.platform.vfs;
    let lock = DirLock::acquire(vfs, dir, options.allow_writable_by_others)?;
    let (mut manifest, created) = Manifest::read_or_create(&lock)?;
    let manifest_read = clock.monotonic();

    let identity = manifest.identity();
    let mut owner_data = [0; 16];
    owner_data[..4].copy_from_slice(&identity.hash_id.to_le_bytes());
    owner_data[8..].copy_from_slice(&identity.hash_seed.to_le_bytes());
    let retired: Vec<_> = manifest.state().retired.values().copied().collect();
    let mut images = OnDisk::find(vfs.as_ref(), dir, &mut manifest, options);
    let builds_on_manifest = !retired.is_empty() && !planted(Bug::ManifestTrustedFromCache);
    manifest.begin_lineage()?;
    if builds_on_manifest {
        // DURABILITY: recovery removes the files of retired segments, and the new segment says that the log begins behind
        // them. So that they are retired must not be known from the page cache alone (rule 5).
        manifest.renew()?;
        hold_retired(&lock, &retired, held_above(manifest.state()))?;
    }
    let wal_options = wal_options(options)
        .owner(identity.uuid)
        .owner_data(owner_data)
        .retired(retired)
        .known(images.known())
        .replay(!images.has_image());
    let feed = Arc::new(Feed(Arc::clone(installer)));
    let (wal, recovered) = Wal::open_locked(lock, wal_options, feed)?;
    let opened = clock.monotonic();
    let had_image = images.has_image();
    let image = images.load(&wal, &mut manifest, options);
    let loaded = clock.monotonic();
    manifest.forget_retired(&recovered.retired_forgotten);
    let records = match had_image && image.is_none() {
        true => replay_log(&wal, installer)?,
        false => recovered.records,
    };
    let compacted = match &image {
        Some(_) => Compacted::default(),
        None => replay_compacted(&wal, &mut manifest, installer, options.salvage)?,
    };
    let replayed = clock.monotonic();
    if !(created || builds_on_manifest && recovered.retired_forgotten.is_empty()) {
        // Only now, where that does: what cannot be opened leaves everything as it was.
        manifest.renew()?;
    }
    let salvaged = salvage::publish(&wal, &mut manifest, compacted.salvages)?;
    remove_unnamed(&wal, &manifest)?;
    remove_free(&wal, held_above(manifest.state()))?;
    parts::remove_unnamed_images(vfs.as_ref(), dir, manifest.state());
    let report = OpenReport {
        created,
        segments: recovered.segments + manifest.state().compacted.len() as u64,
        records: records + compacted.records,
        bytes: recovered.bytes + compacted.bytes,
        bytes_cut: recovered.bytes_cut,
        damaged_places: recovered.damaged_places
            + salvaged.iter().map(|it| it.places.len().max(1) as u64).sum::<u64>(),
        salvaged,
        manifest_ms: (manifest_read - started + (clock.monotonic() - replayed)).as_millis() as u64,
        replay_ms: (opened - manifest_read + (replayed - loaded)).as_millis() as u64,
        image_ms: (loaded - opened).as_millis() as u64,
        image_bytes: image.as_ref().map_or(0, Loaded::bytes),
        image_keys: image.as_ref().map_or(0, Loaded::keys),
        ..OpenReport::default()
    };
    let keyspaces = manifest.state().keyspaces.clone();
    let reserve = Reserve::open(&wal, options);
    Ok(Opened {
        log: DurableLog { wal, vfs: Arc::clone(vfs), verify_reads: options.verify_reads, reserve },
        manifest: Arc::new(Mutex::new(manifest)),
        keyspaces,
        hash_seed: identity.hash_seed,
        images,
        image,
        report,
    })
}

fn wal_options(options: &Options) -> WalOptions {
    let progress = options.progress.clone().map(|listener| {
        ProgressCallback::new(move |progress| {
            let (bytes_done, bytes_total) = (progress.bytes_done, progress.bytes_total);
            listener(Progress { bytes_done, bytes_total });
        })
    });
    WalOptions::default()
        .durability(options.durability.into())
        .compression(options.compression == Compression::Snappy)
        .segment_bytes(options.segment_bytes)
        .window_bytes(options.platform.window_bytes)
        .tail(options.platform.tail)
        .checkpoint_threshold_bytes(options.checkpoint_threshold_bytes)
        .background(if options.manual { Background::Manual } else { Background::Thread })
        .damage(if options.salvage { Damage::Salvage } else { Damage::Refuse })
        .allow_writable_by_others(options.allow_writable_by_others)
        .tickets_max(options.tickets_max)
        .vfs(Arc::clone(&options.platform.vfs))
        .clock(Arc::clone(&options.clock))
        .progress(progress)
}

impl DurableLog {
    #[inline]
    pub(crate) fn append(
        &self,
        writes: &[Write<'_>],
        durability: Durability,
        installing: Installing<'_>,
    ) -> Result<SeqNo> {
        with_encoded(writes, |batch, has_puts| {
            let mut installing = Some(installing);
            let append = || {
                let install = |records: &[cortenkv_wal::RecordRef<'_>]| {
                    install_once(&mut installing, records);
                };
                Ok(self.wal.append_installing(batch, durability.into(), install)?)
            };
            self.admit(has_puts, append)
        })
    }

    pub(crate) fn append_async(
        &self,
        writes: &[Write<'_>],
        durability: Durability,
        installing: Installing<'_>,
    ) -> Result<Ticket<SeqNo>> {
        let ticket = with_encoded(writes, |batch, has_puts| {
            let mut installing = Some(installing);
            let append = || {
                let install = |records: &[cortenkv_wal::RecordRef<'_>]| {
                    install_once(&mut installing, records);
                };
                Ok(self.wal.append_async_installing(batch, durability.into(), install)?)
            };
            self.admit(has_puts, append)
        })?;
        Ok(Ticket::pending(WalTicket(ticket)))
    }

    /// Does what takes space for good, unless the rest of the disk is kept for what frees some; what has no puts is of the
    /// latter kind.
    #[inline]
    fn admit<R>(&self, has_puts: bool, mut work: impl FnMut() -> Result<R>) -> Result<R> {
        if !has_puts {
            return self.draw_on_reserve(work);
        }
        self.reserve.admit_put(&self.wal)?;
        work()
    }

    /// Does what frees space in the end; on a full disk once more, with the reserve.
    #[inline]
    pub(super) fn draw_on_reserve<R>(&self, mut work: impl FnMut() -> Result<R>) -> Result<R> {
        match work() {
            Err(error) if *error.kind() == ErrorKind::StorageFull && self.give_up_reserve() => {
                work()
            }
            done => done,
        }
    }

    /// Makes room for what frees space, if there is a reserve.
    pub(super) fn give_up_reserve(&self) -> bool {
        self.reserve.give_up(&self.wal)
    }

    /// See [`Reserve::follow`].
    #[allow(dead_code, reason = "a build without compaction has nobody who knows what lives")]
    pub(super) fn follow_reserve(&self, live_bytes: u64, output_bytes: u64, is_freed: bool) {
        self.reserve.follow(&self.wal, live_bytes, output_bytes, is_freed);
    }

    /// See [`Reserve::room_bytes`].
    #[allow(dead_code, reason = "a build without compaction has no jobs")]
    pub(super) fn room_bytes(&self) -> u64 {
        self.reserve.room_bytes()
    }

    pub(crate) fn sync(&self) -> Result<SeqNo> {
        Ok(self.wal.sync()?)
    }

    pub(crate) fn sync_async(&self) -> Result<Ticket<SeqNo>> {
        Ok(Ticket::pending(WalTicket(self.wal.sync_async()?)))
    }

    /// A segment to read from.
    pub(crate) fn segment(&self, id: u64) -> Result<DurableSegment> {
        if id >= COMPACTED_ID_MIN {
            return Ok(DurableSegment::new(self.wal.open_compacted(id)?, self.verify_reads));
        }
        let reader = self.wal.segment(id).ok_or_else(|| {
            Error::invalid(format!("the log has no segment {id}; only a record in it can name it"))
        })?;
        Ok(DurableSegment::new(reader, self.verify_reads))
    }

    pub(crate) fn last_seq(&self) -> SeqNo {
        self.wal.last_seq()
    }

    pub(crate) fn durable_seq(&self) -> SeqNo {
        self.wal.durable_seq()
    }

    pub(crate) fn stats(&self) -> LogStats {
        let stats = self.wal.stats();
        LogStats {
            commits: stats.commits,
            records: stats.records,
            records_held: 0,
            bytes: stats.bytes_stored,
            bytes_raw: stats.bytes_raw,
            segments: stats.segments,
            syncs: stats.syncs,
            groups: stats.groups,
            grouped_commits: stats.grouped_commits,
            group_commits_max: stats.group_commits_max,
            group_latency_total_us: stats.group_latency_total.as_micros() as u64,
            group_latency_max_us: stats.group_latency_max.as_micros() as u64,
            last_group_at_ms: stats.last_group_at_ms,
            stalls: stats.stalls,
            stall_time_us: stats.stall_time.as_micros() as u64,
            full_refusals: stats.full_refusals,
            tickets: stats.tickets,
        }
    }

    pub(crate) fn reset_stats(&self) {
        self.wal.reset_stats();
    }

    pub(crate) fn step(&self) -> Result<bool> {
        Ok(self.wal.step()?)
    }

    pub(crate) fn close(&self) -> Result<()> {
        Ok(self.wal.close()?)
    }
}

/// Hands the records of the log to the installer.
struct Feed(Arc<Installer>);

impl ReplayHandler for Feed {
    fn apply(&self, records: &[cortenkv_wal::RecordRef<'_>]) {
        self.0.apply(records.iter().map(ours));
    }
}

/// A ticket of the log. Whoever waits may lead the sync; polling never does.
struct WalTicket(cortenkv_wal::Ticket);

impl Future for WalTicket {
    type Output = Result<SeqNo>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(Error::from)
    }
}

impl Pending<SeqNo> for WalTicket {
    fn wait(self: Pin<Box<Self>>) -> Result<SeqNo> {
        Ok(Pin::into_inner(self).0.wait()?)
    }
}

impl From<Durability> for cortenkv_wal::Durability {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Always => Self::Always,
            Durability::Group { max_wait, max_batch } => Self::Group { max_wait, max_batch },
            Durability::EveryN(n) => Self::EveryN(n),
            Durability::Interval(interval) => Self::Interval(interval),
            Durability::Checkpoint => Self::Checkpoint,
            Durability::None => Self::None,
        }
    }
}
