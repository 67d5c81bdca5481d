//! A store without a disk: the same API, for tests and caches; works in every build of the crate.
//!
//! `cargo run -p cortenkv --no-default-features --example in_memory`

use cortenkv::Db;

fn main() -> cortenkv::Result<()> {
    let db = Db::open_in_memory()?;
    assert!(db.put_if_absent("counter", "1")?);
    while db.compare_and_swap("counter", db.get("counter")?.as_deref(), Some(b"2"))?.is_err() {}
    println!("counter = {:?}, parts: {:?}", db.get("counter")?, db.stats().build);
    Ok(())
}
