//! An importer that is killed: the next run goes on where it stopped, and everything is there exactly once.

#![expect(clippy::disallowed_methods, reason = "waits for another process")]

mod common;

use std::fmt::Write;
use std::thread::sleep;
use std::time::Duration;

use common::Corten;
use serde_json::Value;

/// Kills an import as soon as the database has so many more segments; true if it was still at work.
fn killed(corten: &Corten, import: &[&str], segments_more: usize) -> bool {
    let goal = corten.segments("db").len() + segments_more;
    let mut child = corten.spawn(import);
    let was_at_work = loop {
        if child.try_wait().unwrap().is_some() {
            break false;
        }
        if corten.segments("db").len() >= goal {
            break true;
        }
        sleep(Duration::from_millis(1));
    };
    // SIGKILL; of no effect on a process that has ended.
    let _ = child.kill();
    child.wait().unwrap();
    was_at_work
}

/// Kills an import twice on its way, lets it finish, and gives the summary of the last run.
fn interrupted(corten: &Corten, import: &[&str]) -> Value {
    for _ in 0..2 {
        assert!(killed(corten, import, 2), "the import ended before it could be killed");
    }
    let summary = corten.json(&[import, &["--json"]].concat());
    assert!(summary["records_before"].as_u64().unwrap() > 0, "nothing was gone on with: {summary}");
    summary
}

#[test]
fn a_killed_import_of_lines_goes_on_and_loses_and_repeats_nothing() {
    let corten = Corten::new();
    let lines = 60_000;
    let mut content = String::new();
    for n in 0..lines {
        writeln!(content, "{{\"id\":\"{n:06}\",\"padding\":\"{}\"}}", "x".repeat(400)).unwrap();
    }
    corten.file("a.jsonl", &content);
    let summary = interrupted(&corten, &["import", "db", "a.jsonl", "--key", "id"]);
    // Counted over all runs: had a line come twice, there would be more.
    assert_eq!(summary["records"], lines);
    let exported: String = corten.ok(&["scan", "db"]);
    let expected = content.lines().enumerate();
    assert!(exported.lines().eq(expected.map(|(n, line)| format!("{n:06}\t{line}"))));
    assert_eq!(corten.ok(&["count", "db", "-k", "corten.import"]), "0\n");
}

#[test]
fn a_killed_import_of_a_folder_goes_on_and_loses_and_repeats_nothing() {
    let corten = Corten::new();
    let files = 1_200;
    for n in 0..files {
        corten.file(&format!("source/{}/{n}", n % 7), format!("{n:020}").repeat(1_000));
    }
    let summary = interrupted(&corten, &["import", "db", "source", "--durability", "none"]);
    assert_eq!(summary["records"], files);
    assert_eq!(corten.ok(&["count", "db"]), format!("{files}\n"));
    for n in [0, 1, 599, 1_199] {
        let value = corten.ok(&["get", "db", &format!("{}/{n}", n % 7)]);
        assert_eq!(value, format!("{n:020}").repeat(1_000));
    }
}

#[test]
fn restart_begins_anew() {
    let corten = Corten::new();
    corten.file("a.csv", "id\n1\n2,bad\n3\n");
    let import = ["import", "db", "a.csv", "--key", "id", "--strict"];
    assert_eq!(corten.run(&import).code, 3);
    corten.file("a.csv", "id\n1\n2\n3\n");
    let summary = corten.json(&[&import[..], &["--restart", "--json"]].concat());
    assert_eq!((&summary["records"], &summary["records_before"]), (&3.into(), &0.into()));
}

#[test]
fn csv_goes_on_behind_rows_with_line_breaks_and_counts_lines_on() {
    let corten = Corten::new();
    let import = ["import", "db", "a.csv", "--key", "id", "--strict", "-q"];
    let head = "id,name\r\n1,\"a\r\nb\"\r\n2,c\r\n";
    corten.file("a.csv", format!("{head}bad\r\n"));
    assert!(corten.fails(3, &import).contains("a.csv:5: "));
    corten.file("a.csv", format!("{head}3,d\r\n\r\nworse\r\n4,e\r\n"));
    assert!(corten.fails(3, &import).contains("a.csv:7: "));
    corten.file("a.csv", format!("{head}3,d\r\n\r\n4,e\r\n"));
    corten.ok(&import);
    assert_eq!(corten.ok(&["scan", "db", "--keys-only"]), "1\n2\n3\n4\n");
}
