//! Log directories as text: short, since zeroes are left out, and readable in a review.

use std::fmt::Write;

use cortenkv_wal::fuzzing::{CHAIN, HEADER_BYTES, MARK, RECORD, frames};
use cortenkv_wal::vfs::sim::Image;

use crate::common::DIR;

const LINE_BYTES: usize = 16;

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}

/// All files of an image: a line with name and length, then the lines that are not all zeroes.
pub fn dump(image: &Image) -> String {
    let mut out = String::new();
    for path in image.paths() {
        let bytes = image.read(path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        writeln!(out, "file {name} {}", bytes.len()).unwrap();
        for (i, line) in bytes.chunks(LINE_BYTES).enumerate() {
            if line.iter().any(|&byte| byte != 0) {
                writeln!(out, "{:08x}  {}", i * LINE_BYTES, hex(line)).unwrap();
            }
        }
    }
    out
}

/// The image that [`dump`] wrote down.
pub fn undump(text: &str) -> Image {
    let mut image = Image::new();
    let mut current: Option<(String, Vec<u8>)> = None;
    for line in text.lines().filter(|line| !line.starts_with(['#', '='])) {
        let (first, rest) = line.split_once(' ').unwrap();
        if first == "file" {
            let (name, len) = rest.split_once(' ').unwrap();
            if let Some((path, bytes)) = current.take() {
                image.insert(path, bytes);
            }
            current = Some((format!("{DIR}/{name}"), vec![0; len.parse().unwrap()]));
            continue;
        }
        let (_, bytes) = current.as_mut().expect("a file line comes first");
        let offset = usize::from_str_radix(first, 16).unwrap();
        for (i, digits) in rest.split_whitespace().enumerate() {
            bytes[offset + i] = u8::from_str_radix(digits, 16).unwrap();
        }
    }
    if let Some((path, bytes)) = current {
        image.insert(path, bytes);
    }
    image
}

/// Offset, length and meaning of the fields of a header.
const HEADER_FIELDS: [(usize, usize, &str); 15] = [
    (0, 8, "magic \"CORTSEG1\""),
    (8, 2, "major version"),
    (10, 2, "minor version"),
    (12, 4, "incompatible feature bits"),
    (16, 4, "compatible feature bits"),
    (20, 4, "kind of segment: 1 = log"),
    (24, 4, "generation, reserved"),
    (40, 16, "owner"),
    (56, 16, "owner data"),
    (72, 8, "segment id"),
    (80, 8, "salt"),
    (88, 8, "key id, reserved"),
    (96, 8, "created, ms since 1970"),
    (104, 4, "built end"),
    (2044, 4, "CRC32C of bytes 0 to 2043"),
];

/// A segment file, every field on a line of its own with what it means.
pub fn example(file: &[u8]) -> String {
    let mut out = String::new();
    for (at, len, meaning) in HEADER_FIELDS {
        field(&mut out, file, at, len, meaning);
    }
    writeln!(out, "{:08x}  (the same 2048 bytes once more)", HEADER_BYTES / 2).unwrap();
    for frame in frames(file) {
        let (at, units) = (frame.offset, frame.stored_bytes / 8);
        let name = match frame.kind {
            CHAIN => "chain",
            RECORD => "record",
            MARK => "mark",
            other => panic!("the example has no frame of kind {other}"),
        };
        writeln!(out).unwrap();
        field(&mut out, file, at, 4, &format!("{name}: CRC32C"));
        field(&mut out, file, at + 4, 3, &format!("length: {units} units of 8 bytes"));
        field(&mut out, file, at + 7, 1, &format!("kind {}", frame.kind));
        let body: &[(usize, usize, &str)] = match frame.kind {
            CHAIN => &[
                (8, 8, "last sequence before this segment"),
                (16, 8, "predecessor: none"),
                (24, 4, "where it ends, in stored bytes"),
                (28, 4, "where it ends, in logical bytes"),
                (32, 8, "durable sequence"),
                (40, 8, "oldest segment"),
                (48, 8, "wall clock, ms since 1970"),
                (56, 8, "sequence floor: 2^30 - 1"),
            ],
            RECORD => &[
                (8, 8, "sequence: 2^30"),
                (16, 1, "flags: a put without expiry, alone"),
                (17, 1, "keyspace 0"),
                (18, 1, "key length 3"),
                (19, 1, "value length 5"),
                (20, 3, "key \"key\""),
                (23, 5, "value \"value\""),
                (28, 4, "padding"),
            ],
            _ => &[(8, 8, "everything up to this sequence is durable"), (16, 8, "wall clock")],
        };
        for (offset, len, meaning) in body {
            field(&mut out, file, at + offset, *len, meaning);
        }
    }
    let end = frames(file).iter().map(|frame| frame.offset + frame.stored_bytes).max().unwrap();
    writeln!(out).unwrap();
    field(&mut out, file, end, 8, "a zero head word: the end of the log");
    out
}

fn field(out: &mut String, file: &[u8], at: usize, len: usize, meaning: &str) {
    writeln!(out, "{at:08x}  {:<48}{meaning}", hex(&file[at..at + len])).unwrap();
}
