//! What a disk holds after a crash: names, directories and the bytes of the files.
//!
//! Images share the contents of files that do not differ, and hash them once, so thousands of them a second can be
//! made and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::SECTOR_BYTES;
use super::content::{Content, hash_bytes};
use super::name::{Name, normalize, parent};
use super::random::fold;

/// A disk as a fresh boot finds it. Paths are relative to the root of the simulated file system; a leading `/` or
/// `./` in an argument is ignored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    pub(super) files: BTreeMap<Name, Arc<Content>>,
    pub(super) dirs: BTreeSet<Name>,
}

impl Image {
    /// An empty disk.
    pub fn new() -> Self {
        Image::default()
    }

    /// Adds a file, or replaces one, with the directories above it.
    pub fn insert(&mut self, path: impl AsRef<Path>, bytes: Vec<u8>) {
        let path = normalize(path.as_ref());
        self.insert_dir(parent(&path));
        self.files.insert(path, Arc::new(Content::new(bytes)));
    }

    /// Adds a directory and those above it.
    pub fn insert_dir(&mut self, dir: impl AsRef<Path>) {
        let dir = normalize(dir.as_ref());
        for dir in dir.ancestors().filter(|dir| !dir.as_os_str().is_empty()) {
            self.dirs.insert(normalize(dir));
        }
    }

    /// Removes a file; false when there is none.
    pub fn remove(&mut self, path: impl AsRef<Path>) -> bool {
        self.files.remove(&normalize(path.as_ref())).is_some()
    }

    /// The paths of the files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(|name| &**name)
    }

    /// The directories, in order, without the root.
    pub fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().map(|name| &**name)
    }

    /// The bytes of a file.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        Some(self.content(path.as_ref())?.to_vec())
    }

    /// The length of a file in bytes.
    pub fn len_of(&self, path: impl AsRef<Path>) -> Option<u64> {
        Some(self.content(path.as_ref())?.len())
    }

    /// A 64-bit hash of all names and bytes, the same in every run: for counting distinct images.
    pub fn hash(&self) -> u64 {
        let mut hash = self.dirs.len() as u64;
        for dir in &self.dirs {
            hash = hash_bytes(hash, dir.as_os_str().as_bytes());
        }
        for (path, content) in &self.files {
            hash = fold(hash_bytes(hash, path.as_os_str().as_bytes()), content.hash());
        }
        hash
    }

    /// Rot: flips one bit. False, here and below, when nothing changed: no such file, or beyond its end.
    pub fn flip_bit(&mut self, path: impl AsRef<Path>, bit: u64) -> bool {
        self.edit(path.as_ref(), bit / 8, 1, |bytes| bytes[0] ^= 1 << (bit % 8))
    }

    /// Rot: overwrites a 512-byte sector with zeroes.
    pub fn zero_sector(&mut self, path: impl AsRef<Path>, sector: u64) -> bool {
        self.edit(path.as_ref(), sector * SECTOR_BYTES, SECTOR_BYTES, |bytes| bytes.fill(0))
    }

    /// Rot: a misdirected or duplicated write. The bytes at `(path, offset)` also appear at another place, in the same
    /// file or in another one.
    pub fn misdirect(
        &mut self,
        from: (impl AsRef<Path>, u64),
        to: (impl AsRef<Path>, u64),
        len: u64,
    ) -> bool {
        let Some(source) = self.content(from.0.as_ref()).cloned() else { return false };
        self.edit(to.0.as_ref(), to.1, len, |bytes| {
            source.read(bytes, from.1);
        })
    }

    /// Rot: a lost write. A range reads as it did in an older image.
    pub fn make_stale(
        &mut self,
        path: impl AsRef<Path>,
        offset: u64,
        len: u64,
        older: &Image,
    ) -> bool {
        let Some(source) = older.content(path.as_ref()).cloned() else { return false };
        self.edit(path.as_ref(), offset, len, |bytes| {
            source.read(bytes, offset);
        })
    }

    /// Rot: cuts a file.
    pub fn truncate(&mut self, path: impl AsRef<Path>, len: u64) -> bool {
        match self.files.get_mut(&normalize(path.as_ref())) {
            Some(content) if len < content.len() => {
                Arc::make_mut(content).set_len(len);
                true
            }
            _ => false,
        }
    }

    pub(super) fn content(&self, path: &Path) -> Option<&Arc<Content>> {
        self.files.get(&normalize(path))
    }

    fn edit(&mut self, path: &Path, offset: u64, len: u64, change: impl FnOnce(&mut [u8])) -> bool {
        let Some(content) = self.files.get_mut(&normalize(path)) else { return false };
        let mut bytes = vec![0; content.len().saturating_sub(offset).min(len) as usize];
        if bytes.is_empty() {
            return false;
        }
        content.read(&mut bytes, offset);
        let before = bytes.clone();
        change(&mut bytes);
        if bytes == before {
            return false;
        }
        Arc::make_mut(content).write(offset, &bytes);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let mut image = Image::new();
        image.insert("/db/a", vec![1; 2000]);
        image.insert("db/b", (0..2000).map(|i| i as u8).collect());
        image
    }

    #[test]
    fn equal_images_hash_equally_and_different_ones_do_not() {
        let mut seen = vec![image().hash()];
        assert_eq!(seen[0], image().hash());
        let mut note = |change: &dyn Fn(&mut Image) -> bool| {
            let mut changed = image();
            assert!(change(&mut changed));
            assert_ne!(changed, image());
            seen.push(changed.hash());
        };
        note(&|image| image.flip_bit("db/a", 0));
        note(&|image| image.flip_bit("db/a", 8 * 1999 + 7));
        note(&|image| image.zero_sector("/db/a", 3));
        note(&|image| image.misdirect(("db/b", 512), ("db/a", 0), 512));
        note(&|image| image.misdirect(("db/a", 512), ("db/a/../b", 0), 512));
        note(&|image| image.truncate("db/a", 1999));
        note(&|image| image.remove("db/a"));
        note(&|image| {
            let swapped = image.read("db/a").unwrap();
            image.insert("db/c", swapped);
            image.remove("db/a")
        });
        note(&|image| {
            image.insert_dir("empty");
            true
        });
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn rot_that_changes_nothing_says_so() {
        let mut image = image();
        assert!(!image.flip_bit("db/none", 0));
        assert!(!image.flip_bit("db/a", 8 * 2000));
        assert!(!image.zero_sector("db/a", 4), "2000 bytes are sectors 0 to 3");
        assert!(!image.misdirect(("db/a", 0), ("db/a", 512), 512), "the sectors are alike");
        assert!(!image.truncate("db/a", 2000));
        let older = image.clone();
        assert!(!image.make_stale("db/a", 0, 4096, &older));
        assert_eq!(image, older);
    }

    #[test]
    fn a_stale_page_reads_as_in_the_older_image() {
        let older = image();
        let mut newer = image();
        newer.insert("db/a", vec![5; 2000]);
        assert!(newer.make_stale("db/a", 512, 512, &older));
        let bytes = newer.read("db/a").unwrap();
        assert_eq!((bytes[511], bytes[512], bytes[1023], bytes[1024]), (5, 1, 1, 5));
    }

    #[test]
    fn a_changed_copy_leaves_the_original_alone() {
        let original = image();
        let mut copy = original.clone();
        assert!(copy.flip_bit("db/a", 0));
        assert_eq!(original, image());
    }
}
