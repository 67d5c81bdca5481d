//! Which key comes next: a permutation for loads in random order, and Zipf's law for skewed reads.

use crate::seed::SplitMix64;

/// A permutation of `0..len` that is computed, not stored: every number once, in an order that looks random.
///
/// Rounds of multiplication and shift on the next power of two; numbers beyond the end are walked through until one
/// falls inside, fewer than two steps on average.
#[derive(Debug, Clone)]
pub struct Permutation {
    len: u64,
    mask: u64,
    shift: u32,
    rounds: [(u64, u64); 3],
}

impl Permutation {
    /// The permutation of a seed.
    ///
    /// # Panics
    /// When `len` is 0 or beyond 2^62.
    pub fn new(len: u64, seed: u64) -> Self {
        assert!((1..=1 << 62).contains(&len), "a permutation of {len} numbers");
        let bits = (len.next_power_of_two().trailing_zeros()).max(2);
        let mut random = SplitMix64::new(seed ^ 0x9e6c_63d0_876a_3f6b);
        let rounds = [(); 3].map(|()| (random.next_u64() | 1, random.next_u64()));
        Permutation { len, mask: (1 << bits) - 1, shift: bits.div_ceil(2), rounds }
    }

    /// The number at a place.
    pub fn at(&self, place: u64) -> u64 {
        debug_assert!(place < self.len);
        let mut number = place;
        loop {
            for (factor, addend) in self.rounds {
                // An odd factor and a shift by less than the width are both reversible, so the whole is.
                number = number.wrapping_mul(factor).wrapping_add(addend) & self.mask;
                number ^= number >> self.shift;
            }
            if number < self.len {
                return number;
            }
        }
    }
}

/// How keys are drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// Each as likely as the others.
    Uniform,
    /// The k-th most wanted with a probability in proportion to `1 / k^exponent`.
    Zipf(f64),
}

impl Law {
    /// As in names of cases.
    pub fn name(self) -> String {
        match self {
            Law::Uniform => "uniform".into(),
            Law::Zipf(exponent) => format!("zipf{exponent}"),
        }
    }
}

/// LIMIT: numbers that are drawn beforehand for a skewed law; then they come again. 16 MiB, read in order.
const DRAWN_MAX: usize = 1 << 22;

/// An endless sequence of numbers below a bound, at a few nanoseconds each.
pub struct Draw {
    bound: u64,
    random: SplitMix64,
    /// Empty for the uniform law.
    drawn: Vec<u32>,
    next: usize,
}

impl Draw {
    /// The sequence of one thread. A skewed law is drawn here, before any clock runs, because a draw costs as much as a
    /// look-up; the most wanted numbers are strewn over all of them.
    pub fn new(law: Law, bound: u64, seed: u64, thread: usize) -> Self {
        let mut random = SplitMix64::for_thread(seed, thread);
        let drawn = match law {
            Law::Uniform => Vec::new(),
            Law::Zipf(exponent) => {
                let count =
                    DRAWN_MAX.min(usize::try_from(bound).unwrap_or(DRAWN_MAX).max(1024) * 4);
                let (zipf, strewn) = (Zipf::new(bound, exponent), Permutation::new(bound, seed));
                (0..count).map(|_| strewn.at(zipf.rank(&mut random)) as u32).collect()
            }
        };
        Draw { bound, random, drawn, next: 0 }
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        if self.drawn.is_empty() {
            return self.random.below(self.bound);
        }
        let number = self.drawn[self.next];
        self.next = if self.next + 1 == self.drawn.len() { 0 } else { self.next + 1 };
        u64::from(number)
    }
}

/// Ranks from 0 by Zipf's law (Gray et al., "Quickly generating billion-record synthetic databases", 1994).
struct Zipf {
    count: f64,
    exponent: f64,
    zeta: f64,
    alpha: f64,
    eta: f64,
}

impl Zipf {
    fn new(count: u64, exponent: f64) -> Self {
        let zeta: f64 = (1..=count).map(|k| (k as f64).powf(-exponent)).sum();
        let zeta_2 = 1.0 + 0.5f64.powf(exponent);
        let count = count as f64;
        let eta = (1.0 - (2.0 / count).powf(1.0 - exponent)) / (1.0 - zeta_2 / zeta);
        Zipf { count, exponent, zeta, alpha: 1.0 / (1.0 - exponent), eta }
    }

    fn rank(&self, random: &mut SplitMix64) -> u64 {
        let uniform = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let scaled = uniform * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < 1.0 + 0.5f64.powf(self.exponent) {
            return 1;
        }
        let rank = self.count * (self.eta * uniform - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.count as u64 - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_names_every_number_once() {
        for len in [1, 2, 3, 64, 1000, 4097] {
            let permutation = Permutation::new(len, 7);
            let mut seen: Vec<u64> = (0..len).map(|place| permutation.at(place)).collect();
            if len > 60 {
                let steps = seen.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
                assert!(steps < len as usize / 10, "{steps} of {len} follow their neighbour");
            }
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..len), "{len}");
        }
    }

    #[test]
    fn zipf_gives_the_most_wanted_key_its_share() {
        let mut draw = Draw::new(Law::Zipf(0.99), 1000, 3, 0);
        let mut counts = [0u32; 1000];
        for _ in 0..4000 {
            counts[draw.draw() as usize] += 1;
        }
        counts.sort_unstable();
        // 1 / zeta(1000, 0.99) = 0.130; the ten most wanted together 0.385.
        let share = |count: u32| f64::from(count) / 4000.0;
        assert!((share(counts[999]) - 0.13).abs() < 0.03, "{}", counts[999]);
        let ten = counts[990..].iter().sum();
        assert!((share(ten) - 0.385).abs() < 0.05, "{ten}");
    }

    #[test]
    fn draws_replay_from_the_seed_and_stay_below_the_bound() {
        for law in [Law::Uniform, Law::Zipf(0.99)] {
            let draws = |thread| {
                let mut draw = Draw::new(law, 100, 5, thread);
                (0..50).map(|_| draw.draw()).collect::<Vec<_>>()
            };
            assert_eq!(draws(0), draws(0));
            assert_ne!(draws(0), draws(1));
            assert!(draws(0).iter().all(|&number| number < 100));
        }
    }
}
