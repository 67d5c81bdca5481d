//! `corten verify`: says that an intact database is intact, and where a damaged one is damaged.

#![expect(clippy::disallowed_methods, reason = "damages the files of a database")]

mod common;

use std::fs;

use common::Corten;

/// A database with a few values and, behind them, proof that they were durable.
fn database() -> Corten {
    let corten = Corten::new();
    for n in 0..5 {
        corten.file(&format!("source/{n}"), format!("value number {n}; ").repeat(20));
    }
    corten.ok(&["import", "db", "source"]);
    corten.ok(&["put", "db", "later", "x", "-k", "other"]);
    corten.ok(&["put", "db", "latest", "x"]);
    corten
}

/// Flips a bit within the value of a key; gives the name of the file and the offset.
fn flip(corten: &Corten, value: &str) -> (String, u64) {
    for path in corten.segments("db") {
        let mut bytes = fs::read(&path).unwrap();
        let found = bytes.windows(value.len()).position(|window| window == value.as_bytes());
        if let Some(offset) = found {
            bytes[offset + 3] ^= 4;
            fs::write(&path, bytes).unwrap();
            return (path.file_name().unwrap().to_str().unwrap().to_owned(), offset as u64 + 3);
        }
    }
    panic!("no segment holds {value:?}");
}

#[test]
fn an_intact_database_is_intact() {
    let corten = database();
    let out = corten.ok(&["verify", "db"]);
    assert!(
        out.contains("keyspace default: 6 entries") && out.ends_with("db is intact\n"),
        "{out}"
    );
    let report = corten.json(&["verify", "db", "--json"]);
    assert_eq!(report["is_intact"], true);
    assert_eq!(report["keyspaces"][1]["name"], "other");
    assert_eq!(report["keyspaces"][1]["entries"], 1);
}

#[test]
fn a_read_only_look_leaves_every_file_as_it_is() {
    let corten = database();
    let files = || {
        let entries = fs::read_dir(corten.path("db")).unwrap().map(Result::unwrap);
        let mut files: Vec<_> =
            entries.map(|file| (file.file_name(), fs::read(file.path()).unwrap())).collect();
        files.sort();
        files
    };
    let before = files();
    for command in ["verify", "stats", "segments"] {
        corten.ok(&[command, "db", "--read-only"]);
    }
    assert!(files() == before);
}

#[test]
fn a_flipped_bit_is_found_with_file_and_offset() {
    let corten = database();
    let (file, flipped_at) = flip(&corten, "value number 2");
    let damaged = fs::read(corten.path("db").join(&file)).unwrap();
    let ran = corten.run(&["verify", "db", "--json"]);
    assert_eq!(ran.code, 4, "{ran:?}");
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let problem = &report["problems"][0];
    assert_eq!(report["is_intact"], false);
    assert!(problem["file"].as_str().unwrap().ends_with(&file), "{report}");
    let offset = problem["offset"].as_u64().unwrap();
    // The frame that the bit is in: a batch of five values.
    assert!(offset <= flipped_at && flipped_at - offset < 4096, "{flipped_at}: {report}");
    assert!(ran.err.starts_with("corten: ") && ran.err.contains(&file), "{ran:?}");
    assert!(ran.err.contains(&offset.to_string()), "{ran:?}");
    let again = corten.run(&["verify", "db"]);
    assert!(again.code == 4 && again.out.contains("db is damaged: 1 problem"), "{again:?}");
    assert!(corten.fails(4, &["get", "db", "latest"]).contains(&file));
    assert_eq!(fs::read(corten.path("db").join(&file)).unwrap(), damaged, "nothing was changed");
}

#[test]
fn a_repair_keeps_what_is_intact_and_sets_the_damaged_file_aside() {
    let corten = database();
    let (file, _) = flip(&corten, "value number 2");
    let repaired = corten.json(&["repair", "db", "--json"]);
    assert_eq!(repaired["damaged_places"], 1);
    let aside = repaired["set_aside"].as_array().unwrap();
    assert!(
        aside.iter().any(|path| path.as_str().unwrap().ends_with(&(file.clone() + ".damaged")))
    );
    assert_eq!(corten.ok(&["get", "db", "later", "-k", "other"]), "x");
    assert_eq!(
        corten.ok(&["scan", "db"]),
        "latest\tx\n",
        "the commit with the flipped bit is gone whole"
    );
    assert!(corten.ok(&["verify", "db"]).ends_with("db is intact\n"));
    assert_eq!(corten.ok(&["repair", "db"]), "db is not damaged: 2 keys\n");
}

#[test]
fn a_segment_that_lost_its_end_is_damage() {
    let corten = Corten::new();
    for n in 0..40 {
        corten.file(&format!("source/{n}"), vec![b'a' + n; 200_000]);
    }
    corten.ok(&["import", "db", "source"]);
    let segments = corten.segments("db");
    assert!(segments.len() > 1, "a last segment without its end is what a crash leaves");
    let half = fs::metadata(&segments[0]).unwrap().len() / 2;
    fs::File::options().write(true).open(&segments[0]).unwrap().set_len(half).unwrap();
    let ran = corten.run(&["verify", "db"]);
    let name = segments[0].file_name().unwrap().to_str().unwrap();
    assert!(ran.code == 4 && ran.err.contains(name), "{ran:?}");
}

#[test]
fn a_lost_manifest_is_damage_and_nothing_new_is_made() {
    let corten = database();
    fs::remove_file(corten.path("db/CURRENT")).unwrap();
    let ran = corten.run(&["verify", "db"]);
    assert!(ran.code == 4 && ran.err.contains("CURRENT is missing"), "{ran:?}");
    assert!(corten.fails(4, &["put", "db", "k", "v"]).contains("CURRENT"));
    assert!(!corten.path("db/CURRENT").exists());
}
