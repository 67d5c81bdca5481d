//! What the disk gives to a file by hand: alone, growing, written ahead, shared by writers.

use std::sync::Arc;
use std::time::Duration;

use crate::by_hand::ByHand;
use crate::fsync_rate;
use crate::log_cases::append_case;
use crate::log_store::{Class, Promise};
use crate::process::cpu_time;
use crate::suite::{Case, Outcome, Plan, Suite};

/// Bytes of the written-ahead ring of logs by hand.
pub const RING_BYTES: u64 = 4 << 20;

/// See the module.
pub struct Fsync;

impl Suite for Fsync {
    fn name(&self) -> &'static str {
        "fsync"
    }

    fn about(&self) -> &'static str {
        "fdatasync after small writes: the yardstick f itself, and files by hand that share syncs or do not."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let mut cases = vec![yardstick()];
        for threads in plan.threads_or(&[1, 8, 32]) {
            cases.push(append_case(Arc::new(ByHand::SyncedGrowing), threads));
            let prewritten = ByHand::SyncedPrewritten { ring_bytes: RING_BYTES };
            cases.push(append_case(Arc::new(prewritten), threads));
        }
        cases
    }
}

fn yardstick() -> Case {
    Case {
        name: "f".into(),
        settings: "pwrite of 128 bytes into written-ahead blocks, 160 bytes apart, fdatasync each"
            .into(),
        promise: Promise::new(Class::Synced, "an fdatasync of its own returned"),
        threads: 1,
        prepare: None,
        run: Box::new(|context| {
            let cpu_before = cpu_time();
            let window = Duration::from_secs_f64(context.plan.seconds);
            let rate = fsync_rate::measure(context.dir, window)?;
            let ops = rate.latency.samples;
            let elapsed = Duration::from_secs_f64(ops as f64 / rate.per_second);
            let mut outcome = Outcome::of_pass(ops, elapsed, cpu_time() - cpu_before);
            outcome.latency.insert("write and sync".into(), rate.latency);
            Ok(outcome)
        }),
    }
}
