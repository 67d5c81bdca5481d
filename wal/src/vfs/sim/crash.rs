//! What a crash leaves: the rules of three disk models, and the choices that each variant makes within them.
//!
//! # Rules of all models
//! - What a sync covered is there: bytes and length by `sync_data`, names by `sync_dir`, where the sync started after
//!   the operation and returned `Ok`. An operation between start and end of a sync is not covered.
//! - Each 512-byte sector with unsynced stores is at any one of the stages that it went through, whole; stages of
//!   different sectors are chosen independently. Bytes that no store touched keep their value (powersafe overwrite;
//!   only [`CrashVariant::GarbageSector`] leaves that rule).
//! - The length is at one of its stages. Bytes beyond it are cut off; where it is greater than what was stored, the
//!   rest reads as zeroes.
//! - A rename is atomic. A change of a name survives only with the earlier changes of the names that it touches.
//! - After a failed sync the bytes it should have covered are written by no later sync, unless a later store touches
//!   the same sector. They may have reached the disk all the same. The length is written by the next sync.
//!
//! # Layout
//! [`image`] turns a variant into a `Choice`, applies it to the names, and then to each file that has a name.

use std::sync::Arc;

use super::cursor::Cursor;
use super::disk::DiskFile;
use super::image::Image;
use super::names::{Node, is_reachable};
use super::random::{Random, fold};
use super::stage::{Bytes, spoil, survivor};

/// How a file system orders what it writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskModel {
    /// As little as POSIX promises. Changes of names survive independently of each other, of bytes and of lengths;
    /// a `sync_dir` makes those of its own directory durable, a `sync_data` makes no name durable.
    Posix,
    /// Like ext4 with `data=ordered`. Changes of names, `set_len` and `allocate` go to one journal in order: a prefix
    /// of them survives. `sync_dir`, and a `sync_data` of a file that was just created or changed its length, commit
    /// everything before them. Where the length that a write made survives, the bytes that it appended do too. A
    /// surviving cut took its bytes with it; they may be zeroed before the cut is there, as the last block is.
    Ext4,
    /// Like xfs. The log is ordered and committed as in `Ext4`, but a length may survive without the bytes that
    /// were appended: they read as zeroes.
    Xfs,
}

impl DiskModel {
    /// All models.
    pub const ALL: [DiskModel; 3] = [DiskModel::Posix, DiskModel::Ext4, DiskModel::Xfs];
}

/// Which of the legal disks a crash leaves. A number in a variant gives different draws for one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CrashVariant {
    /// The process dies and the machine lives on: every operation is there.
    Kill,
    /// Nothing that was not synced.
    AllLost,
    /// Everything, just as if it had been written back in time.
    AllKept,
    /// The operations before a random one.
    Prefix,
    /// The operations before a store (half of the time the last one), and of that store each 512-byte sector or not.
    PrefixTorn512,
    /// As `PrefixTorn512`, in pages of 4 KiB.
    PrefixTorn4096,
    /// Names, lengths and every sector (for odd numbers: every page of 4 KiB) at a stage of their own.
    Arbitrary(u32),
    /// Names and lengths, and of each file only the bytes before a random sector: size without data.
    ZeroTail,
    /// Names and lengths, but no bytes, and no length that only follows from written bytes.
    NamesOnly,
    /// All bytes and lengths, with names lost or reordered.
    NamesReordered,
    /// Everything, but in one sector of the last store the bytes that are not synced are garbage.
    Garbage,
    /// As `Garbage`, with the synced bytes of that sector: a disk without powersafe overwrite. Not in
    /// [`CrashVariant::STANDARD`], since a log that shares sectors among commits does not claim to survive it.
    GarbageSector,
}

impl CrashVariant {
    /// What a power cut may leave on the disks that the log is made for.
    pub const STANDARD: [CrashVariant; 13] = [
        CrashVariant::AllLost,
        CrashVariant::AllKept,
        CrashVariant::Prefix,
        CrashVariant::PrefixTorn512,
        CrashVariant::PrefixTorn4096,
        CrashVariant::Arbitrary(0),
        CrashVariant::Arbitrary(1),
        CrashVariant::Arbitrary(2),
        CrashVariant::Arbitrary(3),
        CrashVariant::ZeroTail,
        CrashVariant::NamesOnly,
        CrashVariant::NamesReordered,
        CrashVariant::Garbage,
    ];

    /// Distinguishes the draws of variants that share a seed.
    fn salt(self) -> u64 {
        match self {
            CrashVariant::Kill => 0,
            CrashVariant::AllLost => 1,
            CrashVariant::AllKept => 2,
            CrashVariant::Prefix => 3,
            CrashVariant::PrefixTorn512 => 4,
            CrashVariant::PrefixTorn4096 => 5,
            CrashVariant::ZeroTail => 6,
            CrashVariant::NamesOnly => 7,
            CrashVariant::NamesReordered => 8,
            CrashVariant::Garbage => 9,
            CrashVariant::GarbageSector => 10,
            CrashVariant::Arbitrary(n) => 11 + u64::from(n),
        }
    }
}

/// Which changes of names, or of a length, survive.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keep {
    None,
    All,
    Before(usize),
    Random,
}

#[derive(Debug, Clone, Copy)]
struct Choice {
    names: Keep,
    lengths: Keep,
    bytes: Bytes,
}

impl Choice {
    const ALL: Choice = Choice { names: Keep::All, lengths: Keep::All, bytes: Bytes::All };

