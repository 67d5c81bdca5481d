//! Models of the protocols, which loom runs through every interleaving up to a bound on preemptions.
//!
//! `cargo xtask loom` runs them. Each model comes with canaries: the same model with one step of the protocol broken,
//! which loom must notice, so that a model that cannot fail is noticed, too.
//!
//! # Layout
//! `toy` is a log of numbers around the real train, latch and signals; `train`, `ticket` and `timer` are models on it.
//! `wal` has the real log on the simulated file system (feature `test-util`).

mod ticket;
mod timer;
mod toy;
mod train;
#[cfg(feature = "test-util")]
mod wal;

use std::process::Command;

/// Runs a broken model in a process of its own (a deadlock under loom aborts) and wants it to fail as expected.
fn canary(name: &str, expected: &str, model: impl FnOnce()) {
    const CHILD: &str = "CORTEN_LOOM_CANARY";
    if std::env::var_os(CHILD).is_some() {
        return model();
    }
    let name = format!("loom_models::{name}");
    let child = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = [child.stdout, child.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("running 1 test"), "there is no test {name}");
    assert!(!child.status.success(), "loom did not notice what is broken in {name}");
    assert!(said.contains(expected), "{name} failed, but not with `{expected}`:\n{said}");
}
