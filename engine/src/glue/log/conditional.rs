//! Conditional commits in the words of the log.

use cortenkv_wal::{Condition, Conditional};

use super::encode::{install_once, with_encoded};
use super::{DurableLog, WalTicket};
use crate::error::Result;
use crate::install::Installing;
use crate::log::{Attempt, Mark};
use crate::options::Durability;
use crate::parts::segment::ours;
use crate::record::{SeqNo, Write};
use crate::ticket::Ticket;
use crate::write::Premises;

/// A place in the log on disk.
pub(crate) type DurableMark = cortenkv_wal::LogMark;

impl Condition for Premises<'_> {
    fn visit(&mut self, record: &cortenkv_wal::RecordRef<'_>) {
        Premises::visit(self, &ours(record));
    }

    fn holds(&self) -> bool {
        self.hold()
    }
}

impl DurableLog {
    pub(crate) fn mark(&self) -> Mark {
        Mark(Some(self.wal.mark()))
    }

    pub(crate) fn append_if(
        &self,
        writes: &[Write<'_>],
        durability: Durability,
        mark: &DurableMark,
        premises: &mut Premises<'_>,
        installing: Installing<'_>,
    ) -> Result<Attempt<SeqNo>> {
        with_encoded(writes, |batch, has_puts| {
            let mut installing = Some(installing);
            self.admit(has_puts, || {
                let install = |records: &[cortenkv_wal::RecordRef<'_>]| {
                    install_once(&mut installing, records);
                };
                let durability = durability.into();
                Ok(self.wal.append_if(batch, durability, mark, premises, install)?.into())
            })
        })
    }

    pub(crate) fn append_if_async(
        &self,
        writes: &[Write<'_>],
        durability: Durability,
        mark: &DurableMark,
        premises: &mut Premises<'_>,
        installing: Installing<'_>,
    ) -> Result<Attempt<Ticket<SeqNo>>> {
        let attempt: Attempt<cortenkv_wal::Ticket> = with_encoded(writes, |batch, has_puts| {
            let mut installing = Some(installing);
            self.admit(has_puts, || {
                let install = |records: &[cortenkv_wal::RecordRef<'_>]| {
                    install_once(&mut installing, records);
                };
                let durability = durability.into();
                Ok(self.wal.append_if_async(batch, durability, mark, premises, install)?.into())
            })
        })?;
        Ok(attempt.map(|ticket| Ticket::pending(WalTicket(ticket))))
    }

    pub(crate) fn wait_durable(&self, seq: SeqNo) -> Result<()> {
        Ok(self.wal.wait_durable(seq)?)
    }

    pub(crate) fn durable_async(&self, seq: SeqNo) -> Result<Ticket<SeqNo>> {
        Ok(Ticket::pending(WalTicket(self.wal.durable_async(seq)?)))
    }

    pub(crate) fn settled_seq(&self, led: SeqNo) -> Option<SeqNo> {
        self.wal.settled_seq(led)
    }

    pub(crate) fn install_pending(&self) -> Result<()> {
        if self.wal.has_pending() {
            // DURABILITY: not for durability; a sync returns only after its leader has installed what it covers.
            self.wal.sync()?;
        }
        Ok(())
    }
}

impl<T> From<Conditional<T>> for Attempt<T> {
    fn from(outcome: Conditional<T>) -> Self {
        match outcome {
            Conditional::Appended(appended) => Attempt::Appended(appended),
            Conditional::Refused => Attempt::Refused,
            Conditional::Outdated => Attempt::Outdated,
        }
    }
}
