//! Runs that outlive the process: what is saved is put back, without hints that lead elsewhere.

use std::sync::Arc;

use cortenkv_index::{
    Address, Direction, ErrorKind, Hint, KeyBatch, KeyOwner, KeyRange, KeyState, OrderedIndex,
    RamRuns, RunStore, RunsOptions, RunsOrdered, SavedPiece,
};

/// Every key is live, in one of two segments.
struct Owner;

impl KeyOwner for Owner {
    fn states(
        &self,
        _keyspace: u32,
        keys: &KeyBatch,
        states: &mut Vec<KeyState>,
    ) -> cortenkv_index::Result<()> {
        states.clear();
        states.extend((0..keys.len()).map(|n| KeyState::Live(Some(hint(keys.get(n).unwrap())))));
        Ok(())
    }
}

fn hint(key: &[u8]) -> Hint {
    let slot = u16::from(key.last().unwrap() % 2);
    Hint { segment: 70 + u64::from(slot), address: Address::new(slot, 4096).unwrap() }
}

fn walk(index: &RunsOrdered) -> Vec<(Vec<u8>, Option<Hint>)> {
    let mut cursor = index.cursor(0, KeyRange::all(), Direction::Forward);
    let (mut batch, mut keys) = (KeyBatch::new(), Vec::new());
    while cursor.next_batch(16, &mut batch).unwrap() > 0 {
        keys.extend((0..batch.len()).map(|n| (batch.get(n).unwrap().to_vec(), batch.hint(n))));
    }
    keys
}

fn tiny() -> RunsOptions {
    let mut options = RunsOptions::default();
    options.delta_keys_min = 40;
    options.delta_keys_max = 80;
    options.piece_keys_max = 64;
    options
}

fn key(n: u32) -> [u8; 4] {
    n.wrapping_mul(0x9E37_79B1).to_be_bytes()
}

fn filled() -> RunsOrdered {
    let index = RunsOrdered::new(tiny());
    for n in 0..500 {
        index.insert(0, &key(n));
        if n < 450 {
            while index.maintain(&Owner).unwrap() {}
        }
    }
    index
}

#[test]
fn every_key_comes_back_from_runs_and_from_what_was_not_in_one_yet() {
    let index = filled();
    let saved = index.save(0).unwrap();
    assert!(saved.len() > 1 && saved.iter().any(|run| run.len() > 1), "{} runs", saved.len());
    assert!(index.save(9).unwrap().is_empty() && index.keyspaces() == [0]);
    let copy = RunsOrdered::new(tiny());
    copy.insert(0, b"from before the runs came");
    copy.restore(0, saved, &mut |segment, slot| (segment, slot) == (71, 1)).unwrap();
    copy.insert(0, b"zzz");
    let mut expected: Vec<Vec<u8>> = (0..500).map(|n| key(n).to_vec()).collect();
    expected.extend([b"zzz".to_vec(), b"from before the runs came".to_vec()]);
    expected.sort();
    let found = walk(&copy);
    assert_eq!(found.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), expected);
    let hints: Vec<Hint> = found.iter().filter_map(|(_, hint)| *hint).collect();
    assert!(hints.iter().filter(|hint| hint.segment == 71).count() > 50);
    assert!(hints.iter().all(|hint| [71, Hint::NO_SEGMENT].contains(&hint.segment)));
    // It goes on like any other.
    for n in 500..900 {
        copy.insert(0, &key(n));
        while copy.maintain(&Owner).unwrap() {}
    }
    assert_eq!(walk(&copy).len(), 902);
}

#[test]
fn what_was_never_saved_is_refused_and_changes_nothing() {
    let index = filled();
    let saved = index.save(0).unwrap();
    let long = saved.iter().find(|run| run.len() > 1).unwrap();
    let swapped = vec![vec![long[1].clone(), long[0].clone()]];
    let bytes = RamRuns.store(long[0].bytes.bytes()[..100].to_vec()).unwrap();
    let cut = vec![vec![SavedPiece { first: long[0].first.clone(), bytes: Arc::clone(&bytes) }]];
    for runs in [swapped, cut, vec![Vec::new()]] {
        let refused = index.restore(0, runs, &mut |_, _| true).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corruption);
        assert_eq!(walk(&index).len(), 500);
    }
}
