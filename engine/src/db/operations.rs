//! The operations of a database that are those of its default keyspace.

use std::ops::{ControlFlow, RangeBounds};
use std::time::Duration;

use bytes::Bytes;

use super::Db;
use crate::error::Result;
use crate::keyspace::CasConflict;
use crate::options::PutOptions;
use crate::pinned::PinnedValue;
use crate::read::Entry;
use crate::record::SeqNo;
use crate::scan::{Keys, Scan};

/// The operations of the keyspace "default"; see [`Keyspace`](crate::Keyspace) for what each promises.
impl Db {
    /// See [`Keyspace::put`](crate::Keyspace::put).
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<SeqNo> {
        self.default.put(key, value)
    }

    /// See [`Keyspace::put_with`](crate::Keyspace::put_with).
    pub fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        options: PutOptions,
    ) -> Result<SeqNo> {
        self.default.put_with(key, value, options)
    }

    /// See [`Keyspace::put_batch`](crate::Keyspace::put_batch).
    pub fn put_batch<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        items: impl IntoIterator<Item = (K, V, Option<Duration>)>,
    ) -> Result<SeqNo> {
        self.default.put_batch(items)
    }

    /// See [`Keyspace::delete`](crate::Keyspace::delete).
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<SeqNo> {
        self.default.delete(key)
    }

    /// See [`Keyspace::get`](crate::Keyspace::get).
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.default.get(key)
    }

    /// See [`Keyspace::get_with`](crate::Keyspace::get_with).
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        self.default.get_with(key, f)
    }

    /// See [`Keyspace::get_pinned`](crate::Keyspace::get_pinned).
    pub fn get_pinned(&self, key: impl AsRef<[u8]>) -> Result<Option<PinnedValue>> {
        self.default.get_pinned(key)
    }

    /// See [`Keyspace::get_entry`](crate::Keyspace::get_entry).
    pub fn get_entry(&self, key: impl AsRef<[u8]>) -> Result<Option<Entry>> {
        self.default.get_entry(key)
    }

    /// See [`Keyspace::contains_key`](crate::Keyspace::contains_key).
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.default.contains_key(key)
    }

    /// See [`Keyspace::multi_get`](crate::Keyspace::multi_get).
    pub fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> Result<Vec<Option<Bytes>>> {
        self.default.multi_get(keys)
    }

    /// See [`Keyspace::multi_get_with`](crate::Keyspace::multi_get_with).
    pub fn multi_get_with<K: AsRef<[u8]>>(
        &self,
        keys: impl IntoIterator<Item = K>,
        f: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<()> {
        self.default.multi_get_with(keys, f)
    }

    /// See [`Keyspace::compare_and_swap`](crate::Keyspace::compare_and_swap).
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<Result<(), CasConflict>> {
        self.default.compare_and_swap(key, expected, new)
    }

    /// See [`Keyspace::put_if_absent`](crate::Keyspace::put_if_absent).
    pub fn put_if_absent(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<bool> {
        self.default.put_if_absent(key, value)
    }

    /// See [`Keyspace::fetch_and_update`](crate::Keyspace::fetch_and_update).
    pub fn fetch_and_update(
        &self,
        key: impl AsRef<[u8]>,
        f: impl FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<Option<Bytes>> {
        self.default.fetch_and_update(key, f)
    }

    /// See [`Keyspace::merge`](crate::Keyspace::merge).
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<SeqNo> {
        self.default.merge(key, operand)
    }

    /// See [`Keyspace::iter`](crate::Keyspace::iter).
    pub fn iter(&self) -> Scan {
        self.default.iter()
    }

    /// See [`Keyspace::range`](crate::Keyspace::range).
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        self.default.range(range)
    }

    /// See [`Keyspace::prefix`](crate::Keyspace::prefix).
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        self.default.prefix(prefix)
    }

    /// See [`Keyspace::scan_with`](crate::Keyspace::scan_with).
    pub fn scan_with<K: AsRef<[u8]>, B>(
        &self,
        range: impl RangeBounds<K>,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.default.scan_with(range, f)
    }

    /// See [`Keyspace::scan_with_rev`](crate::Keyspace::scan_with_rev).
    pub fn scan_with_rev<K: AsRef<[u8]>, B>(
        &self,
        range: impl RangeBounds<K>,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.default.scan_with_rev(range, f)
    }

    /// See [`Keyspace::scan_prefix_with`](crate::Keyspace::scan_prefix_with).
    pub fn scan_prefix_with<B>(
        &self,
        prefix: impl AsRef<[u8]>,
        f: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>> {
        self.default.scan_prefix_with(prefix, f)
    }

    /// See [`Keyspace::keys`](crate::Keyspace::keys).
    pub fn keys(&self) -> Keys {
        self.default.keys()
    }

    /// See [`Keyspace::first_key_value`](crate::Keyspace::first_key_value).
    pub fn first_key_value(&self) -> Result<Option<(Bytes, Bytes)>> {
        self.default.first_key_value()
    }

    /// See [`Keyspace::last_key_value`](crate::Keyspace::last_key_value).
    pub fn last_key_value(&self) -> Result<Option<(Bytes, Bytes)>> {
        self.default.last_key_value()
    }
}
