//! Appends that are acknowledged before they are synced (P5), beside a file by hand.

use std::sync::Arc;
use std::time::Duration;

use cortenkv_wal::Durability;

use crate::by_hand::ByHand;
use crate::cortenkv_log::CortenkvLog;
use crate::log_cases::append_case;
use crate::log_store::LogKind;
use crate::report::Row;
use crate::suite::{Case, Conclusion, Plan, Suite};
use crate::suites::row;

const INTERVAL: Duration = Duration::from_millis(100);
/// Case, and the appends per second that are wanted on an idle machine.
const GOALS: [(&str, f64); 2] = [("cortenkv-interval-100ms-t1", 4e6), ("cortenkv-none-t1", 5e6)];

/// See the module.
pub struct WalRelaxed;

impl Suite for WalRelaxed {
    fn name(&self) -> &'static str {
        "wal-relaxed"
    }

    fn about(&self) -> &'static str {
        "Appends of 128 bytes, acknowledged once a SIGKILL cannot take them; synced by timer, by count, on request, \
         never. The buffered file by hand loses its buffer to SIGKILL: it is a bound, of a weaker class."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let mut cases = Vec::new();
        for threads in plan.threads_or(&[1, 2]) {
            let kinds: [Arc<dyn LogKind>; 6] = [
                Arc::new(CortenkvLog::new("none", Durability::None)),
                Arc::new(CortenkvLog::new("interval-100ms", Durability::Interval(INTERVAL))),
                Arc::new(CortenkvLog::new("every-100", Durability::EveryN(100))),
                Arc::new(CortenkvLog::new("checkpoint", Durability::Checkpoint)),
                Arc::new(ByHand::Written),
                Arc::new(ByHand::Buffered { buffer_bytes: 64 << 10 }),
            ];
            cases.extend(kinds.into_iter().map(|kind| append_case(kind, threads)));
        }
        cases
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let found = GOALS.iter().filter_map(|(case, goal)| {
            let value = row(medians, case)?.ops_per_second;
            let text = format!("{case}: appends per second");
            Some(Conclusion { text, value, goal: Some(*goal) })
        });
        found.collect()
    }
}
