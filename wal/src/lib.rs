//! A segmented write-ahead log.

#![deny(unsafe_code)]

pub mod clock;
pub mod error;
pub mod options;
mod sync;
pub mod vfs;

pub use error::{ClosedReason, Error, ErrorKind, Result};
pub use options::{Background, Damage, Durability, TailKind, WalOptions};
