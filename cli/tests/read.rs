//! put, get, delete, scan, count, keyspaces, stats and export on a small database.

#![expect(clippy::disallowed_methods, reason = "looks at what the binary wrote")]

mod common;

use std::fs;

use common::Corten;

fn cities() -> Corten {
    let corten = Corten::new();
    for (key, value) in
        [("city:1", "Graz"), ("city:2", "Wien"), ("city:3", "Linz"), ("river", "Mur")]
    {
        corten.ok(&["put", "db", key, value]);
    }
    corten
}

#[test]
fn put_get_and_delete_keep_their_word_across_processes() {
    let corten = cities();
    assert_eq!(corten.ok(&["get", "db", "city:1"]), "Graz");
    corten.ok(&["delete", "db", "city:1", "city:2", "never"]);
    let ran = corten.run(&["get", "db", "city:1"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", ""));
    assert_eq!(corten.ok(&["count", "db"]), "2\n");
}

#[test]
fn values_come_from_standard_input_and_files_byte_for_byte() {
    let corten = Corten::new();
    let value = "a\nb\0\\";
    assert_eq!(corten.with_input(&["put", "db", "pipe"], value.as_bytes()).code, 0);
    corten.file("value", value);
    corten.ok(&["put", "db", "file", "--file", "value"]);
    assert_eq!(corten.ok(&["get", "db", "pipe"]), value);
    assert_eq!(corten.ok(&["get", "db", "file"]), value);
    assert_eq!(corten.ok(&["get", "db", "file", "--format", "text"]), "a\\nb\\x00\\\\\n");
    assert_eq!(corten.ok(&["get", "db", "file", "--format", "hex"]), "610a62005c\n");
}

#[test]
fn hex_keys_reach_what_text_cannot() {
    let corten = Corten::new();
    corten.ok(&["put", "db", "--hex", "00ff", "deadbeef"]);
    assert_eq!(corten.ok(&["get", "db", "--hex", "00ff", "--format", "hex"]), "deadbeef\n");
    assert_eq!(corten.ok(&["scan", "db", "--hex", "--prefix", "00"]), "\\x00\\xFF\tޭ\\xBE\\xEF\n");
    assert!(corten.fails(2, &["get", "db", "--hex", "0"]).contains("hex"));
}

#[test]
fn scan_takes_prefixes_ranges_directions_and_limits() {
    let corten = cities();
    let keys = |args: &[&str]| {
        let out = corten.ok(&[&["scan", "db", "--keys-only"], args].concat());
        out.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(keys(&["--prefix", "city:"]), ["city:1", "city:2", "city:3"]);
    assert_eq!(keys(&["--prefix", "city:", "--reverse", "--limit", "2"]), ["city:3", "city:2"]);
    assert_eq!(keys(&["--from", "city:2", "--to", "city:3"]), ["city:2"]);
    assert_eq!(keys(&["--from", "city:3"]), ["city:3", "river"]);
    assert_eq!(keys(&["--to", "city:2", "-r"]), ["city:1"]);
    assert_eq!(keys(&["--from", "z", "--to", "a"]), [""; 0]);
    assert_eq!(keys(&["-n", "0"]), [""; 0]);
    assert_eq!(corten.ok(&["scan", "db", "-n", "1"]), "city:1\tGraz\n");
    let json = corten.json(&["scan", "db", "--prefix", "river", "--format", "json"]);
    assert_eq!(json, serde_json::json!({"key": "river", "value": "Mur"}));
    assert_eq!(corten.ok(&["count", "db", "--prefix", "city:"]), "3\n");
}

#[test]
fn an_entry_with_an_expiry_shows_it_and_ends() {
    let corten = Corten::new();
    corten.ok(&["put", "db", "long", "x", "--ttl", "7d"]);
    corten.ok(&["put", "db", "short", "x", "--ttl", "1ms"]);
    let entry = corten.json(&["get", "db", "long", "--format", "json"]);
    assert!(
        entry["expires_at_ms"].as_u64().is_some_and(|at_ms| at_ms > 1_700_000_000_000),
        "{entry}"
    );
    assert_eq!(corten.run(&["get", "db", "short"]).code, 1);
    assert_eq!(corten.ok(&["count", "db"]), "1\n");
}

#[test]
fn stats_are_a_table_or_json() {
    let corten = cities();
    corten.ok(&["put", "db", "k", "v", "-k", "other"]);
    corten.ok(&["delete", "db", "river"]);
    let stats = corten.json(&["stats", "db", "--json"]);
    assert_eq!(
        (&stats["keys"], &stats["tombstones"], &stats["keyspaces"]),
        (&4.into(), &1.into(), &2.into())
    );
    assert_eq!(stats["open"]["records"], 6);
    assert!(stats["disk"]["bytes"].as_u64().unwrap() > 0);
    let table = corten.ok(&["stats", "db"]);
    assert!(table.lines().any(|line| line.split_whitespace().eq(["keys", "4"])), "{table}");
    let listed = corten.json(&["keyspaces", "db", "--count", "--json"]);
    assert_eq!(
        listed,
        serde_json::json!([{"name": "default", "keys": 3}, {"name": "other", "keys": 1}])
    );
}

/// The lines without the one expiry among them, and that.
fn without_expiry(lines: &str) -> (String, u64) {
    let (before, behind) = lines.split_once(",\"expires_at_ms\":").unwrap();
    let (expiry, behind) = behind.split_once('}').unwrap();
    (format!("{before}{behind}"), expiry.parse().unwrap())
}

#[test]
fn an_entry_that_expired_since_the_export_stays_away() {
    let corten = Corten::new();
    corten.file("a.jsonl", "{\"key\":\"k\",\"value\":\"v\",\"expires_at_ms\":1700000000000}\n");
    let ran = corten.run(&["import", "db", "a.jsonl"]);
    assert!(ran.code == 0 && ran.err.contains("1 had expired"), "{ran:?}");
    assert_eq!(corten.ok(&["count", "db"]), "0\n");
}

#[test]
fn an_export_comes_back_as_it_was() {
    let corten = cities();
    corten.ok(&["put", "db", "--hex", "00ff0a", "feff0909"]);
    corten.ok(&["put", "db", "session", "x", "-k", "users", "--ttl", "7d"]);
    corten.ok(&["export", "db", "--all", "-o", "backup.jsonl"]);
    corten.ok(&["import", "copy", "backup.jsonl"]);
    let original = fs::read_to_string(corten.path("backup.jsonl")).unwrap();
    let (original, expiry) = without_expiry(&original);
    let (copy, expiry_of_copy) = without_expiry(&corten.ok(&["export", "copy", "--all"]));
    assert_eq!(copy, original);
    // An import counts the time that is left, which may cost some milliseconds.
    assert!(expiry_of_copy.abs_diff(expiry) < 1_000, "{expiry_of_copy} and {expiry}");

    let tsv = corten.ok(&["export", "db", "--format", "tsv"]);
    assert_eq!(
        corten.with_input(&["import", "tsv", "-", "--format", "tsv"], tsv.as_bytes()).code,
        0
    );
    assert_eq!(corten.ok(&["scan", "tsv"]), corten.ok(&["scan", "db"]));
    assert!(corten.fails(2, &["export", "db", "-o", "backup.jsonl"]).contains("exists already"));
    assert!(corten.fails(2, &["export", "db", "--all", "--format", "tsv"]).contains("keyspace"));
}

#[test]
fn a_reader_that_has_enough_ends_a_scan_quietly() {
    let corten = Corten::new();
    let lines: String = (0..50_000).map(|n| format!("{n}\t{n}\n")).collect();
    corten.file("a.tsv", lines);
    corten.ok(&["import", "db", "a.tsv"]);
    let mut child = corten.command(&["scan", "db"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_quick_bench_measures_puts_gets_and_scans() {
    let corten = cities();
    let report =
        corten.json(&["bench", "--dir", ".", "--records", "500", "--time", "50ms", "--json", "-q"]);
    let measured = report["measured"].as_array().unwrap();
    assert!(
        measured.len() == 6 && measured.iter().all(|figures| figures["count"].as_u64() > Some(0)),
        "{report}"
    );
    assert!(
        measured.iter().all(|figures| figures["p50_ns"].as_u64() <= figures["p99_ns"].as_u64())
    );
    let left: Vec<_> = fs::read_dir(corten.path(".")).unwrap().collect();
    assert_eq!(left.len(), 1, "the temporary database is gone");
    let table = corten.ok(&["bench", "db", "--time", "20ms", "-q"]);
    assert!(table.contains("P99") && table.contains("get") && !table.contains("put"), "{table}");
    assert_eq!(corten.ok(&["count", "db"]), "4\n");
}
