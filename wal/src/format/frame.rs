//! What may stand at a position of the log: a record, a group, or one of the small frames that the log writes itself.
//!
//! All start alike, so that one function verifies them all:
//!
//! ```text
//! 0   head word  8     group   16 raw bytes u32, 20 record count u24, 23 codec (low 4 bits) and padding (high 4), 24 records
//! 8   sequence   8     mark    16 wall time ms u64                                  sequence = known durable
//! 16  body             seal    16 next segment u64                                  sequence = last of the segment
//!                      chain   16 predecessor u64, 24 its end (stored u32, logical u32), 32 durable u64,
//!                              40 oldest segment u64, 48 wall time ms u64,
//!                              56 sequence floor u64                                sequence = last before
//!                      purge   16 oldest segment u64                                sequence = purged below
//! ```

use super::{
    HeadWord, Kind, OPTIONAL_KIND_MIN, Place, crc, frame_crc, parse_record, record::PREFIX_BYTES,
};
use super::{RecordFields, finish_head};
use crate::batch::COMMIT_BYTES_MAX;
use crate::segment::Checksum;

/// Bytes of a group before its records.
pub(crate) const FRAME_HEADER_BYTES: usize = 24;
pub(crate) const MARK_FRAME_BYTES: usize = 24;
pub(crate) const SEAL_FRAME_BYTES: usize = 24;
pub(crate) const PURGE_FRAME_BYTES: usize = 24;
pub(crate) const CHAIN_FRAME_BYTES: usize = 64;

/// LIMIT: the largest sequence number. At 2^30 per open it lasts for 2^33 opens, and no sum of two overflows.
pub(crate) const SEQ_MAX: u64 = (1 << 63) - 1;
/// LIMIT: the longest commit as stored.
const STORED_BYTES_MAX: usize = FRAME_HEADER_BYTES + COMMIT_BYTES_MAX;

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameFault {
    /// The kind byte is none that this version writes, and not one that may be skipped.
    Kind(u8),
    /// The length does not fit the kind, or reaches beyond the bytes that are there.
    Length,
    /// The checksum does not match.
    Checksum { expected: u32, found: u32 },
    /// The checksum matches, but the content contradicts itself.
    Content,
}

/// The numbers at the start of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) seq: u64,
    /// Bytes of the records before compression; a multiple of 8.
    pub(crate) raw_bytes: u32,
    pub(crate) record_count: u32,
    pub(crate) codec: u8,
    /// Zeroes after the compressed records, up to a multiple of 8.
    pub(crate) padding_bytes: u8,
}

/// "Everything up to `durable_seq` was on disk when I was written."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) durable_seq: u64,
    pub(crate) wall_ms: u64,
}

/// The first frame of every segment in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainFrame {
    /// The largest sequence number before this segment.
    pub(crate) last_seq: u64,
    /// 0 for the first segment of a log.
    pub(crate) predecessor: u64,
    /// Where the predecessor ends, in bytes of its file.
    pub(crate) predecessor_end: u32,
    /// The same place as a logical offset.
    pub(crate) predecessor_logical_end: u32,
    pub(crate) durable_seq: u64,
    /// The oldest segment that was part of the log.
    pub(crate) oldest: u64,
    pub(crate) wall_ms: u64,
    /// No sequence up to here may be given out again, whether or not its commit is still there.
    pub(crate) seq_floor: u64,
}

/// A verified frame. `bytes` of a record or group are those of the whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Record {
        seq: u64,
        fields: RecordFields<'a>,
    },
    Group {
        header: GroupHeader,
        payload: &'a [u8],
    },
    Mark(Mark),
    Seal {
        last_seq: u64,
        next: u64,
    },
    Chain(ChainFrame),
    Purge {
        below: u64,
        oldest: u64,
    },
    /// Of a kind that a later minor version added; its checksum is right.
    Unknown,
}

impl Frame<'_> {
    /// The largest sequence number that this frame shows to have been given out.
    pub(crate) fn seq_shown(&self) -> u64 {
        match self {
            Frame::Record { seq, .. } => *seq,
            Frame::Group { header, .. } => header.seq,
            Frame::Mark(mark) => mark.durable_seq,
            Frame::Seal { last_seq, .. } => *last_seq,
            Frame::Chain(chain) => chain.last_seq.max(chain.seq_floor).max(chain.durable_seq),
            Frame::Purge { .. } | Frame::Unknown => 0,
        }
    }

    /// The sequence of a commit; `None` for frames that the log writes for itself.
    pub(crate) fn commit_seq(&self) -> Option<u64> {
        match self {
            Frame::Record { seq, .. } => Some(*seq),
            Frame::Group { header, .. } => Some(header.seq),
            _ => None,
        }
    }

    /// Logical bytes that the frame occupies, given the stored ones.
    pub(crate) fn logical_bytes(&self, stored_bytes: u32) -> u32 {
        match self {
            Frame::Group { header, .. } => FRAME_HEADER_BYTES as u32 + header.raw_bytes,
            _ => stored_bytes,
        }
    }
}

