//! The command line: the commands, what several of them share, and errors of use as one line.

use std::ffi::OsString;
use std::ops::Bound;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand};
use cortenkv::{Compression, Durability, Keyspace, Scan};

use crate::failure::{EXIT_CODES_HELP, Exit, Failure, Result};
use crate::{
    backup, bench, checkpoint, compact, count, delete, export, get, import, keyspaces, put, repair,
    restore, scan, segments, stats, text, units, verify, watch,
};

/// The shell tool of the Cortenkv embedded key-value store
#[derive(Debug, Parser)]
#[command(name = "corten", version, max_term_width = 100, after_help = EXIT_CODES_HELP)]
#[command(after_long_help = format!("{EXAMPLES}\n{EXIT_CODES_HELP}"))]
pub struct Cli {
    /// Print no progress and no summary; errors are printed all the same
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  corten import db /usr/share/doc               every file, its relative path as the key
  corten scan db --prefix bash/ --keys-only
  corten get db bash/copyright
  corten import db users.jsonl --key id -k users
  corten export db --all | gzip > backup.jsonl.gz
  gunzip < backup.jsonl.gz | corten import copy -
  corten stats db --json
  corten verify db
";

#[derive(Debug, Subcommand)]
enum Command {
    /// Put a folder of files, JSON lines, TSV or CSV into a database
    Import(import::Options),
    /// Write all entries as JSON lines or TSV
    Export(export::Options),
    /// Set the value of a key
    Put(put::Options),
    /// Print the value of a key
    Get(get::Options),
    /// Remove keys
    Delete(delete::Options),
    /// Print entries in key order
    Scan(scan::Options),
    /// Count keys
    Count(count::Options),
    /// List the keyspaces
    Keyspaces(keyspaces::Options),
    /// Show the figures of a database
    Stats(stats::Options),
    /// List the segments: what each file holds, and how much of it lives
    Segments(segments::Options),
    /// Rewrite segments that are full of garbage, and give their space back
    Compact(compact::Options),
    /// Read every record through its checksum, and compare index, scans, gets, figures and files
    Verify(verify::Options),
    /// Give up what is damaged, and keep every commit that is intact
    Repair(repair::Options),
    /// Make a whole copy of a database, at once where files can be shared
    Checkpoint(checkpoint::Options),
    /// Back up a database: all of it, or what was committed since
    Backup(backup::Options),
    /// Make a database of its backups, as it was at any commit or moment
    Restore(restore::Options),
    /// Show the changes of a database in their order
    Watch(watch::Options),
    /// A quick look at speed, in a temporary database or on the data of an existing one
    Bench(bench::Options),
}

impl Cli {
    pub fn run(self) -> Result<()> {
        let quiet = self.quiet;
        match self.command {
            Command::Import(options) => import::run(options, quiet),
            Command::Export(options) => export::run(options, quiet),
            Command::Put(options) => put::run(options, quiet),
            Command::Get(options) => get::run(options, quiet),
            Command::Delete(options) => delete::run(options, quiet),
            Command::Scan(options) => scan::run(options, quiet),
            Command::Count(options) => count::run(options, quiet),
            Command::Keyspaces(options) => keyspaces::run(options, quiet),
            Command::Stats(options) => stats::run(options, quiet),
            Command::Segments(options) => segments::run(options, quiet),
            Command::Compact(options) => compact::run(options, quiet),
            Command::Verify(options) => verify::run(options, quiet),
            Command::Repair(options) => repair::run(options, quiet),
            Command::Checkpoint(options) => checkpoint::run(options, quiet),
            Command::Backup(options) => backup::run(options, quiet),
            Command::Restore(options) => restore::run(options),
            Command::Watch(options) => watch::run(options, quiet),
            Command::Bench(options) => bench::run(options, quiet),
        }
    }
}

/// Reads the command line; prints help and version itself.
pub fn parse() -> Result<Cli> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                // A reader that has gone needs no help.
                let _ = error.print();
                std::process::exit(0)
            }
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                Err(Failure::usage("a command is missing; `corten --help` lists them"))
            }
            _ => Err(Failure::usage(one_line(&error))),
        },
    }
}

