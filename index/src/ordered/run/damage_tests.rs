//! Damaged runs: whatever happens to the bytes, a run shows the right keys or a `Corruption` error.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::format::{BLOCK_KEYS, CHECKSUM_BYTES, HEADER_BYTES};
use super::tests::{forward, reverse, run_of};
use super::*;
use crate::error::{Error, ErrorKind};

/// Keys with short and long common prefixes, some of them in lengths of two bytes.
fn sorted_keys(count: u32) -> Vec<Vec<u8>> {
    let key = |n: u32| [&vec![b'k'; n as usize / 9 * 5], &n.to_be_bytes()[..]].concat();
    let mut keys: Vec<Vec<u8>> = (0..count).map(key).collect();
    keys.sort();
    keys
}

fn open(bytes: Vec<u8>) -> Result<Arc<Run>> {
    Run::open(RamRuns.store(bytes)?).map(Arc::new)
}

/// The error, or the claim that everything that the run shows is right.
fn right_or_error(bytes: Vec<u8>, keys: &[Vec<u8>]) -> Result<()> {
    let all: Vec<(u32, Vec<u8>)> = (0..).zip(keys.iter().cloned()).collect();
    let backwards: Vec<_> = all.iter().rev().cloned().collect();
    let run = open(bytes)?;
    // Each answer alone must be right, also where another one is an error.
    let walks =
        [forward(&run).map(|shown| shown == all), reverse(&run).map(|shown| shown == backwards)];
    // A third of the keys, so that every block is searched.
    let searches = (0u32..).zip(keys).step_by(3).map(|(n, key)| {
        let found = run.lower_bound(Bound::Included(key)).map(|position| position == n);
        found.and_then(|right| Ok(right && run.lower_bound(Bound::Excluded(key))? == n + 1))
    });
    let mut outcome = Ok(());
    for answer in searches.chain(walks) {
        match answer {
            Ok(right) => assert!(right, "a wrong key"),
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

fn assert_corruption(outcome: Result<()>, what: &str) {
    let kind = outcome.map_err(|error| error.kind());
    assert_eq!(kind, Err(ErrorKind::Corruption), "{what} went unnoticed");
}

#[test]
fn any_damaged_byte_is_found_or_harmless() {
    let keys = sorted_keys(300);
    let run = run_of(&keys);
    let (bytes, layout) = (run.bytes.bytes().to_vec(), run.layout);
    let blocks_end = run.group(layout.groups() - 1).expect("there").end(layout.blocks() - 1);
    right_or_error(bytes.clone(), &keys).expect("it is intact so far");
    let mut cases = 0;
    for at in 0..bytes.len() {
        // All of the header and the index section, and every byte of some blocks.
        if (3_000..layout.index_at).contains(&at) && at % 13 != 0 {
            continue;
        }
        for value in [bytes[at] ^ 1 << (at % 8), 0, 0xFF, bytes[at].wrapping_add(1)] {
            if value != bytes[at] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let outcome = right_or_error(damaged, &keys);
                if !(blocks_end..layout.index_at).contains(&at) {
                    assert_corruption(outcome, &format!("{value:#x} at {at}"));
                }
                cases += 1;
            }
        }
    }
    println!("{cases} cases in {} bytes", bytes.len());
    assert!(cases > 5_000);
}

#[test]
fn a_run_that_is_cut_or_continued_is_refused() {
    let keys = sorted_keys(100);
    let bytes = run_of(&keys).bytes.bytes().to_vec();
    for length in 0..bytes.len() {
        assert_corruption(open(bytes[..length].to_vec()).map(drop), &format!("a cut at {length}"));
        let mut zeroed = bytes.clone();
        zeroed[length..].fill(0);
        if zeroed != bytes {
            assert_corruption(right_or_error(zeroed, &keys), &format!("zeros from {length} on"));
        }
    }
    for more in [1, 64, 4096] {
        let longer = [&bytes[..], &vec![0; more]].concat();
        assert_corruption(open(longer).map(drop), "bytes behind the end");
    }
}

/// Ignores errors and wrong answers; a panic or an endless walk fails the test.
fn use_all(run: &Arc<Run>, probes: &[Vec<u8>]) -> Result<(), Error> {
    for probe in probes {
        let position = run.lower_bound(Bound::Included(probe)).unwrap_or(7);
        let mut cursor = run.cursor();
        let _may_fail = cursor.seek(position);
        let _may_be_none = (cursor.key().map(<[u8]>::len), cursor.hint());
        let _may_fail = cursor.seek_before(position);
    }
    let mut cursor = run.cursor();
    for _ in 0..=run.len() {
        cursor.advance()?;
    }
    assert_eq!(cursor.key(), None, "there are more keys than there are");
    Ok(())
}

/// What the header, the index section and the blocks look like if damage is covered by a right checksum.
fn forge(bytes: &mut [u8], layout: &Layout, blocks: &[(usize, usize)]) {
    for (start, end) in blocks {
        let checksum = crc32c::crc32c(&bytes[start + CHECKSUM_BYTES..*end]);
        bytes[*start..start + CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
    }
    let header = layout.header(&bytes[layout.index_at..]);
    bytes[..HEADER_BYTES].copy_from_slice(&header);
}

#[test]
fn damage_under_right_checksums_does_not_panic() {
    let keys = sorted_keys(600);
    let run = run_of(&keys);
    let (bytes, layout) = (run.bytes.bytes().to_vec(), run.layout);
    let places: Vec<_> = (0..layout.blocks())
        .map(|n| run.group(n / GROUP_BLOCKS).expect("there").block(n))
        .collect();
    let (mut opened, mut walked) = (0, 0);
    for seed in 0..4_000usize {
        let mut forged = bytes.clone();
        let at = HEADER_BYTES + seed.wrapping_mul(2_654_435_761) % (bytes.len() - HEADER_BYTES);
        forged[at] = [0, 0x7F, 0x80, 0xFF, forged[at] ^ 1, forged[at] ^ 0x80][seed % 6];
        let mut forged_layout = layout;
        match seed % 50 {
            0 => forged_layout.keys = layout.keys - layout.keys % BLOCK_KEYS - 1,
            1 => forged_layout.keys = layout.keys.next_multiple_of(BLOCK_KEYS),
            2 => forged_layout.keys = u32::MAX - seed as u32,
            3 => forged_layout.segments = u32::MAX - seed as u32,
            4 => forged_layout.index_at = layout.index_at - 64,
            _ => {}
        }
        forge(&mut forged, &layout, &places);
        let header = forged_layout.header(&forged[forged_layout.index_at..]);
        forged[..HEADER_BYTES].copy_from_slice(&header);
        match open(forged) {
            Ok(run) => {
                opened += 1;
                walked += usize::from(use_all(&run, &keys[..20]).is_ok());
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption),
        }
    }
    println!("{opened} of 4000 forged runs opened, {walked} could be walked through");
    assert!(opened > 2_000 && walked > 1_000, "the checksums are forged wrongly");
}

/// Bytes that are other ones from some moment on.
struct Shifting {
    before: Vec<u8>,
    after: Vec<u8>,
    shifted: AtomicBool,
}

impl RunBytes for Shifting {
    fn bytes(&self) -> &[u8] {
        if self.shifted.load(Ordering::Relaxed) { &self.after } else { &self.before }
    }

    fn is_mapped(&self) -> bool {
        true
    }
}

#[test]
fn bytes_that_change_after_they_were_verified_do_not_panic() {
    let keys = sorted_keys(600);
    let before = run_of(&keys).bytes.bytes().to_vec();
    for seed in 0..300usize {
        let mut after = before.clone();
        match seed % 4 {
            0 => after.truncate(seed * before.len() / 300),
            1 => after.fill(seed as u8),
            2 => after.rotate_left(seed),
            _ => after.iter_mut().skip(seed).step_by(7 + seed % 90).for_each(|byte| *byte ^= 0x81),
        }
        let shifted = AtomicBool::new(false);
        let shifting = Arc::new(Shifting { before: before.clone(), after, shifted });
        let run = Run::open(Arc::clone(&shifting) as Arc<dyn RunBytes>).expect("intact so far");
        assert_eq!(run.mapped_bytes(), before.len());
        let run = Arc::new(run);
        if seed % 2 == 0 {
            use_all(&run, &keys).expect("intact so far");
        }
        shifting.shifted.store(true, Ordering::Relaxed);
        let _may_fail = use_all(&run, &keys);
    }
}

#[test]
fn an_error_leaves_the_cursor_behind_the_last_key() {
    let keys = sorted_keys(100);
    let run = run_of(&keys);
    let (mut bytes, (start, _)) =
        (run.bytes.bytes().to_vec(), run.group(0).expect("there").block(2));
    bytes[start] ^= 1;
    let run = open(bytes).expect("a block is verified when it is touched");
    let mut cursor = run.cursor();
    cursor.seek(31).expect("block 1 is intact");
    assert_eq!(cursor.key(), Some(&keys[31][..]));
    let error = cursor.advance().expect_err("block 2 is not");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert!(error.to_string().contains(&format!("block 2 at {start}")), "{error}");
    assert_eq!((cursor.key(), cursor.position()), (None, 100));
    cursor.advance().expect("nothing is behind the last key");
    cursor.seek(48).expect("block 3 is intact");
    assert_eq!(cursor.key(), Some(&keys[48][..]));
    assert_eq!(cursor.retreat().map_err(|e| e.kind()), Err(ErrorKind::Corruption));
}
