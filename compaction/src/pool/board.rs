//! Who works on what next: the queues of all databases under one lock.
//!
//! # Invariants
//! - A task is in one place: ready, waiting, or with one worker. So no two workers step the same work.
//! - A task that waits and a notification that comes while it is stepped do not miss one another: each queue counts its
//!   notifications, and a task that was taken before the last one does not wait.
//! - Whoever takes a task wakes the next worker if there is more to take, so no task lies while a worker sleeps.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::Duration;

use super::{Failure, Kind, Step, Work};
use crate::sync::{Condvar, Mutex, MutexGuard, lock, wait};

type OnFailure = std::sync::Arc<dyn Fn(Failure) + Send + Sync>;

/// The numbers of a pool.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Threads that run.
    pub workers: usize,
    /// Steps that were done.
    pub steps: u64,
    /// Ready tasks by open queues.
    pub queue_depth_average: f64,
    /// Each open queue.
    pub queues: Vec<QueueStats>,
}

/// The numbers of one queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// The name that it was opened with.
    pub name: String,
    /// Tasks that could run now, but no worker is free.
    pub depth: usize,
    /// Tasks that a worker is at.
    pub running: usize,
    /// Tasks that wait for time to pass, or to be notified.
    pub waiting: usize,
    /// Steps that were done.
    pub steps: u64,
}

pub(crate) struct Task {
    kind: Kind,
    pub(super) work: Box<dyn Work>,
    /// Steps that have failed in a row.
    pub(super) failures: u32,
    /// The notifications of the queue when it was taken.
    seen: u64,
}

struct Waiting {
    due: Duration,
    task: Task,
}

struct Queue {
    name: String,
    on_failure: OnFailure,
    ready: VecDeque<Task>,
    waiting: Vec<Waiting>,
    running: usize,
    notified: u64,
    closing: bool,
    steps: u64,
}

#[derive(Default)]
struct State {
    queues: BTreeMap<u64, Queue>,
    opened: u64,
    /// The queue that was served last.
    last: u64,
    compactions: usize,
    stop: bool,
}

/// What a worker has taken.
pub(crate) struct Taken {
    pub(super) queue: u64,
    pub(super) task: Task,
    pub(super) on_failure: OnFailure,
}

/// What a worker finds.
pub(crate) enum Next {
    Task(Box<Taken>),
    /// Nothing to do, until something is due.
    Nothing(Option<Duration>),
    Stop,
}

pub(crate) struct Board {
    compactions_max: usize,
    state: Mutex<State>,
    /// There may be something to take, or the pool stops.
    work: Condvar,
    /// A queue that closes has one task fewer running.
    returned: Condvar,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("stats", &self.stats(0)).finish_non_exhaustive()
    }
}

impl Board {
    pub(crate) fn new(compactions_max: usize) -> Self {
        let (state, work, returned) = (Mutex::default(), Condvar::new(), Condvar::new());
        Board { compactions_max, state, work, returned }
    }

    pub(crate) fn open(&self, name: &str, on_failure: OnFailure) -> u64 {
        let mut state = lock(&self.state);
        state.opened += 1;
        let id = state.opened;
        let queue = Queue {
            name: name.to_owned(),
            on_failure,
            ready: VecDeque::new(),
            waiting: Vec::new(),
            running: 0,
            notified: 0,
            closing: false,
            steps: 0,
        };
        state.queues.insert(id, queue);
        id
    }

    pub(crate) fn databases(&self) -> usize {
        lock(&self.state).queues.len()
    }

    pub(crate) fn submit(&self, queue: u64, kind: Kind, work: Box<dyn Work>) {
        let mut state = lock(&self.state);
        if let Some(queue) = state.queues.get_mut(&queue) {
            queue.ready.push_back(Task { kind, work, failures: 0, seen: 0 });
            self.work.notify_one();
        }
    }

    pub(crate) fn notify(&self, queue: u64) {
        let mut state = lock(&self.state);
        if let Some(queue) = state.queues.get_mut(&queue) {
            queue.notified += 1;
            queue.ready.extend(queue.waiting.drain(..).map(|waiting| waiting.task));
            self.work.notify_one();
        }
    }

    /// The next task, if any can run at this time.
    pub(crate) fn take(&self, now: Duration) -> Next {
        self.take_from(&mut lock(&self.state), now)
    }

    /// The next task, waiting for it. `now` is asked again after each wake-up.
    pub(crate) fn take_or_wait(&self, now: impl Fn() -> Duration) -> Next {
        let mut state = lock(&self.state);
        loop {
            let time = now();
            match self.take_from(&mut state, time) {
                Next::Nothing(due) => {
                    let timeout = due.map(|due| due.saturating_sub(time));
                    state = wait(&self.work, state, timeout);
                }
                next => return next,
            }
        }
    }

