//! Room to write: new segment files, and reserved windows in them, made ahead of the writers.
//!
//! A segment is built under a temporary name: header written, first window reserved, synced, then renamed and the
//! directory synced. So a file with a segment's name always has a durable header, and leaving one segment for the next
//! costs no operation on the file system.
//!
//! # Failure
//! A full disk, a used-up quota or no file handles left are not failures of the log: the caller gets `StorageFull` and
//! may try again. Every other error, and any error of a sync, poisons the log.

mod full;

use std::path::PathBuf;
use std::sync::Arc;

use crate::bugs::{Bug, planted};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::format::{
    CHAIN_FRAME_BYTES, HEADER_BYTES, SEAL_FRAME_BYTES, SegmentHeader, SegmentKind,
};
use crate::latch::Latch;
use crate::options::WalOptions;
use crate::segment::{Data, SEGMENT_SPAN, Segment, file_name, temporary_name};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, lock};
use crate::tail::Tail;
use crate::vfs::{DirLock, OpenMode, Vfs, VfsFile, write_all_at};
pub(crate) use full::full;

/// Zeroes are written in pieces of this size: a larger write makes the kernel keep larger folios, of which every later
/// sync writes the whole (measured: 3,000 syncs a second against 8,000).
const PREWRITE_BYTES: usize = 4096;

/// The window of who makes nothing ahead.
const FRUGAL_WINDOW_BYTES: u32 = 64 << 10;

/// Page faults are taken so far ahead of the writers: little at a time, since a sync writes the zeroes.
const PREFAULT_BYTES: u32 = 512 << 10;

/// Who told what is wished for leaves it alone for so long: the other thread needs its time.
const TOLD_BYTES: u32 = 4096;

/// What should be made ready ahead of the writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// The range whose page faults are to be taken.
    pub(crate) prefault: Option<(u32, u32)>,
    /// Where the window should end.
    pub(crate) window_end: Option<u32>,
    /// The next segment.
    pub(crate) segment: bool,
}

impl Wishes {
    pub(crate) fn any(&self) -> bool {
        self.prefault.is_some() || self.window_end.is_some() || self.segment
    }
}

/// What new segments are made of.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) dir: PathBuf,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) owner: [u8; 16],
    pub(crate) owner_data: [u8; 16],
    /// Stored through a mapping; else staged and written, over blocks that were written with zeroes before.
    pub(crate) mapped: bool,
    /// 0 = by the size of the log.
    pub(crate) segment_bytes: u64,
    /// 0 = the default.
    pub(crate) window_bytes: u64,
    next_id: AtomicU64,
    prepared: Mutex<Option<Arc<Segment>>>,
    /// Whether `prepared` holds one, for those who must not wait.
    is_prepared: AtomicBool,
    /// Held while a window is being reserved, so that zeroes are never written over records.
    window: Mutex<()>,
    /// Nothing is made ahead of the writers: see [`Wal::set_frugal`](crate::Wal::set_frugal).
    frugal: AtomicBool,
    /// Monotonic nanoseconds before which a full disk is not asked again; 0 when it is not full.
    retry_at_ns: AtomicU64,
}

impl Space {
    /// Room in a locked directory, for segments of the given owner with ids from `next_id` on.
    pub(crate) fn new(
        lock: &DirLock,
        options: &WalOptions,
        owner: [u8; 16],
        owner_data: [u8; 16],
        next_id: u64,
    ) -> Self {
        Space {
            dir: lock.dir().to_path_buf(),
            vfs: Arc::clone(lock.vfs()),
            clock: Arc::clone(&options.clock),
            owner,
            owner_data,
            mapped: options.is_mapped(),
            segment_bytes: options.segment_bytes,
            window_bytes: options.window_bytes,
            next_id: AtomicU64::new(next_id),
            prepared: Mutex::new(None),
            is_prepared: AtomicBool::new(false),
            window: Mutex::new(()),
            frugal: AtomicBool::new(false),
            retry_at_ns: AtomicU64::new(0),
        }
    }

    /// The nominal size of a segment in a log of so many bytes.
    pub(crate) fn nominal_bytes(&self, log_bytes: u64) -> u32 {
        const MIB: u64 = 1 << 20;
        let bytes = match self.segment_bytes {
            0 if log_bytes < 16 * MIB => MIB,
            0 if log_bytes < 64 * MIB => 4 * MIB,
            0 if log_bytes < 256 * MIB => 16 * MIB,
            0 => 64 * MIB,
            bytes => bytes,
        };
        bytes.min(u64::from(SEGMENT_SPAN)) as u32
    }

    /// Reserved ahead of the tail, so that deletes still find room on a full disk.
    pub(crate) fn reserve_bytes(&self, capacity: u32) -> u32 {
        if self.is_frugal() {
            return 0;
        }
        (capacity / 8).min(1 << 20)
    }

