//! Sequence numbers from one atomic against a call that blocks for an answer (P1, P4).

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use crate::driver::{self, Simple, Worker};
use crate::error::{Context, Error, Result};
use crate::log_store::{Class, Promise};
use crate::process::cpu_time;
use crate::report::Row;
use crate::suite::{Case, Conclusion, Outcome, Plan, Suite};
use crate::suites::row;

/// A number from the atomic takes less than reading the clock; one in so many is timed.
const SAMPLE_EVERY: u32 = 64;

/// See the module.
pub struct Sequence;

impl Suite for Sequence {
    fn name(&self) -> &'static str {
        "sequence"
    }

    fn about(&self) -> &'static str {
        "Takes sequence numbers from an atomic, under a lock, and from another thread that answers requests."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let mut cases = Vec::new();
        for threads in plan.threads_or(&[1, 2]) {
            for source in [Source::Atomic, Source::Lock, Source::BlockingCall] {
                cases.push(case(source, threads));
            }
        }
        cases
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let speed = |case| row(medians, case).map(|row| row.ops_per_second);
        let (Some(atomic), Some(call)) = (speed("atomic-t2"), speed("blocking-call-t2")) else {
            return Vec::new();
        };
        let text =
            "two threads: numbers per second from the atomic over the blocking call".to_string();
        vec![Conclusion { text, value: atomic / call, goal: None }]
    }
}

#[derive(Clone, Copy)]
enum Source {
    Atomic,
    Lock,
    BlockingCall,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Source::Atomic => "atomic",
            Source::Lock => "lock",
            Source::BlockingCall => "blocking-call",
        }
    }

    fn settings(self) -> &'static str {
        match self {
            Source::Atomic => "one fetch_add",
            Source::Lock => "increment under a mutex",
            Source::BlockingCall => "request to a thread through a channel, answer through another",
        }
    }
}

fn case(source: Source, threads: usize) -> Case {
    Case {
        name: format!("{}-t{threads}", source.name()),
        settings: source.settings().into(),
        promise: Promise::new(Class::Memory, "nothing is stored"),
        threads,
        prepare: None,
        run: Box::new(move |context| {
            let mut load = context.plan.timed_load(threads, "next");
            if load.pace == driver::Pace::Closed {
                load.sample_every = SAMPLE_EVERY;
            }
            let cpu_before = cpu_time();
            let measured = match source {
                Source::Atomic => {
                    let next = AtomicU64::new(0);
                    driver::run(&load, |_| {
                        let next = &next;
                        Ok(simple(move || {
                            std::hint::black_box(next.fetch_add(1, Ordering::Relaxed));
                            Ok(())
                        }))
                    })
                }
                Source::Lock => {
                    let next = Mutex::new(0u64);
                    driver::run(&load, |_| {
                        let next = &next;
                        Ok(simple(move || {
                            let mut next =
                                next.lock().map_err(|_| Error::new("a taker panicked"))?;
                            *next += 1;
                            Ok(())
                        }))
                    })
                }
                Source::BlockingCall => blocking_calls(&load),
            }?;
            Ok(Outcome::of_run(&measured, cpu_time() - cpu_before, None))
        }),
    }
}

fn simple<'a>(take: impl FnMut() -> Result<()> + 'a) -> Box<dyn Worker + 'a> {
    Box::new(Simple(take))
}

fn blocking_calls(load: &driver::Load) -> Result<driver::Measured> {
    let (requests, inbox) = sync_channel::<SyncSender<u64>>(load.threads);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Ends when the last taker has dropped its sender.
            for (next, answer) in (0u64..).zip(inbox) {
                // A taker that is gone needs no answer.
                let _ = answer.send(next);
            }
        });
        let measured = driver::run(load, |_| {
            let requests = requests.clone();
            let (answer, answers) = sync_channel::<u64>(1);
            Ok(simple(move || {
                requests.send(answer.clone()).context(|| "the giver is gone".into())?;
                let number = answers.recv().context(|| "the giver is gone".into())?;
                std::hint::black_box(number);
                Ok(())
            }))
        });
        drop(requests);
        measured
    })
}
