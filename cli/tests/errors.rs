//! Bad input: one line that names the thing, an exit code of its own, nothing half done.

#![expect(
    clippy::disallowed_methods,
    reason = "makes directories that no database should be opened in"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::Corten;

#[test]
fn wrong_use_is_named() {
    let corten = Corten::new();
    assert!(corten.fails(2, &[]).contains("--help"));
    assert!(corten.fails(2, &["scann", "db"]).contains("scann"));
    assert!(corten.fails(2, &["scan", "db", "--nonsense"]).contains("--nonsense"));
    assert!(corten.fails(2, &["scan", "db", "--limit", "many"]).contains("many"));
    assert!(corten.fails(2, &["get", "db"]).contains("<KEY>"));
    assert!(corten.fails(2, &["put", "db", "k", "v", "--durability", "maybe"]).contains("every=N"));
    assert!(corten.fails(2, &["put", "db", "k", "v", "--ttl", "5"]).contains("500ms"));
    assert!(corten.fails(2, &["scan", "db", "--prefix", "a", "--from", "b"]).contains("--from"));
    for refused in ["interval=0s", "every=0"] {
        corten.fails(2, &["put", "db", "k", "v", "--durability", refused]);
    }
    assert!(!corten.path("db").exists());
}

#[test]
fn help_has_examples_and_exit_codes() {
    let corten = Corten::new();
    let help = corten.ok(&["--help"]);
    assert!(help.contains("corten import db") && help.contains("  5  another process"), "{help}");
    let commands =
        ["import", "export", "put", "get", "delete", "scan", "verify", "repair", "bench"];
    for command in commands.into_iter().chain(["segments", "compact"]) {
        assert!(corten.ok(&[command, "--help"]).contains("Examples:"), "{command}");
    }
    assert!(corten.ok(&["--version"]).starts_with("corten "));
}

#[test]
fn commands_that_read_make_nothing() {
    let corten = Corten::new();
    corten.file("home/notes.txt", "");
    let reading: [&[&str]; 9] = [
        &["get", "k"],
        &["scan"],
        &["count"],
        &["keyspaces"],
        &["stats"],
        &["verify"],
        &["segments"],
        &["compact"],
        &["export"],
    ];
    for (command, place) in
        reading.iter().flat_map(|command| [(command, "none"), (command, "home")])
    {
        let args = [&command[..1], &[place], &command[1..]].concat();
        assert!(corten.fails(9, &args).contains("no database"), "{args:?}");
    }
    assert!(!corten.path("none").exists());
    assert_eq!(fs::read_dir(corten.path("home")).unwrap().count(), 1);
    corten.ok(&["put", "db", "k", "v"]);
    for command in ["scan", "count", "export"] {
        assert!(corten.fails(9, &[command, "db", "-k", "typo"]).contains("\"typo\""));
    }
    assert_eq!(corten.ok(&["keyspaces", "db"]), "default\n");
}

#[test]
fn a_database_is_not_made_among_other_files() {
    let corten = Corten::new();
    corten.file("home/notes.txt", "");
    assert!(corten.fails(2, &["put", "home", "k", "v"]).contains("home holds other files"));
    assert_eq!(fs::read_dir(corten.path("home")).unwrap().count(), 1);
}

// U10
#[test]
fn a_second_process_is_told_who_has_the_database() {
    let corten = Corten::new();
    corten.ok(&["put", "db", "k", "v"]);
    let mut holder = corten.spawn(&["import", "db", "-"]);
    // The holder opens the database before it reads; from then on nobody else can.
    let holder_name = format!("process {}", holder.id());
    let refused = (0..500).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let ran = corten.run(&["get", "db", "k"]);
        assert!(matches!(ran.code, 0 | 5), "{ran:?}");
        // For a moment the lock is held by a process that has not written its number yet.
        ran.err.contains(&holder_name).then_some(ran)
    });
    let refused = refused.expect("the holder was never named");
    assert_eq!((refused.code, refused.out.as_str()), (5, ""), "{refused:?}");
    // Who only looks asks for no lock.
    assert_eq!(corten.json(&["stats", "db", "--read-only", "--json"])["keys"], 1);
    assert!(corten.ok(&["verify", "db", "--read-only"]).ends_with("db is intact\n"));
    assert!(corten.ok(&["segments", "db", "--read-only"]).contains(".seg"));
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    assert_eq!(corten.ok(&["get", "db", "k"]), "v");
}

