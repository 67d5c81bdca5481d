//! Files of every released format, for ever: each must open with the content written down beside it, and today's
//! writer must still make the same bytes. What a newer version wrote is refused before anything is changed.
//!
//! `CORTENKV_BLESS=1 cargo test -p cortenkv-wal --all-features --test golden` writes the files, the seeds of the fuzzer
//! and the example in `FORMAT.md` again. Files of a released version are never written again: a new minor version
//! adds some.
#![expect(
    clippy::disallowed_methods,
    reason = "golden files lie beside the tests, on the real file system"
)]

mod common;

#[path = "golden/cases.rs"]
mod cases;
#[path = "golden/dump.rs"]
mod dump;

use std::fs;
use std::path::{Path, PathBuf};

use cases::{Case, cases};
use common::{DIR, Model, SEED, open, options, segment_path};
use cortenkv_wal::fuzzing::{Directory, HEADER_BYTES, frames, refinish};
use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::vfs::sim::Image;
use cortenkv_wal::{Damage, ErrorKind};
use dump::{dump, example, undump};

fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares a file with what it should hold, or writes it when asked to.
fn check_or_bless(path: &Path, expected: &[u8]) {
    if std::env::var_os("CORTENKV_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, expected).unwrap();
    }
    let found = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(found == expected, "{} is not what today's writer makes", path.display());
}

/// One line for each key: what an open must show.
fn content_lines(model: &Model) -> Vec<String> {
    let versions = model.versions.lock().unwrap();
    let mut lines = Vec::new();
    for (key, (seq, value, expires_at_ms, location)) in versions.iter() {
        let value = match value.as_deref() {
            None => "deleted".to_owned(),
            Some([]) => "empty".to_owned(),
            Some([first, rest @ ..]) if rest.len() > 64 => {
                format!("{} x {first:02x}", rest.len() + 1)
            }
            Some(short) => short.escape_ascii().to_string(),
        };
        let expiry = expires_at_ms.map_or(String::new(), |at_ms| format!(" until {at_ms}"));
        let key = key.escape_ascii();
        let (segment, offset) = (location.segment, location.offset);
        lines.push(format!("= {key} {seq} {segment}:{offset}{expiry} {value}"));
    }
    lines
}

/// Opens a copy of an image and says what is in it.
fn opened(image: &Image) -> Vec<String> {
    let sim = SimVfs::from_image(image.clone(), SEED);
    let (_, report, model) = open(options(&sim)).unwrap();
    assert_eq!(report.damaged_places, 0);
    content_lines(&model)
}

fn golden_path(case: &Case) -> PathBuf {
    in_crate(&format!("tests/golden/v1/{}.hex", case.name))
}

#[test]
fn golden_todays_writer_makes_the_same_bytes() {
    for case in cases() {
        let mut text = format!("# {}\n{}", case.says, dump(&case.image));
        for line in opened(&case.image) {
            text += &(line + "\n");
        }
        check_or_bless(&golden_path(&case), text.as_bytes());
    }
}

#[test]
fn golden_stored_files_open_with_the_content_written_down() {
    let mut seen = 0;
    for entry in fs::read_dir(in_crate("tests/golden/v1")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let expected: Vec<&str> = text.lines().filter(|line| line.starts_with("= ")).collect();
        assert_eq!(opened(&undump(&text)), expected, "{}", path.display());
        seen += 1;
    }
    assert_eq!(seen, cases().len(), "a file without a case, or a case without a file");
}

#[test]
fn golden_every_kind_of_frame_is_there() {
    let mut kinds: Vec<u8> = cases()
        .iter()
        .flat_map(|case| {
            let bytes = case.image.paths().map(|path| case.image.read(path).unwrap());
            bytes.flat_map(|bytes| frames(&bytes)).collect::<Vec<_>>()
        })
        .map(|frame| frame.kind)
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, [1, 2, 3, 4, 5, 6, 200]);
}

