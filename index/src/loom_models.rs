//! Models of the protocols, which loom runs through every interleaving up to a bound on preemptions.
//!
//! `cargo xtask loom` runs them. Those of the ordered index stand beside what they model, those of the point index in
//! `point`; here is what they share. Models come with canaries: the same with one step of the protocol left out, which
//! loom must notice.

pub(crate) mod point;

/// Runs a broken model in this process and wants it to fail as expected.
///
/// # Panics
/// If loom does not notice.
pub(crate) fn canary(expected: &str, model: impl Fn() + Sync + Send + 'static) {
    let run = std::panic::AssertUnwindSafe(|| loom::model(model));
    let panic = std::panic::catch_unwind(run).expect_err("loom did not notice what is broken");
    let said = panic.downcast_ref::<String>().cloned();
    let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
    let said = said.unwrap_or_default();
    assert!(said.contains(expected), "it failed, but not with `{expected}`: {said}");
}
