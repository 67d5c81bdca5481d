//! A view of one directory: what is there is read, and what is changed stays in memory.
//!
//! It lets the recovery of a log run as always, to its end, without touching a file: to look at a database that is damaged, that
//! another process writes, or that lies on a medium which cannot be written.
//!
//! # Invariants
//! - Nothing is created, changed, removed or locked in the file system below.
//! - Names and lengths are those of the moment when the view was made. A file that was opened once stays readable when it is
//!   removed below; one that was removed before is `NotFound`, which [`ViewVfs::has_moved`] explains.
//!
//! # Concurrency
//! One lock for the names, one for the content of each file that was changed. Unchanged files are read and mapped below.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{
    DirEntry, FileKind, FileLock, LockOutcome, Metadata, OpenMode, ReadMap, TailMap, Vfs, VfsFile,
};

/// A file system in which one directory can be written without being written.
#[derive(Debug)]
pub struct ViewVfs {
    below: Arc<dyn Vfs>,
    dir: PathBuf,
    /// The names at the beginning.
    first: BTreeMap<String, (FileKind, u64)>,
    names: Mutex<BTreeMap<String, Name>>,
}

#[derive(Debug, Clone)]
enum Name {
    /// As it is below, and not opened yet.
    Below(FileKind, u64),
    Open(Arc<ViewFile>),
}

/// A file of a view.
#[derive(Debug)]
struct ViewFile {
    below: Option<Arc<dyn VfsFile>>,
    /// Its length below when it was opened.
    below_bytes: u64,
    /// All of it, once something was written.
    changed: RwLock<Option<Vec<u8>>>,
}

/// Nobody is kept out.
#[derive(Debug)]
struct NoLock;

impl FileLock for NoLock {}

impl ViewVfs {
    /// A view of a directory as it is now.
    ///
    /// # Errors
    /// What the file system below says when it is asked for the names.
    pub fn new(below: Arc<dyn Vfs>, dir: &Path) -> io::Result<Self> {
        let first = names_of(below.as_ref(), dir)?;
        let name = |(name, &(kind, len)): (&String, &(FileKind, u64))| {
            (name.clone(), Name::Below(kind, len))
        };
        let names = Mutex::new(first.iter().map(name).collect());
        Ok(ViewVfs { below, dir: dir.to_path_buf(), first, names })
    }

    /// True if the directory below is not as it was when the view was made: whoever fails for lack of a file tries again with a
    /// new view.
    pub fn has_moved(&self) -> bool {
        names_of(self.below.as_ref(), &self.dir).map_or(true, |now| now != self.first)
    }

