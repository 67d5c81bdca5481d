//! The change feed: the durable commits of a database, in order and each once, for somebody who follows it.
//!
//! It reads the log on disk, not a queue in memory: a consumer that is slow costs disk, up to the bound of its hold, and no
//! memory beyond one piece of the log.
//!
//! # Invariants
//! - Events come in the order of (seq, index in the commit), each once, and only of commits that a power cut cannot take back.
//! - What was not acknowledged is there after a crash, for as long as the hold of the feed is whole.
//!
//! # Concurrency
//! Feeds run beside writers and beside one another. Two feeds of one name share one hold, and go each their own way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::db::Db;
use crate::error::Result;
use crate::parts::hold::{self, Hold, HoldOptions};
use crate::parts::log_reader::{LogReader, Logged};
use crate::record::{KeyspaceId, SeqNo};

/// So much of the log is read at once.
const PIECE_BYTES: u64 = 128 << 10;
/// Whether the database was closed is looked at so often.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What a feed shows; see [`Db::watch`].
#[derive(Debug, Clone)]
#[must_use = "options do nothing before they are given to `Db::watch`"]
pub struct WatchOptions {
    name: String,
    after: Option<(SeqNo, u32)>,
    keyspace: Option<String>,
    prefix: Vec<u8>,
    hold: HoldOptions,
}

impl WatchOptions {
    /// A feed of this name: of all changes that were not acknowledged under it, or from now on where the name is new.
    pub fn new(name: impl Into<String>) -> Self {
        WatchOptions {
            name: name.into(),
            after: None,
            keyspace: None,
            prefix: Vec::new(),
            hold: HoldOptions::new(),
        }
    }

    /// Begins behind this commit, in place of the last that was acknowledged. 0 is the beginning of the log.
    pub fn from(mut self, seq: SeqNo) -> Self {
        self.after = Some((seq, u32::MAX));
        self
    }

    /// Begins behind this change: for a consumer that keeps its place in its own books, and stopped within a commit.
    pub fn after(mut self, seq: SeqNo, index: u32) -> Self {
        self.after = Some((seq, index));
        self
    }

    /// Only changes of this keyspace, which may be created later.
    pub fn keyspace(mut self, name: impl Into<String>) -> Self {
        self.keyspace = Some(name.into());
        self
    }

    /// Only keys that start with this.
    pub fn prefix(mut self, prefix: impl Into<Vec<u8>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The most disk that is kept for what was not acknowledged; beyond it the feed answers `Lagged`. 1 GiB unless set.
    pub fn bytes_max(mut self, bytes_max: u64) -> Self {
        self.hold = self.hold.bytes_max(bytes_max);
        self
    }
}

/// What happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It has this value.
    Put {
        /// The value.
        value: Bytes,
        /// When it ends, in ms since 1970. No event tells of that moment.
        expires_at_ms: Option<u64>,
    },
    /// It has none any more, or had none before either.
    Delete,
}

/// One change of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeEvent {
    /// The commit.
    pub seq: SeqNo,
    /// Its place among the changes of the commit, those that the feed does not show included.
    pub index: u32,
    /// The keyspace.
    pub keyspace: Arc<str>,
    /// The key.
    pub key: Bytes,
    /// What happened to it.
    pub change: Change,
}

/// A feed of changes; made by [`Db::watch`].
///
/// As an iterator it never ends by itself: `next` blocks until there is something to show, and an error is shown once more each
/// time. It keeps the database open.
#[derive(Debug)]
pub struct Feed {
    db: Db,
    hold: Hold,
    keyspace: Option<String>,
    prefix: Vec<u8>,
    /// Changes up to this one are not shown.
    after: (SeqNo, u32),
    log: LogReader,
    names: BTreeMap<KeyspaceId, Arc<str>>,
    ready: VecDeque<ChangeEvent>,
}

