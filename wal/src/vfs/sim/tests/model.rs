//! Random runs against a slow oracle that shares no code with the simulator: it keeps a copy of every file after every
//! operation since its last sync, and of every name since the last sync of the directory.
//!
//! `SIM_SEED=n` replays one run.

use std::collections::BTreeMap;

use super::*;
use crate::vfs::sim::random::Random;

const RUNS: u64 = 150;
const OPS: u64 = 40;
/// LIMIT: three sectors and a bit, so that most operations meet in the same ones.
const FILE_BYTES: u64 = 1600;
const PATHS: [&str; 3] = ["a", "b", "c"];

/// What a run may leave behind.
#[derive(Default)]
struct Oracle {
    /// Of each file the contents that it had, from its last sync to now.
    contents: Vec<Vec<Vec<u8>>>,
    /// Of each path the files that it stood for, from the last sync of the directory to now.
    names: BTreeMap<&'static str, Vec<Option<usize>>>,
}

impl Oracle {
    fn now(&self, path: &str) -> Option<usize> {
        *self.names.get(path)?.last()?
    }

    fn rename(&mut self, path: &'static str, file: Option<usize>) {
        self.names.entry(path).or_insert_with(|| vec![None]).push(file);
    }

    fn change(&mut self, file: usize, change: impl FnOnce(&mut Vec<u8>)) {
        let mut content = self.contents[file].last().cloned().unwrap_or_default();
        change(&mut content);
        self.contents[file].push(content);
    }

    /// True when a crash may leave these bytes of a file.
    fn allows_content(&self, file: usize, found: &[u8]) -> bool {
        let stages = &self.contents[file];
        let sector_of = |stage: &[u8], sector: usize| {
            let mut bytes = stage.get(sector * 512..).unwrap_or_default().to_vec();
            bytes.resize(512, 0);
            bytes
        };
        stages.iter().any(|stage| stage.len() == found.len())
            && found.chunks(512).enumerate().all(|(sector, bytes)| {
                stages.iter().any(|stage| sector_of(stage, sector)[..bytes.len()] == *bytes)
            })
    }

    fn allows(&self, path: &'static str, found: Option<&[u8]>) -> bool {
        let nothing = vec![None];
        let mut files = self.names.get(path).unwrap_or(&nothing).iter();
        files.any(|file| match (file, found) {
            (None, None) => true,
            (Some(file), Some(found)) => self.allows_content(*file, found),
            _ => false,
        })
    }
}

/// One random operation on the simulator and on the oracle.
fn step(sim: &SimVfs, oracle: &mut Oracle, random: &mut Random) {
    let path = PATHS[random.below(3) as usize];
    let Some(file) = oracle.now(path) else {
        sim.open(Path::new(path), OpenMode::CreateNew).unwrap();
        oracle.contents.push(vec![Vec::new()]);
        return oracle.rename(path, Some(oracle.contents.len() - 1));
    };
    let handle = sim.open(Path::new(path), OpenMode::Write).unwrap();
    let len = handle.len().unwrap();
    let offset = random.below(FILE_BYTES);
    let bytes = vec![random.below(4) as u8; 1 + random.below(FILE_BYTES - offset) as usize];
    let end = offset as usize + bytes.len();
    match random.below(10) {
        0..=2 => {
            write(&handle, offset, &bytes);
            oracle.change(file, |content| {
                content.resize(content.len().max(end), 0);
                content[offset as usize..end].copy_from_slice(&bytes);
            });
        }
        3 if len > 0 => {
            handle.allocate(0, len).unwrap();
            let start = offset.min(len - 1) as usize;
            let stored = &bytes[..bytes.len().min(len as usize - start)];
            sim.map_tail(&handle, FILE_BYTES).unwrap().store(start as u64, stored);
            oracle.change(file, |content| {
                content[start..start + stored.len()].copy_from_slice(stored);
            });
        }
        4 => {
            handle.set_len(offset).unwrap();
            oracle.change(file, |content| content.resize(offset as usize, 0));
        }
        5 => {
            handle.allocate(offset, bytes.len() as u64).unwrap();
            oracle.change(file, |content| content.resize(content.len().max(end), 0));
        }
        6 => {
            sim.sync_dir(Path::new("")).unwrap();
            oracle.names.values_mut().for_each(|files| *files = files.split_off(files.len() - 1));
        }
        7 => {
            let to = PATHS[random.below(3) as usize];
            sim.rename(Path::new(path), Path::new(to)).unwrap();
            if path != to {
                oracle.rename(path, None);
                oracle.rename(to, Some(file));
            }
        }
        8 if random.coin() => {
            sim.remove_file(Path::new(path)).unwrap();
            oracle.rename(path, None);
        }
        _ => {
            handle.sync_data().unwrap();
            let stages = &mut oracle.contents[file];
            *stages = stages.split_off(stages.len() - 1);
        }
    }
}

fn check(sim: &SimVfs, oracle: &Oracle, seed: u64) {
    let trace = sim.trace();
    for model in [DiskModel::Posix, DiskModel::Ext4, DiskModel::Xfs] {
        let cursor = trace.cursor_at(model, trace.len());
        assert_eq!(cursor.image(CrashVariant::Kill, seed), sim.image(), "SIM_SEED={seed}");
        let variants = CrashVariant::STANDARD;
        for variant in variants.into_iter().filter(|variant| *variant != CrashVariant::Garbage) {
            let image = cursor.image(variant, seed);
            for path in PATHS {
                let found = image.read(path);
                assert!(
                    oracle.allows(path, found.as_deref()),
                    "SIM_SEED={seed} {model:?} {variant:?}: {path} may not be {found:?}\n{trace:?}"
                );
            }
        }
    }
}

#[test]
fn model_every_image_of_a_random_run_is_legal() {
    let seeds = match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => (0..RUNS).collect(),
    };
    for seed in seeds {
        let sim = SimVfs::new(seed);
        let mut oracle = Oracle::default();
        let mut random = Random::new(seed);
        for _ in 0..OPS {
            step(&sim, &mut oracle, &mut random);
            check(&sim, &oracle, seed);
        }
        let replayed = SimVfs::after_kill(&sim.trace(), sim.point(), seed);
        assert_eq!(replayed.image(), sim.image(), "SIM_SEED={seed}");
        check(&replayed, &oracle, seed);
    }
}
