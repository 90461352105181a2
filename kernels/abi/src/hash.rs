//! The hashes that names and keys go through. All are `const` and fixed for ever: they decide placement and kinds.

/// FNV-1a, 64 bits.
#[must_use]
pub const fn fnv1a64(bytes: &[u8]) -> u64 {
    fnv1a64_from(0xcbf2_9ce4_8422_2325, bytes)
}

/// FNV-1a, 64 bits, of more bytes after those that gave `hash`.
#[must_use]
pub const fn fnv1a64_from(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

/// FNV-1a folded to 32 bits; never 0. The tag by which device code finds a set by its name.
#[must_use]
pub const fn fnv1a32(bytes: &[u8]) -> u32 {
    let hash = fnv1a64(bytes);
    let folded = (hash >> 32) as u32 ^ hash as u32;
    if folded == 0 { 1 } else { folded }
}

/// FNV-1a folded to 16 bits; never 0. The kind of a message by its name.
#[must_use]
pub const fn fnv1a16(bytes: &[u8]) -> u16 {
    let hash = fnv1a32(bytes);
    let folded = (hash >> 16) as u16 ^ hash as u16;
    if folded == 0 { 1 } else { folded }
}

/// The first factor of [`mix64`].
pub const MIX64_FIRST: u64 = 0xff51_afd7_ed55_8ccd;
/// The second factor of [`mix64`].
pub const MIX64_SECOND: u64 = 0xc4ce_b9fe_1a85_ec53;
/// How far [`mix64`] shifts down before, between and after its factors.
pub const MIX64_SHIFT: u32 = 33;

/// A bijective mixer of 64 bits (the finaliser of MurmurHash3): nearby keys land far apart.
#[must_use]
#[inline]
pub const fn mix64(mut x: u64) -> u64 {
    x = (x ^ (x >> MIX64_SHIFT)).wrapping_mul(MIX64_FIRST);
    x = (x ^ (x >> MIX64_SHIFT)).wrapping_mul(MIX64_SECOND);
    x ^ (x >> MIX64_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_are_the_published_ones() {
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a64_from(fnv1a64(b"foo"), b"bar"), fnv1a64(b"foobar"));
        assert_eq!((fnv1a32(b"flights.carrier"), fnv1a16(b"Leg")), (0x53d0_0fde, 0x1359));
        assert_eq!(mix64(0), 0);
        assert_eq!(mix64(1), 0xb456_bcfc_34c2_cb2c);
    }
}
