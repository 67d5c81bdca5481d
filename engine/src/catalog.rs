//! The keyspaces of a database: names and numbers.
//!
//! # Invariants
//! A number is never reused. A keyspace is durable before its first use.
//!
//! # Concurrency
//! Looking a name up shares a lock. Creating takes a mutex, so that one name is created once, and inside it that of the
//! manifest, which compaction takes too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};

use crate::error::{Error, Result};
use crate::keyspace::{CompactionFilter, Settings};
use crate::parts::Manifest;
use crate::record::KeyspaceId;
use crate::sync::{lock, read, write};

/// The keyspace that `Db` itself stands for; it always exists.
pub(crate) const DEFAULT_KEYSPACE: &str = "default";
/// Its number.
pub(crate) const DEFAULT_KEYSPACE_ID: KeyspaceId = 0;
/// LIMIT: the longest name in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The names and numbers of the keyspaces.
pub(crate) struct Catalog {
    names: RwLock<BTreeMap<Arc<str>, KeyspaceId>>,
    store: Mutex<Store>,
    /// Of those that were opened or asked about.
    settings: RwLock<BTreeMap<KeyspaceId, Arc<Settings>>>,
}

/// The manifest of an open database, for all who note something in it.
pub(crate) type SharedManifest = Arc<Mutex<Manifest>>;

/// Who remembers new keyspaces.
enum Store {
    Memory { next_id: KeyspaceId },
    Durable(SharedManifest),
}

impl Catalog {
    pub(crate) fn in_memory() -> Self {
        let store = Store::Memory { next_id: DEFAULT_KEYSPACE_ID + 1 };
        Catalog::new(store, BTreeMap::new())
    }

    pub(crate) fn durable(
        manifest: SharedManifest,
        keyspaces: BTreeMap<KeyspaceId, Arc<str>>,
    ) -> Self {
        Catalog::new(Store::Durable(manifest), keyspaces)
    }

    fn new(store: Store, keyspaces: BTreeMap<KeyspaceId, Arc<str>>) -> Self {
        let mut names: BTreeMap<Arc<str>, KeyspaceId> =
            keyspaces.into_iter().map(|(id, name)| (name, id)).collect();
        names.insert(DEFAULT_KEYSPACE.into(), DEFAULT_KEYSPACE_ID);
        Catalog { names: RwLock::new(names), store: Mutex::new(store), settings: RwLock::default() }
    }

    /// The keyspace of this name, where it exists.
    pub(crate) fn get(&self, name: &str) -> Option<(Arc<str>, KeyspaceId)> {
        read(&self.names).get_key_value(name).map(|(name, id)| (Arc::clone(name), *id))
    }

    /// The settings of a keyspace in this opening, which all of its handles share.
    pub(crate) fn settings(&self, id: KeyspaceId) -> Arc<Settings> {
        if let Some(settings) = read(&self.settings).get(&id) {
            return Arc::clone(settings);
        }
        Arc::clone(write(&self.settings).entry(id).or_default())
    }

    /// The compaction filter of a keyspace, if it has one.
    #[allow(dead_code, reason = "only compaction asks")]
    pub(crate) fn filter(&self, id: KeyspaceId) -> Option<Arc<CompactionFilter>> {
        read(&self.settings).get(&id).and_then(|settings| settings.compaction_filter())
    }

    /// True when a keyspace has this number.
    pub(crate) fn contains(&self, id: KeyspaceId) -> bool {
        read(&self.names).values().any(|existing| *existing == id)
    }

    /// Creates the keyspace of this name, unless it exists.
    pub(crate) fn create(&self, name: &str) -> Result<(Arc<str>, KeyspaceId)> {
        check_name(name)?;
        let mut store = lock(&self.store);
        if let Some(existing) = self.get(name) {
            return Ok(existing);
        }
        let id = match &mut *store {
            Store::Memory { next_id } => {
                let id = *next_id;
                *next_id = id.checked_add(1).ok_or_else(out_of_numbers)?;
                id
            }
            Store::Durable(manifest) => lock(manifest).create_keyspace(name)?,
        };
        let name: Arc<str> = name.into();
        write(&self.names).insert(Arc::clone(&name), id);
        Ok((name, id))
    }

    /// The manifest of a database on disk.
    pub(crate) fn manifest(&self) -> Option<SharedManifest> {
        match &*lock(&self.store) {
            Store::Memory { .. } => None,
            Store::Durable(manifest) => Some(Arc::clone(manifest)),
        }
    }

    /// The keyspaces by number.
    pub(crate) fn by_id(&self) -> BTreeMap<KeyspaceId, Arc<str>> {
        read(&self.names).iter().map(|(name, id)| (*id, Arc::clone(name))).collect()
    }

    /// The names in order.
    pub(crate) fn names(&self) -> Vec<String> {
        read(&self.names).keys().map(|name| name.to_string()).collect()
    }
}

/// Refuses a name that is never legal.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid("a keyspace name is empty; give it 1 to 255 bytes"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::limit(format!(
            "a keyspace name has {} bytes; the limit is {NAME_BYTES_MAX}",
            name.len()
        )));
    }
    if name.contains(['\0', '/']) {
        return Err(Error::invalid(format!(
            "the keyspace name {name:?} holds a NUL or a '/'; leave them out"
        )));
    }
    Ok(())
}

pub(crate) fn out_of_numbers() -> Error {
    Error::limit(
        "all 2^32 keyspace numbers of this database were used; export it and import it into a new one",
    )
}
