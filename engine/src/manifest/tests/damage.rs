//! S5 for the manifest: every bit flipped, every byte zeroed, every length; and manifests of other versions.

use super::*;

const FILE: &str = "MANIFEST-000001";

/// A manifest that was renewed in the middle of the history and went on; the states after each edit, from the renewal
/// on, and where each of them ends in the file.
struct Sample {
    bytes: Vec<u8>,
    states: Vec<ManifestState>,
    ends: Vec<usize>,
    identity: Identity,
}

fn sample() -> Sample {
    let identity = Identity { uuid: [7; 16], hash_id: format::HASH_ID, hash_seed: 42 };
    let (renewed, appended) = (history()[..6].to_vec(), history()[6..].to_vec());
    let mut state = ManifestState::default();
    renewed.into_iter().for_each(|edit| state.apply(edit));
    let (_, mut bytes) = encode(&identity, &state, state.features());
    let (mut states, mut ends) = (vec![state.clone()], vec![bytes.len()]);
    for edit in appended {
        push(&mut bytes, &identity, &edit.encode());
        state.apply(edit);
        states.push(state.clone());
        ends.push(bytes.len());
    }
    Sample { bytes, states, ends, identity }
}

fn push(bytes: &mut Vec<u8>, identity: &Identity, payload: &[u8]) {
    let offset = bytes.len() as u64;
    format::encode_edit(bytes, identity, offset, payload);
}

fn read(bytes: &[u8]) -> Result<ManifestState> {
    replay(Path::new(FILE), bytes).map(|(_, state)| state)
}

/// A typed error that names file and place, or a newer version.
fn check_refusal(error: &Error, bytes: usize, at: &str) {
    match error.kind() {
        ErrorKind::Corruption { file, offset, .. } => {
            assert!(file == Path::new(FILE) && *offset <= bytes as u64, "{at}: {error}");
        }
        ErrorKind::Unsupported => assert!(error.to_string().contains(FILE), "{at}: {error}"),
        kind => panic!("{at}: {kind:?}: {error}"),
    }
}

impl Sample {
    /// What may be read of a copy that is damaged at one byte.
    fn check_damaged(&self, bytes: &[u8], damaged: usize, at: &str) {
        let last = self.ends[self.ends.len() - 2];
        match read(bytes) {
            Ok(state) => {
                assert!(damaged >= last, "{at} passed unseen");
                assert_eq!(state, self.states[self.states.len() - 2], "{at}");
            }
            Err(error) => check_refusal(&error, bytes.len(), at),
        }
    }
}

/// A manifest of format 1.1 with every kind of edit, in hexadecimal digits.
const GOLDEN_1_1: &str = include_str!("../../../tests/golden/manifest-1.1.hex");

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.split_whitespace();
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

#[test]
fn golden_todays_writer_makes_the_manifest_of_format_1_1() {
    let sample = sample();
    let hex: Vec<String> = sample.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<String> = hex.chunks(32).map(|line| line.join(" ")).collect();
    assert!(unhex(GOLDEN_1_1) == sample.bytes, "the format changed:\n{}", lines.join("\n"));
}

#[test]
fn an_intact_manifest_reads_back() {
    let sample = sample();
    assert_eq!(read(&sample.bytes).unwrap(), *sample.states.last().unwrap());
}

#[test]
fn a_flipped_bit_is_damage_unless_it_is_in_the_last_edit() {
    let sample = sample();
    for bit in 0..sample.bytes.len() * 8 {
        let mut bytes = sample.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        sample.check_damaged(&bytes, bit / 8, &format!("bit {bit}"));
    }
}

#[test]
fn a_zeroed_byte_is_damage_unless_it_is_in_the_last_edit() {
    let sample = sample();
    for at in (0..sample.bytes.len()).filter(|&at| sample.bytes[at] != 0) {
        let mut bytes = sample.bytes.clone();
        bytes[at] = 0;
        sample.check_damaged(&bytes, at, &format!("zeroed byte {at}"));
    }
}

#[test]
fn a_zeroed_stretch_is_damage_unless_it_is_the_end_of_what_was_appended() {
    let sample = sample();
    for (start, len) in (0..sample.bytes.len()).flat_map(|start| [(start, 64), (start, 512)]) {
        let mut bytes = sample.bytes.clone();
        let end = bytes.len().min(start + len);
        bytes[start..end].fill(0);
        let Some(start) = (start..end).find(|&at| bytes[at] != sample.bytes[at]) else { continue };
        let at = format!("{len} bytes zeroed at {start}");
        match read(&bytes) {
            Ok(state) => {
                assert!(
                    start >= sample.ends[0] && end > sample.ends[sample.ends.len() - 2],
                    "{at}"
                );
                let whole = sample.ends.iter().rposition(|&end| end <= start).unwrap();
                assert_eq!(state, sample.states[whole], "{at}");
            }
            Err(error) => check_refusal(&error, bytes.len(), &at),
        }
    }
}

