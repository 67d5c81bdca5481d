//! The measuring house: a load driver, suites of cases, and reports of what they measured.
//!
//! # Layout
//! - [`driver`] runs workers on threads, closed-loop or open-loop, and [`latency`] keeps what each operation took;
//!   [`seed`] makes the same records from the same seed.
//! - [`log_store`] is what a log must do to be measured; [`by_hand`], [`naive`] and [`cortenkv_log`] are logs, and
//!   [`log_cases`] the work that all of them do. [`counting_vfs`] counts syncs from outside the log.
//! - [`draw`] says which key comes next: permutations and Zipf's law. [`index_kinds`] makes the indexes that are
//!   measured over [`computed_records`]; [`counting_alloc`] counts their memory, [`run_files`] keeps runs of keys out
//!   of it.
//! - [`suite`] says what a suite is, [`suites`] holds those of this package, [`runner`] runs their cases, each in its
//!   own process and a fresh directory, [`fsync_rate`] measures the disk of the minute beside durable cases.
//! - [`machine`] and [`process`] are the facts beside the numbers, [`report`] the JSON lines and tables.
//! - [`cli`] is the command of this package, and of every other package that brings suites of its own.
//!
//! A new suite is a file in [`suites`] and a line in its list; a new store is one implementation of a trait.
//!
//! # Invariants
//! A case has a process and a directory of its own. Repeats are interleaved: every case once, then every case again.
//! Every row says what its arm promises, and rows are compared within one class of promise only.

#![deny(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "a load driver measures the real clock, real threads and real files"
)]

pub mod by_hand;
pub mod cli;
pub mod computed_records;
pub mod cortenkv_log;
pub mod counting_alloc;
pub mod counting_vfs;
pub mod disk_usage;
pub mod draw;
pub mod driver;
pub mod error;
pub mod fsync_rate;
pub mod index_kinds;
pub mod latency;
pub mod log_cases;
pub mod log_store;
pub mod machine;
pub mod naive;
pub mod process;
pub mod report;
pub mod run_files;
pub mod runner;
pub mod seed;
pub mod suite;
pub mod suites;

pub use error::{Context, Error, Result};
