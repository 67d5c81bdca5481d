//! The files of a log directory: found, opened, their headers checked, and the leftovers removed at the end.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::chain::Retired;
use super::known::scan_known;
use super::scan::{Scan, scan};
use crate::bugs::{Bug, planted};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{CHAIN_FRAME_BYTES, HEADER_BYTES, HeaderFault, SegmentHeader, SegmentKind};
use crate::known::KnownSegment;
use crate::options::{Background, Damage, Progress, WalOptions};
use crate::segment::{Data, Position, SEGMENT_SPAN, Segment, file_name, parse_name};
use crate::space::Space;
use crate::sync::{Mutex, lock};
use crate::vfs::{DirLock, FileKind, OpenMode, Vfs, read_full_at};

/// Logs smaller than this are scanned by one thread: starting another takes longer.
const PARALLEL_BYTES_MIN: u64 = 8 << 20;

/// LIMIT: the largest id of a segment. New ones come after all that are there, so a name at the end of the range
/// would leave none.
const ID_MAX: u64 = (1 << 63) - 1;

/// LIMIT: no finished segment is shorter: its first window is reserved before it gets its name, and it is cut behind
/// commits only.
pub(super) const FILE_BYTES_MIN: u64 = HEADER_BYTES as u64 + CHAIN_FRAME_BYTES as u64;

/// One segment file whose header is intact.
pub(super) struct Found {
    pub(super) segment: Arc<Segment>,
    pub(super) file_bytes: u32,
    /// What the header says was durable before the file had its name.
    built_end: u32,
}

pub(super) struct Files {
    dir: PathBuf,
    vfs: Arc<dyn Vfs>,
    found: BTreeMap<u64, Found>,
    /// Segments whose header cannot be read; only salvage comes to have any.
    unreadable: Vec<u64>,
    /// Segments that were retired, by what the owner says.
    pub(super) retired: Retired,
    /// Those whose files are still there.
    retired_left: Vec<u64>,
    /// Segments that were never finished.
    temporary: Vec<String>,
    pub(super) owner: [u8; 16],
    pub(super) owner_data: [u8; 16],
    pub(super) next_id: u64,
}

