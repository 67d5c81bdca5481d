//! Every combination of options that changes what is written: durability, tail, mapping, compression, images of the index.

use std::sync::Arc;
use std::time::Duration;

use cortenkv::vfs::{SimVfs, Vfs};
use cortenkv::{Db, Durability, ManualClock, TailKind};

use super::random::Random;

/// The directory of every simulated database.
pub const DIR: &str = "data/db";

/// Wall time at the start of every trace.
pub const EPOCH_MS: u64 = 1_700_000_000_000;

/// The smallest that there is.
pub const SEGMENT_BYTES: usize = 16 << 10;

/// `n` of the mode EveryN.
pub const EVERY_N: u32 = 3;

/// Of the mode Interval.
pub const INTERVAL: Duration = Duration::from_millis(50);

/// A durability mode of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Always,
    Group,
    EveryN,
    Interval,
    Checkpoint,
    None,
}

impl Mode {
    pub const ALL: [Mode; 6] =
        [Mode::Always, Mode::Group, Mode::EveryN, Mode::Interval, Mode::Checkpoint, Mode::None];

    pub fn durability(self) -> Durability {
        match self {
            Mode::Always => Durability::Always,
            Mode::Group => Durability::group(),
            Mode::EveryN => Durability::EveryN(EVERY_N),
            Mode::Interval => Durability::Interval(INTERVAL),
            Mode::Checkpoint => Durability::Checkpoint,
            Mode::None => Durability::None,
        }
    }
}

/// The options of one trace.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub mode: Mode,
    pub tail: TailKind,
    /// Whether the file system can map files at all.
    pub mapping: bool,
    pub compression: bool,
    pub checkpoint_threshold_bytes: u64,
    /// Whether key order is sealed and merged all the time, with its runs in files.
    pub tiny_runs: bool,
    /// Whether writers compact, too.
    pub inline: bool,
    /// Kept for what frees space.
    pub reserve_bytes: u64,
    /// Whether images of the index are written all the time, and opens begin with them; else there are none.
    pub images: bool,
}

/// An image is written whenever the log has grown by so much.
#[cfg(all(feature = "ordered", feature = "compaction"))]
const IMAGE_LOG_BYTES_MIN: u64 = 2 << 10;

impl Setup {
    /// The setup of trace `number`; the modes take turns, and so do the tails within a mode.
    pub fn of(number: u64, random: &mut Random) -> Setup {
        let mode = Mode::ALL[(number % 6) as usize];
        let tail =
            if (number / 6).is_multiple_of(2) { TailKind::Mapped } else { TailKind::Written };
        Setup {
            mode,
            tail,
            mapping: tail == TailKind::Mapped || random.percent(75),
            compression: (number / 12).is_multiple_of(2),
            checkpoint_threshold_bytes: random.pick(&[0, 6_000]),
            tiny_runs: (number / 24).is_multiple_of(2),
            inline: random.percent(30) && cfg!(feature = "compaction"),
            reserve_bytes: random.pick(&[0, 0, 8 << 10]),
            images: random.percent(50),
        }
    }

    /// The file system of this setup.
    pub fn on(&self, sim: SimVfs) -> SimVfs {
        sim.mapping(self.mapping)
    }

    /// Opens the database; tiny segments bring a trace to the end of one soon.
    pub fn open(&self, vfs: Arc<dyn Vfs>, clock: &Arc<ManualClock>) -> cortenkv::Result<Db> {
        let clock: Arc<ManualClock> = Arc::clone(clock);
        let mut builder = Db::builder(DIR);
        #[cfg(feature = "ordered")]
        if self.tiny_runs {
            builder = builder.tiny_runs();
        }
        #[cfg(all(feature = "ordered", feature = "compaction"))]
        {
            builder = match self.images {
                true => builder.image_log_bytes_min(IMAGE_LOG_BYTES_MIN),
                false => builder.index_images(false),
            };
        }
        if cfg!(feature = "index") {
            // One is opened for each image, for a handful of keys: few shards are soon made.
            builder = builder.few_index_shards();
        }
        if self.inline {
            builder = builder.async_compaction(false);
        }
        builder
            .durability(self.mode.durability())
            .tail(self.tail)
            .compression(self.compression && cfg!(feature = "snappy"))
            .checkpoint_threshold_bytes(self.checkpoint_threshold_bytes)
            .segment_bytes(SEGMENT_BYTES as u64)
            .window_bytes(4 << 10)
            .reserve_bytes(self.reserve_bytes)
            .manual()
            .vfs(vfs)
            .clock(clock)
            .build()
    }
}

impl std::fmt::Display for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Setup { mode, tail, mapping, compression, tiny_runs, images, .. } = self;
        let Setup { inline, reserve_bytes, .. } = self;
        write!(
            f,
            "mode={mode:?} tail={tail:?} mapping={mapping} compression={compression} tiny_runs={tiny_runs} images={images} \
             inline={inline} reserve_bytes={reserve_bytes}"
        )
    }
}
