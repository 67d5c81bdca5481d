//! The stand-ins keep the contracts of their traits.

use std::fmt;
use std::sync::Mutex;

use cortenkv_cache::{
    Accepted, Change, Group, NoCache, Pending, ReadCache, Write, WriteBack, WriteFront,
    WriteThrough,
};

#[derive(Debug, PartialEq)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store refused")
    }
}

impl std::error::Error for Refused {}

/// Remembers the keys of each group and how many groups were synced; refuses a group with the key `refuse`.
#[derive(Default)]
struct Store(Mutex<(Vec<Vec<Vec<u8>>>, u64)>);

impl WriteBack for Store {
    type Error = Refused;

    fn append(&self, group: &Group<'_>) -> Result<u64, Refused> {
        assert!(!group.is_empty());
        let keys: Vec<_> = group.writes().iter().map(|write| write.key.to_vec()).collect();
        if keys.contains(&b"refuse".to_vec()) {
            return Err(Refused);
        }
        let mut state = self.0.lock().expect("no panic while locked");
        state.0.push(keys);
        Ok(state.0.len() as u64)
    }

    fn durable_seq(&self) -> u64 {
        self.0.lock().expect("no panic while locked").1
    }

    fn sync(&self) -> Result<u64, Refused> {
        let mut state = self.0.lock().expect("no panic while locked");
        state.1 = state.0.len() as u64;
        Ok(state.1)
    }
}

fn put<'a>(keyspace: u32, key: &'a [u8], value: &'a [u8]) -> Write<'a> {
    Write { keyspace, key, change: Change::Put { value, expires_at_ms: Some(9) } }
}

#[test]
fn a_group_is_sorted_and_keeps_the_last_write_of_each_key() {
    let delete = |key| Write { keyspace: 1, key, change: Change::Delete };
    let group = Group::from_writes([
        put(2, b"a", b"1"),
        put(1, b"b", b"2"),
        delete(b"c"),
        delete(b"b"),
        put(1, b"", b"3"),
        put(1, b"c", b"4"),
    ]);
    let expected = [put(1, b"", b"3"), delete(b"b"), put(1, b"c", b"4"), put(2, b"a", b"1")];
    assert_eq!(group.writes(), expected);
}

#[test]
fn write_through_appends_each_call_as_one_group_and_buffers_nothing() {
    let front = WriteThrough::new(Store::default());
    assert_eq!(front.write(&[put(0, b"b", b""), put(0, b"a", b"")]), Ok(Accepted::Appended(1)));
    assert_eq!(front.write(&[put(0, b"c", b"")]), Ok(Accepted::Appended(2)));
    let groups = front.store().0.lock().expect("no panic while locked").0.clone();
    assert_eq!(groups, [vec![b"a".to_vec(), b"b".to_vec()], vec![b"c".to_vec()]]);
    assert_eq!(front.pending(), Pending::default());
    assert!(!front.lookup(0, b"a", &mut |_| panic!("nothing is buffered")));
}

#[test]
fn write_through_is_durable_after_flush_and_not_before() {
    let front = WriteThrough::new(Store::default());
    front.write(&[put(0, b"a", b"")]).expect("accepted");
    assert_eq!(front.store().durable_seq(), 0);
    assert_eq!(front.flush(), Ok(1));
    assert_eq!(front.store().durable_seq(), 1);
}

#[test]
fn a_refused_write_is_the_callers_error_and_an_empty_one_reaches_nobody() {
    let front = WriteThrough::new(Store::default());
    assert_eq!(front.write(&[put(0, b"a", b""), put(0, b"refuse", b"")]), Err(Refused));
    assert_eq!(front.write(&[]), Ok(Accepted::Nothing));
    assert!(front.store().0.lock().expect("no panic while locked").0.is_empty());
}

#[test]
fn no_cache_keeps_nothing_and_counts_every_miss() {
    let cache: &dyn ReadCache<u32, String> = &NoCache::default();
    cache.fill(1, "value".to_owned(), 5);
    assert_eq!(cache.get(&1), None);
    cache.remove(&1);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries, stats.bytes), (0, 1, 0, 0));
    assert_eq!(stats.hit_rate(), Some(0.0));
}
