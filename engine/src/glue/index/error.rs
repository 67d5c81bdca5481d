//! Errors of the index in the words of the engine.

use crate::error::{Error, ErrorKind};

impl From<cortenkv_index::Error> for Error {
    fn from(error: cortenkv_index::Error) -> Self {
        use cortenkv_index::ErrorKind as Theirs;
        let kind = match error.kind() {
            Theirs::InvalidArgument => ErrorKind::InvalidArgument,
            Theirs::LimitExceeded => ErrorKind::LimitExceeded,
            Theirs::Corruption => ErrorKind::Corruption {
                file: "*.run".into(),
                offset: 0,
                expected: "a key run as it was written".into(),
                found: error.context().into(),
            },
            // `Io`, and kinds of a newer index.
            _ => ErrorKind::Io,
        };
        Error::new(kind, error.context())
    }
}
