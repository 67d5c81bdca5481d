//! `corten bench`: a quick look at speed, with latencies, and the sync rate of the disk beside durable figures.
//!
//! # Layout
//! `samples` holds latencies, `disk` measures bare syncs. One thread, one operation at a time: what a single caller
//! sees, not what the store can do with many.

mod disk;
mod samples;

use std::path::{Path, PathBuf};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use cortenkv::{Clock, Db, Durability, SystemClock};
use serde::Serialize;

use crate::failure::{Failure, Result, note};
use crate::output::Output;
use crate::{open, units};
use samples::{Figures, Samples};

const EXAMPLES: &str = "\
Examples:
  corten bench                       in a temporary database under the temporary directory of the system
  corten bench --dir /data           on the disk that matters
  corten bench db                    gets and scans on existing data; nothing is written

This is a quick look: one thread, keys in random order, everything in the page cache, no other work. Durable puts are
bounded by the disk: compare them with `sync`, a bare fdatasync in the same directory in the same minute.";

/// The command line of `corten bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Directory of an existing database to read from
    #[arg(value_name = "DB", conflicts_with_all = ["dir", "records", "value_bytes"])]
    db: Option<PathBuf>,
    /// Keyspace to read from
    #[arg(long, short, value_name = "NAME", default_value = "default", requires = "db")]
    keyspace: String,
    /// Where the temporary database is made, and removed again
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Records to put
    #[arg(long, value_name = "COUNT", default_value_t = 100_000,
          value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    records: u64,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 128,
          value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    value_bytes: u64,
    /// Time for each measurement of syncs, durable puts and gets
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = units::parse_duration)]
    time: Duration,
    /// Seed of the order of keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Report {
    directory: String,
    build: &'static str,
    seed: u64,
    measured: Vec<Figures>,
    /// Durable puts by one thread over bare syncs.
    durable_puts_per_sync: Option<f64>,
}

/// LIMIT: keys of an existing database that gets are drawn from.
const KEYS_MAX: usize = 1_000_000;

/// Runs the command.
pub fn run(options: Options, quiet: bool) -> Result<()> {
    if !quiet && cfg!(debug_assertions) {
        note("this is a debug build: its figures mean little");
    }
    let report = match &options.db {
        Some(path) => existing(path, &options, quiet)?,
        None => temporary(&options, quiet)?,
    };
    let mut output = Output::stdout();
    match options.json {
        true => output.json(&report)?,
        false => report.write(&mut output)?,
    }
    output.finish()
}

fn existing(path: &Path, options: &Options, quiet: bool) -> Result<Report> {
    let db = open::existing(path, quiet)?;
    let keyspace = open::keyspace(&db, &options.keyspace)?;
    let keys: cortenkv::Result<Vec<_>> = keyspace.keys().take(KEYS_MAX).collect();
    let keys = keys?;
    if keys.is_empty() {
        return Err(Failure::usage(format!("the keyspace {:?} is empty", options.keyspace)));
    }
    let mut random = Random(options.seed);
    let mut gets = Samples::start("get");
    while gets.elapsed() < options.time {
        let key = &keys[random.below(keys.len() as u64) as usize];
        gets.measure(|| keyspace.get(key))?;
    }
    let gets = gets.finish();
    let measured = vec![gets, scan(keyspace.iter())?];
    db.close()?;
    Ok(Report::new(path, options, measured))
}

fn temporary(options: &Options, quiet: bool) -> Result<Report> {
    let parent = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = tempfile::Builder::new()
        .prefix("corten-bench-")
        .tempdir_in(&parent)
        .map_err(|error| Failure::io("make a directory in", &parent, &error))?;
    let path = dir.path().join("db");
    let say = |words: &str| {
        if !quiet {
            note(words);
        }
    };
    say("measuring bare syncs");
    let mut measured = vec![disk::syncs(dir.path(), options.time, "sync (fdatasync), before")?];
    let db = Db::builder(&path).durability(Durability::None).build()?;
    say("measuring puts");
    measured.push(relaxed_puts(&db, options)?);
    measured.push(durable_puts(&db, options)?);
    measured.push(disk::syncs(dir.path(), options.time, "sync (fdatasync), after")?);
    say("measuring gets and a scan");
    measured.push(gets(&db, options)?);
    measured.push(scan(db.iter())?);
    db.close()?;
    let report = Report::new(&parent, options, measured);
    dir.close()
        .map_err(|error| Failure::io("remove the temporary database in", &parent, &error))?;
    Ok(report)
}

