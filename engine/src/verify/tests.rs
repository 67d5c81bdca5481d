//! What is broken on purpose is found.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::catalog::DEFAULT_KEYSPACE_ID;

fn database() -> Db {
    let db = Db::open_in_memory().unwrap();
    for n in 0..100 {
        db.put(format!("key {n:03}"), format!("value {n}")).unwrap();
    }
    let mut batch = db.batch();
    batch.put(&db, b"key 007", b"another").delete(&db, b"key 008");
    batch.commit().unwrap();
    db
}

fn kinds(report: &VerifyReport) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

/// The address that the index has of a key.
fn address_of(core: &Core, key: &[u8]) -> crate::address::Address {
    let mut found = None;
    core.index.for_each_address(|address| {
        let is_it = core.read_at(address, |record, _| record.key == key);
        if matches!(is_it, Ok(Some(true))) {
            found = Some(address);
        }
    });
    found.unwrap()
}

#[test]
fn an_intact_database_has_no_findings() {
    let db = database();
    let report = db.verify().unwrap();
    assert!(report.is_intact() && report.is_quiet, "{report:?}");
    assert_eq!((report.keys, report.tombstones, report.entries), (99, 0, 99));
    if report.is_ordered {
        assert_eq!(
            (report.keyspaces[0].name.as_str(), report.keyspaces[0].entries),
            ("default", 99)
        );
    }
}

#[test]
fn an_entry_that_is_lost_is_found_by_its_record() {
    let db = database();
    let core = db.core();
    assert!(core.index.remove(DEFAULT_KEYSPACE_ID, b"key 050", address_of(core, b"key 050")));
    let report = db.verify().unwrap();
    assert_eq!(report.findings[0].kind, FindingKind::Index, "{report:?}");
    assert_eq!(report.findings[0].key.as_deref(), Some(&b"key 050"[..]));
    assert!(kinds(&report).contains(&FindingKind::Figures), "{report:?}");
}

#[test]
fn a_wrong_counter_is_found() {
    let db = database();
    db.core().counters.tombstones.fetch_add(1, Relaxed);
    let report = db.verify().unwrap();
    assert_eq!(kinds(&report), [FindingKind::Figures], "{report:?}");
    assert!(report.findings[0].what.contains("1 tombstones; there are 0"), "{report:?}");
}

#[test]
fn findings_are_counted_beyond_those_that_are_kept() {
    let db = Db::open_in_memory().unwrap();
    let core = db.core();
    for n in 0..FINDINGS_MAX as u32 + 10 {
        db.put(n.to_be_bytes(), b"").unwrap();
    }
    let mut addresses = Vec::new();
    core.index.for_each_address(|address| addresses.push(address));
    for address in addresses {
        let key = core.read_at(address, |record, _| record.key.to_vec()).unwrap().unwrap();
        core.index.remove(DEFAULT_KEYSPACE_ID, &key, address);
    }
    let report = db.verify().unwrap();
    assert_eq!(report.findings.len(), FINDINGS_MAX);
    assert!(report.findings_total >= FINDINGS_MAX as u64 + 10, "{}", report.findings_total);
}

#[test]
fn a_closed_database_is_not_verified() {
    let db = database();
    db.close().unwrap();
    assert_eq!(db.verify().unwrap_err().code(), 7);
    assert_eq!(db.segments().unwrap_err().code(), 7);
}

#[test]
fn progress_is_told_and_reaches_its_end() {
    let db = database();
    let mut last = None;
    db.verify_with(|progress| last = Some(progress)).unwrap();
    let last = last.unwrap();
    assert_eq!(last.bytes_done, last.bytes_total);
}
