//! How the lock-free point index works, in drawings. There is no code here.
//!
//! # The entry
//! An entry is one word. The key is not in it: 23 bits of its hash tell nearly all others apart, and the record at the
//! address tells the rest.
//! ```text
//! bit 63     62      61          39 38        23 22            0
//!  [frozen][entry][ tag, 23 bits   ][ slot, 16  ][ offset / 8  ]
//!
//!   0                     UNINIT    memory as it comes: not filled from the table before yet
//!   1                     EMPTY     free, and was always free in this table
//!   2                     DELETED   an entry was taken out; not used again in this table
//! ```
//!
//! # The hash
//! ```text
//! hash       [ shard bits ][ level bits ][ tag: 23 bits ][ not kept ]
//! fraction                 0.[level bits ][ tag          ]
//! bucket  =  fraction * buckets, rounded down        group = bucket / 16
//! ```
//! The place is a product and not a mask, so a table may have any number of groups. The group and the tag together give
//! the fraction back, so entries move to a table of another size without a look at their keys.
//!
//! # The bucket, the group
//! ```text
//!               one cache line of 64 bytes
//! bucket 0    [ e ][ e ][ e ][ e ][ e ][ D ][ e ][ e ]      a key with home bucket h is looked for in
//! bucket 1    [ e ][ e ][ e ][ . ][ . ][ . ][ . ][ . ]      h, h^1, h^2, .. h^15, slot by slot,
//!  ..                                                       up to the first EMPTY one (.)
//! bucket 15   [ e ][ e ][ e ][ e ][ e ][ e ][ . ][ . ]
//! overflow    [ e ][ e ][ . ][ . ][ . ][ . ][ . ][next] ->  then in the blocks of its group
//! ```
//! All who look for a key walk the same slots in the same order, and a key takes the first EMPTY slot of its walk. A slot
//! is EMPTY at most once, before its first entry, and stays with the key of that entry. Hence
//! - a look-up may stop at the first EMPTY slot;
//! - of two threads that insert one new key both want the same slot, or the later one sees the earlier one's entry: so
//!   there is no second entry, and no lock is needed to prevent one.
//!
//! Most walks end in the first line. At 85 % load, which is the most, one in ten goes on to the next line, which the
//! processor fetches along with the first.
//!
//! # Replacing
//! ```text
//! install:  word = slot                     wait-free find of the slot
//!           probe(word.address)             same key? which version?
//!           older than the new record?      else the new one is dead: Stale
//!           on_replace(old)                 order of keys, dead bit: before the change is visible
//!           CAS slot: word -> new           lost? look at the slot again
//! ```
//!
//! # Growth
//! ```text
//!            current                                    next, larger by a third
//!   group g  [frozen words ........]  ----- copy ---->  [ .. ] group j     whole when its last slot is
//!   group g+1[frozen words ........]  -----/            [UNINIT ...]       no longer UNINIT
//!   group g+2[words, still changing]                    [UNINIT ...]
//!
//!   begin    CAS current.next: null -> a zeroed table
//!   freeze   each slot of the source groups: CAS word -> word | frozen      (the links of the overflow too)
//!   fill     overflow chain: CAS null -> chain; then each slot in order: CAS UNINIT -> word or EMPTY
//!   finish   CAS shard.table: current -> next; the old table is dropped when its last reader is gone
//! ```
//! What a group begins with is a function of frozen words, so any number of threads may fill it at once: they store the
//! same, each slot once, and whoever wakes up late changes nothing. A change goes to the next table as soon as there is
//! one, and fills its own group first; so nobody waits for a thread that was stopped half-way. A look-up reads the
//! current table; a frozen or UNINIT slot sends it to the other one, and if the group is not whole there, what is frozen
//! is still the present.
//!
//! Shrinking and clearing out DELETED slots are the same with a next table of less or equal size.
//!
//! # Orderings
//! | store | where | pairs with | publishes |
//! |---|---|---|---|
//! | slot CAS, AcqRel | `Slot::replace` | `Slot::load`, Acquire | the record behind the address; what `on_replace` did; for a copy, that all source words are frozen |
//! | slot CAS word to frozen, AcqRel | `Slot::freeze` | `Slot::load`, Acquire | that there is a next table |
//! | link CAS null to box, AcqRel | `Link::publish` | `Link::load`, Acquire | the whole of the table or block |
//! | link CAS to frozen, AcqRel | `Link::freeze` | `Link::publish` fails | that no block follows any more |
//! | link CAS current to next, AcqRel | `Link::advance` | `Link::load`, Acquire | the next table, all groups whole |
//! | `whole` fetch_add, AcqRel | `Table::fill` | `is_all_whole`, Acquire | that the slots of the group are filled |
//! | epoch pin, SeqCst fence | `pin` | the collector | that a reader may hold what is retired from now on |
//! | counts, Relaxed | `live`, `used`, `cursor` | nothing | nothing: growth and statistics use them roughly |
//!
//! # What was not taken
//! - **Doubling**: just after it 20 bytes an entry, and all shards double at nearly the same moment. Here a shard grows
//!   by a third, at its own moment.
//! - **Linear hashing**: as little memory, but a split touches buckets that others are inserting into, and the pointer
//!   that says how far it got is one word that all writers of a shard read.
//! - **Two-phase insert with a tentative bit** (FASTER): needed where a key may take any free slot. A thread that is
//!   stopped between the phases holds up others that want the same key.
//! - **Using DELETED slots again**: then two threads could take different slots for one key. Removal is rare here (only
//!   compaction takes entries out; a delete installs a tombstone), and the next table has no DELETED slots.