/// The smallest case, with both copies of its header changed and finished.
fn with_header(change: impl Fn(&mut [u8])) -> Image {
    let mut image = cases().remove(0).image;
    let path = segment_path(1);
    let mut bytes = image.read(&path).unwrap();
    bytes[..HEADER_BYTES].chunks_exact_mut(HEADER_BYTES / 2).for_each(change);
    refinish(&mut bytes);
    image.insert(&path, bytes);
    image
}

#[test]
fn golden_a_newer_version_is_refused_before_any_write() {
    type Change = fn(&mut [u8]);
    let newer: [(&str, Change); 4] = [
        ("major version", |copy| copy[8] = 2),
        ("incompatible feature", |copy| copy[12] = 1),
        ("last incompatible feature", |copy| copy[15] = 0x80),
        ("kind of segment", |copy| copy[20] = 7),
    ];
    for (what, change) in newer {
        for damage in [Damage::Refuse, Damage::Salvage] {
            let image = with_header(change);
            let sim = SimVfs::from_image(image.clone(), SEED);
            let Err(refused) = open(options(&sim).damage(damage)) else { panic!("{what}: opened") };
            assert_eq!(*refused.kind(), ErrorKind::Unsupported, "{what}: {refused}");
            let mut left = sim.image();
            left.remove(format!("{DIR}/LOCK"));
            assert!(left == image, "{what}: files were changed");
        }
    }
}

#[test]
fn golden_a_newer_minor_version_with_compatible_features_opens() {
    let image = with_header(|copy| {
        copy[10] = 9;
        copy[16..20].fill(0xff);
        copy[200] = 1;
    });
    assert_eq!(opened(&image), opened(&cases().remove(0).image));
}

#[test]
fn golden_the_example_in_the_specification_is_what_the_writer_makes() {
    const START: &str = "<!-- example -->\n```text\n";
    const END: &str = "```\n<!-- end of example -->";
    let path = in_crate("FORMAT.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(START).expect("the start of the example");
    let (_, after) = rest.split_once(END).expect("the end of the example");
    let image = cases().remove(0).image;
    let block = example(&image.read(segment_path(1)).unwrap());
    check_or_bless(&path, format!("{before}{START}{block}{END}{after}").as_bytes());
}

#[test]
fn golden_the_seeds_of_the_fuzzer_are_made_from_the_golden_files() {
    for case in cases() {
        let files: Vec<(u8, Vec<u8>)> = case
            .image
            .paths()
            .map(|path| {
                let id = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16);
                (id.unwrap() as u8, content(&case.image.read(path).unwrap()))
            })
            .collect();
        let seed = |target: &str| in_crate(&format!("../fuzz/seeds/{target}/{}", case.name));
        let last = files.last().unwrap().1.clone();
        check_or_bless(&seed("segment"), &last);
        check_or_bless(&seed("directory"), &Directory { flags: 1, files }.encode());
        let bytes = [&[0; HEADER_BYTES], last.as_slice()].concat();
        for (i, frame) in frames(&bytes).iter().enumerate().take(4) {
            let stored = &bytes[frame.offset..frame.offset + frame.stored_bytes];
            let name = format!("{}-{i}", case.name);
            check_or_bless(
                &in_crate(&format!("../fuzz/seeds/frame/{name}")),
                &[&[0; 8], stored].concat(),
            );
            if frame.kind == cortenkv_wal::fuzzing::GROUP {
                check_or_bless(
                    &in_crate(&format!("../fuzz/seeds/batch_payload/{name}")),
                    &stored[16..],
                );
                check_or_bless(
                    &in_crate(&format!("../fuzz/seeds/snappy/{name}")),
                    &[&stored[16..20], &stored[24..]].concat(),
                );
            }
        }
    }
}

/// The bytes behind the header, without the zeroes at the end.
fn content(file: &[u8]) -> Vec<u8> {
    let end = file.iter().rposition(|&byte| byte != 0).map_or(0, |at| (at + 8) / 8 * 8);
    file[HEADER_BYTES..end.clamp(HEADER_BYTES, file.len())].to_vec()
}
