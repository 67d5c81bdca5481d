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

    /// False when the disk changed its speed during the case, so that a ratio to its rate says little.
    pub fn probes_agree(&self) -> bool {
        self.fsync_rate_before
            .zip(self.fsync_rate_after)
            .is_none_or(|(before, after)| before.max(after) <= before.min(after) * PROBES_RATIO_MAX)
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

/// Beyond this ratio the two probes of the fsync rate do not agree.
const PROBES_RATIO_MAX: f64 = 4.0 / 3.0;

/// A table for people, in Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
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
        row.ratio_to_fsync_rate.map_or_else(none, |ratio| {
            format!("{ratio:.2}{}", if row.probes_agree() { "" } else { "~" })
        }),
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
    let mut arms: Vec<(&Row, Vec<&str>)> = Vec::new();
    for row in rows {
        let same = |(arm, _): &&mut (&Row, Vec<&str>)| {
            arm.settings == row.settings && arm.promise == row.promise
        };
        match arms.iter_mut().find(same) {
            Some((_, cases)) => cases.push(&row.case),
            None => arms.push((row, vec![&row.case])),
        }
    }
    let mut text = String::new();
    for (Row { settings, promise, .. }, cases) in arms {
        let (cases, class) = (cases.join(", "), promise.class.name());
        text.push_str(&format!("- {cases}: {} ({class}). {settings}.\n", promise.text));
    }
    if rows.iter().any(|row| row.ratio_to_fsync_rate.is_some()) {
        text.push_str("- x f: multiples of the fsync rate, probed before and after each case.\n");
    }
    if rows.iter().any(|row| !row.probes_agree()) {
        text.push_str("- ~: these two probes differ by more than a third; measure again on an idle machine.\n");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_store::Class;

    fn row(case: &str, ops_per_second: f64, probes: Option<(f64, f64)>) -> Row {
        Row {
            suite: "test".into(),
            case: case.into(),
            repeat: 1,
            settings: "defaults".into(),
            promise: Promise::new(Class::Synced, "a test"),
            threads: 1,
            seed: 1,
            outcome: Outcome::default(),
            ops_per_second,
            memory: Memory::default(),
            disk_bytes: 0,
            fsync_rate_before: probes.map(|probes| probes.0),
            fsync_rate_after: probes.map(|probes| probes.1),
            ratio_to_fsync_rate: probes.map(|(a, b)| ops_per_second / ((a + b) / 2.0)),
        }
    }

    #[test]
    fn the_median_repeat_is_that_of_the_ratio_where_the_disk_wanders() {
        let rows = [
            row("a", 10.0, Some((5.0, 5.0))),
            row("b", 1.0, None),
            row("a", 30.0, Some((30.0, 30.0))),
            row("b", 3.0, None),
            row("a", 20.0, Some((40.0, 40.0))),
            row("b", 2.0, None),
        ];
        let medians = medians(&rows);
        let found: Vec<_> =
            medians.iter().map(|row| (row.case.as_str(), row.ops_per_second)).collect();
        // Ratios of a: 2, 1, 0.5.
        assert_eq!(found, [("a", 30.0), ("b", 2.0)]);
    }

    #[test]
    fn probes_that_disagree_are_marked() {
        let steady = [row("a", 10.0, Some((9.0, 10.0)))];
        let wandering = [row("a", 10.0, Some((5.0, 10.0)))];
        assert!(!table(&steady).contains('~') && !legend(&steady).contains('~'));
        assert!(table(&wandering).contains("1.33~") && legend(&wandering).contains('~'));
    }

    #[test]
    fn arms_that_are_equal_share_a_line_of_the_legend() {
        let legend = legend(&[row("a-t1", 1.0, None), row("a-t8", 1.0, None)]);
        assert_eq!(legend, "- a-t1, a-t8: a test (synced). defaults.\n");
    }

    #[test]
    fn lines_survive_a_round_trip() {
        let conclusion = Conclusion { text: "claim".into(), value: 2.0, goal: Some(3.0) };
        let line = Line::Conclusion { suite: "s".into(), conclusion };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            r#"{"line":"conclusion","suite":"s","text":"claim","value":2.0,"goal":3.0}"#
        );
        let text = serde_json::to_string(&Line::Run(Box::new(row("a", 1.5, None)))).unwrap();
        let back: Line = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [rate_text(999.4), rate_text(12_345.0), rate_text(4.2e6)],
            ["999", "12.3k", "4.20M"]
        );
        assert_eq!([duration_text(104_000.0), duration_text(43e6)], ["104.0 us", "43.0 ms"]);
        assert_eq!([bytes_text(66_000), bytes_text(16_800_000)], ["66 kB", "16.8 MB"]);
    }
}