/// Verifies what stands at the start of `bytes`, which reach to the end of the data.
///
/// `Ok(None)` is the end of the log: a zero head word, or nothing left. Otherwise the frame and its stored length.
pub(crate) fn parse_frame(
    bytes: &[u8],
    place: Place,
) -> Result<Option<(Frame<'_>, u32)>, FrameFault> {
    let Some((head, frame)) = split_frame(bytes)? else { return Ok(None) };
    let (prefix, body) = frame.split_at_checked(PREFIX_BYTES).ok_or(FrameFault::Length)?;
    let seq = u64::from_le_bytes(*prefix.last_chunk().ok_or(FrameFault::Length)?);
    let expected = frame_crc(body, seq, place, head.stored_bytes, head.kind);
    if expected != head.crc {
        return Err(FrameFault::Checksum { expected, found: head.crc });
    }
    Ok(Some((decode_frame(head, frame)?, head.stored_bytes)))
}

/// As [`parse_frame`], for bytes whose checksum this process verified, or computed, a moment ago.
pub(crate) fn parse_verified_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, u32)>, FrameFault> {
    let Some((head, frame)) = split_frame(bytes)? else { return Ok(None) };
    Ok(Some((decode_frame(head, frame)?, head.stored_bytes)))
}

/// The record at the start of `bytes`, which reach to the end of the data: the short way of a random read. `None` for
/// everything else; what it is, [`parse_frame`] tells.
#[inline]
pub(crate) fn read_record(
    bytes: &[u8],
    place: Place,
    checksum: Checksum,
) -> Option<(u64, RecordFields<'_>)> {
    let head = HeadWord::read(bytes).filter(|head| head.kind == Kind::Record as u8)?;
    let frame = bytes.get(..head.stored_bytes as usize)?;
    let (prefix, body) = frame.split_at_checked(PREFIX_BYTES)?;
    let seq = u64::from_le_bytes(*prefix.last_chunk()?);
    let intact = || head.crc == frame_crc(body, seq, place, head.stored_bytes, head.kind);
    let possible = seq <= SEQ_MAX && frame.len() <= STORED_BYTES_MAX;
    if !possible || (checksum == Checksum::Verify && !intact()) {
        return None;
    }
    parse_record(frame)
}

/// The head word and the bytes that it claims; `None` at the end of the log.
fn split_frame(bytes: &[u8]) -> Result<Option<(HeadWord, &[u8])>, FrameFault> {
    let Some(head) = HeadWord::read(bytes).filter(|head| head.encode() != 0) else {
        return Ok(None);
    };
    if Kind::from_byte(head.kind).is_none() && head.kind < OPTIONAL_KIND_MIN {
        return Err(FrameFault::Kind(head.kind));
    }
    let frame = bytes.get(..head.stored_bytes as usize).ok_or(FrameFault::Length)?;
    let is_commit = head.kind == Kind::Record as u8 || head.kind == Kind::Group as u8;
    if is_commit && frame.len() > STORED_BYTES_MAX {
        return Err(FrameFault::Length);
    }
    Ok(Some((head, frame)))
}

fn decode_frame(head: HeadWord, frame: &[u8]) -> Result<Frame<'_>, FrameFault> {
    let (prefix, body) = frame.split_at_checked(PREFIX_BYTES).ok_or(FrameFault::Length)?;
    let seq = u64::from_le_bytes(*prefix.last_chunk().ok_or(FrameFault::Length)?);
    let decoded = match Kind::from_byte(head.kind) {
        None => Some(Frame::Unknown),
        Some(Kind::Record) => {
            parse_record(frame).map(|(seq, fields)| Frame::Record { seq, fields })
        }
        Some(Kind::Group) => parse_group(seq, body),
        Some(Kind::Mark) => {
            word(body, 0).map(|wall_ms| Frame::Mark(Mark { durable_seq: seq, wall_ms }))
        }
        Some(Kind::Seal) => word(body, 0).map(|next| Frame::Seal { last_seq: seq, next }),
        Some(Kind::Purge) => word(body, 0).map(|oldest| Frame::Purge { below: seq, oldest }),
        Some(Kind::Chain) => parse_chain(seq, body),
    };
    decoded.filter(|frame| frame.seq_shown() <= SEQ_MAX).ok_or(FrameFault::Content)
}

fn word(body: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*body.get(at..)?.first_chunk()?))
}

