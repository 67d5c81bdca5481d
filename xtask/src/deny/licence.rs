//! SPDX licence expressions, as far as `Cargo.toml` files use them: `MIT OR Apache-2.0`, `A AND (B OR C)`,
//! `Apache-2.0 WITH LLVM-exception`, and the old `MIT/Apache-2.0`.

use std::collections::BTreeSet;

/// Whether somebody who accepts only `allowed` may use a package under `expression`. An expression
/// that cannot be read is not allowed.
pub fn allows(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    parser.either() == Some(true) && parser.words.is_empty()
}

/// Recursive descent over the words that are left; `OR` binds weakest, then `AND`, then `WITH`.
/// Every method answers whether what it read is allowed, or nothing when it cannot be read.
struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a BTreeSet<String>,
}

impl<'a> Parser<'a> {
    fn either(&mut self) -> Option<bool> {
        let mut result = self.both()?;
        while self.takes("OR") {
            result |= self.both()?;
        }
        Some(result)
    }

    fn both(&mut self) -> Option<bool> {
        let mut result = self.single()?;
        while self.takes("AND") {
            result &= self.single()?;
        }
        Some(result)
    }

    fn single(&mut self) -> Option<bool> {
        if self.takes("(") {
            let result = self.either()?;
            return self.takes(")").then_some(result);
        }
        let licence = self.next()?;
        if !self.takes("WITH") {
            return Some(self.allowed.contains(licence));
        }
        let exception = self.next()?;
        Some(self.allowed.contains(&format!("{licence} WITH {exception}")))
    }

    fn takes(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }

    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.words.split_first()?;
        self.words = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_says() {
        let allowed = ["MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "MIT AND Zlib",
            "(GPL-3.0 OR MIT) AND Zlib",
            "GPL-3.0 AND GPL-2.0 OR MIT",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0",
        ] {
            assert!(allows(good, &allowed), "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "Apache-2.0",
            "(MIT OR Zlib) AND GPL-3.0",
            "MIT WITH LLVM-exception",
            "",
            "MIT OR",
            "(MIT",
            "MIT)",
            "MIT Zlib",
        ] {
            assert!(!allows(bad, &allowed), "{bad}");
        }
    }
}
