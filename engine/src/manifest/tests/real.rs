//! A manifest on the real file system, also in builds without the simulated one.

use cortenkv_wal::RetiredSegment;
use cortenkv_wal::vfs::OsVfs;

use super::edit::COMPACTED_ID_MIN;
use super::*;

#[test]
fn a_manifest_lives_in_a_real_directory() {
    let root = tempfile::tempdir().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(OsVfs::new());
    let mut expected = None;
    for opening in 0..3 {
        let lock = DirLock::acquire(&vfs, &root.path().join("db"), false).unwrap();
        let (mut manifest, created) = Manifest::read_or_create(&lock).unwrap();
        assert_eq!(created, opening == 0);
        assert!(expected.is_none_or(|state| *manifest.state() == state));
        manifest.renew().unwrap();
        assert_eq!(manifest.next_compacted_id(), COMPACTED_ID_MIN + opening);
        let mut bytes = [0; RetiredSegment::BYTES];
        bytes[0] = opening as u8 + 1;
        let retired = vec![RetiredSegment::from_bytes(&bytes)];
        manifest.commit(Edit::JobDone { added: vec![], retired, removed: vec![] }).unwrap();
        manifest.create_keyspace(&format!("keyspace {opening}")).unwrap();
        manifest.forget_retired(&[opening]);
        manifest.renew().unwrap();
        assert_eq!(manifest.state().retired.len(), 1);
        expected = Some(manifest.state().clone());
    }
}
