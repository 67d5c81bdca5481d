//! The builder of a run: takes keys in order and writes the bytes front to back.

use std::collections::HashMap;

use super::Run;
use super::block::encode_hint;
use super::format::{
    BLOCK_KEYS, CHECKSUM_BYTES, FILE_BYTES_MAX, GROUP_BLOCKS, Group, HEADER_BYTES, KEY_BYTES_MAX,
    KEYS_MAX, Layout, PREFIX_BYTES_MAX, SEGMENTS_MAX, fence, push_length, shared_bytes,
};
use super::store::RunStore;
use crate::error::{Error, ErrorKind, Result};
use crate::ordered::hint::Hint;

/// Builds one run in memory. Keys are at most 64 KiB long.
#[derive(Debug)]
pub(crate) struct RunBuilder {
    /// The file so far: room for the header, and the finished blocks.
    file: Vec<u8>,
    keys: u32,
    last_key: Vec<u8>,
    /// The block under construction: its parts.
    block_hints: Vec<u8>,
    block_lengths: Vec<u8>,
    block_rests: Vec<u8>,
    group: OpenGroup,
    /// The records of the finished groups, and for each group the first bytes of its first key, as many as a fence
    /// can need: the prefix of the run is known only at the end.
    groups: Vec<u8>,
    group_firsts: FirstKeys,
    segments: Segments,
    over_limit: Option<&'static str>,
}

/// The group under construction.
#[derive(Debug, Default)]
struct OpenGroup {
    start: usize,
    ends: Vec<u32>,
    firsts: FirstKeys,
}

/// First keys, one behind the other.
#[derive(Debug, Default)]
struct FirstKeys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl FirstKeys {
    fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    fn get(&self, n: usize) -> &[u8] {
        let start = if n == 0 { 0 } else { self.ends[n - 1] };
        &self.bytes[start..self.ends[n]]
    }

