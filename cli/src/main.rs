//! `corten`: the shell tool of the Cortenkv embedded key-value store.
//!
//! # Layout
//! - `args`: the command line as a whole, and the arguments that several commands share
//! - one file per command: `import`, `export`, `put`, `get`, `delete`, `scan`, `count`, `keyspaces`, `stats`,
//!   `segments`, `compact`, `verify`, `repair`, `checkpoint`, `backup`, `restore`, `watch`, `bench`
//! - `failure`: exit codes and messages; `output`: standard output and files; `open`: opening a database
//! - `text`, `entry`, `units`: how bytes, entries and quantities are written and read
//!
//! # Failure
//! Whatever goes wrong ends as one line on standard error and a code that never changes its meaning
//! ([`failure::Exit`]).

#![forbid(unsafe_code)]

mod args;
mod backup;
mod bench;
mod checkpoint;
mod compact;
mod count;
mod delete;
mod entry;
mod export;
mod failure;
mod get;
mod import;
mod keyspaces;
mod open;
mod output;
mod put;
mod repair;
mod restore;
mod scan;
mod segments;
mod stats;
mod text;
mod units;
mod verify;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse().and_then(args::Cli::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