    /// 1 MiB, 4 in the largest segments, the whole of the smallest.
    pub(crate) fn window_bytes(&self, capacity: u32) -> u32 {
        const MIB: u32 = 1 << 20;
        let bytes = if self.is_frugal() {
            FRUGAL_WINDOW_BYTES
        } else if self.window_bytes == 0 {
            (capacity / 16).max(MIB)
        } else {
            self.window_bytes as u32
        };
        bytes.min(capacity)
    }

    /// A file under its temporary name, its first window reserved, ready to be stored to.
    pub(crate) fn create(&self, content_bytes: u32, log_bytes: u64) -> Result<Arc<Segment>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "tracing")]
        let _span = tracing::debug_span!("wal.create_segment", segment = id).entered();
        let fixed = HEADER_BYTES + (CHAIN_FRAME_BYTES + SEAL_FRAME_BYTES) as u32;
        let needed = fixed.saturating_add(content_bytes);
        let capacity =
            self.nominal_bytes(log_bytes).max(needed.next_multiple_of(PREWRITE_BYTES as u32));
        if capacity > SEGMENT_SPAN {
            return Err(Error::limit(format!(
                "a commit of {content_bytes} bytes does not fit a segment of {SEGMENT_SPAN}"
            )));
        }
        let path = self.dir.join(temporary_name(id));
        let built = self.build(id, capacity, needed);
        built.map_err(|e| {
            // What stays behind is removed at the next open.
            let _ = self.vfs.remove_file(&path);
            Error::io(format!("cannot make room for the log in {}", self.dir.display()), e)
        })
    }

    fn build(&self, id: u64, capacity: u32, needed: u32) -> std::io::Result<Arc<Segment>> {
        let temporary = self.dir.join(temporary_name(id));
        let file = self.vfs.open(&temporary, OpenMode::CreateNew)?;
        let window = self
            .window_bytes(capacity)
            .max(needed)
            .next_multiple_of(PREWRITE_BYTES as u32)
            .min(capacity);
        self.reserve_range(file.as_ref(), 0, window)?;
        let mut salt = [0; 8];
        self.vfs.fill_random(&mut salt)?;
        let header = self.header(id, u64::from_le_bytes(salt), 0);
        write_all_at(file.as_ref(), &header.encode(), 0)?;
        let span = u64::from(capacity);
        let tail = Tail::new(self.vfs.as_ref(), &file, span, self.mapped, u64::from(HEADER_BYTES))?;
        let path = self.dir.join(file_name(id));
        let mut segment = Segment::new(id, path, file, header.salt, Data::Tail(tail));
        segment.capacity = capacity;
        segment.created_ms = header.created_ms;
        segment.reserved = window.into();
        segment.advance(HEADER_BYTES, 0);
        Ok(Arc::new(segment))
    }

    fn header(&self, id: u64, salt: u64, built_end: u32) -> SegmentHeader {
        SegmentHeader {
            kind: SegmentKind::Log,
            owner: self.owner,
            owner_data: self.owner_data,
            id,
            salt,
            created_ms: self.clock.wall_ms(),
            built_end,
            grouped: false,
        }
    }

    /// Makes a segment that was created and filled up to `end` durable, under its temporary name; its header says so.
    pub(crate) fn sync_built(&self, segment: &Segment, end: u32) -> Result<()> {
        let header = self.header(segment.id, segment.salt, end).encode();
        write_all_at(segment.file.as_ref(), &header, 0)
            .map_err(|e| Error::io(format!("cannot write {}", segment.path.display()), e))?;
        self.sync_content(segment)
    }

    /// Makes the content of a created segment durable, under its temporary name.
    pub(crate) fn sync_content(&self, segment: &Segment) -> Result<()> {
        if planted(Bug::RenamedBeforeSync) {
            return Ok(());
        }
        // DURABILITY: the header and what recovery copied, before the name appears.
        segment.file.sync_data().map_err(|e| Error::sync_failed(&segment.path, e))
    }

    /// Gives a segment its name. Durable only after [`Space::sync_names`].
    pub(crate) fn name(&self, segment: &Segment) -> Result<()> {
        let temporary = self.dir.join(temporary_name(segment.id));
        self.vfs.rename(&temporary, &segment.path).map_err(|e| {
            Error::io(format!("cannot name the segment {}", segment.path.display()), e)
        })
    }

    pub(crate) fn sync_names(&self) -> Result<()> {
        if planted(Bug::DirectoryNotSynced) {
            return Ok(());
        }
        // DURABILITY: the names of segments, before a record in them is acknowledged.
        self.vfs.sync_dir(&self.dir).map_err(|e| Error::sync_failed(&self.dir, e))
    }

    /// Makes the next segment ready, unless it is. Only one thread at a time does so.
    pub(crate) fn prepare(&self, latch: &Latch, content_bytes: u32, log_bytes: u64) -> Result<()> {
        let mut prepared = lock(&self.prepared);
        let usable = prepared.as_ref().is_some_and(|segment| fits_empty(segment, content_bytes));
        if usable {
            return Ok(());
        }
        // One that is too small for the commit at hand is left for recovery to remove: it holds nothing.
        *prepared = Some(self.unless_full(latch, || {
            let segment = self.create(content_bytes, log_bytes)?;
            self.sync_content(&segment)?;
            self.name(&segment)?;
            self.sync_names()?;
            Ok(segment)
        })?);
        self.is_prepared.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the prepared segment, making one now where there is none that fits.
    pub(crate) fn take(
        &self,
        latch: &Latch,
        content_bytes: u32,
        log_bytes: u64,
    ) -> Result<Arc<Segment>> {
        loop {
            self.prepare(latch, content_bytes, log_bytes)?;
            if let Some(segment) = lock(&self.prepared).take() {
                self.is_prepared.store(false, Ordering::Relaxed);
                return Ok(segment);
            }
        }
    }

    /// What should be made ready when the writers have come to `at` in a segment.
    pub(crate) fn wishes(&self, segment: &Segment, at: u32) -> Wishes {
        let capacity = segment.capacity;
        let reserved = segment.reserved.load(Ordering::Acquire);
        let ahead = self.reserve_bytes(capacity) + self.window_bytes(capacity);
        let window_end = at.saturating_add(ahead).min(capacity);
        let done = segment.prefaulted.load(Ordering::Relaxed).max(at);
        let prefault_end = at.saturating_add(PREFAULT_BYTES).min(reserved);
        let is_worth_it = prefault_end.saturating_sub(done) >= PREFAULT_BYTES / 2;
        Wishes {
            prefault: (is_worth_it && !segment.tail().is_staged()).then_some((done, prefault_end)),
            window_end: (reserved < window_end && !self.is_frugal()).then_some(window_end),
            segment: !self.is_prepared() && !self.is_frugal(),
        }
    }

    /// Where to look again: content that ends up to there has room, and until then nothing is wished for, or what is wished
    /// for `at` was `told`. The caller has the append lock, under which alone the prepared segment is taken.
    pub(crate) fn easy_until(&self, segment: &Segment, at: u32, told: bool) -> u32 {
        let capacity = segment.capacity;
        let reserved = segment.reserved.load(Ordering::Acquire).min(capacity);
        let prefaulted = segment.prefaulted.load(Ordering::Relaxed);
        let to_prefault = reserved.saturating_sub(prefaulted.max(at));
        let quiet_until = if told {
            at.saturating_add(TOLD_BYTES)
        } else if segment.tail().is_staged() || to_prefault < PREFAULT_BYTES / 2 {
            // More can be prefaulted once more is reserved, and that is wished for before.
            u32::MAX
        } else {
            prefaulted.saturating_sub(PREFAULT_BYTES / 2 + 1)
        };
        let ahead = match reserved == capacity {
            true if self.is_prepared() => 0,
            false if !told => self.reserve_bytes(capacity) + self.window_bytes(capacity),
            _ => self.reserve_bytes(capacity),
        };
        reserved.saturating_sub(ahead + SEAL_FRAME_BYTES as u32).min(quiet_until)
    }

    /// True when the next segment is ready.
    pub(crate) fn is_prepared(&self) -> bool {
        self.is_prepared.load(Ordering::Relaxed)
    }

    /// Reserves space in a segment that is being written, at least up to `end`, in whole windows.
    pub(crate) fn reserve(&self, latch: &Latch, segment: &Segment, end: u32) -> Result<()> {
        let _window = lock(&self.window);
        // ORDERING: Acquire, pairs with the Release below: the space was reserved before the end moved.
        let reserved = segment.reserved.load(Ordering::Acquire);
        if reserved >= end {
            return Ok(());
        }
        let window = self.window_bytes(segment.capacity);
        let target = end.max(reserved.saturating_add(window)).min(segment.capacity);
        self.unless_full(latch, || {
            let place = || format!("cannot reserve space in {}", segment.path.display());
            self.reserve_range(segment.file.as_ref(), reserved, target)
                .map_err(|e| Error::io(place(), e))
        })?;
        // ORDERING: Release, pairs with the Acquire loads of `reserved`.
        segment.reserved.store(target, Ordering::Release);
        Ok(())
    }

    fn reserve_range(&self, file: &dyn VfsFile, from: u32, to: u32) -> std::io::Result<()> {
        if self.mapped {
            return file.allocate(u64::from(from), u64::from(to - from));
        }
        let zeroes = [0; PREWRITE_BYTES];
        let mut at = from;
        while at < to {
            let piece = (to - at).min(PREWRITE_BYTES as u32 - at % PREWRITE_BYTES as u32);
            write_all_at(file, zeroes.get(..piece as usize).unwrap_or(&zeroes), u64::from(at))?;
            at += piece;
        }
        Ok(())
    }
}

/// True when a segment without records has room for the given content.
fn fits_empty(segment: &Segment, content_bytes: u32) -> bool {
    let fixed = HEADER_BYTES + (CHAIN_FRAME_BYTES + SEAL_FRAME_BYTES) as u32;
    fixed.saturating_add(content_bytes) <= segment.capacity
}
