//! `corten compact`: rewrites whatever is worth it, and gives the space back.

use std::path::PathBuf;

use cortenkv::{CompactionReport, Db};
use serde::Serialize;

use crate::failure::Result;
use crate::output::Output;
use crate::{open, text, units};

const EXAMPLES: &str = "\
Examples:
  corten compact db
  corten compact db --json

An open database does this by itself, in the background and in time. Nothing that lives is lost if this is interrupted: what
is not finished does not count. It needs some free space for the segments that it writes.";

/// The command line of `corten compact`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Directory of the database
    #[arg(value_name = "DB")]
    db: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was done.
#[derive(Debug, Serialize)]
struct Compacted {
    path: String,
    #[serde(flatten)]
    report: CompactionReport,
    before: Space,
    after: Space,
}

/// What the segments hold and take.
#[derive(Debug, Serialize)]
struct Space {
    segments: u64,
    /// What the files take from the disk, space that is reserved ahead included.
    stored_bytes: u64,
    record_bytes: u64,
    live_bytes: u64,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let db = open::resting(&options.db, quiet, open::Look::default())?;
    let before = space(&db)?;
    let report = db.compact()?;
    let after = space(&db)?;
    db.close()?;
    let compacted = Compacted { path: options.db.display().to_string(), report, before, after };
    let mut output = Output::stdout();
    match options.json {
        true => output.json(&compacted)?,
        false => compacted.write(&mut output)?,
    }
    output.finish()
}

fn space(db: &Db) -> Result<Space> {
    let (segments, stats) = (db.segments()?, db.stats().compaction);
    Ok(Space {
        segments: segments.len() as u64,
        stored_bytes: segments.iter().map(|segment| segment.stored_bytes).sum(),
        record_bytes: stats.record_bytes,
        live_bytes: stats.live_bytes,
    })
}

impl Compacted {
    fn write(&self, output: &mut Output) -> Result<()> {
        let Compacted { path, report, before, after } = self;
        let path = text::visible(path);
        if report.jobs == 0 {
            let garbage = units::bytes(before.record_bytes.saturating_sub(before.live_bytes));
            return output
                .line(&format!("{path}: nothing is worth rewriting; {garbage} of garbage"));
        }
        let (jobs, retired) = (
            units::counted(report.jobs, "job"),
            units::counted(report.segments_retired, "segment"),
        );
        let written = units::counted(report.segments_written, "segment");
        output.line(&format!("{path}: {jobs}, {retired} rewritten as {written}"))?;
        let (was, is) = (units::bytes(before.record_bytes), units::bytes(after.record_bytes));
        let live = units::bytes(after.live_bytes);
        output.line(&format!("records: {was} before, {is} now, of which {live} live"))
    }
}
