//! `corten export`: writes all entries in a form that `corten import` reads back.

use std::path::PathBuf;

use cortenkv::{Db, Keyspace};

use crate::args::Range;
use crate::entry::{self, Line};
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::scan::Damage;
use crate::{import, open};

const EXAMPLES: &str = "\
Examples:
  corten export db > entries.jsonl
  corten export db --all -o backup.jsonl
  corten export db --format tsv --prefix city: | cut -f1
  corten export db --all | corten import copy -

JSON lines hold key, value and expiry, what is not UTF-8 in hex; with --all the keyspace as well.
TSV holds key and value, with \\\\, \\t, \\n, \\r and \\xHH for what would break the line; expiries are lost.";

/// The command line of `corten export`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Directory of the database
    #[arg(value_name = "DB")]
    db: PathBuf,
    /// Keyspace to export
    #[arg(long, short, value_name = "NAME", default_value = "default", conflicts_with = "all")]
    keyspace: String,
    /// Every keyspace, but those of this tool (`corten.`)
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    range: Range,
    /// How the lines are written
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Write to this new file instead of standard output
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// JSON lines
    Jsonl,
    /// Key and value with a tab between them
    Tsv,
}

impl From<Format> for entry::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Jsonl => entry::Format::Json,
            Format::Tsv => entry::Format::Text,
        }
    }
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    if options.all && options.format == Format::Tsv {
        return Err(Failure::usage(
            "TSV has no place for the keyspace; use --format jsonl with --all, or export one --keyspace at a time",
        ));
    }
    let db = open::existing(&options.db, quiet)?;
    let keyspaces = chosen(&db, &options)?;
    let mut writer = Writer {
        output: match &options.output {
            Some(path) => Output::create_new(path)?,
            None => Output::stdout(),
        },
        format: options.format.into(),
        names_keyspace: options.all,
        line: Vec::new(),
        damage: Damage::default(),
    };
    for keyspace in &keyspaces {
        writer.entries(keyspace, options.range.clone())?;
    }
    let Writer { output, damage, .. } = writer;
    output.finish()?;
    db.close()?;
    damage.end()
}

fn chosen(db: &Db, options: &Options) -> Result<Vec<Keyspace>> {
    if !options.all {
        return Ok(vec![open::keyspace(db, &options.keyspace)?]);
    }
    let names = db.keyspaces()?;
    let names = names.iter().filter(|name| !name.starts_with(import::OWN_KEYSPACES));
    names.map(|name| Ok(db.keyspace(name)?)).collect()
}

struct Writer {
    output: Output,
    format: entry::Format,
    names_keyspace: bool,
    line: Vec<u8>,
    damage: Damage,
}

impl Writer {
    fn entries(&mut self, keyspace: &Keyspace, range: Range) -> Result<()> {
        for key in range.scan(keyspace)?.keys() {
            let entry = key.and_then(|key| Ok((keyspace.get_entry(&key)?, key)));
            // An entry may expire between the two.
            let Some((Some(entry), key)) = self.damage.pass(entry) else { continue };
            let line = Line {
                keyspace: self.names_keyspace.then(|| keyspace.name()),
                key: &key,
                value: Some(&entry.value),
                expires_at_ms: entry::expires_at_ms(&entry),
            };
            line.write(self.format, &mut self.line);
            self.output.write(&self.line)?;
        }
        Ok(())
    }
}
