//! `corten verify`: reads every record through its checksum, and compares the ways to it.
//!
//! # Layout
//! Opening replays the log: every commit passes its checksum, and damage that no crash explains refuses the opening.
//! Then each keyspace is read forwards (every value through its checksum again), each entry once more by `get`, and the
//! keys backwards.

use std::path::{Path, PathBuf};

use cortenkv::{Db, Error, ErrorKind, Keyspace, OpenReport};
use serde::Serialize;

use crate::failure::{Exit, Failure, Result, complain, describe};
use crate::output::Output;
use crate::{open, text, units};

const EXAMPLES: &str = "\
Examples:
  corten verify db
  corten verify db --json

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
    keyspaces: Vec<Checked>,
    problems_total: u64,
    /// The first of them.
    problems: Vec<Problem>,
    #[serde(skip)]
    exit: Option<Exit>,
}

#[derive(Debug, Serialize)]
struct Checked {
    name: String,
    entries: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Problem {
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
    match open::verifiable(&options.db, quiet)? {
        Ok(db) => {
            report.check(&db)?;
            db.close()?;
        }
        Err(damage) => report.add(None, None, &damage),
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

impl Report {
    fn check(&mut self, db: &Db) -> Result<()> {
        self.opened = Some(db.open_report());
        for name in db.keyspaces()? {
            let keyspace = db.keyspace(&name)?;
            let checked = self.check_keyspace(&keyspace);
            self.keyspaces.push(checked);
        }
        // The count of the engine includes expired keys.
        let (counted, scanned) =
            (db.stats().keys, self.keyspaces.iter().map(|checked| checked.entries).sum::<u64>());
        if scanned > counted {
            self.disagree(
                None,
                None,
                format!("scans find {scanned} keys, the index counts {counted}"),
            );
        }
        Ok(())
    }

    fn check_keyspace(&mut self, keyspace: &Keyspace) -> Checked {
        let name = keyspace.name();
        let mut checked = Checked { name: name.to_owned(), entries: 0, bytes: 0 };
        let mut last: Option<bytes::Bytes> = None;
        for entry in keyspace.iter() {
            let (key, value) = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.add(Some(name), None, &error);
                    continue;
                }
            };
            checked.entries += 1;
            checked.bytes += (key.len() + value.len()) as u64;
            match keyspace.get(&key) {
                Ok(Some(found)) if found == value => {}
                Ok(None) if has_expired(keyspace, &key) => checked.entries -= 1,
                Ok(_) => self.disagree(Some(name), Some(&key), "get and scan differ".into()),
                Err(error) => self.add(Some(name), Some(&key), &error),
            }
            if last.is_some_and(|last| last >= key) {
                self.disagree(Some(name), Some(&key), "the key comes out of order".into());
            }
            last = Some(key);
        }
        let backwards = keyspace.keys().rev().filter(|key| key.is_ok()).count() as u64;
        // Keys may expire between the two.
        if backwards > checked.entries {
            let forwards = checked.entries;
            let message = format!("{forwards} keys forwards, {backwards} backwards");
            self.disagree(Some(name), None, message);
        }
        checked
    }

    fn add(&mut self, keyspace: Option<&str>, key: Option<&[u8]>, error: &Error) {
        let (file, offset) = match error.kind() {
            ErrorKind::Corruption { file, offset, .. } => (Some(file.clone()), Some(*offset)),
            _ => (None, None),
        };
        let exit = if error.is_corruption() { Exit::Corruption } else { Exit::Io };
        self.push(exit, keyspace, key, file, offset, describe(error));
    }

    /// Two ways to a record that should be one: damage of the index or of its code, not of a file.
    fn disagree(&mut self, keyspace: Option<&str>, key: Option<&[u8]>, message: String) {
        self.push(Exit::Corruption, keyspace, key, None, None, message);
    }

    fn push(
        &mut self,
        exit: Exit,
        keyspace: Option<&str>,
        key: Option<&[u8]>,
        file: Option<PathBuf>,
        offset: Option<u64>,
        message: String,
    ) {
        self.problems_total += 1;
        // Damage weighs more than a file that cannot be read just now.
        if exit == Exit::Corruption || self.exit.is_none() {
            self.exit = Some(exit);
        }
        if self.problems.len() < PROBLEMS_MAX {
            let (keyspace, key) = (keyspace.map(str::to_owned), key.map(text::escaped));
            self.problems.push(Problem { keyspace, key, file, offset, message });
        }
    }

    fn complain(&self) {
        for Problem { keyspace, key, message, .. } in &self.problems {
            let keyspace = keyspace.as_ref().map(|name| format!("keyspace {name}, "));
            let key = key.as_ref().map(|key| format!("key {key}: "));
            complain(&format!(
                "{}{}{message}",
                keyspace.unwrap_or_default(),
                key.unwrap_or_default()
            ));
        }
        if self.problems_total > PROBLEMS_MAX as u64 {
            complain(&format!("{} more", self.problems_total - PROBLEMS_MAX as u64));
        }
    }

    fn write(&self, path: &Path, output: &mut Output) -> Result<()> {
        if let Some(opened) = &self.opened {
            let records = units::counted(opened.records, "record");
            let segments = units::counted(opened.segments, "segment");
            let bytes = units::bytes(opened.bytes);
            output.line(&format!("log: {records}, {bytes} in {segments}"))?;
            if opened.bytes_cut > 0 {
                let cut = units::bytes(opened.bytes_cut);
                output.line(&format!("log: {cut} behind the last intact commit were cut off"))?;
            }
        }
        for Checked { name, entries, bytes } in &self.keyspaces {
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

/// True when a scan of just this key finds nothing any more either.
fn has_expired(keyspace: &Keyspace, key: &[u8]) -> bool {
    keyspace.range(key..=key).next().is_none()
}
