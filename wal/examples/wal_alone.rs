//! cortenkv-wal used alone: append, crash, recover. The program runs itself, and that child aborts.

use std::{path::Path, process::Command, sync::Arc};

use cortenkv_wal::{Batch, RecordRef, Wal, WalOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if let Some(dir) = std::env::args_os().nth(1) {
        return append_and_crash(dir.as_ref());
    }
    let dir = tempfile::tempdir()?;
    let child = Command::new(std::env::current_exe()?).arg(dir.path()).status()?;
    println!("the writer ended with {child}");
    // Recovery offers every record in the order of the log; an index would be built here.
    let handler = Arc::new(|records: &[RecordRef<'_>]| {
        for record in records {
            println!("recovered commit {}: {}", record.seq, record.key.escape_ascii());
        }
    });
    let (wal, report) = Wal::open(dir.path(), WalOptions::default(), handler)?;
    wal.close()?;
    if report.records == 4 { Ok(()) } else { Err("a record is missing".into()) }
}

fn append_and_crash(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (wal, _) = Wal::open(dir, WalOptions::default(), Arc::new(()))?;
    let mut batch = Batch::new();
    for keys in [["apple", "pear"], ["plum", "quince"]] {
        batch.clear();
        keys.iter().try_for_each(|key| batch.put(0, key.as_bytes(), b"fruit"))?;
        wal.append(&batch)?; // both or none, and on the disk when it returns
    }
    std::process::abort();
}
