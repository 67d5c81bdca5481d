//! The promise of an asynchronous commit.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::core::Core;
use crate::error::Result;
use crate::record::SeqNo;
use crate::sync::Arc;

/// A commit on its way to durability: a future for any runtime, or [`wait`](Ticket::wait) without one.
///
/// The commit takes place whether or not the ticket is kept; dropping it only means that nobody is told. Polling never
/// blocks and never syncs: when only futures wait, the background thread leads (with [`Background::Manual`], the
/// caller of `step`). Every ticket resolves, also when the log fails or is closed.
///
/// [`Background::Manual`]: crate::Background::Manual
#[derive(Debug)]
#[must_use = "a ticket that is dropped tells nobody whether the commit succeeded"]
pub struct Ticket {
    core: Arc<Core>,
    seq: SeqNo,
    /// Identifies the waker in the waiting room; `None` when the commit was acknowledged at once.
    id: Option<u64>,
}

impl Ticket {
    pub(crate) fn new(core: Arc<Core>, seq: SeqNo, id: Option<u64>) -> Self {
        Ticket { core, seq, id }
    }

    /// The sequence number of the commit, known at once.
    pub fn seq(&self) -> SeqNo {
        self.seq
    }

    /// Blocks until the commit is acknowledged; this thread may lead the sync.
    ///
    /// # Errors
    /// `Closed` or `Io` when the log failed before the commit was durable; it may or may not be there after a reopen.
    pub fn wait(self) -> Result<SeqNo> {
        if self.id.is_some() {
            self.core.ride(self.seq, None)?;
        }
        Ok(self.seq)
    }
}

impl Future for Ticket {
    type Output = Result<SeqNo>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(id) = self.id else { return Poll::Ready(Ok(self.seq)) };
        match self.core.poll_durable(self.seq, id, cx.waker()) {
            Ok(true) => Poll::Ready(Ok(self.seq)),
            Ok(false) => Poll::Pending,
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.core.forget_ticket(id);
        }
    }
}
