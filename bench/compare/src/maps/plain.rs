//! Maps that hold their keys: dashmap, papaya, scc, the skip list of crossbeam, a B-tree behind a lock.
//!
//! All are made with `with_hasher` or `new` and grow from empty, use the same hash ([`Xxh3`]), and are called as their
//! documentation shows for single operations; papaya is pinned for each.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use cortenkv_bench::Result;
use crossbeam_skiplist::SkipMap;
use dashmap::DashMap;

use super::map::{Map, MapKey, MapKind, MapSession, ScanCheck, Size, Xxh3};

/// What a map does with single keys.
pub trait PlainMap: Send + Sync + 'static {
    /// A short name without spaces.
    const NAME: &'static str;
    /// Whether it can walk in key order.
    const HAS_ORDER: bool = false;

    /// An empty map.
    fn new() -> Self;
    /// Puts a value.
    fn put(&self, key: MapKey, value: u64);
    /// Finds a value.
    fn find(&self, key: &MapKey) -> Option<u64>;
    /// Takes a key out, and says whether it was there.
    fn take(&self, key: &MapKey) -> bool;
    /// Shows keys in order, until `see` answers false.
    fn walk(&self, from: MapKey, see: &mut dyn FnMut(&MapKey) -> bool) {
        let _ = (from, see);
    }
}

impl PlainMap for DashMap<MapKey, u64, Xxh3> {
    const NAME: &'static str = "dashmap";

    fn new() -> Self {
        DashMap::with_hasher(Xxh3)
    }

    fn put(&self, key: MapKey, value: u64) {
        self.insert(key, value);
    }

    fn find(&self, key: &MapKey) -> Option<u64> {
        self.get(key).map(|value| *value)
    }

    fn take(&self, key: &MapKey) -> bool {
        self.remove(key).is_some()
    }
}

impl PlainMap for papaya::HashMap<MapKey, u64, Xxh3> {
    const NAME: &'static str = "papaya";

    fn new() -> Self {
        papaya::HashMap::with_hasher(Xxh3)
    }

    fn put(&self, key: MapKey, value: u64) {
        self.pin().insert(key, value);
    }

    fn find(&self, key: &MapKey) -> Option<u64> {
        self.pin().get(key).copied()
    }

    fn take(&self, key: &MapKey) -> bool {
        self.pin().remove(key).is_some()
    }
}

impl PlainMap for scc::HashMap<MapKey, u64, Xxh3> {
    const NAME: &'static str = "scc";

    fn new() -> Self {
        scc::HashMap::with_hasher(Xxh3)
    }

    fn put(&self, key: MapKey, value: u64) {
        self.upsert_sync(key, value);
    }

    fn find(&self, key: &MapKey) -> Option<u64> {
        self.read_sync(key, |_, value| *value)
    }

    fn take(&self, key: &MapKey) -> bool {
        self.remove_sync(key).is_some()
    }
}

impl PlainMap for SkipMap<MapKey, u64> {
    const NAME: &'static str = "skiplist";
    const HAS_ORDER: bool = true;

    fn new() -> Self {
        SkipMap::new()
    }

    fn put(&self, key: MapKey, value: u64) {
        self.insert(key, value);
    }

    fn find(&self, key: &MapKey) -> Option<u64> {
        self.get(key).map(|entry| *entry.value())
    }

    fn take(&self, key: &MapKey) -> bool {
        self.remove(key).is_some()
    }

    fn walk(&self, from: MapKey, see: &mut dyn FnMut(&MapKey) -> bool) {
        let _ = self.range(from..).all(|entry| see(entry.key()));
    }
}

impl PlainMap for RwLock<BTreeMap<MapKey, u64>> {
    const NAME: &'static str = "rwlock-btreemap";
    const HAS_ORDER: bool = true;

    fn new() -> Self {
        RwLock::default()
    }

    fn put(&self, key: MapKey, value: u64) {
        self.write().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }

    fn find(&self, key: &MapKey) -> Option<u64> {
        self.read().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }

    fn take(&self, key: &MapKey) -> bool {
        self.write().unwrap_or_else(PoisonError::into_inner).remove(key).is_some()
    }

    fn walk(&self, from: MapKey, see: &mut dyn FnMut(&MapKey) -> bool) {
        let map = self.read().unwrap_or_else(PoisonError::into_inner);
        let _ = map.range(from..).all(|(key, _)| see(key));
    }
}

/// The arm of a map.
pub struct Plain<M>(PhantomData<fn() -> M>);

impl<M> Plain<M> {
    /// The arm.
    pub fn new() -> Self {
        Plain(PhantomData)
    }
}

impl<M: PlainMap> MapKind for Plain<M> {
    fn name(&self) -> String {
        M::NAME.into()
    }

    fn settings(&self) -> String {
        "holds the key of 16 bytes and a u64; xxh3; grown from empty".into()
    }

    fn has_order(&self) -> bool {
        M::HAS_ORDER
    }

    fn open(&self, _size: Size, _dir: &Path) -> Result<Box<dyn Map>> {
        Ok(Box::new(Open(M::new())))
    }
}

struct Open<M>(M);

impl<M: PlainMap> Map for Open<M> {
    fn session(&self, _thread: usize) -> Box<dyn MapSession + '_> {
        Box::new(Session { map: &self.0, generation: 0 })
    }
}

/// A value holds the number of its key here, and above it how often it was replaced.
const NUMBER_BITS: u32 = 40;

struct Session<'a, M> {
    map: &'a M,
    generation: u64,
}

impl<M: PlainMap> MapSession for Session<'_, M> {
    fn insert(&mut self, number: u64) -> bool {
        self.map.put(MapKey::of(number), number);
        true
    }

    fn get(&mut self, number: u64) -> bool {
        let found = self.map.find(&MapKey::of(number));
        found.is_some_and(|value| value & ((1 << NUMBER_BITS) - 1) == number)
    }

    fn replace(&mut self, number: u64) -> bool {
        self.generation += 1;
        self.map.put(MapKey::of(number), self.generation << NUMBER_BITS | number);
        true
    }

    fn remove(&mut self, number: u64) -> bool {
        self.map.take(&MapKey::of(number))
    }

    fn scan(&mut self, number: u64, count: usize) -> bool {
        let mut check = ScanCheck::new(number, count);
        self.map.walk(MapKey::of(number), &mut |key| check.see(&key.0));
        check.is_right()
    }
}
