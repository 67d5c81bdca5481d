//! The command: every suite runs tiny, result lines can be read back, wrong options are refused.

#![expect(clippy::disallowed_methods, reason = "result files are read back")]

use std::process::{Command, Output};

use cortenkv_bench::report::Line;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cortenkv-bench")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn smoke_runs_every_suite_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(&["smoke", "--dir", dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    for suite in cortenkv_bench::suites::all() {
        assert!(printed.contains(&format!("{}: ", suite.name())), "{printed}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn json_lines_hold_repeats_medians_and_machine_facts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result.jsonl");
    let output = bench(&[
        "run",
        "fsync",
        "--json",
        "--case",
        "prewritten-t1",
        "--repeat",
        "3",
        "--seconds",
        "0.02",
        "--warm-up",
        "0",
        "--fsync-probe",
        "0.01",
        "--threads",
        "1",
        "--seed",
        "9",
        "--dir",
        dir.path().to_str().unwrap(),
        "--output",
        file.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert_eq!(printed, std::fs::read_to_string(&file).unwrap());
    let lines: Vec<Line> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(matches!(&lines[0], Line::Machine(machine) if machine.cores > 0));
    let repeats: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Run(row) => Some(row),
            _ => None,
        })
        .collect();
    assert_eq!(repeats.iter().map(|row| row.repeat).collect::<Vec<_>>(), [1, 2, 3]);
    let mut ratios: Vec<f64> = repeats.iter().map(|row| row.ratio_to_fsync_rate.unwrap()).collect();
    ratios.sort_by(f64::total_cmp);
    let Some(Line::Median(median)) = lines.last() else { panic!("{printed}") };
    assert_eq!(median.ratio_to_fsync_rate, Some(ratios[1]));
    assert_eq!(median.seed, 9);
    assert!(median.memory.peak_bytes > 0 && median.disk_bytes > 0);
    let latency = median.latency().unwrap();
    assert!(latency.samples > 0 && latency.p50_ns <= latency.p999_ns);
}

#[test]
fn a_failing_case_is_named_and_fails_the_command() {
    // The plan asks for a directory that is not there.
    let output = bench(&["run", "fsync", "--seconds", "0.01", "--dir", "/nowhere/at/all"]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(
        message.contains("suite fsync, case f") && message.contains("/nowhere/at/all"),
        "{message}"
    );
}

#[test]
fn wrong_command_lines_are_refused_before_anything_runs() {
    for (arguments, expected) in [
        (vec!["run", "no-such-suite"], "no suite is called no-such-suite"),
        (vec!["run", "fsync", "--seconds", "0"], "a number above 0 is expected"),
        (vec!["run", "fsync", "--seconds", "soon"], "a number"),
        (vec!["run", "fsync", "--repeat", "0"], "repeat"),
        (vec!["run", "fsync", "--threads", "two"], "threads"),
        (vec!["run"], "SUITES"),
    ] {
        let output = bench(&arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let message = text(&output.stderr);
        assert!(message.contains(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn list_names_every_suite_and_its_cases() {
    let output = bench(&["list"]);
    assert!(output.status.success());
    let printed = text(&output.stdout);
    for suite in cortenkv_bench::suites::all() {
        assert!(printed.contains(suite.name()) && printed.contains(suite.about()), "{printed}");
    }
}

#[test]
fn the_memory_of_an_index_is_counted_at_every_size() {
    let output = bench(&[
        "run",
        "index-memory",
        "--json",
        "--keys",
        "4000",
        "--repeat",
        "1",
        "--case",
        "16B-grown",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    let lines = printed.lines().map(|line| serde_json::from_str(line).unwrap());
    let (mut medians, mut goals) = (0, 0);
    for line in lines {
        match line {
            Line::Median(row) => {
                let at = |name: &&String| name.starts_with("bytes_per_key_at_");
                let sizes: Vec<_> = row.outcome.extra.keys().filter(at).collect();
                assert_eq!(sizes.len(), 8, "{sizes:?}");
                // An entry takes eight bytes at least.
                assert!(sizes.iter().all(|size| row.outcome.extra[*size] > 8.0), "{printed}");
                let has_order = row.case.contains('+');
                assert_eq!(row.outcome.extra.contains_key("worst_order"), has_order);
                medians += 1;
            }
            Line::Conclusion { conclusion, .. } => goals += usize::from(conclusion.goal.is_some()),
            _ => {}
        }
    }
    assert_eq!((medians, goals), (2, 3));
}
