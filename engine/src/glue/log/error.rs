//! Errors of the log in our words.

use std::io;

use crate::error::{ClosedReason, Error, ErrorKind};

impl From<cortenkv_wal::Error> for Error {
    fn from(error: cortenkv_wal::Error) -> Self {
        use cortenkv_wal::ErrorKind as Theirs;
        let kind = match error.kind().clone() {
            Theirs::Corruption { file, offset, expected, found } => {
                ErrorKind::Corruption { file, offset, expected, found }
            }
            Theirs::InvalidArgument => ErrorKind::InvalidArgument,
            Theirs::LimitExceeded => ErrorKind::LimitExceeded,
            Theirs::Busy => ErrorKind::Busy,
            Theirs::Locked { pid } => ErrorKind::Locked { pid },
            Theirs::Closed(reason) => ErrorKind::Closed(closed(reason)),
            Theirs::StorageFull => ErrorKind::StorageFull,
            Theirs::Timeout => ErrorKind::Timeout,
            Theirs::Unsupported => ErrorKind::Unsupported,
            // `Io`, and kinds of a newer log.
            _ => ErrorKind::Io,
        };
        match error.io_source() {
            Some(cause) => Error::with_source(kind, error.context(), copy(cause)),
            None => Error::new(kind, error.context()),
        }
    }
}

fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

fn closed(reason: cortenkv_wal::ClosedReason) -> ClosedReason {
    match reason {
        cortenkv_wal::ClosedReason::Clean => ClosedReason::Clean,
        cortenkv_wal::ClosedReason::Panicked => ClosedReason::Panicked,
        cortenkv_wal::ClosedReason::Forked => ClosedReason::Forked,
        // `Poisoned`, and reasons of a newer log.
        _ => ClosedReason::Poisoned,
    }
}