impl Db {
    /// Follows the changes of the database: every committed change, in order and once, from where the feed of this name has
    /// acknowledged ([`Feed::ack`]). A hold of the same name keeps on disk what was not acknowledged.
    ///
    /// ```
    /// # use cortenkv::{Change, Db, WatchOptions};
    /// # use std::time::Duration;
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = Db::open(dir.path())?;
    /// let mut feed = db.watch(WatchOptions::new("mirror").prefix("user/"))?;
    /// db.put(b"user/7", b"Ada")?;
    /// db.put(b"other", b"not shown")?;
    /// let event = feed.next_timeout(Duration::from_secs(10))?.expect("it is durable");
    /// assert_eq!((&event.key[..], event.index), (&b"user/7"[..], 0));
    /// assert!(matches!(event.change, Change::Put { value, .. } if value == "Ada"));
    /// feed.ack(event.seq)?; // all of this commit is dealt with, and need not come again
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Db::hold`]. That the place to begin at is gone is told by the first event.
    pub fn watch(&self, options: WatchOptions) -> Result<Feed> {
        let hold = match options.after {
            Some((seq, index)) => options.hold.seq(before(seq, index)),
            None => options.hold,
        };
        let hold = self.hold(&options.name, hold)?;
        let after = match options.after {
            Some(after) => after,
            None => (hold.seq()?, u32::MAX),
        };
        Ok(Feed {
            db: self.clone(),
            hold,
            keyspace: options.keyspace,
            prefix: options.prefix,
            after,
            log: LogReader::behind(before(after.0, after.1)),
            names: BTreeMap::new(),
            ready: VecDeque::new(),
        })
    }
}

/// The commit behind which the log must be read to come to what follows a change.
fn before(seq: SeqNo, index: u32) -> SeqNo {
    if index == u32::MAX { seq } else { seq.saturating_sub(1) }
}

impl Feed {
    /// The next change, if one is durable already.
    ///
    /// # Errors
    /// `Lagged` if a part of the log is gone that was not shown yet: nothing held it, or its hold broke. `Closed` after
    /// `close`, `Corruption`, `Io`.
    pub fn try_next(&mut self) -> Result<Option<ChangeEvent>> {
        while self.ready.is_empty() {
            self.db.core().check_open()?;
            if !self.fill()? {
                return Ok(None);
            }
        }
        Ok(self.ready.pop_front())
    }

    /// The next change; `None` if none comes within `timeout`.
    ///
    /// # Errors
    /// As [`Feed::try_next`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<ChangeEvent>> {
        let mut left = timeout;
        loop {
            // Behind an opening, this is above any commit that was there before it.
            let seen = hold::parts(self.db.core())?.0.wal.durable_seq();
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            if left.is_zero() {
                return Ok(None);
            }
            // Commits that the feed does not show wake it, too: only time that passed in silence is counted.
            let moment = left.min(LOOK_AGAIN);
            let wal = &hold::parts(self.db.core())?.0.wal;
            if wal.wait_durable_above(seen, moment) <= seen {
                left -= moment;
            }
        }
    }

    /// Everything up to this commit, and all of it, is dealt with: it does not come again after a crash or under this name, and
    /// need not be kept. Costs a sync of the manifest, so acknowledge from time to time rather than each change.
    ///
    /// # Errors
    /// As [`Hold::advance`].
    pub fn ack(&self, seq: SeqNo) -> Result<()> {
        self.hold.advance(seq)
    }

    /// Commits up to here were read; those that the filter passed over, too.
    pub fn position(&self) -> SeqNo {
        self.ready.front().map_or(self.log.position(), |event| event.seq.saturating_sub(1))
    }

    /// Ends the feed and its hold.
    ///
    /// # Errors
    /// As [`Hold::release`].
    pub fn release(self) -> Result<()> {
        self.hold.release().map(drop)
    }

    /// Reads some more of the log; false if there is none.
    fn fill(&mut self) -> Result<bool> {
        let core = self.db.core();
        let Feed { log, ready, names, keyspace, prefix, after, .. } = self;
        log.read(core, PIECE_BYTES, SeqNo::MAX, &mut |logged: Logged<'_>| {
            let Logged { record, index, .. } = logged;
            if (record.seq, index) <= *after || !record.key.starts_with(prefix) {
                return;
            }
            if !names.contains_key(&record.keyspace) {
                *names = core.catalog.by_id();
            }
            let Some(name) = names.get(&record.keyspace) else { return };
            if keyspace.as_ref().is_some_and(|wanted| **wanted != **name) {
                return;
            }
            ready.push_back(ChangeEvent {
                seq: record.seq,
                index,
                keyspace: Arc::clone(name),
                key: Bytes::copy_from_slice(record.key),
                change: match record.tombstone {
                    true => Change::Delete,
                    false => Change::Put {
                        value: Bytes::copy_from_slice(record.value),
                        expires_at_ms: record.expires_at_ms,
                    },
                },
            });
        })
    }
}

impl Iterator for Feed {
    type Item = Result<ChangeEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_timeout(Duration::MAX).transpose()
    }
}