impl Files {
    /// Opens every segment of the directory. Changes nothing.
    pub(super) fn read(dir_lock: &DirLock, options: &WalOptions) -> Result<Files> {
        let (dir, vfs) = (dir_lock.dir().to_path_buf(), Arc::clone(dir_lock.vfs()));
        let listed =
            vfs.list(&dir).map_err(|e| Error::io(format!("cannot list {}", dir.display()), e))?;
        let mut files = Files {
            dir,
            vfs,
            found: BTreeMap::new(),
            unreadable: Vec::new(),
            retired: options.retired.iter().map(|retired| (retired.id, *retired)).collect(),
            retired_left: Vec::new(),
            temporary: Vec::new(),
            owner: options.owner,
            owner_data: options.owner_data,
            next_id: 1,
        };
        let retired_max = files.retired.keys().next_back();
        files.next_id = retired_max.map_or(1, |id| id + 1);
        let mut owner = None;
        for entry in listed {
            let Some((id, complete)) = parse_name(&entry.name) else { continue };
            if id > ID_MAX {
                let path = files.dir.join(&entry.name);
                let text = format!("no log has come to {}; move it away", path.display());
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
            files.next_id = files.next_id.max(id + 1);
            if entry.kind != FileKind::File {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!(
                        "{} is not a regular file; remove it",
                        files.dir.join(&entry.name).display()
                    ),
                ));
            }
            if planted(Bug::RetiredReplayed) && complete {
                files.retired.remove(&id);
            }
            if complete && files.retired.contains_key(&id) {
                // Whatever it holds is no part of the log any more.
                files.retired_left.push(id);
            } else if complete {
                files.open(id, options, &mut owner)?;
            } else {
                files.temporary.push(entry.name);
            }
        }
        match owner {
            Some((_, owner, owner_data)) => (files.owner, files.owner_data) = (owner, owner_data),
            None if files.owner == [0; 16] => {
                let drawn = files.vfs.fill_random(&mut files.owner);
                drawn.map_err(|e| Error::io("cannot draw random bytes", e))?;
            }
            None => {}
        }
        Ok(files)
    }

    fn open(
        &mut self,
        id: u64,
        options: &WalOptions,
        owner: &mut Option<(u64, [u8; 16], [u8; 16])>,
    ) -> Result<()> {
        let path = self.path(id);
        let cannot = |e| Error::io(format!("cannot read {}", path.display()), e);
        let file = self.vfs.open(&path, OpenMode::Read).map_err(cannot)?;
        let mut start = [0; HEADER_BYTES as usize];
        let filled = read_full_at(file.as_ref(), &mut start, 0).map_err(cannot)?;
        let len = file.len().map_err(cannot)?;
        let header = match SegmentHeader::decode(
            start.get(..filled).unwrap_or_default(),
            SegmentKind::Log,
        ) {
            Ok(header) if header.id == id && len >= FILE_BYTES_MIN => header,
            Err(HeaderFault::Unsupported(what)) => {
                let text = format!(
                    "{} was written by a newer version: {what}; upgrade to open it",
                    path.display()
                );
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            Ok(_) | Err(HeaderFault::Damaged) if options.damage == Damage::Salvage => {
                self.unreadable.push(id);
                return Ok(());
            }
            Ok(header) if header.id == id => {
                let found = format!("a file of {len} bytes");
                return Err(Error::corruption(&path, len, "the start of a segment", found));
            }
            Ok(header) => {
                let found = format!("that of segment {}", header.id);
                return Err(Error::corruption(
                    &path,
                    0,
                    format!("the header of segment {id}"),
                    found,
                ));
            }
            Err(HeaderFault::Damaged) => {
                return Err(Error::corruption(&path, 0, "a segment header", "neither copy intact"));
            }
        };
        check_owner(&path, &header, options, owner)?;
        // LIMIT: no segment is longer; what stands behind is not ours.
        let file_bytes = len.min(u64::from(SEGMENT_SPAN)) as u32;
        let data = match self.vfs.map_read(&file, u64::from(file_bytes)) {
            Ok(map) => Data::Mapped(map),
            Err(e) if e.kind() == io::ErrorKind::Unsupported => Data::File,
            Err(e) => return Err(cannot(e)),
        };
        let mut segment = Segment::new(id, path, file, header.salt, data);
        segment.created_ms = header.created_ms;
        let segment = Arc::new(segment);
        self.found.insert(id, Found { segment, file_bytes, built_end: header.built_end });
        Ok(())
    }

    /// Scans every segment, on several threads where there is much to read.
    pub(super) fn scan(&mut self, options: &WalOptions) -> Result<BTreeMap<u64, Scan>> {
        let total: u64 = self.found.values().map(|found| u64::from(found.file_bytes)).sum();
        let threads = match options.background {
            Background::Thread if total >= PARALLEL_BYTES_MIN => {
                available_threads().min(self.found.len())
            }
            _ => 1,
        };
        let known: BTreeMap<u64, &KnownSegment> =
            options.known.iter().map(|known| (known.id, known)).collect();
        let todo = Mutex::new(self.found.values().rev().collect::<Vec<_>>());
        let done = Mutex::new((BTreeMap::new(), 0_u64));
        let work = || {
            loop {
                let Some(found) = lock(&todo).pop() else { return Ok(()) };
                let known = known.get(&found.segment.id);
                let known = known.map(|known| scan_known(&found.segment, found.file_bytes, known));
                let mut scan = match known.transpose()?.flatten() {
                    Some(scan) => scan,
                    None => scan(&found.segment, found.file_bytes)?,
                };
                scan.built_end = found.built_end;
                let end = scan.end.unwrap_or(Position { stored: 0, logical: 0 });
                found.segment.advance(end.stored, scan.last_seq);
                if let Some(chain) = &scan.chain {
                    found.segment.note_chain(chain);
                }
                let mut done = lock(&done);
                done.0.insert(found.segment.id, scan);
                done.1 += u64::from(found.file_bytes);
                if let Some(progress) = &options.progress {
                    progress.call(Progress { bytes_done: done.1, bytes_total: 2 * total });
                }
            }
        };
        if threads <= 1 {
            work()?;
        } else {
            on_threads(threads, &work)?;
        }
        Ok(std::mem::take(&mut lock(&done).0))
    }

    pub(super) fn segment(&self, id: u64) -> Option<&Arc<Segment>> {
        self.found.get(&id).map(|found| &found.segment)
    }

    pub(super) fn damaged_headers(&self) -> u64 {
        self.unreadable.len() as u64
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, id: u64) -> PathBuf {
        self.dir.join(file_name(id))
    }

    /// Removes every segment that is not kept, and gives back what was reserved behind the kept ones. Damaged ones are
    /// set aside under another name. Failures are left for the next open: what stays is not part of the log.
    pub(super) fn remove_leftovers(
        &mut self,
        space: &Space,
        kept: &[(Arc<Segment>, Position)],
        set_aside: &BTreeSet<u64>,
    ) -> u64 {
        let mut removed = 0;
        let leftovers = self.found.keys().chain(&self.unreadable);
        for id in leftovers.filter(|id| !kept.iter().any(|(segment, _)| segment.id == **id)) {
            let path = self.path(*id);
            let gone = if set_aside.contains(id) || self.unreadable.contains(id) {
                self.vfs.rename(&path, &path.with_extension("seg.damaged"))
            } else {
                self.vfs.remove_file(&path)
            };
            removed += u64::from(gone.is_ok());
        }
        for id in &self.retired_left {
            removed += u64::from(self.vfs.remove_file(&self.path(*id)).is_ok());
        }
        for name in &self.temporary {
            removed += u64::from(self.vfs.remove_file(&self.dir.join(name)).is_ok());
        }
        for (segment, end) in kept {
            let longer =
                self.found.get(&segment.id).is_some_and(|found| found.file_bytes > end.stored);
            if longer && let Ok(file) = self.vfs.open(&segment.path, OpenMode::Write) {
                let _ = file.set_len(u64::from(end.stored));
            }
        }
        if removed > 0 {
            let _ = space.sync_names();
        }
        removed
    }
}

/// All segments belong to one owner, and to the one that asks.
fn check_owner(
    path: &Path,
    header: &SegmentHeader,
    options: &WalOptions,
    owner: &mut Option<(u64, [u8; 16], [u8; 16])>,
) -> Result<()> {
    let (first, known, _) = *owner.get_or_insert((header.id, header.owner, header.owner_data));
    let refuse = |text: String| Err(Error::new(ErrorKind::InvalidArgument, text));
    if known != header.owner {
        return refuse(format!(
            "{} belongs to another database than {}; move it away",
            path.display(),
            file_name(first)
        ));
    }
    if options.owner != [0; 16] && options.owner != header.owner {
        return refuse(format!(
            "{} belongs to another database than the one being opened; move it away",
            path.display()
        ));
    }
    Ok(())
}

#[cfg(not(any(loom, shuttle)))]
fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(not(any(loom, shuttle)))]
fn on_threads(threads: usize, work: &(impl Fn() -> Result<()> + Sync)) -> Result<()> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}

#[cfg(any(loom, shuttle))]
fn available_threads() -> usize {
    1
}

#[cfg(any(loom, shuttle))]
fn on_threads(_: usize, work: &(impl Fn() -> Result<()> + Sync)) -> Result<()> {
    work()
}