/// The first paragraph of what clap says, the tip where there is one, and where to look it up.
fn one_line(error: &clap::Error) -> String {
    let shown = error.to_string();
    let first = shown.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    let mut sentence = words.join(" ");
    if let Some(rest) = sentence.strip_prefix("error: ") {
        sentence = rest.to_owned();
    }
    if let Some(ContextValue::String(similar)) = error.get(ContextKind::SuggestedArg) {
        sentence.push_str(&format!("; did you mean {similar}?"));
    }
    format!("{sentence}; see `corten --help`, or `--help` behind a command")
}

/// The database and the keyspace that a command works on.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// Directory of the database
    #[arg(value_name = "DB")]
    pub db: PathBuf,
    /// Keyspace within the database
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    pub keyspace: String,
}

/// Which keys.
#[derive(Debug, Clone, clap::Args)]
pub struct Range {
    /// Only keys that start with this
    #[arg(long, value_name = "KEY", conflicts_with_all = ["from", "to"])]
    prefix: Option<OsString>,
    /// Only this key and those behind it
    #[arg(long, value_name = "KEY")]
    from: Option<OsString>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    to: Option<OsString>,
    /// Keys on the command line are in hex
    #[arg(long)]
    hex: bool,
}

impl Range {
    /// The entries of the range.
    ///
    /// # Errors
    /// `Usage` for a key that is no hex.
    pub fn scan(self, keyspace: &Keyspace) -> Result<Scan> {
        if let Some(prefix) = self.prefix {
            return Ok(keyspace.prefix(bytes(prefix, self.hex)?));
        }
        let from = self.from.map(|key| bytes(key, self.hex)).transpose()?;
        let to = self.to.map(|key| bytes(key, self.hex)).transpose()?;
        let from = from.map_or(Bound::Unbounded, Bound::Included);
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(keyspace.range((from, to)))
    }
}

/// The bytes of an argument, given as they are or in hex.
///
/// # Errors
/// `Usage` for what is no hex.
pub fn bytes(argument: OsString, hex: bool) -> Result<Vec<u8>> {
    let bytes = argument.into_vec();
    if !hex {
        return Ok(bytes);
    }
    text::unhex(&bytes).map_err(|wrong| Failure::new(Exit::Usage, format!("--hex: {wrong}")))
}

/// How a command that writes opens the database.
#[derive(Debug, clap::Args)]
pub struct WriteOptions {
    /// When a commit counts as done: always, group, every=N, interval=TIME, checkpoint, none
    #[arg(long, value_name = "MODE", default_value = "group", value_parser = units::parse_durability)]
    pub durability: Durability,
    /// Codec of commits of 4 KiB and more
    #[arg(long, value_name = "CODEC", default_value = "none", value_enum)]
    pub compression: Codec,
}

impl WriteOptions {
    /// Lays the options over a builder.
    pub fn apply(&self, builder: cortenkv::Builder) -> cortenkv::Builder {
        builder.durability(self.durability).compression(match self.compression {
            Codec::None => Compression::None,
            Codec::Snappy => Compression::Snappy,
        })
    }
}

/// A codec of this build.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Codec {
    None,
    Snappy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_of_use_is_one_line_that_names_it() {
        let error = |line: &[&str]| one_line(&Cli::try_parse_from(line).unwrap_err());
        let unknown = error(&["corten", "scan", "db", "--form", "x"]);
        assert!(unknown.contains("--form") && unknown.contains("--from"), "{unknown}");
        let missing = error(&["corten", "get", "db"]);
        assert!(missing.contains("<KEY>") && !missing.contains('\n'), "{missing}");
        let wrong = error(&["corten", "scan", "db", "--limit", "many"]);
        assert!(wrong.contains("many") && wrong.contains("--limit"), "{wrong}");
    }
}
