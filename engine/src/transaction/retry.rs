//! Transactions that are tried again after a conflict, with a pause that grows.

use std::sync::Arc;
use std::time::Duration;

use super::{Conflict, Transaction};
use crate::core::Core;
use crate::db::Db;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Durability;
use crate::sync;

/// How [`Db::transact_with`] goes about conflicts.
///
/// ```
/// # use std::time::Duration;
/// use cortenkv::TransactOptions;
/// let impatient = TransactOptions::new().attempts_max(3).backoff_max(Duration::from_millis(1));
/// # let db = cortenkv::Db::open_in_memory()?;
/// db.transact_with(impatient, |t| t.put(&db, b"k", b"v"))?;
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransactOptions {
    /// Attempts in all; at least one is made. 100 unless set.
    pub attempts_max: u32,
    /// The pause after the first conflict; each further one is twice as long. 50 microseconds unless set.
    pub backoff: Duration,
    /// The longest pause; 10 milliseconds unless set.
    pub backoff_max: Duration,
    /// The durability of the commit; `None` is that of the database.
    pub durability: Option<Durability>,
}

impl Default for TransactOptions {
    fn default() -> Self {
        TransactOptions {
            attempts_max: 100,
            backoff: Duration::from_micros(50),
            backoff_max: Duration::from_millis(10),
            durability: None,
        }
    }
}

impl TransactOptions {
    /// The defaults.
    pub fn new() -> Self {
        TransactOptions::default()
    }

    /// Sets the number of attempts.
    #[must_use]
    pub fn attempts_max(mut self, attempts_max: u32) -> Self {
        self.attempts_max = attempts_max;
        self
    }

    /// Sets the first pause; zero means none at all.
    #[must_use]
    pub fn backoff(mut self, backoff: Duration) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the longest pause.
    #[must_use]
    pub fn backoff_max(mut self, backoff_max: Duration) -> Self {
        self.backoff_max = backoff_max;
        self
    }

    /// Sets the durability of the commit.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// The pause after so many conflicts. `salt` spreads those who met at one time: it is between half of the full pause
    /// and all of it.
    fn pause(&self, conflicts: u32, salt: u64) -> Duration {
        let factor = 1_u32.checked_shl(conflicts.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.backoff.saturating_mul(factor).min(self.backoff_max);
        let share = (salt.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u32;
        full / 2 + full / 512 * share
    }
}

impl Db {
    /// Runs `f` in a transaction and commits, again and again as long as there is a conflict, and returns what `f` has returned
    /// in the run that was committed. An error of `f` ends it, and nothing is written; what `f` does beside the transaction
    /// happens in every run.
    ///
    /// ```
    /// # let db = cortenkv::Db::open_in_memory()?;
    /// db.put(b"a", [100])?;
    /// db.transact(|t| {
    ///     let a = t.get(&db, b"a")?.map_or(0, |value| value[0]);
    ///     t.put(&db, b"a", [a - 30])?;
    ///     t.put(&db, b"b", [30])
    /// })?;
    /// assert_eq!(db.get(b"a")?.as_deref(), Some(&[70][..]));
    /// # Ok::<(), cortenkv::Error>(())
    /// ```
    ///
    /// # Errors
    /// That of `f`; `Conflict` when the last attempt that [`TransactOptions::default`] allows met one, with the
    /// [`Conflict`] as its source; otherwise as [`Transaction::commit`].
    pub fn transact<R>(&self, f: impl FnMut(&mut Transaction) -> Result<R>) -> Result<R> {
        self.transact_with(TransactOptions::default(), f)
    }

    /// As [`Db::transact`], with options of its own.
    ///
    /// # Errors
    /// As [`Db::transact`].
    pub fn transact_with<R>(
        &self,
        options: TransactOptions,
        mut f: impl FnMut(&mut Transaction) -> Result<R>,
    ) -> Result<R> {
        let mut conflicts = 0;
        loop {
            let mut transaction = self.transaction();
            let returned = f(&mut transaction)?;
            match transaction.commit_as(options.durability)? {
                Ok(_) => return Ok(returned),
                Err(conflict) => {
                    conflicts += 1;
                    if conflicts >= options.attempts_max {
                        return Err(exhausted(conflicts, conflict));
                    }
                    self.core().pause(&options, conflicts);
                }
            }
        }
    }
}

impl Core {
    /// Lets time pass before the next attempt; none where everything is driven by hand.
    pub(crate) fn pause(self: &Arc<Self>, options: &TransactOptions, conflicts: u32) {
        let retries = self.counters.transactions.note_retry();
        let pause = options.pause(conflicts, retries);
        if !self.options.manual && !pause.is_zero() {
            sync::sleep(pause);
        }
    }
}

fn exhausted(conflicts: u32, last: Conflict) -> Error {
    let context = format!(
        "the transaction met a conflict in each of {conflicts} attempts; try again later, or make it smaller"
    );
    Error::with_source(ErrorKind::Conflict, context, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound_and_are_spread() {
        let options = TransactOptions::new();
        for conflicts in [1, 2, 5, 9, 40, u32::MAX] {
            let full = options.backoff.as_micros() << (conflicts - 1).min(20);
            let full = full.min(options.backoff_max.as_micros());
            for salt in 0..100 {
                let pause = options.pause(conflicts, salt).as_micros();
                assert!((full / 2..=full).contains(&pause), "{pause} of {full}");
            }
        }
        assert!(TransactOptions::new().backoff(Duration::ZERO).pause(9, 9).is_zero());
    }
}
