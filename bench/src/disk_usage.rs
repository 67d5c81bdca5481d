//! What files take on the disk: allocated blocks, not lengths.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Context, Result};

/// The unit of `st_blocks`, whatever the file system uses.
const BLOCK_BYTES: u64 = 512;

/// Bytes that the files below a directory have allocated, of those whose names are wanted. Files that go meanwhile count or do
/// not.
///
/// # Errors
/// When the directory cannot be read.
pub fn of(dir: &Path, is_wanted: impl Fn(&OsStr) -> bool + Copy) -> Result<u64> {
    sum(dir, is_wanted).context(|| format!("cannot size the files of {}", dir.display()))
}

fn sum(dir: &Path, is_wanted: impl Fn(&OsStr) -> bool + Copy) -> std::io::Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let size = match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sum(&entry.path(), is_wanted),
            Ok(metadata) if is_wanted(&entry.file_name()) => Ok(metadata.blocks() * BLOCK_BYTES),
            Ok(_) => Ok(0),
            Err(error) => Err(error),
        };
        total += match size {
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            size => size?,
        };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_files_count_by_their_blocks_in_folders_too() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("inner")).unwrap();
        for name in ["a.seg", "inner/b.seg", "inner/c.run"] {
            std::fs::write(dir.path().join(name), [1; 5000]).unwrap();
        }
        let of_kind = |kind| of(dir.path(), |name| Path::new(name).extension() == Some(kind));
        let segments = of_kind(OsStr::new("seg")).unwrap();
        let runs = of_kind(OsStr::new("run")).unwrap();
        assert!(runs >= 5000 && segments == 2 * runs, "{segments} and {runs}");
        assert_eq!(of(dir.path(), |_| true).unwrap(), segments + runs);
        assert!(of(&dir.path().join("none"), |_| true).is_err());
    }
}
