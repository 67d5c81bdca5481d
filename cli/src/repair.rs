//! `corten repair`: opens a damaged database with every commit that is intact, and gives up the rest.
//!
//! # Failure
//! Damaged files are not deleted: the database sets them aside as `*.damaged`.

#![expect(clippy::disallowed_methods, reason = "names the files that were set aside")]

use std::fs;
use std::path::{Path, PathBuf};

use cortenkv::{LostKey, LostPlace, SalvagedSegment};
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::{open, text, units};

const EXAMPLES: &str = "\
Examples:
  corten verify db          first: what is damaged, and where
  cp -r db copy             the files may be worth more to somebody who knows the format
  corten repair db
  corten repair db --json

Every commit that is intact stays. Commits that were in a damaged place are lost: their keys are gone or have an older
value. Damaged files are set aside as *.damaged beside the others; delete them when you need them no more. A database
without damage stays as it is. Of a damaged segment that compaction wrote (*.cseg) it is told between which keys records
are lost, and how many deletes: so many deleted keys may have come back.";

/// The command line of `corten repair`.
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
struct Repaired {
    path: String,
    damaged_places: u64,
    set_aside: Vec<PathBuf>,
    records_kept: u64,
    keys: u64,
    salvaged: Vec<SalvagedSegment>,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let before = set_aside(&options.db)?;
    let db = open::open(&options.db, quiet, |builder| builder.salvage(true))?;
    let opened = db.open_report();
    db.close()?;
    let mut set_aside = set_aside(&options.db)?;
    set_aside.retain(|path| !before.contains(path));
    let repaired = Repaired {
        path: options.db.display().to_string(),
        damaged_places: opened.damaged_places,
        set_aside,
        records_kept: opened.records,
        keys: opened.keys,
        salvaged: opened.salvaged,
    };
    let mut output = Output::stdout();
    match options.json {
        true => output.json(&repaired)?,
        false => repaired.write(&mut output)?,
    }
    output.finish()
}

/// The damaged files that were set aside, now or before.
fn set_aside(dir: &Path) -> Result<Vec<PathBuf>> {
    // Whatever is wrong with the directory is said by opening it.
    let Ok(entries) = fs::read_dir(dir) else { return Ok(Vec::new()) };
    let paths: std::io::Result<Vec<PathBuf>> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(|error| Failure::io("read the directory", dir, &error))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "damaged"));
    paths.sort();
    Ok(paths)
}

impl Repaired {
    fn write(&self, output: &mut Output) -> Result<()> {
        for path in &self.set_aside {
            output.line(&format!("set aside: {}", text::visible(&path.display().to_string())))?;
        }
        self.salvaged.iter().try_for_each(|segment| write_salvaged(segment, output))?;
        let path = text::visible(&self.path);
        let keys = units::counted(self.keys, "key");
        match self.damaged_places {
            0 => output.line(&format!("{path} is not damaged: {keys}")),
            n => {
                let places = units::counted(n, "damaged place");
                let records = units::counted(self.records_kept, "record");
                output.line(&format!("{path}: {places} given up; kept {records}, {keys}"))
            }
        }
    }
}

fn write_salvaged(segment: &SalvagedSegment, output: &mut Output) -> Result<()> {
    let file = text::visible(&segment.file.display().to_string());
    let kept = units::counted(segment.records_kept, "record");
    output.line(&format!("{file}: kept {kept}, lost {}", segment.records_lost))?;
    for place in &segment.places {
        let key = |key: &Option<LostKey>, none: &str| {
            key.as_ref().map_or_else(|| none.to_owned(), |it| text::escaped(&it.key))
        };
        let (after, before) = (key(&place.after, "the first"), key(&place.before, "the last"));
        let LostPlace { offset, bytes, .. } = place;
        output.line(&format!(
            "  at byte {offset}, {bytes} bytes: keys between {after} and {before}"
        ))?;
    }
    if segment.tombstones_lost > 0 {
        let deletes = units::counted(segment.tombstones_lost, "delete");
        output.line(&format!("  {deletes} lost: as many deleted keys may have come back"))?;
    }
    Ok(())
}
