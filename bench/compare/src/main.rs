//! `cortenkv-compare`: Cortenkv beside other stores.
//!
//! Every arm states its settings and what it promises; cases of one suite do the same work at the same class of
//! promise. Processes, directories, repeats, medians and result lines are those of `cortenkv-bench`.
//!
//! # Layout
//! One file per store, with the notes on how its author means it to be used; `logs` is the suites of logs.

#![forbid(unsafe_code)]

use std::process::ExitCode;

mod logs;
mod okay_wal;
mod wal_db;

fn main() -> ExitCode {
    cortenkv_bench::cli::main(logs::suites())
}
