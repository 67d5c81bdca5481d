//! The settings of a file: names, defaults, and what is refused.

use std::time::Duration;

use cortenkv::config::{FsyncMode, WalConfig};
use cortenkv::{Compression, Config, Db, Durability, Stats};

// D2: these names and defaults.
#[test]
fn the_documented_file_is_the_default() {
    let text = "[wal.fsync]\nmode = \"group\"\ninterval_ms = 1\nmax_batch_size = 100\n\
                [sched]\nworker_count = 0\nmax_workers = 256\n";
    let config: Config = toml::from_str(text).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
    assert_eq!(config.durability().unwrap(), Durability::group());
}

#[test]
fn every_mode_has_a_name() {
    let interval = Durability::Interval(Duration::from_millis(7));
    let modes = [
        ("always", Durability::Always),
        ("group", Durability::Group { max_wait: Duration::from_millis(7), max_batch: 9 }),
        ("every_n", Durability::EveryN(9)),
        ("interval", interval),
        ("checkpoint", Durability::Checkpoint),
        ("none", Durability::None),
    ];
    for (name, durability) in modes {
        let text = format!("[wal.fsync]\nmode = \"{name}\"\ninterval_ms = 7\nmax_batch_size = 9\n");
        let config: Config = toml::from_str(&text).unwrap();
        assert_eq!(config.durability().unwrap(), durability);
    }
}

#[test]
fn a_misspelt_key_or_a_wrong_type_is_refused() {
    for text in [
        "[wal.fsync]\nintervall_ms = 1\n",
        "[wal.fsync]\nmode = \"sometimes\"\n",
        "[wal.fsync]\ninterval_ms = \"soon\"\n",
        "[scheduler]\n",
    ] {
        assert!(toml::from_str::<Config>(text).is_err(), "{text}");
    }
}

// D10
#[test]
fn the_old_switch_is_read_from_a_file() {
    let config: Config = toml::from_str("fsync_on_commit = true\n").unwrap();
    assert_eq!(config.durability().unwrap(), Durability::Always);
    let config: Config = toml::from_str("fsync_on_commit = false\n").unwrap();
    assert_eq!(config.durability().unwrap(), Durability::None);
}

#[test]
fn every_preset_survives_a_file() {
    for config in [
        Config::production(),
        Config::high_performance(),
        Config::balanced(),
        Config::high_throughput(),
        Config::max_safety(),
        Config::benchmark(),
    ] {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config, "{text}");
    }
}

#[test]
fn a_codec_is_named_in_lower_case() {
    let config: Config = toml::from_str("[wal]\ncompression = \"snappy\"\n").unwrap();
    assert_eq!(config.wal.compression, Compression::Snappy);
    assert_eq!(WalConfig::default().fsync.mode, FsyncMode::Group);
}

#[test]
fn statistics_survive_a_file() {
    let db = Db::open_in_memory().unwrap();
    db.put("k", "v").unwrap();
    let stats = db.stats();
    let text = toml::to_string(&stats).unwrap();
    assert_eq!(toml::from_str::<Stats>(&text).unwrap(), stats);
    assert_eq!((stats.keys, stats.log.commits), (1, 1));
}
