//! The workers that compact in the background: one pool for all databases of a process, unless something else is asked for.
//!
//! # Concurrency
//! Databases take turns step by step, so one with much to do does not hold up the others.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, OnceLock};

use cortenkv_compaction::PoolOptions;

use crate::error::Result;
use crate::options::Options;
use crate::stats::{PoolStats, QueueStats};
use crate::sync::lock;

/// Threads that do the background work of several databases; given to [`Builder::worker_pool`](crate::Builder::worker_pool).
///
/// Without one all databases of a process share the same pool, or one for each setting of `sched` that is not the default.
/// A cheap handle: clones share the threads, which end with the last handle and the last database.
///
/// ```no_run
/// use cortenkv::{Db, WorkerPool};
///
/// let pool = WorkerPool::new(2, 256)?;
/// let users = Db::builder("users").worker_pool(&pool).build()?;
/// let orders = Db::builder("orders").worker_pool(&pool).build()?;
/// assert_eq!(pool.stats().workers, 2);
/// # Ok::<(), cortenkv::Error>(())
/// ```
#[derive(Clone)]
pub struct WorkerPool(pub(super) cortenkv_compaction::WorkerPool);

impl WorkerPool {
    /// A pool of so many threads. 0 is automatic: twice the larger of processors and databases, at most `workers_max`,
    /// looked at again whenever a database opens. The threads start with the first database.
    ///
    /// # Errors
    /// `InvalidArgument` for more than 256 workers, or a `workers_max` of 0; `Unsupported` in a build without compaction.
    pub fn new(workers: u32, workers_max: u32) -> Result<WorkerPool> {
        crate::options::check_workers(workers, workers_max)?;
        Ok(WorkerPool(cortenkv_compaction::WorkerPool::new(options(workers, workers_max))))
    }

    /// A pool without threads: [`WorkerPool::step`] does the work of all its databases.
    ///
    /// # Errors
    /// `Unsupported` in a build without compaction.
    pub fn manual() -> Result<WorkerPool> {
        Ok(WorkerPool(cortenkv_compaction::WorkerPool::manual(PoolOptions::default())))
    }

    /// Does one step of whichever database's turn it is, in the calling thread; false if nothing can be done now.
    pub fn step(&self) -> bool {
        self.0.step()
    }

    /// The figures of the pool and of each database that it works for.
    pub fn stats(&self) -> PoolStats {
        let stats = self.0.stats();
        let queue = |queue: cortenkv_compaction::QueueStats| QueueStats {
            name: queue.name,
            depth: queue.depth as u64,
            running: queue.running as u64,
            waiting: queue.waiting as u64,
            steps: queue.steps,
        };
        PoolStats {
            workers: stats.workers as u64,
            steps: stats.steps,
            queue_depth_permille: (stats.queue_depth_average * 1e3) as u64,
            queues: stats.queues.into_iter().map(queue).collect(),
        }
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The pool of a database.
pub(super) fn pool_of(database: &Options) -> WorkerPool {
    /// One for each setting; kept as long as the process.
    static POOLS: OnceLock<Mutex<BTreeMap<(u32, u32), WorkerPool>>> = OnceLock::new();
    if let Some(pool) = &database.pool {
        return pool.clone();
    }
    let (workers, workers_max) = database.workers;
    let mut pools = lock(POOLS.get_or_init(Mutex::default));
    let pool = pools.entry((workers, workers_max)).or_insert_with(|| {
        WorkerPool(cortenkv_compaction::WorkerPool::new(options(workers, workers_max)))
    });
    pool.clone()
}

fn options(workers: u32, workers_max: u32) -> PoolOptions {
    let mut options = PoolOptions::default();
    (options.workers, options.workers_max) = (workers as usize, workers_max as usize);
    options
}
