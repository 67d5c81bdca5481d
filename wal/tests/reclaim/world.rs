//! An owner of a log that compacts it, as small as can be: a manifest of one file, one job at a time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use cortenkv_wal::vfs::{OpenMode, SimVfs, Vfs, write_all_at};
use cortenkv_wal::{
    Batch, COMPACTED_ID_MIN, CompactedBuilder, Durability, ErrorKind, RecordKind, RecordRef,
    RecoveryReport, ReplayHandler, Result, RetiredSegment, SegmentInfo, Wal, WalOptions,
};

use crate::common::{DIR, noise, options};

/// What is in a database: keys and values.
pub type Content = BTreeMap<Vec<u8>, Vec<u8>>;

/// Sequence, segment, and the value of a put.
type Version = (u64, u64, Option<Vec<u8>>);

/// The newest version of each key, by sequence and then by segment, as an index ranks them.
#[derive(Debug, Default)]
pub struct Index {
    versions: Mutex<BTreeMap<Vec<u8>, Version>>,
}

impl Index {
    fn note(&self, record: &RecordRef<'_>) {
        let mut versions = self.versions.lock().unwrap();
        let value = (record.kind == RecordKind::Put).then(|| record.value.to_vec());
        let version = (record.seq, record.location.segment, value);
        let known = versions.get(record.key).map(|known| (known.0, known.1));
        if known.is_none_or(|known| known <= (version.0, version.1)) {
            versions.insert(record.key.to_vec(), version);
        }
    }

    fn is_live(&self, record: &RecordRef<'_>) -> bool {
        let versions = self.versions.lock().unwrap();
        versions.get(record.key).is_some_and(|known| known.0 == record.seq)
    }

    pub fn content(&self) -> Content {
        let versions = self.versions.lock().unwrap();
        let live = versions.iter().filter_map(|(key, version)| Some((key, version.2.as_ref()?)));
        live.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl ReplayHandler for Index {
    fn apply(&self, records: &[RecordRef<'_>]) {
        records.iter().for_each(|record| self.note(record));
    }
}

/// What the owner has written down.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    pub compacted: Vec<u64>,
    pub retired: Vec<RetiredSegment>,
}

const MANIFEST: &str = "manifest";

impl Manifest {
    pub fn read(vfs: &dyn Vfs) -> Manifest {
        let Ok(file) = vfs.open(Path::new(MANIFEST), OpenMode::Read) else {
            return Manifest::default();
        };
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        let (count, rest) = bytes.split_first_chunk::<8>().unwrap();
        let (ids, rest) = rest.split_at(u64::from_le_bytes(*count) as usize * 8);
        let (retired, rest) = rest.as_chunks::<{ RetiredSegment::BYTES }>();
        assert!(rest.is_empty());
        Manifest {
            compacted: ids.as_chunks().0.iter().map(|id| u64::from_le_bytes(*id)).collect(),
            retired: retired.iter().map(RetiredSegment::from_bytes).collect(),
        }
    }

    /// Replaces the manifest durably. The disk of the manifest never fails: its failures are not the log's.
    fn write(&self, vfs: &dyn Vfs) {
        let mut bytes = (self.compacted.len() as u64).to_le_bytes().to_vec();
        bytes.extend(self.compacted.iter().flat_map(|id| id.to_le_bytes()));
        bytes.extend(self.retired.iter().flat_map(RetiredSegment::to_bytes));
        let (new, root) = (Path::new("manifest.new"), Path::new("."));
        let _ = vfs.remove_file(new);
        let file = vfs.open(new, OpenMode::CreateNew).unwrap();
        write_all_at(file.as_ref(), &bytes, 0).unwrap();
        file.sync_data().unwrap();
        vfs.rename(new, Path::new(MANIFEST)).unwrap();
        vfs.sync_dir(root).unwrap();
    }
}

/// How a world is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub durability: Durability,
    pub compression: bool,
}

impl Setup {
    pub const ALL: [Setup; 3] = [
        Setup { durability: Durability::Always, compression: false },
        Setup { durability: Durability::None, compression: false },
        Setup { durability: Durability::Always, compression: true },
    ];

