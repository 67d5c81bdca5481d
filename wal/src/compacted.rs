//! Compacted segments: files beside the log into which compaction moves what is alive in segments that are to go.
//!
//! They are written once, in one go, and are no part of the chain: their owner knows which of them count. Records keep
//! their sequence numbers and stand in any order.
//!
//! # Layout
//! `builder` writes one, `reader` opens, replays, lists and removes them, `salvage` finds what is intact in a damaged one.
//!
//! # Invariants
//! - A file with the name of a compacted segment is complete and was durable before it had the name.
//! - Ids have bit 63 set, those of the log have not, so that of two copies of a record the moved one has the larger id.

mod builder;
mod reader;
mod salvage;

pub use builder::{CompactedBuilder, CompactedSegment};
pub use reader::{CompactedFile, CompactedReport};
pub use salvage::Salvaged;

use crate::error::{Error, ErrorKind, Result};

/// The smallest id of a compacted segment; those of the log are below.
pub const COMPACTED_ID_MIN: u64 = 1 << 63;

/// LIMIT: the footer, for which every segment keeps room.
const FOOTER_BYTES: u32 = crate::format::SEAL_FRAME_BYTES as u32;

const NAME_SUFFIX: &str = ".cseg";
const TEMPORARY_SUFFIX: &str = ".cseg.tmp";

/// The name of a compacted segment.
fn file_name(id: u64) -> String {
    format!("{id:016x}{NAME_SUFFIX}")
}

/// The name of one that is being built.
fn temporary_name(id: u64) -> String {
    format!("{id:016x}{TEMPORARY_SUFFIX}")
}

/// The id in a name made by [`file_name`] (`true`) or [`temporary_name`] (`false`).
fn parse_name(name: &str) -> Option<(u64, bool)> {
    let (digits, complete) = match name.strip_suffix(TEMPORARY_SUFFIX) {
        Some(digits) => (digits, false),
        None => (name.strip_suffix(NAME_SUFFIX)?, true),
    };
    let id = u64::from_str_radix(digits, 16).ok().filter(|id| *id >= COMPACTED_ID_MIN)?;
    (format!("{id:016x}") == digits).then_some((id, complete))
}

/// Refuses an id of the log.
fn check_id(id: u64) -> Result<()> {
    if id >= COMPACTED_ID_MIN {
        return Ok(());
    }
    let text = format!("{id:016x} is an id of the log; those of compacted segments start at 2^63");
    Err(Error::new(ErrorKind::InvalidArgument, text))
}
