//! The lowest priority of the processor for a thread of the pool: users of the store come first.

/// Lowers the priority of the calling thread as far as it goes.
///
/// On Linux the "nice" value belongs to the thread, whatever POSIX says. A refusal is not worth a failure.
#[cfg(all(target_os = "linux", not(loom)))]
pub(super) fn lower() {
    const NICEST: i32 = 19;
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICEST);
}

/// Left to [`on_worker_start`](crate::PoolOptions::on_worker_start).
#[cfg(not(all(target_os = "linux", not(loom))))]
pub(super) fn lower() {}
