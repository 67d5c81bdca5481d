//! The rule that `engine/src/parts.rs` alone decides by feature: elsewhere the engine must read the same in every build.

use super::Finding;
use super::source::{Class, Source, word_offsets};

/// The one file (with its folder) that may ask for features.
const HOME: &str = "engine/src/parts";

/// What may stand anywhere in the engine: the form, the feature, and thereby the whole rule.
const EXCEPTIONS: &[(&str, &str)] = &[
    // Derives that only add an implementation.
    ("cfg_attr", "serde"),
    // Items that only tests of users and our own suites see.
    ("cfg", "test-util"),
];

/// Applies the rule to one file.
pub fn findings(source: &Source) -> Vec<Finding> {
    let path = &source.path;
    let at_home =
        path.strip_prefix(HOME).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'));
    if !path.starts_with("engine/src/") || at_home {
        return Vec::new();
    }
    let text = source.view(&[Class::Code, Class::Literal]);
    let mut findings = Vec::new();
    for form in ["cfg", "cfg!", "cfg_attr"] {
        for offset in word_offsets(&text, form) {
            if source.class_at(offset) != Class::Code {
                continue;
            }
            for feature in features(parenthesised(&text[offset + form.len()..])) {
                if EXCEPTIONS.contains(&(form, feature)) {
                    continue;
                }
                let text =
                    format!("`{form}` on feature `{feature}` belongs in engine/src/parts.rs");
                findings.push(Finding::new(path, source.line_of(offset), text));
            }
        }
    }
    findings
}

/// What stands between the parenthesis that `text` starts with and its partner; empty without one.
fn parenthesised(text: &str) -> &str {
    let Some(inside) = text.strip_prefix('(') else { return "" };
    let mut depth = 1_usize;
    for (offset, character) in inside.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => continue,
        }
        if depth == 0 {
            return &inside[..offset];
        }
    }
    inside
}

/// The names in `feature = "name"`.
fn features(condition: &str) -> impl Iterator<Item = &str> {
    word_offsets(condition, "feature").filter_map(|offset| {
        let value = condition[offset + "feature".len()..].trim_start().strip_prefix('=')?;
        value.trim_start().strip_prefix('"')?.split('"').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        findings(&Source::new(path, text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn a_feature_outside_parts_is_found_in_every_form() {
        let text = "#[cfg(feature = \"wal\")]\n#[cfg(all(test, not(feature=\"cache\")))]\n\
                    if cfg!(feature = \"index\") {}\n#[cfg_attr(feature = \"wal\", inline)]\n";
        let mut found = lines("engine/src/db.rs", text);
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3, 4]);
        assert!(lines("engine/src/parts.rs", text).is_empty());
        assert!(lines("engine/src/parts/log.rs", text).is_empty());
        assert!(lines("wal/src/lib.rs", text).is_empty());
        assert!(!lines("engine/src/parts_of_speech.rs", text).is_empty());
    }

    #[test]
    fn the_exceptions_and_plain_test_pass() {
        let text = "#[cfg(test)]\n#[cfg(feature = \"test-util\")]\n\
                    #[cfg_attr(feature = \"serde\", derive(serde::Serialize))]\n\
                    // #[cfg(feature = \"wal\")]\n";
        assert!(lines("engine/src/db.rs", text).is_empty());
    }

    #[test]
    fn one_allowed_feature_does_not_excuse_another() {
        let text = "#[cfg(any(feature = \"test-util\", feature = \"wal\"))]\n";
        assert_eq!(lines("engine/src/db.rs", text), [1]);
    }
}
