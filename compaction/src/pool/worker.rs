//! The threads of a pool: each takes a task, does one step of it, and puts it back.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::board::{Board, Next, Taken};
use super::{Failure, PoolOptions, Step, priority, sizing};
use crate::sync::{Mutex, lock, spawn, thread};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

pub(super) struct Shared {
    pub(super) board: Arc<Board>,
    options: PoolOptions,
    threaded: bool,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("board", &self.board).finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(options: PoolOptions, threaded: bool) -> Self {
        let compactions = sizing::compactions_wanted(options.compactions_max, sizing::cpus());
        let board = Arc::new(Board::new(compactions));
        Shared { board, options, threaded, threads: Mutex::new(Vec::new()) }
    }

    pub(super) fn workers(&self) -> usize {
        lock(&self.threads).len()
    }

    /// Starts as many threads as there should be now.
    pub(super) fn start_workers(&self) -> io::Result<()> {
        if !self.threaded {
            return Ok(());
        }
        let databases = self.board.databases();
        let PoolOptions { workers, workers_max, .. } = self.options;
        let wanted = sizing::workers_wanted(workers, workers_max, sizing::cpus(), databases);
        let mut threads = lock(&self.threads);
        while threads.len() < wanted {
            let (board, options) = (Arc::clone(&self.board), self.options.clone());
            match spawn(&format!("corten-work-{}", threads.len()), move || run(&board, &options)) {
                Ok(thread) => threads.push(thread),
                // Fewer than wanted do the work, too.
                Err(_) if !threads.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn step(&self) -> bool {
        match self.board.take(self.options.clock.monotonic()) {
            Next::Task(taken) => {
                step(&self.board, *taken, &self.options);
                true
            }
            Next::Nothing(_) | Next::Stop => false,
        }
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        let due = self.board.next_due()?;
        Some(due.saturating_sub(self.options.clock.monotonic()))
    }

    /// Stops the work of a queue, and returns when none of it runs.
    pub(super) fn close(&self, queue: u64) {
        for mut task in self.board.close(queue) {
            // It has nobody left to tell, and the others must be stopped, too.
            let _ = catch_unwind(AssertUnwindSafe(move || task.stop()));
        }
        self.board.wait_for_workers(queue);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.board.stop();
        for thread in lock(&self.threads).drain(..) {
            // The last handle may be dropped by work that a thread of the pool does: it ends by itself then.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

fn run(board: &Board, options: &PoolOptions) {
    priority::lower();
    if let Some(on_worker_start) = &options.on_worker_start {
        on_worker_start();
    }
    while let Next::Task(taken) = board.take_or_wait(|| options.clock.monotonic()) {
        step(board, *taken, options);
    }
}

/// One step of a task, whatever comes of it.
pub(crate) fn step(board: &Board, taken: Taken, options: &PoolOptions) {
    let Taken { queue, mut task, on_failure } = taken;
    let kind = task.kind();
    let tell = |failure| {
        // A hook that panics must not take the worker with it.
        let _ = catch_unwind(AssertUnwindSafe(|| on_failure(failure)));
    };
    let next = match catch_unwind(AssertUnwindSafe(|| task.work.step())) {
        Ok(Ok(next)) => {
            task.failures = 0;
            next
        }
        Ok(Err(error)) => {
            tell(Failure::Error(error));
            task.failures += 1;
            Step::Wait(backoff(task.failures))
        }
        Err(panic) => {
            tell(Failure::Panic(message(&*panic)));
            let _ = catch_unwind(AssertUnwindSafe(move || drop(task)));
            return board.end(queue, kind);
        }
    };
    if let Some(mut task) = board.put_back(queue, task, next, options.clock.monotonic()) {
        let stopped = catch_unwind(AssertUnwindSafe(move || task.stop()));
        if let Err(panic) = stopped {
            tell(Failure::Panic(message(&*panic)));
        }
        board.end(queue, kind);
    }
}

/// How long a task waits that has failed so often in a row: twice as long each time.
fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << (failures.clamp(1, 20) - 1)).min(BACKOFF_MAX)
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_from_a_tenth_of_a_second_to_a_minute() {
        assert_eq!(backoff(1), BACKOFF_MIN);
        assert_eq!(backoff(2), 2 * BACKOFF_MIN);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }
}
