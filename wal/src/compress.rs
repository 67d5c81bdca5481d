//! Snappy for large commits, when it pays.
//!
//! # Invariants
//! - What is decompressed was verified by its checksum first, and never allocates more than the group header claims,
//!   which is bounded by the limit of a commit and by what Snappy can reach at all.

#[cfg(feature = "snappy")]
use crate::batch::COMMIT_BYTES_MAX;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The codec byte of a group.
pub(crate) const CODEC_NONE: u8 = 0;
pub(crate) const CODEC_SNAPPY: u8 = 1;

/// Smaller commits are stored as they are: compressing them saves less than it costs.
pub(crate) const COMPRESS_BYTES_MIN: usize = 4096;

/// Keep a compressed commit only when it is smaller by this factor, in 1/256.
const RATIO_MIN_256: u32 = 294; // 1.15
/// Weight of one commit in the running ratio: 1/8.
#[cfg(feature = "snappy")]
const EWMA_SHIFT: u32 = 3;
/// After commits that did not pay, one in so many is tried again.
#[cfg(feature = "snappy")]
const RETRY_EVERY: u32 = 32;

/// Decides whether to try, by the running ratio of what was tried.
#[derive(Debug)]
#[cfg_attr(not(feature = "snappy"), allow(dead_code, reason = "without a codec nothing is tried"))]
pub(crate) struct CompressionGauge {
    enabled: bool,
    ratio_256: AtomicU32,
    skipped: AtomicU32,
}

impl CompressionGauge {
    pub(crate) fn new(enabled: bool) -> Self {
        CompressionGauge {
            enabled,
            ratio_256: AtomicU32::new(RATIO_MIN_256),
            skipped: AtomicU32::new(0),
        }
    }

    /// The running ratio of raw to stored bytes, in 1/256.
    pub(crate) fn ratio_256(&self) -> u32 {
        self.ratio_256.load(Relaxed)
    }

    /// False for what is never compressed, so that nothing needs to be prepared for it.
    #[inline]
    pub(crate) fn applies_to(&self, raw_bytes: usize) -> bool {
        cfg!(feature = "snappy") && self.enabled && raw_bytes >= COMPRESS_BYTES_MIN
    }

    #[cfg(feature = "snappy")]
    fn should_try(&self, raw_bytes: usize) -> bool {
        if !self.applies_to(raw_bytes) {
            return false;
        }
        self.ratio_256.load(Relaxed) >= RATIO_MIN_256
            || self.skipped.fetch_add(1, Relaxed) % RETRY_EVERY == RETRY_EVERY - 1
    }

    #[cfg(feature = "snappy")]
    fn observe(&self, raw_bytes: usize, stored_bytes: usize) {
        let ratio = u32::try_from(raw_bytes * 256 / stored_bytes.max(1)).unwrap_or(u32::MAX >> 8);
        let old = self.ratio_256.load(Relaxed);
        self.ratio_256.store(old - (old >> EWMA_SHIFT) + (ratio >> EWMA_SHIFT), Relaxed);
    }
}

/// Compresses `raw` into `out` when it pays; `None` when the commit is to be stored as it is.
#[cfg(feature = "snappy")]
pub(crate) fn compress<'a>(
    gauge: &CompressionGauge,
    raw: &[u8],
    out: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    if !gauge.should_try(raw.len()) {
        return None;
    }
    out.resize(snap::raw::max_compress_len(raw.len()), 0);
    let stored = snap::raw::Encoder::new().compress(raw, out).ok()?;
    gauge.observe(raw.len(), stored);
    (stored as u64 * u64::from(RATIO_MIN_256) <= raw.len() as u64 * 256).then(|| &out[..stored])
}

#[cfg(not(feature = "snappy"))]
pub(crate) fn compress<'a>(_: &CompressionGauge, _: &[u8], _: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    None
}

/// Why a group could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecompressFault {
    /// The content does not decompress to what the header says.
    Content,
    /// The codec is not compiled in, or not known.
    Codec(u8),
}

impl std::fmt::Display for DecompressFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecompressFault::Content => f.write_str("compressed bytes that do not decompress"),
            DecompressFault::Codec(codec) => {
                write!(f, "codec {codec}, which this build does not have")
            }
        }
    }
}

/// The raw records of a group with the given codec, decompressed into `scratch` where needed.
pub(crate) fn decompress<'a>(
    codec: u8,
    payload: &'a [u8],
    raw_bytes: u32,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], DecompressFault> {
    match codec {
        CODEC_NONE => payload.get(..raw_bytes as usize).ok_or(DecompressFault::Content),
        #[cfg(feature = "snappy")]
        CODEC_SNAPPY => {
            let raw_bytes = raw_bytes as usize;
            // LIMIT: Snappy reaches a ratio of about 21; a header that claims more is a lie.
            let bound = COMMIT_BYTES_MAX.min(payload.len().saturating_mul(22).saturating_add(64));
            if raw_bytes > bound || snap::raw::decompress_len(payload) != Ok(raw_bytes) {
                return Err(DecompressFault::Content);
            }
            scratch.resize(raw_bytes, 0);
            let written = snap::raw::Decoder::new().decompress(payload, scratch);
            if written == Ok(raw_bytes) { Ok(scratch) } else { Err(DecompressFault::Content) }
        }
        other => {
            let _ = scratch;
            Err(DecompressFault::Codec(other))
        }
    }
}

#[cfg(all(test, feature = "snappy"))]
mod tests {
    use super::*;

    #[test]
    fn compressible_commits_shrink_and_come_back() {
        let gauge = CompressionGauge::new(true);
        let raw: Vec<u8> = b"{\"name\":\"value\",\"number\":12345}".repeat(400);
        let mut out = Vec::new();
        let stored = compress(&gauge, &raw, &mut out).unwrap();
        assert!(stored.len() * 3 < raw.len());
        let mut scratch = Vec::new();
        assert_eq!(
            decompress(CODEC_SNAPPY, stored, raw.len() as u32, &mut scratch),
            Ok(raw.as_slice())
        );
    }

    #[test]
    fn incompressible_commits_stop_the_attempts_but_not_for_ever() {
        let gauge = CompressionGauge::new(true);
        let mut seed = 1_u64;
        let noise: Vec<u8> = (0..8192)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        let mut out = Vec::new();
        assert!((0..100).all(|_| compress(&gauge, &noise, &mut out).is_none()));
        assert!(gauge.ratio_256() < RATIO_MIN_256);
        let text = b"again and again ".repeat(1000);
        assert!(
            (0..1000).any(|_| compress(&gauge, &text, &mut out).is_some()),
            "a change of content is noticed"
        );
    }

    #[test]
    fn a_header_that_claims_more_than_snappy_can_reach_is_refused_before_allocating() {
        // Varint 0xFFFFFFFF as the claimed length: 7 bytes that ask for 4 GiB.
        let bomb = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
        let mut scratch = Vec::new();
        assert_eq!(
            decompress(CODEC_SNAPPY, &bomb, u32::MAX, &mut scratch),
            Err(DecompressFault::Content)
        );
        assert_eq!(scratch.capacity(), 0);
    }
}
