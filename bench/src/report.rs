//! Results as JSON lines for programs, and as tables for people.
//!
//! # Layout of the lines
//! One object a line, told apart by its field `line`: `machine` once, `run` for each repeat of each case, `median` for
//! each case, `conclusion` for what a suite concludes. Readers ignore fields that they do not know.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};

use crate::latency::LatencySummary;
use crate::log_store::Promise;
use crate::machine::Machine;
use crate::process::Memory;
use crate::suite::{Conclusion, Outcome};

/// One run of one case, with everything around it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    /// Suite.
    pub suite: String,
    /// Case.
    pub case: String,
    /// From 1.
    pub repeat: u32,
    /// Every setting of the arm.
    pub settings: String,
    /// What it promises.
    pub promise: Promise,
    /// Threads that worked.
    pub threads: usize,
    /// Seed.
    pub seed: u64,
    /// What it gave.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Operations per second of the measured part.
    pub ops_per_second: f64,
    /// Memory of the process of the case at its end.
    pub memory: Memory,
    /// Bytes that the files of the case have allocated on the disk at its end.
    pub disk_bytes: u64,
    /// Syncs per second just before, for synced cases.
    pub fsync_rate_before: Option<f64>,
    /// Syncs per second just after, for synced cases.
    pub fsync_rate_after: Option<f64>,
    /// Operations per second over the mean of the two rates.
    pub ratio_to_fsync_rate: Option<f64>,
}

impl Row {
    /// What repeats are ordered by: the ratio to the fsync rate where there is one, because that rate wanders.
    pub fn rank(&self) -> f64 {
        self.ratio_to_fsync_rate.unwrap_or(self.ops_per_second)
    }

    /// Latency of the first operation.
    pub fn latency(&self) -> Option<&LatencySummary> {
        self.outcome.latency.values().next().filter(|latency| latency.samples > 0)
    }
}

/// One line of a result file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "lowercase")]
pub enum Line {
    /// Where it was measured.
    Machine(Machine),
    /// One repeat.
    Run(Box<Row>),
    /// The median repeat of a case.
    Median(Box<Row>),
    /// What a suite concludes.
    Conclusion {
        /// Suite.
        suite: String,
        /// What.
        #[serde(flatten)]
        conclusion: Conclusion,
    },
}

/// The median repeat of each case, in the order in which the cases first appear. Of an even number, the lower one.
pub fn medians(rows: &[Row]) -> Vec<Row> {
    let mut cases: Vec<&str> = Vec::new();
    for row in rows {
        if !cases.contains(&row.case.as_str()) {
            cases.push(&row.case);
        }
    }
    let median_of = |case: &&str| {
        let mut repeats: Vec<&Row> = rows.iter().filter(|row| row.case == *case).collect();
        repeats.sort_by(|a, b| a.rank().total_cmp(&b.rank()));
        repeats[(repeats.len() - 1) / 2].clone()
    };
    cases.iter().map(median_of).collect()
}

/// A table for people; `markdown` for documents.
pub fn table(rows: &[Row], markdown: bool) -> String {
    let mut table = Table::new();
    table.load_style(if markdown {
        presets::ASCII_MARKDOWN
    } else {
        presets::UTF8_HORIZONTAL_ONLY
    });
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "case",
        "class",
        "threads",
        "ops/s",
        "x f",
        "p50",
        "p95",
        "p99",
        "p99.9",
        "max",
        "fsyncs/op",
        "cpu/op",
        "RSS",
        "disk",
    ]);
    for row in rows {
        table.add_row(cells(row));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn cells(row: &Row) -> Vec<String> {
    let none = || "-".to_string();
    let latency = |pick: fn(&LatencySummary) -> u64| {
        row.latency().map_or_else(none, |latency| duration_text(pick(latency) as f64))
    };
    vec![
        row.case.clone(),
        row.promise.class.name().into(),
        row.threads.to_string(),
        rate_text(row.ops_per_second),
        row.ratio_to_fsync_rate.map_or_else(none, |ratio| format!("{ratio:.2}")),
        latency(|latency| latency.p50_ns),
        latency(|latency| latency.p95_ns),
        latency(|latency| latency.p99_ns),
        latency(|latency| latency.p999_ns),
        latency(|latency| latency.max_ns),
        row.outcome.extra.get("fsyncs_per_op").map_or_else(none, |ratio| format!("{ratio:.4}")),
        duration_text(row.outcome.cpu_ns_per_op),
        bytes_text(row.memory.peak_bytes),
        bytes_text(row.disk_bytes),
    ]
}

/// What each arm is and promises, under the table.
pub fn legend(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let Row { case, settings, promise, .. } = row;
        text.push_str(&format!(
            "- {case}: {} ({}). {settings}.\n",
            promise.text,
            promise.class.name()
        ));
    }
    text
}

/// One sentence of a conclusion.
pub fn conclusion_text(conclusion: &Conclusion) -> String {
    let Conclusion { text, value, goal } = conclusion;
    match goal {
        Some(goal) => {
            let verdict = if conclusion.holds() { "reached" } else { "NOT REACHED" };
            format!("{text}: {value:.4} (goal {goal}, {verdict})")
        }
        None => format!("{text}: {value:.4}"),
    }
}

fn rate_text(per_second: f64) -> String {
    match per_second {
        rate if rate >= 1e6 => format!("{:.2}M", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.1}k", rate / 1e3),
        rate => format!("{rate:.0}"),
    }
}

fn duration_text(nanoseconds: f64) -> String {
    match nanoseconds {
        time if time >= 1e9 => format!("{:.2} s", time / 1e9),
        time if time >= 1e6 => format!("{:.1} ms", time / 1e6),
        time if time >= 1e4 => format!("{:.1} us", time / 1e3),
        time => format!("{time:.0} ns"),
    }
}

fn bytes_text(bytes: u64) -> String {
    match bytes as f64 {
        size if size >= 1e9 => format!("{:.2} GB", size / 1e9),
        size if size >= 1e6 => format!("{:.1} MB", size / 1e6),
        size => format!("{:.0} kB", size / 1e3),
    }
}
