//! Models of the protocols, which loom runs through every interleaving up to a bound on preemptions.
//!
//! `cargo xtask loom` runs them. Models come with canaries: the same with one step of the protocol left out, which loom
//! must notice.

pub(crate) mod point;