#[test]
fn a_cut_keeps_the_whole_edits_and_is_damage_in_what_was_renewed() {
    let sample = sample();
    for len in 0..sample.bytes.len() {
        match read(&sample.bytes[..len]) {
            Ok(state) => {
                let whole = sample.ends.iter().rposition(|&end| end <= len).unwrap();
                assert_eq!(state, sample.states[whole], "cut at {len}");
            }
            Err(error) => {
                assert!(len < sample.ends[0], "cut at {len}: {error}");
                check_refusal(&error, len, &format!("cut at {len}"));
            }
        }
    }
    assert!(sample.ends[0] > HEADER_BYTES + 100);
}

// A torn edit may be of any length, and holds anything but an edit.
#[test]
fn a_tail_is_torn_up_to_the_length_of_an_edit_and_damage_beyond() {
    let sample = sample();
    let longest = EDIT_HEAD_BYTES + EDIT_PAYLOAD_BYTES_MAX;
    for fill in [0, 0xa5] {
        let mut bytes = sample.bytes.clone();
        bytes.resize(sample.bytes.len() + longest, fill);
        assert_eq!(read(&bytes).unwrap(), *sample.states.last().unwrap());
        bytes.push(fill);
        check_refusal(&read(&bytes).unwrap_err(), bytes.len(), "too long a tail");
    }
    let mut bytes = sample.bytes.clone();
    bytes.extend_from_slice(&[0xa5; 1000]);
    push(&mut bytes, &sample.identity, &keyspace(9, "behind").encode());
    let error = read(&bytes).unwrap_err();
    assert!(error.to_string().contains(&format!("at byte {}", sample.bytes.len())), "{error}");
}

#[test]
fn an_edit_copied_to_another_place_is_not_valid_there() {
    let sample = sample();
    let mut bytes = sample.bytes.clone();
    let copy = bytes[sample.ends[0]..sample.ends[1]].to_vec();
    bytes.extend_from_slice(&copy);
    assert_eq!(read(&bytes).unwrap(), *sample.states.last().unwrap());
}

#[test]
fn an_edit_that_contradicts_those_before_it_is_damage_at_its_place() {
    let sample = sample();
    let mut bytes = sample.bytes.clone();
    push(&mut bytes, &sample.identity, &keyspace(1, "once more").encode());
    let error = read(&bytes).unwrap_err();
    assert!(error.is_corruption(), "{error}");
    assert!(error.to_string().contains(&format!("byte {}", sample.bytes.len())), "{error}");
}

#[test]
fn unknown_kinds_are_unsupported_below_128_and_passed_over_from_there() {
    for kind in 1..=255u8 {
        let sample = sample();
        let mut bytes = sample.bytes.clone();
        push(&mut bytes, &sample.identity, &[kind]);
        match kind {
            1..=5 | 128..=131 => assert!(read(&bytes).unwrap_err().is_corruption(), "kind {kind}"),
            6..=127 => {
                let error = read(&bytes).unwrap_err();
                assert_eq!(error.code(), 12, "{error}");
                assert!(error.to_string().contains(&format!("kind {kind} ")), "{error}");
            }
            _ => assert_eq!(read(&bytes).unwrap(), *sample.states.last().unwrap()),
        }
    }
}

/// Puts a right checksum into a header that was changed.
fn finish_header(bytes: &mut [u8]) {
    let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
    bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn a_newer_major_and_an_unknown_feature_are_unsupported() {
    let sample = sample();
    let mut newer = sample.bytes.clone();
    newer[8] = 2;
    assert_eq!(read(&newer).unwrap_err().code(), 12);
    for bit in 0..32 {
        let mut bytes = sample.bytes.clone();
        bytes[12 + bit / 8] |= 1 << (bit % 8);
        finish_header(&mut bytes);
        let known = 1 << bit == COMPACTED_SEGMENTS;
        assert_eq!(read(&bytes).is_ok(), known, "bit {bit}");
        assert!(known || read(&bytes).unwrap_err().code() == 12, "bit {bit}");
    }
    // Jobs that the header does not tell of: an older version would have opened this.
    let mut silent = sample.bytes.clone();
    silent[12] = 0;
    finish_header(&mut silent);
    assert!(read(&silent).unwrap_err().is_corruption());
}

// The limit of 1.0 tells damage there as it always did.
#[test]
fn a_manifest_of_format_1_0_has_the_limits_of_its_time() {
    let identity = sample().identity;
    let (_, mut bytes) = encode(&identity, &ManifestState::default(), 0);
    bytes[10] = 0;
    bytes[48..56].fill(0);
    finish_header(&mut bytes);
    push(&mut bytes, &identity, &keyspace(1, "users").encode());
    assert_eq!(read(&bytes).unwrap().keyspaces.len(), 1);
    let whole = bytes.len();
    bytes.resize(whole + EDIT_HEAD_BYTES + 1024, 0);
    assert_eq!(read(&bytes).unwrap().keyspaces.len(), 1);
    bytes.push(0);
    assert!(read(&bytes).unwrap_err().is_corruption());
}
