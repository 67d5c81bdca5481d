//! Futures: they never lead, and every one of them is woken.

use super::canary;
use super::toy::{Defect, Toy, deaf_waker};
use crate::error::Result;
use crate::record::SeqNo;
use crate::sync::{Arc, thread};

/// One ticket that is awaited beside a thread that commits and a background thread that leads for futures.
fn awaited(failing: Option<u64>, defect: Defect, check: fn(&Toy, Result<SeqNo>)) {
    loom::model(move || {
        let toy = Arc::new(Toy::new(failing, defect));
        let (server, writer) = (Arc::clone(&toy), Arc::clone(&toy));
        let server = thread::spawn(move || server.serve());
        let writer = thread::spawn(move || writer.commit());
        check(&toy, Toy::ticket(&toy).block_on());
        check(&toy, writer.join().unwrap());
        toy.signals.stop();
        server.join().unwrap();
        toy.assert_idle();
    });
}

/// Two tickets; the first is dropped after one poll.
fn one_dropped(defect: Defect) {
    loom::model(move || {
        let toy = Arc::new(Toy::new(None, defect));
        let server = Arc::clone(&toy);
        let server = thread::spawn(move || server.serve());
        let dropped = Toy::ticket(&toy);
        let kept = Toy::ticket(&toy);
        let dropping = thread::spawn(move || {
            let _ = dropped.poll(&deaf_waker());
        });
        kept.block_on().unwrap();
        dropping.join().unwrap();
        toy.signals.stop();
        server.join().unwrap();
        toy.assert_idle();
    });
}

#[test]
fn a_ticket_is_woken_whoever_leads() {
    awaited(None, Defect::None, |_, result| assert!(result.is_ok()));
}

#[test]
fn a_ticket_is_woken_when_the_sync_fails() {
    awaited(Some(0), Defect::None, |toy, result| {
        assert!(result.is_ok() || toy.latch.check().is_err())
    });
}

#[test]
fn a_dropped_ticket_is_forgotten_and_takes_nobody_with_it() {
    one_dropped(Defect::None);
}

#[test]
fn canary_nobody_leads_when_only_futures_wait() {
    canary("ticket::canary_nobody_leads_when_only_futures_wait", "deadlock", || {
        awaited(None, Defect::NoLeaderForTickets, |_, _| {})
    });
}

#[test]
fn canary_a_dropped_ticket_that_takes_the_waker_of_another() {
    canary("ticket::canary_a_dropped_ticket_that_takes_the_waker_of_another", "deadlock", || {
        one_dropped(Defect::TicketsMixedUp)
    });
}
