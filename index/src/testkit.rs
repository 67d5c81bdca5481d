//! The model-test kit: any kind of index runs it and is compared with a naive model, alone and under contention.
//!
//! # Layout
//! [`check_point_index`] and [`check_ordered_index`] run everything; the families they are made of are public too, so
//! that a failure can be run again alone. Each prints its seed before it starts; set `CORTENKV_SEED` to run one seed.
//!
//! # Failure
//! A difference from the model is a panic that names the seed and the step. The kit itself is tested with kinds that
//! have one defect each, and must find every one.

mod point;
mod records;

#[cfg(feature = "ordered")]
mod ordered;
#[cfg(feature = "ordered")]
mod ordered_race;

#[cfg(feature = "ordered")]
pub use ordered::{check_ordered_index, ordered_model};
#[cfg(feature = "ordered")]
pub use ordered_race::ordered_contention;
pub use point::{
    check_point_index, point_colliding_keys, point_contention, point_model, point_moved_while_read,
};
pub use records::{Hashing, Records};

/// A small generator of pseudo-random numbers (SplitMix64): one seed, one run.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator for this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number, all 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which is at least 1.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The seeds of a run: the one in the environment, else the first few numbers, so that a plain run repeats itself.
fn seeds() -> Vec<u64> {
    match std::env::var("CORTENKV_SEED") {
        Ok(text) => vec![text.parse().expect("CORTENKV_SEED is a number")],
        Err(_) => (1..=4).collect(),
    }
}

fn announce(family: &str, seed: u64) {
    println!("{family}: run again with CORTENKV_SEED={seed}");
}
