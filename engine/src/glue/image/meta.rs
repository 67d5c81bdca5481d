//! What an image says beside its shards: which segments it covers, what is live in them, and the order of keys.
//!
//! # Layout
//! Words of 8 bytes, little-endian; a list is its length and its items. Keys are their length and bytes.

use std::collections::BTreeSet;

use cortenkv_compaction::{AgeClass, Counts, Origin, SegmentCounts};
use cortenkv_wal::KnownSegment;

use crate::address::Address;
use crate::record::{Footprint, KeyspaceId, SeqNo};

/// Where a piece of a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PieceAt {
    /// In a file of its own: its number, its length and the checksum of its header.
    File { number: u64, bytes: u64, header_checksum: u32 },
    /// In the block of this number among those of its kind.
    Block(u64),
}

/// A piece of a run: its first key, and where it is.
pub(super) type Piece = (Vec<u8>, PieceAt);

/// A record of a covered segment that died while the shards were copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Death {
    pub(super) address: Address,
    pub(super) was: Footprint,
}

/// See the file's head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Every commit up to this one is in the segments that are known.
    pub(super) begin_seq: SeqNo,
    /// Whether the order of keys is in it.
    pub(super) is_ordered: bool,
    /// Log segments that are covered.
    pub(super) known: Vec<KnownSegment>,
    /// Compacted segments that are covered.
    pub(super) compacted: BTreeSet<u64>,
    /// The slots of all segments when copying began.
    pub(super) slots: Vec<(u16, u64)>,
    /// What was live in them at that moment.
    pub(super) counts: Vec<SegmentCounts>,
    pub(super) deaths: Vec<Death>,
    /// The runs of each keyspace, the newest first, in their pieces.
    pub(super) order: Vec<(KeyspaceId, Vec<Vec<Piece>>)>,
}

impl Meta {
    /// The files of runs that it names.
    pub(super) fn run_files(&self) -> BTreeSet<u64> {
        let pieces = self.order.iter().flat_map(|(_, runs)| runs).flatten();
        let number = |at: &PieceAt| match at {
            PieceAt::File { number, .. } => Some(*number),
            PieceAt::Block(_) => None,
        };
        pieces.filter_map(|(_, at)| number(at)).collect()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Out(Vec::new());
        out.word(self.begin_seq);
        out.word(self.is_ordered.into());
        out.list(&self.known, |out, known| out.0.extend_from_slice(&known.to_bytes()));
        out.list(&self.compacted, |out, id| out.word(*id));
        out.list(&self.slots, |out, (slot, id)| {
            out.word((*slot).into());
            out.word(*id);
        });
        out.list(&self.counts, Out::counts);
        out.list(&self.deaths, |out, death| {
            out.word(death.address.into());
            out.word(u64::from(death.was.bytes) << 1 | u64::from(death.was.tombstone));
            out.option(death.was.expires_at_ms);
        });
        out.list(&self.order, |out, (keyspace, runs)| {
            out.word((*keyspace).into());
            out.list(runs, |out, run| out.list(run, Out::piece));
        });
        out.0
    }

    /// `None` for what [`Meta::encode`] never gives.
    pub(super) fn decode(bytes: &[u8]) -> Option<Meta> {
        let mut fields = Fields(bytes);
        let begin_seq = fields.word()?;
        let is_ordered = fields.word()? == 1;
        let known = fields.list(|f| f.bytes().map(|bytes| KnownSegment::from_bytes(&bytes)))?;
        let compacted = fields.list(Fields::word)?.into_iter().collect();
        let slots = fields.list(|f| Some((f.word()?.try_into().ok()?, f.word()?)))?;
        let counts = fields.list(Fields::counts)?;
        let deaths = fields.list(|f| {
            let address = f.word().filter(|word| *word < 1 << 39)?.into();
            let packed = f.word()?;
            let bytes = u32::try_from(packed >> 1).ok()?;
            let was = Footprint { bytes, tombstone: packed & 1 == 1, expires_at_ms: f.option()? };
            Some(Death { address, was })
        })?;
        let order = fields
            .list(|f| Some((f.word()?.try_into().ok()?, f.list(|f| f.list(Fields::piece))?)))?;
        let meta = Meta { begin_seq, is_ordered, known, compacted, slots, counts, deaths, order };
        fields.0.is_empty().then_some(meta)
    }
}

struct Out(Vec<u8>);

impl Out {
    fn word(&mut self, word: u64) {
        self.0.extend_from_slice(&word.to_le_bytes());
    }

    fn option(&mut self, word: Option<u64>) {
        self.word(word.is_some().into());
        self.word(word.unwrap_or(0));
    }

    fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
        mut put: impl FnMut(&mut Self, T),
    ) {
        let items = items.into_iter();
        self.word(items.len() as u64);
        items.for_each(|item| put(self, item));
    }

    fn counts(&mut self, counts: &SegmentCounts) {
        let Origin { created, created_ms, class, large, .. } = counts.origin;
        for word in [counts.id, created, created_ms, class as u64, large.into()] {
            self.word(word);
        }
        for sums in [&counts.total, &counts.live] {
            let Counts { bytes, records, tombstones, tombstone_bytes, expiring_bytes } = *sums;
            for word in [bytes, records, tombstones, tombstone_bytes, expiring_bytes] {
                self.word(word);
            }
        }
        self.option(counts.earliest_expiry_ms);
        self.word(counts.expiry_base_ms);
        self.list(&counts.expiry_bytes, |out, bytes| out.word(*bytes));
    }

    fn piece(&mut self, (first, at): &Piece) {
        self.word(first.len() as u64);
        self.0.extend_from_slice(first);
        let words = match at {
            PieceAt::Block(block) => [0, *block, 0, 0],
            PieceAt::File { number, bytes, header_checksum } => {
                [1, *number, *bytes, (*header_checksum).into()]
            }
        };
        words.into_iter().for_each(|word| self.word(word));
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn word(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn option(&mut self) -> Option<Option<u64>> {
        let (is_some, word) = (self.word()? == 1, self.word()?);
        Some(is_some.then_some(word))
    }

    /// Nothing is reserved for a length: an item that is not there ends the reading.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let len = self.word()?;
        (0..len).map(|_| item(self)).collect()
    }

    fn counts(&mut self) -> Option<SegmentCounts> {
        let mut counts = SegmentCounts::default();
        counts.id = self.word()?;
        counts.origin.created = self.word()?;
        counts.origin.created_ms = self.word()?;
        counts.origin.class = match self.word()? {
            0 => AgeClass::New,
            1 => AgeClass::SurvivedOnce,
            _ => AgeClass::SurvivedTwice,
        };
        counts.origin.large = self.word()? == 1;
        counts.total = self.sums()?;
        counts.live = self.sums()?;
        counts.earliest_expiry_ms = self.option()?;
        counts.expiry_base_ms = self.word()?;
        counts.expiry_bytes = self.list(Fields::word)?;
        Some(counts)
    }

    fn sums(&mut self) -> Option<Counts> {
        Some(Counts {
            bytes: self.word()?,
            records: self.word()?,
            tombstones: self.word()?,
            tombstone_bytes: self.word()?,
            expiring_bytes: self.word()?,
        })
    }

    fn piece(&mut self) -> Option<Piece> {
        let len = usize::try_from(self.word()?).ok()?;
        let (first, rest) = self.0.split_at_checked(len)?;
        let first = first.to_vec();
        self.0 = rest;
        let (is_file, number) = (self.word()? == 1, self.word()?);
        let (bytes, header_checksum) = (self.word()?, self.word()? as u32);
        let at = match is_file {
            true => PieceAt::File { number, bytes, header_checksum },
            false => PieceAt::Block(number),
        };
        Some((first, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back_and_nothing_else_is_taken() {
        let mut counts = SegmentCounts::default();
        counts.id = 1 << 63;
        counts.origin.class = AgeClass::SurvivedTwice;
        counts.total = Counts { bytes: 10, records: 2, ..Counts::default() };
        counts.earliest_expiry_ms = Some(5);
        counts.expiry_bytes = vec![1, 2];
        let was = Footprint { bytes: 9, tombstone: true, expires_at_ms: Some(3) };
        let file = PieceAt::File { number: u64::MAX, bytes: 3, header_checksum: 4 };
        let meta = Meta {
            begin_seq: 17,
            is_ordered: true,
            known: vec![KnownSegment::from_bytes(&[7; 32])],
            compacted: [1 << 63, 3 << 62].into(),
            slots: vec![(3, 1), (65_535, 1 << 63)],
            counts: vec![counts],
            deaths: vec![Death { address: Address::new(3, 4096), was }],
            order: vec![(
                0,
                vec![vec![(b"a".to_vec(), file), (vec![], PieceAt::Block(1))], vec![]],
            )],
        };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Some(meta.clone()));
        assert_eq!(meta.run_files(), [u64::MAX].into());
        for cut in 0..bytes.len() {
            assert_eq!(Meta::decode(&bytes[..cut]), None, "cut to {cut}");
        }
        assert_eq!(Meta::decode(&[bytes, vec![0]].concat()), None);
    }
}
