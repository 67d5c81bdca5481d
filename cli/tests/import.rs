//! `corten import`: every source, bad records among good ones, and what is refused before anything is written.

mod common;

use common::Corten;

#[test]
fn a_folder_is_imported_by_relative_path() {
    let corten = Corten::new();
    corten.file("source/b.txt", "two");
    corten.file("source/a/deep/er.txt", "one");
    corten.file("source/empty", "");
    std::os::unix::fs::symlink("b.txt", corten.path("source/link")).unwrap();
    let ran = corten.run(&["import", "db", "source"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("3 records") && ran.err.contains("1 symbolic link"), "{ran:?}");
    assert_eq!(corten.ok(&["scan", "db"]), "a/deep/er.txt\tone\nb.txt\ttwo\nempty\t\n");
}

#[test]
fn a_database_within_its_source_is_not_imported_into_itself() {
    let corten = Corten::new();
    corten.file("a", "1");
    corten.ok(&["import", "db", "."]);
    corten.ok(&["import", "db", "."]);
    assert_eq!(corten.ok(&["scan", "db"]), "a\t1\n");
    assert!(corten.fails(2, &["import", "db", "db"]).contains("db is the database itself"));
}

#[test]
fn a_bad_line_is_named_and_the_good_lines_stay() {
    let corten = Corten::new();
    corten.file("a.jsonl", "{\"id\": 1}\nnonsense\n\n{\"name\": 1}\n{\"id\": \"x\"}\n");
    let ran = corten.run(&["import", "db", "a.jsonl", "--key", "id"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("corten: a.jsonl:2: no JSON object"), "{ran:?}");
    assert!(ran.err.contains("corten: a.jsonl:4: no field \"id\""), "{ran:?}");
    assert!(ran.err.contains("2 skipped"), "{ran:?}");
    assert_eq!(corten.ok(&["scan", "db"]), "1\t{\"id\": 1}\nx\t{\"id\": \"x\"}\n");
}

#[test]
fn strict_stops_before_the_first_bad_line_and_goes_on_once_it_is_mended() {
    let corten = Corten::new();
    let import = ["import", "db", "a.jsonl", "--key", "id", "--strict", "--json"];
    corten.file("a.jsonl", "{\"id\":1}\nbad\n{\"id\":3}\n");
    let ran = corten.run(&import);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.err.contains("a.jsonl:2: ") && ran.out.contains("\"is_complete\": false"),
        "{ran:?}"
    );
    assert_eq!(corten.ok(&["count", "db"]), "1\n");
    corten.file("a.jsonl", "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n");
    let summary = corten.json(&import);
    assert_eq!((&summary["records"], &summary["records_before"]), (&3.into(), &1.into()));
    assert_eq!(corten.ok(&["scan", "db", "--keys-only"]), "1\n2\n3\n");
    assert_eq!(corten.ok(&["count", "db", "-k", "corten.import"]), "0\n");
}

#[test]
fn a_source_that_changed_before_the_place_is_not_gone_on_with() {
    let corten = Corten::new();
    let import = ["import", "db", "a.tsv", "--strict", "-q"];
    corten.file("a.tsv", "1\ta\nbad\n");
    assert_eq!(corten.run(&import).code, 3);
    corten.file("a.tsv", "1\tb\n2\tb\n");
    assert!(corten.fails(2, &import).contains("--restart"));
    corten.ok(&["import", "db", "a.tsv", "--restart"]);
    assert_eq!(corten.ok(&["scan", "db"]), "1\tb\n2\tb\n");
}

#[test]
fn csv_rows_become_json_or_one_column() {
    let corten = Corten::new();
    let csv = "\u{FEFF}id,name\r\n1,\"Ada, L\"\r\n2\r\n3,\"two\nlines\"\r\n\r\n4,x,y\r\n";
    corten.file("a.csv", csv);
    let ran = corten.run(&["import", "db", "a.csv", "--key", "id"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("a.csv:3: the row has 1 fields, the header 2"), "{ran:?}");
    assert!(ran.err.contains("a.csv:7: the row has 3 fields"), "{ran:?}");
    let rows = "{\"id\":\"1\",\"name\":\"Ada, L\"}\n";
    assert_eq!(corten.ok(&["get", "db", "1", "--format", "text"]), rows);
    assert_eq!(corten.ok(&["get", "db", "3"]), r#"{"id":"3","name":"two\nlines"}"#);

    corten.file("b.txt", "zip;city\n8010;Graz\n1010;Wien\n");
    let options = ["--format", "csv", "--delimiter", ";", "--key", "zip", "--value", "city"];
    corten.ok(&[&["import", "other", "b.txt"], &options[..]].concat());
    assert_eq!(corten.ok(&["scan", "other"]), "1010\tWien\n8010\tGraz\n");
    let error = corten.fails(2, &["import", "db", "a.csv", "--key", "zip"]);
    assert!(error.contains("\"zip\"") && error.contains("id, name"), "{error}");
    assert!(corten.fails(2, &["import", "db", "a.csv"]).contains("--key"));
}

#[test]
fn standard_input_takes_each_line_format() {
    let corten = Corten::new();
    let import = |format: &str, keyspace: &str, input: &str| {
        let args = ["import", "db", "-", "--format", format, "-k", keyspace];
        let key: &[&str] = if format == "tsv" { &[] } else { &["--key", "id"] };
        let ran = corten.with_input(&[&args, key].concat(), input.as_bytes());
        assert_eq!(ran.code, 0, "{ran:?}");
        corten.ok(&["scan", "db", "-k", keyspace])
    };
    assert_eq!(import("jsonl", "j", "{\"id\":7}"), "7\t{\"id\":7}\n");
    assert_eq!(import("tsv", "t", "a\\tb\t\\x00\n"), "a\\tb\t\\x00\n");
    assert_eq!(import("csv", "c", "id\n7\n"), "7\t{\"id\":\"7\"}\n");
    assert_eq!(corten.ok(&["keyspaces", "db"]), "c\ndefault\nj\nt\n");
    let named = ["import", "db", "/dev/stdin", "--format", "csv", "--key", "id"];
    assert_eq!(corten.with_input(&named, b"id\n8\n").code, 0);
    assert_eq!(corten.ok(&["scan", "db"]), "8\t{\"id\":\"8\"}\n");
}

#[test]
fn what_is_over_a_limit_is_reported_and_skipped() {
    let corten = Corten::new();
    corten.file("pairs.tsv", format!("{}\tv\nok\tv\n", "k".repeat(65_537)));
    let ran = corten.run(&["import", "db", "pairs.tsv"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(
        ran.err.contains("pairs.tsv:1: the key has 65537 bytes; the limit is 65536"),
        "{ran:?}"
    );
    assert_eq!(corten.ok(&["scan", "db"]), "ok\tv\n");

    corten.file("folder/large", vec![b'x'; (32 << 20) - (128 << 10) + 1]);
    corten.file("folder/largest", vec![b'y'; (32 << 20) - (128 << 10)]);
    let ran = corten.run(&["import", "files", "folder"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("folder/large: the file has more than 33423360 bytes"), "{ran:?}");
    assert_eq!(corten.ok(&["scan", "files", "--keys-only"]), "largest\n");
    assert_eq!(corten.ok(&["get", "files", "largest"]).len(), 33_423_360);
}

#[test]
fn a_keyspace_that_a_line_names_is_checked() {
    let corten = Corten::new();
    let line = |name: &str| format!("{{\"keyspace\":\"{name}\",\"key\":\"k\",\"value\":\"v\"}}\n");
    let names = ["users", "a/b", "a\\u0000b", &"n".repeat(300), "", "corten.import"];
    corten.file("a.jsonl", names.map(line).concat());
    let ran = corten.run(&["import", "db", "a.jsonl"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    for (line, word) in [(2, "'/'"), (3, "NUL"), (4, "255"), (5, "empty"), (6, "corten.")] {
        let named = ran.err.lines().find(|text| text.contains(&format!("a.jsonl:{line}: ")));
        assert!(named.is_some_and(|text| text.contains(word)), "line {line}: {ran:?}");
    }
    assert_eq!(corten.ok(&["keyspaces", "db"]), "default\nusers\n");
}

#[test]
fn a_source_that_cannot_be_imported_makes_no_database() {
    let corten = Corten::new();
    corten.file("notes.txt", "x");
    assert!(corten.fails(9, &["import", "db", "none"]).contains("none"));
    assert!(corten.fails(9, &["import", "db", "none.csv", "--key", "a"]).contains("none.csv"));
    assert!(corten.fails(2, &["import", "db", "notes.txt"]).contains("--format"));
    assert!(corten.fails(2, &["import", "db", ".", "--format", "tsv"]).contains("a folder"));
    assert!(corten.fails(2, &["import", "db", ".", "--key", "a"]).contains("--key"));
    corten.file("a.csv", "id,name\n1,x\n");
    assert!(corten.fails(2, &["import", "db", "a.csv", "--key", "zip"]).contains("\"zip\""));
    assert!(corten.fails(2, &["import", "db", ".", "-k", "a/b"]).contains("'/'"));
    assert!(corten.fails(2, &["import", "db", ".", "-k", "corten.import"]).contains("corten."));
    assert!(!corten.path("db").exists());
}

#[test]
fn an_import_with_every_durability_and_codec_is_there_after_reopening() {
    let corten = Corten::new();
    corten.file("source/a", "compressible ".repeat(1000));
    for (n, mode) in
        ["always", "group", "every=10", "interval=50ms", "checkpoint", "none"].iter().enumerate()
    {
        let codec = if n % 2 == 0 { "snappy" } else { "none" };
        let db = format!("db{n}");
        corten.ok(&["import", &db, "source", "--durability", mode, "--compression", codec]);
        assert_eq!(corten.ok(&["get", &db, "a"]).len(), 13_000, "{mode}");
    }
}
