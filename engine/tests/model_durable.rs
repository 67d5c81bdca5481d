//! M1: the durable database against a model, through reopening, kills and power cuts.
#[path = "crash/harness.rs"]
mod harness;

use harness::{demand, from_env, machine, run_seed};

#[test]
fn lives_of_opens_kills_and_power_cuts_follow_the_model() {
    let seed = run_seed("model");
    let only = std::env::var("CORTEN_TRACE").is_ok().then(|| from_env("CORTEN_TRACE", 0));
    let lives = from_env("CORTEN_MODEL_LIVES", 2_000);
    demand(machine::run(machine::Budget { lives, operations: 100, seed, only }));
}
