//! A piece of the log in a backup: the commits behind one number up to another.
//!
//! # Layout
//! Numbers least significant byte first. The file is a chain of blocks: the length of the body (4), its CRC32C (4), the body.
//!
//! | block | body |
//! |---|---|
//! | first | magic `CORTENBL`, version (4), uuid (16), since (8), up to (8), then each keyspace: number (4), length (1), name |
//! | commit | seq (8), wall_ms (8), then each change |
//! | last | empty |
//!
//! Change: keyspace (4), kind (1: 0 put, 1 delete, 2 put that expires), expires_at_ms (8, of kind 2 only), length of the key (4)
//! and of the value (4), key, value. `wall_ms` is when the commit was appended at the earliest, as the last sync-mark before
//! it says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cortenkv_wal::vfs::{OpenMode, Vfs, VfsFile, read_full_at, write_all_at};

use super::catalog::{FileEntry, damaged};
use crate::core::Core;
use crate::error::Result;
use crate::parts::checkpoint::failed;
use crate::parts::hold;
use crate::parts::log_reader::{LogReader, Logged};
use crate::record::{Change, KeyspaceId, RecordRef, SeqNo};
use crate::sync::lock;

const MAGIC: &[u8; 8] = b"CORTENBL";
const VERSION: u32 = 1;
/// So much of the log is read, and written, at once.
const PIECE_BYTES: u64 = 1 << 20;
/// LIMIT: the longest body: a commit of the most bytes with its heads.
const BODY_BYTES_MAX: usize = 128 << 20;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const PUT_EXPIRING: u8 = 2;

/// Writes the commits behind `since` up to `seq`, durably.
pub(super) fn write(
    core: &Core,
    vfs: &Arc<dyn Vfs>,
    path: &Path,
    since: SeqNo,
    seq: SeqNo,
) -> Result<FileEntry> {
    let file = vfs.open(path, OpenMode::CreateNew).map_err(|e| failed("create", path, e))?;
    let mut out = Out { path, file, pending: Vec::new(), bytes: 0, crc32c: 0 };
    let written = out.all(core, since, seq);
    if written.is_err() {
        // Nothing names it.
        let _ = vfs.remove_file(path);
    }
    written?;
    Ok(FileEntry { name: String::new(), bytes: out.bytes, crc32c: out.crc32c })
}

struct Out<'a> {
    path: &'a Path,
    file: Arc<dyn VfsFile>,
    pending: Vec<u8>,
    bytes: u64,
    crc32c: u32,
}

impl Out<'_> {
    fn all(&mut self, core: &Core, since: SeqNo, seq: SeqNo) -> Result<()> {
        let uuid = lock(&hold::parts(core)?.1).identity().uuid;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&uuid);
        head.extend_from_slice(&since.to_le_bytes());
        head.extend_from_slice(&seq.to_le_bytes());
        // A keyspace is there before its first record.
        for (id, name) in core.catalog.by_id() {
            head.extend_from_slice(&id.to_le_bytes());
            head.push(name.len() as u8);
            head.extend_from_slice(name.as_bytes());
        }
        self.block(&head);
        let mut log = LogReader::behind(since);
        let (mut commit, mut body) = (0, Vec::new());
        loop {
            let pending = &mut self.pending;
            let goes_on = log.read(core, PIECE_BYTES, seq, &mut |logged: Logged<'_>| {
                if logged.record.seq != commit {
                    if !body.is_empty() {
                        push_block(pending, &body);
                    }
                    commit = logged.record.seq;
                    body.clear();
                    body.extend_from_slice(&commit.to_le_bytes());
                    body.extend_from_slice(&logged.wall_ms.to_le_bytes());
                }
                push_change(&mut body, &logged.record);
            })?;
            self.flush()?;
            if !goes_on {
                break;
            }
        }
        if !body.is_empty() {
            self.block(&body);
        }
        self.block(&[]);
        self.flush()?;
        // DURABILITY: before the catalogue names it.
        self.file.sync_data().map_err(|e| failed("sync", self.path, e))
    }

    fn block(&mut self, body: &[u8]) {
        push_block(&mut self.pending, body);
    }

    fn flush(&mut self) -> Result<()> {
        write_all_at(self.file.as_ref(), &self.pending, self.bytes)
            .map_err(|e| failed("write", self.path, e))?;
        self.bytes += self.pending.len() as u64;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &self.pending);
        self.pending.clear();
        Ok(())
    }
}

fn push_block(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    out.extend_from_slice(body);
}

fn push_change(out: &mut Vec<u8>, record: &RecordRef<'_>) {
    out.extend_from_slice(&record.keyspace.to_le_bytes());
    match record.expires_at_ms {
        _ if record.tombstone => out.push(DELETE),
        None => out.push(PUT),
        Some(at_ms) => {
            out.push(PUT_EXPIRING);
            out.extend_from_slice(&at_ms.to_le_bytes());
        }
    }
    out.extend_from_slice(&(record.key.len() as u32).to_le_bytes());
    out.extend_from_slice(&(record.value.len() as u32).to_le_bytes());
    out.extend_from_slice(record.key);
    out.extend_from_slice(record.value);
}

