//! `corten put`: sets the value of a key.

#![expect(clippy::disallowed_methods, reason = "reads the file that the user names")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cortenkv::{PutOptions, VALUE_BYTES_MAX};

use crate::args::{self, Target, WriteOptions};
use crate::failure::{Failure, Result};
use crate::{open, units};

const EXAMPLES: &str = "\
Examples:
  corten put db city:1 Graz
  corten put db session:7 open --ttl 30m
  corten put db photo --file photo.jpg
  date | corten put db now
  corten put db --hex 00ff 48656c6c6f

The database and the keyspace are made where there are none.";

/// The command line of `corten put`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// The key
    key: OsString,
    /// The value; without it, and without --file, it is read from standard input
    #[arg(conflicts_with = "file")]
    value: Option<OsString>,
    /// Read the value from this file
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Key and value on the command line are in hex
    #[arg(long)]
    hex: bool,
    /// The entry ends after this time: 500ms, 30s, 5m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration)]
    ttl: Option<Duration>,
    #[command(flatten)]
    write: WriteOptions,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let key = args::bytes(options.key, options.hex)?;
    let value = match (options.value, options.file) {
        (Some(value), _) => args::bytes(value, options.hex)?,
        (None, Some(path)) => {
            let file = File::open(&path).map_err(|error| Failure::io("open", &path, &error))?;
            read_value(file, &path)?
        }
        (None, None) if io::stdin().is_terminal() => {
            return Err(Failure::usage("the value is missing; give it, or --file, or pipe it in"));
        }
        (None, None) => read_value(io::stdin().lock(), Path::new("standard input"))?,
    };
    open::check_legal(&options.target.keyspace, &key)?;
    let db = open::or_create(&options.target.db, quiet, |builder| options.write.apply(builder))?;
    let mut put_options = PutOptions::new();
    if let Some(ttl) = options.ttl {
        put_options = put_options.ttl(ttl);
    }
    db.keyspace(&options.target.keyspace)?.put_with(key, value, put_options)?;
    Ok(db.close()?)
}

/// Reads a value; of one over the limit no more than tells so.
fn read_value(from: impl Read, name: &Path) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    from.take(VALUE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut value)
        .map_err(|error| Failure::io("read", name, &error))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "{} holds more than {VALUE_BYTES_MAX} bytes, the limit of a value; split it over several keys",
            name.display()
        )));
    }
    Ok(value)
}
