//! Deliberate defects, to prove that the suites can fail.
//!
//! Each breaks one rule of a protocol. With the feature `seeded-bugs` one of them can be planted at run time, and the
//! canaries of the loom and shuttle suites show that it is caught; without the feature [`planted`] is `false` at compile
//! time and nothing of it is left.

#[cfg(feature = "seeded-bugs")]
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

macro_rules! bugs {
    ($($(#[doc = $cause:literal])+ $variant:ident = $name:literal,)*) => {
        /// What can be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        #[non_exhaustive]
        #[allow(missing_docs, reason = "each variant is documented by its cause, some in one line with others")]
        pub enum Bug { $($(#[doc = $cause])+ $variant,)* }

        /// Every bug with its name and its cause.
        #[cfg(feature = "seeded-bugs")]
        const ALL: &[(Bug, &str, &str)] = &[$((Bug::$variant, $name, concat!($($cause),+)),)*];
    };
}

bugs! {
    /// A group is copied while its slots can still change.
    FillWithoutFreeze = "fill-without-freeze",
    /// The end of an overflow chain stays open while its group is copied.
    ChainNotFrozen = "chain-not-frozen",
    /// A look-up stops where an entry was taken out.
    DeletedTakenForEnd = "deleted-taken-for-end",
    /// A group counts as whole once its first slot is filled.
    WholeByFirstSlot = "whole-by-first-slot",
    /// A table is dropped while readers may be in it.
    RetiredAtOnce = "retired-at-once",
    /// A frozen entry is taken for the present without a look at the next table.
    FrozenTakenForPresent = "frozen-taken-for-present",
    /// A writer that lost an EMPTY slot takes the next one instead of looking who has it now.
    LostSlotPassedOver = "lost-slot-passed-over",
    /// A helper that wakes up late stores its copy again.
    LateFill = "late-fill",
    /// A swap that lost against a newer record overwrites it.
    LateSwapWins = "late-swap-wins",
    /// An export reads the current table without a look at the next one.
    ExportOfOneTable = "export-of-one-table",
}

#[cfg(feature = "seeded-bugs")]
static PLANTED: AtomicU32 = AtomicU32::new(u32::MAX);

/// Whether a bug is planted.
#[cfg(feature = "seeded-bugs")]
pub fn planted(bug: Bug) -> bool {
    PLANTED.load(Relaxed) == bug as u32
}

/// Whether a bug is planted: never, in this build.
#[cfg(not(feature = "seeded-bugs"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

/// Plants the bug of a name for the rest of the process; false for a name that there is not.
#[cfg(feature = "seeded-bugs")]
pub fn plant(name: &str) -> bool {
    let bug = ALL.iter().find(|(_, known, _)| *known == name);
    PLANTED.store(bug.map_or(u32::MAX, |(bug, _, _)| *bug as u32), Relaxed);
    bug.is_some()
}

/// Names and causes of every bug.
#[cfg(feature = "seeded-bugs")]
pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALL.iter().map(|(_, name, cause)| (*name, cause.trim()))
}
