//! `corten stats`: the figures of a database, as a table or as JSON.

#![expect(clippy::disallowed_methods, reason = "counts the bytes of the files")]

use std::fs;
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use cortenkv::Stats;
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::{open, units};

const EXAMPLES: &str = "\
Examples:
  corten stats db
  corten stats db --json | jq .keys

`open` tells what opening found just now. Counters of `log` and of the jobs of `compaction` start anew with each opening, so
here they show what the tool itself did. A key that has expired counts until something else is written to it.";

/// The command line of `corten stats`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Directory of the database
    #[arg(value_name = "DB")]
    db: PathBuf,
    #[command(flatten)]
    look: open::Look,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    path: String,
    disk: Disk,
    #[serde(flatten)]
    stats: &'a Stats,
}

/// The files of a database.
#[derive(Debug, Serialize, Default)]
struct Disk {
    files: u64,
    /// As long as they say they are.
    bytes: u64,
    /// What they take from the disk: the log reserves space ahead.
    allocated_bytes: u64,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let db = open::resting(&options.db, quiet, options.look)?;
    let stats = db.stats();
    let disk = disk(&options.db)?;
    let mut output = Output::stdout();
    if options.json {
        let path = options.db.display().to_string();
        output.json(&Shown { path, disk, stats: &stats })?;
    } else {
        output.line(&table(&options.db, &disk, &stats).to_string())?;
    }
    output.finish()?;
    Ok(db.close()?)
}

fn disk(dir: &Path) -> Result<Disk> {
    use std::os::unix::fs::MetadataExt;
    let cannot = |error| Failure::io("read the directory", dir, &error);
    let mut disk = Disk::default();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let facts = entry.and_then(|entry| entry.metadata()).map_err(cannot)?;
        disk.files += 1;
        disk.bytes += facts.len();
        disk.allocated_bytes += facts.blocks() * 512;
    }
    Ok(disk)
}

fn table(path: &Path, disk: &Disk, stats: &Stats) -> Table {
    let (open, log, compaction) = (&stats.open, &stats.log, &stats.compaction);
    let count = units::count;
    let size = |n: u64| format!("{} ({})", units::bytes(n), units::count(n));
    let rows = [
        ("path", path.display().to_string()),
        ("keys", count(stats.keys)),
        ("tombstones", count(stats.tombstones)),
        ("keyspaces", count(stats.keyspaces)),
        ("newest commit", stats.last_seq.to_string()),
        ("newest durable commit", stats.durable_seq.to_string()),
        ("durability of this opening", stats.durability.clone()),
        ("files", count(disk.files)),
        ("bytes of files", size(disk.bytes)),
        ("bytes on disk", size(disk.allocated_bytes)),
        ("index in memory (estimate)", size(stats.index_bytes)),
        ("log segments", count(log.segments)),
        ("segments in all", count(compaction.segments)),
        ("bytes of records", size(compaction.record_bytes)),
        ("bytes of live records", size(compaction.live_bytes)),
        ("garbage beyond the target", size(compaction.debt_bytes)),
        ("compaction: jobs, failures", {
            format!("{}, {}", count(compaction.jobs), count(compaction.failures))
        }),
        ("compaction: read, written", {
            format!(
                "{}, {}",
                units::bytes(compaction.bytes_read),
                units::bytes(compaction.bytes_written)
            )
        }),
        ("open: segments replayed", count(open.segments)),
        ("open: records replayed", count(open.records)),
        ("open: bytes replayed", size(open.bytes)),
        ("open: bytes cut off", size(open.bytes_cut)),
        ("open: manifest, replay, index", {
            format!("{} ms, {} ms, {} ms", open.manifest_ms, open.replay_ms, open.index_ms)
        }),
    ];
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, figure) in rows {
        table.add_row([name.to_owned(), figure]);
    }
    if let Some(figures) = table.column_mut(1) {
        figures.set_cell_alignment(CellAlignment::Left);
    }
    table
}
