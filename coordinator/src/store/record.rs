//! One record: `version, digest, payload`.

use ringfleet_abi::hash::fnv1a64;

const VERSION: u8 = 3;
const HEADER_BYTES: usize = 9;

/// The record of a payload.
#[must_use]
pub fn seal(payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER_BYTES + payload.len());
    record.push(VERSION);
    record.extend_from_slice(&fnv1a64(payload).to_le_bytes());
    record.extend_from_slice(payload);
    record
}

/// The payload of a record.
///
/// # Errors
/// What is wrong with the record, to follow its name.
pub fn unseal(record: &[u8]) -> Result<&[u8], String> {
    let Some((header, payload)) = record.split_first_chunk::<HEADER_BYTES>() else {
        return Err("is too short".to_owned());
    };
    let [version, digest @ ..] = *header;
    if version != VERSION {
        return Err(format!("has format version {version}, this build reads {VERSION}"));
    }
    if fnv1a64(payload) != u64::from_le_bytes(digest) {
        return Err("does not have the digest that was written with it".to_owned());
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_any_changed_byte_is_noticed() {
        let record = seal(b"payload");
        assert_eq!(unseal(&record), Ok(&b"payload"[..]));
        for at in 0..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 0x10;
            assert!(unseal(&damaged).is_err(), "byte {at}");
        }
        assert!(unseal(&record[..5]).is_err());
    }
}
