//! The suites of this package. A new one is a file here and a line in [`all`].

use crate::cli::Suites;
use crate::report::Row;

pub mod fsync;
pub mod index_growth;
pub mod index_memory;
pub mod index_shards;
pub mod sequence;
pub mod wal_compress;
pub mod wal_durable;
pub mod wal_relaxed;
pub mod wal_replay;

/// All of them, in the order of `list`.
pub fn all() -> Suites {
    vec![
        Box::new(fsync::Fsync),
        Box::new(wal_durable::WalDurable),
        Box::new(wal_relaxed::WalRelaxed),
        Box::new(wal_replay::WalReplay),
        Box::new(wal_compress::WalCompress),
        Box::new(sequence::Sequence),
        Box::new(index_memory::IndexMemory),
        Box::new(index_growth::IndexGrowth),
        Box::new(index_shards::IndexShards),
    ]
}

/// The row of a case, where it ran.
fn row<'a>(rows: &'a [Row], case: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.case == case)
}

/// A number that the suite added to the row of a case.
fn extra(rows: &[Row], case: &str, name: &str) -> Option<f64> {
    row(rows, case)?.outcome.extra.get(name).copied()
}