    fn fences(&self, from: usize, shared: usize) -> impl Iterator<Item = u64> {
        (from..self.ends.len()).map(move |n| fence(self.get(n), shared))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// The segment table under construction.
#[derive(Debug, Default)]
struct Segments {
    table: Vec<(u64, u16)>,
    numbers: HashMap<(u64, u16), u16>,
    /// The answer before: neighbours in key order are often neighbours in the log too.
    last: Option<((u64, u16), u16)>,
}

impl Segments {
    /// The index of a segment; `None` if the table is full, which costs the key its hint and nothing else.
    fn number(&mut self, segment: (u64, u16)) -> Option<u16> {
        if let Some((last, number)) = self.last
            && last == segment
        {
            return Some(number);
        }
        let number = match self.numbers.get(&segment) {
            Some(number) => *number,
            None if self.table.len() == SEGMENTS_MAX => return None,
            None => {
                let number = self.table.len() as u16;
                self.table.push(segment);
                self.numbers.insert(segment, number);
                number
            }
        };
        self.last = Some((segment, number));
        Some(number)
    }
}

impl RunBuilder {
    pub(crate) fn new() -> Self {
        RunBuilder {
            file: vec![0; HEADER_BYTES],
            keys: 0,
            last_key: Vec::new(),
            block_hints: Vec::new(),
            block_lengths: Vec::new(),
            block_rests: Vec::new(),
            group: OpenGroup { start: HEADER_BYTES, ..OpenGroup::default() },
            groups: Vec::new(),
            group_firsts: FirstKeys::default(),
            segments: Segments::default(),
            over_limit: None,
        }
    }

    /// The number of keys so far.
    pub(crate) fn len(&self) -> usize {
        self.keys as usize
    }

    /// About the number of bytes that the run would have now.
    pub(crate) fn bytes(&self) -> usize {
        self.file.len() + self.block_hints.len() + self.block_rests.len() + self.groups.len()
    }

    /// Adds a key. One that is over a limit is left out, and `finish` fails.
    ///
    /// # Panics
    /// If the key is not above the one before.
    pub(crate) fn push(&mut self, key: &[u8], hint: Option<Hint>) {
        if key.len() > KEY_BYTES_MAX || self.keys == KEYS_MAX || self.bytes() > FILE_BYTES_MAX / 2 {
            self.over_limit = Some("a key is longer than 64 KiB, or the keys are too many");
            return;
        }
        let shared = shared_bytes(&self.last_key, key);
        let ascends = self.keys == 0 || self.last_key.get(shared) < key.get(shared);
        assert!(ascends, "keys of a run must be strictly ascending");
        let mut coded = shared;
        if self.block_hints.is_empty() {
            self.group.firsts.push(key);
            coded = 0;
        }
        push_length(&mut self.block_lengths, coded);
        push_length(&mut self.block_lengths, key.len() - coded);
        self.block_rests.extend_from_slice(&key[coded..]);
        let hint = hint.and_then(|hint| {
            let number = self.segments.number((hint.segment, hint.address.slot()))?;
            Some((number, hint.address))
        });
        self.block_hints.extend_from_slice(&encode_hint(hint));
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&key[shared..]);
        self.keys += 1;
        if self.keys.is_multiple_of(BLOCK_KEYS) {
            self.end_block();
        }
    }

    /// Stores what was pushed.
    ///
    /// # Errors
    /// `LimitExceeded` if a key was over a limit, and the errors of the store.
    pub(crate) fn finish(mut self, store: &dyn RunStore) -> Result<Run> {
        if let Some(what) = self.over_limit {
            return Err(Error::new(ErrorKind::LimitExceeded, format!("no key run: {what}")));
        }
        if !self.block_hints.is_empty() {
            self.end_block();
        }
        if !self.group.ends.is_empty() {
            self.end_group();
        }
        let mut prefix = Vec::new();
        if self.keys != 0 {
            let first = self.group_firsts.get(0);
            let shared = shared_bytes(first, &self.last_key).min(PREFIX_BYTES_MAX);
            prefix.extend_from_slice(&first[..shared]);
        }
        self.file.resize(self.file.len().next_multiple_of(64), 0);
        let layout = Layout {
            keys: self.keys,
            segments: self.segments.table.len() as u32,
            prefix_bytes: prefix.len() as u32,
            index_at: self.file.len(),
        };
        self.file.extend_from_slice(&self.groups);
        for fence in self.group_firsts.fences(0, prefix.len()) {
            self.file.extend_from_slice(&fence.to_le_bytes());
        }
        for (number, slot) in &self.segments.table {
            self.file.extend_from_slice(&number.to_le_bytes());
            self.file.extend_from_slice(&slot.to_le_bytes());
        }
        self.file.extend_from_slice(&prefix);
        let header = layout.header(&self.file[layout.index_at..]);
        self.file[..HEADER_BYTES].copy_from_slice(&header);
        Run::open(store.store(self.file)?)
    }

    fn end_block(&mut self) {
        let start = self.file.len();
        self.file.extend_from_slice(&[0; CHECKSUM_BYTES]);
        for part in [&mut self.block_hints, &mut self.block_lengths, &mut self.block_rests] {
            self.file.append(part);
        }
        let checksum = crc32c::crc32c(&self.file[start + CHECKSUM_BYTES..]);
        self.file[start..start + CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.group.ends.push((self.file.len() - self.group.start) as u32);
        if self.group.ends.len() == GROUP_BLOCKS as usize {
            self.end_group();
        }
    }

    fn end_group(&mut self) {
        let first = self.group.firsts.get(0);
        let shared = shared_bytes(first, &self.last_key).min(usize::from(u16::MAX));
        let fences = self.group.firsts.fences(1, shared);
        let record = Group::encode(self.group.start, shared, fences, &self.group.ends);
        self.groups.extend_from_slice(&record);
        self.group_firsts.push(&first[..first.len().min(PREFIX_BYTES_MAX + 8)]);
        self.group.start = self.file.len();
        self.group.ends.clear();
        self.group.firsts.clear();
    }
}
