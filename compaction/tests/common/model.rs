//! What the store must hold, without segments.

use std::collections::BTreeMap;

/// Keys with their values and expiry.
#[derive(Debug, Default)]
pub struct Model {
    entries: BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>,
    now_ms: u64,
}

impl Model {
    pub fn put(&mut self, key: &[u8], value: &[u8], ttl_ms: Option<u64>) {
        let expires_at_ms = ttl_ms.map(|ttl_ms| self.now_ms + ttl_ms);
        self.entries.insert(key.to_vec(), (value.to_vec(), expires_at_ms));
    }

    pub fn delete(&mut self, key: &[u8]) {
        self.entries.remove(key);
    }

    pub fn pass_ms(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    pub fn contents(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let live = |expires_at_ms: &Option<u64>| expires_at_ms.is_none_or(|at| at > self.now_ms);
        let live = self.entries.iter().filter(|(_, (_, expires_at_ms))| live(expires_at_ms));
        live.map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    }
}
