//! How far an import has come: a record in the keyspace `corten.import`, one per import that is not complete.
//!
//! # Layout
//! The key is what identifies an import, as a JSON list: format, fields, keyspace, path of the source. The value is a
//! [`Progress`] as JSON.

use std::os::unix::ffi::OsStrExt;

use cortenkv::{Batch, Db, Keyspace};
use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure, Result};
use crate::import::OWN_KEYSPACES;
use crate::import::file::Input;
use crate::import::loader::Totals;
use crate::import::source::Position;
use crate::text;

/// The record of an import on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Where to go on; `None` at the start.
    pub position: Option<Position>,
    /// What came of the source up to there.
    pub totals: Totals,
}

/// Where the progress of one import is kept.
pub struct Checkpoint {
    name: String,
    key: Vec<u8>,
    /// Made when it is needed first: a small import is one batch and has no progress.
    keyspace: Option<Keyspace>,
    is_written: bool,
}

impl Checkpoint {
    /// The place for an import of this input.
    ///
    /// # Errors
    /// As the database says.
    pub fn open(db: &Db, input: &Input, identity: &[&str]) -> Result<Self> {
        let name = format!("{OWN_KEYSPACES}import");
        let path = input.path.as_ref().map(|path| text::escaped(path.as_os_str().as_bytes()));
        let key = serde_json::json!([identity, path]).to_string().into_bytes();
        let exists = db.keyspaces()?.contains(&name);
        let keyspace = if exists { Some(db.keyspace(&name)?) } else { None };
        Ok(Checkpoint { name, key, keyspace, is_written: false })
    }

    /// How far an earlier run came; with `restart` that does not count.
    ///
    /// # Errors
    /// `Corruption` when the record cannot be understood.
    pub fn load(&mut self, restart: bool) -> Result<Progress> {
        let Some(keyspace) = &self.keyspace else { return Ok(Progress::default()) };
        let Some(value) = keyspace.get(&self.key)? else { return Ok(Progress::default()) };
        self.is_written = true;
        if restart {
            return Ok(Progress::default());
        }
        serde_json::from_slice(&value).map_err(|error| {
            let message = format!(
                "the progress of this import is not readable: {error}; `--restart` begins anew"
            );
            Failure::new(Exit::Corruption, message)
        })
    }

    /// Adds the progress to a batch.
    ///
    /// # Errors
    /// As the database says.
    pub fn save(&mut self, db: &Db, batch: &mut Batch, progress: &Progress) -> Result<()> {
        let keyspace = match &mut self.keyspace {
            Some(keyspace) => keyspace,
            none => none.insert(db.keyspace(&self.name)?),
        };
        let value = serde_json::to_vec(progress).expect("plain data");
        batch.put(&*keyspace, &self.key, value);
        self.is_written = true;
        Ok(())
    }

    /// Adds the end of the import to a batch: the next one of this source starts at the beginning.
    pub fn remove(&mut self, batch: &mut Batch) {
        if let Some(keyspace) = &self.keyspace
            && self.is_written
        {
            batch.delete(keyspace, &self.key);
        }
    }
}
