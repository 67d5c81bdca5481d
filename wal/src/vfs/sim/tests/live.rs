//! What live code sees: names, bytes, mappings, locks, space.

use super::*;
use crate::vfs::{LockOutcome, read_full_at};

fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
    result.err().expect("an error").kind()
}

fn read(file: &Arc<dyn VfsFile>, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0xEE; len];
    let filled = read_full_at(file.as_ref(), &mut buf, offset).unwrap();
    buf.truncate(filled);
    buf
}

#[test]
fn names_behave_as_on_a_real_file_system() {
    let sim = SimVfs::new(1);
    assert_eq!(kind(sim.open(Path::new("d/a"), OpenMode::CreateNew)), io::ErrorKind::NotFound);
    sim.create_dir(Path::new("/d/e")).unwrap();
    sim.create_dir(Path::new("d/e")).unwrap();
    create(&sim, "d/a");
    create(&sim, "d/b");
    assert_eq!(kind(sim.open(Path::new("d/a"), OpenMode::CreateNew)), io::ErrorKind::AlreadyExists);
    assert_eq!(kind(sim.open(Path::new("d/c"), OpenMode::Read)), io::ErrorKind::NotFound);
    assert_eq!(kind(sim.open(Path::new("d/e"), OpenMode::Read)), io::ErrorKind::InvalidInput);
    assert_eq!(
        kind(sim.open(Path::new("d/a/x"), OpenMode::CreateNew)),
        io::ErrorKind::NotADirectory
    );
    assert_eq!(kind(sim.create_dir(Path::new("d/a"))), io::ErrorKind::NotADirectory);
    assert_eq!(kind(sim.remove_file(Path::new("d/e"))), io::ErrorKind::IsADirectory);
    assert_eq!(kind(sim.rename(Path::new("d/c"), Path::new("d/x"))), io::ErrorKind::NotFound);
    assert_eq!(kind(sim.sync_dir(Path::new("none"))), io::ErrorKind::NotFound);
    assert_eq!(kind(sim.list(Path::new("d/a"))), io::ErrorKind::NotADirectory);
    sim.rename(Path::new("./d/a"), Path::new("/d/b")).unwrap();
    sim.remove_file(Path::new("d/b")).unwrap();
    assert_eq!(kind(sim.remove_file(Path::new("d/b"))), io::ErrorKind::NotFound);
    let names: Vec<_> = sim.list(Path::new("d")).unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["e"]);
    assert_eq!(sim.metadata(Path::new(".")).unwrap().kind, FileKind::Dir);
}

#[test]
fn a_handle_outlives_the_name_and_a_reading_one_does_not_write() {
    let sim = SimVfs::new(1);
    let file = create(&sim, "a");
    write(&file, 0, b"abc");
    let reader = sim.open(Path::new("a"), OpenMode::Read).unwrap();
    sim.remove_file(Path::new("a")).unwrap();
    write(&file, 3, b"def");
    assert_eq!(read(&reader, 0, 10), b"abcdef");
    assert!(reader.write_at(b"x", 0).is_err());
    assert!(reader.set_len(0).is_err());
    assert!(reader.allocate(0, 10).is_err());
}

#[test]
fn reads_writes_and_mappings_see_one_content() {
    let sim = SimVfs::new(1);
    let file = create(&sim, "a");
    write(&file, 0, b"head");
    let early = sim.map_read(&file, 65536).unwrap();
    assert_eq!(early.bytes(0, 4), b"head");
    file.allocate(0, 65536).unwrap();
    assert_eq!(early.bytes(0, 5), b"head\0", "the early mapping sees the file grow");
    let tail = sim.map_tail(&file, 65536).unwrap();
    tail.store(4104, b"record");
    tail.publish(4096, 0x0807_0605_0403_0201);
    write(&file, 8192, b"written");
    for map in [&early, &sim.map_read(&file, 16384).unwrap()] {
        assert_eq!(map.bytes(4096, 14), b"\x01\x02\x03\x04\x05\x06\x07\x08record");
        assert_eq!(map.bytes(8192, 8), b"written\0");
    }
    assert_eq!(tail.bytes(8192, 8), b"written\0");
    assert_eq!(read(&file, 4104, 6), b"record");
}

