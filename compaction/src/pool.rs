//! One pool of threads for the background work of all databases of a process, shared fairly.
//!
//! # Layout
//! `board`: who works on what next. `worker`: the threads. `sizing`: how many.
//!
//! # Concurrency
//! A worker takes one task, does one step of it outside every lock, and puts it back behind the others of its database;
//! databases take turns step by step, so a large job of one does not hold up a small one of another. Compactions
//! have a bound of their own within the pool.
//!
//! # Failure
//! A step that panics ends its task; one that fails is tried again later, waiting twice as long each time. Both are told to
//! the database's `on_failure` in the worker's thread.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};

pub(crate) mod board;
mod priority;
mod sizing;
mod worker;

pub use board::{PoolStats, QueueStats};
pub use sizing::{compactions_wanted, workers_wanted};
use worker::Shared;
#[cfg(all(test, loom))]
pub(crate) use worker::step;

/// What went wrong with a step of [`Work`].
pub type WorkError = Box<dyn Error + Send + Sync>;

/// What a step of work wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To be called again soon.
    Again,
    /// To be called again after this time, or when its queue is notified.
    Wait(Duration),
    /// Not to be called again.
    Done,
}

/// Background work, done in steps of milliseconds.
pub trait Work: Send {
    /// Does one step.
    ///
    /// # Errors
    /// What went wrong; the step comes again later.
    fn step(&mut self) -> Result<Step, WorkError>;

    /// Called once, before the work is dropped because its queue closes: to leave things in order, briefly.
    fn stop(&mut self) {}
}

/// What kind of work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only so many at a time run in the whole pool: see [`PoolOptions::compactions_max`].
    Compaction,
    /// Anything else.
    Other,
}

/// What went wrong in the background.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure {
    /// The work panicked, with this message. It was dropped and does not go on.
    Panic(String),
    /// A step failed. It is tried again.
    Error(WorkError),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Panic(message) => write!(f, "background work panicked: {message}"),
            Failure::Error(error) => {
                write!(f, "background work failed and is tried again: {error}")
            }
        }
    }
}

/// How a pool is made.
#[derive(Clone)]
#[non_exhaustive]
pub struct PoolOptions {
    /// Threads; 0 means as many as [`workers_wanted`] says, asked again whenever a database opens.
    pub workers: usize,
    /// The most threads that 0 comes to; never more than 256.
    pub workers_max: usize,
    /// Compactions that run at a time; 0 means 1 up to 7 processors, a quarter of them above.
    pub compactions_max: usize,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Called in each new thread, after its priority was lowered.
    pub on_worker_start: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        PoolOptions {
            workers: 0,
            workers_max: sizing::WORKERS_MAX,
            compactions_max: 0,
            clock: Arc::new(SystemClock),
            on_worker_start: None,
        }
    }
}

impl fmt::Debug for PoolOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolOptions")
            .field("workers", &self.workers)
            .field("workers_max", &self.workers_max)
            .field("compactions_max", &self.compactions_max)
            .finish_non_exhaustive()
    }
}

/// A pool of workers. A cheap handle; the threads end when the last handle and the last queue are gone.
///
/// The threads run at the lowest priority of the processor on Linux; elsewhere
/// [`on_worker_start`](PoolOptions::on_worker_start) may lower it.
#[derive(Debug, Clone)]
pub struct WorkerPool(Arc<Shared>);

impl WorkerPool {
    /// A pool with threads. They start when the first queue is opened.
    pub fn new(options: PoolOptions) -> Self {
        WorkerPool(Arc::new(Shared::new(options, true)))
    }

    /// A pool without threads: the owner calls [`step`](Self::step).
    pub fn manual(options: PoolOptions) -> Self {
        WorkerPool(Arc::new(Shared::new(options, false)))
    }

    /// Opens a queue, usually one for each database, and starts threads if there should be more now.
    ///
    /// `on_failure` is told of panics and errors, in the thread in which they happen. It must not drop or close the queue,
    /// which waits for that very thread.
    ///
    /// # Errors
    /// When no thread can be started and none is there. One that is missing among others is no error.
    pub fn open(
        &self,
        name: &str,
        on_failure: impl Fn(Failure) + Send + Sync + 'static,
    ) -> io::Result<WorkQueue> {
        let id = self.0.board.open(name, Arc::new(on_failure));
        let queue = WorkQueue { pool: self.clone(), id };
        self.0.start_workers()?;
        Ok(queue)
    }

    /// Does one step of whatever is next, in the calling thread; false if nothing can run now. The way to drive a pool
    /// without threads; one with threads is helped by it.
    pub fn step(&self) -> bool {
        self.0.step()
    }

    /// How long until a waiting task is due; `None` if none waits. For whoever drives a pool by hand.
    pub fn next_due(&self) -> Option<Duration> {
        self.0.next_due()
    }

    /// The numbers of the pool and of its queues.
    pub fn stats(&self) -> PoolStats {
        self.0.board.stats(self.0.workers())
    }
}

/// The work of one database. Dropping it closes it, which waits for steps that are under way: no work of its own may drop
/// it.
#[derive(Debug)]
pub struct WorkQueue {
    pool: WorkerPool,
    id: u64,
}

impl WorkQueue {
    /// Adds work, which is stepped until it is done or the queue closes.
    pub fn submit(&self, kind: Kind, work: impl Work + 'static) {
        self.pool.0.board.submit(self.id, kind, Box::new(work));
    }

    /// Something has changed: work of this queue that waits is called again now. Cheap enough for once a segment, not for
    /// once a record.
    pub fn notify(&self) {
        self.pool.0.board.notify(self.id);
    }
}

/// Steps that are under way end, everything is stopped, and nothing of this queue runs when the call returns.
impl Drop for WorkQueue {
    fn drop(&mut self) {
        self.pool.0.close(self.id);
    }
}
