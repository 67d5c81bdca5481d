//! LEB128 for 32-bit lengths: 1 to 5 bytes, shortest form only, so that a value has one encoding.

/// Gives the bytes of `value` to `push`, first to last.
#[inline]
pub(super) fn encode(mut value: u32, mut push: impl FnMut(u8)) {
    while value >= 0x80 {
        push(value as u8 | 0x80);
        value >>= 7;
    }
    push(value as u8);
}

/// Bytes that `encode` gives.
#[inline]
pub(super) fn encoded_bytes(value: u32) -> usize {
    ((32 - value.leading_zeros()).max(1) as usize).div_ceil(7)
}

/// Reads a value from the front of `bytes`; `None` when they end early, overflow 32 bits or are not the shortest form.
#[inline]
pub(super) fn decode(bytes: &mut &[u8]) -> Option<u32> {
    // Most lengths are below 128.
    if let Some((&byte, rest)) = bytes.split_first()
        && byte < 0x80
    {
        *bytes = rest;
        return Some(u32::from(byte));
    }
    decode_long(bytes)
}

fn decode_long(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let shortest = byte != 0 || i == 0;
            *bytes = bytes.get(i + 1..)?;
            return u32::try_from(value).ok().filter(|_| shortest);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_in_the_fewest_bytes() {
        for (value, bytes) in [
            (0, 1),
            (1, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (1 << 21, 4),
            ((1 << 28) - 1, 4),
            (1 << 28, 5),
            (u32::MAX, 5),
        ] {
            let mut out = Vec::new();
            encode(value, |byte| out.push(byte));
            assert_eq!(out.len(), bytes, "{value}");
            let mut rest = out.as_slice();
            assert_eq!(decode(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn overlong_overflowing_and_cut_values_are_refused() {
        for bytes in [&[0x80, 0x00][..], &[0xff, 0xff, 0xff, 0xff, 0x1f], &[0x80; 6], &[0x80], &[]]
        {
            let mut rest = bytes;
            assert_eq!(decode(&mut rest), None, "{bytes:x?}");
        }
    }
}
