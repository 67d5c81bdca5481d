//! K1: a child that is killed at random moments loses nothing that it acknowledged, in any mode.
//!
//! `CORTEN_KILL_ROUNDS` sets how often, `CORTEN_SEED` replays the values (not the moments, which are the machine's).

#[path = "crash/harness.rs"]
mod harness;

use harness::{demand, from_env, kill, run_seed};

// D1, K1
#[test]
fn a_killed_process_loses_nothing_that_was_acknowledged() {
    let rounds = from_env("CORTEN_KILL_ROUNDS", 200);
    let test = "a_killed_process_loses_nothing_that_was_acknowledged";
    demand(kill::run(&kill::Budget { rounds, seed: run_seed("kill"), test }));
}
