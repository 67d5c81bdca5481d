//! The cell of a slot in a build without the index crate: a lock and a shared count.

use std::sync::{Arc, RwLock};

use crate::sync::{read, write};

/// A place for one value, which may be taken away while it is read.
pub(crate) struct SlotCell<T>(RwLock<Option<Arc<T>>>);

impl<T> SlotCell<T> {
    pub(crate) fn empty() -> Self {
        SlotCell(RwLock::new(None))
    }

    /// Shows the value, which stays as it is until `show` returns.
    pub(crate) fn with<R>(&self, show: impl FnOnce(&T) -> R) -> Option<R> {
        let value = read(&self.0).clone()?;
        Some(show(&value))
    }

    pub(crate) fn set(&self, value: Option<T>) {
        *write(&self.0) = value.map(Arc::new);
    }
}