fn parse_group(seq: u64, body: &[u8]) -> Option<Frame<'_>> {
    let numbers = word(body, 0)?;
    let raw_bytes = numbers as u32;
    let record_count = (numbers >> 32) as u32 & 0x00ff_ffff;
    let (codec, padding_bytes) = ((numbers >> 56) as u8 & 15, (numbers >> 60) as u8);
    let header = GroupHeader { seq, raw_bytes, record_count, codec, padding_bytes };
    let payload = body.get(8..body.len().checked_sub(padding_bytes as usize)?)?;
    let sound = raw_bytes.is_multiple_of(8)
        && raw_bytes as usize <= COMMIT_BYTES_MAX
        && record_count > 0
        && padding_bytes < 8;
    sound.then_some(Frame::Group { header, payload })
}

/// The bytes of the records of what may be a group, by its form alone; `None` when it cannot be one.
pub(crate) fn group_raw_bytes(frame: &[u8]) -> Option<usize> {
    match parse_group(0, frame.get(PREFIX_BYTES..)?)? {
        Frame::Group { header, payload } => {
            let raw_bytes = header.raw_bytes as usize;
            let possible = if header.codec == 0 {
                payload.len() == raw_bytes
            } else {
                raw_bytes <= payload.len().saturating_mul(22).saturating_add(64)
            };
            possible.then_some(raw_bytes)
        }
        _ => None,
    }
}

fn parse_chain(last_seq: u64, body: &[u8]) -> Option<Frame<'_>> {
    let end = word(body, 8)?;
    Some(Frame::Chain(ChainFrame {
        last_seq,
        predecessor: word(body, 0)?,
        predecessor_end: end as u32,
        predecessor_logical_end: (end >> 32) as u32,
        durable_seq: word(body, 16)?,
        oldest: word(body, 24)?,
        wall_ms: word(body, 32)?,
        seq_floor: word(body, 40)?,
    }))
}

fn encode_words(kind: Kind, seq: u64, words: &[u64], place: Place) -> Vec<u8> {
    let stored = PREFIX_BYTES + 8 * words.len();
    let mut out = Vec::with_capacity(stored);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&seq.to_le_bytes());
    for word in words {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let body_crc = crc::crc32c(out.get(PREFIX_BYTES..).unwrap_or_default());
    let head = HeadWord { crc: body_crc, stored_bytes: stored as u32, kind: kind as u8 };
    if let Some(first) = out.first_chunk_mut() {
        *first = finish_head(head, seq, place).encode().to_le_bytes();
    }
    out
}

/// A mark, ready to be stored at `place`.
pub(crate) fn encode_mark(mark: Mark, place: Place) -> Vec<u8> {
    encode_words(Kind::Mark, mark.durable_seq, &[mark.wall_ms], place)
}

/// The end of a segment.
pub(crate) fn encode_seal(last_seq: u64, next: u64, place: Place) -> Vec<u8> {
    encode_words(Kind::Seal, last_seq, &[next], place)
}

/// A note that segments below `oldest` were removed on request.
pub(crate) fn encode_purge(below: u64, oldest: u64, place: Place) -> Vec<u8> {
    encode_words(Kind::Purge, below, &[oldest], place)
}

/// The start of a segment.
pub(crate) fn encode_chain(chain: &ChainFrame, place: Place) -> Vec<u8> {
    let end = u64::from(chain.predecessor_end) | u64::from(chain.predecessor_logical_end) << 32;
    let words =
        [chain.predecessor, end, chain.durable_seq, chain.oldest, chain.wall_ms, chain.seq_floor];
    encode_words(Kind::Chain, chain.last_seq, &words, place)
}

/// The unfinished start of a group over `payload`, whose last `padding_bytes` are zeroes: as in an unfinished record,
/// the checksum field holds that of the body, and the sequence is missing.
pub(crate) fn encode_group_header(
    header: &GroupHeader,
    payload: &[u8],
) -> [u8; FRAME_HEADER_BYTES] {
    let codec = header.codec | header.padding_bytes << 4;
    let numbers =
        u64::from(header.raw_bytes) | u64::from(header.record_count) << 32 | u64::from(codec) << 56;
    let crc = crc::crc32c_append(crc::crc32c(&numbers.to_le_bytes()), payload);
    let stored_bytes = (FRAME_HEADER_BYTES + payload.len()) as u32;
    let head = HeadWord { crc, stored_bytes, kind: Kind::Group as u8 };
    let mut out = [0; FRAME_HEADER_BYTES];
    let (words, _) = out.as_chunks_mut::<8>();
    if let [a, b, c] = words {
        *a = head.encode().to_le_bytes();
        *b = header.seq.to_le_bytes();
        *c = numbers.to_le_bytes();
    }
    out
}

impl std::fmt::Display for FrameFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FrameFault::Kind(kind) => write!(f, "a frame of unknown kind {kind}"),
            FrameFault::Length => f.write_str("a length that does not fit"),
            FrameFault::Checksum { expected, found } => {
                write!(f, "checksum {found:08x} where the content has {expected:08x}")
            }
            FrameFault::Content => f.write_str("a frame that contradicts itself"),
        }
    }
}
