//! Ties `wal/FORMAT.md` to the source that it describes: the document carries a hash of that source, so the source cannot
//! change without somebody looking at the document.
//!
//! Comments, whitespace and unit tests are left out of the hash: they change no byte on disk.

use super::Finding;
use super::source::{Class, Source};

/// The document, from the workspace root.
pub const DOCUMENT_PATH: &str = "wal/FORMAT.md";

const MARK: &str = "<!-- source-hash: ";
const MARK_END: &str = " -->";

/// The hash of the sources of the format, in hexadecimal digits.
pub fn hash(sources: &[Source]) -> String {
    let mut described: Vec<&Source> =
        sources.iter().filter(|source| is_described(source)).collect();
    described.sort_by_key(|source| &source.path);
    let mut hash = Fnv::new();
    for source in described {
        hash.write(source.path.as_bytes());
        hash.write(b"\n");
        hash.write(folded(source).as_bytes());
        hash.write(b"\n");
    }
    format!("{:016x}", hash.0)
}

/// Compares the document, when there is one, with the sources.
pub fn findings(document: Option<&str>, sources: &[Source]) -> Vec<Finding> {
    let expected = hash(sources);
    let text = match document.map(stated) {
        None => "is missing: the format needs its specification".to_owned(),
        Some(None) => format!("has no line `{MARK}{expected}{MARK_END}`"),
        Some(Some(stated)) if stated != expected => format!(
            "describes the source with hash {stated}, now it is {expected}: bring the document up to \
             date, then run `cargo xtask tidy --bless`"
        ),
        Some(Some(_)) => return Vec::new(),
    };
    vec![Finding::new(DOCUMENT_PATH, 0, text)]
}

/// The document with the hash of the sources in the place of the one that it states; nothing when
/// it has no place for it.
pub fn blessed(document: &str, sources: &[Source]) -> Option<String> {
    let stated = stated(document)?;
    let mark = format!("{MARK}{stated}{MARK_END}");
    Some(document.replacen(&mark, &format!("{MARK}{}{MARK_END}", hash(sources)), 1))
}

fn stated(document: &str) -> Option<&str> {
    let (_, after) = document.split_once(MARK)?;
    after.split_once(MARK_END).map(|(stated, _)| stated)
}

fn is_described(source: &Source) -> bool {
    let inside = source.path.strip_prefix("wal/src/format");
    inside.is_some_and(|rest| rest == ".rs" || rest.starts_with('/')) && !source.is_test()
}

/// The code and literals up to the unit tests, without the whitespace between them.
fn folded(source: &Source) -> String {
    let text = source.view(&[Class::Code, Class::Literal]);
    let folded: String = text
        .char_indices()
        .filter(|(offset, character)| {
            !character.is_whitespace() || source.class_at(*offset) == Class::Literal
        })
        .map(|(_, character)| character)
        .collect();
    match folded.find("#[cfg(test)]modtests{") {
        Some(tests) => folded[..tests].to_owned(),
        None => folded,
    }
}

/// FNV-1a with 64 bits: chance differences only, nobody attacks this.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(text: &str) -> String {
        hash(&[Source::new("wal/src/format.rs", text)])
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        let mut fnv = Fnv::new();
        fnv.write(b"foobar");
        assert_eq!(fnv.0, 0x8594_4171_f739_67e8);
    }

    #[test]
    fn comments_whitespace_and_tests_do_not_change_the_hash() {
        let plain = hash_of("const A: u8 = 1;");
        assert_eq!(plain, hash_of("// new\nconst A :\n u8 = 1; /* b */\n"));
        assert_eq!(plain, hash_of("const A: u8 = 1;\n#[cfg(test)]\nmod tests {\n fn f() {} }\n"));
    }

    #[test]
    fn code_literals_and_names_of_files_change_the_hash() {
        let plain = hash_of("const A: u8 = 1;");
        assert_ne!(plain, hash_of("const A: u8 = 2;"));
        assert_ne!(hash_of("const A: &str = \"a b\";"), hash_of("const A: &str = \"ab\";"));
        let moved = Source::new("wal/src/format/header.rs", "const A: u8 = 1;");
        assert_ne!(plain, hash(&[moved]));
        let elsewhere = Source::new("wal/src/formatter.rs", "const A: u8 = 1;");
        assert_eq!(hash(&[elsewhere]), hash(&[]));
    }

    #[test]
    fn a_missing_or_stale_document_is_found_and_blessing_mends_it() {
        let sources = [Source::new("wal/src/format.rs", "const A: u8 = 1;")];
        assert!(findings(None, &sources)[0].text.contains("is missing"));
        assert!(findings(Some("# Format\n"), &sources)[0].text.contains("has no line"));
        let stale = "# Format\n<!-- source-hash: 0 -->\nText.\n";
        assert!(findings(Some(stale), &sources)[0].text.contains("with hash 0,"));
        let blessed = blessed(stale, &sources).unwrap();
        assert!(findings(Some(&blessed), &sources).is_empty());
        assert!(blessed.ends_with(" -->\nText.\n"));
    }
}
