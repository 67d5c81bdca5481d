//! The first ten minutes: put, get, scan, batch, time to live, reopen.
//!
//! `cargo run -p cortenkv --example quickstart [DIR]`

use std::time::Duration;

use cortenkv::{Db, Durability, PutOptions};

fn main() -> cortenkv::Result<()> {
    let dir = std::env::args().nth(1);
    let dir = dir.unwrap_or_else(|| {
        std::env::temp_dir().join("cortenkv-quickstart").to_string_lossy().into_owned()
    });
    let db = Db::open(&dir)?;
    println!("{dir}: {} records in {} ms", db.open_report().records, db.open_report().replay_ms);

    // Durable when it returns: the default is group commit.
    db.put("city:graz", "Austria")?;
    db.put("city:ghent", "Belgium")?;
    assert_eq!(db.get("city:graz")?.as_deref(), Some(&b"Austria"[..]));

    // One commit across keyspaces: all of it or nothing.
    let visits = db.keyspace("visits")?;
    let mut batch = db.batch();
    batch.put(&db, "city:turku", "Finland");
    batch.put(&visits, "turku", "1");
    batch.commit()?;

    // Gone after an hour, and not worth a sync of its own.
    let fleeting = PutOptions::new().ttl(Duration::from_secs(3600)).durability(Durability::None);
    db.put_with("session", "42", fleeting)?;

    for entry in db.prefix("city:").rev() {
        let (key, value) = entry?;
        println!("{} is in {}", key.escape_ascii(), value.escape_ascii());
    }
    println!("{:#?}", db.stats().log);
    db.close()
}
