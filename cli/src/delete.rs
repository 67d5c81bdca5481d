//! `corten delete`: removes keys, all of them or none.

use std::ffi::OsString;

use crate::args::{self, Target, WriteOptions};
use crate::failure::Result;
use crate::open;

const EXAMPLES: &str = "\
Examples:
  corten delete db city:1
  corten delete db -k users 7 8 9

The keys go in one commit. A key that is not there does no harm.";

/// The command line of `corten delete`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// The keys
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<OsString>,
    /// The keys are in hex
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    write: WriteOptions,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let keys = options.keys.into_iter().map(|key| args::bytes(key, options.hex));
    let keys: Vec<Vec<u8>> = keys.collect::<Result<_>>()?;
    let db = open::open(&options.target.db, quiet, |builder| options.write.apply(builder))?;
    let keyspace = open::keyspace(&db, &options.target.keyspace)?;
    let mut batch = db.batch();
    for key in keys {
        batch.delete(&keyspace, key);
    }
    batch.commit()?;
    Ok(db.close()?)
}
