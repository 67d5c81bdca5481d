//! What the load driver promises: waiting counts in an open loop, nothing is lost at the edges, errors stop the run.

#![expect(clippy::disallowed_methods, reason = "a store that stalls is made with a sleep")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cortenkv_bench::Error;
use cortenkv_bench::driver::{self, Load, Pace, Simple, Step, Until, Worker};
use cortenkv_bench::latency::LatencySummary;

const STALL: Duration = Duration::from_millis(120);

/// A store that answers at once, and stalls in its 50th operation.
fn run_with_one_stall(pace: Pace, until: Until) -> driver::Measured {
    let mut load = Load::closed(1, "op", Duration::ZERO, until);
    load.pace = pace;
    driver::run(&load, |_| {
        let mut calls = 0;
        Ok(Box::new(Simple(move || {
            calls += 1;
            if calls == 50 {
                std::thread::sleep(STALL);
            }
            Ok(())
        })))
    })
    .unwrap()
}

fn latency(measured: &driver::Measured) -> LatencySummary {
    measured.latencies[0].1.summary()
}

#[test]
fn open_loop_charges_a_stall_to_everything_that_was_due() {
    let pace = Pace::Open { rate_per_second: 1000.0 };
    let open = run_with_one_stall(pace, Until::Operations(400));
    // 120 of 400 operations were due during the stall; the one in ten that waited longest waited most of it.
    assert!(latency(&open).p95_ns > STALL.as_nanos() as u64 / 2, "{:?}", latency(&open));
    let closed = run_with_one_stall(Pace::Closed, Until::Operations(400));
    assert!(latency(&closed).p95_ns < STALL.as_nanos() as u64 / 10, "{:?}", latency(&closed));
    assert!(latency(&closed).max_ns >= STALL.as_nanos() as u64);
}

#[test]
fn open_loop_keeps_its_rate_when_the_store_is_fast() {
    let pace = Pace::Open { rate_per_second: 2000.0 };
    let mut load =
        Load::closed(2, "op", Duration::ZERO, Until::Elapsed(Duration::from_millis(200)));
    load.pace = pace;
    let measured = driver::run(&load, |_| Ok(Box::new(Simple(|| Ok(()))))).unwrap();
    assert_eq!(measured.ops + measured.not_started, 400);
    assert!(measured.elapsed >= Duration::from_millis(200));
}

#[test]
fn open_loop_counts_what_never_started() {
    let pace = Pace::Open { rate_per_second: 1000.0 };
    let mut load =
        Load::closed(1, "op", Duration::ZERO, Until::Elapsed(Duration::from_millis(100)));
    load.pace = pace;
    let measured = driver::run(&load, |_| {
        Ok(Box::new(Simple(|| {
            std::thread::sleep(Duration::from_millis(60));
            Ok(())
        })))
    })
    .unwrap();
    assert_eq!(measured.ops + measured.not_started, 100);
    assert!(measured.not_started > 80, "{}", measured.not_started);
    // They have waited, and are in the histogram with what they waited.
    assert_eq!(latency(&measured).samples, 100);
    assert!(latency(&measured).p50_ns > 20_000_000, "{:?}", latency(&measured));
}

#[test]
fn operation_counts_are_exact_whatever_the_threads_and_samples() {
    for (threads, sample_every, total) in [(1, 1, 7), (3, 1, 100), (3, 16, 100), (4, 1000, 10)] {
        let done = AtomicU64::new(0);
        let mut load = Load::closed(threads, "op", Duration::ZERO, Until::Operations(total));
        load.sample_every = sample_every;
        let measured = driver::run(&load, |_| {
            Ok(Box::new(Simple(|| {
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })))
        })
        .unwrap();
        assert_eq!(measured.ops, total);
        assert_eq!(measured.ops_with_warm_up, total);
        assert_eq!(done.load(Ordering::Relaxed), total);
    }
}

#[test]
fn warm_up_is_done_and_not_measured() {
    let warm_up = Duration::from_millis(40);
    let load = Load::closed(2, "op", warm_up, Until::Operations(10));
    let begin = Instant::now();
    let measured = driver::run(&load, |_| Ok(Box::new(Simple(|| Ok(()))))).unwrap();
    assert!(begin.elapsed() >= warm_up);
    assert_eq!(measured.ops, 10);
    assert_eq!(latency(&measured).samples, 10);
    assert!(measured.ops_with_warm_up > 10, "{}", measured.ops_with_warm_up);
}

