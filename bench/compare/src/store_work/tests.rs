//! A store that tells the truth passes every work; one that lies about a single key fails the run.

use super::*;
use crate::store::{Key, SeeEntry, SeeValue, Session};
use cortenkv_bench::log_store::{Class, Promise};
use cortenkv_bench::suite::Plan;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

/// What a store in memory does wrong with key number 70, once a load is over.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    WrongByte,
    OtherValue,
    Lost,
    Extra,
    /// Gets find what is not there.
    FoundBetween,
    /// Gets of it show the value of another key.
    OtherOnGet,
    /// Scans from behind the first key pass over it.
    LostOnSeek,
}

impl StoreKind for Lie {
    fn name(&self) -> &'static str {
        "liar"
    }

    fn settings(&self) -> String {
        String::new()
    }

    fn promise(&self) -> Promise {
        Promise::new(Class::Memory, "a test")
    }

    fn open(&self, _dir: &Path) -> Result<Box<dyn Store>> {
        Ok(Box::new(Liar { lie: *self, entries: Mutex::default() }))
    }
}

struct Liar {
    lie: Lie,
    entries: Mutex<BTreeMap<Key, Vec<u8>>>,
}

impl Store for Liar {
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        Ok(Box::new(Teller(self)))
    }

    fn load(&self, entries: &mut Entries<'_>) -> Result<()> {
        entries.some(usize::MAX, |key, value| {
            let key = key.try_into().expect("keys have 16 bytes");
            self.entries.lock().unwrap().insert(key, value.to_vec());
            Ok(())
        })?;
        Ok(())
    }

    fn settle(&self) -> Result<()> {
        let mut entries = self.entries.lock().unwrap();
        let other = entries[&key(71)].clone();
        match self.lie {
            Lie::WrongByte => {
                entries.get_mut(&key(70)).map(|value| value[50] ^= 1).map(|()| vec![])
            }
            Lie::OtherValue => entries.insert(key(70), other),
            Lie::Lost => entries.remove(&key(70)),
            Lie::Extra => entries.insert(missing_key(70), other),
            _ => None,
        };
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

struct Teller<'a>(&'a Liar);

impl Session for Teller<'_> {
    fn put(&mut self, key: &Key, value: &[u8]) -> Result<()> {
        self.0.entries.lock().unwrap().insert(*key, value.to_vec());
        Ok(())
    }

    fn delete(&mut self, key: &Key) -> Result<()> {
        self.0.entries.lock().unwrap().remove(key);
        Ok(())
    }

    fn get(&mut self, key: &Key, see: SeeValue<'_>) -> Result<bool> {
        let entries = self.0.entries.lock().unwrap();
        let is_lie = self.0.lie == Lie::FoundBetween;
        let is_other = self.0.lie == Lie::OtherOnGet && *key == super::key(70);
        let key = if is_other { &super::key(71) } else { key };
        Ok(entries.get(key).map(|value| see(value)).is_some() || is_lie)
    }

    fn scan(&mut self, from: &Key, see: SeeEntry<'_>) -> Result<()> {
        let entries = self.0.entries.lock().unwrap();
        let is_lie = self.0.lie == Lie::LostOnSeek && *from != key(0);
        let mut shown = entries.range(*from..).filter(|(found, _)| !is_lie || **found != key(70));
        let _ = shown.try_for_each(|(key, value)| see(key, value));
        Ok(())
    }
}

fn run(lie: Lie, work: Work) -> Result<Outcome> {
    let plan = Plan { keys: Some(200), operations: Some(2000), ..Plan::smoke() };
    let kind: Arc<dyn StoreKind> = Arc::new(lie);
    let context = CaseContext { dir: Path::new("."), plan: &plan };
    (case(&kind, work).run)(&context)
}

#[test]
fn a_store_that_tells_the_truth_passes_every_work() {
    for layout in [Layout::KeyOrder, Layout::Random] {
        for work in [
            Work::Fill { layout, threads: 3 },
            Work::Overwrite { threads: 2 },
            Work::Read { threads: 2 },
            Work::ReadMissing { threads: 1 },
            Work::Seek { layout, threads: 1 },
            Work::Scan { layout },
            Work::CountAllocations,
        ] {
            let outcome = run(Lie::None, work).unwrap_or_else(|e| panic!("{work:?}: {e}"));
            assert!(outcome.ops > 0, "{work:?}");
        }
    }
}

#[test]
fn a_store_that_lies_fails_the_run() {
    for lie in [Lie::WrongByte, Lie::OtherValue, Lie::Lost, Lie::Extra] {
        for work in [Work::Read { threads: 1 }, Work::Overwrite { threads: 1 }] {
            assert!(run(lie, work).is_err(), "{lie:?} at {work:?}");
        }
        let fill = Work::Fill { layout: Layout::Random, threads: 1 };
        assert!(run(lie, fill).is_err(), "{lie:?} after a fill");
    }
    assert!(run(Lie::FoundBetween, Work::ReadMissing { threads: 1 }).is_err());
    assert!(run(Lie::OtherOnGet, Work::Read { threads: 1 }).is_err());
    let seek = Work::Seek { layout: Layout::KeyOrder, threads: 1 };
    assert!(run(Lie::LostOnSeek, seek).is_err());
}
