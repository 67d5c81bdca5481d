//! The states of a buffered entry, and the steps between them that are legal.

/// How far the newest write of a buffered entry has come.
///
/// ```text
///           write             flush begins
///   Clean ─────────► Dirty ─────────────────► Flushing ──► Clean     appended, and durable as promised
///                     ▲  └─ write ─► Dirty       └───────► Dirty     the flush failed, or a newer write came
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dirtiness {
    /// The store below has it, as durable as was promised.
    Clean,
    /// Only the cache has it.
    Dirty,
    /// It is on its way to the store below.
    Flushing,
}

impl Dirtiness {
    /// True if an entry may go from this state to that one.
    pub fn may_become(self, next: Dirtiness) -> bool {
        use Dirtiness::{Clean, Dirty, Flushing};
        matches!(
            (self, next),
            (Clean | Dirty | Flushing, Dirty) | (Dirty, Flushing) | (Flushing, Clean)
        )
    }

    /// True if the entry may leave memory: nothing is lost with it.
    pub fn may_leave(self) -> bool {
        self == Dirtiness::Clean
    }
}

#[cfg(test)]
mod tests {
    use super::Dirtiness::{self, Clean, Dirty, Flushing};

    // Rule 9 of the design.
    #[test]
    fn a_dirty_entry_becomes_clean_only_through_a_flush_and_leaves_only_clean() {
        let legal = [
            (Clean, Dirty),
            (Dirty, Dirty),
            (Dirty, Flushing),
            (Flushing, Clean),
            (Flushing, Dirty),
        ];
        for from in [Clean, Dirty, Flushing] {
            for to in [Clean, Dirty, Flushing] {
                assert_eq!(from.may_become(to), legal.contains(&(from, to)), "{from:?} to {to:?}");
            }
        }
        assert_eq!([Clean, Dirty, Flushing].map(Dirtiness::may_leave), [true, false, false]);
    }
}
