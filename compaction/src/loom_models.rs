//! Models of the pool's board, which loom runs through every interleaving up to a bound on preemptions.
//!
//! `cargo xtask loom` runs them. Time stands still, so what waits is only called by a notification.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use loom::thread;

use crate::pool::board::{Board, Next};
use crate::pool::{Kind, Step, Work, WorkError, step};

/// Notes how many step it at a time, and what it was stopped by.
#[derive(Default)]
struct Ledger {
    steps: AtomicUsize,
    inside: AtomicUsize,
    inside_max: AtomicUsize,
    stops: AtomicUsize,
}

struct Noted {
    ledger: Arc<Ledger>,
    /// What each step answers; `Done` when there is no more.
    answers: Vec<Step>,
}

impl Work for Noted {
    fn step(&mut self) -> Result<Step, WorkError> {
        let inside = self.ledger.inside.fetch_add(1, SeqCst) + 1;
        self.ledger.inside_max.fetch_max(inside, SeqCst);
        // Lets the others run while this step is under way.
        thread::yield_now();
        self.ledger.inside.fetch_sub(1, SeqCst);
        self.ledger.steps.fetch_add(1, SeqCst);
        Ok(self.answers.pop().unwrap_or(Step::Done))
    }

    fn stop(&mut self) {
        self.ledger.stops.fetch_add(1, SeqCst);
    }
}

const LONG: Duration = Duration::from_secs(1);

fn worker(board: &Arc<Board>) -> thread::JoinHandle<()> {
    let board = Arc::clone(board);
    thread::spawn(move || {
        while let Next::Task(taken) = board.take_or_wait(|| Duration::ZERO) {
            step(&board, *taken, &crate::PoolOptions::default());
        }
    })
}

fn open(board: &Board) -> u64 {
    board.open("model", Arc::new(|failure| panic!("{failure}")))
}

#[test]
fn two_workers_never_step_one_task_together_nor_two_compactions() {
    loom::model(|| {
        let board = Arc::new(Board::new(1));
        let ledger = Arc::new(Ledger::default());
        let queue = open(&board);
        let workers = [worker(&board), worker(&board)];
        for _ in 0..2 {
            let work = Noted { ledger: Arc::clone(&ledger), answers: Vec::new() };
            board.submit(queue, Kind::Compaction, Box::new(work));
        }
        while ledger.steps.load(SeqCst) < 2 {
            thread::yield_now();
        }
        board.close(queue);
        board.wait_for_workers(queue);
        board.stop();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(ledger.inside_max.load(SeqCst), 1);
        assert_eq!(ledger.stops.load(SeqCst), 2, "each is stopped once");
    });
}

#[test]
fn a_notification_during_a_step_is_not_lost() {
    loom::model(|| {
        let board = Arc::new(Board::new(1));
        let ledger = Arc::new(Ledger::default());
        let queue = open(&board);
        let answers = vec![Step::Done, Step::Wait(LONG)];
        let work = Noted { ledger: Arc::clone(&ledger), answers };
        board.submit(queue, Kind::Other, Box::new(work));
        let worker = worker(&board);
        while ledger.inside.load(SeqCst) == 0 && ledger.steps.load(SeqCst) == 0 {
            thread::yield_now();
        }
        // The first step has begun, and answers that it waits; without a second step this never ends.
        board.notify(queue);
        while ledger.steps.load(SeqCst) < 2 {
            thread::yield_now();
        }
        board.stop();
        worker.join().unwrap();
    });
}

#[test]
fn closing_beside_a_step_stops_the_work_once_and_leaves_none_running() {
    loom::model(|| {
        let board = Arc::new(Board::new(1));
        let ledger = Arc::new(Ledger::default());
        let queue = open(&board);
        let worker = worker(&board);
        let work = Noted { ledger: Arc::clone(&ledger), answers: vec![Step::Wait(LONG)] };
        board.submit(queue, Kind::Compaction, Box::new(work));
        for mut task in board.close(queue) {
            task.stop();
        }
        board.wait_for_workers(queue);
        assert_eq!(ledger.stops.load(SeqCst), 1);
        assert_eq!(ledger.inside.load(SeqCst), 0);
        board.stop();
        worker.join().unwrap();
    });
}
