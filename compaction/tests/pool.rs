//! The pool: fair, bounded, and orderly when something goes wrong or ends.

mod common;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use common::{ManualClock, MemoryStore};
use cortenkv_compaction::{
    Failure, Kind, Limits, PoolOptions, Scheduler, SchedulerOptions, Step, Work, WorkError,
    WorkerPool,
};

/// Work that is a closure.
struct Steps<F>(F, Arc<AtomicUsize>);

impl<F: FnMut() -> Result<Step, WorkError> + Send> Work for Steps<F> {
    fn step(&mut self) -> Result<Step, WorkError> {
        (self.0)()
    }

    fn stop(&mut self) {
        self.1.fetch_add(1, SeqCst);
    }
}

fn steps(step: impl FnMut() -> Result<Step, WorkError> + Send) -> impl Work {
    Steps(step, Arc::default())
}

fn manual() -> (WorkerPool, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let mut options = PoolOptions::default();
    options.clock = clock.clone();
    (WorkerPool::manual(options), clock)
}

/// Counts, and lets others wait for a number.
#[derive(Clone, Default)]
struct Count(Arc<(Mutex<usize>, Condvar)>);

impl Count {
    fn add(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    fn wait_for(&self, n: usize) {
        let guard = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(guard, |count| *count < n).unwrap());
    }
}

#[test]
fn databases_take_turns_whatever_they_have_to_do() {
    let (pool, _) = manual();
    let order = Arc::new(Mutex::new(String::new()));
    let task = |name: char, mut n: u32| {
        let order = Arc::clone(&order);
        steps(move || {
            order.lock().unwrap().push(name);
            n -= 1;
            Ok(if n == 0 { Step::Done } else { Step::Again })
        })
    };
    let (a, b) = (pool.open("a", |_| ()).unwrap(), pool.open("b", |_| ()).unwrap());
    (0..3).for_each(|_| a.submit(Kind::Other, task('a', 2)));
    b.submit(Kind::Other, task('b', 3));
    let stats = pool.stats();
    assert_eq!((stats.workers, stats.queue_depth_average), (0, 2.0));
    assert_eq!((stats.queues[0].name.as_str(), stats.queues[0].depth), ("a", 3));
    while pool.step() {}
    assert_eq!(*order.lock().unwrap(), "abababaaa");
    assert_eq!((pool.stats().steps, pool.stats().queue_depth_average), (9, 0.0));
}

#[test]
fn work_that_waits_comes_back_when_its_time_has_come_or_it_is_notified() {
    let (pool, clock) = manual();
    let queue = pool.open("a", |_| ()).unwrap();
    queue.submit(Kind::Other, steps(|| Ok(Step::Wait(Duration::from_secs(5)))));
    assert!(pool.step() && !pool.step());
    assert_eq!(pool.next_due(), Some(Duration::from_secs(5)));
    assert_eq!(pool.stats().queues[0].waiting, 1);
    clock.advance(Duration::from_secs(5));
    assert!(pool.step() && !pool.step());
    queue.notify();
    assert!(pool.step() && !pool.step());
}

#[test]
fn an_error_is_told_and_tried_again_later_each_time_after_twice_as_long() {
    let (pool, clock) = manual();
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let queue = pool.open("a", move |f: Failure| log.lock().unwrap().push(f.to_string())).unwrap();
    let mut n = 0;
    queue.submit(
        Kind::Compaction,
        steps(move || {
            n += 1;
            if n == 3 { Ok(Step::Again) } else { Err("the disk is on fire".into()) }
        }),
    );
    let mut waits_ms = Vec::new();
    for _ in 0..3 {
        while pool.step() {}
        let due = pool.next_due().expect("it waits");
        waits_ms.push(due.as_millis());
        clock.advance(due);
    }
    assert_eq!(waits_ms, [100, 200, 100], "a step that works starts the count anew");
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 3);
    assert_eq!(told[0], "background work failed and is tried again: the disk is on fire");
}

#[test]
fn a_panic_ends_the_work_is_told_and_leaves_the_others_running() {
    let (pool, _) = manual();
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let queue = pool.open("a", move |f: Failure| log.lock().unwrap().push(f.to_string())).unwrap();
    queue.submit(Kind::Compaction, steps(|| panic!("a bug")));
    queue.submit(Kind::Compaction, steps(|| Ok(Step::Done)));
    while pool.step() {}
    assert_eq!(*told.lock().unwrap(), ["background work panicked: a bug"]);
    let stats = pool.stats();
    assert_eq!((stats.steps, stats.queues[0].running), (2, 0), "the place of the first is free");
}

#[test]
fn closing_a_queue_stops_all_its_work_once_and_waits_for_what_runs() {
    let mut options = PoolOptions::default();
    options.workers = 2;
    let pool = WorkerPool::new(options);
    let (stopped, begun) = (Arc::new(AtomicUsize::new(0)), Count::default());
    let inside = Arc::new(AtomicUsize::new(0));
    let queue = pool.open("a", |failure| panic!("{failure}")).unwrap();
    for step in [Step::Again, Step::Wait(Duration::from_secs(3_600)), Step::Again] {
        let (inside, begun, mut told) = (Arc::clone(&inside), begun.clone(), false);
        let body = move || {
            inside.fetch_add(1, SeqCst);
            if !std::mem::replace(&mut told, true) {
                begun.add();
            }
            inside.fetch_sub(1, SeqCst);
            Ok(step)
        };
        queue.submit(Kind::Other, Steps(body, Arc::clone(&stopped)));
    }
    begun.wait_for(3);
    drop(queue);
    assert_eq!((stopped.load(SeqCst), inside.load(SeqCst)), (3, 0));
    assert!(pool.stats().queues.is_empty());
}

