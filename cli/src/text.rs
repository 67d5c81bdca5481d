//! Bytes as text and back: the escapes of text output and TSV, and hex.
//!
//! # Invariants
//! What [`escape`] writes holds no tab, no line break, no other control character and no invalid UTF-8, and
//! [`unescape`] gives the bytes back: output lines are unambiguous whatever keys and values hold.

use std::borrow::Cow;

/// Appends the escaped form: text as it is, `\\`, `\t`, `\n`, `\r`, and `\xHH` for other control characters and for
/// bytes that are not UTF-8.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.extend_from_slice(b"\\\\"),
                _ => push_visible(character, out),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_hex_escape(*byte, out));
    }
}

/// The escaped form as a string.
pub fn escaped(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    escape(bytes, &mut out);
    String::from_utf8(out).expect("the escaped form is UTF-8")
}

/// A sentence without control characters; for people, not to be read back.
pub fn visible(sentence: &str) -> String {
    let mut out = Vec::with_capacity(sentence.len());
    sentence.chars().for_each(|character| push_visible(character, &mut out));
    String::from_utf8(out).expect("made of characters")
}

fn push_visible(character: char, out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    let bytes = character.encode_utf8(&mut buffer).as_bytes();
    match character {
        '\t' => out.extend_from_slice(b"\\t"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        _ if character.is_control() => bytes.iter().for_each(|byte| push_hex_escape(*byte, out)),
        _ => out.extend_from_slice(bytes),
    }
}

fn push_hex_escape(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
}

/// Hex digits of [`push_hex_escape`]; upper case, so that `\xAB` is not taken for text.
fn digit(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(nibble)]
}

/// Takes the escapes back.
///
/// # Errors
/// A backslash that starts no escape.
pub fn unescape(text: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if !text.contains(&b'\\') {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (byte, used) = match rest {
            [b'\\', ..] => (b'\\', 1),
            [b't', ..] => (b'\t', 1),
            [b'n', ..] => (b'\n', 1),
            [b'r', ..] => (b'\r', 1),
            [b'x', high, low, ..] => match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => return Err(bad_escape(rest)),
            },
            _ => return Err(bad_escape(rest)),
        };
        out.push(byte);
        rest = &rest[used..];
    }
    Ok(Cow::Owned(out))
}

fn bad_escape(rest: &[u8]) -> String {
    let shown = escaped(&rest[..rest.len().min(3)]);
    format!("`\\{shown}` is no escape; there are \\\\, \\t, \\n, \\r and \\xHH")
}

/// Appends two hex digits a byte.
pub fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.extend_from_slice(
            &[digit(byte >> 4), digit(byte & 15)].map(|d| d.to_ascii_lowercase()),
        );
    }
}

/// Two hex digits a byte, as a string.
pub fn hexed(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    hex(bytes, &mut out);
    String::from_utf8(out).expect("hex is ASCII")
}

/// Reads hex digits of either case.
///
/// # Errors
/// An odd number of digits, or something else than a digit.
pub fn unhex(text: &[u8]) -> Result<Vec<u8>, String> {
    if !text.len().is_multiple_of(2) {
        return Err(format!("hex has two digits a byte, these are {}", text.len()));
    }
    let byte = |pair: &[u8]| Some(nibble(pair[0])? << 4 | nibble(pair[1])?);
    text.chunks_exact(2)
        .map(|pair| byte(pair).ok_or_else(|| format!("`{}` is not hex", escaped(pair))))
        .collect()
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_string_comes_back_and_stays_on_its_line() {
        let mut cases: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
        cases.push((0..=255).collect());
        cases.push("Gr\u{fc}\u{df}e \u{85} \\x41 \\".into());
        for case in cases {
            let text = escaped(&case);
            assert!(!text.chars().any(char::is_control), "{text}");
            assert_eq!(unescape(text.as_bytes()).unwrap(), case, "{text}");
            assert_eq!(unhex(hexed(&case).as_bytes()).unwrap(), case);
        }
    }

    #[test]
    fn text_is_shown_as_it_is() {
        assert_eq!(escaped("Grüße".as_bytes()), "Grüße");
        assert_eq!(escaped(b"a\tb\\c\n\x00\xFF"), "a\\tb\\\\c\\n\\x00\\xFF");
    }

    #[test]
    fn a_backslash_that_starts_no_escape_is_refused() {
        for text in ["\\", "\\q", "\\x4", "\\xZZ", "C:\\dir"] {
            assert!(unescape(text.as_bytes()).unwrap_err().contains("no escape"), "{text}");
        }
    }

    #[test]
    fn hex_with_half_a_byte_or_a_letter_is_refused() {
        assert!(unhex(b"abc").unwrap_err().contains("two digits"));
        assert!(unhex(b"0g").unwrap_err().contains("`0g`"));
        assert_eq!(unhex(b"00fF").unwrap(), [0, 255]);
    }
}
