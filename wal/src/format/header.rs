//! The first 4 KiB of a segment file: who wrote it, and the salt that binds its checksums.
//!
//! The header is made durable before the segment can hold a record, so a bad one is damage and never a torn write. It
//! stands twice, 2 KiB apart, so that one bad sector does not take the salt and with it the whole segment.
//!
//! ```text
//! 0   magic "CORTSEG1"     8     40  owner        16     96   created ms  8
//! 8   major, minor      2, 2     56  owner data   16     104  built end   4
//! 12  incompatible bits    4     72  segment id    8     2044 CRC32C of the 2044 bytes before; zeroes elsewhere
//! 16  compatible bits      4     80  salt          8
//! 20  kind, generation  4, 4     88  key id        8      108  grouped     4
//! ```

/// Bytes before the first frame.
pub(crate) const HEADER_BYTES: u32 = 4096;
const COPY_BYTES: usize = HEADER_BYTES as usize / 2;
const CRC_AT: usize = COPY_BYTES - 4;
const MAGIC: [u8; 8] = *b"CORTSEG1";
/// A reader refuses a file of a higher major version.
pub(crate) const MAJOR: u16 = 1;
const MINOR: u16 = 0;
/// Bits that a reader must know to read the file. None is defined yet.
const INCOMPATIBLE_KNOWN: u32 = 0;

/// What a segment file is for. A reader of one kind refuses the files of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum SegmentKind {
    /// A part of the log.
    Log = 1,
    /// Records that compaction moved there.
    Compacted = 2,
}

/// The decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) kind: SegmentKind,
    pub(crate) owner: [u8; 16],
    pub(crate) owner_data: [u8; 16],
    pub(crate) id: u64,
    pub(crate) salt: u64,
    pub(crate) created_ms: u64,
    /// Everything up to here was durable before the file had its name, so less is damage; 0 for a segment that was made
    /// ready empty.
    pub(crate) built_end: u32,
    /// The records of a compacted segment stand in groups, which may be compressed; never of a log.
    pub(crate) grouped: bool,
}

/// Why a header cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Neither copy is intact.
    Damaged,
    /// A newer version wrote it, or it needs a feature that this one does not know.
    Unsupported(String),
}

impl SegmentHeader {
    /// The 4 KiB to write.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(COPY_BYTES);
        copy.extend_from_slice(&MAGIC);
        copy.extend_from_slice(&MAJOR.to_le_bytes());
        copy.extend_from_slice(&MINOR.to_le_bytes());
        copy.extend_from_slice(&0_u32.to_le_bytes());
        copy.extend_from_slice(&0_u32.to_le_bytes());
        copy.extend_from_slice(&(self.kind as u32).to_le_bytes());
        copy.extend_from_slice(&0_u32.to_le_bytes());
        copy.resize(40, 0);
        copy.extend_from_slice(&self.owner);
        copy.extend_from_slice(&self.owner_data);
        copy.extend_from_slice(&self.id.to_le_bytes());
        copy.extend_from_slice(&self.salt.to_le_bytes());
        copy.extend_from_slice(&0_u64.to_le_bytes());
        copy.extend_from_slice(&self.created_ms.to_le_bytes());
        copy.extend_from_slice(&self.built_end.to_le_bytes());
        copy.extend_from_slice(&u32::from(self.grouped).to_le_bytes());
        copy.resize(CRC_AT, 0);
        copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
        copy.repeat(2)
    }

    /// Reads the first intact copy of the header of a segment of the given kind.
    pub(crate) fn decode(bytes: &[u8], kind: SegmentKind) -> Result<SegmentHeader, HeaderFault> {
        let intact = bytes.chunks_exact(COPY_BYTES).take(2).find(|copy| is_intact(copy));
        let copy = intact.ok_or(HeaderFault::Damaged)?;
        decode_copy(copy, kind).ok_or(HeaderFault::Damaged)?
    }
}

fn is_intact(copy: &[u8]) -> bool {
    copy.split_at_checked(CRC_AT).is_some_and(|(body, crc)| {
        copy.starts_with(&MAGIC) && crc == crc32c::crc32c(body).to_le_bytes()
    })
}

fn decode_copy(copy: &[u8], expected: SegmentKind) -> Option<Result<SegmentHeader, HeaderFault>> {
    let major = u16::from_le_bytes(*copy.get(8..)?.first_chunk()?);
    let incompatible = u32::from_le_bytes(*copy.get(12..)?.first_chunk()?);
    let kind = u32::from_le_bytes(*copy.get(20..)?.first_chunk()?);
    if major > MAJOR || incompatible & !INCOMPATIBLE_KNOWN != 0 || kind != expected as u32 {
        return Some(Err(HeaderFault::Unsupported(format!(
            "format version {major}, feature bits {incompatible:#x}, segment kind {kind}; this version reads up to \
             version {MAJOR}, bits {INCOMPATIBLE_KNOWN:#x}, kind {}",
            expected as u32
        ))));
    }
    Some(Ok(SegmentHeader {
        kind: expected,
        owner: *copy.get(40..)?.first_chunk()?,
        owner_data: *copy.get(56..)?.first_chunk()?,
        id: u64::from_le_bytes(*copy.get(72..)?.first_chunk()?),
        salt: u64::from_le_bytes(*copy.get(80..)?.first_chunk()?),
        created_ms: u64::from_le_bytes(*copy.get(96..)?.first_chunk()?),
        built_end: u32::from_le_bytes(*copy.get(104..)?.first_chunk()?),
        grouped: copy.get(108..)?.first_chunk::<4>()? != &[0; 4],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            kind: SegmentKind::Log,
            owner: [1; 16],
            owner_data: [2; 16],
            id: 3,
            salt: 4,
            created_ms: 5,
            built_end: 6,
            grouped: false,
        }
    }

    #[test]
    fn either_copy_of_the_header_is_enough() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), HEADER_BYTES as usize);
        for at in [0, 100, COPY_BYTES + 10] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(SegmentHeader::decode(&bad, SegmentKind::Log), Ok(header()));
        }
        let mut bad = bytes;
        bad[80] ^= 1;
        bad[COPY_BYTES + 80] ^= 1;
        assert_eq!(SegmentHeader::decode(&bad, SegmentKind::Log), Err(HeaderFault::Damaged));
    }

    #[test]
    fn a_newer_major_version_is_refused_by_name() {
        let mut bytes = header().encode();
        for copy in bytes.chunks_exact_mut(COPY_BYTES) {
            copy[8] = 2;
            let crc = crc32c::crc32c(&copy[..CRC_AT]);
            copy[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        }
        let decoded = SegmentHeader::decode(&bytes, SegmentKind::Log);
        assert!(matches!(decoded, Err(HeaderFault::Unsupported(_))));
    }

    #[test]
    fn each_kind_refuses_the_other() {
        let compacted = SegmentHeader { kind: SegmentKind::Compacted, grouped: true, ..header() };
        let decode = |header: SegmentHeader, kind| SegmentHeader::decode(&header.encode(), kind);
        assert_eq!(decode(compacted, SegmentKind::Compacted), Ok(compacted));
        for (header, kind) in [(compacted, SegmentKind::Log), (header(), SegmentKind::Compacted)] {
            assert!(matches!(decode(header, kind), Err(HeaderFault::Unsupported(_))));
        }
    }
}
