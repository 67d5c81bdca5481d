//! An index over a file of records that the program keeps: `cargo run -p cortenkv-index --example own_file`.
#![expect(clippy::disallowed_methods, reason = "an example is a program of its own")]
use cortenkv_index::{Address, BucketPoint, NewEntry, Outcome, PointIndex, Probe, Version};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::{error::Error, fs::File, io::Write, os::unix::fs::FileExt};

/// Every record is a line of this many bytes: a name, a comma, a city, spaces.
const LINE_BYTES: usize = 32;
const BOOK: [&str; 4] = ["ada,London", "grace,New York", "ada,Paris", "edsger,Austin"];

/// Reads the record at an address: its name and its city.
fn read(file: &File, at: Address) -> Option<(String, String)> {
    let mut line = [0; LINE_BYTES];
    file.read_exact_at(&mut line, u64::from(at.offset_bytes())).ok()?;
    let (name, city) = std::str::from_utf8(&line).ok()?.trim_end().split_once(',')?;
    Some((name.to_owned(), city.to_owned()))
}

fn hash(key: &str) -> u64 {
    BuildHasherDefault::<DefaultHasher>::new().hash_one(key)
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("book-{}", std::process::id()));
    let mut file = File::create_new(&path)?;
    BOOK.iter().try_for_each(|line| write!(file, "{line:<LINE_BYTES$}"))?;
    let file = File::open(&path)?;
    let version = |at: Address| Version { seq: at.to_bits(), tombstone: false, segment: 0 };
    // What the index asks: is the record at this address one of this key, and which version of it?
    let probe = |at: Address, _: u32, key: &[u8]| match read(&file, at) {
        Some((name, _)) if name.as_bytes() == key => Probe::Same(version(at)),
        _ => Probe::Other,
    };
    let index = BucketPoint::new();
    for n in 0..BOOK.len() {
        let address = Address::new(0, (n * LINE_BYTES) as u32)?;
        let (name, city) = read(&file, address).ok_or("a line without a comma")?;
        let (hash, key, version) = (hash(&name), name.as_bytes(), version(address));
        let new = NewEntry { hash, keyspace: 0, key, address, version };
        let outcome = index.install(&new, &probe, &mut |_old| {});
        println!(
            "{name} {} {city}",
            if outcome == Outcome::Inserted { "lives in" } else { "moved to" }
        );
    }
    let found = index.find(hash("ada"), |at| probe(at, 0, b"ada")).and_then(|at| read(&file, at));
    println!("ada now: {found:?}");
    Ok(std::fs::remove_file(&path)?)
}
