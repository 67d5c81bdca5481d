//! checkpoint, backup, restore and watch.

mod common;

use common::Corten;

#[test]
fn a_database_comes_back_as_it_was_at_a_commit() {
    let corten = Corten::new();
    corten.ok(&["put", "db", "a", "1"]);
    corten.ok(&["watch", "db", "--name", "mirror"]);
    let full = corten.json(&["backup", "db", "target", "--json", "--self-test"]);
    assert_eq!((full["kind"].as_str(), full["keys_compared"].as_u64()), (Some("full"), Some(1)));
    corten.ok(&["checkpoint", "db", "base", "--copy"]);
    corten.ok(&["put", "db", "b", "2"]);
    let first = corten.json(&["backup", "db", "target", "--incremental", "--json"]);
    corten.ok(&["delete", "db", "a"]);
    corten.ok(&["backup", "db", "target", "--incremental", "--self-test"]);
    assert!(corten.ok(&["backup", "--verify", "target"]).starts_with("intact: 3 backups"));
    assert_eq!(corten.ok(&["backup", "--list", "target"]).lines().count(), 3);
    corten.ok(&["restore", "target", "latest"]);
    assert_eq!(corten.ok(&["scan", "latest", "--keys-only"]), "b\n");
    let seq = first["seq"].to_string();
    corten.ok(&["restore", "target", "before", "--to-seq", &seq]);
    assert_eq!(corten.ok(&["scan", "before", "--keys-only"]), "a\nb\n");
    corten.ok(&["restore", "base", "from-log", "--log", "db"]);
    assert_eq!(corten.ok(&["scan", "from-log", "--keys-only"]), "b\n");

    let shown = corten.ok(&["watch", "db", "--name", "mirror", "--json", "--ack"]);
    let shown: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told = |n: usize| (shown[n]["change"].as_str(), shown[n]["key"].as_str());
    assert_eq!((told(0), told(1)), ((Some("put"), Some("b")), (Some("delete"), Some("a"))));
    assert_eq!(corten.ok(&["watch", "db", "--name", "mirror"]), "");
}
