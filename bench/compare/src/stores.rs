//! The stores that are compared, one file each, with the notes on how its author means it to be used.

use std::sync::Arc;

use crate::store::StoreKind;

mod cortenkv;
mod fjall;
mod lmdb;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sled;

/// Every arm, in the order in which each round runs them.
pub fn all() -> Vec<Arc<dyn StoreKind>> {
    vec![
        Arc::new(cortenkv::Cortenkv::Get),
        Arc::new(cortenkv::Cortenkv::GetWith),
        Arc::new(cortenkv::Cortenkv::MultiGet),
        Arc::new(cortenkv::Cortenkv::Interval),
        Arc::new(lmdb::Lmdb::WriteMap),
        Arc::new(lmdb::Lmdb::Written),
        Arc::new(lmdb::Lmdb::Snapshot),
        #[cfg(feature = "rocksdb")]
        Arc::new(rocksdb::RocksDb),
        Arc::new(redb::Redb::PerOperation),
        Arc::new(redb::Redb::Snapshot),
        Arc::new(fjall::Fjall),
        Arc::new(sled::Sled),
    ]
}
