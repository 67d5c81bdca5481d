//! A hint to the processor that a cache line is needed soon: what makes batches fast.
//!
//! A dependent miss of main memory takes 125-205 ns where several independent ones take 14 ns each, so a batch first
//! asks for all its lines and then looks at them.
//!
//! Unsafe code: the instruction is an intrinsic. On processors without one these functions do nothing.
#![allow(unsafe_code, reason = "the named file for the intrinsic; see above")]

/// Asks for the cache line of a value. Reads nothing and cannot fault.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of any address is allowed; SSE is part of the architecture.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
