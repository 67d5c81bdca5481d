//! `corten keyspaces`: lists the keyspaces.

use std::path::PathBuf;

use serde::Serialize;

use crate::failure::Result;
use crate::output::Output;
use crate::scan::Damage;
use crate::{open, text};

const EXAMPLES: &str = "\
Examples:
  corten keyspaces db
  corten keyspaces db --count
  corten keyspaces db --json

Names that start with `corten.` are made by this tool: corten.import holds how far interrupted imports have come.";

/// The command line of `corten keyspaces`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Directory of the database
    #[arg(value_name = "DB")]
    db: PathBuf,
    /// Count the keys of each
    #[arg(long)]
    count: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<usize>,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let db = open::existing(&options.db, quiet)?;
    let mut damage = Damage::default();
    let mut listed = Vec::new();
    for name in db.keyspaces()? {
        let keys = match options.count {
            true => Some(db.keyspace(&name)?.keys().filter_map(|key| damage.pass(key)).count()),
            false => None,
        };
        listed.push(Listed { name, keys });
    }
    let mut output = Output::stdout();
    if options.json {
        output.json(&listed)?;
    } else {
        for Listed { name, keys } in &listed {
            let name = text::escaped(name.as_bytes());
            match keys {
                Some(keys) => output.line(&format!("{name}\t{keys}"))?,
                None => output.line(&name)?,
            }
        }
    }
    output.finish()?;
    db.close()?;
    damage.end()
}
