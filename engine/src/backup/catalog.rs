//! `CATALOG.toml`: which backups there are, and of which files.
//!
//! # Layout
//! TOML, written and read a line at a time: `name = value`, with a `[[backup]]` before those of a backup and a
//! `[[backup.file]]` before those of a file. The last line is a comment with the CRC32C of all before it.
//!
//! # Invariants
//! It is swapped whole: written under another name, synced, renamed, and the rename synced.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cortenkv_wal::vfs::{OpenMode, Vfs, read_full_at, write_all_at};

use crate::error::{Error, ErrorKind, Result};
use crate::parts::checkpoint::{failed, make_empty_dir};
use crate::record::SeqNo;

const NAME: &str = "CATALOG.toml";
const TEMPORARY: &str = "CATALOG.tmp";
const HEAD: &str = "# The backups of a Cortenkv database. Written by it; do not edit.";
const CHECKSUM: &str = "# crc32c = ";
const VERSION: u64 = 1;
/// LIMIT: what is read of a catalogue: room for some 500,000 files.
const BYTES_MAX: u64 = 64 << 20;

/// What a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum BackupKind {
    /// All of the database.
    Full,
    /// The commits since the backup before it.
    Incremental,
}

/// One backup of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Backup {
    /// What it is.
    pub kind: BackupKind,
    /// Its number in the target.
    pub number: u64,
    /// Commits above this one are in it; 0 for a full one.
    pub since: SeqNo,
    /// Commits up to this one are in it.
    pub seq: SeqNo,
    /// When all of it was durable in the database, in ms since 1970.
    pub wall_ms: u64,
    /// Its files.
    pub files: Vec<FileEntry>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct FileEntry {
    /// Its name within the target.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its checksum.
    pub crc32c: u32,
}

/// The catalogue of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Catalog {
    pub(super) uuid: [u8; 16],
    pub(super) lineage: [u8; 16],
    /// The hold in the database that keeps what the next incremental backup needs.
    pub(super) hold: String,
    pub(super) backups: Vec<Backup>,
}

impl Catalog {
    /// The catalogue of a target, if it has one.
    pub(super) fn find(vfs: &Arc<dyn Vfs>, target: &Path) -> Result<Option<Catalog>> {
        let path = target.join(NAME);
        let file = match vfs.open(&path, OpenMode::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|e| failed("open", &path, e))?,
        };
        let bytes = file.len().map_err(|e| failed("read", &path, e))?.min(BYTES_MAX);
        let mut text = vec![0; bytes as usize];
        read_full_at(file.as_ref(), &mut text, 0).map_err(|e| failed("read", &path, e))?;
        let parsed = std::str::from_utf8(&text).ok().and_then(Catalog::parse);
        parsed.map(Some).ok_or_else(|| damaged(&path, "a catalogue of backups with its checksum"))
    }

    /// As [`Catalog::find`], for who needs one.
    pub(super) fn open(vfs: &Arc<dyn Vfs>, target: &Path) -> Result<Catalog> {
        Catalog::find(vfs, target)?.ok_or_else(|| {
            Error::invalid(format!("{} holds no backups: it has no {NAME}", target.display()))
        })
    }

    /// A new target.
    pub(super) fn create(
        vfs: &Arc<dyn Vfs>,
        target: &Path,
        uuid: [u8; 16],
        lineage: [u8; 16],
    ) -> Result<Catalog> {
        // What a first backup left that did not come to its end is not in the way.
        let listed = vfs.list(target).unwrap_or_default();
        let is_left = |name: &str| {
            name.starts_with("full-") || name.starts_with("self-test-") || name == TEMPORARY
        };
        if listed.is_empty() || !listed.iter().all(|entry| is_left(&entry.name)) {
            make_empty_dir(vfs.as_ref(), target)?;
        }
        let mut random = [0; 8];
        vfs.fill_random(&mut random).map_err(|e| failed("find random bytes for", target, e))?;
        let hold = format!("backup-{}", hex(&random));
        Ok(Catalog { uuid, lineage, hold, backups: Vec::new() })
    }

    /// A number that no file of the target bears.
    pub(super) fn next_number(&self, vfs: &Arc<dyn Vfs>, target: &Path) -> Result<u64> {
        let listed = vfs.list(target).map_err(|e| failed("list", target, e))?;
        let number = |name: &str| -> Option<u64> {
            let rest = name.strip_prefix("full-").or_else(|| name.strip_prefix("log-"))?;
            rest.split('.').next()?.parse().ok()
        };
        let left = listed.iter().filter_map(|entry| number(&entry.name));
        Ok(left.chain(self.backups.iter().map(|backup| backup.number)).max().unwrap_or(0) + 1)
    }

    /// Makes it the catalogue of the target, durably.
    pub(super) fn write(&self, vfs: &Arc<dyn Vfs>, target: &Path) -> Result<()> {
        let (temporary, path) = (target.join(TEMPORARY), target.join(NAME));
        match vfs.remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &temporary, e));
            }
            _ => {}
        }
        let file = vfs
            .open(&temporary, OpenMode::CreateNew)
            .map_err(|e| failed("create", &temporary, e))?;
        write_all_at(file.as_ref(), self.text().as_bytes(), 0)
            .map_err(|e| failed("write", &temporary, e))?;
        // DURABILITY: the content, before the name; and the names of the files that it names, before it counts.
        file.sync_data().map_err(|e| failed("sync", &temporary, e))?;
        vfs.sync_dir(target).map_err(|e| failed("sync", target, e))?;
        vfs.rename(&temporary, &path).map_err(|e| failed("rename", &temporary, e))?;
        // DURABILITY: the backup, before anybody is told of it and the hold moves.
        vfs.sync_dir(target).map_err(|e| failed("sync", target, e))
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}\nversion = {VERSION}\n");
        let mut line = |name: &str, value: &str| text.push_str(&format!("{name} = {value}\n"));
        line("uuid", &quoted(&hex(&self.uuid)));
        line("lineage", &quoted(&hex(&self.lineage)));
        line("hold", &quoted(&self.hold));
        for backup in &self.backups {
            text.push_str("\n[[backup]]\n");
            let kind = if backup.kind == BackupKind::Full { "full" } else { "incremental" };
            let Backup { number, since, seq, wall_ms, .. } = backup;
            text.push_str(&format!(
                "kind = \"{kind}\"\nnumber = {number}\nsince = {since}\nseq = {seq}\nwall_ms = {wall_ms}\n"
            ));
            for FileEntry { name, bytes, crc32c } in &backup.files {
                text.push_str(&format!(
                    "\n[[backup.file]]\nname = \"{name}\"\nbytes = {bytes}\ncrc32c = {crc32c}\n"
                ));
            }
        }
        let checksum = crc32c::crc32c(text.as_bytes());
        text.push_str(&format!("{CHECKSUM}{checksum:08x}\n"));
        text
    }

    /// Reads what [`Catalog::text`] writes, and nothing else.
    fn parse(text: &str) -> Option<Catalog> {
        let (content, checksum) = text.strip_suffix('\n')?.rsplit_once(CHECKSUM)?;
        let stored = u32::from_str_radix(checksum, 16).ok()?;
        if crc32c::crc32c(content.as_bytes()) != stored {
            return None;
        }
        let mut parts = content.split("\n[[backup]]\n");
        let head = fields(parts.next()?.strip_prefix(HEAD)?)?;
        if number(&head, "version")? != VERSION {
            return None;
        }
        Some(Catalog {
            uuid: unhex(string(&head, "uuid")?)?,
            lineage: unhex(string(&head, "lineage")?)?,
            hold: string(&head, "hold")?.to_owned(),
            backups: parts.map(parse_backup).collect::<Option<_>>()?,
        })
    }
}

