//! `cargo xtask torture`: what does not fit in CI. Thorough runs once, then rounds of the random suites, each with the next
//! seed, until the budget is used.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::run::{Failure, Result, seconds};
use crate::workspace::Workspace;
use crate::{asan, crash, features, fuzz, loom, shuttle, stress};

/// The options of `cargo xtask torture`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("length").required(true).args(["budget", "ci"])))]
pub struct Options {
    /// How long to go on, such as 90s, 30m or 8h; the step under way is finished
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub budget: Option<Duration>,
    /// One round
    #[arg(long)]
    pub ci: bool,
    /// The seed of the first round; without it, taken from the clock
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

const IMAGES_PER_ROUND: u64 = 1_000_000;
const FAULTS_PER_ROUND: u64 = 50_000;
const LIVES_PER_ROUND: u64 = 20_000;
const KILLS_PER_ROUND: u64 = 2_000;
const SCHEDULES_PER_ROUND: u64 = 500_000;
const OPERATIONS_PER_ROUND: u64 = 1_000_000_000;
const FUZZ_SECONDS_PER_ROUND: u64 = 120;
const LOOM_BOUND: u32 = 3;

/// Something that is run, and how somebody runs exactly that again.
struct Suite {
    name: &'static str,
    run: fn(&Workspace, u64) -> Result<()>,
    replay: fn(u64) -> String,
}

/// Exhaustive, so that a second run would learn nothing: they ignore the seed.
const ONCE: &[Suite] = &[
    Suite {
        name: "features",
        run: |workspace, _| features::run(workspace, &features::Options { all: true }),
        replay: |_| "cargo xtask features --all".to_owned(),
    },
    Suite {
        name: "loom",
        run: |workspace, _| loom::run(workspace, &loom::Options { bound: LOOM_BOUND }),
        replay: |_| format!("cargo xtask loom --bound {LOOM_BOUND}"),
    },
];

/// Random, so that each round tries something new.
const ROUND: &[Suite] = &[
    Suite {
        name: "crash",
        run: |workspace, seed| {
            crash::run_disks(workspace, IMAGES_PER_ROUND, FAULTS_PER_ROUND, Some(seed))
        },
        replay: |seed| {
            format!(
                "cargo xtask crash --seed {seed} --images {IMAGES_PER_ROUND} --faults {FAULTS_PER_ROUND} \
                 --lives 0 --kills 0"
            )
        },
    },
    Suite {
        name: "model",
        run: |workspace, seed| crash::run_model(workspace, LIVES_PER_ROUND, Some(seed)),
        replay: |seed| {
            format!(
                "cargo xtask crash --seed {seed} --images 0 --faults 0 --lives {LIVES_PER_ROUND} --kills 0"
            )
        },
    },
    Suite {
        name: "kill",
        run: |workspace, seed| crash::run_kill(workspace, KILLS_PER_ROUND, Some(seed)),
        replay: |seed| {
            format!(
                "cargo xtask crash --seed {seed} --images 0 --faults 0 --lives 0 --kills {KILLS_PER_ROUND}"
            )
        },
    },
    Suite {
        name: "shuttle",
        run: |workspace, seed| {
            let options = shuttle::Options { schedules: SCHEDULES_PER_ROUND, seed: Some(seed) };
            shuttle::run(workspace, &options)
        },
        replay: |seed| {
            format!("cargo xtask shuttle --seed {seed} --schedules {SCHEDULES_PER_ROUND}")
        },
    },
    Suite {
        name: "stress",
        run: |workspace, seed| {
            let options = stress::Options { operations: OPERATIONS_PER_ROUND, seed: Some(seed) };
            stress::run(workspace, &options)
        },
        replay: |seed| {
            format!("cargo xtask stress --seed {seed} --operations {OPERATIONS_PER_ROUND}")
        },
    },
    Suite {
        name: "asan",
        run: |workspace, seed| {
            let options =
                asan::Options { seed: Some(seed), if_available: true, ..Default::default() };
            asan::run(workspace, &options)
        },
        replay: |seed| format!("cargo xtask asan --seed {seed}"),
    },
    Suite {
        name: "fuzz",
        run: |workspace, seed| {
            let options = fuzz::Options {
                seconds: FUZZ_SECONDS_PER_ROUND,
                seed: Some(seed),
                if_available: true,
                ..Default::default()
            };
            fuzz::run(workspace, &options)
        },
        replay: |_| "cargo xtask fuzz TARGET --input FILE".to_owned(),
    },
];

/// Runs rounds until the budget is used, then prints what each suite did.
///
/// # Errors
/// At the first failure, with the command that replays it.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let first_seed = options.seed.unwrap_or_else(seed_from_clock);
    println!("torture: seed={first_seed}");
    let start = Instant::now();
    let mut summary = Summary::default();
    let result = rounds(
        options.budget,
        first_seed,
        || start.elapsed(),
        |suite, seed| {
            println!("\n=== {} seed={seed}", suite.name);
            let begun = Instant::now();
            let result = (suite.run)(workspace, seed);
            summary.add(suite.name, begun.elapsed());
            result.map_err(|failure| {
                Failure::new(format!("{failure}\n  replay: {}", (suite.replay)(seed)))
            })
        },
    );
    println!("\n{}", summary.print());
    result
}