#[test]
fn a_path_that_is_a_file_is_refused() {
    let corten = Corten::new();
    let path = corten.file("db", "my notes");
    for args in [&["put", "db", "k", "v"][..], &["get", "db", "k"]] {
        assert!(corten.fails(2, args).contains("db is not a directory"));
    }
    assert_eq!(fs::read(path).unwrap(), b"my notes");
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let corten = Corten::new();
    corten.ok(&["put", "db", "k", "v"]);
    fs::set_permissions(corten.path("db"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(corten.fails(2, &["get", "db", "k"]).contains("chmod go-w"));
    fs::set_permissions(corten.path("db"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(corten.ok(&["get", "db", "k"]), "v");
}

#[test]
fn a_read_only_directory_is_refused_and_stays_whole() {
    let corten = Corten::new();
    corten.ok(&["put", "db", "k", "v"]);
    if fs::metadata(corten.path("db")).unwrap().uid() == 0 {
        eprintln!("skipped: permissions mean nothing to root");
        return;
    }
    fs::set_permissions(corten.path("db"), fs::Permissions::from_mode(0o500)).unwrap();
    assert!(corten.fails(7, &["put", "db", "k", "w"]).contains("db"));
    fs::set_permissions(corten.path("db"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(corten.ok(&["get", "db", "k"]), "v");
}

#[test]
fn keys_and_names_beyond_the_limits_are_refused() {
    let corten = Corten::new();
    let long = "k".repeat(65_537);
    assert!(corten.fails(2, &["put", "db", &long, "v"]).contains("65537"));
    assert!(corten.fails(2, &["put", "db", "k", "v", "-k", "a/b"]).contains("'/'"));
    assert!(!corten.path("db").exists(), "nothing is half done");
    corten.ok(&["put", "db", "k", "v"]);
    assert!(corten.fails(2, &["put", "db", &long, "v"]).contains("65537"));
    corten.ok(&["put", "db", &long[1..], "longest"]);
    assert_eq!(corten.ok(&["get", "db", &long[1..]]), "longest");
    assert!(corten.fails(2, &["put", "db", "k", "v", "-k", "a/b"]).contains("'/'"));
    assert!(corten.fails(2, &["put", "db", "k", "v", "-k", ""]).contains("empty"));
    assert!(corten.fails(2, &["put", "db", "k", "v", "-k", &"n".repeat(300)]).contains("255"));
    let large = vec![0; (32 << 20) - (128 << 10) + 1];
    let ran = corten.with_input(&["put", "db", "k"], &large);
    assert!(ran.code == 2 && ran.err.contains("33423360"), "{ran:?}");
    assert_eq!(corten.ok(&["get", "db", "k"]), "v");
    assert_eq!(corten.ok(&["keyspaces", "db"]), "default\n");
}

#[test]
fn a_full_disk_under_the_output_is_told() {
    let corten = Corten::new();
    corten.ok(&["put", "db", "k", "v"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let ran = common::Ran::from(corten.command(&["scan", "db"]).stdout(full).output().unwrap());
    assert!(ran.code == 6 && ran.err.contains("standard output"), "{ran:?}");
}

#[test]
fn messages_stay_on_one_line_whatever_names_hold() {
    let corten = Corten::new();
    assert!(corten.fails(9, &["get", "two\nlines", "k"]).contains("two\\nlines"));
}
