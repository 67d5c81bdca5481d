//! segments, compact, and what verify, stats and repair make of compacted segments.

#![expect(clippy::disallowed_methods, reason = "looks at and damages the files of a database")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::Corten;
use serde_json::Value;

/// A database with some garbage in every segment.
fn database() -> Corten {
    let corten = Corten::new();
    for round in 0..3 {
        let lines: Vec<String> = (0..4_000)
            .filter(|n| round == 0 || n % 3 != 0)
            .map(|n| {
                format!("{{\"key\":\"{n}\",\"value\":\"{}\"}}\n", format!("{round} ").repeat(300))
            })
            .collect();
        corten.file("source.jsonl", lines.concat());
        corten.ok(&["import", "db", "source.jsonl", "--restart", "--durability", "none"]);
    }
    corten
}

fn compacted(corten: &Corten) -> Vec<PathBuf> {
    let entries = fs::read_dir(corten.path("db")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "cseg"));
    paths.sort();
    paths
}

fn sum(report: &Value, field: &str) -> u64 {
    let segments = report["segments"].as_array().unwrap().iter();
    segments.map(|segment| segment["figures"][field].as_u64().unwrap()).sum()
}

// U12, C3
#[test]
fn compact_gives_space_back_and_segments_show_it() {
    let corten = database();
    let before = corten.json(&["segments", "db", "--json"]);
    let report = corten.json(&["compact", "db", "--json"]);
    let after = corten.json(&["segments", "db", "--json"]);
    assert!(sum(&before, "record_bytes") >= sum(&before, "live_bytes"));
    let (record_bytes, live_bytes) = (sum(&after, "record_bytes"), sum(&after, "live_bytes"));
    assert!(record_bytes * 4 < live_bytes * 5, "{record_bytes} {live_bytes}");
    assert_eq!(report["path"], "db");
    assert_eq!(report["after"]["record_bytes"].as_u64().unwrap(), record_bytes, "{report}");
    assert!(!compacted(&corten).is_empty(), "{report}");
    let kinds = after["segments"].as_array().unwrap().iter().map(|segment| &segment["kind"]);
    assert!(
        kinds.clone().any(|kind| kind == "log") && kinds.clone().any(|kind| kind == "compacted")
    );
    let table = corten.ok(&["segments", "db"]);
    assert!(
        table.contains("live %") && table.contains(".cseg") && table.contains("active"),
        "{table}"
    );
    let again = corten.ok(&["compact", "db"]);
    assert!(again.starts_with("db: nothing is worth rewriting"), "{again}");
    assert_eq!(corten.ok(&["count", "db"]), "4000\n");
    let verified = corten.json(&["verify", "db", "--json"]);
    assert_eq!((&verified["is_intact"], &verified["is_quiet"]), (&true.into(), &true.into()));
    assert_eq!(verified["keys"], 4_000);
    let stats = corten.json(&["stats", "db", "--json"]);
    assert_eq!(stats["compaction"]["live_bytes"], live_bytes);
    assert!(corten.ok(&["stats", "db"]).contains("bytes of live records"));
}

#[test]
fn a_damaged_compacted_segment_is_named() {
    let corten = database();
    corten.ok(&["compact", "db"]);
    let path = compacted(&corten)[0].clone();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let ran = corten.run(&["verify", "db", "--json"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(report["problems"][0]["file"].as_str().unwrap().ends_with(name), "{report}");
    let offset = report["problems"][0]["offset"].as_u64().unwrap();
    assert!(offset <= middle as u64 && middle as u64 - offset < 4_096, "{offset} {middle}");
    // Without its image, an opening reads every segment.
    for entry in fs::read_dir(path.parent().unwrap()).unwrap().map(Result::unwrap) {
        if entry.file_name().to_string_lossy().starts_with("CKPT-") {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for command in ["compact", "segments", "stats"] {
        assert!(corten.fails(4, &[command, "db"]).contains(name));
    }
    let repaired = corten.ok(&["repair", "db"]);
    assert!(repaired.contains(name) && repaired.contains("keys between"), "{repaired}");
    assert!(path.with_extension("cseg.damaged").exists());
    corten.ok(&["verify", "db"]);
}

#[test]
fn a_lost_compacted_segment_is_damage() {
    let corten = database();
    corten.ok(&["compact", "db"]);
    let path = compacted(&corten)[0].clone();
    fs::remove_file(&path).unwrap();
    let ran = corten.run(&["verify", "db"]);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(ran.code == 4 && ran.err.contains(name), "{ran:?}");
}