fn parse_backup(text: &str) -> Option<Backup> {
    let mut parts = text.split("\n[[backup.file]]\n");
    let head = fields(parts.next()?)?;
    let file = |text| {
        let file = fields(text)?;
        let name = string(&file, "name")?.to_owned();
        // A name leads into the target and nowhere else.
        let is_inside = !name.is_empty() && !name.starts_with('/') && !name.contains("..");
        let crc32c = u32::try_from(number(&file, "crc32c")?).ok()?;
        is_inside.then_some(FileEntry { name, bytes: number(&file, "bytes")?, crc32c })
    };
    Some(Backup {
        kind: match string(&head, "kind")? {
            "full" => BackupKind::Full,
            "incremental" => BackupKind::Incremental,
            _ => return None,
        },
        number: number(&head, "number")?,
        since: number(&head, "since")?,
        seq: number(&head, "seq")?,
        wall_ms: number(&head, "wall_ms")?,
        files: parts.map(file).collect::<Option<_>>()?,
    })
}

fn fields(text: &str) -> Option<BTreeMap<&str, &str>> {
    text.lines().filter(|line| !line.is_empty()).map(|line| line.split_once(" = ")).collect()
}

fn number(fields: &BTreeMap<&str, &str>, name: &str) -> Option<u64> {
    fields.get(name)?.parse().ok()
}

fn string<'a>(fields: &BTreeMap<&str, &'a str>, name: &str) -> Option<&'a str> {
    fields.get(name)?.strip_prefix('"')?.strip_suffix('"')
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes))?
}

/// A file of a backup that does not hold what was written to it.
pub(super) fn damaged(path: &Path, expected: &str) -> Error {
    let (expected, found) = (expected.to_owned(), "something else".to_owned());
    let context = format!("{} is damaged: expected {expected}", path.display());
    let kind = ErrorKind::Corruption { file: path.to_path_buf(), offset: 0, expected, found };
    Error::new(kind, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_reads_back_and_no_damage_passes() {
        let file = FileEntry { name: "log-000002.clog".into(), bytes: 7, crc32c: 0xFFFF_FFFF };
        let backup = |kind, number| Backup {
            kind,
            number,
            since: 3,
            seq: u64::MAX,
            wall_ms: 5,
            files: vec![file.clone(), file.clone()],
        };
        let backups = vec![backup(BackupKind::Full, 1), backup(BackupKind::Incremental, 2)];
        let catalog =
            Catalog { uuid: [0xAB; 16], lineage: [1; 16], hold: "backup-00".into(), backups };
        let text = catalog.text();
        assert_eq!(Catalog::parse(&text), Some(catalog.clone()));
        let empty = Catalog { backups: Vec::new(), ..catalog };
        assert_eq!(Catalog::parse(&empty.text()), Some(empty));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let flipped = String::from_utf8(bytes).unwrap();
            assert_eq!(Catalog::parse(&flipped), None, "byte {at}");
            assert_eq!(Catalog::parse(&text[..at]), None, "{at} bytes");
        }
    }
}