    fn of(variant: CrashVariant, cursor: &Cursor<'_>, random: &mut Random) -> Choice {
        use CrashVariant as V;
        match variant {
            V::Kill | V::AllKept | V::Garbage | V::GarbageSector => Choice::ALL,
            V::AllLost => Choice { names: Keep::None, lengths: Keep::None, bytes: Bytes::None },
            V::Prefix => match first_pending(cursor) {
                Some(first) => Choice::before(
                    first + random.below((cursor.point() - first + 1) as u64) as usize,
                ),
                None => Choice::ALL,
            },
            V::PrefixTorn512 => Choice::torn(cursor, 512, random),
            V::PrefixTorn4096 => Choice::torn(cursor, 4096, random),
            V::Arbitrary(n) => Choice {
                names: Keep::Random,
                lengths: Keep::Random,
                bytes: Bytes::Stages { unit_bytes: if n % 2 == 0 { 512 } else { 4096 } },
            },
            V::ZeroTail => Choice { bytes: Bytes::Head, ..Choice::ALL },
            V::NamesOnly => Choice { lengths: Keep::None, bytes: Bytes::None, ..Choice::ALL },
            V::NamesReordered => Choice { names: Keep::Random, ..Choice::ALL },
        }
    }

    fn before(at: usize) -> Choice {
        let keep = Keep::Before(at);
        Choice { names: keep, lengths: keep, bytes: Bytes::Before(at) }
    }

    fn torn(cursor: &Cursor<'_>, unit_bytes: u64, random: &mut Random) -> Choice {
        let count: usize = cursor.files.iter().map(|file| file.pieces.len()).sum();
        if count == 0 {
            return Choice::ALL;
        }
        let at = if random.coin() {
            last_store(cursor).map(|(_, at)| at)
        } else {
            let nth = random.below(count as u64) as usize;
            cursor.files.iter().flat_map(|file| &file.pieces).nth(nth).map(|piece| piece.at)
        };
        let Some(at) = at else { return Choice::ALL };
        let lengths = Keep::Before(at + usize::from(random.coin()));
        Choice { names: Keep::Before(at), lengths, bytes: Bytes::Torn { at, unit_bytes } }
    }
}

/// The disk that a variant leaves at a crash point.
pub(super) fn image(cursor: &Cursor<'_>, variant: CrashVariant, seed: u64) -> Image {
    let mut random = Random::new(fold(seed, fold(cursor.point() as u64, variant.salt())));
    let choice = Choice::of(variant, cursor, &mut random);
    let journal = journal_end(cursor, choice.names, &mut random);
    let names = match journal {
        Some(end) => cursor.names.surviving(|at| at < end),
        None => cursor.names.surviving(|at| match choice.names {
            Keep::None => false,
            Keep::All => true,
            Keep::Before(end) => at < end,
            Keep::Random => random.coin(),
        }),
    };
    let spoilt = match variant {
        CrashVariant::Garbage | CrashVariant::GarbageSector => last_store(cursor),
        _ => None,
    };
    let mut image = Image::default();
    for (path, node) in names.iter().filter(|(path, _)| is_reachable(&names, path)) {
        let Node::File(number) = *node else {
            image.dirs.insert(path.clone());
            continue;
        };
        let file = &cursor.files[number];
        let stage = length_stage(file, journal, choice.lengths, &mut random);
        let mut content = survivor(cursor, file, stage, choice.bytes, &mut random);
        if let Some((_, at)) = spoilt.filter(|(spoilt, _)| *spoilt == number) {
            let whole = variant == CrashVariant::GarbageSector;
            spoil(Arc::make_mut(&mut content), file, at, whole, &mut random);
        }
        image.files.insert(path.clone(), content);
    }
    image
}

/// Where a journalling file system's surviving metadata ends; none for one without a journal.
fn journal_end(cursor: &Cursor<'_>, keep: Keep, random: &mut Random) -> Option<usize> {
    if cursor.model == DiskModel::Posix {
        return None;
    }
    let (committed, point) = (cursor.committed, cursor.point());
    Some(match keep {
        Keep::None => committed,
        Keep::All => point,
        Keep::Before(end) => committed.max(end),
        Keep::Random => {
            let lengths = cursor.files.iter().flat_map(|file| &file.lengths);
            let lengths = lengths.filter(|change| change.journalled).map(|change| change.at);
            let mut ends: Vec<usize> =
                cursor.names.pending().chain(lengths).filter(|at| *at >= committed).collect();
            ends.push(point);
            ends.sort_unstable();
            ends[random.below(ends.len() as u64) as usize]
        }
    })
}

/// How many changes of the length survive.
fn length_stage(file: &DiskFile, journal: Option<usize>, keep: Keep, random: &mut Random) -> usize {
    let count = file.lengths.len();
    let (least, most) = match journal {
        None => (0, count),
        Some(end) => {
            let lengths = &file.lengths;
            let kept = lengths.iter().rposition(|change| change.journalled && change.at < end);
            let lost = lengths.iter().position(|change| change.journalled && change.at >= end);
            (kept.map_or(0, |last| last + 1), lost.unwrap_or(count))
        }
    };
    match keep {
        Keep::None => least,
        Keep::All => most,
        Keep::Before(end) => {
            file.lengths.partition_point(|change| change.at < end).clamp(least, most)
        }
        Keep::Random => least + random.below((most - least + 1) as u64) as usize,
    }
}

fn first_pending(cursor: &Cursor<'_>) -> Option<usize> {
    let files = cursor.files.iter().filter_map(DiskFile::first_pending);
    files.chain(cursor.names.pending().next()).min()
}

/// The last unsynced store: its file's number and its operation.
fn last_store(cursor: &Cursor<'_>) -> Option<(usize, usize)> {
    let last = |file: &DiskFile| file.pieces.last().map(|piece| piece.at);
    let files = cursor.files.iter().enumerate();
    files.filter_map(|(number, file)| Some((number, last(file)?))).max_by_key(|(_, at)| *at)
}
