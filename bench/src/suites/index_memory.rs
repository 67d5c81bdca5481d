//! Bytes of memory per key of the indexes, counted by an allocator, at sizes between and on the steps of growth.

use std::path::Path;
use std::time::Instant;

use cortenkv_index::{Outcome as Installed, PointIndex};

use crate::computed_records::ComputedRecords;
use crate::counting_alloc;
use crate::error::{Error, Result};
use crate::index_kinds::{self as kinds, ORDER_NAME, Order, POINT_NAME, Point};
use crate::log_store::{Class, Promise};
use crate::process::cpu_time;
use crate::report::Row;
use crate::suite::{Case, CaseContext, Conclusion, Outcome, Plan, Suite};
use crate::suites::extra;

/// Keys of the largest size, unless the plan says otherwise.
const KEYS: u64 = 20_000_000;
/// The sizes as shares of the largest: 1, 2, 3.4, 5, 7, 10, 13.5 and 20 million.
const SHARES: [f64; 8] = [0.05, 0.1, 0.17, 0.25, 0.35, 0.5, 0.675, 1.0];
const KEY_BYTES: [usize; 2] = [16, 64];

/// The most that is wanted, in bytes per key.
const MEAN_GROWN_MAX: f64 = 15.0;
const WORST_GROWN_MAX: f64 = 21.0;
const WORST_SIZED_MAX: f64 = 11.5;
const WORST_ORDER_MAX: f64 = 5.0;

/// See the module.
pub struct IndexMemory;

impl Suite for IndexMemory {
    fn name(&self) -> &'static str {
        "index-memory"
    }

    fn about(&self) -> &'static str {
        "Bytes of memory per key that the indexes ask the allocator for, grown from empty and sized in advance, the \
         point index alone and with key order. Records are computed, so that nothing else is counted."
    }

    fn cases(&self, plan: &Plan) -> Vec<Case> {
        let sizes: Vec<u64> =
            SHARES.iter().map(|share| (plan.keys_or(KEYS) as f64 * share) as u64).collect();
        let mut cases = Vec::new();
        for key_bytes in KEY_BYTES {
            for has_order in [false, true] {
                for is_sized in [false, true] {
                    let sizes = sizes.clone();
                    cases.push(Arm { key_bytes, has_order, is_sized }.case(sizes));
                }
            }
        }
        cases
    }

    fn conclude(&self, medians: &[Row]) -> Vec<Conclusion> {
        let mut conclusions = Vec::new();
        for key_bytes in KEY_BYTES {
            let arm = |has_order, is_sized| Arm { key_bytes, has_order, is_sized };
            let grown = arm(false, false).name();
            let sized = arm(false, true).name();
            let mut at_most = |case: &str, figure: &str, value: Option<f64>, most: f64| {
                conclusions.extend(value.map(|value| Conclusion {
                    text: format!("{case}: {figure} {value:.2} bytes per key; {most} over it"),
                    value: most / value.max(1e-9),
                    goal: Some(1.0),
                }));
            };
            at_most(&grown, "mean", extra(medians, &grown, "mean"), MEAN_GROWN_MAX);
            at_most(&grown, "worst", extra(medians, &grown, "worst"), WORST_GROWN_MAX);
            at_most(&sized, "worst", extra(medians, &sized, "worst"), WORST_SIZED_MAX);
            let ordered = arm(true, false).name();
            let order = extra(medians, &ordered, "worst_order");
            at_most(&ordered, "key order adds at worst", order, WORST_ORDER_MAX);
        }
        conclusions
    }
}

#[derive(Clone, Copy)]
struct Arm {
    key_bytes: usize,
    has_order: bool,
    is_sized: bool,
}

impl Arm {
    fn name(self) -> String {
        let order = if self.has_order { format!("+{ORDER_NAME}") } else { String::new() };
        let how = if self.is_sized { "sized" } else { "grown" };
        format!("{POINT_NAME}{order}-{}B-{how}", self.key_bytes)
    }

    fn case(self, sizes: Vec<u64>) -> Case {
        Case {
            name: self.name(),
            settings: format!(
                "keys of {} bytes that look random; sizes {sizes:?}; background work done before each count",
                self.key_bytes
            ),
            promise: Promise::new(Class::Memory, "an index alone"),
            threads: 1,
            prepare: None,
            run: Box::new(move |context| self.run(&sizes, context)),
        }
    }

