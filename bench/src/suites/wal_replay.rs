//! How long an open takes that finds a full log: after a close, and after a kill.

use std::sync::Arc;

use cortenkv_wal::Durability;

use crate::by_hand::ByHand;
use crate::cortenkv_log::CortenkvLog;
use crate::log_cases::replay_case;
use crate::report::Row;
use crate::suite::{Case, Conclusion, Ending, Plan, Suite};
use crate::suites::row;

/// Records per second that are wanted.
const GOAL: f64 = 8e6;

/// See the module.
pub struct WalReplay;

impl Suite for WalReplay {
    fn name(&self) -> &'static str {
        "wal-replay"
    }

    fn about(&self) -> &'static str {
        "Opens a log of records of 128 bytes and reads every record once, from the page cache."
    }

    fn cases(&self, _plan: &Plan) -> Vec<Case> {
        let log = || Arc::new(CortenkvLog::new("none", Durability::None));
        vec![
            replay_case(log(), Ending::Clean),
            replay_case(log(), Ending::Killed),
            replay_case(Arc::new(ByHand::Buffered { buffer_bytes: 64 << 10 }), Ending::Clean),
        ]
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let cases = ["cortenkv-none-replay-closed", "cortenkv-none-replay-killed"];
        let found = cases.iter().filter_map(|case| {
            let value = row(medians, case)?.ops_per_second;
            let text = format!("{case}: records per second");
            Some(Conclusion { text, value, goal: Some(GOAL) })
        });
        found.collect()
    }
}
