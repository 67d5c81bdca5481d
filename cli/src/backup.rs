//! `corten backup`: all of a database, or what was committed since the last backup, into a directory of backups.

use std::path::{Path, PathBuf};

use cortenkv::{BackupKind, BackupOptions, list_backups, verify_backup};

use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::{open, units};

const EXAMPLES: &str = "\
Examples:
  corten backup db /backups/db                  all of it
  corten backup db /backups/db --incremental    what was committed since
  corten backup db /backups/db --incremental --self-test
  corten backup --verify /backups/db
  corten backup --list /backups/db

The database keeps the log that the next incremental backup needs, up to --keep; beyond that it asks for a full one: exit
code 10. The database must not be open elsewhere; a program that has it open calls `Db::backup`.";

/// The command line of `corten backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Directory of the database
    #[arg(value_name = "DB", required_unless_present_any = ["verify", "list"])]
    db: Option<PathBuf>,
    /// Directory of the backups; made by the first
    #[arg(value_name = "TARGET", required_unless_present_any = ["verify", "list"])]
    target: Option<PathBuf>,
    /// Only what was committed since the last backup into the target
    #[arg(long)]
    incremental: bool,
    /// Restore it into a directory within the target, compare it with the database, and remove it again
    #[arg(long)]
    self_test: bool,
    /// MiB of log that the database may keep for the next incremental backup
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    keep: u64,
    /// Read every file of these backups through its checksum
    #[arg(long, value_name = "TARGET", conflicts_with_all = ["db", "list"])]
    verify: Option<PathBuf>,
    /// Show which backups there are
    #[arg(long, value_name = "TARGET", conflicts_with = "db")]
    list: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    match (&options.verify, &options.list, &options.db, &options.target) {
        (Some(target), ..) => verify(target, options.json),
        (_, Some(target), ..) => list(target, options.json),
        (_, _, Some(db), Some(target)) => back_up(db, target, &options, quiet),
        _ => Err(Failure::usage("give a database and a directory for its backups")),
    }
}

fn back_up(db: &Path, target: &Path, options: &Options, quiet: bool) -> Result<()> {
    let db = open::resting(db, quiet, open::Look::default())?;
    let how = match options.incremental {
        true => BackupOptions::incremental(),
        false => BackupOptions::full(),
    };
    let how = how.self_test(options.self_test).bytes_max(options.keep << 20);
    let report = db.backup(target, how)?;
    db.close()?;
    let mut output = Output::stdout();
    if options.json {
        output.json(&report)?;
        return output.finish();
    }
    let what = match report.kind {
        BackupKind::Full => format!("all up to commit {}", report.seq),
        _ => format!("commits {} to {}", report.since + 1, report.seq),
    };
    let (files, bytes) = (units::counted(report.files, "file"), units::bytes(report.bytes));
    output.line(&format!("{what}: {files}, {bytes}"))?;
    if options.self_test {
        output.line(&format!(
            "restored and compared: {}, none differs",
            units::counted(report.keys_compared, "key")
        ))?;
    }
    output.finish()
}

fn verify(target: &Path, json: bool) -> Result<()> {
    let report = verify_backup(target)?;
    let mut output = Output::stdout();
    match json {
        true => output.json(&report)?,
        false => output.line(&format!(
            "intact: {}, {} of {}, {} in pieces of the log",
            units::counted(report.backups, "backup"),
            units::counted(report.files, "file"),
            units::bytes(report.bytes),
            units::counted(report.commits, "commit"),
        ))?,
    }
    output.finish()
}

fn list(target: &Path, json: bool) -> Result<()> {
    let backups = list_backups(target)?;
    let mut output = Output::stdout();
    if json {
        output.json(&backups)?;
        return output.finish();
    }
    for backup in &backups {
        let kind = if backup.kind == BackupKind::Full { "full" } else { "incremental" };
        let bytes = backup.files.iter().map(|file| file.bytes).sum();
        output.line(&format!(
            "{}\t{kind}\t{} - {}\t{} ms\t{}",
            backup.number,
            backup.since,
            backup.seq,
            backup.wall_ms,
            units::bytes(bytes)
        ))?;
    }
    output.finish()
}
