//! `corten count`: counts keys.

use crate::args::{Range, Target};
use crate::failure::Result;
use crate::open;
use crate::output::Output;
use crate::scan::Damage;

const EXAMPLES: &str = "\
Examples:
  corten count db
  corten count db -k users --prefix admin:

Every key is looked at, because it may have expired; the key count of `corten stats` is at once there.";

/// The command line of `corten count`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    range: Range,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let db = open::existing(&options.target.db, quiet)?;
    let keyspace = open::keyspace(&db, &options.target.keyspace)?;
    let mut damage = Damage::default();
    let keys = options.range.scan(&keyspace)?.keys();
    let count = keys.filter_map(|key| damage.pass(key)).count();
    let mut output = Output::stdout();
    output.line(&count.to_string())?;
    output.finish()?;
    db.close()?;
    damage.end()
}
