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
use crate::sync::{read, write};
use crate::ttl;

/// Options of a keyspace; given to [`Db::keyspace_with`](crate::Db::keyspace_with).
///
/// They are kept in memory, for this opening of the database and for all handles of the keyspace: give them again after
/// a reopen. What is not set stays as it was. Without them a keyspace has no merge operator and puts without a time to live
/// stay.
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
}

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
    /// was written before it was set is as it was. `Duration::MAX` takes it back: such an entry lives until the year 10889.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }
}

impl fmt::Debug for KeyspaceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyspaceOptions")
            .field("merge_operator", &self.merge_operator.is_some())
            .field("default_ttl", &self.default_ttl)
            .finish()
    }
}

/// Stands for "no default time to live".
const NO_TTL: u64 = u64::MAX;

/// The settings of a keyspace while the database is open.
pub(crate) struct Settings {
    default_ttl_ms: AtomicU64,
    merge_operator: RwLock<Option<Arc<dyn MergeOperator>>>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { default_ttl_ms: AtomicU64::new(NO_TTL), merge_operator: RwLock::default() }
    }
}

impl Settings {
    /// Takes what is set.
    pub(crate) fn set(&self, options: KeyspaceOptions) {
        if let Some(operator) = options.merge_operator {
            *write(&self.merge_operator) = Some(operator);
        }
        if let Some(ttl) = options.default_ttl {
            // ORDERING: Relaxed here and below; the number stands for itself.
            self.default_ttl_ms.store(ttl::to_ms(ttl).min(NO_TTL), Relaxed);
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
