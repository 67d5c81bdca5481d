//! Deliberate defects, to prove that the suites can fail.
//!
//! Each is a cause that made another store lose or revive data. With the feature `seeded-bugs` one of them can be
//! planted at run time, and `cargo xtask crash --bugs` shows that the general suites catch it; without the feature
//! [`planted`] is `false` at compile time and nothing of it is left.

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
    /// An acknowledgement before the sync that covers it.
    AcknowledgedBeforeSync = "acknowledged-before-sync",
    /// EveryN lets one commit too many be unsynced.
    EveryNOffByOne = "every-n-off-by-one",
    /// A failed sync is taken for a good one.
    SyncErrorIgnored = "sync-error-ignored",
    /// A failed sync is tried again, and believed.
    SyncRetried = "sync-retried",
    /// A failed write is swallowed, and the next sync says OK.
    WriteErrorSwallowed = "write-error-swallowed",
    /// Created and renamed names are not synced.
    DirectoryNotSynced = "directory-not-synced",
    /// A file gets its name before its content is durable.
    RenamedBeforeSync = "renamed-before-sync",
    /// Old files are removed before their replacement is durable.
    RemovedBeforeReplaced = "removed-before-replaced",
    /// The log goes on behind a torn record.
    AppendedBehindTear = "appended-behind-tear",
    /// Damage in the middle is taken for the end.
    DamageTakenForEnd = "damage-taken-for-end",
    /// A segment is synced before its predecessor.
    HoleBetweenSegments = "hole-between-segments",
    /// A relaxed commit in a new segment is handed to the kernel without the end of the old one.
    PredecessorNotFlushed = "predecessor-not-flushed",
    /// Recovery enters a segment whose predecessor is torn.
    EnteredBehindTear = "entered-behind-tear",
    /// Sequence numbers are given out again.
    SequenceReused = "sequence-reused",
    /// The records of a batch stand alone.
    HalfBatch = "half-batch",
    /// After a restart the page cache is taken for the disk.
    PageCacheTrusted = "page-cache-trusted",
    /// A relaxed commit is acknowledged behind the hole of a preempted writer.
    AcknowledgedBehindHole = "acknowledged-behind-hole",
    /// A mark says "durable" of what is only published, so a torn tail looks like damage.
    MarkTooEarly = "mark-too-early",
    /// Recovery does not copy deletes, so older values return.
    TombstoneNotCopied = "tombstone-not-copied",
    /// Records are shown without their expiry, so expired entries are live again.
    ExpiryDropped = "expiry-dropped",
    /// A compacted segment gets its name before its content is durable.
    CompactedRenamedBeforeSync = "compacted-renamed-before-sync",
    /// Recovery shows what is left of a retired segment.
    RetiredReplayed = "retired-replayed",
    /// A compacted segment counts before its name is durable.
    CompactedNameNotSynced = "compacted-name-not-synced",
    /// A segment is retired before that is durable which made its records dead.
    RetiredBeforeLogSync = "retired-before-log-sync",
    /// The file of a segment goes before the manifest says so.
    UnlinkedBeforeEdit = "unlinked-before-edit",
    /// Recovery removes retired segments on the word of a manifest that is in the page cache only.
    ManifestTrustedFromCache = "manifest-trusted-from-cache",
    /// A segment that recovery has shortened counts its commits as before, so that their copies look known.
    CopiesTakenForKnown = "copies-taken-for-known",
    /// Compaction forgets a tombstone while another segment holds an older put.
    TombstoneForgottenEarly = "tombstone-forgotten-early",
    /// Compaction forgets an expired put while it hides an older one.
    ExpiredForgottenEarly = "expired-forgotten-early",
    /// A copy takes the place of a newer put.
    PutLostToRelocation = "put-lost-to-relocation",
    /// A manifest edit is used before it is durable.
    ManifestNotSynced = "manifest-not-synced",
    /// CURRENT names a manifest that is not durable yet.
    CurrentBeforeManifest = "current-before-manifest",
    /// An image of the index covers a segment that the index did not point at when it was copied.
    ImageCoversMoving = "image-covers-moving",
    /// An image of the index counts before the log that it points at is durable.
    ImageBeforeSync = "image-before-sync",
    /// After an image is loaded, compacted segments that are newer are not looked at.
    ImageOutputsForgotten = "image-outputs-forgotten",
    /// After an image is loaded, tombstones in newer compacted segments are not looked at.
    ImageTombstonesForgotten = "image-tombstones-forgotten",
    /// Of a key whose newest record cannot be read an older one is shown that stands beside it.
    OlderShownForDamaged = "older-shown-for-damaged",
    /// A put on a tombstone does not tell key order, so the key stays lost where a merge has dropped it.
    KeyDroppedByMerge = "key-dropped-by-merge",
    /// A conditional commit looks at the index only, and misses what is in the log and waits for its sync.
    ConditionalMissesPending = "conditional-misses-pending",
    /// A scan trusts the place of a record that was replaced.
    HintTrustedAfterUpdate = "hint-trusted-after-update",
    /// A snapshot is announced to writers after its number is chosen, so a version may be replaced unseen.
    SnapshotRegisteredLate = "snapshot-registered-late",
    /// A snapshot that is closed takes along what an older one still needs.
    SnapshotVersionsFreedEarly = "snapshot-versions-freed-early",
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
