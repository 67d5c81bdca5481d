//! `corten verify`: reads every record through its checksum, and compares the ways to it.
//!
//! # Layout
//! Opening verifies what no image of the index covers, and damage there that no crash explains refuses it. What is open then
//! verifies itself, every record of every segment: [`Db::verify`](cortenkv::Db::verify).

use std::path::{Path, PathBuf};

use cortenkv::verify::{Finding, FindingKind, VerifiedKeyspace};
use cortenkv::{Db, Error, ErrorKind, OpenReport, VerifyReport};
use serde::Serialize;

use crate::failure::{Exit, Failure, Result, complain, describe};
use crate::output::Output;
use crate::{open, text, units};

const EXAMPLES: &str = "\
Examples:
  corten verify db
  corten verify db --json

Compared are: every record with its checksum, the index with the newest record of every key, scans both ways with gets, the
counts of keys and of what lives in each segment, the manifest with the files.

Exit code 4 when something is damaged; each damage is named with file and offset. Bytes that a crash left half written
behind the last intact commit are no damage: they are cut off by opening, and reported.
`corten repair` keeps what is intact.";

/// LIMIT: problems that are reported one by one.
const PROBLEMS_MAX: usize = 100;

/// The command line of `corten verify`.
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

/// What was found.
#[derive(Debug, Serialize, Default)]
struct Report {
    path: String,
    is_intact: bool,
    opened: Option<OpenReport>,
    /// What was looked at.
    segments: u64,
    records: u64,
    record_bytes: u64,
    index_entries: u64,
    keys: u64,
    tombstones: u64,
    /// Whether scans could be compared.
    is_ordered: bool,
    /// Whether counts could be compared.
    is_quiet: bool,
    keyspaces: Vec<VerifiedKeyspace>,
    problems_total: u64,
    /// The first of them.
    problems: Vec<Problem>,
    #[serde(skip)]
    exit: Option<Exit>,
}

#[derive(Debug, Serialize)]
struct Problem {
    kind: FindingKind,
    keyspace: Option<String>,
    /// Escaped as in text output.
    key: Option<String>,
    file: Option<PathBuf>,
    offset: Option<u64>,
    message: String,
}

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    let mut report = Report { path: options.db.display().to_string(), ..Report::default() };
    match open::verifiable(&options.db, quiet, options.look)? {
        Ok(db) => {
            report.opened = Some(db.open_report());
            report.take(verify(&db, quiet)?);
            db.close()?;
        }
        Err(damage) => report.refused(&damage),
    }
    report.is_intact = report.problems_total == 0;
    report.complain();
    let mut output = Output::stdout();
    if options.json {
        output.json(&report)?;
    } else {
        report.write(&options.db, &mut output)?;
    }
    output.finish()?;
    report.exit.map_or(Ok(()), |exit| Err(Failure::Silent(exit)))
}

fn verify(db: &Db, quiet: bool) -> Result<VerifyReport> {
    let Some(bar) = open::progress_bar("verifying", quiet) else { return Ok(db.verify()?) };
    let verified = db.verify_with(|progress| {
        bar.set_length(progress.bytes_total);
        bar.set_position(progress.bytes_done);
    });
    bar.finish_and_clear();
    Ok(verified?)
}

impl Report {
    fn take(&mut self, verified: VerifyReport) {
        self.segments = verified.segments;
        self.records = verified.records;
        self.record_bytes = verified.record_bytes;
        self.index_entries = verified.entries;
        (self.keys, self.tombstones) = (verified.keys, verified.tombstones);
        (self.is_ordered, self.is_quiet) = (verified.is_ordered, verified.is_quiet);
        self.keyspaces = verified.keyspaces;
        self.problems_total = verified.findings_total;
        // Damage weighs more than a file that cannot be read just now.
        let is_unreadable = |finding: &Finding| finding.kind == FindingKind::Unreadable;
        self.exit = match verified.findings.as_slice() {
            [] => None,
            findings if findings.iter().all(is_unreadable) => Some(Exit::Io),
            _ => Some(Exit::Corruption),
        };
        let shown = verified.findings.into_iter().take(PROBLEMS_MAX);
        self.problems = shown.map(Problem::from).collect();
    }

    /// The damage that refused the opening.
    fn refused(&mut self, error: &Error) {
        let (file, offset) = match error.kind() {
            ErrorKind::Corruption { file, offset, .. } => (Some(file.clone()), Some(*offset)),
            _ => (None, None),
        };
        self.problems_total = 1;
        self.exit = Some(Exit::Corruption);
        let (kind, keyspace, key) = (FindingKind::Damage, None, None);
        self.problems.push(Problem { kind, keyspace, key, file, offset, message: describe(error) });
    }

    fn complain(&self) {
        for Problem { keyspace, key, message, file, offset, .. } in &self.problems {
            let keyspace = keyspace.as_ref().map(|name| format!("keyspace {name}, "));
            let key = key.as_ref().map(|key| format!("key {key}: "));
            let place = file.as_ref().map(|file| file.display().to_string());
            // Most sentences name the place themselves.
            let place = place.filter(|place| !message.contains(place)).map(|place| match offset {
                Some(offset) => format!(" ({place} at offset {offset})"),
                None => format!(" ({place})"),
            });
            complain(&format!(
                "{}{}{message}{}",
                keyspace.unwrap_or_default(),
                key.unwrap_or_default(),
                place.unwrap_or_default()
            ));
        }
        let shown = self.problems.len() as u64;
        if self.problems_total > shown {
            complain(&format!("{} more", self.problems_total - shown));
        }
    }

    fn write(&self, path: &Path, output: &mut Output) -> Result<()> {
        if let Some(opened) = &self.opened {
            let (records, segments) =
                (units::counted(self.records, "record"), units::counted(self.segments, "segment"));
            let bytes = units::bytes(self.record_bytes);
            output.line(&format!("records: {records}, {bytes} in {segments}"))?;
            if opened.bytes_cut > 0 {
                let cut = units::bytes(opened.bytes_cut);
                output.line(&format!("log: {cut} behind the last intact commit were cut off"))?;
            }
            let entries = units::count(self.index_entries);
            output.line(&format!("index: {entries} entries lead to their records"))?;
        }
        for VerifiedKeyspace { name, entries, bytes, .. } in &self.keyspaces {
            let (entries, bytes) = (units::count(*entries), units::bytes(*bytes));
            let name = text::escaped(name.as_bytes());
            output.line(&format!("keyspace {name}: {entries} entries, {bytes}"))?;
        }
        let path = text::visible(&path.display().to_string());
        match self.problems_total {
            0 => output.line(&format!("{path} is intact")),
            n => output.line(&format!("{path} is damaged: {}", units::counted(n, "problem"))),
        }
    }
}

impl From<Finding> for Problem {
    fn from(finding: Finding) -> Self {
        Problem {
            kind: finding.kind,
            keyspace: finding.keyspace,
            key: finding.key.as_deref().map(text::escaped),
            file: finding.file,
            offset: finding.offset,
            message: finding.what,
        }
    }
}