    pub fn options(&self, sim: &SimVfs) -> WalOptions {
        options(sim).durability(self.durability).compression(self.compression)
    }
}

/// An open database.
#[derive(Debug)]
pub struct World {
    pub sim: SimVfs,
    pub wal: Wal,
    pub report: RecoveryReport,
    pub index: Arc<Index>,
    pub manifest: Manifest,
}

impl World {
    /// Opens what is on the disk: manifest, log, compacted segments, then the leftovers go.
    pub fn open(sim: &SimVfs, options: WalOptions) -> Result<World> {
        let mut manifest = Manifest::read(sim);
        let index = Arc::new(Index::default());
        let options = options.retired(manifest.retired.clone());
        let (wal, report) = Wal::open(DIR, options, index.clone())?;
        for id in &manifest.compacted {
            let reader = wal.open_compacted(*id)?;
            wal.replay_compacted(&reader, &mut |record| index.note(&record))?;
        }
        let leftovers = wal.list_compacted()?.into_iter();
        let leftovers: Vec<u64> = leftovers
            .filter(|file| !file.complete || !manifest.compacted.contains(&file.id))
            .map(|file| file.id)
            .collect();
        wal.remove_compacted(&leftovers)?;
        if !report.retired_forgotten.is_empty() {
            manifest.retired.retain(|retired| !report.retired_forgotten.contains(&retired.id));
            manifest.write(sim);
        }
        Ok(World { sim: sim.clone(), wal, report, index, manifest })
    }

    pub fn commit(&self, history: &mut History) -> Result<()> {
        let number = history.contents.len() as u64;
        let mut content = history.contents.last().unwrap().clone();
        let mut batch = Batch::new();
        // Few keys, so that most of the log is garbage soon; every fifth commit deletes, every seventh has two records.
        let key = format!("key-{}", number * 5 % 11).into_bytes();
        if number % 5 == 4 {
            batch.delete(0, &key).unwrap();
            content.remove(&key);
        } else {
            let mut value = noise(number, 300);
            value.resize(1500, number as u8);
            batch.put(0, &key, &value).unwrap();
            content.insert(key, value);
        }
        if number % 7 == 3 {
            let other = format!("other-{}", number % 3).into_bytes();
            let mut value = noise(number, 100);
            value.resize(3500, number as u8);
            batch.put(0, &other, &value).unwrap();
            content.insert(other, value);
        }
        history.contents.push(content);
        self.wal.append(&batch)?;
        Ok(())
    }

    /// Moves what is live in the settled segments that `choose` takes, by the five steps of a job.
    pub fn compact(&mut self, choose: impl Fn(usize, &SegmentInfo) -> bool) -> Result<usize> {
        // A job that failed behind its edit is finished first.
        let is_retired = |info: &SegmentInfo| self.manifest.retired.iter().any(|r| r.id == info.id);
        let segments = self.wal.segments().into_iter();
        let (half_done, others): (Vec<_>, Vec<_>) = segments.partition(is_retired);
        self.wal.retire(&half_done.iter().map(|info| info.id).collect::<Vec<_>>())?;
        let settled = others.into_iter().filter(|info| info.settled);
        let chosen = settled.enumerate().filter(|(i, info)| choose(*i, info));
        let victims: Vec<SegmentInfo> = chosen.map(|(_, info)| info).collect();
        let largest = self.wal.list_compacted()?.last().map_or(COMPACTED_ID_MIN, |file| file.id);
        let mut builder = CompactedBuilder::create(&self.wal, largest + 1)?;
        let mut moved = Ok(());
        for victim in &victims {
            let reader = self.wal.segment(victim.id).expect("it is settled");
            reader.for_each_record(&mut |record| {
                if self.index.is_live(&record) {
                    moved = builder.append(&record).map(drop);
                }
                if moved.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            moved.clone()?;
        }
        let built = builder.finish()?;
        self.wal.sync()?;
        self.manifest.compacted.push(built.id);
        self.manifest.retired.extend(victims.iter().map(SegmentInfo::retired));
        self.manifest.write(&self.sim);
        let reader = self.wal.open_compacted(built.id)?;
        self.wal.replay_compacted(&reader, &mut |record| self.index.note(&record))?;
        let ids: Vec<u64> = victims.iter().map(|victim| victim.id).collect();
        self.wal.retire(&ids)?;
        for id in ids {
            assert!(self.wal.segment(id).is_none());
            let again = self.wal.retire(&[id]).unwrap_err();
            assert_eq!(*again.kind(), ErrorKind::InvalidArgument);
        }
        Ok(victims.len())
    }
}

/// What was committed: the content after each commit, from none on.
#[derive(Debug, Clone)]
pub struct History {
    pub contents: Vec<Content>,
}

impl History {
    pub fn new() -> History {
        History { contents: vec![Content::new()] }
    }

    /// Commits so far.
    pub fn commits(&self) -> usize {
        self.contents.len() - 1
    }
}
