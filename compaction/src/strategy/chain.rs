//! Several strategies as one: the first that finds something decides.

use std::fmt;

use super::{Choice, CostBenefit, Limits, SmallSegments, Strategy, Tombstones, Ttl};
use crate::stats::SegmentStats;

/// Asks strategies in order.
pub struct Chain(Vec<Box<dyn Strategy>>);

impl Chain {
    /// These strategies, the most urgent first.
    pub fn new(strategies: Vec<Box<dyn Strategy>>) -> Self {
        Chain(strategies)
    }

    /// The same, and one more that is asked when none of them finds anything.
    pub fn then(mut self, last: impl Strategy) -> Self {
        self.0.push(Box::new(last));
        self
    }

    /// `garbage` first, then [`Ttl`], [`Tombstones`] and [`SmallSegments`].
    pub fn around(garbage: impl Strategy) -> Self {
        let garbage: Box<dyn Strategy> = Box::new(garbage);
        Chain(vec![garbage, Box::new(Ttl), Box::new(Tombstones), Box::new(SmallSegments)])
    }
}

/// Everything, around [`CostBenefit`].
impl Default for Chain {
    fn default() -> Self {
        Chain::around(CostBenefit)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain of {} strategies", self.0.len())
    }
}

impl Strategy for Chain {
    fn pick(&self, segments: &[SegmentStats], limits: &Limits) -> Choice {
        let choices = self.0.iter().map(|strategy| strategy.pick(segments, limits));
        choices.into_iter().find(|choice| *choice != Choice::Nothing).unwrap_or(Choice::Nothing)
    }
}
