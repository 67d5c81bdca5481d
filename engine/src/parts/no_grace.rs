//! A build without the index crate cannot tell when the last reader is gone that knows of a slot, so none is given out again.

/// A wait that never ends.
pub(crate) struct Grace;

impl Grace {
    pub(crate) fn begin() -> Self {
        Grace
    }

    pub(crate) fn is_over(&self) -> bool {
        false
    }
}
