//! `corten get`: prints the value of a key.

use std::ffi::OsString;

use crate::args::{self, Target};
use crate::entry::{self, Line};
use crate::failure::{Exit, Failure, Result};
use crate::output::{self, Output};
use crate::{open, text};

const EXAMPLES: &str = "\
Examples:
  corten get db city:1
  corten get db photo > photo.jpg
  corten get db --hex 00ff --format hex
  corten get db city:1 --format json    key, value and expiry

Exit code 1, and nothing printed, when the key is not there.";

/// The command line of `corten get`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// The key
    key: OsString,
    /// The key is in hex
    #[arg(long)]
    hex: bool,
    /// How the value is printed
    #[arg(long, value_enum, default_value_t = Format::Raw)]
    format: Format,
}

/// How a value is printed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Byte for byte; on a terminal with a line break behind it
    Raw,
    /// Escaped text and a line break
    Text,
    /// Hex and a line break
    Hex,
    /// A JSON object with key, value and expiry
    Json,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let key = args::bytes(options.key, options.hex)?;
    let db = open::existing(&options.target.db, quiet)?;
    let Some(entry) = open::keyspace(&db, &options.target.keyspace)?.get_entry(&key)? else {
        return Err(Failure::Silent(Exit::NoKey));
    };
    let mut output = Output::stdout();
    match options.format {
        Format::Raw => {
            output.write(&entry.value)?;
            if output::stdout_is_terminal() {
                output.write(b"\n")?;
            }
        }
        Format::Text => output.line(&text::escaped(&entry.value))?,
        Format::Hex => output.line(&text::hexed(&entry.value))?,
        Format::Json => {
            let expires_at_ms = entry::expires_at_ms(&entry);
            let line = Line { keyspace: None, key: &key, value: Some(&entry.value), expires_at_ms };
            let mut bytes = Vec::new();
            line.write(entry::Format::Json, &mut bytes);
            output.write(&bytes)?;
        }
    }
    output.finish()?;
    Ok(db.close()?)
}
