//! The cell of a slot: its content is read under a pin of the index.

use cortenkv_index::{EpochCell, pin};

/// A place for one value, which may be taken away while it is read.
pub(crate) struct SlotCell<T: Send + Sync + 'static>(EpochCell<T>);

impl<T: Send + Sync + 'static> SlotCell<T> {
    pub(crate) fn empty() -> Self {
        SlotCell(EpochCell::empty())
    }

    /// Shows the value, which stays as it is until `show` returns.
    #[inline]
    pub(crate) fn with<R>(&self, show: impl FnOnce(&T) -> R) -> Option<R> {
        let pin = pin();
        self.0.get(&pin).map(show)
    }

    pub(crate) fn set(&self, value: Option<T>) {
        self.0.set(value);
    }
}
