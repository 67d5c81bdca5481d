//! Databases of every released format, for ever: each must open with the content written down beside it, and is of
//! today's format afterwards.
//!
//! `CORTENKV_BLESS=1 cargo test -p cortenkv --features test-util --test golden` writes the file of today's format where
//! it is missing. Files of a released format are never written again.

#![expect(
    clippy::disallowed_methods,
    reason = "golden files lie beside the tests, on the real file system"
)]

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortenkv::vfs::SimVfs;
use cortenkv::vfs::sim::Image;
use cortenkv::{Db, ManualClock};

const DIR: &str = "db";
const LINE_BYTES: usize = 16;
/// The format that today's writer makes: major and minor version.
const TODAY: (u8, u8) = (1, 1);

fn open(sim: &SimVfs) -> Db {
    let clock = Arc::new(ManualClock::at_wall_ms(1_700_000_000_000));
    let builder = Db::builder(DIR).vfs(Arc::new(sim.clone())).clock(clock).manual();
    builder.segment_bytes(16 << 10).build().unwrap()
}

/// What every golden database has been through: two openings, two keyspaces, a batch, an overwrite and a delete.
fn lived() -> Image {
    let sim = SimVfs::new(42);
    let db = open(&sim);
    let users = db.keyspace("users").unwrap();
    db.put("city", "Graz").unwrap();
    let mut batch = db.batch();
    batch.put(&users, "1", "Anna").put(&users, "2", "Bo").put(&db, "gone", "soon");
    batch.commit().unwrap();
    db.close().unwrap();
    drop((db, users));
    let db = open(&sim);
    db.keyspace("Straßen").unwrap().put("1", "Hauptplatz").unwrap();
    db.keyspace("users").unwrap().put("2", "Bo the second").unwrap();
    db.delete("gone").unwrap();
    db.close().unwrap();
    sim.image()
}

/// What an open must show.
fn check_content(db: &Db) {
    assert_eq!(db.keyspaces().unwrap(), ["Straßen", "default", "users"]);
    let expected: [(&str, &str, Option<&str>); 5] = [
        ("default", "city", Some("Graz")),
        ("default", "gone", None),
        ("users", "1", Some("Anna")),
        ("users", "2", Some("Bo the second")),
        ("Straßen", "1", Some("Hauptplatz")),
    ];
    for (keyspace, key, value) in expected {
        let found = db.keyspace(keyspace).unwrap().get(key).unwrap();
        assert_eq!(found.as_deref(), value.map(str::as_bytes), "{keyspace} {key}");
    }
}

/// The format in the header of the manifest that `CURRENT` names.
fn manifest_format(image: &Image) -> (u8, u8) {
    let current = String::from_utf8(image.read(format!("{DIR}/CURRENT")).unwrap()).unwrap();
    let name = current.split(' ').next().unwrap();
    let bytes = image.read(format!("{DIR}/{name}")).unwrap();
    assert_eq!(bytes[..8], *b"CORTENMF");
    (bytes[8], bytes[10])
}

fn golden_path((major, minor): (u8, u8)) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{major}.{minor}.hex"))
}

/// All files of an image: a line with name and length, then the lines that are not all zeroes.
fn dump(image: &Image) -> String {
    let mut out = String::new();
    for path in image.paths() {
        let bytes = image.read(path).unwrap();
        writeln!(out, "file {} {}", path.display(), bytes.len()).unwrap();
        for (number, line) in bytes.chunks(LINE_BYTES).enumerate() {
            if line.iter().any(|&byte| byte != 0) {
                let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(out, "{:08x} {}", number * LINE_BYTES, hex.join(" ")).unwrap();
            }
        }
    }
    out
}

/// The image that [`dump`] wrote down.
fn undump(text: &str) -> Image {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for line in text.lines() {
        let (first, rest) = line.split_once(' ').unwrap();
        if first == "file" {
            let (path, len) = rest.rsplit_once(' ').unwrap();
            files.push((path.to_owned(), vec![0; len.parse().unwrap()]));
            continue;
        }
        let (_, bytes) = files.last_mut().expect("a file line comes first");
        let offset = usize::from_str_radix(first, 16).unwrap();
        for (place, digits) in bytes[offset..].iter_mut().zip(rest.split(' ')) {
            *place = u8::from_str_radix(digits, 16).unwrap();
        }
    }
    let mut image = Image::new();
    files.into_iter().for_each(|(path, bytes)| image.insert(path, bytes));
    image
}

fn check(format: (u8, u8)) {
    let path = golden_path(format);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let image = undump(&text);
    assert_eq!(manifest_format(&image), format);
    let sim = SimVfs::from_image(image, 1);
    for opening in 0..2 {
        let db = open(&sim);
        check_content(&db);
        assert_eq!(manifest_format(&sim.image()), TODAY, "opening {opening}");
        db.close().unwrap();
    }
}

#[test]
fn golden_format_1_0_opens_and_becomes_that_of_today() {
    check((1, 0));
}

#[test]
fn golden_the_file_of_todays_format_is_there() {
    let path = golden_path(TODAY);
    if std::env::var_os("CORTENKV_BLESS").is_some() && !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, dump(&lived())).unwrap();
    }
    check(TODAY);
}