#[test]
fn a_mapping_of_an_image_shows_it_and_then_what_is_written() {
    let mut image = Image::new();
    image.insert("a", vec![7; 1000]);
    let sim = SimVfs::from_image(image, 1);
    let file = sim.open(Path::new("a"), OpenMode::Write).unwrap();
    let map = sim.map_read(&file, 4096).unwrap();
    assert_eq!(map.bytes(0, 1000), [7; 1000]);
    write(&file, 1000, b"more");
    assert_eq!(map.bytes(999, 5), b"\x07more");
    file.set_len(500).unwrap();
    file.set_len(1000).unwrap();
    assert_eq!(map.bytes(499, 2), [7, 0], "a cut tail reads as zeroes when the file grows again");
}

#[test]
#[should_panic(expected = "outside the reserved space")]
fn a_store_beyond_the_end_of_the_file_is_a_panic() {
    let sim = SimVfs::new(1);
    let file = create(&sim, "a");
    file.allocate(0, 4096).unwrap();
    sim.map_tail(&file, 65536).unwrap().store(4090, b"1234567");
}

#[test]
#[should_panic(expected = "outside the reserved space")]
fn a_store_into_a_hole_is_a_panic() {
    let sim = SimVfs::new(1);
    let file = create(&sim, "a");
    file.set_len(4096).unwrap();
    sim.map_tail(&file, 65536).unwrap().store(0, b"1");
}

#[test]
#[should_panic(expected = "are read from a mapped file of 4096")]
fn a_read_beyond_the_end_of_the_file_is_a_panic() {
    let sim = SimVfs::new(1);
    let file = create(&sim, "a");
    file.allocate(0, 4096).unwrap();
    sim.map_read(&file, 65536).unwrap().bytes(4096, 1);
}

#[test]
#[should_panic(expected = "published twice")]
fn a_head_word_published_twice_is_a_panic() {
    let sim = SimVfs::new(1);
    let file = create(&sim, "a");
    file.allocate(0, 4096).unwrap();
    let tail = sim.map_tail(&file, 4096).unwrap();
    tail.publish(0, 1);
    tail.publish(0, 2);
}

#[test]
fn mapping_can_be_switched_off_and_needs_a_file_of_its_own() {
    let sim = SimVfs::new(1);
    let file = create(&sim, "a");
    assert_eq!(kind(SimVfs::new(1).map_read(&file, 10)), io::ErrorKind::Unsupported);
    assert_eq!(kind(sim.map_read(&file, 0)), io::ErrorKind::InvalidInput);
    let sim = sim.mapping(false);
    assert_eq!(kind(sim.map_read(&file, 10)), io::ErrorKind::Unsupported);
    assert_eq!(kind(sim.map_tail(&file, 10)), io::ErrorKind::Unsupported);
}

#[test]
fn a_lock_is_exclusive_until_it_is_dropped() {
    let sim = SimVfs::new(1);
    let held = sim.lock(Path::new("LOCK")).unwrap();
    assert!(matches!(sim.lock(Path::new("LOCK")).unwrap(), LockOutcome::Held { .. }));
    drop(held);
    assert!(matches!(sim.lock(Path::new("LOCK")).unwrap(), LockOutcome::Acquired(_)));
}

#[test]
fn a_full_disk_takes_what_fits_and_goes_on_when_space_is_freed() {
    let sim = SimVfs::new(1);
    sim.set_capacity(Some(1000));
    let a = create(&sim, "a");
    let b = create(&sim, "b");
    a.allocate(0, 600).unwrap();
    assert_eq!(kind(b.allocate(0, 401)), io::ErrorKind::StorageFull);
    assert_eq!(b.write_at(&[1; 500], 0).unwrap(), 400);
    assert_eq!(kind(b.write_at(&[1; 100], 400)), io::ErrorKind::StorageFull);
    assert_eq!(a.write_at(&[1; 100], 0).unwrap(), 100, "reserved space is still there");
    sim.map_tail(&a, 600).unwrap().store(500, &[1; 100]);
    assert_eq!(sim.used_bytes(), 1000);
    a.set_len(300).unwrap();
    assert_eq!(b.write_at(&[1; 100], 400).unwrap(), 100);
    sim.remove_file(Path::new("a")).unwrap();
    assert_eq!(sim.used_bytes(), 500);
    b.allocate(500, 500).unwrap();
    assert_eq!(sim.used_bytes(), 1000);
}

#[test]
fn randomness_depends_on_the_seed_alone() {
    let draw = |seed| {
        let mut bytes = [0; 21];
        SimVfs::new(seed).fill_random(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