    /// True if the directory had a file of this name.
    pub fn had(&self, name: &str) -> bool {
        self.first.contains_key(name)
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a path in the directory; nothing else can be written.
    fn name_of(&self, path: &Path) -> io::Result<String> {
        let name = path.file_name().and_then(|name| name.to_str());
        match name.filter(|_| path.parent() == Some(&self.dir)) {
            Some(name) => Ok(name.to_owned()),
            None => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }
}

fn names_of(vfs: &dyn Vfs, dir: &Path) -> io::Result<BTreeMap<String, (FileKind, u64)>> {
    let entries = vfs.list(dir)?.into_iter();
    Ok(entries.map(|entry| (entry.name, (entry.kind, entry.len))).collect())
}

impl Vfs for ViewVfs {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let Ok(name) = self.name_of(path) else { return self.below.metadata(path) };
        let (kind, len) = match self.names().get(&name).ok_or(io::ErrorKind::NotFound)? {
            Name::Below(kind, len) => (*kind, *len),
            Name::Open(file) => (FileKind::File, file.len()?),
        };
        Ok(Metadata { kind, len, writable_by_others: false })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        if dir != self.dir {
            return self.below.list(dir);
        }
        let names = self.names();
        let entries = names.iter().map(|(name, found)| {
            let (kind, len) = match found {
                Name::Below(kind, len) => (*kind, *len),
                Name::Open(file) => (FileKind::File, file.len()?),
            };
            Ok(DirEntry { name: name.clone(), kind, len })
        });
        entries.collect()
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let name = self.name_of(path)?;
        let mut names = self.names();
        let file = match (names.get(&name), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Name::Open(file)), _) => return Ok(Arc::clone(file) as Arc<dyn VfsFile>),
            (Some(Name::Below(..)), _) => {
                let below = self.below.open(path, OpenMode::Read)?;
                let below_bytes = below.len()?;
                ViewFile { below: Some(below), below_bytes, changed: RwLock::default() }
            }
            (None, OpenMode::CreateNew) => {
                ViewFile { below: None, below_bytes: 0, changed: RwLock::new(Some(Vec::new())) }
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        let file = Arc::new(file);
        names.insert(name, Name::Open(Arc::clone(&file)));
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        // Opened, so that it is found under its new name.
        self.open(from, OpenMode::Read)?;
        let (from, to) = (self.name_of(from)?, self.name_of(to)?);
        let mut names = self.names();
        let file = names.remove(&from).ok_or(io::ErrorKind::NotFound)?;
        names.insert(to, file);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let name = self.name_of(path)?;
        let removed = self.names().remove(&name);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<LockOutcome> {
        Ok(LockOutcome::Acquired(Box::new(NoLock)))
    }

    fn map_tail(&self, _: &Arc<dyn VfsFile>, _: u64) -> io::Result<Box<dyn TailMap>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn map_read(&self, file: &Arc<dyn VfsFile>, span: u64) -> io::Result<Box<dyn ReadMap>> {
        let file = file.as_any().downcast_ref::<ViewFile>();
        let unchanged = file.filter(|file| !file.is_changed()).and_then(|file| file.below.as_ref());
        self.below.map_read(unchanged.ok_or(io::ErrorKind::Unsupported)?, span)
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.below.fill_random(bytes)
    }
}

impl ViewFile {
    fn is_changed(&self) -> bool {
        self.changed.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Changes the content, of which a copy is made first.
    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut changed = self.changed.write().unwrap_or_else(PoisonError::into_inner);
        if changed.is_none() {
            let mut bytes = vec![0; self.below_bytes as usize];
            if let Some(below) = &self.below {
                let read = super::read_full_at(below.as_ref(), &mut bytes, 0)?;
                bytes.truncate(read);
            }
            *changed = Some(bytes);
        }
        if let Some(bytes) = changed.as_mut() {
            change(bytes);
        }
        Ok(())
    }
}

/// `bytes` lengthened with zeroes to at least `len`.
fn lengthen(bytes: &mut Vec<u8>, len: u64) {
    if bytes.len() < len as usize {
        bytes.resize(len as usize, 0);
    }
}

impl VfsFile for ViewFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let changed = self.changed.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = &*changed {
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let read = rest.len().min(buf.len());
            buf[..read].copy_from_slice(&rest[..read]);
            return Ok(read);
        }
        let left = self.below_bytes.saturating_sub(offset).min(buf.len() as u64) as usize;
        match &self.below {
            Some(below) => below.read_at(&mut buf[..left], offset),
            None => Ok(0),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.change(|content| {
            let end = offset + bytes.len() as u64;
            lengthen(content, end);
            content[offset as usize..end as usize].copy_from_slice(bytes);
        })?;
        Ok(bytes.len())
    }

    fn len(&self) -> io::Result<u64> {
        let changed = self.changed.read().unwrap_or_else(PoisonError::into_inner);
        Ok(changed.as_ref().map_or(self.below_bytes, |bytes| bytes.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|bytes| bytes.resize(len as usize, 0))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.change(|bytes| lengthen(bytes, offset + len))
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::OsVfs;
    use super::*;

    #[test]
    fn changes_are_seen_in_the_view_and_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        let below: Arc<dyn Vfs> = Arc::new(OsVfs::new());
        let real = below.open(&dir.join("a"), OpenMode::CreateNew).unwrap();
        real.write_at(b"below", 0).unwrap();
        let view = ViewVfs::new(Arc::clone(&below), dir).unwrap();
        let a = view.open(&dir.join("a"), OpenMode::Write).unwrap();
        let read = |file: &Arc<dyn VfsFile>| {
            let mut bytes = [0; 16];
            let read = file.read_at(&mut bytes, 0).unwrap();
            String::from_utf8(bytes[..read].to_vec()).unwrap()
        };
        assert_eq!(read(&a), "below");
        assert!(view.map_read(&a, 4096).is_ok());
        a.write_at(b"VIEW!", 3).unwrap();
        assert_eq!((read(&a).as_str(), read(&real).as_str()), ("belVIEW!", "below"));
        assert!(view.map_read(&a, 4096).is_err(), "the mapping would show what is below");
        view.open(&dir.join("b"), OpenMode::CreateNew).unwrap().allocate(0, 3).unwrap();
        view.rename(&dir.join("b"), &dir.join("c")).unwrap();
        view.remove_file(&dir.join("a")).unwrap();
        let names = |vfs: &dyn Vfs| {
            let mut names: Vec<_> =
                vfs.list(dir).unwrap().into_iter().map(|e| (e.name, e.len)).collect();
            names.sort();
            names
        };
        assert_eq!(names(&view), [("c".to_owned(), 3)]);
        assert_eq!(names(below.as_ref()), [("a".to_owned(), 5)]);
        assert!(view.open(&dir.join("a"), OpenMode::Read).is_err());
        assert!(view.open(&root.path().join("x/y"), OpenMode::CreateNew).is_err());
        assert!(view.create_dir(&dir.join("d")).is_err());
        assert!(!view.has_moved() && view.had("a") && !view.had("c"));
        real.write_at(b"longer", 0).unwrap();
        assert!(view.has_moved());
    }

    #[test]
    fn what_was_opened_once_stays_when_it_goes_below() {
        let root = tempfile::tempdir().unwrap();
        let below: Arc<dyn Vfs> = Arc::new(OsVfs::new());
        let path = root.path().join("a");
        below.open(&path, OpenMode::CreateNew).unwrap().write_at(b"x", 0).unwrap();
        let view = ViewVfs::new(Arc::clone(&below), root.path()).unwrap();
        view.open(&path, OpenMode::Read).unwrap();
        below.remove_file(&path).unwrap();
        let again = view.open(&path, OpenMode::Read).unwrap();
        assert_eq!(again.read_at(&mut [0; 4], 0).unwrap(), 1);
    }
}