fn relaxed_puts(db: &Db, options: &Options) -> Result<Figures> {
    let value = vec![b'v'; options.value_bytes as usize];
    let mut puts = Samples::start("put, durability none");
    for n in 0..options.records {
        let key = key(n, options.seed);
        puts.measure(|| db.put(key, &value))?;
    }
    Ok(puts.finish())
}

/// Puts over the same keys, each durable before the next.
fn durable_puts(db: &Db, options: &Options) -> Result<Figures> {
    let value = vec![b'w'; options.value_bytes as usize];
    let put_options = cortenkv::PutOptions::new().durability(Durability::group());
    db.sync()?;
    let mut puts = Samples::start("put, durability group");
    while puts.elapsed() < options.time {
        let key = key(puts.count() % options.records, options.seed);
        puts.measure(|| db.put_with(key, &value, put_options))?;
    }
    Ok(puts.finish())
}

fn gets(db: &Db, options: &Options) -> Result<Figures> {
    let mut random = Random(options.seed);
    let mut gets = Samples::start("get");
    while gets.elapsed() < options.time {
        let key = key(random.below(options.records), options.seed);
        let value = gets.measure(|| db.get(key))?;
        if value.is_none() {
            return Err(Failure::new(
                crate::failure::Exit::Corruption,
                format!(
                    "a key that was put is not there (seed {}); please report this",
                    options.seed
                ),
            ));
        }
    }
    Ok(gets.finish())
}

fn scan(mut entries: cortenkv::Scan) -> Result<Figures> {
    let mut scan = Samples::start("scan, per entry");
    while scan.measure(|| entries.next().transpose())?.is_some() {}
    Ok(scan.finish())
}

/// Key number `n`: 16 hex digits in an order that looks random, each n another one.
fn key(n: u64, seed: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    let mixed = mix(n ^ mix(seed));
    for (place, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(mixed >> (60 - 4 * place)) as usize & 15];
    }
    digits
}

/// The finaliser of SplitMix64; a bijection.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        ((u128::from(mix(self.0)) * u128::from(end)) >> 64) as u64
    }
}

impl Report {
    fn new(directory: &Path, options: &Options, measured: Vec<Figures>) -> Self {
        let mean_rate = |name: &str| {
            let rates: Vec<f64> = measured
                .iter()
                .filter(|figures| figures.name.starts_with(name))
                .map(|figures| figures.per_second as f64)
                .collect();
            (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64)
        };
        let durable = mean_rate("put, durability group");
        let durable_puts_per_sync = durable.zip(mean_rate("sync")).map(|(put, sync)| put / sync);
        Report {
            directory: directory.display().to_string(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            seed: options.seed,
            measured,
            durable_puts_per_sync,
        }
    }

    fn write(&self, output: &mut Output) -> Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "count", "per second", "P50", "P99", "longest"]);
        for figures in &self.measured {
            let Figures { name, count, per_second, p50_ns, p99_ns, longest_ns } = figures;
            let time = |ns: &u64| units::time(Duration::from_nanos(*ns));
            let (count, rate) = (units::count(*count), units::count(*per_second));
            table.add_row([
                (*name).to_owned(),
                count,
                rate,
                time(p50_ns),
                time(p99_ns),
                time(longest_ns),
            ]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        output.line(&table.to_string())?;
        if let Some(ratio) = self.durable_puts_per_sync {
            output.line(&format!("durable puts by one thread: {ratio:.2} for each bare sync"))?;
        }
        let Report { directory, build, seed, .. } = self;
        output.line(&format!("{build} build, one thread, seed {seed}, in {directory}"))
    }
}

/// A moment to measure from.
fn now() -> Duration {
    SystemClock.monotonic()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_distinct_and_their_order_looks_random() {
        let keys: Vec<[u8; 16]> = (0..10_000).map(|n| key(n, 1)).collect();
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        let rising = keys.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((4_000..6_000).contains(&rising), "{rising}");
    }

    #[test]
    fn random_numbers_stay_below_their_end() {
        let mut random = Random(1);
        let mut seen = [0; 10];
        for _ in 0..1000 {
            seen[random.below(10) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
    }
}