    fn take_from(&self, state: &mut MutexGuard<'_, State>, now: Duration) -> Next {
        if state.stop {
            return Next::Stop;
        }
        state.make_due_ready(now);
        let Some((id, place)) = state.next_place(self.compactions_max) else {
            let waiting = state.queues.values().flat_map(|queue| &queue.waiting);
            return Next::Nothing(waiting.map(|waiting| waiting.due).min());
        };
        state.last = id;
        let queue = state.queues.get_mut(&id).expect("it was found a moment ago");
        let mut task = queue.ready.remove(place).expect("it was found a moment ago");
        task.seen = queue.notified;
        queue.running += 1;
        queue.steps += 1;
        let on_failure = OnFailure::clone(&queue.on_failure);
        state.compactions += usize::from(task.kind == Kind::Compaction);
        if state.next_place(self.compactions_max).is_some() {
            self.work.notify_one();
        }
        Next::Task(Box::new(Taken { queue: id, task, on_failure }))
    }

    /// Takes a task back after its step. A task that does not go on, because the queue closes, is given to the caller, who
    /// stops it and then calls [`end`](Self::end).
    pub(crate) fn put_back(&self, id: u64, task: Task, step: Step, now: Duration) -> Option<Task> {
        let mut state = lock(&self.state);
        let queue = state.queues.get_mut(&id).expect("a queue waits for its running tasks");
        if queue.closing || step == Step::Done {
            return Some(task);
        }
        let kind = task.kind;
        match step {
            Step::Wait(time) if task.seen == queue.notified => {
                queue.waiting.push(Waiting { due: now.saturating_add(time), task });
            }
            _ => queue.ready.push_back(task),
        }
        self.release(&mut state, id, kind);
        None
    }

    /// A task that a worker had is gone.
    pub(crate) fn end(&self, id: u64, kind: Kind) {
        self.release(&mut lock(&self.state), id, kind);
    }

    fn release(&self, state: &mut MutexGuard<'_, State>, id: u64, kind: Kind) {
        state.compactions -= usize::from(kind == Kind::Compaction);
        let queue = state.queues.get_mut(&id).expect("a queue waits for its running tasks");
        queue.running -= 1;
        if queue.closing {
            self.returned.notify_all();
        }
        // Whoever sleeps may take what was put back, or wait for it with a shorter timeout.
        self.work.notify_one();
    }

    /// Ends a queue: no task of it is taken from now on. Returns those that no worker has, and then whatever
    /// [`wait_for_workers`](Self::wait_for_workers) waits for is all that is left.
    pub(crate) fn close(&self, id: u64) -> Vec<Task> {
        let mut state = lock(&self.state);
        let Some(queue) = state.queues.get_mut(&id) else { return Vec::new() };
        queue.closing = true;
        let waiting = queue.waiting.drain(..).map(|waiting| waiting.task);
        waiting.chain(queue.ready.drain(..)).collect()
    }

    /// Waits until no worker has a task of a closed queue, and forgets the queue.
    pub(crate) fn wait_for_workers(&self, id: u64) {
        let mut state = lock(&self.state);
        while state.queues.get(&id).is_some_and(|queue| queue.running > 0) {
            state = wait(&self.returned, state, None);
        }
        state.queues.remove(&id);
    }

    /// No task is taken any more; every worker ends.
    pub(crate) fn stop(&self) {
        lock(&self.state).stop = true;
        self.work.notify_all();
    }

    pub(crate) fn next_due(&self) -> Option<Duration> {
        let state = lock(&self.state);
        state.queues.values().flat_map(|queue| &queue.waiting).map(|waiting| waiting.due).min()
    }

    pub(crate) fn stats(&self, workers: usize) -> PoolStats {
        let state = lock(&self.state);
        let stats_of = |queue: &Queue| QueueStats {
            name: queue.name.clone(),
            depth: queue.ready.len(),
            running: queue.running,
            waiting: queue.waiting.len(),
            steps: queue.steps,
        };
        let queues: Vec<QueueStats> = state.queues.values().map(stats_of).collect();
        let depth: usize = queues.iter().map(|queue| queue.depth).sum();
        PoolStats {
            workers,
            steps: queues.iter().map(|queue| queue.steps).sum(),
            queue_depth_average: depth as f64 / queues.len().max(1) as f64,
            queues,
        }
    }
}

impl State {
    fn make_due_ready(&mut self, now: Duration) {
        for queue in self.queues.values_mut() {
            let due = queue.waiting.extract_if(.., |waiting| waiting.due <= now);
            queue.ready.extend(due.map(|waiting| waiting.task));
        }
    }

    /// The queue whose turn it is and the place of a task in it that may run: the first behind the one served last.
    fn next_place(&self, compactions_max: usize) -> Option<(u64, usize)> {
        let may_run =
            |task: &Task| task.kind != Kind::Compaction || self.compactions < compactions_max;
        let in_turn = self.queues.range(self.last + 1..).chain(self.queues.range(..=self.last));
        in_turn.filter_map(|(&id, queue)| Some((id, queue.ready.iter().position(may_run)?))).next()
    }
}

impl Task {
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn stop(&mut self) {
        self.work.stop();
    }
}
