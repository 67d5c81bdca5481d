//! `corten restore`: a database from its backups, as it was at any commit or moment.

use std::path::PathBuf;

use cortenkv::{RestoreTo, restore, restore_from_log};

use crate::failure::Result;
use crate::output::Output;
use crate::units;

const EXAMPLES: &str = "\
Examples:
  corten restore /backups/db db-new
  corten restore /backups/db db-new --to-seq 1234
  corten restore /backups/db db-new --to-time 2026-03-01T12:00:00Z
  corten restore checkpoint db-new --log db      a checkpoint, and what its source has logged since

`corten backup --list` tells the commits and times of each backup. Whole commits are restored, in their order.";

/// The command line of `corten restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Directory of the backups; with --log a checkpoint
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// A new or empty directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// As it was after this commit
    #[arg(long, value_name = "N", conflicts_with = "to_time")]
    to_seq: Option<u64>,
    /// As it was at this moment: YYYY-MM-DDTHH:MM:SSZ, or ms since 1970
    #[arg(long, value_name = "T", value_parser = parse_moment)]
    to_time: Option<u64>,
    /// The database that the checkpoint was made of; it is only looked at
    #[arg(long, value_name = "DB")]
    log: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(options: Options) -> Result<()> {
    let to = match (options.to_seq, options.to_time) {
        (Some(seq), _) => RestoreTo::Seq(seq),
        (_, Some(at_ms)) => RestoreTo::TimeMs(at_ms),
        _ => RestoreTo::Latest,
    };
    let report = match &options.log {
        Some(log) => restore_from_log(&options.target, log, &options.dir, to)?,
        None => restore(&options.target, &options.dir, to)?,
    };
    let mut output = Output::stdout();
    match options.json {
        true => output.json(&report)?,
        false => output.line(&format!(
            "restored up to commit {}: {} applied",
            report.seq,
            units::counted(report.commits, "commit")
        ))?,
    }
    output.finish()
}

/// ms since 1970 of a moment in UTC.
fn parse_moment(text: &str) -> Result<u64, String> {
    if let Ok(at_ms) = text.parse() {
        return Ok(at_ms);
    }
    in_utc(text).ok_or_else(|| {
        format!("{text:?} is no moment; write it as 2026-03-01T12:00:00Z, or as ms since 1970")
    })
}

fn in_utc(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, by: char| {
        text.split(by).map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()
    };
    let (date, time) = (numbers(date, '-')?, numbers(time, ':')?);
    let ([year, month, day], [hour, minute, second]) = (&date[..], &time[..]) else { return None };
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let days_of = |month: u64| match month {
        2 => 28 + u64::from(is_leap(*year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_there = (1970..10_000).contains(year)
        && (1..=12).contains(month)
        && (1..=days_of(*month)).contains(day)
        && *hour < 24
        && *minute < 60
        && *second < 60;
    if !is_there {
        return None;
    }
    let days = (1970..*year).map(|year| 365 + u64::from(is_leap(year))).sum::<u64>()
        + (1..*month).map(days_of).sum::<u64>()
        + (day - 1);
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        assert_eq!(parse_moment("1700000000000"), Ok(1_700_000_000_000));
        assert_eq!(parse_moment("2023-11-14T22:13:20Z"), Ok(1_700_000_000_000));
        assert_eq!(parse_moment("2024-02-29T00:00:00Z"), Ok(1_709_164_800_000));
        for wrong in ["2023-02-29T00:00:00Z", "2023-13-01T00:00:00Z", "yesterday", "2023-11-14"] {
            assert!(parse_moment(wrong).is_err(), "{wrong}");
        }
    }
}
