//! What a keyspace is told when it is opened.
//!
//! # Concurrency
//! The settings of a keyspace are shared by all of its handles; a change holds for every call that begins after it.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::merge::MergeOperator;
use crate::options::Lifetime;
use crate::parts;
use crate::sync::{read, write};
use crate::ttl;

/// Options of a keyspace; given to [`Db::keyspace_with`](crate::Db::keyspace_with).
///
/// They are kept in memory, for this opening of the database and for all handles of the keyspace: give them again after
/// a reopen. What is not set stays as it was. Without them a keyspace has no merge operator and no compaction filter, and puts
/// without a time to live stay.
///
/// ```
/// # use std::time::Duration;
/// # use cortenkv::{Db, KeyspaceOptions, PutOptions, merge};
/// # let db = Db::open_in_memory()?;
/// let options = KeyspaceOptions::new()
///     .merge_operator(merge::Counter::U64)
///     .default_ttl(Duration::from_secs(60));
/// let hits = db.keyspace_with("hits", options)?;
/// hits.merge(b"page", 1_u64.to_le_bytes())?; // ends in a minute
/// hits.put_with(b"total", 0_u64.to_le_bytes(), PutOptions::new().no_ttl())?; // stays
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct KeyspaceOptions {
    merge_operator: Option<Arc<dyn MergeOperator>>,
    default_ttl: Option<Duration>,
    compaction_filter: Option<Arc<CompactionFilter>>,
}

/// What a compaction filter says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterDecision {
    /// It stays.
    Keep,
    /// It goes, as if it had been deleted when it was written.
    Drop,
}

/// See [`KeyspaceOptions::compaction_filter`].
pub(crate) type CompactionFilter = dyn Fn(&[u8], &[u8]) -> FilterDecision + Send + Sync;

impl KeyspaceOptions {
    /// Nothing is set.
    pub fn new() -> Self {
        KeyspaceOptions::default()
    }

    /// What [`Keyspace::merge`](crate::Keyspace::merge) makes of a value and an operand.
    pub fn merge_operator(mut self, operator: impl MergeOperator) -> Self {
        self.merge_operator = Some(Arc::new(operator));
        self
    }

    /// How long an entry lives that is written without a time to live: by puts, batches, transactions, conditional
    /// writes and merges alike, also through [`StorageEngine`](crate::StorageEngine). Each write begins it anew.
    /// [`PutOptions::ttl`](crate::PutOptions::ttl) and [`PutOptions::no_ttl`](crate::PutOptions::no_ttl) go before it. What
    /// was written before it was set is as it was. `Duration::MAX` takes it back.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// Which entries go when compaction comes by: `filter` is shown key and value of each entry that lives in a segment that
    /// is rewritten. When a segment is rewritten is not promised, and neither is that an entry is ever shown; until it was
    /// dropped, every read shows it, from then on none does, after a reopen neither.
    ///
    /// - While a snapshot or a transaction that has read is open no filter is asked, so nothing vanishes from it. One that is
    ///   opened after an entry was judged, while that job is still running, may find it at first and then no more.
    /// - An entry that was dropped does not bring an older value of its key back.
    /// - The filter runs in threads of compaction, and must not write to the database. One that panics keeps the entry and is
    ///   counted in [`CompactionStats::filter_panics`](crate::CompactionStats::filter_panics); nothing else comes of it.
    /// - A database in memory has no segments, and never asks.
    /// - It is no commit: the change feed tells nothing of it, and a restore from the log may bring it back.
    ///
    /// ```
    /// # use cortenkv::{Db, FilterDecision, KeyspaceOptions};
    /// # let db = Db::open_in_memory()?;
    /// let is_old = |_key: &[u8], value: &[u8]| match value.starts_with(b"v1:") {
    ///     true => FilterDecision::Drop,
    ///     false => FilterDecision::Keep,
    /// };
    /// # if !db.stats().build.compaction || !db.stats().build.wal { return Ok(()); }
    /// let cache = db.keyspace_with("cache", KeyspaceOptions::new().compaction_filter(is_old))?;
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    pub fn compaction_filter(
        mut self,
        filter: impl Fn(&[u8], &[u8]) -> FilterDecision + Send + Sync + 'static,
    ) -> Self {
        self.compaction_filter = Some(Arc::new(filter));
        self
    }

    /// Refuses what this build cannot do.
    pub(crate) fn validate(&self) -> Result<()> {
        let can_compact = parts::BUILD.compaction && parts::BUILD.wal;
        if self.compaction_filter.is_some() && !can_compact {
            return Err(Error::unsupported(
                "a compaction filter is set, but this build has no compaction; enable the features `compaction` and `wal`",
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for KeyspaceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyspaceOptions")
            .field("merge_operator", &self.merge_operator.is_some())
            .field("default_ttl", &self.default_ttl)
            .field("compaction_filter", &self.compaction_filter.is_some())
            .finish()
    }
}

/// Stands for "no default time to live": the longest one.
const NO_TTL: u64 = u64::MAX;

/// The settings of a keyspace while the database is open.
pub(crate) struct Settings {
    default_ttl_ms: AtomicU64,
    merge_operator: RwLock<Option<Arc<dyn MergeOperator>>>,
    compaction_filter: RwLock<Option<Arc<CompactionFilter>>>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            default_ttl_ms: AtomicU64::new(NO_TTL),
            merge_operator: RwLock::default(),
            compaction_filter: RwLock::default(),
        }
    }
}

impl Settings {
    /// Takes what is set.
    pub(crate) fn set(&self, options: KeyspaceOptions) {
        if let Some(operator) = options.merge_operator {
            *write(&self.merge_operator) = Some(operator);
        }
        if let Some(filter) = options.compaction_filter {
            *write(&self.compaction_filter) = Some(filter);
        }
        if let Some(ttl) = options.default_ttl {
            // ORDERING: Relaxed here and below; the number stands for itself.
            self.default_ttl_ms.store(ttl::to_ms(ttl), Relaxed);
        }
    }

    /// When an entry ends that is written now.
    #[inline]
    pub(crate) fn expires_at_ms(
        &self,
        lifetime: Lifetime,
        now_ms: impl FnOnce() -> u64,
    ) -> Option<u64> {
        match lifetime {
            Lifetime::Ttl(ttl) => Some(ttl::expires_at_ms(now_ms(), ttl)),
            Lifetime::Endless => None,
            Lifetime::Default => match self.default_ttl_ms.load(Relaxed) {
                NO_TTL => None,
                ttl_ms => Some(ttl::expires_at_ms(now_ms(), Duration::from_millis(ttl_ms))),
            },
        }
    }

    #[allow(dead_code, reason = "only compaction asks")]
    pub(crate) fn compaction_filter(&self) -> Option<Arc<CompactionFilter>> {
        read(&self.compaction_filter).clone()
    }

    /// The merge operator.
    ///
    /// # Errors
    /// `InvalidArgument` when there is none.
    pub(crate) fn merge_operator(&self, name: &str) -> Result<Arc<dyn MergeOperator>> {
        read(&self.merge_operator).clone().ok_or_else(|| {
            Error::invalid(format!(
                "the keyspace {name:?} has no merge operator in this opening; give one to Db::keyspace_with"
            ))
        })
    }
}
