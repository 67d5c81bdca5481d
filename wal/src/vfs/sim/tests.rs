//! The simulator's own tests: the rules that the crash suites of everything above stand on.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::vfs::write_all_at;

mod bytes;
mod live;
mod model;
mod names;
mod protocol;

/// A new file; its name is not durable.
fn create(sim: &SimVfs, path: &str) -> Arc<dyn VfsFile> {
    sim.open(Path::new(path), OpenMode::CreateNew).unwrap()
}

fn write(file: &Arc<dyn VfsFile>, offset: u64, bytes: &[u8]) {
    write_all_at(file.as_ref(), bytes, offset).unwrap();
}

/// A file with durable bytes and a durable name.
fn durable_file(sim: &SimVfs, path: &str, bytes: &[u8]) -> Arc<dyn VfsFile> {
    let file = create(sim, path);
    write(&file, 0, bytes);
    file.sync_data().unwrap();
    sim.sync_dir(name::parent(Path::new(path))).unwrap();
    file
}

/// The disk after a crash at the end.
fn crash(sim: &SimVfs, model: DiskModel, variant: CrashVariant, seed: u64) -> Image {
    let trace = sim.trace();
    trace.crash_image(model, trace.len(), variant, seed)
}

/// The distinct contents of a file after a crash at the end, over many draws.
fn contents(
    sim: &SimVfs,
    model: DiskModel,
    variant: CrashVariant,
    path: &str,
) -> BTreeSet<Option<Vec<u8>>> {
    let trace = sim.trace();
    let cursor = trace.cursor_at(model, trace.len());
    (0..200).map(|seed| cursor.image(variant, seed).read(path)).collect()
}

fn failure() -> io::Error {
    io::Error::other("injected")
}