#[test]
fn workers_grow_with_databases_are_named_and_end_with_the_pool() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let (log, started) = (Arc::clone(&names), Count::default());
    let count = started.clone();
    let mut options = PoolOptions::default();
    options.on_worker_start = Some(Arc::new(move || {
        log.lock().unwrap().push(std::thread::current().name().unwrap_or("").to_owned());
        count.add();
    }));
    let weak = Arc::downgrade(options.on_worker_start.as_ref().unwrap());
    let pool = WorkerPool::new(options);
    assert_eq!(pool.stats().workers, 0, "no thread before there is a database");
    let cpus = std::thread::available_parallelism().unwrap().get();
    let queues: Vec<_> = (0..=cpus).map(|n| pool.open(&n.to_string(), |_| ()).unwrap()).collect();
    assert_eq!(pool.stats().workers, 2 * (cpus + 1));
    started.wait_for(2 * (cpus + 1));
    assert!(names.lock().unwrap().iter().all(|name| name.starts_with("corten-work-")));
    drop((queues, pool));
    assert!(weak.upgrade().is_none(), "every thread has ended when the last handle is gone");
}

#[cfg(target_os = "linux")]
#[test]
fn workers_have_the_lowest_priority_and_their_starter_keeps_its_own() {
    use rustix::process::getpriority_process;
    use rustix::thread::gettid;
    let own = getpriority_process(Some(gettid())).unwrap();
    let (seen, started) = (Arc::new(Mutex::new(Vec::new())), Count::default());
    let (log, count) = (Arc::clone(&seen), started.clone());
    let mut options = PoolOptions::default();
    options.workers = 2;
    options.on_worker_start = Some(Arc::new(move || {
        log.lock().unwrap().push(getpriority_process(Some(gettid())).unwrap());
        count.add();
    }));
    let pool = WorkerPool::new(options);
    let _queue = pool.open("a", |_| ()).unwrap();
    started.wait_for(2);
    assert_eq!(*seen.lock().unwrap(), [19, 19]);
    assert_eq!(getpriority_process(Some(gettid())).unwrap(), own);
}

#[test]
fn at_most_so_many_compactions_run_at_a_time() {
    let mut options = PoolOptions::default();
    (options.workers, options.compactions_max) = (4, 1);
    let pool = WorkerPool::new(options);
    let (inside, most, done) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Count::default());
    let queues = ["a", "b"].map(|name| pool.open(name, |failure| panic!("{failure}")).unwrap());
    for n in 0..40 {
        let (inside, most, done) = (Arc::clone(&inside), Arc::clone(&most), done.clone());
        let body = move || {
            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            std::thread::yield_now();
            inside.fetch_sub(1, SeqCst);
            done.add();
            Ok(Step::Done)
        };
        queues[n % 2].submit(Kind::Compaction, steps(body));
    }
    done.wait_for(40);
    assert_eq!(most.load(SeqCst), 1);
}

#[test]
fn stress_two_stores_are_compacted_by_several_workers_under_their_writers() {
    const WRITES: u64 = 15_000;
    let mut options = PoolOptions::default();
    (options.workers, options.compactions_max) = (3, 3);
    let pool = WorkerPool::new(options);
    let mut limits = Limits::default();
    (limits.garbage_bytes_min, limits.segments_max) = (1, 4);
    (limits.segment_bytes, limits.large_bytes_min) = (300, 60);
    let jobs = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for name in ["a", "b"] {
            let (pool, jobs) = (&pool, &jobs);
            scope.spawn(move || {
                let store = Arc::new(MemoryStore::default());
                let options = SchedulerOptions { limits, ..Default::default() };
                let scheduler = Scheduler::new(Arc::clone(&store), options);
                let queue = pool.open(name, |failure| panic!("{failure}")).unwrap();
                (0..2).for_each(|_| queue.submit(Kind::Compaction, scheduler.compactor()));
                let mut expected = std::collections::BTreeMap::new();
                for n in 0..WRITES {
                    let key = [(n * 7_919 % 251) as u8];
                    if n % 10 == 3 {
                        store.delete(&key);
                        expected.remove(&key[..]);
                    } else {
                        let value = n.to_le_bytes().repeat(1 + n as usize % 9);
                        store.put(&key, &value);
                        expected.insert(key.to_vec(), value);
                    }
                    if n % 64 == 0 {
                        queue.notify();
                    }
                }
                drop(queue);
                assert!(store.is_at_rest(), "what is published is finished when a queue closes");
                store.check_liveness();
                assert_eq!(store.contents(), expected);
                assert_eq!(store.contents_after_crash(), expected);
                store.seal_active();
                scheduler.compact().expect("nothing fails");
                assert_eq!(store.contents_after_crash(), expected);
                jobs.fetch_add(scheduler.stats().jobs, SeqCst);
            });
        }
    });
    assert!(jobs.load(SeqCst) > 10);
}
