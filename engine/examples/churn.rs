//! What overwriting costs: throughput, latency, stalls and space, round after round, and after a while of quiet.
//!
//! `cargo run --release -p cortenkv --example churn -- DIR [KEYS] [VALUE_BYTES] [ROUNDS] [IDLE_SECONDS]`
//!
//! A round overwrites as many random keys as there are. Space is in allocated bytes of segment files by bytes of live keys
//! and values; other files (key runs, directories, images) are in bytes a key.
#![expect(clippy::disallowed_methods, reason = "it looks at files and clocks from outside")]

use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use cortenkv::{Db, Durability};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("name a directory, which must not exist yet")?;
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (keys, value_bytes) = (number(1_000_000)?, number(100)? as usize);
    let (rounds, idle_seconds) = (number(10)?, number(30)?);
    if Path::new(&dir).exists() {
        return Err(format!("{dir} exists; name a new directory").into());
    }
    let db = Db::builder(&dir).durability(Durability::None).build()?;
    let value = vec![7; value_bytes];
    let live_bytes = keys * (16 + value_bytes as u64);

    let started = Instant::now();
    for n in 0..keys {
        db.put(key(n), &value)?;
    }
    println!("load: {}", rate(keys, started));
    for round in 1..=rounds {
        let (started, mut taken) = (Instant::now(), Vec::with_capacity(keys as usize));
        for n in 0..keys {
            let begun = Instant::now();
            db.put(key(mix(round * keys + n) % keys), &value)?;
            taken.push(begun.elapsed());
        }
        let rate = rate(keys, started);
        taken.sort_unstable();
        let at = |permille: usize| taken[(taken.len() * permille / 1000).min(taken.len() - 1)];
        println!(
            "round {round}: {rate}; p50 {:?}, p99 {:?}, p99.9 {:?}, longest {:?}; {}",
            at(500),
            at(990),
            at(999),
            at(1000),
            space(&db, &dir, keys, live_bytes)?
        );
    }
    std::thread::sleep(Duration::from_secs(idle_seconds));
    println!("after {idle_seconds} s of quiet: {}", space(&db, &dir, keys, live_bytes)?);
    let user_bytes = (keys * (rounds + 1)) as f64 * (16 + value_bytes) as f64;
    let written = db.stats().log.bytes + db.stats().compaction.bytes_written;
    println!("bytes written by bytes put: {:.2}", written as f64 / user_bytes);

    for n in (0..keys).filter(|n| n % 20 != 0) {
        db.delete(key(n))?;
    }
    std::thread::sleep(Duration::from_secs(idle_seconds));
    println!(
        "95 % deleted and {idle_seconds} s of quiet: {}",
        space(&db, &dir, keys / 20, live_bytes / 20)?
    );

    db.close()?;
    drop(db);
    let started = Instant::now();
    let db = Db::builder(&dir).durability(Durability::None).build()?;
    println!("opened with {} keys in {:?}", db.stats().keys, started.elapsed());
    Ok(())
}

fn key(n: u64) -> [u8; 16] {
    (u128::from(mix(n)) << 64 | u128::from(n)).to_be_bytes()
}

/// Spreads numbers evenly (splitmix64, Steele and others, 2014).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ n >> 31
}

fn rate(operations: u64, started: Instant) -> String {
    format!("{:.0} k/s", operations as f64 / started.elapsed().as_secs_f64() / 1e3)
}

fn space(db: &Db, dir: &str, keys: u64, live_bytes: u64) -> Result<String, Box<dyn Error>> {
    let (mut segments, mut others, mut files) = (0, 0, 0);
    for entry in fs::read_dir(dir)? {
        // One that went since was not there.
        let Ok(entry) = entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?))) else {
            continue;
        };
        let is_segment = entry.0.to_string_lossy().contains("seg");
        *(if is_segment { &mut segments } else { &mut others }) += entry.1.blocks() * 512;
        files += 1;
    }
    let compaction = db.stats().compaction;
    Ok(format!(
        "segments {:.2} x live, other files {:.1} B a key, {files} files; {} jobs, writers delayed {} ms so far",
        segments as f64 / live_bytes as f64,
        others as f64 / keys as f64,
        compaction.jobs,
        compaction.delay_us / 1000
    ))
}
