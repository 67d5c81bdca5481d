//! The developer commands of Cortenkv, one file each; `main.rs` is their command line.
//!
//! # Layout
//! - `run`: programs, printed before they run; `workspace`: what cargo says about the packages
//! - every other file: the command of its name
//!
//! # Invariants
//! - Nothing here depends on a crate of the workspace: the house must stand while a crate does not compile.
//! - A suite that does not exist is a failure: a command that silently runs nothing would pass.
//! - A command with flags of its own for the compiler builds in a folder of its own below the target folder, so that it
//!   never throws away what the others built.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "a developer's tool: files and clock of the machine"
)]

pub mod asan;
pub mod bench;
pub mod check;
pub mod ci;
pub mod crash;
pub mod demo;
pub mod deny;
pub mod features;
pub mod fuzz;
pub mod loom;
pub mod run;
pub mod shuttle;
pub mod stress;
pub mod test;
pub mod tidy;
pub mod torture;
pub mod workspace;
