//! Overwrites of a store that consists of numbers only: what each strategy costs in space and in writes.
//!
//! Everything is deterministic, so the figures of the README are asserted here, as bounds.

#[path = "simulation/model.rs"]
mod model;

use cortenkv_compaction::{Chain, CostBenefit, GarbageRatio, Greedy, Strategy};
use model::{Figures, Keys, Simulation};

fn run(name: &str, strategy: &dyn Strategy, keys: Keys, target: f64) -> Figures {
    let figures = Simulation::new(keys, target).overwrite(10, strategy);
    println!(
        "{name} at {target}: space {:.2} at most, write amplification {:.2}",
        figures.space_amplification_max, figures.write_amplification
    );
    figures
}

#[test]
fn cost_benefit_keeps_1_33_for_a_write_amplification_of_2_4_under_uniform_updates() {
    let figures = run("uniform, cost-benefit", &CostBenefit, Keys::Uniform, 1.33);
    assert!(figures.space_amplification_max <= 1.36, "{figures:?}");
    assert!(figures.write_amplification <= 2.4, "{figures:?}");
}

#[test]
fn greedy_is_as_good_under_uniform_updates() {
    let figures = run("uniform, greedy", &Greedy, Keys::Uniform, 1.33);
    assert!(figures.space_amplification_max <= 1.36, "{figures:?}");
    assert!(figures.write_amplification <= 2.4, "{figures:?}");
}

#[test]
fn a_target_of_1_15_costs_a_write_amplification_of_4_5() {
    let figures = run("uniform, cost-benefit", &CostBenefit, Keys::Uniform, 1.15);
    assert!(figures.space_amplification_max <= 1.18, "{figures:?}");
    assert!(figures.write_amplification <= 4.5, "{figures:?}");
}

#[test]
fn skew_makes_it_cheaper_and_age_makes_cost_benefit_the_better_choice() {
    let cost_benefit = run("zipf, cost-benefit", &CostBenefit, Keys::Zipf, 1.33);
    let greedy = run("zipf, greedy", &Greedy, Keys::Zipf, 1.33);
    assert!(cost_benefit.space_amplification_max <= 1.36, "{cost_benefit:?}");
    assert!(cost_benefit.write_amplification <= 2.1, "{cost_benefit:?}");
    assert!(cost_benefit.write_amplification <= greedy.write_amplification * 1.02);
}

#[test]
fn the_whole_chain_costs_no_more_than_its_first_strategy() {
    let chain = run("uniform, chain", &Chain::default(), Keys::Uniform, 1.33);
    assert!(chain.write_amplification <= 2.4, "{chain:?}");
}

#[test]
fn garbage_ratio_bounds_space_by_the_worst_segment() {
    let mut strategy = GarbageRatio::default();
    strategy.bytes_min = 0;
    let figures = run("uniform, garbage-ratio", &strategy, Keys::Uniform, 1.33);
    assert!(figures.space_amplification_max <= 1.5, "{figures:?}");
}
