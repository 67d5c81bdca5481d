//! `corten checkpoint`: a whole copy of a database, at once and without its space where files can be shared.

use std::path::PathBuf;

use cortenkv::CheckpointOptions;

use crate::failure::Result;
use crate::output::Output;
use crate::{open, units};

const EXAMPLES: &str = "\
Examples:
  corten checkpoint db /snapshots/db-today
  corten checkpoint db /snapshots/db-today --copy

The copy opens as an ordinary database. Files that never change are shared with it (hard links) where the file system can
do that; what damages one damages both then. `corten backup` never shares.";

/// The command line of `corten checkpoint`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Directory of the database
    #[arg(value_name = "DB")]
    db: PathBuf,
    /// A new or empty directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Copy every byte, share no file
    #[arg(long)]
    copy: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let db = open::resting(&options.db, quiet, open::Look::default())?;
    let how = CheckpointOptions::new().links(!options.copy);
    let report = db.checkpoint_with(&options.dir, how)?;
    db.close()?;
    let mut output = Output::stdout();
    match options.json {
        true => output.json(&report)?,
        false => output.line(&format!(
            "commit {}: {} of {}, {} of them shared, {} copied",
            report.seq,
            units::counted(report.files, "file"),
            units::bytes(report.bytes),
            report.files_linked,
            units::bytes(report.bytes_copied),
        ))?,
    }
    output.finish()
}
