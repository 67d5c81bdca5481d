//! Rules on the text of one file: its first line, left-over markers, ignored tests, and where `unsafe` may stand.

use super::Finding;
use super::source::{Class, Source, word_offsets};

/// The files that may hold unsafe code. A new one needs a measurement or a system call that says
/// why, in the file's own head.
const UNSAFE_FILES: &[&str] = &[
    "bench/compare/src/stores/lmdb.rs",
    "bench/src/counting_alloc.rs",
    "engine/tests/allocations.rs",
    "index/src/epoch_cell.rs",
    "index/src/point/bucket/memory.rs",
    "index/src/prefetch.rs",
    "index/tests/memory.rs",
    "wal/src/format/crc.rs",
    "wal/src/vfs/region.rs",
];

/// Markers of unfinished work, looked for in comments.
const MARKERS: &[&str] = &["TODO", "FIXME", "XXX"];

/// Macros of unfinished work, looked for in code.
const MACROS: &[&str] = &["dbg!", "todo!", "unimplemented!"];

/// How many lines that are not comments may stand between `// SAFETY:` and its `unsafe`: enough for
/// an attribute and a statement that rustfmt broke.
const SAFETY_DISTANCE_LINES: usize = 3;

/// Applies all rules of this file.
pub fn findings(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.text.starts_with("//!") {
        findings.push(Finding::new(
            &source.path,
            1,
            "the file must start with `//!` and its purpose",
        ));
    }
    let code = source.view(&[Class::Code]);
    let comments = source.view(&[Class::Comment]);
    for (view, words) in [(&comments, MARKERS), (&code, MACROS)] {
        for word in words {
            for offset in word_offsets(view, word) {
                let text = format!("`{word}`: finish it, or record it as an issue");
                findings.push(Finding::new(&source.path, source.line_of(offset), text));
            }
        }
    }
    for (offset, _) in code.match_indices("#[ignore") {
        let text = "an ignored test tests nothing: run it, shrink it, or delete it";
        findings.push(Finding::new(&source.path, source.line_of(offset), text));
    }
    findings.extend(unsafe_findings(source, &code));
    findings
}

fn unsafe_findings(source: &Source, code: &str) -> Vec<Finding> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut findings = Vec::new();
    for offset in word_offsets(code, "unsafe") {
        let line = source.line_of(offset);
        if !UNSAFE_FILES.contains(&source.path.as_str()) {
            let text = "unsafe code outside the files that xtask/src/tidy/text.rs allows";
            findings.push(Finding::new(&source.path, line, text));
        }
        let after = code[offset + "unsafe".len()..].trim_start();
        let needs_reason = after.starts_with('{') || after.starts_with("impl");
        if needs_reason && !has_safety_comment(&lines, line) {
            let text = "`unsafe` without a `// SAFETY:` comment above it";
            findings.push(Finding::new(&source.path, line, text));
        }
    }
    findings
}

/// Looks upwards from `line` (counted from 1), over comments of any length and a little code.
fn has_safety_comment(lines: &[&str], line: usize) -> bool {
    let mut code_lines = 0;
    for text in lines[..line].iter().rev() {
        if text.contains("// SAFETY:") {
            return true;
        }
        if !text.trim_start().starts_with("//") {
            code_lines += 1;
        }
        if code_lines > SAFETY_DISTANCE_LINES {
            break;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "//! Purpose.\n";

    fn texts(path: &str, body: &str) -> Vec<String> {
        let source = Source::new(path, format!("{HEAD}{body}"));
        findings(&source).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_without_a_purpose_is_found() {
        let found = findings(&Source::new("a.rs", "fn main() {}\n"));
        assert_eq!(found[0].to_string(), "a.rs:1: the file must start with `//!` and its purpose");
        assert!(texts("a.rs", "fn main() {}\n").is_empty());
    }

    #[test]
    fn markers_count_in_comments_and_macros_in_code() {
        let found = texts("a.rs", "// TODO later\nfn f() { todo!() }\n");
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("a.rs:2: `TODO`") && found[1].starts_with("a.rs:3: `todo!`"));
        assert!(texts("a.rs", "const A: &str = \"TODO dbg!\"; // not a dbg!\n").is_empty());
    }

    #[test]
    fn ignored_tests_are_found() {
        assert_eq!(texts("a.rs", "#[ignore = \"slow\"]\nfn f() {}\n").len(), 1);
    }

    #[test]
    fn unsafe_needs_an_allowed_file_and_a_reason() {
        let block = "fn f() { unsafe { g() } }\n";
        assert_eq!(texts("a.rs", block).len(), 2, "place and reason");
        assert_eq!(texts("wal/src/vfs/region.rs", block).len(), 1, "reason only");
        let reasoned =
            "// SAFETY: g has no rules.\n// More of it.\n#[inline]\nunsafe impl A for B {}\n";
        assert!(texts("wal/src/vfs/region.rs", reasoned).is_empty());
        assert!(texts("a.rs", "#![deny(unsafe_code)] // unsafe\n").is_empty());
    }

    #[test]
    fn a_reason_far_above_does_not_count() {
        let far = "// SAFETY: for f.\nfn f() {}\nfn g() {}\nfn h() {}\nunsafe impl A for B {}\n";
        assert_eq!(texts("wal/src/vfs/region.rs", far).len(), 1);
    }
}
