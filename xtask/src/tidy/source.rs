//! A Rust source file, and which of its bytes are code, comment or literal.
//!
//! This is a lexer for these three classes only: enough to look for words where they count, without a parser to keep up
//! to date.
//!
//! # Invariants
//! - A view has the length and the line breaks of the text, so an offset means the same in all of them.

use std::path::Path;

/// A source file, classified.
#[derive(Debug)]
pub struct Source {
    /// The path from the workspace root, with `/`.
    pub path: String,
    /// The file as it is.
    pub text: String,
    classes: Vec<Class>,
}

/// What a byte of a source file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Neither of the others.
    Code,
    /// A line or block comment, documentation included.
    Comment,
    /// The inside and the quotes of a string, byte string or character.
    Literal,
}

impl Source {
    /// Classifies `text`.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Source {
        let text = text.into();
        Source { path: path.into(), classes: classify(&text), text }
    }

    /// The text with everything blanked that is not of one of these classes.
    pub fn view(&self, keep: &[Class]) -> String {
        let blanked =
            self.text.bytes().zip(&self.classes).map(|(byte, class)| {
                if byte == b'\n' || keep.contains(class) { byte } else { b' ' }
            });
        String::from_utf8_lossy(&blanked.collect::<Vec<u8>>()).into_owned()
    }

    /// The class of the byte at `offset`.
    pub fn class_at(&self, offset: usize) -> Class {
        self.classes[offset]
    }

    /// The line, counted from 1, of the byte at `offset`.
    pub fn line_of(&self, offset: usize) -> usize {
        1 + self.text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count()
    }

    /// Whether the file holds tests or benches only, by its place.
    pub fn is_test(&self) -> bool {
        let path = Path::new(&self.path);
        path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches")))
            || path.file_name().is_some_and(|name| name == "tests.rs")
    }
}

/// The offsets at which `word` stands by itself in `text`.
pub fn word_offsets<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|(offset, _)| offset).filter(move |&offset| {
        let glued = word.ends_with(inside) && text[offset + word.len()..].starts_with(inside);
        !text[..offset].ends_with(inside) && !glued
    })
}

fn classify(text: &str) -> Vec<Class> {
    let bytes = text.as_bytes();
    let mut classes = Vec::with_capacity(bytes.len());
    while let Some(rest) = bytes.get(classes.len()..).filter(|rest| !rest.is_empty()) {
        let glued = classes.len().checked_sub(1).is_some_and(|before| is_word(bytes[before]));
        let (class, length) = token(rest, glued);
        classes.resize(classes.len() + length.clamp(1, rest.len()), class);
    }
    classes
}

/// The class and length of what `rest` starts with; `glued` when it continues a word.
fn token(rest: &[u8], glued: bool) -> (Class, usize) {
    if rest.starts_with(b"//") {
        return (Class::Comment, rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return (Class::Comment, block_comment_length(rest));
    }
    if !glued && let Some(length) = raw_string_length(rest) {
        return (Class::Literal, length);
    }
    match rest[0] {
        b'"' => (Class::Literal, quoted_length(rest, b'"')),
        b'\'' if is_character(rest) => (Class::Literal, quoted_length(rest, b'\'')),
        _ => (Class::Code, 1),
    }
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The length of `r"..."`, `r#"..."#`, `br"..."` or `cr"..."`, when `rest` starts with one.
fn raw_string_length(rest: &[u8]) -> Option<usize> {
    let prefix = usize::from(matches!(rest[0], b'b' | b'c'));
    let after_r = rest.get(prefix..)?.strip_prefix(b"r")?;
    let hashes = after_r.iter().take_while(|&&byte| byte == b'#').count();
    let inside = after_r.get(hashes..)?.strip_prefix(b"\"")?;
    let closing = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let end = inside.windows(closing.len()).position(|window| window == closing)?;
    Some(prefix + 1 + hashes + 1 + end + closing.len())
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// Tells `'a'` from the lifetime `'a`: a lifetime's first character is not followed by a quote.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        Some(&byte) if byte.is_ascii() => rest.get(2) == Some(&b'\''),
        Some(_) => rest.iter().skip(2).take(4).any(|&byte| byte == b'\''),
        None => false,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        Source::new("a.rs", text).view(&[Class::Code])
    }

    #[test]
    fn comments_and_literals_are_told_from_code() {
        assert_eq!(code("a // b\nc"), "a     \nc");
        assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(code(r#"f("x // \" y", z)"#), r"f(           , z)");
        assert_eq!(code("r#\"a \" // \"# + br\"\\\" b"), "             +       b");
        assert_eq!(code("var\"x\""), "var   ");
    }

    #[test]
    fn lifetimes_are_code_and_characters_are_literals() {
        assert_eq!(code("fn f<'a>(x: &'a str)"), "fn f<'a>(x: &'a str)");
        assert_eq!(code(r"('\'', 'a', '—', b'\\', x)"), "(    ,    ,      , b    , x)");
    }

    #[test]
    fn unfinished_text_ends_with_the_file() {
        for text in ["\"a\\", "/* a", "'", "r#\"a\"", "r", "br#", "'\\"] {
            assert_eq!(code(text).len(), text.len(), "{text}");
        }
    }

    #[test]
    fn words_stand_alone() {
        let found = |text, word| word_offsets(text, word).collect::<Vec<_>>();
        assert_eq!(found("unsafe unsafe_code un_unsafe (unsafe)", "unsafe"), [0, 30]);
        assert_eq!(found("dbg!(x) my_dbg!(y)", "dbg!"), [0]);
    }

    #[test]
    fn test_files_are_known_by_their_place() {
        assert!(Source::new("wal/tests/crash.rs", "").is_test());
        assert!(Source::new("wal/src/format/tests.rs", "").is_test());
        assert!(!Source::new("wal/src/contests.rs", "").is_test());
    }
}
