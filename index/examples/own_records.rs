//! An index over a list of records that the program keeps: `cargo run -p cortenkv-index --example own_records`.
use cortenkv_index::{Address, BTreePoint, Error, NewEntry, Outcome, PointIndex, Probe, Version};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Name and city, in the order of writing; the address of a record is its place in this list.
const BOOK: [(&str, &str); 4] =
    [("ada", "London"), ("grace", "New York"), ("ada", "Paris"), ("edsger", "Austin")];

fn place(at: Address) -> usize {
    (at.offset_bytes() / Address::UNIT_BYTES) as usize
}

fn version(place: usize) -> Version {
    Version { seq: place as u64, tombstone: false, segment: 0 }
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// What the index asks: is the record at this address one of this key, and which version of it?
fn probe(at: Address, _keyspace: u32, key: &[u8]) -> Probe {
    match BOOK.get(place(at)) {
        Some((name, _)) if name.as_bytes() == key => Probe::Same(version(place(at))),
        Some(_) => Probe::Other,
        None => Probe::Gone,
    }
}

fn main() -> Result<(), Error> {
    let index = BTreePoint::new();
    for (n, (name, city)) in BOOK.iter().enumerate() {
        let (key, address) = (name.as_bytes(), Address::new(0, n as u32 * Address::UNIT_BYTES)?);
        let new = NewEntry { hash: hash(key), keyspace: 0, key, address, version: version(n) };
        match index.install(&new, &probe, &mut |_old| {}) {
            Outcome::Replaced(old) => {
                println!("{name} moved from {} to {city}", BOOK[place(old.address)].1)
            }
            _ => println!("{name} lives in {city}"),
        }
    }
    for name in ["ada", "grace", "linus"] {
        let found = index.get(hash(name.as_bytes()), &mut |at| probe(at, 0, name.as_bytes()));
        println!("{name}: {}", found.map_or("not in the book", |at| BOOK[place(at)].1));
    }
    Ok(())
}
