//! What a person sees of an import: a bar on a terminal, else a line every few seconds; the summary; what was skipped.

use std::io::{self, IsTerminal};
use std::time::Duration;

use cortenkv::{Clock, SystemClock};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::failure::{Result, complain, note};
use crate::import::loader::Totals;
use crate::import::source::Source;
use crate::units;

const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Records between two looks at the clock.
const LOOK_RECORDS: u64 = 64;
/// LIMIT: messages about single records.
const REPORTS_MAX: u64 = 100;

/// The progress of one run.
pub struct Meter {
    display: Display,
    bytes_total: Option<u64>,
    started: Duration,
    /// What earlier runs did.
    before: Totals,
    bytes_before: u64,
    bytes_read: u64,
    reports: u64,
}

enum Display {
    Off,
    Bar(ProgressBar),
    Lines { next_at: Duration },
}

/// The summary for programs.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    database: String,
    keyspace: &'a str,
    is_complete: bool,
    /// With those of earlier runs.
    #[serde(flatten)]
    totals: Totals,
    records_before: u64,
    elapsed_ms: u64,
    records_per_second: u64,
    bytes_per_second: u64,
}

impl Meter {
    /// Starts to measure.
    ///
    /// # Errors
    /// When the size of the source cannot be told.
    pub fn start(source: &dyn Source, before: Totals, quiet: bool) -> Result<Self> {
        let started = SystemClock.monotonic();
        let (display, bytes_total) = if quiet {
            (Display::Off, None)
        } else if io::stderr().is_terminal() {
            let bytes_total = source.bytes_total()?;
            (Display::Bar(bar(bytes_total)), bytes_total)
        } else {
            (Display::Lines { next_at: started + LINE_INTERVAL }, source.bytes_total()?)
        };
        let bytes_before = source.bytes_read();
        let bytes_read = bytes_before;
        Ok(Meter { display, bytes_total, started, before, bytes_before, bytes_read, reports: 0 })
    }

    /// Follows the import; cheap enough for every record.
    pub fn update(&mut self, source: &dyn Source, totals: Totals) {
        self.bytes_read = source.bytes_read();
        if !totals.records.is_multiple_of(LOOK_RECORDS) {
            return;
        }
        match &mut self.display {
            Display::Off => {}
            Display::Bar(bar) => {
                bar.set_position(self.bytes_read);
                bar.set_message(units::counted(totals.records, "record"));
            }
            Display::Lines { next_at } => {
                let now = SystemClock.monotonic();
                if now < *next_at {
                    return;
                }
                *next_at = now + LINE_INTERVAL;
                let mut done = units::bytes(self.bytes_read);
                if let Some(bytes) = self.bytes_total {
                    done = format!("{done} of {}", units::bytes(bytes));
                }
                let records = units::counted(totals.records, "record");
                note(&format!("{records}, {done}{}", self.rates(totals)));
            }
        }
    }

    /// Reports a record that was skipped.
    pub fn rejected(&mut self, message: &str) {
        self.reports += 1;
        match self.reports {
            0..=REPORTS_MAX => self.say(message),
            n if n == REPORTS_MAX + 1 => {
                self.say("more records were skipped; they are only counted from here on")
            }
            _ => {}
        }
    }

    /// Prints a message without harm to the bar.
    pub fn say(&self, message: &str) {
        match &self.display {
            Display::Bar(bar) => bar.suspend(|| complain(message)),
            Display::Off | Display::Lines { .. } => complain(message),
        }
    }

    /// Ends the display.
    pub fn finish(&self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }

    /// The summary for people, in one line.
    pub fn summary(
        &self,
        totals: Totals,
        passed_over: Option<String>,
        is_complete: bool,
    ) -> String {
        let elapsed = self.elapsed();
        let records = units::counted(totals.records - self.before.records, "record");
        let bytes = units::bytes(totals.bytes - self.before.bytes);
        let mut summary = format!(
            "imported {records}, {bytes} of keys and values, in {}{}",
            units::time(elapsed),
            self.rates(totals)
        );
        let mut add = |n: u64, words: &str| {
            if n > 0 {
                summary.push_str(&format!("; {} {words}", units::count(n)));
            }
        };
        add(self.before.records, "imported before");
        add(totals.expired, "had expired");
        add(totals.skipped, "skipped");
        if let Some(words) = passed_over {
            summary.push_str(&format!("; {words}"));
        }
        if !is_complete {
            summary.push_str("; not complete, start it again to go on");
        }
        summary
    }

    /// The summary for programs.
    pub fn json<'a>(
        &self,
        totals: Totals,
        database: String,
        keyspace: &'a str,
        is_complete: bool,
    ) -> Summary<'a> {
        let elapsed = self.elapsed();
        Summary {
            database,
            keyspace,
            is_complete,
            totals,
            records_before: self.before.records,
            elapsed_ms: elapsed.as_millis() as u64,
            records_per_second: units::rate(totals.records - self.before.records, elapsed),
            bytes_per_second: units::rate(totals.bytes - self.before.bytes, elapsed),
        }
    }

    fn elapsed(&self) -> Duration {
        SystemClock.monotonic() - self.started
    }

    fn rates(&self, totals: Totals) -> String {
        let elapsed = self.elapsed();
        let records = units::rate(totals.records - self.before.records, elapsed);
        let bytes = units::rate(self.bytes_read - self.bytes_before, elapsed);
        format!(", {} records/s, {}/s", units::count(records), units::bytes(bytes))
    }
}

fn bar(bytes_total: Option<u64>) -> ProgressBar {
    let template = match bytes_total {
        Some(_) => "{wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left, {msg}",
        None => "{spinner} {bytes}, {bytes_per_sec}, {msg}",
    };
    let bar = bytes_total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(ProgressStyle::with_template(template).expect("the template is right"))
}
