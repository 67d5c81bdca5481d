//! A whole directory from arbitrary bytes: an open answers Ok or a typed error within its time, a refusal changes
//! nothing, and what an open shows is what the next one shows.

#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cortenkv_wal::clock::ManualClock;
use cortenkv_wal::fuzzing::Directory;
use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::vfs::sim::Image;
use cortenkv_wal::{
    Background, Batch, Damage, Durability, ErrorKind, RecordRef, Result, TailKind, Wal, WalOptions,
};
use libfuzzer_sys::fuzz_target;

/// LIMIT: of one input, which is a few hundred KiB at most.
const TIME_MAX: Duration = Duration::from_secs(5);

/// LIMIT: records and bytes of a key in the report of a failure.
const LINES_MAX: usize = 10;
const NAME_BYTES_MAX: usize = 40;

const DIR: &str = "log";
const NEW_KEY: &[u8] = b"appended by the fuzzer";

/// Every record that the handler was given: keyspace, key and sequence to value.
type Content = BTreeMap<(u32, Vec<u8>, u64), Vec<u8>>;

fuzz_target!(|data: &[u8]| {
    let started = Instant::now();
    let Some(directory) = Directory::decode(data) else { return };
    let image = directory.image(DIR);
    let sim = SimVfs::from_image(image.clone(), 1).mapping(!directory.flag(2));
    let damage = if directory.flag(1) { Damage::Salvage } else { Damage::Refuse };
    let options = WalOptions::default()
        .vfs(Arc::new(sim.clone()))
        .clock(Arc::new(ManualClock::default()))
        .background(Background::Manual)
        .durability(Durability::None)
        .tail(if directory.flag(3) { TailKind::Mapped } else { TailKind::Written })
        .segment_bytes(16 << 10)
        .window_bytes(4096);
    match open(options.clone().damage(damage)) {
        Ok((wal, mut content)) => {
            let mut batch = Batch::new();
            batch.put(0, NEW_KEY, b"value").expect("a small record");
            let seq = wal.append(&batch).expect("an open log takes a record");
            content.insert((0, NEW_KEY.to_vec(), seq), b"value".to_vec());
            drop(wal);
            let (_, again) = open(options).expect("what was opened once opens again");
            if again != content {
                panic!("the records of a reopened log differ:{}", difference(&content, &again));
            }
        }
        Err(error) => {
            let typed = matches!(
                error.kind(),
                ErrorKind::Corruption { .. }
                    | ErrorKind::Unsupported
                    | ErrorKind::InvalidArgument
                    | ErrorKind::LimitExceeded
            );
            assert!(typed, "{error}");
            assert!(without_lock(sim.image()) == without_lock(image), "{error}: but files changed");
        }
    }
    assert!(started.elapsed() < TIME_MAX, "{:?}", started.elapsed());
});

fn open(options: WalOptions) -> Result<(Wal, Content)> {
    let content = Arc::new(Mutex::new(Content::new()));
    let seen = Arc::clone(&content);
    let handler = move |records: &[RecordRef<'_>]| {
        let mut content = seen.lock().expect("the handler does not panic");
        for record in records {
            let key = (record.keyspace, record.key.to_vec(), record.seq);
            content.insert(key, record.value.to_vec());
        }
    };
    let (wal, _) = Wal::open(DIR, options, Arc::new(handler))?;
    let found = content.lock().expect("the handler does not panic").clone();
    Ok((wal, found))
}

/// What one of two contents has and the other has not, without the values: they fill screens.
fn difference(first: &Content, again: &Content) -> String {
    let mut keys: Vec<_> = first.keys().chain(again.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|key| first.get(*key) != again.get(*key));
    let mut text = String::new();
    for key in keys.iter().take(LINES_MAX) {
        let (keyspace, name, seq) = key;
        let start = name.get(..NAME_BYTES_MAX).unwrap_or(name).escape_ascii();
        let values = change(first.get(*key), again.get(*key));
        text += &format!("\n  {keyspace}:\"{start}\" of {} bytes, {seq}: {values}", name.len());
    }
    let more = keys.len().saturating_sub(LINES_MAX);
    format!("{text}\n  and {more} more; {} records, reopened: {}", first.len(), again.len())
}

fn change(value: Option<&Vec<u8>>, again: Option<&Vec<u8>>) -> String {
    match (value, again) {
        (Some(value), Some(again)) => {
            let same = value.iter().zip(again).take_while(|(a, b)| a == b).count();
            format!("{} bytes, then {}, the same up to {same}", value.len(), again.len())
        }
        (Some(value), None) => format!("{} bytes, then gone", value.len()),
        (None, again) => format!("absent, then {} bytes", again.map_or(0, Vec::len)),
    }
}

fn without_lock(mut image: Image) -> Image {
    image.remove(format!("{DIR}/LOCK"));
    image
}
