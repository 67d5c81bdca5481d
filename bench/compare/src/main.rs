//! `cortenkv-compare`: Cortenkv beside other stores.
//!
//! Every arm states its settings and what it promises; cases of one suite do the same work at the same class of
//! promise. Processes, directories, repeats, medians and result lines are those of `cortenkv-bench`.
//!
//! # Layout
//! - `logs` is the suites of logs, `okay_wal` and `wal_db` are logs.
//! - `store` is what a store must do, `stores` holds one file per store, with the notes on how its author means it to
//!   be used; `store_data` is keys and values. Suites: `store_read` with its work in `store_work` and `store_workers`;
//!   `store_open`, the time of an open; `store_churn`, space after overwrites and deletes; `store_pause`, latency beside
//!   compaction.
//! - `maps` is the suite of the index alone beside maps; one file per group of arms in its folder.

#![deny(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "a load driver measures the real clock")]

use std::process::ExitCode;

mod logs;
mod maps;
mod okay_wal;
mod store;
mod store_churn;
mod store_data;
mod store_open;
mod store_pause;
mod store_read;
mod store_work;
mod store_workers;
mod stores;
mod wal_db;

fn main() -> ExitCode {
    let mut suites = logs::suites();
    suites.push(Box::new(store_read::StoreRead));
    suites.push(Box::new(store_open::StoreOpen));
    suites.push(Box::new(store_churn::StoreChurn));
    suites.push(Box::new(store_pause::StorePause));
    suites.push(Box::new(maps::Maps));
    cortenkv_bench::cli::main(suites)
}
