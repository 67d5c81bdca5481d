//! Cuts the power at random points of a schedule, recovers, and compares with the ledger.

use std::sync::{Arc, Mutex};

use cortenkv_wal::vfs::SimVfs;
use cortenkv_wal::vfs::sim::{CrashVariant, DiskModel, Image};
use cortenkv_wal::{Background, Batch, Durability, RecordRef, SeqNo, Wal};
use shuttle::rand::{Rng, thread_rng};

use crate::run::{DIR, Ledger, Scene};

/// Disks that are looked at in one schedule.
const CUTS: usize = 3;

/// A record as recovery offers it: sequence, key, value.
type Found = (SeqNo, Vec<u8>, Vec<u8>);

/// Everything that must hold after a schedule.
pub(crate) fn all(scene: &Scene, opened: usize) {
    // Taken out: the lock must not be held while others can run, and the background thread still can.
    let mut ledger = std::mem::take(&mut *scene.ledger.lock().unwrap());
    ledger.placed.sort_by_key(|commit| commit.seq);
    let seqs: Vec<SeqNo> = ledger.placed.iter().map(|commit| commit.seq).collect();
    assert!(
        seqs.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "sequence numbers repeat or leave a hole: {seqs:?}"
    );
    if scene.setting.modes.iter().all(Durability::is_durable) {
        let offered: Vec<SeqNo> = ledger.offered.iter().map(|(seq, _)| *seq).collect();
        assert!(offered.is_sorted(), "installed out of log order: {offered:?}");
    }
    let trace = scene.sim.trace();
    for cut in 0..CUTS {
        let point = thread_rng().gen_range(opened..=trace.len());
        let model = DiskModel::ALL[thread_rng().gen_range(0..DiskModel::ALL.len())];
        let variant = match cut {
            0 => CrashVariant::Kill,
            _ => {
                let variants = CrashVariant::STANDARD;
                variants[thread_rng().gen_range(0..variants.len())]
            }
        };
        let image = trace.crash_image(model, point, variant, thread_rng().r#gen());
        let context = format!("point={point} model={model:?} variant={variant:?}");
        power_cut(scene, &ledger, image, point, variant == CrashVariant::Kill, &context);
    }
}

/// Recovers one disk; then commits once more, and cuts the power again.
fn power_cut(
    scene: &Scene,
    ledger: &Ledger,
    image: Image,
    point: usize,
    killed: bool,
    context: &str,
) {
    let sim = SimVfs::from_image(image, 1);
    let (wal, found) = recover(scene, &sim, context);
    let survived = check_prefix(ledger, &found, context);
    for promise in ledger.promises.iter().filter(|promise| promise.point <= point) {
        let losable = if killed { Some(0) } else { promise.losable };
        let Some(losable) = losable else { continue };
        assert!(
            promise.seq <= survived.max(ledger.first_seq() - 1) + losable,
            "{promise:?} is broken, {survived} is the last that survived; {context}"
        );
    }
    let mut batch = Batch::new();
    batch.put(0, b"afterwards", b"1").unwrap();
    let seq = wal.append_with(&batch, Durability::Always).unwrap();
    let trace = sim.trace();
    let image = trace.crash_image(DiskModel::Posix, trace.len(), CrashVariant::AllLost, 1);
    let (_, mut again) = recover(scene, &SimVfs::from_image(image, 1), context);
    let afterwards = again.pop();
    assert_eq!(
        afterwards,
        Some((seq, b"afterwards".to_vec(), b"1".to_vec())),
        "the commit after the recovery is lost; {context}"
    );
    assert!(again == found, "what recovery showed did not survive the next cut; {context}");
}

impl Ledger {
    /// The first sequence of the schedule.
    fn first_seq(&self) -> SeqNo {
        self.placed.first().map_or(1 << 30, |commit| commit.seq)
    }
}

/// Opens a disk, and returns the records that recovery offers.
fn recover(scene: &Scene, sim: &SimVfs, context: &str) -> (Wal, Vec<Found>) {
    let found = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let found = Arc::clone(&found);
        Arc::new(move |records: &[RecordRef<'_>]| {
            let records = records
                .iter()
                .map(|record| (record.seq, record.key.to_vec(), record.value.to_vec()));
            found.lock().unwrap().extend(records);
        })
    };
    let options = scene.options.clone().vfs(Arc::new(sim.clone())).background(Background::Manual);
    let (wal, _) = Wal::open(DIR, options, handler)
        .unwrap_or_else(|e| panic!("the log does not open: {e}; {context}"));
    let found = std::mem::take(&mut *found.lock().unwrap());
    (wal, found)
}

/// What was found is a prefix of the commits, each whole and in order; returns the last one, or 0.
fn check_prefix(ledger: &Ledger, found: &[Found], context: &str) -> SeqNo {
    let mut rest = found;
    let mut last = 0;
    for commit in &ledger.placed {
        if rest.is_empty() {
            break;
        }
        for (key, value) in &commit.records {
            let expected = Some((commit.seq, key, value));
            let next = rest.split_off_first().map(|(seq, key, value)| (*seq, key, value));
            assert!(
                next == expected,
                "commit {} is not whole, or not the next one; {context}",
                commit.seq
            );
        }
        last = commit.seq;
    }
    assert!(rest.is_empty(), "records from nowhere: {rest:?}; {context}");
    last
}
