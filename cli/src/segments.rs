//! `corten segments`: what each file of records holds, and how much of it lives.

use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};
use cortenkv::SegmentReport;
use cortenkv::segments::{SegmentKind, SegmentState};
use serde::Serialize;

use crate::failure::Result;
use crate::output::Output;
use crate::{open, units};

const EXAMPLES: &str = "\
Examples:
  corten segments db
  corten segments db --json | jq '.segments[] | select(.figures.live_bytes == 0) | .file'

*.seg are parts of the log, *.cseg what compaction wrote; `age` is how often their records have survived a compaction. Of a
segment of the log `stored` is what is reserved for it. A record lives if it is the newest of its key; a tombstone does until
no older value of its key is left in any segment.";

/// The command line of `corten segments`.
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
struct Shown {
    path: String,
    segments: Vec<SegmentReport>,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let db = open::resting(&options.db, quiet, options.look)?;
    let segments = db.segments()?;
    db.close()?;
    let mut output = Output::stdout();
    if options.json {
        output.json(&Shown { path: options.db.display().to_string(), segments })?;
    } else {
        output.line(&table(&segments).to_string())?;
    }
    output.finish()
}

fn table(segments: &[SegmentReport]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "file",
        "state",
        "age",
        "stored",
        "records",
        "bytes",
        "live",
        "bytes",
        "live %",
        "tombstones",
        "commits",
    ]);
    for segment in segments {
        table.add_row(row(segment));
    }
    for column in 2..=9 {
        if let Some(figures) = table.column_mut(column) {
            figures.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn row(segment: &SegmentReport) -> [String; 11] {
    let figures = segment.figures.unwrap_or_default();
    let live = match figures.record_bytes {
        0 => "-".to_owned(),
        bytes => format!("{:.1}", figures.live_bytes as f64 * 100.0 / bytes as f64),
    };
    [
        segment.file.clone(),
        state(segment.state).to_owned(),
        match segment.kind {
            SegmentKind::Compacted => segment.survived.to_string(),
            _ => String::new(),
        },
        units::bytes(segment.stored_bytes),
        units::count(figures.records),
        units::bytes(figures.record_bytes),
        units::count(figures.live_records),
        units::bytes(figures.live_bytes),
        live,
        units::count(figures.live_tombstones),
        format!("{} - {}", segment.seq_min, segment.seq_max),
    ]
}

fn state(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Active => "active",
        SegmentState::Sealed => "sealed",
        SegmentState::Settled => "settled",
        SegmentState::InWork => "in work",
        SegmentState::Held => "held",
        _ => "?",
    }
}
