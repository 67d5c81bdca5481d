//! Reads a database in every way that it can be read, and demands that they agree.

use cortenkv::{Db, Entry, Keyspace};

use super::history::{KEYS, KEYSPACES, SLOTS, key_of, keyspace_of};

/// What a database shows.
#[derive(Debug, Clone)]
pub struct Observed {
    pub entries: [Option<Entry>; SLOTS],
    /// A bit for each keyspace that exists.
    pub keyspaces: u8,
}

/// Gets every key, and scans both ways. I9
pub fn observe(db: &Db) -> Result<Observed, String> {
    let mut observed = Observed { entries: [const { None }; SLOTS], keyspaces: 0 };
    let names = db.keyspaces().map_err(|e| format!("the keyspaces cannot be listed: {e}"))?;
    for name in names {
        let number = KEYSPACES.iter().position(|known| **known == *name);
        let number = number.ok_or_else(|| format!("there is a keyspace `{name}`"))?;
        observed.keyspaces |= 1 << number;
        let keyspace = db.keyspace(&name).map_err(|e| format!("keyspace `{name}`: {e}"))?;
        let slots = number * KEYS..(number + 1) * KEYS;
        for slot in slots.clone() {
            let got = keyspace.get_entry(key_of(slot));
            observed.entries[slot] = got.map_err(|e| format!("get of slot {slot}: {e}"))?;
        }
        agree(&keyspace, &observed.entries[slots])?;
    }
    Ok(observed)
}

/// Scans show what gets show, in order, forwards and backwards.
fn agree(keyspace: &Keyspace, entries: &[Option<Entry>]) -> Result<(), String> {
    let present = || (0..KEYS).filter_map(|key| Some((key_of(key), entries[key].as_ref()?)));
    let name = keyspace.name();
    let mut wanted = present();
    for found in keyspace.iter() {
        let (key, value) = found.map_err(|e| format!("a scan of `{name}`: {e}"))?;
        let same = wanted.next().is_some_and(|(k, entry)| key == k && value == entry.value);
        if !same {
            return Err(format!("a scan of `{name}` disagrees with get at key {key:?}"));
        }
    }
    if wanted.next().is_some() {
        return Err(format!("a scan of `{name}` ends before its last key"));
    }
    let mut wanted = present().collect::<Vec<_>>();
    for found in keyspace.iter().rev() {
        let (key, value) = found.map_err(|e| format!("a reverse scan of `{name}`: {e}"))?;
        let same = wanted.pop().is_some_and(|(k, entry)| key == k && value == entry.value);
        if !same {
            return Err(format!("a reverse scan of `{name}` disagrees with get at key {key:?}"));
        }
    }
    if !wanted.is_empty() {
        return Err(format!("a reverse scan of `{name}` ends before its first key"));
    }
    Ok(())
}

impl Observed {
    /// The slot by which two observations differ.
    pub fn difference(&self, other: &Observed) -> Option<usize> {
        (0..SLOTS).find(|&slot| self.entries[slot] != other.entries[slot])
    }

    /// True when the keyspace of a slot exists.
    pub fn has_keyspace_of(&self, slot: usize) -> bool {
        self.keyspaces & (1 << keyspace_of(slot)) != 0
    }
}
