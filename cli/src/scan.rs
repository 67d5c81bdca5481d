//! `corten scan`: prints entries in key order.

use cortenkv::Scan;

use crate::args::{Range, Target};
use crate::entry::{Format, Line};
use crate::failure::{Exit, Failure, Result, complain, describe};
use crate::output::Output;
use crate::{open, units};

const EXAMPLES: &str = "\
Examples:
  corten scan db --prefix city:
  corten scan db --from 2024 --to 2025 --keys-only
  corten scan db --reverse --limit 10
  corten scan db --hex --prefix 00ff --format hex
  corten scan db --format json | jq .value

Text lines are `key TAB value`; \\\\, \\t, \\n, \\r and \\xHH stand for what would break them.";

/// The command line of `corten scan`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    range: Range,
    /// From the last key to the first
    #[arg(long, short)]
    reverse: bool,
    /// At most so many entries
    #[arg(long, short = 'n', value_name = "COUNT")]
    limit: Option<usize>,
    /// Leave the values out
    #[arg(long)]
    keys_only: bool,
    /// How the lines are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let db = open::existing(&options.target.db, quiet)?;
    let keyspace = open::keyspace(&db, &options.target.keyspace)?;
    let scan = options.range.scan(&keyspace)?;
    let limit = options.limit.unwrap_or(usize::MAX);
    let entries = entries(scan, options.keys_only, options.reverse);
    let mut output = Output::stdout();
    let mut damage = Damage::default();
    let mut line = Vec::new();
    for entry in entries.take(limit) {
        let Some((key, value)) = damage.pass(entry) else { continue };
        let shown = Line { key: &key, value: value.as_deref(), ..Line::default() };
        shown.write(options.format, &mut line);
        output.write(&line)?;
    }
    output.finish()?;
    db.close()?;
    damage.end()
}

type Entry = (bytes::Bytes, Option<bytes::Bytes>);

/// The entries from the end that was asked for, values left out where nobody looks at them.
fn entries(
    scan: Scan,
    keys_only: bool,
    reverse: bool,
) -> Box<dyn Iterator<Item = cortenkv::Result<Entry>>> {
    fn either<T: 'static>(
        entries: impl DoubleEndedIterator<Item = T> + 'static,
        reverse: bool,
    ) -> Box<dyn Iterator<Item = T>> {
        if reverse { Box::new(entries.rev()) } else { Box::new(entries) }
    }
    if keys_only {
        either(scan.keys().map(|key| key.map(|key| (key, None))), reverse)
    } else {
        either(scan.map(|entry| entry.map(|(key, value)| (key, Some(value)))), reverse)
    }
}

/// The entries of a scan that could not be read: each is reported and passed over, and the command fails at its end.
#[derive(Debug, Default)]
pub struct Damage {
    entries: u64,
    exit: Option<Exit>,
}

/// LIMIT: damaged entries that are reported one by one.
const REPORTS_MAX: u64 = 100;

impl Damage {
    /// What was read; `None`, and a line on standard error, for what could not be.
    pub fn pass<T>(&mut self, entry: cortenkv::Result<T>) -> Option<T> {
        let error = match entry {
            Ok(entry) => return Some(entry),
            Err(error) => error,
        };
        self.entries += 1;
        if self.entries <= REPORTS_MAX {
            complain(&format!("an entry was left out: {}", describe(&error)));
        }
        if let Failure::Failed(exit, _) = Failure::from(error) {
            self.exit.get_or_insert(exit);
        }
        None
    }

    /// The end of the command.
    pub fn end(&self) -> Result<()> {
        match self.exit {
            None => Ok(()),
            Some(exit) => Err(Failure::new(
                exit,
                format!("could not read {}", units::counted(self.entries, "record")),
            )),
        }
    }
}