/// A piece of the log, to be read from its beginning to its end.
pub(super) struct LogFile<'a> {
    path: &'a Path,
    file: Arc<dyn VfsFile>,
    at: u64,
    pub(super) uuid: [u8; 16],
    pub(super) since: SeqNo,
    pub(super) seq: SeqNo,
    pub(super) keyspaces: BTreeMap<KeyspaceId, String>,
}

/// A commit in it.
pub(super) struct LoggedCommit {
    pub(super) seq: SeqNo,
    pub(super) wall_ms: u64,
    body: Vec<u8>,
}

impl<'a> LogFile<'a> {
    pub(super) fn open(vfs: &Arc<dyn Vfs>, path: &'a Path) -> Result<LogFile<'a>> {
        let file = vfs.open(path, OpenMode::Read).map_err(|e| failed("open", path, e))?;
        let keyspaces = BTreeMap::new();
        let mut log = LogFile { path, file, at: 0, uuid: [0; 16], since: 0, seq: 0, keyspaces };
        let head = log.block()?;
        log.parse_head(&head).ok_or_else(|| damaged(path, "the head of a piece of a log"))?;
        Ok(log)
    }

    fn parse_head(&mut self, head: &[u8]) -> Option<()> {
        let mut fields = Fields(head.strip_prefix(MAGIC)?);
        if u32::from_le_bytes(fields.take()?) != VERSION {
            return None;
        }
        self.uuid = fields.take()?;
        self.since = u64::from_le_bytes(fields.take()?);
        self.seq = u64::from_le_bytes(fields.take()?);
        while !fields.0.is_empty() {
            let id = u32::from_le_bytes(fields.take()?);
            let [len] = fields.take()?;
            let name = std::str::from_utf8(fields.bytes(usize::from(len))?).ok()?;
            self.keyspaces.insert(id, name.to_owned());
        }
        Some(())
    }

    /// The next commit; `None` behind the last.
    pub(super) fn next(&mut self) -> Result<Option<LoggedCommit>> {
        let body = self.block()?;
        if body.is_empty() {
            return Ok(None);
        }
        let mut fields = Fields(&body);
        let head = fields.take().zip(fields.take());
        let (seq, wall_ms) = head.ok_or_else(|| damaged(self.path, "the head of a commit"))?;
        let (seq, wall_ms) = (u64::from_le_bytes(seq), u64::from_le_bytes(wall_ms));
        Ok(Some(LoggedCommit { seq, wall_ms, body }))
    }

    /// Calls `f` with every change of a commit.
    pub(super) fn changes(
        &self,
        commit: &LoggedCommit,
        mut f: impl FnMut(KeyspaceId, &[u8], Change<'_>),
    ) -> Result<()> {
        let mut fields = Fields(commit.body.get(16..).unwrap_or_default());
        while !fields.0.is_empty() {
            fields.change(&mut f).ok_or_else(|| damaged(self.path, "a change"))?;
        }
        Ok(())
    }

    fn block(&mut self) -> Result<Vec<u8>> {
        let cut = || damaged(self.path, "a block with its checksum");
        let mut head = [0; 8];
        self.read(&mut head)?;
        let [l0, l1, l2, l3, c0, c1, c2, c3] = head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let left = self.file.len().map_err(|e| failed("read", self.path, e))?;
        if len > BODY_BYTES_MAX || self.at + len as u64 > left {
            return Err(cut());
        }
        let mut body = vec![0; len];
        self.read(&mut body)?;
        let stored = u32::from_le_bytes([c0, c1, c2, c3]);
        if crc32c::crc32c(&body) == stored { Ok(body) } else { Err(cut()) }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<()> {
        let read = read_full_at(self.file.as_ref(), into, self.at);
        let read = read.map_err(|e| failed("read", self.path, e))?;
        self.at += read as u64;
        if read == into.len() { Ok(()) } else { Err(damaged(self.path, "more bytes")) }
    }
}

/// What of a body is still to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn change(&mut self, f: &mut impl FnMut(KeyspaceId, &[u8], Change<'_>)) -> Option<()> {
        let keyspace = u32::from_le_bytes(self.take()?);
        let [kind] = self.take()?;
        let expires_at_ms = match kind {
            PUT | DELETE => None,
            PUT_EXPIRING => Some(u64::from_le_bytes(self.take()?)),
            _ => return None,
        };
        let key_len = u32::from_le_bytes(self.take()?) as usize;
        let value_len = u32::from_le_bytes(self.take()?) as usize;
        let (key, value) = (self.bytes(key_len)?, self.bytes(value_len)?);
        let change = match kind {
            DELETE => Change::Delete,
            _ => Change::Put { value, expires_at_ms },
        };
        f(keyspace, key, change);
        Some(())
    }
}
