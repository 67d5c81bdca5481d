//! Links under loom: what they lead to is dropped after its last reader (row L9 of the plan of checks).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use loom::thread;

use super::memory::{Link, Linked};
use crate::loom_models::point::{canary, model};
use crate::reclaim::{Guard, pin};

/// What a link leads to, and whether it was dropped.
struct Node {
    next: Link<Node>,
    dropped: Arc<AtomicBool>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

fn node() -> Box<Node> {
    Box::new(Node { next: Link::null(), dropped: Arc::new(AtomicBool::new(false)) })
}

fn target<'g>(link: &'g Link<Node>, guard: &'g Guard) -> &'g Node {
    match link.load(guard) {
        Linked::To(node) => node,
        Linked::Null | Linked::FrozenNull => unreachable!("never null"),
    }
}

/// A node that two threads retire while a third one reads it.
fn a_node_that_is_retired_while_it_is_read() {
    model(|| {
        let first = node();
        let first_dropped = Arc::clone(&first.dropped);
        assert!(first.next.publish(node()).is_ok());
        let link = Arc::new(Link::to(first));
        let writers = [(); 2].map(|()| {
            let link = Arc::clone(&link);
            thread::spawn(move || {
                let guard = pin();
                let old = target(&link, &guard);
                let has_next = matches!(old.next.load(&guard), Linked::To(_));
                has_next && link.advance(old, &old.next, &guard)
            })
        });
        {
            let guard = pin();
            let dropped = Arc::clone(&target(&link, &guard).dropped);
            thread::yield_now();
            assert!(!dropped.load(Ordering::Relaxed), "dropped under a guard");
        }
        let advanced = writers.into_iter().map(|w| w.join().unwrap());
        assert_eq!(advanced.filter(|&advanced| advanced).count(), 1, "one of two retires it");
        drop(pin());
        assert!(first_dropped.load(Ordering::Relaxed), "never dropped");
        let mut link = Arc::into_inner(link).expect("the writers ended");
        drop(link.take());
    });
}

#[test]
fn a_node_is_dropped_after_its_last_reader() {
    a_node_that_is_retired_while_it_is_read();
}

#[test]
fn canary_a_node_that_is_dropped_at_once() {
    canary(
        "point::bucket::loom_models::canary_a_node_that_is_dropped_at_once",
        "retired-at-once",
        a_node_that_is_retired_while_it_is_read,
    );
}