    fn run(self, sizes: &[u64], context: &CaseContext<'_>) -> Result<Outcome> {
        counting_alloc::start();
        let (start, cpu) = (Instant::now(), cpu_time());
        let mut filled: Option<Filled> = None;
        let (mut installed, mut per_key) = (0, Vec::new());
        for &size in sizes {
            if self.is_sized {
                // The old one goes first: its runs have the names that those of the new one get.
                drop(filled.take());
            }
            let filled = filled.get_or_insert_with(|| Filled::new(self, size, context.dir));
            installed += filled.grow_to(size)?;
            per_key.push((size, filled.bytes_per_key()));
        }
        let mut outcome = Outcome::of_pass(installed, start.elapsed(), cpu_time() - cpu);
        let count = per_key.len() as f64;
        let mut add = |name: String, value: f64| outcome.extra.insert(name, value);
        for (size, [total, order, mapped]) in &per_key {
            add(format!("bytes_per_key_at_{size}"), *total);
            if self.has_order {
                add(format!("bytes_per_key_of_order_at_{size}"), *order);
                add(format!("mapped_bytes_per_key_at_{size}"), *mapped);
            }
        }
        let worst = |part: usize| per_key.iter().map(|(_, bytes)| bytes[part]).fold(0.0, f64::max);
        add("mean".into(), per_key.iter().map(|(_, bytes)| bytes[0]).sum::<f64>() / count);
        add("worst".into(), worst(0));
        if self.has_order {
            add("worst_order".into(), worst(1));
        }
        Ok(outcome)
    }
}

/// Indexes and what they hold so far.
struct Filled {
    records: ComputedRecords,
    point: Point,
    order: Option<Order>,
    keys: u64,
    /// Bytes that the point index and the ordered one have asked for.
    bytes: [i64; 2],
}

impl Filled {
    fn new(arm: Arm, size: u64, dir: &Path) -> Self {
        let before = counting_alloc::counts();
        let point = kinds::new_point(arm.is_sized.then_some(size));
        let of_point = counting_alloc::counts().since(&before).live_bytes;
        let order = arm.has_order.then(|| kinds::new_order(dir));
        let both = counting_alloc::counts().since(&before).live_bytes;
        let records = ComputedRecords::new(arm.key_bytes);
        Filled { records, point, order, keys: 0, bytes: [of_point, both - of_point] }
    }

    /// Installs keys until there are `size`, and does all background work; returns how many were installed.
    fn grow_to(&mut self, size: u64) -> Result<u64> {
        let Filled { records, point, order, keys, bytes } = self;
        let mut key = Vec::with_capacity(256);
        let first = *keys;
        // Each index by itself, so that the bytes of each are known.
        let before = counting_alloc::counts();
        for number in first..size {
            records.key(number, &mut key);
            let outcome = point.install(&records.offer(number, &key), records, &mut |_| {});
            if outcome != Installed::Inserted {
                return Err(Error::new(format!("key {number} was {outcome:?} in the index")));
            }
        }
        kinds::settle(point, None, records)?;
        bytes[0] += counting_alloc::counts().since(&before).live_bytes;
        if let Some(order) = order {
            let before = counting_alloc::counts();
            for number in first..size {
                records.key(number, &mut key);
                kinds::insert_order(order, &key);
            }
            kinds::settle(point, Some(order), records)?;
            bytes[1] += counting_alloc::counts().since(&before).live_bytes;
        }
        *keys = size;
        match point.len() as u64 {
            len if len == size => Ok(size - first),
            len => Err(Error::new(format!("the index holds {len} of {size} keys"))),
        }
    }

    /// Of both indexes together, of the ordered one, and what that one has in mapped files.
    fn bytes_per_key(&self) -> [f64; 3] {
        let per_key = |bytes: i64| bytes as f64 / self.keys.max(1) as f64;
        let mapped = self.order.as_ref().map_or(0, kinds::mapped_bytes) as i64;
        [per_key(self.bytes[0] + self.bytes[1]), per_key(self.bytes[1]), per_key(mapped)]
    }
}