/// Calls `run` for every suite: the exhaustive ones once, then rounds of the others with the next
/// seed each, until `elapsed` reaches the budget; without a budget, one round.
fn rounds(
    budget: Option<Duration>,
    first_seed: u64,
    elapsed: impl Fn() -> Duration,
    mut run: impl FnMut(&Suite, u64) -> Result<()>,
) -> Result<()> {
    let used = || budget.is_some_and(|budget| elapsed() >= budget);
    let once = ONCE.iter().map(|suite| (suite, first_seed));
    let seeds = (0..).map(|round| first_seed.wrapping_add(round));
    let round_count = if budget.is_none() { 1 } else { usize::MAX };
    let rounds =
        seeds.take(round_count).flat_map(|seed| ROUND.iter().map(move |suite| (suite, seed)));
    for (suite, seed) in once.chain(rounds) {
        if used() {
            break;
        }
        run(suite, seed)?;
    }
    Ok(())
}

/// How often each suite ran and how long.
#[derive(Default)]
struct Summary(Vec<(&'static str, u32, Duration)>);

impl Summary {
    fn add(&mut self, name: &'static str, took: Duration) {
        match self.0.iter_mut().find(|entry| entry.0 == name) {
            Some((_, runs, sum)) => (*runs, *sum) = (*runs + 1, *sum + took),
            None => self.0.push((name, 1, took)),
        }
    }

    fn print(&self) -> String {
        let mut lines = vec![format!("{:<14}{:>8}{:>16}", "suite", "runs", "took")];
        for (name, runs, took) in &self.0 {
            lines.push(format!("{name:<14}{runs:>8}{:>16}", seconds(took.as_secs_f64())));
        }
        lines.join("\n")
    }
}

fn seed_from_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs())
}

/// Reads `90s`, `30m` or `8h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a time such as 90s, 30m or 8h, found `{text}`");
    let unit = text.chars().next_back().ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(expected()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    Ok(Duration::from_secs(u64::from(count) * seconds))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_duration("8h"), Ok(Duration::from_secs(28_800)));
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        for bad in ["", "8", "h", "-1h", "8 h", "8d", "8é"] {
            assert!(parse_duration(bad).unwrap_err().contains("such as 90s"), "{bad}");
        }
    }

    #[test]
    fn without_a_budget_every_suite_runs_once() {
        let mut ran = Vec::new();
        let result = rounds(
            None,
            7,
            || Duration::ZERO,
            |suite, seed| {
                ran.push((suite.name, seed));
                Ok(())
            },
        );
        assert_eq!(result, Ok(()));
        let names: Vec<_> = ran.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["features", "loom", "crash", "model", "kill", "shuttle", "stress", "asan", "fuzz"]
        );
        assert!(ran.iter().all(|(_, seed)| *seed == 7));
    }

    #[test]
    fn rounds_go_on_with_the_next_seed_until_the_budget_is_used() {
        let clock = Cell::new(0);
        let mut seeds = Vec::new();
        let budget = Some(Duration::from_secs(9));
        let result = rounds(
            budget,
            7,
            || Duration::from_secs(clock.get()),
            |suite, seed| {
                clock.set(clock.get() + 1);
                seeds.extend((suite.name == "crash").then_some(seed));
                Ok(())
            },
        );
        assert_eq!((result, clock.get(), seeds), (Ok(()), 9, vec![7, 8]));
    }

    #[test]
    fn the_first_failure_ends_the_rounds() {
        let mut runs = 0;
        let result = rounds(
            Some(Duration::MAX),
            7,
            || Duration::ZERO,
            |_, _| {
                runs += 1;
                if runs == 5 { Err(Failure::new("lost")) } else { Ok(()) }
            },
        );
        assert_eq!((result, runs), (Err(Failure::new("lost")), 5));
    }
}
