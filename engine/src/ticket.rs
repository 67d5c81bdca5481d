//! The answer that may come later: a future that needs no runtime, with a blocking `wait`.
//!
//! # Concurrency
//! Dropping a ticket harms nobody: the work goes on without it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::error::Result;

/// A pending answer: `.await` it, or block on it with [`Ticket::wait`].
#[must_use = "the work goes on without the ticket, but only the ticket tells how it ended"]
pub struct Ticket<T>(State<T>);

enum State<T> {
    Ready(Option<Result<T>>),
    Pending(Pin<Box<dyn Pending<T>>>),
}

/// Work that a ticket can stand for. `wait` is separate from polling, because whoever blocks may also help.
pub(crate) trait Pending<T>: Future<Output = Result<T>> + Send {
    /// Blocks until the answer is there.
    fn wait(self: Pin<Box<Self>>) -> Result<T>;
}

impl<T> Ticket<T> {
    /// A ticket whose answer is there already.
    pub fn ready(answer: Result<T>) -> Self {
        Ticket(State::Ready(Some(answer)))
    }

    /// A ticket for any future, for engines behind a network. `wait` parks the thread between polls.
    pub fn from_future(future: impl Future<Output = Result<T>> + Send + 'static) -> Self
    where
        T: 'static,
    {
        Ticket::pending(Driven(Box::pin(future)))
    }

    pub(crate) fn pending(work: impl Pending<T> + 'static) -> Self {
        Ticket(State::Pending(Box::pin(work)))
    }

    /// The same answer in another form.
    pub(crate) fn map<U>(self, form: impl FnOnce(T) -> U + Send + Unpin + 'static) -> Ticket<U>
    where
        T: Unpin + 'static,
    {
        match self.0 {
            State::Ready(answer) => Ticket(State::Ready(answer.map(|answer| answer.map(form)))),
            State::Pending(work) => Ticket::pending(Mapped { work, form: Some(form) }),
        }
    }

    /// Blocks until the answer is there. Inside an async runtime use `.await` instead.
    ///
    /// # Errors
    /// Whatever the operation ended with.
    ///
    /// # Panics
    /// When the ticket was polled to its end before.
    pub fn wait(self) -> Result<T> {
        match self.0 {
            State::Ready(answer) => answer.expect("a ticket answers once"),
            State::Pending(work) => work.wait(),
        }
    }
}

impl<T: Unpin> Future for Ticket<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Ready(answer) => Poll::Ready(answer.take().expect("a ticket answers once")),
            State::Pending(work) => {
                let answer = std::task::ready!(work.as_mut().poll(context));
                self.0 = State::Ready(None);
                Poll::Ready(answer)
            }
        }
    }
}

impl<T> std::fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &self.0 {
            State::Ready(Some(_)) => "Ticket(ready)",
            State::Ready(None) => "Ticket(taken)",
            State::Pending(_) => "Ticket(pending)",
        })
    }
}

/// A future that `wait` drives by parking the calling thread.
struct Driven<T>(Pin<Box<dyn Future<Output = Result<T>> + Send>>);

impl<T> Future for Driven<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context)
    }
}

impl<T> Pending<T> for Driven<T> {
    fn wait(self: Pin<Box<Self>>) -> Result<T> {
        block_on(self)
    }
}

/// A pending answer that will be put into another form.
struct Mapped<T, F> {
    work: Pin<Box<dyn Pending<T>>>,
    form: Option<F>,
}

impl<T, U, F: FnOnce(T) -> U + Unpin> Future for Mapped<T, F> {
    type Output = Result<U>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(self.work.as_mut().poll(context));
        let form = self.form.take().expect("a ticket answers once");
        Poll::Ready(answer.map(form))
    }
}

impl<T, U, F: FnOnce(T) -> U + Send + Unpin> Pending<U> for Mapped<T, F> {
    fn wait(self: Pin<Box<Self>>) -> Result<U> {
        let Mapped { work, form } = *Pin::into_inner(self);
        work.wait().map(form.expect("a ticket answers once"))
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_future_that_is_pending_first_is_driven_to_its_end_by_wait() {
        let mut polls = 0;
        let future = std::future::poll_fn(move |context| {
            polls += 1;
            if polls == 3 {
                return Poll::Ready(Ok(polls));
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(Ticket::from_future(future).wait().unwrap(), 3);
    }

    #[test]
    fn a_ready_ticket_answers_both_ways() {
        assert_eq!(Ticket::ready(Ok(1)).wait().unwrap(), 1);
        assert_eq!(
            block_on(Ticket::<u64>::ready(Err(Error::limit("full")))).unwrap_err().code(),
            4
        );
    }
}
