//! K1: SIGKILL of a real child on a real directory, with the acknowledgements in a pipe outside it.
#![expect(
    clippy::disallowed_methods,
    reason = "a real process on a real file system, and its stopwatch"
)]

/// Measures how long a suite takes.
pub fn stopwatch() -> std::time::Instant {
    std::time::Instant::now()
}
