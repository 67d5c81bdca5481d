//! What a build lacks answers `Unsupported`; nothing is ignored.

use std::time::Duration;

use cortenkv::{Builder, Compression, Config, Db, Durability, WorkerPool};

fn code(builder: Builder) -> u32 {
    builder.build().unwrap_err().code()
}

fn has_compaction() -> bool {
    let build = Db::open_in_memory().unwrap().stats().build;
    build.compaction && build.wal
}

fn memory() -> Builder {
    Db::builder_in_memory()
}

#[test]
fn options_of_absent_parts_are_unsupported_and_may_be_off() {
    if !has_compaction() {
        assert_eq!(code(memory().async_compaction(true)), 12);
        assert_eq!(WorkerPool::new(0, 256).unwrap_err().code(), 12);
        assert_eq!(WorkerPool::manual().unwrap_err().code(), 12);
    }
    assert_eq!(code(memory().write_back_cache(true)), 12);
    assert_eq!(code(memory().cache_capacity(1)), 12);
    assert_eq!(code(memory().memory_budget(1)), 12);
    assert_eq!(code(memory().compression(Compression::Lz4)), 12);
    assert_eq!(code(memory().compression(Compression::Zstd(3))), 12);
    let off = memory().async_compaction(false).write_back_cache(false).cache_capacity(0);
    off.memory_budget(0).compression(false).build().unwrap();
}

#[test]
fn the_error_names_the_option_and_what_to_do() {
    let error = memory().write_back_cache(true).build().unwrap_err().to_string();
    assert!(error.contains("write_back_cache") && error.contains("leave it off"), "{error}");
}

#[test]
fn settings_that_can_never_work_are_invalid() {
    assert_eq!(code(memory().sync_interval(Duration::ZERO)), 3);
    assert_eq!(code(memory().durability(Durability::EveryN(0))), 3);
    let mut config = Config::default();
    config.sched.max_workers = 0;
    assert_eq!(code(memory().config(config)), 3);
    let mut config = Config::default();
    config.sched.worker_count = 257;
    assert_eq!(code(memory().config(config)), 3);
}

// D2, D6
#[test]
fn workers_may_be_counted_where_there_are_any() {
    let mut config = Config::default();
    config.sched.worker_count = 4;
    let opened = memory().async_compaction(false).config(config).build();
    match has_compaction() {
        true => assert_eq!(opened.unwrap().stats().pool.workers, 0, "nothing to do in memory"),
        false => assert_eq!(opened.unwrap_err().code(), 12),
    }
}

// Design 14: of `durability` and `sync_interval` the last wins.
#[test]
fn the_last_setting_wins() {
    let interval = Duration::from_millis(5);
    let db = memory().durability(Durability::Always).sync_interval(interval).build().unwrap();
    assert_eq!(db.stats().durability, "interval (5 ms)");
    let db = memory().sync_interval(interval).durability(Durability::Always).build().unwrap();
    assert_eq!(db.stats().durability, "always");
}

// D10
#[test]
#[expect(deprecated, reason = "the old switch is what is tested")]
fn the_old_switch_of_the_builder_maps_to_always_and_none() {
    assert_eq!(memory().fsync_on_commit(true).build().unwrap().stats().durability, "always");
    assert_eq!(memory().fsync_on_commit(false).build().unwrap().stats().durability, "none");
}

#[test]
fn a_build_without_the_log_opens_in_memory_only() {
    let db = Db::open_in_memory().unwrap();
    if !db.stats().build.wal {
        assert_eq!(Db::open("never/made").unwrap_err().code(), 12);
    }
}

#[test]
fn a_build_without_key_order_refuses_scans_and_nothing_else() {
    let db = Db::open_in_memory().unwrap();
    db.put("k", "v").unwrap();
    assert_eq!(db.get("k").unwrap().as_deref(), Some(&b"v"[..]));
    let answers: Vec<_> = db.iter().collect();
    if db.stats().build.ordered {
        assert_eq!(answers.len(), 1);
        assert!(answers[0].is_ok() && db.first_key_value().unwrap().is_some());
    } else {
        assert!(matches!(&answers[..], [Err(error)] if error.code() == 12));
        assert_eq!(db.first_key_value().unwrap_err().code(), 12);
    }
}
