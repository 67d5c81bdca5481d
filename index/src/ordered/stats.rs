//! Figures of an ordered index.

/// Figures of an ordered index, over all keyspaces, each as of some moment during the call.
///
/// A kind without runs or partitions leaves their figures at zero.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct OrderStats {
    /// Keys in the mutable part, duplicates included.
    pub delta_keys: usize,
    /// Keys in sealed parts that wait for a merge, duplicates included.
    pub sealed_keys: usize,
    /// Range partitions of the mutable part.
    pub partitions: usize,
    /// How evenly inserts spread over the partitions: H/log2(P) of the last look, the lowest of all keyspaces with
    /// more than one partition; 1 is even.
    pub entropy: f64,
    /// Sorted runs that a scan merges, the most of all keyspaces.
    pub runs: usize,
    /// Keys in runs, those of several runs counted in each.
    pub run_keys: usize,
    /// Keys in runs that walks pass over.
    pub skipped_keys: usize,
    /// Keys that merges have written to runs since the start.
    pub merged_keys: u64,
    /// Dead keys that background work has taken out since the start.
    pub dropped_keys: u64,
    /// Bytes of main memory.
    pub ram_bytes: usize,
    /// Bytes of mapped files.
    pub mapped_bytes: usize,
}

impl Default for OrderStats {
    fn default() -> Self {
        OrderStats {
            delta_keys: 0,
            sealed_keys: 0,
            partitions: 0,
            entropy: 1.0,
            runs: 0,
            run_keys: 0,
            skipped_keys: 0,
            merged_keys: 0,
            dropped_keys: 0,
            ram_bytes: 0,
            mapped_bytes: 0,
        }
    }
}
