//! Planted defects, in a build without the log crate, which has them: there are none.

/// What could be wrong in this build.
#[allow(dead_code, reason = "a build without key order asks for none of its defects")]
pub(crate) enum Bug {
    OlderShownForDamaged,
    KeyDroppedByMerge,
    HintTrustedAfterUpdate,
    SnapshotRegisteredLate,
    SnapshotVersionsFreedEarly,
}

/// Never.
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
