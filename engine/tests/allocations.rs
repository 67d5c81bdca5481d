//! What a read allocates (P7): the value that it returns, and nothing else.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use cortenkv::{Db, Durability};

/// Counts the allocations of the thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that the thread has allocated and not given back.
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: usize) {
    // A thread that is ending has no counter any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
    add(bytes as isize);
}

fn add(bytes: isize) {
    let _ = BYTES.try_with(|all| all.set(all.get() + bytes));
}

// SAFETY: every call goes to the allocator of the system unchanged; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        add(-(layout.size() as isize));
        count(new_bytes);
        // SAFETY: as for `dealloc`; the caller keeps the contract of `realloc`.
        unsafe { System.realloc(ptr, layout, new_bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `f` allocates in this thread; the first run is for whatever is set up once.
fn allocations<R>(mut f: impl FnMut() -> R) -> usize {
    drop(f());
    let before = ALLOCATIONS.get();
    let result = f();
    let after = ALLOCATIONS.get();
    drop(result);
    after - before
}

fn each_kind(test: impl Fn(&Db)) {
    println!("in memory");
    test(&Db::open_in_memory().unwrap());
    for durability in [Durability::group(), Durability::None] {
        println!("{durability}");
        let root = tempfile::tempdir().unwrap();
        let db = Db::builder(root.path().join("db")).durability(durability).build().unwrap();
        test(&db);
        drop(db);
        // Segments that were opened for reading.
        test(&Db::builder(root.path().join("db")).durability(durability).build().unwrap());
    }
}

#[test]
fn a_get_allocates_its_value_and_nothing_else() {
    each_kind(|db| {
        let mut batch = db.batch();
        for n in 0..100_u32 {
            batch.put(db, n.to_be_bytes(), [n as u8; 100]);
        }
        batch.commit().unwrap();
        db.put("deleted", "x").unwrap();
        db.delete("deleted").unwrap();
        let key = 7_u32.to_be_bytes();
        assert_eq!(allocations(|| db.get(key).unwrap()), 1);
        assert_eq!(allocations(|| db.get_with(key, <[u8]>::len).unwrap()), 0);
        assert_eq!(allocations(|| db.contains_key(key).unwrap()), 0);
        for missing in ["never", "deleted"] {
            assert_eq!(allocations(|| db.get(missing).unwrap()), 0);
            assert_eq!(allocations(|| db.contains_key(missing).unwrap()), 0);
        }
        assert_eq!(allocations(|| db.get_pinned(key).unwrap()), 0);
    });
}

#[test]
fn a_batch_of_gets_allocates_its_values_and_a_constant() {
    each_kind(|db| {
        for n in 0..160_u32 {
            db.put(n.to_be_bytes(), [n as u8; 100]).unwrap();
        }
        let keys: Vec<_> = (0..160_u32).map(u32::to_be_bytes).collect();
        // For each call the answer and the keys of a batch; for each batch of 16 the places that were found.
        assert_eq!(allocations(|| db.multi_get(&keys).unwrap()), 160 + 2 + 10);
        let mut bytes = 0;
        let sum = || db.multi_get_with(&keys, |_, value| bytes += value.map_or(0, <[u8]>::len));
        assert_eq!(allocations(sum), 1 + 10);
        assert_eq!(bytes, 2 * 160 * 100);
    });
}

// What a key costs that is overwritten while a snapshot is open: 40 bytes of memory at most, whatever its value.
#[test]
fn a_snapshot_takes_at_most_40_bytes_for_an_overwritten_key() {
    const KEYS: u32 = 1_000_000;
    let root = tempfile::tempdir().unwrap();
    let db =
        Db::builder(root.path().join("db")).durability(Durability::None).manual().build().unwrap();
    let overwrite = || (0..KEYS).for_each(|n| assert!(db.put(n.to_be_bytes(), b"").unwrap() > 0));
    overwrite();
    let then = db.snapshot().unwrap();
    let before = BYTES.get();
    overwrite();
    let of_first = (BYTES.get() - before) as f64 / f64::from(KEYS);
    overwrite();
    let of_both = (BYTES.get() - before) as f64 / f64::from(KEYS);
    println!("{of_first:.1} bytes a key, {of_both:.1} when all are overwritten once more");
    assert!(of_first <= 40.0 && of_both <= 41.0, "the second time nothing is kept but dead bits");
    let stats = db.stats().snapshots;
    assert_eq!(stats.versions, u64::from(KEYS));
    assert!(stats.version_bytes <= 40 * u64::from(KEYS));
    drop(then);
}
