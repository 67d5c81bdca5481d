//! Every store does every work once, tiny; a replay that loses a record fails.

use std::process::Command;

#[test]
fn smoke_runs_every_suite() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_cortenkv-compare")).arg("smoke").output().unwrap();
    let (printed, message) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{message}");
    for suite in ["log-relaxed", "log-synced", "log-replay", "store-read", "maps"] {
        assert!(printed.contains(&format!("{suite}: ")), "{printed}");
    }
}