#[test]
fn a_stall_across_the_end_counts() {
    let until = Until::Elapsed(Duration::from_millis(10));
    let measured = driver::run(&Load::closed(1, "op", Duration::ZERO, until), |_| {
        Ok(Box::new(Simple(|| {
            std::thread::sleep(STALL);
            Ok(())
        })))
    })
    .unwrap();
    assert_eq!(measured.ops, 1);
    assert!(measured.elapsed >= STALL);
    assert!(latency(&measured).max_ns >= STALL.as_nanos() as u64);
}

#[test]
fn seconds_add_up_to_the_operations_of_whole_seconds() {
    let until = Until::Elapsed(Duration::from_millis(1100));
    let measured = driver::run(&Load::closed(2, "op", Duration::ZERO, until), |_| {
        Ok(Box::new(Simple(|| {
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        })))
    })
    .unwrap();
    assert_eq!(measured.per_second.len(), 1);
    let first = measured.per_second[0];
    assert!(first.ops > 0 && first.ops < measured.ops, "{first:?} of {}", measured.ops);
    assert!(first.max_ns >= 2_000_000);
}

/// Completes each operation two calls after it began.
struct Delayed {
    begun: std::collections::VecDeque<Instant>,
    finished: bool,
}

impl Worker for Delayed {
    fn step(&mut self, from: Instant) -> cortenkv_bench::Result<Step> {
        assert!(!self.finished);
        std::thread::sleep(Duration::from_millis(5));
        self.begun.push_back(from);
        if self.begun.len() < 3 {
            return Ok(Step { operation: 0, completed: 0, from });
        }
        let from = self.begun.pop_front().unwrap();
        Ok(Step { operation: 0, completed: 1, from })
    }

    fn finish(&mut self) -> cortenkv_bench::Result<()> {
        assert_eq!(self.begun.len(), 2);
        self.finished = true;
        Ok(())
    }
}

#[test]
fn latency_of_work_in_flight_counts_from_its_begin() {
    let load = Load::closed(1, "op", Duration::ZERO, Until::Operations(10));
    let measured = driver::run(&load, |_| {
        Ok(Box::new(Delayed { begun: std::collections::VecDeque::new(), finished: false }))
    })
    .unwrap();
    assert_eq!(measured.ops, 10);
    // Three sleeps of 5 ms lie between begin and end of each.
    assert!(latency(&measured).p50_ns >= 15_000_000, "{:?}", latency(&measured));
}

#[test]
fn the_first_error_stops_every_thread() {
    let until = Until::Elapsed(Duration::from_secs(60));
    let begin = Instant::now();
    let error = driver::run(&Load::closed(3, "op", Duration::ZERO, until), |thread| {
        let mut calls = 0;
        Ok(Box::new(Simple(move || {
            calls += 1;
            if thread == 1 && calls == 100 { Err(Error::new("the disk is gone")) } else { Ok(()) }
        })))
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "the disk is gone");
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_worker_that_cannot_be_made_fails_the_run() {
    let until = Until::Elapsed(Duration::from_secs(60));
    let load = Load::closed(3, "op", Duration::ZERO, until);
    let error = driver::run(&load, |thread| match thread {
        2 => Err(Error::new("no buffer")),
        _ => Ok(Box::new(Simple(|| Ok(()))) as Box<dyn Worker>),
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "no buffer");
    let error = driver::run(&load, |thread| {
        assert!(thread != 1, "seen by the test only");
        Ok(Box::new(Simple(|| Ok(()))) as Box<dyn Worker>)
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "making a worker panicked");
}

#[test]
fn senseless_loads_are_refused() {
    let until = Until::Operations(1);
    let refused = |change: fn(&mut Load)| {
        let mut load = Load::closed(1, "op", Duration::ZERO, until);
        change(&mut load);
        driver::run(&load, |_| Ok(Box::new(Simple(|| Ok(()))))).is_err()
    };
    assert!(refused(|load| load.threads = 0));
    assert!(refused(|load| load.threads = 1_000_000));
    assert!(refused(|load| load.sample_every = 0));
    assert!(refused(|load| load.pace = Pace::Open { rate_per_second: 0.0 }));
    assert!(refused(|load| load.pace = Pace::Open { rate_per_second: f64::NAN }));
    assert!(!refused(|_| {}));
}
