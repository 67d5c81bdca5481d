//! Durable appends against the fsync rate, and against the naive arm (D5, D8, D9, P1).

use std::sync::Arc;

use crate::by_hand::ByHand;
use crate::cortenkv_log::CortenkvLog;
use crate::log_cases::{append_case, pipeline_case};
use crate::naive::Naive;
use crate::report::Row;
use crate::suite::{Case, Conclusion, Plan, Suite};
use crate::suites::fsync::RING_BYTES;
use crate::suites::{extra, row};

/// Tickets that the lone thread keeps in flight.
const IN_FLIGHT: usize = 64;
/// Writers against the naive arm.
const CROWD: usize = 30;
/// Case, and the multiple of the fsync rate that is wanted.
const GOALS: [(&str, f64); 4] = [
    ("cortenkv-group-t1", 0.9),
    ("cortenkv-group-t8", 4.5),
    ("cortenkv-group-t32", 11.0),
    ("cortenkv-group-t1-in-flight-64", 20.0),
];

/// See the module.
pub struct WalDurable;

impl Suite for WalDurable {
    fn name(&self) -> &'static str {
        "wal-durable"
    }

    fn about(&self) -> &'static str {
        "Appends of 128 bytes, acknowledged once synced: multiples of the fsync rate f, and syncs per record."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let mut cases = Vec::new();
        for threads in plan.threads_or(&[1, 8, 32]) {
            cases.push(append_case(Arc::new(CortenkvLog::always()), threads));
            cases.push(append_case(Arc::new(CortenkvLog::group()), threads));
        }
        cases.push(pipeline_case(Arc::new(CortenkvLog::group()), IN_FLIGHT));
        cases.push(append_case(Arc::new(Naive { ring_bytes: RING_BYTES }), CROWD));
        let by_hand = ByHand::SyncedPrewritten { ring_bytes: RING_BYTES };
        cases.push(append_case(Arc::new(by_hand), CROWD));
        if !cases.iter().any(|case| case.name == format!("cortenkv-group-t{CROWD}")) {
            cases.push(append_case(Arc::new(CortenkvLog::group()), CROWD));
        }
        cases
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let mut conclusions = Vec::new();
        for (case, goal) in GOALS {
            let Some(row) = row(medians, case) else { continue };
            let Some(value) = row.ratio_to_fsync_rate else { continue };
            let doubt = if row.probes_agree() { "" } else { " (whose probes disagree)" };
            let text = format!("{case}: appends per second over f{doubt}");
            conclusions.push(Conclusion { text, value, goal: Some(goal) });
        }
        let (ours, naive) = (format!("cortenkv-group-t{CROWD}"), format!("naive-t{CROWD}"));
        let per_record = |case: &str| extra(medians, case, "fsyncs_per_op");
        if let (Some(ours), Some(naive)) = (per_record(&ours), per_record(&naive)) {
            conclusions.push(Conclusion {
                text: format!(
                    "{CROWD} writers: share of the naive arm's syncs per record that is saved"
                ),
                value: 1.0 - ours / naive,
                goal: Some(0.9), // D5
            });
        }
        let speed = |case: &str| row(medians, case).map(|row| row.ops_per_second);
        if let (Some(ours), Some(naive)) = (speed(&ours), speed(&naive)) {
            let text = format!("{CROWD} writers: appends per second over the naive arm");
            conclusions.push(Conclusion { text, value: ours / naive, goal: None });
        }
        conclusions
    }
}
