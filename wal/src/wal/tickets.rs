//! Appends and syncs that do not wait: each gives a ticket, which shares the next sync with whoever else waits for one.

use super::Wal;
use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::options::Durability;
use crate::record::{RecordRef, SeqNo};
use crate::sync::atomic::Ordering;
use crate::sync::{Arc, lock};
use crate::ticket::Ticket;

impl Wal {
    /// Appends a batch without waiting for the sync.
    ///
    /// # Errors
    /// As [`Wal::append`], and `Busy` when `tickets_max` tickets are pending.
    pub fn append_async(&self, batch: &Batch, durability: Durability) -> Result<Ticket> {
        let core = self.core();
        self.append_async_installing(batch, durability, |records| core.handler.apply(records))
    }

    /// As [`Wal::append_async`], with an `install` that is what it is in [`Wal::append_installing`].
    ///
    /// # Errors
    /// As [`Wal::append_async`].
    pub fn append_async_installing(
        &self,
        batch: &Batch,
        durability: Durability,
        install: impl FnOnce(&[RecordRef<'_>]),
    ) -> Result<Ticket> {
        self.check_tickets()?;
        let (seq, must_wait) = self.core().append_async(batch, durability, install)?;
        Ok(self.ticket(seq, must_wait))
    }

    /// As [`Wal::sync`], without blocking.
    ///
    /// # Errors
    /// `Closed`, and `Busy` when `tickets_max` tickets are pending.
    pub fn sync_async(&self) -> Result<Ticket> {
        let core = self.core();
        core.check_fork()?;
        core.latch.check()?;
        self.check_tickets()?;
        let seq = lock(&core.appender).last_seq();
        core.wait_published(seq);
        Ok(self.ticket(seq, true))
    }

    /// A ticket for a commit that is in the log: it resolves when [`Wal::wait_durable`] would return.
    ///
    /// # Errors
    /// `Closed`, and `Busy` when `tickets_max` tickets are pending.
    pub fn durable_async(&self, seq: SeqNo) -> Result<Ticket> {
        let core = self.core();
        core.check_fork()?;
        core.latch.check()?;
        self.check_tickets()?;
        core.wait_published(seq);
        Ok(self.ticket(seq, true))
    }

    pub(crate) fn ticket(&self, seq: SeqNo, must_wait: bool) -> Ticket {
        let core = self.core();
        let id = (must_wait && core.train.durable() < seq).then(|| {
            core.tickets.fetch_add(1, Ordering::Relaxed);
            core.next_ticket.fetch_add(1, Ordering::Relaxed)
        });
        Ticket::new(Arc::clone(core), seq, id)
    }

    pub(crate) fn check_tickets(&self) -> Result<()> {
        let core = self.core();
        // LIMIT: pending tickets. Two threads at the bound may pass it together, by one each.
        if core.tickets.load(Ordering::Relaxed) < core.options.tickets_max {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Busy,
            format!(
                "{} commits wait for their sync; wait for some of them first",
                core.options.tickets_max
            ),
        ))
    }
}
