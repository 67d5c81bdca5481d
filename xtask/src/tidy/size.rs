//! File sizes: a source file has at most 400 lines and a test file 600, so that one file stays one concept. The files
//! that grew beyond it before anybody looked stand in `xtask/size-ratchet.txt` with their length, which may only shrink.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Finding;
use super::source::Source;
use crate::run::{Failure, Result};

/// Where the ratchet is kept, from the workspace root.
pub const RATCHET_PATH: &str = "xtask/size-ratchet.txt";

// LIMIT: lines of a source file.
const SOURCE_LINES_MAX: usize = 400;
// LIMIT: lines of a file of tests.
const TEST_LINES_MAX: usize = 600;

const HEAD: &str = "\
# Source files of more than 400 lines, with their length. `cargo xtask tidy` fails when one of them
# grows; `cargo xtask tidy --bless` lowers the figures of those that shrank. A figure is raised, or a
# file added, by hand only, in a commit that says why.
";

/// Allowed lengths in lines by path.
#[derive(Debug, PartialEq, Eq)]
pub struct Ratchet(BTreeMap<String, usize>);

impl Ratchet {
    /// Reads the file's text: comments, and lines of a path and a number.
    ///
    /// # Errors
    /// When a line is neither.
    pub fn parse(text: &str) -> Result<Ratchet> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let entries = lines.filter(|(_, line)| !line.starts_with('#')).map(|(number, line)| {
            let entry = line.split_once(' ').and_then(|(path, lines)| {
                Some((path.to_owned(), lines.trim().parse::<usize>().ok()?))
            });
            entry.ok_or_else(|| {
                let number = number + 1;
                Failure::new(format!(
                    "{RATCHET_PATH}:{number}: expected `path lines`, found `{line}`"
                ))
            })
        });
        entries.collect::<Result<_>>().map(Ratchet)
    }

    /// The file's text.
    pub fn print(&self) -> String {
        let mut text = HEAD.to_owned();
        for (path, lines) in &self.0 {
            writeln!(text, "{path} {lines}").expect("writing to a string cannot fail");
        }
        text
    }

    /// Compares the sources with the limits and with the ratchet.
    pub fn findings(&self, sources: &[Source]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for source in sources {
            let lines = source.text.lines().count();
            let limit = if source.is_test() { TEST_LINES_MAX } else { SOURCE_LINES_MAX };
            let text = match self.0.get(&source.path) {
                None if lines > limit => {
                    format!("{lines} lines, at most {limit}: split it by concept")
                }
                Some(&allowed) if lines > allowed => {
                    format!(
                        "{lines} lines, it had {allowed}: a file over the limit may only shrink"
                    )
                }
                Some(&allowed) if lines < allowed => {
                    format!(
                        "shrank from {allowed} to {lines} lines: run `cargo xtask tidy --bless`"
                    )
                }
                _ => continue,
            };
            findings.push(Finding::new(&source.path, 0, text));
        }
        for path in self.0.keys().filter(|path| sources.iter().all(|each| each.path != **path)) {
            let text = format!("`{path}` is gone: run `cargo xtask tidy --bless`");
            findings.push(Finding::new(RATCHET_PATH, 0, text));
        }
        findings
    }

    /// The ratchet after files shrank or went: figures only go down, and those within the limit
    /// leave the list.
    pub fn lowered(&self, sources: &[Source]) -> Ratchet {
        let lowered = self.0.iter().filter_map(|(path, &allowed)| {
            let source = sources.iter().find(|source| source.path == *path)?;
            let limit = if source.is_test() { TEST_LINES_MAX } else { SOURCE_LINES_MAX };
            let lines = source.text.lines().count().min(allowed);
            (lines > limit).then(|| (path.clone(), lines))
        });
        Ratchet(lowered.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, lines: usize) -> Source {
        Source::new(path, "//\n".repeat(lines))
    }

    fn ratchet(text: &str) -> Ratchet {
        Ratchet::parse(text).unwrap()
    }

    #[test]
    fn source_files_end_at_400_lines_and_test_files_at_600() {
        let sources = [
            source("a/src/ok.rs", 400),
            source("a/src/long.rs", 401),
            source("a/tests/ok.rs", 600),
            source("a/tests/long.rs", 601),
        ];
        let found = ratchet("").findings(&sources);
        let paths: Vec<&str> = found.iter().map(|finding| finding.path.as_str()).collect();
        assert_eq!(paths, ["a/src/long.rs", "a/tests/long.rs"]);
    }

    #[test]
    fn a_listed_file_may_only_shrink() {
        let listed = ratchet("a.rs 500\n");
        assert!(listed.findings(&[source("a.rs", 500)]).is_empty());
        assert!(listed.findings(&[source("a.rs", 501)])[0].text.contains("may only shrink"));
        assert!(listed.findings(&[source("a.rs", 499)])[0].text.contains("--bless"));
        assert!(listed.findings(&[])[0].text.contains("is gone"));
    }

    #[test]
    fn blessing_lowers_and_removes_but_never_raises_or_adds() {
        let listed = ratchet("grew.rs 500\nshrank.rs 500\nsmall.rs 500\ngone.rs 500\n");
        let sources = [
            source("grew.rs", 600),
            source("shrank.rs", 450),
            source("small.rs", 400),
            source("new.rs", 900),
        ];
        assert_eq!(listed.lowered(&sources), ratchet("grew.rs 500\nshrank.rs 450\n"));
    }

    #[test]
    fn the_text_round_trips_and_a_bad_line_is_named() {
        let listed = ratchet("a.rs 500\nb.rs 401\n");
        assert_eq!(ratchet(&listed.print()), listed);
        let failure = Ratchet::parse("# head\na.rs many\n").unwrap_err();
        assert!(failure.to_string().contains("size-ratchet.txt:2: expected"));
    }
}
