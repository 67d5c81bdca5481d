//! Held files: segments that left the log and that somebody still reads.
//!
//! # Invariants
//! - A held file has a name of its own, so no opening takes it for a part of the log: nothing in it is ever replayed.
//! - Its name tells its id and its last commit, so that it is known without being read when it may go.
//!
//! # Failure
//! A segment is retired first and gets its held name then. If a crash comes between, [`hold_retired`] does it before the
//! next opening, which would remove the file.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::{HEADER_BYTES, SegmentHeader, SegmentKind};
use crate::record::SeqNo;
use crate::recovery::scan;
use crate::retire::RetiredSegment;
use crate::segment::{Data, SEGMENT_SPAN, Segment, file_name};
use crate::segment_reader::SegmentReader;
use crate::vfs::{DirLock, FileKind, OpenMode, Vfs, read_full_at};
use crate::wal::Wal;

const NAME_SUFFIX: &str = ".held";

/// A segment that left the log, and whose file was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct HeldFile {
    /// The id that it had in the log.
    pub id: u64,
    /// Its last commit.
    pub last_seq: SeqNo,
    /// The length of the file in bytes.
    pub bytes: u64,
}

impl HeldFile {
    /// The name of the file.
    pub fn name(&self) -> String {
        held_name(self.id, self.last_seq)
    }

    fn parse(name: &str, bytes: u64) -> Option<HeldFile> {
        let (id, last_seq) = name.strip_suffix(NAME_SUFFIX)?.split_once('-')?;
        let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let held = HeldFile { id: number(id)?, last_seq: number(last_seq)?, bytes };
        (held.name() == name).then_some(held)
    }
}

fn held_name(id: u64, last_seq: SeqNo) -> String {
    format!("{id:016x}-{last_seq:016x}{NAME_SUFFIX}")
}

/// Gives a segment its held name.
pub(crate) fn hold(vfs: &dyn Vfs, path: &Path, id: u64, last_seq: SeqNo) -> io::Result<()> {
    // DURABILITY: not synced; with the old name it is a retired segment, which the next opening holds again.
    vfs.rename(path, &path.with_file_name(held_name(id, last_seq)))
}

/// Before an opening: gives those retired segments their held names that have commits above `seq` and whose files a crash
/// left under the old name.
///
/// # Errors
/// `Io`, `StorageFull`.
pub fn hold_retired(lock: &DirLock, retired: &[RetiredSegment], seq: SeqNo) -> Result<()> {
    for segment in retired.iter().filter(|segment| segment.last_seq > seq) {
        let path = lock.dir().join(file_name(segment.id));
        match hold(lock.vfs().as_ref(), &path, segment.id, segment.last_seq) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(format!("cannot rename {}", path.display()), e));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Wal {
    /// The held files of the directory, the oldest first.
    ///
    /// # Errors
    /// `Io`.
    pub fn list_held(&self) -> Result<Vec<HeldFile>> {
        let space = &self.core().space;
        let listed = space.vfs.list(&space.dir);
        let listed =
            listed.map_err(|e| Error::io(format!("cannot list {}", space.dir.display()), e))?;
        let files = listed.iter().filter(|entry| entry.kind == FileKind::File);
        let mut held: Vec<HeldFile> =
            files.filter_map(|entry| HeldFile::parse(&entry.name, entry.len)).collect();
        held.sort_unstable();
        Ok(held)
    }

    /// Opens a held file. All of it is read once and verified.
    ///
    /// # Errors
    /// `Corruption` for one that does not hold what it held when it was retired, `InvalidArgument` for one of another owner,
    /// `Io`.
    pub fn open_held(&self, held: &HeldFile) -> Result<SegmentReader> {
        let core = self.core();
        core.check_fork()?;
        let path = core.space.dir.join(held.name());
        let segment = open(core.space.vfs.as_ref(), &path, held, core.space.owner)?;
        Ok(SegmentReader::new(Arc::new(segment), Arc::clone(&core.sentinel)))
    }

    /// Removes held files; those that are gone are fine. Readers that hold one go on.
    ///
    /// # Errors
    /// `Io` if one cannot be removed, after all others were.
    pub fn remove_held(&self, held: &[HeldFile]) -> Result<()> {
        let core = self.core();
        core.check_fork()?;
        let mut outcome = Ok(());
        for file in held {
            let path: PathBuf = core.space.dir.join(file.name());
            // DURABILITY: not synced; one that is there again after a crash goes at the next opening.
            match core.space.vfs.remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    let text = format!("cannot remove {}", path.display());
                    outcome = outcome.and(Err(Error::io(text, e)));
                }
                _ => {}
            }
        }
        outcome
    }
}

fn open(vfs: &dyn Vfs, path: &Path, held: &HeldFile, owner: [u8; 16]) -> Result<Segment> {
    let cannot = |e| Error::io(format!("cannot read {}", path.display()), e);
    let file = vfs.open(path, OpenMode::Read).map_err(cannot)?;
    let mut start = [0; HEADER_BYTES as usize];
    let filled = read_full_at(file.as_ref(), &mut start, 0).map_err(cannot)?;
    // LIMIT: no segment is longer; what stands behind is not ours.
    let file_bytes = file.len().map_err(cannot)?.min(u64::from(SEGMENT_SPAN)) as u32;
    let header = SegmentHeader::decode(start.get(..filled).unwrap_or_default(), SegmentKind::Log)
        .ok()
        .filter(|header| header.id == held.id && header.owner == owner)
        .ok_or_else(|| {
            Error::corruption(path, 0, format!("the header of segment {:016x}", held.id), "another")
        })?;
    let data = match vfs.map_read(&file, u64::from(file_bytes)) {
        Ok(map) => Data::Mapped(map),
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Data::File,
        Err(e) => return Err(cannot(e)),
    };
    let mut segment = Segment::new(held.id, path.to_path_buf(), file, header.salt, data);
    segment.created_ms = header.created_ms;
    let scan = scan(&segment, file_bytes)?;
    let end = scan.end.map_or(HEADER_BYTES, |end| end.stored);
    let (Some(chain), true) = (scan.chain, scan.last_seq >= held.last_seq) else {
        let expected = format!("commits up to number {}", held.last_seq);
        let found = format!("intact ones up to {}", scan.last_seq);
        return Err(Error::corruption(path, u64::from(end), expected, found));
    };
    segment.note_chain(&chain);
    segment.advance(end, held.last_seq);
    Ok(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_name_reads_back_and_is_no_segment() {
        let held = HeldFile { id: 7, last_seq: 1 << 31, bytes: 4096 };
        assert_eq!(HeldFile::parse(&held.name(), 4096), Some(held));
        assert_eq!(crate::segment::parse_name(&held.name()), None);
        for name in ["7-8.held", "0000000000000007.held", "0000000000000007.seg", ""] {
            assert_eq!(HeldFile::parse(name, 0), None, "{name}");
        }
    }
}
